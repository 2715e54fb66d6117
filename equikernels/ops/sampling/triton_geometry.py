"""Device functions of affine sampling: places, source coordinates, taps, and the terms of interpolation.

Axes are numbered 0 (x, columns), 1 (y, rows), 2 (z, slices); an image is a volume of one slice whose third
axis is never looked at. The 2^d terms of a multilinear surface are numbered by the axes along which it is
differentiated: bit a of the number is set where axis a contributes its slope, not its value.
"""

# mypy: allow-untyped-calls, allow-untyped-decorators, allow-untyped-defs

import triton
import triton.language as tl


@triton.jit
def load_affine(pointer, DIMS: tl.constexpr):
    """The d rows of d + 1 entries of one affine map, as scalars."""
    p = pointer
    first = (tl.load(p), tl.load(p + 1), tl.load(p + 2), tl.load(p + 3), tl.load(p + 4), tl.load(p + 5))
    if DIMS == 2:
        return first
    else:
        p += 6
        last = (tl.load(p), tl.load(p + 1), tl.load(p + 2), tl.load(p + 3), tl.load(p + 4), tl.load(p + 5))
        return first + last


@triton.jit
def is_finite(rows, DIMS: tl.constexpr):
    finite = (rows[0] - rows[0]) == 0
    for entry in tl.static_range(1, DIMS * (DIMS + 1)):
        finite &= (rows[entry] - rows[entry]) == 0
    return finite


@triton.jit
def offset_of(rows, AXIS: tl.constexpr, size, DIMS: tl.constexpr):
    """The index along an axis to which the centre of the image is mapped."""
    return rows[AXIS * (DIMS + 1) + DIMS] + (size - 1) * 0.5


@triton.jit
def image_of(rows, AXIS: tl.constexpr, x, y, z, offset, DIMS: tl.constexpr):
    """One coordinate of the image of (x, y, z).

    Fused explicitly: a compiler that chose where to fuse could round differently in two kernels, and floor
    would then disagree about the cell.
    """
    total = offset
    if DIMS == 3:
        total = tl.fma(rows[AXIS * 4 + 2], z, total)
    total = tl.fma(rows[AXIS * (DIMS + 1) + 1], y, total)
    return tl.fma(rows[AXIS * (DIMS + 1)], x, total)


@triton.jit
def centred(index, size, COMPUTE: tl.constexpr):
    return index.to(COMPUTE) - (size - 1) * 0.5


@triton.jit
def cell(coordinate, size, NEAREST: tl.constexpr):
    """Index of the lower tap, and the distance from it; for nearest interpolation the only tap, and nothing.

    Everything further outside than all taps is moved to just outside, so that the index fits an integer. The
    comparisons are false for NaN, which an overflowing coordinate may be: it counts as outside too.
    """
    coordinate = tl.where(coordinate > -2, coordinate, -2.0)
    coordinate = tl.where(coordinate < size + 1, coordinate, size + 1.0)
    lower = tl.floor(coordinate)
    index = lower.to(tl.int32)
    distance = coordinate - lower
    if NEAREST:
        # Half to even, as torch.
        index += ((distance > 0.5) | ((distance == 0.5) & ((index & 1) == 1))).to(tl.int32)
    return index, distance


@triton.jit
def padded(index, size, BORDER: tl.constexpr):
    """The index a tap reads; one outside the image reads nothing."""
    if BORDER:
        index = tl.minimum(tl.maximum(index, 0), size - 1)
    return index


@triton.jit
def value_and_slope(low, high, distance):
    return (1 - distance) * low + distance * high, high - low


@triton.jit
def terms_of(taps, distances, DIMS: tl.constexpr):
    """The 2^d terms of the surface from its 2^d taps, numbered alike: one axis is transformed at a time."""
    a0, a1 = value_and_slope(taps[0], taps[1], distances[0])
    a2, a3 = value_and_slope(taps[2], taps[3], distances[0])
    b0, b2 = value_and_slope(a0, a2, distances[1])
    b1, b3 = value_and_slope(a1, a3, distances[1])
    if DIMS == 2:
        return b0, b1, b2, b3
    else:
        a4, a5 = value_and_slope(taps[4], taps[5], distances[0])
        a6, a7 = value_and_slope(taps[6], taps[7], distances[0])
        b4, b6 = value_and_slope(a4, a6, distances[1])
        b5, b7 = value_and_slope(a5, a7, distances[1])
        c0, c4 = value_and_slope(b0, b4, distances[2])
        c1, c5 = value_and_slope(b1, b5, distances[2])
        c2, c6 = value_and_slope(b2, b6, distances[2])
        c3, c7 = value_and_slope(b3, b7, distances[2])
        return c0, c1, c2, c3, c4, c5, c6, c7


@triton.jit
def moved(direction, x, y, z, DIMS: tl.constexpr):
    """The vector by which a direction, an affine map in memory, moves the source of (x, y, z)."""
    rows = load_affine(direction, DIMS)
    along_x = image_of(rows, 0, x, y, z, rows[DIMS], DIMS)
    along_y = image_of(rows, 1, x, y, z, rows[2 * DIMS + 1], DIMS)
    along_z = along_x
    if DIMS == 3:
        along_z = image_of(rows, 2, x, y, z, rows[11], DIMS)
    return along_x, along_y, along_z


@triton.jit
def coefficients(directions, sample, samples, x, y, z, K: tl.constexpr, DIMS: tl.constexpr):
    """What the K-fold directional derivative multiplies the terms with, at the places (x, y, z) of a sample.

    One direction: its coordinates, coefficients of d_x, d_y and d_z. Two: those of d_y d_z, d_x d_z and
    d_x d_y. Three: that of d_x d_y d_z, three times.
    """
    # Read where they are used: held across the loops of the adjoint they would not fit the registers.
    first = directions + sample * (DIMS * (DIMS + 1))
    following = tl.cast(samples, tl.int64) * (DIMS * (DIMS + 1))
    if K == 0:
        return x, y, z
    elif K == 1:
        return moved(first, x, y, z, DIMS)
    else:
        u, v = moved(first, x, y, z, DIMS), moved(first + following, x, y, z, DIMS)
        yz, xz, xy = u[1] * v[2] + u[2] * v[1], u[0] * v[2] + u[2] * v[0], u[0] * v[1] + u[1] * v[0]
        if K == 2:
            return yz, xz, xy
        else:
            w = moved(first + 2 * following, x, y, z, DIMS)
            every = yz * w[0] + xz * w[1] + xy * w[2]
            return every, every, every


@triton.jit
def derivative(terms, c, K: tl.constexpr, DIMS: tl.constexpr):
    """The K-fold directional derivative."""
    if K == 0:
        return terms[0]
    elif K == 1:
        total = c[0] * terms[1] + c[1] * terms[2]
        if DIMS == 3:
            total += c[2] * terms[4]
        return total
    elif K == 2:
        total = c[2] * terms[3]
        if DIMS == 3:
            total += c[1] * terms[5] + c[0] * terms[6]
        return total
    else:
        return c[0] * terms[7]


@triton.jit
def gradient(terms, c, K: tl.constexpr, DIMS: tl.constexpr):
    """The K-fold directional derivative of the d partial derivatives of the surface; K < d."""
    if DIMS == 2:
        if K == 0:
            return terms[1], terms[2]
        else:
            return c[1] * terms[3], c[0] * terms[3]
    elif K == 0:
        return terms[1], terms[2], terms[4]
    elif K == 1:
        along_x = c[1] * terms[3] + c[2] * terms[5]
        along_y = c[0] * terms[3] + c[2] * terms[6]
        along_z = c[0] * terms[5] + c[1] * terms[6]
        return along_x, along_y, along_z
    else:
        return c[0] * terms[7], c[1] * terms[7], c[2] * terms[7]
