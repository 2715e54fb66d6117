"""Launchers of the C++ kernels: plain CPU tensors in, addresses and strides out."""

from __future__ import annotations

import torch
from torch import Tensor

from equikernels.ops.arguments import compute_dtype
from equikernels.ops.averaging.layout import dimensions
from equikernels.ops.extension import addressable, in_large_pages, native

# In the order of equikernels::Storage.
_STORAGE = {torch.float32: 0, torch.float64: 1, torch.bfloat16: 2, torch.float16: 3}

# Rows and columns of a block may lie so far apart; beyond, blocks are copied.
_REACH = 2**30


def average(w: Tensor, weights: Tensor, sources_out: Tensor, sources_in: Tensor, table: Tensor) -> Tensor:
    """Averages of w (S, ..., m, n) with weights (S, order); a dense w keeps its layout."""
    w = addressable(w)
    out = torch.empty_like(w)
    near = in_large_pages(torch.empty(w.shape, dtype=w.dtype) if _is_far(out) else out)
    average_into(near, w, weights, sources_out, sources_in, table)
    return out if near is out else out.copy_(near)


def average_into(
    out: Tensor, w: Tensor, weights: Tensor, sources_out: Tensor, sources_in: Tensor, table: Tensor
) -> None:
    """The same written to `out`, of the shape and dtype of w, in memory of its own with any strides.

    Nothing is recorded for autograd. Raises ValueError where columns of a block of `out` lie more than 2^31
    elements apart.
    """
    if out.numel() == 0:
        return
    w, weights = _readable(w), addressable(weights).contiguous()
    maps = sources_out, sources_in
    size, (out_stride, w_stride) = dimensions(out, w)
    if out.stride(-2) < out.stride(-1):
        # Rows are what is contiguous: the average of the transposed blocks.
        maps = sources_in, sources_out
        for numbers in (size, out_stride, w_stride):
            numbers[-2:] = reversed(numbers[-2:])
    native.group_average(
        _STORAGE[w.dtype], torch.get_num_threads(), table.shape[-1], size, *(x.data_ptr() for x in maps),
        table.data_ptr(), w.data_ptr(), w_stride, weights.data_ptr(), out.data_ptr(), out_stride,
    )  # fmt: skip


def correlate(g: Tensor, w: Tensor, sources_out: Tensor, sources_in: Tensor, table: Tensor) -> Tensor:
    """<g, rho_out(a) w rho_in(a)^-1> of every sample and element, (S, order)."""
    g, w = _readable(g), _readable(w)
    result = torch.zeros((w.shape[0], table.shape[-1]), dtype=compute_dtype(w.dtype))
    if w.numel() == 0:
        return result
    maps = sources_out, sources_in
    size, (w_stride, g_stride) = dimensions(w, g)
    if w.stride(-2) < w.stride(-1):
        maps = sources_in, sources_out
        for numbers in (size, w_stride, g_stride):
            numbers[-2:] = reversed(numbers[-2:])
    native.group_correlate(
        _STORAGE[w.dtype], torch.get_num_threads(), table.shape[-1], size, *(x.data_ptr() for x in maps),
        table.data_ptr(), g.data_ptr(), g_stride, w.data_ptr(), w_stride, result.data_ptr(),
    )  # fmt: skip
    return result


def _readable(w: Tensor) -> Tensor:
    w = addressable(w)
    return w.contiguous() if _is_far(w) else w


def _is_far(w: Tensor) -> bool:
    """Whether rows or columns of a block lie farther apart than the kernels' offsets reach."""
    return any((size - 1) * step >= _REACH for size, step in zip(w.shape[-2:], w.stride()[-2:], strict=True))
