"""Where the values of a turned image come from and go to: what Triton kernels of rotations share.

Angles, coordinates and weights have the dtype T of the angles: float32, or float64 for float64 data.

The adjoint is a gather, so that no two programs write to one place. An output pixel p takes part in what the
input pixel q collects if q is one of the four corners of the cell that R p falls into. Then no component of
R p - q exceeds 1, so none of p - R^-1 q exceeds the square root of 2; with a half for rounding R^-1 q that is
less than 2, and p lies in the 3 x 3 window around the rounded place. Both directions compute R p by the same
function, whose rounding no compiler can choose, and so agree on the cell and on the weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import triton
import triton.language as tl
from torch import Tensor

from equikernels.ops.triton_support import ceil_div, needs_wide_offsets, tile_extents

# The window above has 0.08 pixels to spare for rounding errors, a few units in the last place of the size.
LARGEST_SIDE = 2**16
# Enough programs for a large GPU; more of them repeat the work on coordinates.
_PROGRAMS = 512


@dataclass(frozen=True)
class Plan:
    """How a batch of images is cut: programs take a tile of pixels and some channels of one sample."""

    tile: tuple[int, int]
    tiles: tuple[int, int]
    channels_each: int
    groups: int
    wide: bool

    @property
    def programs_per_sample(self) -> int:
        return self.groups * self.tiles[0] * self.tiles[1]


def plan(values: int, *images: Tensor) -> Plan:
    """The cut of images of one shape that are not empty into tiles of at most so many pixels."""
    batch, channels, height, width = images[0].shape
    if max(height, width) > LARGEST_SIDE:
        raise ValueError(f"z: expected at most {LARGEST_SIDE} rows and columns, got {height} x {width}")
    tile_h, tile_w = tile_extents((height, width), values)
    tiles = ceil_div(height, tile_h), ceil_div(width, tile_w)
    wanted = min(channels, ceil_div(_PROGRAMS, batch * tiles[0] * tiles[1]))
    each = ceil_div(channels, wanted)
    # Results are contiguous, whatever the images are.
    wide = height * width >= 2**31 or needs_wide_offsets(*images, dims=2)
    return Plan((tile_h, tile_w), tiles, each, ceil_div(channels, each), wide)


@triton.jit
def tile_pixels(program, tiles_h, tiles_w, TILE_H: tl.constexpr, TILE_W: tl.constexpr):
    """Rows and columns of a program's tile, and what the tiles leave of the program's number."""
    lane = tl.arange(0, TILE_H * TILE_W)
    row = program // tiles_w % tiles_h * TILE_H + lane // TILE_W
    column = program % tiles_w * TILE_W + lane % TILE_W
    return row, column, program // tiles_w // tiles_h


@triton.jit
def turn(theta):
    """Cosine, sine and whether the angle is finite; one that is not must not reach an address."""
    defined = theta - theta == 0
    angle = tl.where(defined, theta, 0.0)
    return tl.cos(angle), tl.sin(angle), defined


@triton.jit
def centre(size, T: tl.constexpr):
    return tl.full((), 0.5, T) * (size - 1)


@triton.jit
def turned(cosine, sine, dx, dy):
    """R (dx, dy), measured from the centre; R^-1 with -sine.

    Fused by hand: a compiler that fuses either product, as it likes, would round differently in each kernel.
    """
    return tl.fma(cosine, dx, -(sine * dy)), tl.fma(sine, dx, cosine * dy)


@triton.jit
def derivative(x, y, ORDER: tl.constexpr):
    """The k-th derivatives of X and Y by the angle, and the mixed terms of Leibniz' rule for X Y.

    For k = ORDER > 0: X^(k) = a X + b Y and Y^(k) = a Y - b X with a, b = Re i^k, -Im i^k; and since
    X Y = |.|^2 sin(2 phi) / 2, the terms 0 < j < k sum to (-1)^(k/2) (2^k - 2) X Y for even k, and to
    (-1)^((k-1)/2) (2^(k-1) - 1) (X^2 - Y^2) for odd k.
    """
    SIGN: tl.constexpr = 1.0 - 2.0 * (ORDER // 2 % 2)
    if ORDER % 2 == 0:
        dx = SIGN * x
        dy = SIGN * y
        mixed = SIGN * (2.0**ORDER - 2.0) * (x * y)
    else:
        dx = -SIGN * y
        dy = SIGN * x
        mixed = SIGN * (2.0 ** (ORDER - 1) - 1.0) * (x * x - y * y)
    return dx, dy, mixed


@triton.jit
def corner_weight(x, y, hat_x, hat_y, sign_x, sign_y, ORDER: tl.constexpr):
    """The k-th derivative of hat(X) hat(Y) for a corner of the cell; signs are the slopes of the hats."""
    if ORDER == 0:
        weight = hat_x * hat_y
    else:
        dx, dy, mixed = derivative(x, y, ORDER)
        weight = sign_x * hat_y * dx + sign_y * hat_x * dy + sign_x * sign_y * mixed
    return weight


@triton.jit
def taps(
    cosine, sine, row, column, height, width, stride_h, stride_w, T: tl.constexpr, ORDER: tl.constexpr,
    INDEX: tl.constexpr,
):  # fmt: skip
    """Where output pixels take their values from: offsets, masks and weights of four corners, as tuples."""
    centre_x = centre(width, T)
    centre_y = centre(height, T)
    x, y = turned(cosine, sine, column.to(T) - centre_x, row.to(T) - centre_y)
    left = tl.floor(x + centre_x)
    top = tl.floor(y + centre_y)
    right_hat = x + centre_x - left
    lower_hat = y + centre_y - top
    source_column = left.to(tl.int32)
    source_row = top.to(tl.int32)
    inside = (row < height) & (column < width)
    offsets, masks, weights = (), (), ()
    for corner in tl.static_range(4):
        r = source_row + corner // 2
        c = source_column + corner % 2
        # From 1 - hat to hat, and from -1 to 1: exact, as these factors are 0, 1 and -1.
        hat_x = 1 - corner % 2 + (2 * (corner % 2) - 1) * right_hat
        hat_y = 1 - corner // 2 + (2 * (corner // 2) - 1) * lower_hat
        weight = corner_weight(x, y, hat_x, hat_y, 2 * (corner % 2) - 1, 2 * (corner // 2) - 1, ORDER)
        offsets = offsets + (r.to(INDEX) * stride_h + c.to(INDEX) * stride_w,)
        masks = masks + (inside & (r >= 0) & (r < height) & (c >= 0) & (c < width),)
        weights = weights + (weight,)
    return offsets, masks, weights


@triton.jit
def window(
    cosine, sine, row, column, height, width, stride_h, stride_w, T: tl.constexpr, ORDER: tl.constexpr,
    INDEX: tl.constexpr,
):  # fmt: skip
    """Which output pixels an input pixel collects from: offsets, masks and weights of nine, as tuples."""
    centre_x = centre(width, T)
    centre_y = centre(height, T)
    q_x = column.to(T)
    q_y = row.to(T)
    near_x, near_y = turned(cosine, -sine, q_x - centre_x, q_y - centre_y)
    first_column = tl.floor(near_x + centre_x + 0.5).to(tl.int32) - 1
    first_row = tl.floor(near_y + centre_y + 0.5).to(tl.int32) - 1
    inside = (row < height) & (column < width)
    offsets, masks, weights = (), (), ()
    for place in tl.static_range(9):
        r = first_row + place // 3
        c = first_column + place % 3
        x, y = turned(cosine, sine, c.to(T) - centre_x, r.to(T) - centre_y)
        left = tl.floor(x + centre_x)
        top = tl.floor(y + centre_y)
        right_hat = x + centre_x - left
        lower_hat = y + centre_y - top
        is_left = left == q_x
        is_upper = top == q_y
        touched = (is_left | (left + 1 == q_x)) & (is_upper | (top + 1 == q_y))
        weight = corner_weight(
            x, y, tl.where(is_left, 1 - right_hat, right_hat), tl.where(is_upper, 1 - lower_hat, lower_hat),
            tl.where(is_left, -1.0, 1.0).to(T), tl.where(is_upper, -1.0, 1.0).to(T), ORDER,
        )  # fmt: skip
        offsets = offsets + (r.to(INDEX) * stride_h + c.to(INDEX) * stride_w,)
        masks = masks + (inside & touched & (r >= 0) & (r < height) & (c >= 0) & (c < width),)
        weights = weights + (weight,)
    return offsets, masks, weights


@triton.jit
def weighted_sum(image, offsets, masks, weights, COUNT: tl.constexpr):
    """The sum over places of weight times value; a masked place counts nothing, whatever lies there."""
    total = weights[0] * tl.load(image + offsets[0], mask=masks[0], other=0).to(weights[0].dtype)
    for place in tl.static_range(1, COUNT):
        value = tl.load(image + offsets[place], mask=masks[place], other=0)
        total += weights[place] * value.to(weights[0].dtype)
    return total


@triton.jit
def weighted_sums(image, offsets, masks, weights, others, COUNT: tl.constexpr):
    """The same with two weights for every place, which is read once."""
    value = tl.load(image + offsets[0], mask=masks[0], other=0).to(weights[0].dtype)
    total = weights[0] * value
    other = others[0] * value
    for place in tl.static_range(1, COUNT):
        value = tl.load(image + offsets[place], mask=masks[place], other=0).to(weights[0].dtype)
        total += weights[place] * value
        other += others[place] * value
    return total, other
