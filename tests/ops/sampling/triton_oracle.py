"""What the tests of the sampling kernels share: the meaning in plain torch, inputs, and a tolerance."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import torch
from torch import Tensor

LARGEST = 2.0


# --- the meaning, in plain torch ------------------------------------------------------------------


def source_of(matrix: Tensor, sizes: tuple[int, ...]) -> tuple[list[Tensor], Tensor]:
    """Source indices of every output place, x first, each (N, *sizes); and the places (d + 1, pixels)."""
    axes = [torch.arange(size, dtype=matrix.dtype) - (size - 1) / 2 for size in sizes]
    places = [axis.flatten() for axis in torch.meshgrid(*axes, indexing="ij")][::-1]
    places = torch.stack([*places, torch.ones_like(places[0])])
    centre = torch.tensor([(size - 1) / 2 for size in sizes[::-1]], dtype=matrix.dtype)
    source = matrix @ places + centre[:, None]
    return [x.unflatten(1, sizes) for x in source.unbind(1)], places


def sample(z: Tensor, matrix: Tensor, mode: str, padding: str) -> Tensor:
    """out[n, c, p] = z~[n, c](M_n [p; 1]), differentiable any number of times."""
    batch, channels, *sizes = z.shape
    source, _ = source_of(matrix, tuple(sizes))
    taps = []
    for x in source:
        low = x.detach().floor()
        if mode == "nearest":
            taps.append([(x.detach().round(), torch.ones_like(x))])
        else:
            taps.append([(low, 1 - (x - low)), (low + 1, x - low)])
    out = torch.zeros_like(z)
    for chosen in itertools.product(*taps):
        index, inside, weight = torch.zeros_like(source[0]).long(), torch.tensor(True), torch.tensor(1.0)
        for size, (tap, factor) in reversed(list(zip(sizes[::-1], chosen, strict=True))):
            kept = tap.clamp(0, size - 1)
            index = index * size + kept.long()
            inside = inside & ((kept == tap) | (padding == "border"))
            weight = weight * factor
        values = z.flatten(2).gather(2, index.flatten(1)[:, None].expand(batch, channels, -1)).view(z.shape)
        out = out + weight[:, None] * torch.where(inside[:, None], values, 0)
    return out


def derivative(z: Tensor, matrix: Tensor, directions: Tensor, mode: str, padding: str) -> Tensor:
    """The derivative of `sample` along all directions, by nested forward mode."""

    def along(f: Callable[[Tensor], Tensor], direction: Tensor) -> Callable[[Tensor], Tensor]:
        return lambda m: torch.func.jvp(f, (m,), (direction,))[1]

    f: Callable[[Tensor], Tensor] = lambda m: sample(z, m, mode, padding)  # noqa: E731
    for direction in directions:
        f = along(f, direction)
    return f(matrix)


def gradients(
    grad: Tensor, z: Tensor, matrix: Tensor, directions: Tensor, mode: str, padding: str
) -> tuple[Tensor, Tensor]:
    def scalar(z: Tensor, matrix: Tensor) -> Tensor:
        return (grad * derivative(z, matrix, directions, mode, padding)).sum()

    found: tuple[Tensor, Tensor] = torch.func.grad(scalar, argnums=(0, 1))(z, matrix)
    return found


# --- inputs ---------------------------------------------------------------------------------------


def clear_of_ties(matrix: Tensor, sizes: tuple[int, ...]) -> bool:
    """Whether no source is so near a whole or half index that rounding could change its tap."""
    source, _ = source_of(matrix[None], sizes)
    return all(bool(((2 * x - (2 * x).round()).abs() > 1e-3).all()) for x in source)


def random_matrices(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    """Scales from 0.3 to 3 and small translations; float32 numbers in float64, away from ties."""
    generator = torch.Generator().manual_seed(seed)
    batch, dims = shape[0], len(shape) - 2
    matrices: list[Tensor] = []
    while len(matrices) < batch:
        scale = 0.3 * 10 ** ((len(matrices) + 0.5) / max(batch, 1))
        turn = torch.linalg.qr(torch.randn(dims, dims, generator=generator, dtype=torch.float64))[0]
        shift = 0.5 * torch.randn(dims, 1, generator=generator, dtype=torch.float64)
        matrix = torch.cat([scale * turn, shift], 1).float().double()
        if clear_of_ties(matrix, shape[2:]):
            matrices.append(matrix)
    return torch.stack(matrices) if matrices else torch.zeros(0, dims, dims + 1, dtype=torch.float64)


def random_images(shape: tuple[int, ...], seed: int = 0) -> tuple[Tensor, Tensor]:
    """Images and an upstream gradient in [-2, 2], float32 numbers in float64."""
    generator = torch.Generator().manual_seed(seed)
    z, grad = ((torch.rand(shape, generator=generator) * 2 - 1) * LARGEST for _ in range(2))
    return z.double(), grad.double()


def random_directions(order: int, matrix: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(order)
    return torch.randn(order, *matrix.shape, generator=generator, dtype=torch.float64).float().double()


def tolerance(matrix: Tensor, directions: Tensor, sizes: tuple[int, ...], dtype: torch.dtype) -> float:
    """Largest error of one value of a correct result on images bounded by LARGEST.

    A coordinate is a sum of d + 1 terms bounded by `reach` and errs by 4 ulp of it. A derivative of order k
    adds up to d!/(d-k)! products of k direction coordinates, each bounded by `speed`, with a difference of
    order k, bounded by 2^k LARGEST, that changes with each coordinate at no more than twice its bound. Every
    product is rounded a few times.
    """
    dims, order = len(sizes), len(directions)
    eps = torch.finfo(dtype).eps
    _, places = source_of(matrix, sizes)
    reach = float((matrix.abs() @ places.abs()).max()) + max(sizes)
    speed = float((directions.abs() @ places.abs()).max()) if order else 1.0
    terms = math.perm(dims, order) if order <= dims else 0
    return terms * speed**order * 2**order * LARGEST * (2 * dims * 4 * reach + 16) * eps


def awkward_matrices(dims: int) -> Tensor:
    """Finite matrices that are hard to bound: singular, nearly so, tiny, enormous, overflowing, far away."""
    one = torch.eye(dims)
    mixed = torch.tensor([[0.8, -0.6, 0.3], [0.5, 0.7, -0.4], [-0.2, 0.5, 0.9]])[:dims, :dims]
    shift = torch.tensor([0.3, -0.2, 0.4])[:dims]
    linear = [
        torch.zeros_like(one), torch.full_like(one, 0.4), one, one.flip(0), one + 1e-6 * mixed,
        torch.ones_like(one) + 1e-6 * mixed, 1e-3 * mixed, 1e-20 * mixed,
        40 * mixed, 1e30 * mixed, 3e38 * mixed,
    ]  # fmt: skip
    matrices = [torch.cat([a, shift[:, None]], 1) for a in linear]
    far = [1.0, 3.0, 1e4, -1e6, 1e30, -3e38]
    matrices += [torch.cat([mixed, shift[:, None] * x], 1) for x in far]
    return torch.stack(matrices)
