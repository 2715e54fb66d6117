"""From a bound that is wanted to the cut-off that guarantees it."""

from __future__ import annotations

import math

import numpy as np

from equikernels.group import Representation
from equikernels.project.build import choose_route, engine_for
from equikernels.project.certificate import relative_bounds
from equikernels.project.cutoffs import Hard
from equikernels.project.operators import operators_of

ROUNDING = 1e-12
"""Relative difference of two bounds that counts as none."""


def cutoff_for(
    bound: float,
    radius: float,
    rep_in: Representation | None = None,
    rep_out: Representation | None = None,
    *,
    generators: str = "closed",
) -> Hard:
    """The largest hard cut-off whose projection has a relative error of at most `bound` within `radius`.

    After the projection |rho_out(g)^-1 W rho_in(g) - W|_F <= bound |W|_F for every element g of length at
    most `radius`. Without representations this is Duhamel's bound alone, b = bound / radius. With them the
    singular values are known: the cut-off lies in the gap above the largest one that may be kept, which
    for one generator uses the exact error 2 sin(phase radius / 2).

    Args:
        bound: the relative error allowed, >= 0 (from 2 on everything is allowed).
        radius: the size of the elements it holds for, > 0: radians, or letters for a finite group.
        rep_in, rep_out: both or rep_in alone (rep_out trivial: an invariant layer), or neither.
        generators: as for EquivariantProjector.

    Returns:
        Hard(b), b infinite where everything may be kept and 0 where nothing may.

    >>> from equikernels.group import SO2
    >>> round(cutoff_for(0.5, math.radians(10)).cutoff, 3)
    2.865
    >>> plane = SO2().irrep(1)
    >>> cutoff_for(0.5, math.radians(10), plane, plane)
    Hard(cutoff=inf)
    """
    for name, value in (("bound", bound), ("radius", radius)):
        if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
            raise TypeError(f"{name} must be a number, got {value!r}")
    if not bound >= 0:
        raise ValueError(f"bound must be a number >= 0, got {bound}")
    if not 0 < radius < math.inf:
        raise ValueError(f"radius must be a finite number > 0, got {radius}")
    if rep_in is None:
        if rep_out is not None:
            raise ValueError("rep_in must be given where rep_out is")
        return Hard(math.inf if bound >= 2 else float(bound / radius))
    if rep_out is None:
        rep_out = rep_in.group.trivial()
    operators = operators_of(rep_in, rep_out, generators)
    engine = engine_for(operators, choose_route(operators, "auto"))
    sigma = engine.spectrum.values
    # A bound that is one of the spectrum's own, computed elsewhere, differs from it by rounding.
    # Keeping the lowest clusters only: the bound of a prefix is the largest one in it.
    bounds = np.maximum.accumulate(relative_bounds(operators, engine, radius))
    allowed = bounds <= bound * (1 + ROUNDING)
    kept = int(allowed.sum())
    if kept == sigma.size:
        return Hard(math.inf)
    return Hard(0.0 if kept == 0 else float((sigma[kept - 1] + sigma[kept]) / 2))
