"""The partition on a GPU. The mask (N, C) of channels holds 1, varying, 0, not varying, or NaN.

A channel is turned or copied as a whole, so its mask is a scalar to branch on; what a channel does not show
is selected away, never multiplied by zero. With y = rho(theta) z, which the losses and gradients take before
it is rounded to the dtype of z. Sums over pixels are taken in float64: every program writes its part, and the
parts are added in the order of the programs. A gradient that is not needed is not computed: its flag is
false, and an empty tensor takes its place.
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
def squared_distance(value, aim, inside):
    distance = value - tl.load(aim, mask=inside, other=0).to(value.dtype)
    return tl.where(inside, distance * distance, 0.0).to(tl.float64)


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
            copied = tl.load(image + here, mask=inside, other=0)
            tl.store(result + written, copied, mask=inside)
            if NEED_LOSS:
                loss_i += squared_distance(copied.to(m.dtype), aim + goal, inside)
        else:
            turned = weighted_sum(image, offsets, masks, weights, 4)
            turned = tl.where(defined & (m == m), turned, float("nan"))
            tl.store(result + written, turned, mask=inside)
            if NEED_LOSS:
                square = squared_distance(turned, aim + goal, inside)
                loss_v += square
                loss_i += tl.where(m == 1, 0.0, square)
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
    NEED_Z: tl.constexpr, NEED_THETA: tl.constexpr, NEED_MASK: tl.constexpr, LOSS: tl.constexpr,
    WIDE: tl.constexpr, TILE_H: tl.constexpr, TILE_W: tl.constexpr,
):  # fmt: skip
    """Gradients of angles and mask; with losses also those of y where m = 1, and of z where m = 0.

    The first, g + 2 g_v (y - target), is left in `turned_grad` for the adjoint; without losses it is g.
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
    slopes = weights
    if NEED_THETA:
        _, _, slopes = taps(
            cosine, sine, row, column, height, width, stride_h, stride_w, angle.dtype, 1, INDEX
        )
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
        y = tl.zeros([TILE_H * TILE_W], m.dtype)
        slope = y
        if m == 0:
            if NEED_MASK:
                y = weighted_sum(image, offsets, masks, weights, 4)
        else:
            if NEED_THETA:
                y, slope = weighted_sums(image, offsets, masks, weights, slopes, 4)
            else:
                y = weighted_sum(image, offsets, masks, weights, 4)
        of_turned = tl.load(upstream + above, mask=inside, other=0).to(m.dtype)
        if NEED_MASK or LOSS != _NO_LOSS:
            value = tl.load(image + here, mask=inside, other=0).to(m.dtype)
            of_mask = of_turned * (y - value)
        if LOSS != _NO_LOSS:
            aimed = tl.load(aim + goal, mask=inside, other=0).to(m.dtype)
            far_v = y - aimed
            far_i = value - aimed
            if LOSS == _STE:
                of_mask += tl.where(m == 0, 0.0, weight_v * far_v * y)
                of_mask -= tl.where(m == 1, 0.0, weight_i * far_i * value)
                # The mask itself appears in these terms.
                of_mask = tl.where(m == m, of_mask, float("nan"))
            else:
                of_mask += 0.5 * (weight_v * far_v * far_v - weight_i * far_i * far_i)
            of_copied = of_turned + weight_i * far_i
            of_turned += weight_v * far_v
            if NEED_Z:
                if m == 0:
                    tl.store(z_grad + place + written, of_copied, mask=inside)
                else:
                    tl.store(turned_grad + place + written, of_turned, mask=inside)
        if NEED_THETA:
            part = tl.where(defined & (m == m), of_turned * slope, float("nan"))
            of_theta += tl.where(inside, tl.where(m == 0, 0.0, part), 0.0).to(tl.float64)
        if NEED_MASK:
            # An angle that is not finite counts as 0 in a channel that it does not turn.
            of_mask = tl.where(inside, tl.where(defined | (m == 0), of_mask, float("nan")), 0.0)
            tl.store(sums, tl.sum(of_mask.to(tl.float64), 0))
        upstream += grad_c
        image += stride_c
        aim += target_c
        place += plane
        selection += mask_c
        sums += tiles_h * tiles_w
    if NEED_THETA:
        tl.store(partial_theta + tl.program_id(0), tl.sum(of_theta, 0))


@triton.jit
def partition_adjoint_kernel(
    turned_grad, theta, mask, z_grad, channels, height, width, tiles_h, tiles_w, groups, channels_each,
    grad_n, grad_c, grad_h, grad_w, stride_theta, mask_n, mask_c,
    COPY: tl.constexpr, WIDE: tl.constexpr, TILE_H: tl.constexpr, TILE_W: tl.constexpr,
):  # fmt: skip
    """z_grad = rho(theta)^T turned_grad where m = 1; other channels are copied, or left alone."""
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
    here = row.to(INDEX) * grad_h + column.to(INDEX) * grad_w
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
        elif COPY:
            tl.store(result + written, tl.load(upstream + here, mask=inside, other=0), mask=inside)
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
    grad: Tensor,
    z: Tensor,
    theta: Tensor,
    mask: Tensor,
    need_z: bool = True,
    need_theta: bool = True,
    need_mask: bool = True,
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of z, theta and the mask in `masked_rotate`."""
    return _backward(grad, None, z, theta, mask, None, 0, (need_z, need_theta, need_mask))


def consistency_backward(
    grad: Tensor,
    grad_i: Tensor,
    grad_v: Tensor,
    z: Tensor,
    theta: Tensor,
    mask: Tensor,
    target: Tensor,
    estimator: str,
    need_z: bool = True,
    need_theta: bool = True,
    need_mask: bool = True,
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of z, theta and the mask in `consistency`, given those of its three results."""
    needs = (need_z, need_theta, need_mask)
    return _backward(grad, (grad_i, grad_v), z, theta, mask, target, _ESTIMATORS[estimator], needs)


def _forward(z: Tensor, theta: Tensor, mask: Tensor, target: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    dtype, need_loss = z.dtype, target is not None
    z, theta, mask = triton_support.readable(z), addressable(theta), addressable(mask)
    # A tensor that is not needed is passed as another one and never touched.
    target = z if target is None else triton_support.readable(target)
    out = triton_support.empty(z.shape, dtype, z.device)
    if out.numel() == 0:
        return out.to(dtype), mask.new_zeros(theta.shape), mask.new_zeros(theta.shape)
    cut = plan(_FORWARD_PIXELS, z, target)
    partial = triton_support.empty(
        (2, z.shape[0] if need_loss else 0, cut.programs_per_sample), torch.float64, z.device
    )
    with triton_support.on_device(z):
        masked_rotate_kernel[(z.shape[0] * cut.programs_per_sample,)](
            z, theta, mask, target, out, partial[0], partial[1], *z.shape[1:], *cut.tiles, cut.groups,
            cut.channels_each, *z.stride(), *target.stride(), theta.stride(0), *mask.stride(),
            NEED_LOSS=need_loss, WIDE=cut.wide, TILE_H=cut.tile[0], TILE_W=cut.tile[1],
        )  # fmt: skip
    return out.to(dtype), _summed(partial[0], mask), _summed(partial[1], mask)


def _backward(
    grad: Tensor,
    loss_grads: tuple[Tensor, Tensor] | None,
    z: Tensor,
    theta: Tensor,
    mask: Tensor,
    target: Tensor | None,
    loss: int,
    needs: tuple[bool, bool, bool],
) -> tuple[Tensor, Tensor, Tensor]:
    dtype, (need_z, need_theta, need_mask) = z.dtype, needs
    grad, z = triton_support.readable(grad), triton_support.readable(z)
    theta, mask = addressable(theta), addressable(mask)
    target = z if target is None else triton_support.readable(target)
    grad_i, grad_v = map(addressable, loss_grads or (theta, theta))
    z_grad = triton_support.empty(z.shape if need_z else (0,), dtype, z.device)
    if z.numel() == 0:
        shapes = theta.shape if need_theta else (0,), mask.shape if need_mask else (0,)
        return z_grad.to(dtype), mask.new_zeros(shapes[0]), mask.new_zeros(shapes[1])
    turned = grad
    if loss and need_z:
        turned = triton_support.empty(z.shape, mask.dtype, z.device)
    cut = plan(_BACKWARD_PIXELS, grad, z, target)
    programs = cut.programs_per_sample
    partial_theta = triton_support.empty((z.shape[0] if need_theta else 0, programs), torch.float64, z.device)
    partial_mask = triton_support.empty(
        (*(mask.shape if need_mask else (0,)), math.prod(cut.tiles)), torch.float64, z.device
    )
    options = {"WIDE": cut.wide, "TILE_H": cut.tile[0], "TILE_W": cut.tile[1]}
    shared = *z.shape[1:], *cut.tiles, cut.groups, cut.channels_each
    with triton_support.on_device(z):
        if need_theta or need_mask or (loss and need_z):
            partition_gradients_kernel[(z.shape[0] * programs,)](
                grad, grad_i, grad_v, z, theta, mask, target, turned, z_grad, partial_theta, partial_mask,
                *shared, *grad.stride(), *z.stride(), *target.stride(), theta.stride(0), grad_i.stride(0),
                grad_v.stride(0), *mask.stride(), NEED_Z=need_z, NEED_THETA=need_theta, NEED_MASK=need_mask,
                LOSS=loss, **options,
            )  # fmt: skip
        if need_z:
            partition_adjoint_kernel[(z.shape[0] * programs,)](
                turned, theta, mask, z_grad, *shared, *turned.stride(), theta.stride(0), *mask.stride(),
                COPY=not loss, **options,
            )  # fmt: skip
    return z_grad.to(dtype), _summed(partial_theta, mask), _summed(partial_mask, mask)


def _summed(partial: Tensor, mask: Tensor) -> Tensor:
    """The sums of the parts, in the dtype of the mask; of no parts, because not needed, an empty tensor."""
    return partial.sum(-1).to(mask.dtype)
