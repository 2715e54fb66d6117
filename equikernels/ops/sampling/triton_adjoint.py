"""The adjoint of sampling as a gather: every input place adds up the output places whose taps read it."""

# mypy: allow-untyped-calls, allow-untyped-decorators, allow-untyped-defs, disable-error-code=assignment

import triton
import triton.language as tl

from equikernels.ops.sampling.triton_geometry import (
    cell,
    centred,
    coefficients,
    derivative,
    image_of,
    is_finite,
    load_affine,
    offset_of,
    padded,
)
from equikernels.ops.sampling.triton_preimage import (
    both,
    columns_of_one,
    constraint,
    indices,
    rows_of_pair,
    slices_of_all,
)


@triton.jit
def weights_of(index, coordinate, size, NEAREST: tl.constexpr, BORDER: tl.constexpr):
    """Whether the taps of a coordinate read `index`, with which weight and which slope of the weight."""
    lower, distance = cell(coordinate, size, NEAREST)
    low = padded(lower, size, BORDER) == index
    if NEAREST:
        weight = low.to(coordinate.dtype)
        return low, weight, weight
    else:
        high = padded(lower + 1, size, BORDER) == index
        # Both, where border padding maps both to the edge.
        weight = tl.where(low, 1 - distance, 0.0) + tl.where(high, distance, 0.0)
        slope = high.to(coordinate.dtype) - low.to(coordinate.dtype)
        return low | high, weight, slope


@triton.jit
def load(pointer, mask, COMPUTE: tl.constexpr):
    return tl.load(pointer, mask=mask, other=0.0).to(COMPUTE)


@triton.jit
def adjoint_kernel(
    grad,
    out,
    matrix,
    directions,
    samples,
    channels,
    depth,
    height,
    width,
    stride_n,
    stride_c,
    stride_d,
    stride_h,
    stride_w,
    places,
    blocks,
    DIMS: tl.constexpr,
    K: tl.constexpr,
    NEAREST: tl.constexpr,
    BORDER: tl.constexpr,
    COMPUTE: tl.constexpr,
    EPSILON: tl.constexpr,
    OFFSET: tl.constexpr,
    BLOCK: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    """out[n, c, q] = sum over p of (weight of tap q in the K-th derivative at p) grad[n, c, p].

    A program has BLOCK places of CHANNELS channels of one sample; lane by lane the sum runs over slices, then
    rows, then columns, upwards, whatever the block.
    """
    program = tl.program_id(0)
    groups = tl.cdiv(channels, CHANNELS)
    group = (program // blocks) % groups
    sample = (program // blocks // groups).to(tl.int64)
    place = (program % blocks).to(OFFSET) * BLOCK + tl.arange(0, BLOCK)
    here = place < places
    q_x = (place % width).to(tl.int32)
    q_y = (place // width % height).to(tl.int32)
    q_z = (place // width // height).to(tl.int32)
    channel = group * CHANNELS
    grad += sample * stride_n + channel.to(tl.int64) * stride_c

    rows = load_affine(matrix + sample * (DIMS * (DIMS + 1)), DIMS)
    finite = is_finite(rows, DIMS)
    offset_x = offset_of(rows, 0, width, DIMS)
    offset_y = offset_of(rows, 1, height, DIMS)
    far_x, far_y, far_z = (width - 1) * 0.5, (height - 1) * 0.5, (depth - 1) * 0.5

    extent_x = tl.abs(rows[0]) * far_x + tl.abs(rows[1]) * far_y
    extent_y = tl.abs(rows[DIMS + 1]) * far_x + tl.abs(rows[DIMS + 2]) * far_y
    if DIMS == 3:
        offset_z = offset_of(rows, 2, depth, DIMS)
        extent_x += tl.abs(rows[2]) * far_z
        extent_y += tl.abs(rows[6]) * far_z
        extent_z = tl.abs(rows[8]) * far_x + tl.abs(rows[9]) * far_y + tl.abs(rows[10]) * far_z
        c, c_half = constraint(q_z, depth, offset_z, extent_z, NEAREST, BORDER, EPSILON)
    a, a_half = constraint(q_x, width, offset_x, extent_x, NEAREST, BORDER, EPSILON)
    b, b_half = constraint(q_y, height, offset_y, extent_y, NEAREST, BORDER, EPSILON)

    reached = here & ~(a_half < 0) & ~(b_half < 0)
    first_z, count_z = tl.zeros_like(q_x), reached.to(tl.int32)
    if DIMS == 3:
        low, high = slices_of_all(rows, a, a_half, b, b_half, c, c_half, EPSILON)
        first_z, count_z = indices(low, high, depth, EPSILON)
        count_z = tl.where(reached & ~(c_half < 0), count_z, 0)
    count_z = tl.where(finite, count_z, 0)

    total_0, total_1 = tl.zeros([BLOCK], COMPUTE), tl.zeros([BLOCK], COMPUTE)
    total_2, total_3 = total_0, total_1
    for i in range(tl.max(count_z, 0)):
        z = centred(first_z + i, depth, COMPUTE)
        # The constraints on the columns and rows of this slice.
        a_z, b_z = a, b
        if DIMS == 3:
            a_z, b_z, c_z = a - rows[2] * z, b - rows[6] * z, c - rows[10] * z
        low, high = rows_of_pair(
            rows[0], rows[1], a_z, a_half, rows[DIMS + 1], rows[DIMS + 2], b_z, b_half, EPSILON
        )
        if DIMS == 3:
            other = rows_of_pair(rows[0], rows[1], a_z, a_half, rows[8], rows[9], c_z, c_half, EPSILON)
            low, high = both(low, high, other[0], other[1])
            other = rows_of_pair(rows[4], rows[5], b_z, b_half, rows[8], rows[9], c_z, c_half, EPSILON)
            low, high = both(low, high, other[0], other[1])
        first_y, count_y = indices(low, high, height, EPSILON)
        count_y = tl.where(i < count_z, count_y, 0)
        for j in range(tl.max(count_y, 0)):
            y = centred(first_y + j, height, COMPUTE)
            low, high = columns_of_one(rows[0], a_z - rows[1] * y, a_half)
            other = columns_of_one(rows[DIMS + 1], b_z - rows[DIMS + 2] * y, b_half)
            low, high = both(low, high, other[0], other[1])
            if DIMS == 3:
                other = columns_of_one(rows[8], c_z - rows[9] * y, c_half)
                low, high = both(low, high, other[0], other[1])
            first_x, count_x = indices(low, high, width, EPSILON)
            count_x = tl.where(j < count_y, count_x, 0)
            line = (first_y + j).to(OFFSET) * stride_h
            if DIMS == 3:
                line += (first_z + i).to(OFFSET) * stride_d
            for k in range(tl.max(count_x, 0)):
                x = centred(first_x + k, width, COMPUTE)
                source = image_of(rows, 0, x, y, z, offset_x, DIMS)
                touches, x0, x1 = weights_of(q_x, source, width, NEAREST, BORDER)
                source = image_of(rows, 1, x, y, z, offset_y, DIMS)
                touches_y, y0, y1 = weights_of(q_y, source, height, NEAREST, BORDER)
                touches &= touches_y & (k < count_x)
                flat = (x0 * y0, x1 * y0, x0 * y1, x1 * y1)
                terms = flat
                if DIMS == 3:
                    source = image_of(rows, 2, x, y, z, offset_z, DIMS)
                    touches_z, z0, z1 = weights_of(q_z, source, depth, NEAREST, BORDER)
                    touches &= touches_z
                    p0, p1, p2, p3 = flat
                    terms = (p0 * z0, p1 * z0, p2 * z0, p3 * z0, p0 * z1, p1 * z1, p2 * z1, p3 * z1)
                factors = coefficients(directions, sample, samples, x, y, z, K, DIMS)
                weight = derivative(terms, factors, K, DIMS)
                position = line + (first_x + k).to(OFFSET) * stride_w
                # The weight where it is not wanted may be NaN.
                weight = tl.where(touches, weight, 0.0)
                source = grad + position
                total_0 += weight * load(source, touches, COMPUTE)
                if CHANNELS > 1:
                    total_1 += weight * load(source + stride_c, touches & (channel + 1 < channels), COMPUTE)
                if CHANNELS > 2:
                    source += 2 * tl.cast(stride_c, tl.int64)
                    total_2 += weight * load(source, touches & (channel + 2 < channels), COMPUTE)
                    total_3 += weight * load(source + stride_c, touches & (channel + 3 < channels), COMPUTE)

    target = out + (sample * channels + channel) * places + place
    tl.store(target, tl.where(finite, total_0, float("nan")), mask=here)
    if CHANNELS > 1:
        target += places
        tl.store(target, tl.where(finite, total_1, float("nan")), mask=here & (channel + 1 < channels))
    if CHANNELS > 2:
        target += places
        tl.store(target, tl.where(finite, total_2, float("nan")), mask=here & (channel + 2 < channels))
        target += places
        tl.store(target, tl.where(finite, total_3, float("nan")), mask=here & (channel + 3 < channels))
