"""What the sampling tests share: every combination, generic maps, tolerances by derivation."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from equikernels.ops.sampling.checks import MODES, PADDINGS
from equikernels.ops.sampling.reference import source_coordinates

BACKENDS = ("reference", "cpp")
DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
SHAPES = {
    2: ((3, 4, 7, 9), (2, 1, 32, 28), (1, 5, 130, 67), (2, 4, 1, 1), (3, 2, 3, 130), (2, 3, 150, 3),
        (5, 3, 2, 1)),
    3: ((2, 3, 4, 6, 5), (3, 1, 9, 8, 11), (1, 2, 20, 18, 33), (2, 4, 1, 1, 1), (1, 3, 2, 70, 3),
        (2, 1, 1, 5, 8)),
}  # fmt: skip
SMALL = {2: (2, 3, 5, 6), 3: (2, 2, 3, 4, 5)}

COMBINATIONS = tuple(
    (dims, mode, padding)
    for dims in (2, 3)
    for mode in MODES
    for padding in PADDINGS
    if (dims, mode) != (3, "bicubic")
)
every_combination = pytest.mark.parametrize(
    ("dims", "mode", "padding"),
    COMBINATIONS,
    ids=[f"{dims}d-{mode}-{padding}" for dims, mode, padding in COMBINATIONS],
)
every_backend = pytest.mark.parametrize("backend", BACKENDS)

# The largest sum over the taps of one axis of |w| and of its derivatives' absolute values. For Keys' kernel
# with slope -3/4 the first two are taken at r = 1/2, the third at r = 0.
WEIGHTS = {
    "nearest": (1.0, 0.0, 0.0, 0.0),
    "bilinear": (1.0, 2.0, 0.0, 0.0),
    "bicubic": (1.375, 3.0, 12.0, 24.0),
}


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def compute_epsilon(dtype: torch.dtype) -> float:
    return torch.finfo(compute_dtype(dtype)).eps


def random_case(
    shape: tuple[int, ...], dtype: torch.dtype, seed: int = 0, *, gentle: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Data, maps and an upstream gradient, with values in [-2, 2].

    The maps turn, shear, mirror, stretch and move, so that much of the output comes from outside; gentle ones
    are near the identity.
    """
    generator = torch.Generator().manual_seed(seed)
    z, grad = (torch.rand(shape, generator=generator, dtype=torch.float64) * 4 - 2 for _ in range(2))
    dims = len(shape) - 2
    matrix = torch.rand(shape[0], dims, dims + 1, generator=generator, dtype=torch.float64) * 2.6 - 1.3
    matrix[:, :, dims] *= torch.tensor(shape[:1:-1]) / 4
    if gentle:
        matrix = torch.eye(dims, dims + 1, dtype=torch.float64) + matrix / 8
    return z.to(dtype), matrix.to(compute_dtype(dtype)), grad.to(dtype)


def coordinates(matrix: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Where the output places come from, (d, N, *sizes), in float64 from the first pixel."""
    return torch.stack(source_coordinates(matrix.double(), tuple(shape[:1:-1])))


def coordinate_error(matrix: Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> float:
    """How far a computed coordinate may be off: d + 2 terms, each rounded, and so every sum of them."""
    sizes = torch.tensor(shape[:1:-1], dtype=torch.float64)
    linear = (matrix[:, :, :-1].double().abs() * sizes / 2).sum(-1)
    extent = float((linear + matrix[:, :, -1].double().abs() + sizes / 2).max()) if matrix.numel() else 1.0
    return (len(sizes) + 3) * compute_epsilon(dtype) * max(extent, 1.0)


def distance_to_jumps(matrix: Tensor, shape: tuple[int, ...], mode: str) -> Tensor:
    """How far every place (N, *sizes) is from where its taps change."""
    at = coordinates(matrix, shape) + (0.5 if mode == "nearest" else 0.0)
    return (at - at.round()).abs().amin(0)


def generic_case(
    shape: tuple[int, ...], dtype: torch.dtype, mode: str, seed: int = 0, *, gentle: bool = False,
    room: float = 0.0,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """A random case whose taps are the same for every rounding of its coordinates, and `room` around."""
    z, matrix, grad = random_case(shape, dtype, seed, gentle=gentle)
    for attempt in range(1000):
        distance = distance_to_jumps(matrix, shape, mode).flatten(1).amin(1)
        bad = distance <= max(8 * coordinate_error(matrix, shape, dtype), room)
        if not bad.any():
            return z, matrix, grad
        candidate = random_case(shape, dtype, seed + 1000 * (attempt + 1), gentle=gentle)[1]
        matrix = torch.where(bad[:, None, None], candidate, matrix)
    raise AssertionError(f"no map keeps {shape} off the jumps of {mode} in {dtype}")


def value_tolerance(
    shape: tuple[int, ...], dtype: torch.dtype, matrix: Tensor, mode: str, order: int = 0
) -> float:
    """Largest difference of two correct samples of data in [-2, 2], or derivatives along maps in [-2, 2].

    A coordinate is off by `coordinate_error`, which moves a value by the slope along each axis; weights,
    their products and the sum over taps are a few roundings each; the result is stored once. A derivative
    multiplies by the steps V [p; 1] and takes weights of higher slopes.
    """
    dims = len(shape) - 2
    data, step = 2.0, 2.0 * (sum(shape[2:]) / 2 + 1)
    weights = max(WEIGHTS[mode][: order + 2]) ** dims
    moved = 0.0 if mode == "nearest" else dims * weights * coordinate_error(matrix, shape, dtype)
    rounded = (4**dims + 16) * compute_epsilon(dtype) * weights
    stored = torch.finfo(dtype).eps * max(WEIGHTS[mode][: order + 1]) ** dims
    return 2 * data * (dims * step) ** order * (moved + rounded + stored)


def matrix_tolerance(
    shape: tuple[int, ...], dtype: torch.dtype, matrix: Tensor, mode: str, order: int = 0
) -> float:
    """The same for an entry of a map's gradient: a sum over all values times a gradient in [-2, 2]."""
    exact = compute_dtype(dtype)
    return 2 * math.prod(shape[1:]) * value_tolerance(shape, exact, matrix, mode, order + 1)


def contributors(matrix: Tensor, shape: tuple[int, ...], mode: str, padding: str) -> int:
    """A bound of how many output places read one pixel, with weights of at most one."""
    sizes = shape[:1:-1]
    if padding != "zeros":
        return math.prod(sizes)
    taps = {"nearest": (0,), "bilinear": (0, 1), "bicubic": (-1, 0, 1, 2)}[mode]
    first = coordinates(matrix, shape)
    first = first.round() if mode == "nearest" else first.floor()
    reads = torch.zeros(shape[0], math.prod(sizes))
    for chosen in itertools.product(taps, repeat=len(sizes)):
        index, inside = torch.zeros(first.shape[1:]), torch.ones(first.shape[1:], dtype=torch.bool)
        for axis, tap in enumerate(chosen):
            inside &= (first[axis] + tap >= 0) & (first[axis] + tap < sizes[axis])
            index = index + (first[axis] + tap) * math.prod(sizes[:axis])
        index = torch.where(inside, index, 0).long().flatten(1)
        reads.scatter_add_(1, index, inside.flatten(1).float())
    return int(reads.max())
