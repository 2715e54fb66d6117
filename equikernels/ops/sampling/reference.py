"""The specification of sampling in plain torch: short, differentiable any number of times, any device."""

from __future__ import annotations

import operator
from functools import reduce
from itertools import product
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor

from equikernels.ops.arguments import compute_dtype

# Keys' cubic convolution, with the slope that torch gives it.
CUBIC_SLOPE = -0.75

# How far beyond its image a coordinate may stay: every tap is outside there, of every mode.
MARGIN = 4


class Tap(NamedTuple):
    """One of the pixels along one axis that a coordinate asks for, at every place (N, *sizes)."""

    pixel: Tensor
    inside: Tensor
    weight: Tensor


def sample_reference(z: Tensor, matrix: Tensor, mode: str, padding: str) -> Tensor:
    """z (N, C, H, W) or (N, C, D, H, W) where matrix (N, d, d + 1) takes the places p: z~(M [p; 1]).

    Places are (x, y[, z]) in pixels from the centre. Along every axis the interpolation z~ is a few taps with
    weights; those of the whole are the products, and `padding` says which pixel a tap outside stands for.
    """
    sizes = tuple(z.shape[:1:-1])  # (W, H[, D]), the order of coordinates
    dtype = compute_dtype(z.dtype)
    matrix = matrix.to(dtype)
    # Multiplying by NaN makes the whole sample NaN, forward and backward, also where nothing is read.
    defined = torch.where(matrix.isfinite().flatten(1).all(1), 1.0, torch.nan).to(dtype)
    matrix = matrix * defined[:, None, None]
    defined = defined.reshape(-1, *[1] * (z.dim() - 1))
    pixels = (z.to(dtype) * defined).flatten(2)

    axes = [
        _taps(coordinate, size, mode, padding)
        for coordinate, size in zip(source_coordinates(matrix, sizes), sizes, strict=True)
    ]
    out = torch.zeros_like(z, dtype=dtype, memory_format=torch.contiguous_format)
    for taps in product(*axes):
        index = reduce(operator.add, (tap.pixel * prod(sizes[:axis]) for axis, tap in enumerate(taps)))
        value = pixels.gather(2, index.flatten(1)[:, None].expand(*z.shape[:2], -1)).reshape(z.shape)
        inside = reduce(operator.and_, (tap.inside for tap in taps))
        weight = reduce(operator.mul, (tap.weight for tap in taps))
        out = out + weight[:, None] * torch.where(inside[:, None], value, 0)
    return (out * defined).to(z.dtype)


def source_coordinates(matrix: Tensor, sizes: tuple[int, ...]) -> list[Tensor]:
    """Along every axis, where the output places come from: (N, *sizes reversed), from the first pixel."""
    dims = len(sizes)
    # x along the last dimension, y along the one before, z before that.
    places = [
        (torch.arange(size, dtype=matrix.dtype, device=matrix.device) - (size - 1) / 2)[(...,) + (None,) * a]
        for a, size in enumerate(sizes)
    ]
    entries = matrix[(...,) + (None,) * dims]
    return [
        reduce(operator.add, (entries[:, a, b] * places[b] for b in range(dims)))
        + entries[:, a, dims]
        + (sizes[a] - 1) / 2
        for a in range(dims)
    ]


def _taps(coordinate: Tensor, size: int, mode: str, padding: str) -> list[Tap]:
    # Nothing changes out there, and integers stay small: a finite matrix may give any coordinate, even
    # infinite ones. Comparisons with NaN are false.
    if padding == "zeros":
        near = (coordinate > -MARGIN) & (coordinate < size - 1 + MARGIN)
        coordinate = torch.where(near, coordinate, -MARGIN)
    elif padding == "border":
        coordinate = coordinate.clamp(-MARGIN, size - 1 + MARGIN)
    # The derivative is that of the surface between the taps, which stay the same.
    at = coordinate.detach()
    first = at.round() if mode == "nearest" else at.floor()
    places, weights = _weights(coordinate - first, mode)
    return [
        Tap(*_pixel(first + place, size, padding), weight)
        for place, weight in zip(places, weights, strict=True)
    ]


def _weights(r: Tensor, mode: str) -> tuple[tuple[int, ...], tuple[Tensor, ...]]:
    """Places and weights of the taps, for a coordinate r beyond the first."""
    if mode == "nearest":
        return (0,), (1 + 0 * r,)
    if mode == "bilinear":
        return (0, 1), (1 - r, r)
    a = CUBIC_SLOPE

    def near(x: Tensor) -> Tensor:
        return ((a + 2) * x - (a + 3)) * x * x + 1

    def far(x: Tensor) -> Tensor:
        return a * (((x - 5) * x + 8) * x - 4)

    return (-1, 0, 1, 2), (far(r + 1), near(r), near(1 - r), far(2 - r))


def _pixel(place: Tensor, size: int, padding: str) -> tuple[Tensor, Tensor]:
    """The pixel a tap stands for, and whether there is one."""
    inside = torch.ones_like(place, dtype=torch.bool)
    if padding == "zeros":
        inside = (place >= 0) & (place < size)
        place = torch.where(inside, place, 0)
    elif padding == "border":
        place = place.clamp(0, size - 1)
    else:
        # Mirrors at -1/2 and size - 1/2 repeat the image, there and back.
        place = place.remainder(2 * size)
        place = torch.minimum(place, 2 * size - 1 - place)
    return place.nan_to_num(nan=0).long(), inside
