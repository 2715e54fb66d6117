"""The rotation on a GPU: a program turns a tile of pixels of one sample, channel after channel.

Angle, coordinates and weights are computed once per tile and serve all of a program's channels.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from equikernels.ops import triton_support
from equikernels.ops.arguments import compute_dtype
from equikernels.ops.extension import addressable
from equikernels.ops.rotation.triton_geometry import (
    plan,
    taps,
    tile_pixels,
    turn,
    weighted_sum,
    window,
)

_APPLY_PIXELS = 256
_BACKWARD_PIXELS = 128


@triton.jit
def rotate_apply_kernel(
    z, theta, out, channels, height, width, tiles_h, tiles_w, groups, channels_each,
    stride_n, stride_c, stride_h, stride_w, stride_theta,
    ORDER: tl.constexpr, WIDE: tl.constexpr, TILE_H: tl.constexpr, TILE_W: tl.constexpr,
):  # fmt: skip
    """out[n, c] = A_k(theta[n]) z[n, c]."""
    INDEX: tl.constexpr = tl.int64 if WIDE else tl.int32
    row, column, unit = tile_pixels(tl.program_id(0), tiles_h, tiles_w, TILE_H, TILE_W)
    first = unit % groups * channels_each
    sample = (unit // groups).to(tl.int64)
    angle = tl.load(theta + sample * stride_theta)
    cosine, sine, defined = turn(angle)
    offsets, masks, weights = taps(
        cosine, sine, row, column, height, width, stride_h, stride_w, angle.dtype, ORDER, INDEX
    )
    inside = (row < height) & (column < width)
    target = row.to(INDEX) * width + column
    plane = sample * 0 + height
    plane = plane * width
    image = z + sample * stride_n + (sample * 0 + first) * stride_c
    result = out + (sample * channels + first) * plane
    for _ in range(first, tl.minimum(first + channels_each, channels)):
        value = weighted_sum(image, offsets, masks, weights, 4)
        tl.store(result + target, tl.where(defined, value, float("nan")), mask=inside)
        image += stride_c
        result += plane


@triton.jit
def rotate_backward_kernel(
    grad, z, theta, z_grad, partial, channels, height, width, tiles_h, tiles_w, groups, channels_each,
    grad_n, grad_c, grad_h, grad_w, stride_n, stride_c, stride_h, stride_w, stride_theta,
    NEED_Z: tl.constexpr, NEED_ANGLE: tl.constexpr, ORDER: tl.constexpr, WIDE: tl.constexpr,
    TILE_H: tl.constexpr, TILE_W: tl.constexpr,
):  # fmt: skip
    """z_grad[n, c] = A_k(theta[n])^T grad[n, c]; in `partial`, one number a program, <grad, A_{k+1} z>."""
    INDEX: tl.constexpr = tl.int64 if WIDE else tl.int32
    row, column, unit = tile_pixels(tl.program_id(0), tiles_h, tiles_w, TILE_H, TILE_W)
    first = unit % groups * channels_each
    sample = (unit // groups).to(tl.int64)
    angle = tl.load(theta + sample * stride_theta)
    cosine, sine, defined = turn(angle)
    inside = (row < height) & (column < width)
    plane = sample * 0 + height
    plane = plane * width
    upstream = grad + sample * grad_n + (sample * 0 + first) * grad_c
    image = z + sample * stride_n + (sample * 0 + first) * stride_c
    result = z_grad + (sample * channels + first) * plane
    target = row.to(INDEX) * width + column
    here = row.to(INDEX) * grad_h + column.to(INDEX) * grad_w
    if NEED_Z:
        offsets, masks, weights = window(
            cosine, sine, row, column, height, width, grad_h, grad_w, angle.dtype, ORDER, INDEX
        )
    if NEED_ANGLE:
        tap_offsets, tap_masks, slopes = taps(
            cosine, sine, row, column, height, width, stride_h, stride_w, angle.dtype, ORDER + 1, INDEX
        )
    products = tl.zeros([TILE_H * TILE_W], tl.float64)
    for _ in range(first, tl.minimum(first + channels_each, channels)):
        if NEED_Z:
            value = weighted_sum(upstream, offsets, masks, weights, 9)
            tl.store(result + target, tl.where(defined, value, float("nan")), mask=inside)
        if NEED_ANGLE:
            slope = weighted_sum(image, tap_offsets, tap_masks, slopes, 4)
            products += tl.load(upstream + here, mask=inside, other=0).to(slope.dtype) * slope
        upstream += grad_c
        image += stride_c
        result += plane
    if NEED_ANGLE:
        total = tl.sum(products, 0)
        tl.store(partial + tl.program_id(0), tl.where(defined, total, float("nan")))


def apply(z: Tensor, theta: Tensor, order: int) -> Tensor:
    """A_k z, with A_k the k-th derivative of the rotation with respect to its angle; k = `order`."""
    dtype = z.dtype
    z, theta = triton_support.readable(z), addressable(theta)
    out = triton_support.empty(z.shape, dtype, z.device)
    if out.numel():
        cut = plan(_APPLY_PIXELS, z)
        with triton_support.on_device(z):
            rotate_apply_kernel[(z.shape[0] * cut.programs_per_sample,)](
                z, theta, out, *z.shape[1:], *cut.tiles, cut.groups, cut.channels_each, *z.stride(),
                theta.stride(0), ORDER=order, WIDE=cut.wide, TILE_H=cut.tile[0], TILE_W=cut.tile[1],
            )  # fmt: skip
    return out.to(dtype)


def adjoint(grad: Tensor, theta: Tensor, order: int) -> Tensor:
    """A_k^T grad."""
    return _backward(grad, None, theta, order, True)[0]


def angle_grad(grad: Tensor, z: Tensor, theta: Tensor, order: int) -> Tensor:
    """<grad, A_{k+1} z> of each sample: the derivative of <grad, A_k z> with respect to its angle."""
    return _backward(grad, z, theta, order, False)[1]


def backward(grad: Tensor, z: Tensor, theta: Tensor, order: int) -> tuple[Tensor, Tensor]:
    """Both of the above, in one pass."""
    return _backward(grad, z, theta, order, True)


def _backward(
    grad: Tensor, z: Tensor | None, theta: Tensor, order: int, need_z: bool
) -> tuple[Tensor, Tensor]:
    dtype = grad.dtype
    grad, theta = triton_support.readable(grad), addressable(theta)
    need_angle = z is not None
    # A tensor that is not needed is passed as another one and never touched.
    z = grad if z is None else triton_support.readable(z)
    z_grad = triton_support.empty(grad.shape if need_z else (0,), dtype, grad.device)
    batch = grad.shape[0]
    if grad.numel() == 0:
        # A sample without channels or pixels still has an angle, and its gradient is zero.
        return z_grad.to(dtype), theta.new_zeros(batch if need_angle else 0, dtype=compute_dtype(dtype))
    cut = plan(_BACKWARD_PIXELS, grad, z)
    programs = cut.programs_per_sample
    partial = triton_support.empty((batch, programs if need_angle else 0), torch.float64, grad.device)
    with triton_support.on_device(grad):
        rotate_backward_kernel[(batch * programs,)](
            grad, z, theta, z_grad, partial, *grad.shape[1:], *cut.tiles, cut.groups, cut.channels_each,
            *grad.stride(), *z.stride(), theta.stride(0), NEED_Z=need_z, NEED_ANGLE=need_angle, ORDER=order,
            WIDE=cut.wide, TILE_H=cut.tile[0], TILE_W=cut.tile[1],
        )  # fmt: skip
    return z_grad.to(dtype), partial.sum(1).to(compute_dtype(dtype))
