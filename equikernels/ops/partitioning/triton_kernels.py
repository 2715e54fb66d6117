"""The partition on a GPU. The mask (N, C) of channels holds 1, varying, 0, not varying, or NaN.

A channel is turned or copied as a whole, so its mask is a scalar to branch on; what a channel does not show
is selected away, never multiplied by zero. With y = rho(theta) z. Sums over pixels are taken in float64:
every program writes its part, and the parts are added in the order of the programs.
"""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from equikernels.ops import triton_support
from equikernels.ops.extension import addressable
from equikernels.ops.partitioning.triton_split import split, split_backward
from equikernels.ops.rotation.triton_geometry import (
    plan,
    taps,
    tile_pixels,
    turn,
    weighted_sum,
    weighted_sums,
    window,
)

__all__ = [
    "consistency",
    "consistency_backward",
    "masked_rotate",
    "masked_rotate_backward",
    "split",
    "split_backward",
]

_FORWARD_PIXELS = 256
_BACKWARD_PIXELS = 128

# What the backward pass differentiates: no losses, or losses with one of the two estimators.
_NO_LOSS, _STE, _COUNTERFACTUAL = (tl.constexpr(number) for number in range(3))
_ESTIMATORS = {"ste": 1, "counterfactual": 2}


@triton.jit
def masked_rotate_kernel(
    z, theta, mask, target, out, partial_i, partial_v,
    channels, height, width, tiles_h, tiles_w, groups, channels_each,
    stride_n, stride_c, stride_h, stride_w, target_n, target_c, target_h, target_w,
    stride_theta, mask_n, mask_c,
    NEED_LOSS: tl.constexpr, WIDE: tl.constexpr, TILE_H: tl.constexpr, TILE_W: tl.constexpr,
):  # fmt: skip
    """out = y where m = 1, z where m = 0; parts of the sums of (z - target)^2 there, (y - target)^2 here."""
    INDEX: tl.constexpr = tl.int64 if WIDE else tl.int32
    row, column, unit = tile_pixels(tl.program_id(0), tiles_h, tiles_w, TILE_H, TILE_W)
    first = unit % groups * channels_each
    sample = (unit // groups).to(tl.int64)
    wide_first = sample * 0 + first
    angle = tl.load(theta + sample * stride_theta)
    cosine, sine, defined = turn(angle)
    offsets, masks, weights = taps(
        cosine, sine, row, column, height, width, stride_h, stride_w, angle.dtype, 0, INDEX
    )
    inside = (row < height) & (column < width)
    here = row.to(INDEX) * stride_h + column.to(INDEX) * stride_w
    goal = row.to(INDEX) * target_h + column.to(INDEX) * target_w
    written = row.to(INDEX) * width + column
    plane = (sample * 0 + height) * width
    image = z + sample * stride_n + wide_first * stride_c
    aim = target + sample * target_n + wide_first * target_c
    result = out + (sample * channels + first) * plane
    selection = mask + sample * mask_n + wide_first * mask_c
    loss_i = tl.zeros([TILE_H * TILE_W], tl.float64)
    loss_v = tl.zeros([TILE_H * TILE_W], tl.float64)
    for _ in range(first, tl.minimum(first + channels_each, channels)):
        m = tl.load(selection)
        if m == 0:
            value = tl.load(image + here, mask=inside, other=0)
        else:
            turned = weighted_sum(image, offsets, masks, weights, 4)
            turned = tl.where(defined & (m == m), turned, float("nan"))
            value = turned.to(out.dtype.element_ty)
        tl.store(result + written, value, mask=inside)
        if NEED_LOSS:
            # Of the value as it is stored, so that the losses are those of the result.
            distance = value.to(m.dtype) - tl.load(aim + goal, mask=inside, other=0).to(m.dtype)
            square = tl.where(inside, distance * distance, 0.0).to(tl.float64)
            loss_i += tl.where(m == 1, 0.0, square)
            loss_v += tl.where(m == 0, 0.0, square)
        image += stride_c
        aim += target_c
        result += plane
        selection += mask_c
    if NEED_LOSS:
        tl.store(partial_i + tl.program_id(0), tl.sum(loss_i, 0))
        tl.store(partial_v + tl.program_id(0), tl.sum(loss_v, 0))


@triton.jit
def partition_gradients_kernel(
    grad, grad_i, grad_v, z, theta, mask, target, turned_grad, z_grad, partial_theta, partial_mask,
    channels, height, width, tiles_h, tiles_w, groups, channels_each,
    grad_n, grad_c, grad_h, grad_w, stride_n, stride_c, stride_h, stride_w,
    target_n, target_c, target_h, target_w, stride_theta, stride_i, stride_v, mask_n, mask_c,
    LOSS: tl.constexpr, WIDE: tl.constexpr, TILE_H: tl.constexpr, TILE_W: tl.constexpr,
):  # fmt: skip
    """All but the adjoint: gradients of angles and mask, and of z where m = 0.

    The gradient of y, g + 2 g_v (y - target), is left in `turned_grad` where m = 1; without losses it is g.
    """
    INDEX: tl.constexpr = tl.int64 if WIDE else tl.int32
    row, column, unit = tile_pixels(tl.program_id(0), tiles_h, tiles_w, TILE_H, TILE_W)
    tile = tl.program_id(0) % (tiles_h * tiles_w)
    first = unit % groups * channels_each
    sample = (unit // groups).to(tl.int64)
    wide_first = sample * 0 + first
    angle = tl.load(theta + sample * stride_theta)
    cosine, sine, defined = turn(angle)
    offsets, masks, weights = taps(
        cosine, sine, row, column, height, width, stride_h, stride_w, angle.dtype, 0, INDEX
    )
    _, _, slopes = taps(cosine, sine, row, column, height, width, stride_h, stride_w, angle.dtype, 1, INDEX)
    inside = (row < height) & (column < width)
    here = row.to(INDEX) * stride_h + column.to(INDEX) * stride_w
    above = row.to(INDEX) * grad_h + column.to(INDEX) * grad_w
    goal = row.to(INDEX) * target_h + column.to(INDEX) * target_w
    written = row.to(INDEX) * width + column
    plane = (sample * 0 + height) * width
    upstream = grad + sample * grad_n + wide_first * grad_c
    image = z + sample * stride_n + wide_first * stride_c
    aim = target + sample * target_n + wide_first * target_c
    place = (sample * channels + first) * plane
    selection = mask + sample * mask_n + wide_first * mask_c
    sums = partial_mask + (sample * channels + first) * (tiles_h * tiles_w) + tile
    if LOSS != _NO_LOSS:
        weight_i = 2 * tl.load(grad_i + sample * stride_i)
        weight_v = 2 * tl.load(grad_v + sample * stride_v)
    of_theta = tl.zeros([TILE_H * TILE_W], tl.float64)
    for _ in range(first, tl.minimum(first + channels_each, channels)):
        m = tl.load(selection)
        y, slope = weighted_sums(image, offsets, masks, weights, slopes, 4)
        y = y.to(z.dtype.element_ty).to(m.dtype)
        value = tl.load(image + here, mask=inside, other=0).to(m.dtype)
        of_turned = tl.load(upstream + above, mask=inside, other=0).to(m.dtype)
        of_copied = of_turned
        of_mask = of_turned * (y - value)
        if LOSS != _NO_LOSS:
            aimed = tl.load(aim + goal, mask=inside, other=0).to(m.dtype)
            far_v = y - aimed
            far_i = value - aimed
            of_turned += weight_v * far_v
            of_copied += weight_i * far_i
            if LOSS == _STE:
                of_mask += tl.where(m == 0, 0.0, weight_v * far_v * y)
                of_mask -= tl.where(m == 1, 0.0, weight_i * far_i * value)
            else:
                of_mask += 0.5 * (weight_v * far_v * far_v - weight_i * far_i * far_i)
        if m == 0:
            tl.store(z_grad + place + written, of_copied, mask=inside)
        else:
            part = tl.where(defined & (m == m), of_turned * slope, float("nan"))
            of_theta += tl.where(inside, part, 0.0).to(tl.float64)
            if LOSS != _NO_LOSS:
                tl.store(turned_grad + place + written, of_turned, mask=inside)
        of_mask = tl.where(defined, of_mask, float("nan"))
        tl.store(sums, tl.sum(tl.where(inside, of_mask, 0.0).to(tl.float64), 0))
        upstream += grad_c
        image += stride_c
        aim += target_c
        place += plane
        selection += mask_c
        sums += tiles_h * tiles_w
    tl.store(partial_theta + tl.program_id(0), tl.sum(of_theta, 0))


@triton.jit
def partition_adjoint_kernel(
    turned_grad, theta, mask, z_grad, channels, height, width, tiles_h, tiles_w, groups, channels_each,
    grad_n, grad_c, grad_h, grad_w, stride_theta, mask_n, mask_c,
    WIDE: tl.constexpr, TILE_H: tl.constexpr, TILE_W: tl.constexpr,
):  # fmt: skip
    """z_grad = rho(theta)^T turned_grad where m = 1; other channels are left alone."""
    INDEX: tl.constexpr = tl.int64 if WIDE else tl.int32
    row, column, unit = tile_pixels(tl.program_id(0), tiles_h, tiles_w, TILE_H, TILE_W)
    first = unit % groups * channels_each
    sample = (unit // groups).to(tl.int64)
    wide_first = sample * 0 + first
    angle = tl.load(theta + sample * stride_theta)
    cosine, sine, defined = turn(angle)
    offsets, masks, weights = window(
        cosine, sine, row, column, height, width, grad_h, grad_w, angle.dtype, 0, INDEX
    )
    inside = (row < height) & (column < width)
    written = row.to(INDEX) * width + column
    plane = (sample * 0 + height) * width
    upstream = turned_grad + sample * grad_n + wide_first * grad_c
    result = z_grad + (sample * channels + first) * plane
    selection = mask + sample * mask_n + wide_first * mask_c
    for _ in range(first, tl.minimum(first + channels_each, channels)):
        m = tl.load(selection)
        if m != 0:
            value = weighted_sum(upstream, offsets, masks, weights, 9)
            tl.store(result + written, tl.where(defined & (m == m), value, float("nan")), mask=inside)
        upstream += grad_c
        result += plane
        selection += mask_c


def masked_rotate(z: Tensor, theta: Tensor, mask: Tensor) -> Tensor:
    """rho(theta)(m z) + (1 - m) z."""
    return _forward(z, theta, mask, None)[0]


def consistency(z: Tensor, theta: Tensor, mask: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The same, and for each sample the sums of squares |(1 - m)(z - target)|^2 and |m (y - target)|^2."""
    return _forward(z, theta, mask, target)


def masked_rotate_backward(
    grad: Tensor, z: Tensor, theta: Tensor, mask: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of z, theta and the mask in `masked_rotate`."""
    return _backward(grad, None, None, z, theta, mask, None, 0)


def consistency_backward(
    grad: Tensor,
    grad_i: Tensor,
    grad_v: Tensor,
    z: Tensor,
    theta: Tensor,
    mask: Tensor,
    target: Tensor,
    estimator: str,
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of z, theta and the mask in `consistency`, given those of its three results."""
    return _backward(grad, grad_i, grad_v, z, theta, mask, target, _ESTIMATORS[estimator])


def _forward(z: Tensor, theta: Tensor, mask: Tensor, target: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    dtype, need_loss = z.dtype, target is not None
    z, theta, mask = (
        triton_support.readable(z),
        addressable(theta),
        addressable(mask),
    )
    # A tensor that is not needed is passed as another one and never touched.
    target = z if target is None else triton_support.readable(target)
    out = triton_support.empty(z.shape, dtype, z.device)
    if out.numel() == 0:
        return out.to(dtype), mask.new_zeros(theta.shape), mask.new_zeros(theta.shape)
    cut = plan(_FORWARD_PIXELS, z, target)
    partial = triton_support.empty(
        (2, z.shape[0], cut.programs_per_sample if need_loss else 0), torch.float64, z.device
    )
    with triton_support.on_device(z):
        masked_rotate_kernel[(z.shape[0] * cut.programs_per_sample,)](
            z, theta, mask, target, out, partial[0], partial[1], *z.shape[1:], *cut.tiles, cut.groups,
            cut.channels_each, *z.stride(), *target.stride(), theta.stride(0), *mask.stride(),
            NEED_LOSS=need_loss, WIDE=cut.wide, TILE_H=cut.tile[0], TILE_W=cut.tile[1],
        )  # fmt: skip
    loss_i, loss_v = partial.sum(2).to(mask.dtype)
    return out.to(dtype), loss_i, loss_v


def _backward(
    grad: Tensor,
    grad_i: Tensor | None,
    grad_v: Tensor | None,
    z: Tensor,
    theta: Tensor,
    mask: Tensor,
    target: Tensor | None,
    loss: int,
) -> tuple[Tensor, Tensor, Tensor]:
    dtype = z.dtype
    grad, z = triton_support.readable(grad), triton_support.readable(z)
    theta, mask = addressable(theta), addressable(mask)
    target = z if target is None else triton_support.readable(target)
    grad_i, grad_v = (theta if x is None else addressable(x) for x in (grad_i, grad_v))
    z_grad = triton_support.empty(z.shape, dtype, z.device)
    if z_grad.numel() == 0:
        return z_grad.to(dtype), mask.new_zeros(theta.shape), mask.new_zeros(mask.shape)
    turned = triton_support.empty(z.shape, mask.dtype, z.device) if loss else grad
    cut = plan(_BACKWARD_PIXELS, grad, z, target)
    programs = cut.programs_per_sample
    partial_theta = triton_support.empty((z.shape[0], programs), torch.float64, z.device)
    partial_mask = triton_support.empty((*mask.shape, math.prod(cut.tiles)), torch.float64, z.device)
    options = {"WIDE": cut.wide, "TILE_H": cut.tile[0], "TILE_W": cut.tile[1]}
    shared = *z.shape[1:], *cut.tiles, cut.groups, cut.channels_each
    with triton_support.on_device(z):
        partition_gradients_kernel[(z.shape[0] * programs,)](
            grad, grad_i, grad_v, z, theta, mask, target, turned, z_grad, partial_theta, partial_mask,
            *shared, *grad.stride(), *z.stride(), *target.stride(), theta.stride(0), grad_i.stride(0),
            grad_v.stride(0), *mask.stride(), LOSS=loss, **options,
        )  # fmt: skip
        partition_adjoint_kernel[(z.shape[0] * programs,)](
            turned, theta, mask, z_grad, *shared, *turned.stride(), theta.stride(0), *mask.stride(), **options
        )
    return z_grad.to(dtype), partial_theta.sum(1).to(mask.dtype), partial_mask.sum(2).to(mask.dtype)
