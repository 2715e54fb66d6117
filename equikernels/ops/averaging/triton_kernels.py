"""Averages over a group on a GPU: every entry of the result gathers one entry for each element.

Entries are counted along the result's memory. A dimension's index is the quotient of an entry's number by how
many entries lie inside of it, modulo its size, so that any order of dimensions is read and written in pieces.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import torch
import triton
import triton.language as tl
from torch import Tensor

from equikernels.ops import triton_support
from equikernels.ops.arguments import compute_dtype
from equikernels.ops.averaging.layout import Numbers, dimensions
from equikernels.ops.triton_support import ceil_div

_BLOCK = 512


@triton.jit
def average_kernel(
    w, weights, sources_out, sources_in, out, entries, order, samples, outer, channels, m, n,
    inside_s, inside_o, inside_c, inside_m, inside_n, w_s, w_o, w_c, w_m, w_n,
    out_s, out_o, out_c, out_m, out_n,
    WIDE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """out[s, o, c, x, y] = sum over g of weights[s, g] * w[s, o, c, sources_out[g, x], sources_in[g, y]]."""
    # 64 bits only where they are needed.
    INDEX: tl.constexpr = tl.int64 if WIDE else tl.int32
    entry = tl.program_id(0).to(INDEX) * BLOCK + tl.arange(0, BLOCK)
    inside = entry < entries
    s, o, c = entry // inside_s % samples, entry // inside_o % outer, entry // inside_c % channels
    x, y = entry // inside_m % m, entry // inside_n % n
    block = w + s * w_s + o * w_o + c * w_c
    total = tl.zeros((BLOCK,), weights.dtype.element_ty)
    for g in range(order):
        row = tl.load(sources_out + g * m + x, mask=inside, other=0).to(INDEX)
        column = tl.load(sources_in + g * n + y, mask=inside, other=0).to(INDEX)
        value = tl.load(block + row * w_m + column * w_n, mask=inside, other=0)
        weight = tl.load(weights + s * order + g, mask=inside, other=0)
        total += weight * value.to(weights.dtype.element_ty)
    tl.store(out + s * out_s + o * out_o + c * out_c + x * out_m + y * out_n, total, mask=inside)


@triton.jit
def correlate_kernel(
    left, w, sources_out, sources_in, partial, entries, blocks, order, outer, channels, m, n,
    inside_o, inside_c, inside_m, inside_n, left_s, left_o, left_c, left_m, left_n, w_s, w_o, w_c, w_m, w_n,
    WIDE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """partial[program, g] = sum over a block of one sample's entries of left * w moved by g."""
    INDEX: tl.constexpr = tl.int64 if WIDE else tl.int32
    program = tl.program_id(0).to(INDEX)
    s = program // blocks
    entry = program % blocks * BLOCK + tl.arange(0, BLOCK)
    inside = entry < entries
    o, c = entry // inside_o % outer, entry // inside_c % channels
    x, y = entry // inside_m % m, entry // inside_n % n
    place = s * left_s + o * left_o + c * left_c + x * left_m + y * left_n
    factor = tl.load(left + place, mask=inside, other=0).to(tl.float64)
    block = w + s * w_s + o * w_o + c * w_c
    for g in range(order):
        row = tl.load(sources_out + g * m + x, mask=inside, other=0).to(INDEX)
        column = tl.load(sources_in + g * n + y, mask=inside, other=0).to(INDEX)
        value = tl.load(block + row * w_m + column * w_n, mask=inside, other=0)
        tl.store(partial + program * order + g, tl.sum(factor * value.to(tl.float64), 0))


def average(w: Tensor, weights: Tensor, sources_out: Tensor, sources_in: Tensor, table: Tensor) -> Tensor:
    """Averages of w (S, ..., m, n) with weights (S, order); a dense w keeps its layout."""
    dtype, w = w.dtype, triton_support.readable(w)
    weights = triton_support.readable(weights).contiguous()
    out = _like(w)
    if out.numel() == 0:
        return out.to(dtype)
    for size, to, come, target, source in _parts(out, w):
        entries = math.prod(size)
        with triton_support.on_device(w):
            average_kernel[(ceil_div(entries, _BLOCK),)](
                source, weights, sources_out, sources_in, target, entries, table.shape[-1], *size,
                *_inside(size, to), *come, *to, WIDE=_is_wide(entries, size, to, come), BLOCK=_BLOCK,
            )  # fmt: skip
    return out.to(dtype)


def correlate(g: Tensor, w: Tensor, sources_out: Tensor, sources_in: Tensor, table: Tensor) -> Tensor:
    """<g, rho_out(a) w rho_in(a)^-1> of every sample and element, (S, order), summed in float64."""
    g, w = triton_support.readable(g), triton_support.readable(w)
    samples, order = w.shape[0], table.shape[-1]
    compute = compute_dtype(w.dtype)
    if w.numel() == 0:
        return torch.zeros((samples, order), dtype=compute, device=w.device)
    sums = []
    for size, left, come, target, source in _parts(g, w):
        entries = math.prod(size[1:])
        blocks = ceil_div(entries, _BLOCK)
        partial = triton_support.empty((samples, blocks, order), torch.float64, w.device)
        with triton_support.on_device(w):
            correlate_kernel[(samples * blocks,)](
                target, source, sources_out, sources_in, partial, entries, blocks, order, *size[1:],
                *_inside(size[1:], left[1:]), *left, *come,
                WIDE=_is_wide(samples * blocks * max(_BLOCK, order), size, left, come), BLOCK=_BLOCK,
            )  # fmt: skip
        sums.append(partial.sum(1))
    return torch.stack(sums).sum(0).to(compute)


def _like(w: Tensor) -> Tensor:
    """Memory for a result in the layout of w."""
    stride = torch.empty_like(w, device="meta").stride()
    memory = triton_support.empty((w.numel(),), w.dtype, w.device, as_bits=True)
    # Not a view, see `triton_support.empty`.
    out = torch.empty(0, dtype=w.dtype, device=w.device)
    return out.set_(memory.untyped_storage(), memory.storage_offset(), w.shape, stride)


def _parts(first: Tensor, second: Tensor) -> Iterator[tuple[Numbers, Numbers, Numbers, Tensor, Tensor]]:
    """Sizes (samples, outer, channels, m, n), strides of both tensors, and both from where a part begins.

    One part, unless more than two leading dimensions lie so that they cannot be joined.
    """
    size, strides = dimensions(first, second)
    spare = len(size) - 5
    if spare < 0:
        size = [size[0], 1, *size[1:]]
        strides = ([strides[0][0], 0, *strides[0][1:]], [strides[1][0], 0, *strides[1][1:]])
        spare = 0
    kept = [0, *range(1 + spare, len(size))]
    shape = [size[d] for d in kept]
    own = [[stride[d] for d in kept] for stride in strides]
    for index in itertools.product(*(range(size[d]) for d in range(1, 1 + spare))):
        ends = []
        for x, stride in zip((first, second), strides, strict=True):
            start = x.storage_offset() + sum(at * stride[1 + d] for d, at in enumerate(index))
            ends.append(x.as_strided((1,), (1,), start))
        yield shape, own[0], own[1], ends[0], ends[1]


def _inside(size: Numbers, stride: Numbers) -> Numbers:
    """How many entries lie inside of each dimension, if they are counted along memory."""
    inside, count = [0] * len(size), 1
    for d in sorted(range(len(size)), key=lambda d: (stride[d], -d)):
        inside[d] = count
        count *= size[d]
    return inside


def _is_wide(entries: int, size: Numbers, *strides: Numbers) -> bool:
    """Whether an entry's number or place leaves 32 bits."""
    spans = [
        sum((length - 1) * step for length, step in zip(size, stride, strict=True)) for stride in strides
    ]
    return max(entries + _BLOCK, *spans) >= 2**31
