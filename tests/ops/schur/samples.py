"""What the tests of the Schur operations share: operators in Schur form, the projection by a dense SVD."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from equikernels.ops import SchurBlocks, schur_blocks

Response = Callable[[np.ndarray], np.ndarray]

BACKENDS = ("reference", "cpp")
DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)

# Single coordinates first, last, between pairs, alone, and none.
ARRANGEMENTS: tuple[tuple[int, ...], ...] = (
    (1,),
    (2,),
    (1, 1, 1),
    (2, 2),
    (1, 2, 2),
    (2, 2, 1),
    (2, 1, 2),
    (1, 2, 1, 1, 2, 2, 1),
)


# With a distance between the coordinates of a pair: +, - and 0 are first, second and single coordinates.
SPACED: tuple[tuple[str, int], ...] = (
    ("++--", 2),
    ("0++--00", 2),
    ("+0-", 2),
    ("+++---0", 3),
    ("+0-++--0", 2),
)


def spaced(pattern: str, distance: int, seed: int = 0, integers: bool = False) -> Tensor:
    """Eigenvalues in such an arrangement, complex128."""
    rng = np.random.default_rng(seed)
    values = np.zeros(len(pattern), dtype=complex)
    for at, kind in enumerate(pattern):
        a, b = rng.integers(-2, 3, 2) if integers else rng.normal(size=2)
        if kind == "0":
            values[at] = a
        elif kind == "+":
            values[at] = complex(a, b or 1.0)
            values[at + distance] = values[at].conjugate()
    return torch.from_numpy(values)


def slab(pairs: int, single: int, seed: int = 0) -> SchurBlocks:
    """All first coordinates, all second ones, single ones: the order of large grids."""
    return schur_blocks(spaced("+" * pairs + "-" * pairs + "0" * single, pairs, seed), max(pairs, 1))


def neighbours(values: Tensor, distance: int) -> Tensor:
    """The order of coordinates, with indices (m,), in which every pair is next to each other."""
    order: list[int] = []
    for at in range(len(values)):
        if at in order:
            continue
        order += [at, at + distance] if values[at].imag else [at]
    return torch.tensor(order)


def eigenvalues(sizes: tuple[int, ...], seed: int = 0, integers: bool = False) -> Tensor:
    """Eigenvalues of blocks of these sizes, complex128: b has either sign; integers meet often."""
    rng = np.random.default_rng(seed)
    values: list[complex] = []
    for size in sizes:
        a, b = rng.integers(-2, 3, 2) if integers else rng.normal(size=2)
        b = b if b != 0 else -1.0
        values += [complex(a)] if size == 1 else [complex(a, b), complex(a, -b)]
    return torch.tensor(values, dtype=torch.complex128)


def operator(values: Tensor) -> np.ndarray:
    """The matrix in Schur form that has these eigenvalues."""
    n = len(values)
    matrix = np.diag(values.real.numpy())
    at = 0
    while at < n:
        b = float(values[at].imag)
        if b:
            matrix[at, at + 1], matrix[at + 1, at] = -b, b
            at += 1
        at += 1
    return matrix


def oracle(w: np.ndarray, out: np.ndarray, inn: np.ndarray, response: Response) -> np.ndarray:
    """The response of the singular values of W -> W A - B W, from its dense matrix, for w (..., m, n)."""
    m, n = len(out), len(inn)
    constraint = np.kron(np.eye(m), inn.T) - np.kron(out, np.eye(n))
    _, sigma, vh = np.linalg.svd(constraint)
    flat = w.reshape(-1, m * n) @ vh.T
    return ((flat * response(sigma)) @ vh).reshape(w.shape)


def hard(cutoff: float, at_cutoff: float = 0.0, tolerance: float = 1e-8) -> Response:
    def response(sigma: np.ndarray) -> np.ndarray:
        on = np.abs(sigma - cutoff) <= tolerance
        return np.where(on, at_cutoff, np.where(sigma < cutoff, 1.0, 0.0))

    return response


def smooth(cutoff: float, width: float) -> Response:
    return lambda sigma: np.exp(-np.maximum(sigma - cutoff, 0) / width)


def weights(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def tables(sizes_out: tuple[int, ...], sizes_in: tuple[int, ...], seed: int = 1) -> tuple[Tensor, Tensor]:
    pairs = weights(2, len(sizes_out), len(sizes_in), seed=seed)
    return pairs[0], pairs[1]


def layouts(w: Tensor) -> dict[str, Tensor]:
    """The same weights (outer, inner, m, n) in different memory."""
    outer, inner, m, n = w.shape
    wide = torch.empty(outer, inner, m, 2 * n, dtype=w.dtype)[..., ::2]
    weight = w.transpose(1, 2).reshape(outer * m, inner * n)
    return {
        "contiguous": w,
        "view of a weight": weight.view(outer, m, inner, n).transpose(1, 2),
        "part of a weight": torch.nn.functional.pad(weight, (3, 2))[:, 3:-2]
        .unflatten(1, (inner, n))
        .unflatten(0, (outer, m))
        .transpose(1, 2),
        "columns first": w.mT.contiguous().mT,
        "every second column": wide.copy_(w),
        "matrices innermost": w.permute(2, 3, 0, 1).contiguous().permute(2, 3, 0, 1),
        "expanded": w[:1, :1].expand(w.shape),
        "negated lazily": torch.complex(torch.zeros_like(w.float()), -w.float()).conj().imag.to(w.dtype)
        if w.dtype != torch.float32
        else torch.complex(torch.zeros_like(w), -w).conj().imag,
    }


def close(dtype: torch.dtype) -> dict[str, float]:
    """Tolerances for sums of two products of numbers of size one in the compute dtype, stored in `dtype`."""
    eps = {torch.float64: 2**-52, torch.float32: 2**-23, torch.bfloat16: 2**-8, torch.float16: 2**-11}[dtype]
    return {"rtol": 2 * eps, "atol": 8 * eps if dtype.itemsize > 2 else 8 * 2**-23 + eps * math.ldexp(1, -6)}
