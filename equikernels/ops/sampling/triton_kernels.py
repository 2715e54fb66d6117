"""Triton kernels of affine sampling and their launchers: plain GPU tensors of any strides.

One program has one sample and one block of output places: coordinates and weights once, channels inside. No
kernel uses an atomic, and every sum has a fixed order.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from equikernels.ops import triton_support
from equikernels.ops.backends import BackendError
from equikernels.ops.sampling.triton_adjoint import adjoint_kernel
from equikernels.ops.sampling.triton_geometry import (
    cell,
    centred,
    coefficients,
    derivative,
    gradient,
    image_of,
    is_finite,
    load_affine,
    offset_of,
    padded,
    terms_of,
)

MODES = ("bilinear", "nearest")
PADDINGS = ("zeros", "border")
# Places of a program, and channels of one of the adjoint, which keeps their sums in registers.
BLOCK = 128
CHANNELS = 4


@triton.jit
def places_of(
    program, blocks, width, height, depth,
    COMPUTE: tl.constexpr, OFFSET: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The output places of a program: their numbers and centred coordinates."""
    place = (program % blocks).to(OFFSET) * BLOCK + tl.arange(0, BLOCK)
    x = centred((place % width).to(tl.int32), width, COMPUTE)
    y = centred((place // width % height).to(tl.int32), height, COMPUTE)
    z = centred((place // width // height).to(tl.int32), depth, COMPUTE)
    return place, x, y, z


@triton.jit
def axis_taps(
    rows, AXIS: tl.constexpr, x, y, z, size, stride,
    DIMS: tl.constexpr, NEAREST: tl.constexpr, BORDER: tl.constexpr, OFFSET: tl.constexpr,
):  # fmt: skip
    """Position in memory and presence of the lower and the upper tap along an axis, and the distance."""
    source = image_of(rows, AXIS, x, y, z, offset_of(rows, AXIS, size, DIMS), DIMS)
    lower, distance = cell(source, size, NEAREST)
    low, high = padded(lower, size, BORDER), padded(lower + 1, size, BORDER)
    low_there, high_there = (low >= 0) & (low < size), (high >= 0) & (high < size)
    return low.to(OFFSET) * stride, low_there, high.to(OFFSET) * stride, high_there, distance


@triton.jit
def load_tap(plane, x, x_there, y, y_there, z, z_there, COMPUTE: tl.constexpr):
    return tl.load(plane + (x + y + z), mask=x_there & y_there & z_there, other=0.0).to(COMPUTE)


@triton.jit
def load_terms(plane, x, y, z, active, DIMS: tl.constexpr, NEAREST: tl.constexpr, COMPUTE: tl.constexpr):
    """The terms of the surface of a plane at the places whose taps are x, y, z; see `terms_of`."""
    t0 = load_tap(plane, x[0], x[1], y[0], y[1], z[0], z[1] & active, COMPUTE)
    if NEAREST:
        return (t0,)
    else:
        t1 = load_tap(plane, x[2], x[3], y[0], y[1], z[0], z[1] & active, COMPUTE)
        t2 = load_tap(plane, x[0], x[1], y[2], y[3], z[0], z[1] & active, COMPUTE)
        t3 = load_tap(plane, x[2], x[3], y[2], y[3], z[0], z[1] & active, COMPUTE)
        distances = (x[4], y[4], z[4])
        if DIMS == 2:
            return terms_of((t0, t1, t2, t3), distances, DIMS)
        else:
            t4 = load_tap(plane, x[0], x[1], y[0], y[1], z[2], z[3] & active, COMPUTE)
            t5 = load_tap(plane, x[2], x[3], y[0], y[1], z[2], z[3] & active, COMPUTE)
            t6 = load_tap(plane, x[0], x[1], y[2], y[3], z[2], z[3] & active, COMPUTE)
            t7 = load_tap(plane, x[2], x[3], y[2], y[3], z[2], z[3] & active, COMPUTE)
            return terms_of((t0, t1, t2, t3, t4, t5, t6, t7), distances, DIMS)


@triton.jit
def apply_kernel(
    z, out, matrix, directions, samples, channels, depth, height, width,
    stride_n, stride_c, stride_d, stride_h, stride_w, places, blocks,
    DIMS: tl.constexpr, K: tl.constexpr, NEAREST: tl.constexpr, BORDER: tl.constexpr,
    COMPUTE: tl.constexpr, OFFSET: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """out[n, c, p] = the K-th derivative along the directions of the surface of z[n, c] at M_n [p; 1]."""
    program = tl.program_id(0)
    sample = (program // blocks).to(tl.int64)
    place, p_x, p_y, p_z = places_of(program, blocks, width, height, depth, COMPUTE, OFFSET, BLOCK)
    active = place < places
    rows = load_affine(matrix + sample * (DIMS * (DIMS + 1)), DIMS)
    finite = is_finite(rows, DIMS)
    factors = coefficients(directions, sample, samples, p_x, p_y, p_z, K, DIMS)
    x = axis_taps(rows, 0, p_x, p_y, p_z, width, stride_w, DIMS, NEAREST, BORDER, OFFSET)
    y = axis_taps(rows, 1, p_x, p_y, p_z, height, stride_h, DIMS, NEAREST, BORDER, OFFSET)
    deep = (place * 0, active, place * 0, active, p_z)
    if DIMS == 3:
        deep = axis_taps(rows, 2, p_x, p_y, p_z, depth, stride_d, DIMS, NEAREST, BORDER, OFFSET)
    for channel in range(channels):
        plane = z + sample * stride_n + tl.cast(channel, tl.int64) * stride_c
        terms = load_terms(plane, x, y, deep, active, DIMS, NEAREST, COMPUTE)
        value = tl.where(finite, derivative(terms, factors, K, DIMS), float("nan"))
        tl.store(out + (sample * channels + channel) * places + place, value, mask=active)


@triton.jit
def matrix_grad_kernel(
    grad, z, partial, matrix, directions, samples, channels, depth, height, width,
    grad_stride_n, grad_stride_c, grad_stride_d, grad_stride_h, grad_stride_w,
    stride_n, stride_c, stride_d, stride_h, stride_w, places, blocks,
    DIMS: tl.constexpr, K: tl.constexpr, BORDER: tl.constexpr,
    COMPUTE: tl.constexpr, OFFSET: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """partial[n, block] = sum over c and p in the block of grad[n, c, p] (gradient of F_K at p) [p; 1]^T."""
    program = tl.program_id(0)
    sample = (program // blocks).to(tl.int64)
    place, p_x, p_y, p_z = places_of(program, blocks, width, height, depth, COMPUTE, OFFSET, BLOCK)
    active = place < places
    rows = load_affine(matrix + sample * (DIMS * (DIMS + 1)), DIMS)
    finite = is_finite(rows, DIMS)
    factors = coefficients(directions, sample, samples, p_x, p_y, p_z, K, DIMS)
    x = axis_taps(rows, 0, p_x, p_y, p_z, width, stride_w, DIMS, False, BORDER, OFFSET)
    y = axis_taps(rows, 1, p_x, p_y, p_z, height, stride_h, DIMS, False, BORDER, OFFSET)
    deep = (place * 0, active, place * 0, active, p_z)
    if DIMS == 3:
        deep = axis_taps(rows, 2, p_x, p_y, p_z, depth, stride_d, DIMS, False, BORDER, OFFSET)
    position = (place % width) * grad_stride_w + (place // width % height) * grad_stride_h
    position += (place // width // height) * grad_stride_d
    total_x, total_y, total_z = tl.zeros_like(p_x), tl.zeros_like(p_x), tl.zeros_like(p_x)
    for channel in range(channels):
        plane = z + sample * stride_n + tl.cast(channel, tl.int64) * stride_c
        slopes = gradient(load_terms(plane, x, y, deep, active, DIMS, False, COMPUTE), factors, K, DIMS)
        upstream = grad + sample * grad_stride_n + tl.cast(channel, tl.int64) * grad_stride_c
        pixels = tl.load(upstream + position, mask=active, other=0.0).to(COMPUTE)
        total_x += pixels * slopes[0]
        total_y += pixels * slopes[1]
        if DIMS == 3:
            total_z += pixels * slopes[2]
    partial += program.to(tl.int64) * (DIMS * (DIMS + 1))
    store_row(partial, total_x, p_x, p_y, p_z, active, finite, DIMS)
    store_row(partial + (DIMS + 1), total_y, p_x, p_y, p_z, active, finite, DIMS)
    if DIMS == 3:
        store_row(partial + 8, total_z, p_x, p_y, p_z, active, finite, DIMS)


@triton.jit
def store_row(target, slope, x, y, z, active, finite, DIMS: tl.constexpr):
    """The sums of slope [p; 1]."""
    slope = tl.where(active, slope, 0.0)
    slope = tl.where(finite, slope, float("nan"))
    tl.store(target, tl.sum(slope * x, 0))
    tl.store(target + 1, tl.sum(slope * y, 0))
    if DIMS == 3:
        tl.store(target + 2, tl.sum(slope * z, 0))
    tl.store(target + DIMS, tl.sum(slope, 0))


def apply(z: Tensor, matrix: Tensor, directions: Tensor, mode: str, padding: str) -> Tensor:
    """The k-th derivative of sampling `z` at `matrix` along the k `directions`; sampling itself for none."""
    _check(mode, padding)
    if _vanishes(matrix, len(directions), mode):
        return _zeros(z, matrix)
    z, dtype = triton_support.readable(z), z.dtype
    out = triton_support.empty(z.shape, dtype, z.device)
    arguments, grid = _arguments(z, out, matrix, directions)
    if out.numel():
        with triton_support.on_device(z):
            apply_kernel[grid](
                z, out, **arguments, NEAREST=mode == "nearest", BORDER=padding == "border", num_warps=4
            )
    return out.to(dtype)


def adjoint(grad: Tensor, matrix: Tensor, directions: Tensor, mode: str, padding: str) -> Tensor:
    """The transpose of `apply`, applied to `grad`."""
    _check(mode, padding)
    if _vanishes(matrix, len(directions), mode):
        return _zeros(grad, matrix)
    grad, dtype = triton_support.readable(grad), grad.dtype
    out = triton_support.empty(grad.shape, dtype, grad.device)
    arguments, grid = _arguments(grad, out, matrix, directions)
    channels = min(CHANNELS, triton.next_power_of_2(max(grad.shape[1], 1)))
    # Left alone, the assembler prefers spilling a few registers to running fewer programs at a time.
    registers = (255 if matrix.dtype == torch.float64 else 128) if len(directions) else None
    if out.numel():
        with triton_support.on_device(grad):
            adjoint_kernel[(grid[0] * triton.cdiv(grad.shape[1], channels),)](
                grad, out, **arguments, NEAREST=mode == "nearest", BORDER=padding == "border",
                EPSILON=torch.finfo(matrix.dtype).eps, CHANNELS=channels, num_warps=4, maxnreg=registers,
            )  # fmt: skip
    return out.to(dtype)


def matrix_grad(
    grad: Tensor, z: Tensor, matrix: Tensor, directions: Tensor, mode: str, padding: str
) -> Tensor:
    """The gradient of <grad, apply(z, matrix, directions)> with respect to the matrix of each sample."""
    _check(mode, padding)
    if _vanishes(matrix, len(directions) + 1, mode):
        return _zeros(matrix, matrix)
    grad, z = triton_support.readable(grad), triton_support.readable(z)
    arguments, grid = _arguments(z, grad, matrix, directions)
    blocks = arguments["blocks"]
    partial = triton_support.empty((len(matrix), blocks, *matrix.shape[1:]), matrix.dtype, z.device)
    if z.numel():
        with triton_support.on_device(z):
            matrix_grad_kernel[grid](
                grad, z, partial, **_strides(grad, "grad_"), **arguments, BORDER=padding == "border",
                num_warps=4,
            )  # fmt: skip
    elif partial.numel():
        partial.zero_()
    return partial.sum(1)


def backward(
    grad: Tensor, z: Tensor, matrix: Tensor, directions: Tensor, mode: str, padding: str
) -> tuple[Tensor, Tensor]:
    """`adjoint` and `matrix_grad`."""
    return (
        adjoint(grad, matrix, directions, mode, padding),
        matrix_grad(grad, z, matrix, directions, mode, padding),
    )


def _check(mode: str, padding: str) -> None:
    if mode not in MODES or padding not in PADDINGS:
        raise BackendError(
            f"the triton kernels of sampling have mode {' or '.join(MODES)} and padding "
            f"{' or '.join(PADDINGS)}, not mode={mode!r} with padding={padding!r}; "
            'backend="reference" runs it'
        )


def _vanishes(matrix: Tensor, order: int, mode: str) -> bool:
    """Whether derivatives of this order are zero everywhere: one along each axis is the most there is."""
    return order > (0 if mode == "nearest" else matrix.shape[1])


def _zeros(like: Tensor, matrix: Tensor) -> Tensor:
    """Zeros, and NaN for the samples without a finite matrix."""
    finite = matrix.isfinite().flatten(1).all(1).view(-1, *(1,) * (like.dim() - 1))
    out = torch.zeros(like.shape, dtype=like.dtype, device=like.device)
    return out.masked_fill_(~finite, torch.nan)


def _strides(x: Tensor, prefix: str = "") -> dict[str, int]:
    n, c, *places = x.stride()
    depth, height, width = places if len(places) == 3 else (0, *places)
    values = {"n": n, "c": c, "d": depth, "h": height, "w": width}
    return {f"{prefix}stride_{name}": value for name, value in values.items()}


def _arguments(
    x: Tensor, other: Tensor, matrix: Tensor, directions: Tensor
) -> tuple[dict[str, Any], tuple[int]]:
    """What all kernels take, and the grid of one program for every block of every sample."""
    samples, channels, *sizes = x.shape
    depth, height, width = sizes if len(sizes) == 3 else (1, *sizes)
    places = depth * height * width
    blocks = triton.cdiv(places, BLOCK)
    wide = triton_support.needs_wide_offsets(x, other, dims=len(sizes))
    arguments = {
        "matrix": triton_support.readable(matrix).contiguous(),
        "directions": triton_support.readable(directions).contiguous(),
        "samples": samples,
        "channels": channels,
        "depth": depth,
        "height": height,
        "width": width,
        **_strides(x),
        "places": places,
        "blocks": blocks,
        "DIMS": len(sizes),
        "K": len(directions),
        "COMPUTE": tl.float64 if matrix.dtype == torch.float64 else tl.float32,
        "OFFSET": tl.int64 if wide else tl.int32,
        "BLOCK": BLOCK,
    }
    return arguments, (samples * blocks,)
