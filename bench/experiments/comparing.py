"""Comparing numbers of which one may be no number: the verdicts of all tables rest on it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence

__all__ = ["deviation", "largest"]


def largest(values: Iterable[float]) -> float:
    """The largest of some values; NaN if one of them is, which max() would pass over.

    >>> largest([1.0, 3.0]), largest([1.0, float("nan")])
    (3.0, nan)
    """
    found = list(values)
    return math.nan if any(map(math.isnan, found)) else max(found)


def deviation(values: Sequence[float]) -> float:
    """The standard deviation of two or more values; NaN where one is not finite, which the standard library
    refuses.

    >>> deviation([1.0, 3.0]), deviation([1.0, float("inf")])
    (1.41, nan)
    """
    return statistics.stdev(values) if all(map(math.isfinite, values)) else math.nan
