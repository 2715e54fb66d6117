"""Highest weights of so(n): which exist, their dimensions and their Casimir eigenvalues."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import accumulate, pairwise
from typing import Any

import numpy as np

Weight = tuple[int, ...]
"""lambda_1 >= ... >= |lambda_m| >= 0 with m = floor(n / 2); only for even n may the last be negative."""


def is_integer(value: Any) -> bool:
    """Whether a value is a whole number of an integer type, which True is not."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def check_count(value: Any, name: str) -> int:
    """An integer >= 0; raises ValueError, naming the argument, where it is none."""
    if not is_integer(value) or value < 0:
        raise ValueError(f"{name} must be an integer >= 0, got {value!r}")
    return int(value)


def check_weight(label: Any, n: int, group: str, mirrored: bool = False) -> Weight:
    """A highest weight as a tuple of n // 2 integers; an integer k means (k, 0, ..., 0).

    Raises ValueError where it is none; `mirrored` allows a negative last entry.
    """
    rank = n // 2
    weight = (label,) + (0,) * (rank - 1) if is_integer(label) else label
    form = f"label must be a highest weight of {rank} integers lambda_1 >= ... >= "
    form += ("|lambda_m| >= 0" if mirrored else "lambda_m >= 0") + f" for {group}, got {label!r}"
    if not isinstance(weight, (tuple, list)) or len(weight) != rank or not all(map(is_integer, weight)):
        raise ValueError(form)
    found = tuple(int(entry) for entry in weight)
    size = (*found[:-1], abs(found[-1]))
    if any(a < b for a, b in pairwise(size)) or (found[-1] < 0 and not mirrored):
        raise ValueError(form)
    return found


def casimir(weight: Weight, n: int) -> int:
    """The eigenvalue sum_i lambda_i (lambda_i + n - 2 i) of the Casimir operator, i counted from 1."""
    return sum(entry * (entry + n - 2 * i) for i, entry in enumerate(weight, start=1))


def weyl_dimension(weight: Weight, n: int) -> int:
    """The complex dimension of an irrep of so(n), by Weyl's formula in integers.

    With l = 2 (lambda + rho), 2 rho_i = n - 2 i: the product of (l_i^2 - l_j^2) over i < j, and for odd n of
    the l_i, over the same for lambda = 0.

    >>> weyl_dimension((2, 0), 5), weyl_dimension((1, -1), 4)
    (14, 3)
    """

    def product(highest: Weight) -> int:
        shifted = [2 * entry + n - 2 * i for i, entry in enumerate(highest, start=1)]
        value = math.prod(a * a - b * b for i, a in enumerate(shifted) for b in shifted[i + 1 :])
        return value * math.prod(shifted) if n % 2 else value

    return product(weight) // product((0,) * len(weight))


def has_mirror(weight: Weight, n: int) -> bool:
    """Whether a reflection takes the irrep of so(n) to another one, that of the opposite last entry."""
    return n % 2 == 0 and weight[-1] != 0


def tensor_dimension(weight: Weight, n: int) -> int:
    """Dimension of the irrep of O(n): twice that of so(n) where a reflection joins a mirror pair."""
    return weyl_dimension(weight, n) * (2 if has_mirror(weight, n) else 1)


def weights_up_to(bounds: Weight, n: int) -> Iterator[Weight]:
    """The weights lambda (lambda_m >= 0), ascending, whose partial sums stay within those of `bounds`.

    These hold every weight that occurs in a representation of highest weight `bounds`.
    """
    limits = list(accumulate(bounds))

    def extend(found: Weight) -> Iterator[Weight]:
        if len(found) == n // 2:
            yield found
            return
        room = limits[len(found)] - sum(found)
        largest = min(room, found[-1]) if found else room
        for entry in range(largest + 1):
            yield from extend((*found, entry))

    yield from extend(())
