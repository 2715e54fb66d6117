"""Launchers of the C++ kernels: plain CPU tensors of any strides in, addresses and strides out.

Weights are (outer, inner, m, n). Results have the layout of a dense weight, so that none is ever copied. With
`out` a result is written there, which may be `w` itself.
"""

from __future__ import annotations

import torch
from torch import Tensor

from equikernels.ops.arguments import compute_dtype
from equikernels.ops.extension import addressable, in_large_pages, native

# In the order of equikernels::Storage.
_STORAGE = {torch.float32: 0, torch.float64: 1, torch.bfloat16: 2, torch.float16: 3}


def project(
    w: Tensor,
    places_out: Tensor,
    places_in: Tensor,
    modes_out: Tensor,
    modes_in: Tensor,
    cutoff: float,
    width: float,
    at_cutoff: float,
    tolerance: float,
    out: Tensor | None = None,
) -> Tensor:
    """The response of the distances between eigenvalues; a width of zero is a hard cut-off."""
    w = addressable(w)
    out = in_large_pages(torch.empty_like(w)) if out is None else out
    if _columns_first(w):
        # The transpose of a block has the transposed factors.
        places_out, places_in, modes_out, modes_in = places_in, places_out, modes_in, modes_out
    (shape, *source), (_, *target) = _images(w, w), _images(out, w)
    native.schur_project(
        _STORAGE[w.dtype], torch.get_num_threads(), shape, *source, places_out.data_ptr(),
        places_in.data_ptr(), modes_out.data_ptr(), modes_in.data_ptr(), cutoff, width, at_cutoff, tolerance,
        *target,
    )  # fmt: skip
    return out


def scale(
    w: Tensor,
    same: Tensor,
    opposite: Tensor,
    places_out: Tensor,
    places_in: Tensor,
    out: Tensor | None = None,
) -> Tensor:
    """Factors (G, p, q) for G groups of weights (G, outer, inner, m, n)."""
    w, same, opposite = addressable(w), addressable(same), addressable(opposite)
    out = in_large_pages(torch.empty_like(w)) if out is None else out
    for group in range(w.shape[0]):
        _scale(w[group], same[group], opposite[group], places_out, places_in, out[group])
    return out


def _scale(
    w: Tensor, same: Tensor, opposite: Tensor, places_out: Tensor, places_in: Tensor, out: Tensor
) -> None:
    if _columns_first(w):
        places_out, places_in, same, opposite = places_in, places_out, same.mT, opposite.mT
    (shape, *source), (_, *target) = _images(w, w), _images(out, w)
    native.schur_scale(
        _STORAGE[w.dtype], torch.get_num_threads(), shape, *source, places_out.data_ptr(),
        places_in.data_ptr(), same.data_ptr(), same.stride(), opposite.data_ptr(), opposite.stride(), *target,
    )  # fmt: skip


def inner(
    grad: Tensor, w: Tensor, places_out: Tensor, places_in: Tensor, blocks_out: int, blocks_in: int
) -> tuple[Tensor, Tensor]:
    """<Q(grad), Q(w)> and <grad - Q(grad), w - Q(w)> of all pairs of blocks, (G, p, q) each."""
    grad, w = addressable(grad), addressable(w)
    # Zeros, because a sum over no matrices is written by no kernel.
    same, opposite = (
        torch.zeros(w.shape[0], blocks_out, blocks_in, dtype=compute_dtype(w.dtype)) for _ in range(2)
    )
    for group in range(w.shape[0]):
        one, other = grad[group], w[group]
        swapped = _columns_first(other)
        (shape, *source), (_, *target) = _images(one, other), _images(other, other)
        sums = [x[group].mT.contiguous() if swapped else x[group] for x in (same, opposite)]
        sides = (places_in, places_out) if swapped else (places_out, places_in)
        native.schur_inner(
            _STORAGE[w.dtype], torch.get_num_threads(), shape, *source, *target, sides[0].data_ptr(),
            sides[1].data_ptr(), sums[0].data_ptr(), sums[1].data_ptr(),
        )  # fmt: skip
        if swapped:
            same[group], opposite[group] = sums[0].mT, sums[1].mT
    return same, opposite


def _columns_first(w: Tensor) -> bool:
    """Whether rows are what lies together in memory."""
    return w.stride(-1) != 1 and w.stride(-2) == 1


def _images(x: Tensor, like: Tensor) -> tuple[tuple[int, ...], int, tuple[int, ...]]:
    """Shape, address and strides of `x`, transposed where `like` is read by columns."""
    x = x.mT if _columns_first(like) else x
    return x.shape, x.data_ptr(), x.stride()
