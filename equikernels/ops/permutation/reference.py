"""The specification: every output place asks for its value where the inverse element carries it."""

from __future__ import annotations

import torch
from torch import Tensor

from equikernels.ops.permutation.elements import INVERSES, TABLES


def output_shape(z: Tensor, swapped: bool) -> tuple[int, ...]:
    """The shape of the result: `swapped` tells that rows and columns of images change places."""
    if not swapped:
        return tuple(z.shape)
    batch, channels, height, width = z.shape
    return batch, channels, width, height


def source_places(sizes: tuple[int, ...], out_sizes: tuple[int, ...], kind: str, inverse: bool) -> Tensor:
    """Flat input places (elements, places): where each element takes each output place from.

    Meaningless for elements that do not carry an array of `sizes` to one of `out_sizes`.
    """
    table = (INVERSES if inverse else TABLES)[kind]
    axes = torch.meshgrid(*(torch.arange(size) for size in out_sizes), indexing="ij")
    places = []
    for row in table:
        place = torch.zeros(out_sizes, dtype=torch.int64)
        stride = 1
        for b in reversed(range(len(sizes))):
            a, forwards = next((a, entry > 0) for a, entry in enumerate(row) if abs(entry) == b + 1)
            place = place + stride * (axes[a] if forwards else sizes[b] - 1 - axes[a])
            stride = stride * sizes[b]
        places.append(place.flatten())
    return torch.stack(places)


def permute_reference(z: Tensor, g: Tensor, kind: str, inverse: bool, swapped: bool) -> Tensor:
    """Move every sample of `z` (N, C, *sizes) by its element `g` (N,), or by the element's inverse."""
    shape = output_shape(z, swapped)
    if kind == "turns":
        g = torch.remainder(g, 4)
    places = source_places(tuple(z.shape[2:]), shape[2:], kind, inverse).to(z.device)
    # Raises for every element outside of the table, also for negative ones.
    index = places.index_select(0, g)[:, None]
    samples = torch.arange(shape[0], device=z.device)[:, None, None]
    channels = torch.arange(shape[1], device=z.device)[:, None]
    return z.flatten(2)[samples, channels, index].view(shape)
