"""A rotation as an exact turn of the grid and shears along its axes.

In coordinates from the centre, x to the right and y downwards, the output at p is the input at M p,

    M = [[c, -s], [s, c]] = [[1, a], [0, 1]] [[1, 0], [s, 1]] [[1, a], [0, 1]],
    a = -tan(theta / 2) = -s / (1 + c),

so a rotation is a shift of every row by a y, of every column by s x, and of every row by a y again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor

Item = TypeVar("Item")
Shears = tuple[tuple[str, Tensor], ...]
"""Axis and slope (N,) of the shears up to the middle one; after it the others come back in reverse order."""


def decompose(theta: Tensor, square: bool) -> tuple[Tensor, Shears, Tensor]:
    """Quarter turns (N,) in 0 .. 3 before the shears, the shears, and quarter turns after them.

    A square takes the nearest quarter turn of the angles `theta` (N,), and three shears for the rest, at most
    45 degrees. Other images keep their shape under half turns only: the rest is at most 90 degrees, and
    turning by half of it twice keeps every shear as small as on squares. Neighbouring shears of rows add up,
    so they are five.

    A quarter turn makes shears of columns from shears of rows, so it does not commute with the three. By 90
    degrees it comes before them and by -90 degrees after them: then -theta is the inverse of theta.
    """
    cosine, sine = theta.cos(), theta.sin()
    if square:
        turns, cosine, sine = _nearest_quarter(cosine, sine)
    else:
        turns = torch.where(cosine < 0, 2, 0)
        sign = 1 - turns
        cosine, sine = _half_angle(sign * cosine, sign * sine)
    before, after = torch.where(turns == 3, 0, turns), torch.where(turns == 3, 3, 0)
    slope = -sine / (1 + cosine)
    shears = (("rows", slope), ("columns", sine))
    return before, shears if square else (*shears, ("rows", 2 * slope)), after


def palindrome(half: Sequence[Item]) -> tuple[Item, ...]:
    """All shears, or what was made of them, from those up to the middle.

    >>> palindrome("abc")
    ('a', 'b', 'c', 'b', 'a')
    """
    return (*half, *half[-2::-1])


def _nearest_quarter(cosine: Tensor, sine: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Quarter turns, and cosine and sine of the angle that is left.

    By comparison instead of by division: exact for angles of any size, and for -theta exactly the inverse
    turn and minus the angle that is left, at 45 degrees too.
    """
    sideways = sine.abs() > cosine.abs()
    turns = torch.where(sideways, torch.where(sine > 0, 1, 3), torch.where(cosine < 0, 2, 0))
    sign = torch.where(turns < 2, 1, -1)
    return turns, sign * torch.where(sideways, sine, cosine), sign * torch.where(sideways, -cosine, sine)


def _half_angle(cosine: Tensor, sine: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine and sine of half an angle within 90 degrees."""
    half = ((1 + cosine) / 2).sqrt()
    return half, sine / (2 * half)


def offsets(size: int, like: Tensor) -> Tensor:
    """Coordinates (size,) of the pixels along an axis, from its centre."""
    return torch.arange(size, dtype=like.dtype, device=like.device) - (size - 1) / 2
