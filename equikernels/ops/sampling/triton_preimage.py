"""Device functions that bound, for one input place, the output places whose taps reach it.

The taps of an output place p touch input index q of an axis exactly when the source coordinate of p lies in
an interval around q; with border padding the interval of an edge index extends to infinity. The three (two)
intervals cut a polytope out of the output, which is walked slice by slice, row by row: eliminating variables
from the inequalities |<m_a, p> - middle_a| <= half_a bounds the slices; given a slice, the rows; given a row,
the columns. Bounds are widened by what rounding can do to them, so that nothing is missed, and whether a
place really touches q is decided again from its source coordinates. A bound that is NaN, because a matrix is
singular or something overflowed, leaves the whole range.
"""

# mypy: allow-untyped-calls, allow-untyped-decorators, allow-untyped-defs

import triton
import triton.language as tl


@triton.jit
def constraint(
    index, size, offset, extent, NEAREST: tl.constexpr, BORDER: tl.constexpr, EPSILON: tl.constexpr
):
    """Middle and half width of the values of <m, p> whose places touch `index` of an axis.

    `extent` bounds <m, p> over the output and cuts the infinite intervals. A negative half width is an empty
    interval.
    """
    radius: tl.constexpr = 0.5 if NEAREST else 1.0
    low = index - radius - offset
    high = index + radius - offset
    low = tl.where(low > -extent, low, -extent)
    high = tl.where(high < extent, high, extent)
    if BORDER:
        low = tl.where(index == 0, -extent, low)
        high = tl.where(index == size - 1, extent, high)
    # Rounding of the source coordinates themselves, and of these bounds; infinite where they may overflow.
    reach = extent + tl.abs(offset) + size
    slack = 8 * EPSILON * (reach + reach)
    return (low + high) * 0.5, (high - low) * 0.5 + slack


@triton.jit
def quotient(middle, half, magnitude, determinant, products, EPSILON: tl.constexpr):
    """The bounds of t where |determinant t - middle| <= half.

    `magnitude` bounds the terms that `middle` and `half` were added up from, `products` those of the
    determinant: what their roundings scale with.
    """
    size = tl.abs(determinant)
    condition = products / size
    # A determinant that is mostly rounding error, or too small for its products to have been exact, says
    # nothing.
    trusted = (size > 1e-30) & (EPSILON * condition < 0.01)
    width = (half + 16 * EPSILON * (1 + condition) * magnitude) / size
    width = tl.where(trusted, width, float("inf"))
    centre = middle / determinant
    return centre - width, centre + width


@triton.jit
def rows_of_pair(ax, ay, a, a_half, bx, by, b, b_half, EPSILON: tl.constexpr):
    """The bounds of y where |ax x + ay y - a| <= a_half and |bx x + by y - b| <= b_half for some x."""
    return quotient(
        ax * b - bx * a,
        tl.abs(ax) * b_half + tl.abs(bx) * a_half,
        tl.abs(ax) * (tl.abs(b) + b_half) + tl.abs(bx) * (tl.abs(a) + a_half),
        ax * by - ay * bx,
        tl.abs(ax * by) + tl.abs(ay * bx),
        EPSILON,
    )


@triton.jit
def slices_of_all(rows, a, a_half, b, b_half, c, c_half, EPSILON: tl.constexpr):
    """The bounds of z where all three constraints hold for some x and y."""
    # Minors of the first two columns; z is their combination with the right-hand sides.
    of_a = rows[4] * rows[9] - rows[5] * rows[8]
    of_b = rows[1] * rows[8] - rows[0] * rows[9]
    of_c = rows[0] * rows[5] - rows[1] * rows[4]
    of_a_products = tl.abs(rows[4] * rows[9]) + tl.abs(rows[5] * rows[8])
    of_b_products = tl.abs(rows[1] * rows[8]) + tl.abs(rows[0] * rows[9])
    of_c_products = tl.abs(rows[0] * rows[5]) + tl.abs(rows[1] * rows[4])
    return quotient(
        of_a * a + of_b * b + of_c * c,
        tl.abs(of_a) * a_half + tl.abs(of_b) * b_half + tl.abs(of_c) * c_half,
        of_a_products * (tl.abs(a) + a_half)
        + of_b_products * (tl.abs(b) + b_half)
        + of_c_products * (tl.abs(c) + c_half),
        of_a * rows[2] + of_b * rows[6] + of_c * rows[10],
        of_a_products * tl.abs(rows[2]) + of_b_products * tl.abs(rows[6]) + of_c_products * tl.abs(rows[10]),
        EPSILON,
    )


@triton.jit
def both(low, high, other_low, other_high):
    """The intersection of two intervals; a NaN bound of the second is none."""
    return tl.where(other_low > low, other_low, low), tl.where(other_high < high, other_high, high)


@triton.jit
def columns_of_one(m, a, half):
    """The bounds of x where |m x - a| <= half."""
    usable = tl.abs(m) > 1e-30
    divisor = tl.where(usable, m, 1.0)
    # A constraint without x holds everywhere or nowhere.
    width = tl.where(usable, half / tl.abs(divisor), tl.where(tl.abs(a) > half, -float("inf"), float("inf")))
    centre = tl.where(usable, a / divisor, 0.0)
    return centre - width, centre + width


@triton.jit
def indices(low, high, size, EPSILON: tl.constexpr):
    """First index and number of indices whose centred coordinates lie between the bounds."""
    centre = (size - 1) * 0.5
    low += centre - 4 * EPSILON * size
    high += centre + 4 * EPSILON * size
    low = tl.where(low > 0, low, 0.0)
    low = tl.where(low < size, low, size * 1.0)
    high = tl.where(high < size - 1, high, size - 1.0)
    high = tl.where(high > -1, high, -1.0)
    first = tl.ceil(low).to(tl.int32)
    return first, tl.maximum(tl.floor(high).to(tl.int32) - first + 1, 0)
