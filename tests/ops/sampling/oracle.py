"""Sampling written out as matrices, one for every sample, in numpy and from the formulas alone."""

from __future__ import annotations

import itertools
import math
from functools import lru_cache

import numpy as np

Array = np.ndarray

# The taps along one axis and, for each, its weight as a polynomial of the distance r from the first pixel
# before a place: Keys' kernel, with the slope -3/4, at the distances r + 1, r, 1 - r and 2 - r.
_A = -0.75
_R, _S = np.poly1d([1, 0]), np.poly1d([-1, 1])


def _near(x: np.poly1d) -> np.poly1d:
    return (_A + 2) * x**3 - (_A + 3) * x**2 + 1


def _far(x: np.poly1d) -> np.poly1d:
    return _A * (x**3 - 5 * x**2 + 8 * x - 4)


TAPS = {
    "nearest": {0: np.poly1d([1])},
    "bilinear": {0: _S, 1: _R},
    "bicubic": {-1: _far(_R + 1), 0: _near(_R), 1: _near(_S), 2: _far(_S + 1)},
}


def pixel(index: int, size: int, padding: str) -> int | None:
    """The pixel that a tap reads."""
    if padding == "border":
        return min(max(index, 0), size - 1)
    while padding == "reflection" and not 0 <= index < size:
        index = -1 - index if index < 0 else 2 * size - 1 - index
    return index if 0 <= index < size else None


@lru_cache(2**14)
def axis_operator(at: float, size: int, mode: str, padding: str, order: int) -> Array:
    """What every pixel of an axis counts at a place, differentiated `order` times."""
    first = np.rint(at) if mode == "nearest" else np.floor(at)
    weights = np.zeros(size)
    for tap, weight in TAPS[mode].items():
        read = pixel(int(first) + tap, size, padding)
        if read is not None:
            weights[read] += weight.deriv(order)(at - first) if order else weight(at - first)
    return weights


def operator(sizes: tuple[int, ...], matrix: Array, directions: Array, mode: str, padding: str) -> Array:
    """F_k of one sample (outputs, inputs), over flat pixels; sizes (W, H[, D]), directions (k, d, d + 1)."""
    dims, k = len(sizes), len(directions)
    places = list(itertools.product(*(np.arange(n) - (n - 1) / 2 for n in sizes[::-1])))
    out = np.zeros((len(places), len(places)))
    for row, place in enumerate(places):
        p = np.array([*place[::-1], 1.0])
        at = (matrix @ p + (np.array(sizes) - 1) / 2).tolist()
        steps = (directions @ p).tolist()
        factors: dict[tuple[int, ...], float] = {}
        for axes in itertools.product(range(dims), repeat=k):
            orders = tuple(axes.count(axis) for axis in range(dims))
            factor = math.prod(steps[i][axis] for i, axis in enumerate(axes))
            factors[orders] = factors.get(orders, 0.0) + factor
        for orders, factor in factors.items():
            flat = np.full(1, factor)
            for axis, order in enumerate(orders):
                flat = np.outer(axis_operator(at[axis], sizes[axis], mode, padding, order), flat).ravel()
            out[row] += flat
    return out
