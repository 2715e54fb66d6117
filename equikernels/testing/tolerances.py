"""How far two computations of the same thing may differ, by dtype."""

from __future__ import annotations

from typing import NamedTuple

import torch


class Tolerance(NamedTuple):
    """|a - b| <= atol + rtol |b|, as torch.testing.assert_close takes them."""

    rtol: float
    atol: float


TOLERANCES: dict[torch.dtype, Tolerance] = {
    torch.float64: Tolerance(1e-10, 1e-10),
    torch.float32: Tolerance(1e-4, 1e-5),
    torch.bfloat16: Tolerance(3e-2, 3e-2),
    torch.float16: Tolerance(4e-3, 4e-3),
}
"""Room for the rounding of sums of a few hundred terms of order one, not for errors."""


def tolerance(dtype: torch.dtype) -> Tolerance:
    """The tolerance of a floating dtype; raises ValueError for a dtype without one.

    >>> tolerance(torch.float32)
    Tolerance(rtol=0.0001, atol=1e-05)
    """
    if dtype not in TOLERANCES:
        known = ", ".join(str(known) for known in TOLERANCES)
        raise ValueError(f"dtype must be one of {known}, got {dtype}")
    return TOLERANCES[dtype]
