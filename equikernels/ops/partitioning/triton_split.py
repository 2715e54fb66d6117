"""The split of channels on a GPU: z_v = m z and z_i = (1 - m) z, whatever shape is behind the channels."""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from equikernels.ops import triton_support
from equikernels.ops.extension import addressable
from equikernels.ops.partitioning.mask import binary
from equikernels.ops.triton_support import ceil_div

_VALUES = 1024


@triton.jit
def rows_and_places(program, rows, channels, length, blocks, ROWS: tl.constexpr, LENGTH: tl.constexpr):
    """The tile of a program: samples, channels and whether they are there, (ROWS, 1); places likewise."""
    row = (program // blocks).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    place = (program % blocks).to(tl.int64) * LENGTH + tl.arange(0, LENGTH)[None, :]
    return row, row // channels, row % channels, row < rows, place, place < length


@triton.jit
def split_kernel(
    z, mask, z_v, z_i, rows, channels, length, blocks, stride_n, stride_c, stride_p, mask_n, mask_c,
    ROWS: tl.constexpr, LENGTH: tl.constexpr,
):  # fmt: skip
    """z_v = m z and z_i = (1 - m) z."""
    row, n, c, is_row, place, is_place = rows_and_places(
        tl.program_id(0), rows, channels, length, blocks, ROWS, LENGTH
    )
    inside = is_row & is_place
    m = tl.load(mask + n * mask_n + c * mask_c, mask=is_row, other=0)
    value = tl.load(z + n * stride_n + c * stride_c + place * stride_p, mask=inside, other=0)
    value = tl.where(m == m, value, float("nan"))
    tl.store(z_v + row * length + place, tl.where(m == 0, 0.0, value), mask=inside)
    tl.store(z_i + row * length + place, tl.where(m == 1, 0.0, value), mask=inside)


@triton.jit
def split_backward_kernel(
    grad_v, grad_i, z, mask, z_grad, partial, rows, channels, length, blocks,
    v_n, v_c, v_p, i_n, i_c, i_p, stride_n, stride_c, stride_p, mask_n, mask_c,
    NEED_Z: tl.constexpr, NEED_MASK: tl.constexpr, ROWS: tl.constexpr, LENGTH: tl.constexpr,
):  # fmt: skip
    """z_grad = m g_v + (1 - m) g_i, and in `partial`, (rows, blocks), the sums of (g_v - g_i) z."""
    row, n, c, is_row, place, is_place = rows_and_places(
        tl.program_id(0), rows, channels, length, blocks, ROWS, LENGTH
    )
    inside = is_row & is_place
    m = tl.load(mask + n * mask_n + c * mask_c, mask=is_row, other=0)
    of_v = tl.load(grad_v + n * v_n + c * v_c + place * v_p, mask=inside, other=0)
    of_i = tl.load(grad_i + n * i_n + c * i_c + place * i_p, mask=inside, other=0)
    if NEED_Z:
        passed = tl.where(m == m, tl.where(m == 1, of_v, of_i), float("nan"))
        tl.store(z_grad + row * length + place, passed, mask=inside)
    if NEED_MASK:
        value = tl.load(z + n * stride_n + c * stride_c + place * stride_p, mask=inside, other=0)
        products = ((of_v.to(m.dtype) - of_i.to(m.dtype)) * value.to(m.dtype)).to(tl.float64)
        total = tl.sum(products, 1, keep_dims=True)
        tl.store(partial + row * blocks + tl.program_id(0) % blocks, total, mask=is_row)


def split(z: Tensor, soft: Tensor, threshold: float = 0.5) -> tuple[Tensor, Tensor]:
    """(m z, (1 - m) z) for z (N, C, ...), with m = 1[soft > threshold], (N, C)."""
    shape, dtype = z.shape, z.dtype
    # Not in the kernels: Triton would round the threshold to float32 for float64 data too.
    z, mask = _rows(triton_support.readable(z)), binary(addressable(soft), threshold)
    z_v, z_i = (triton_support.empty(shape, dtype, z.device) for _ in range(2))
    if z.numel():
        (rows, length), blocks = _tile(z)
        with triton_support.on_device(z):
            split_kernel[(ceil_div(z.shape[0] * z.shape[1], rows) * blocks,)](
                z, mask, z_v, z_i, z.shape[0] * z.shape[1], *z.shape[1:], blocks, *z.stride(), *mask.stride(),
                ROWS=rows, LENGTH=length,
            )  # fmt: skip
    return z_v.to(dtype), z_i.to(dtype)


def split_backward(
    grad_v: Tensor,
    grad_i: Tensor,
    z: Tensor,
    soft: Tensor,
    need_z: bool = True,
    need_soft: bool = True,
    threshold: float = 0.5,
) -> tuple[Tensor, Tensor]:
    """The gradients of z and `soft`, given those of both parts; empty where they are not needed."""
    shape, dtype = z.shape if need_z else (0,), z.dtype
    grad_v, grad_i, z = (_rows(triton_support.readable(x)) for x in (grad_v, grad_i, z))
    mask = binary(addressable(soft), threshold)
    z_grad = triton_support.empty(shape, dtype, z.device)
    if z.numel() == 0:
        return z_grad.to(dtype), mask.new_zeros(mask.shape if need_soft else (0,))
    (rows, length), blocks = _tile(z)
    partial = triton_support.empty((*(mask.shape if need_soft else (0,)), blocks), torch.float64, z.device)
    with triton_support.on_device(z):
        split_backward_kernel[(ceil_div(z.shape[0] * z.shape[1], rows) * blocks,)](
            grad_v, grad_i, z, mask, z_grad, partial, z.shape[0] * z.shape[1], *z.shape[1:], blocks,
            *grad_v.stride(), *grad_i.stride(), *z.stride(), *mask.stride(), NEED_Z=need_z,
            NEED_MASK=need_soft, ROWS=rows, LENGTH=length,
        )  # fmt: skip
    return z_grad.to(dtype), partial.sum(-1).to(mask.dtype)


def _rows(x: Tensor) -> Tensor:
    return x.reshape(*x.shape[:2], math.prod(x.shape[2:]))


def _tile(z: Tensor) -> tuple[list[int], int]:
    tile = triton_support.tile_extents((z.shape[0] * z.shape[1], z.shape[2]), _VALUES)
    return tile, ceil_div(z.shape[2], tile[1])
