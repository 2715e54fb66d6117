"""The published way to several generators: projections for one after the other, again and again."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from equikernels.group import Representation
from equikernels.project.cutoffs import Cutoff
from equikernels.project.operators import operators_of
from equikernels.project.projector import EquivariantProjector


class SweepProjector:
    """W -> P_d ... P_2 P_1 W, `sweeps` times, with P_k the projector of the k-th generator alone.

    For comparison: it is only an approximation of the projector of all generators together, which
    EquivariantProjector is exactly. On the vectors of SO(3) at softness 0 the operator-norm errors after 1, 2
    and 5 sweeps are 0.25, 0.031 and 6.1e-5.

    Args:
        rep_in, rep_out: representations of one group.
        cutoff: the cut-off of every single generator.
        sweeps: how often all generators are gone through, >= 1.

    >>> from equikernels.group import SO3
    >>> from equikernels.project import Softness
    >>> vector = SO3().defining()
    >>> len(SweepProjector(vector, vector, Softness(0), sweeps=2).projectors)
    3
    """

    def __init__(
        self, rep_in: Representation, rep_out: Representation, cutoff: Cutoff, sweeps: int = 1
    ) -> None:
        if isinstance(sweeps, bool) or not isinstance(sweeps, int) or sweeps < 1:
            raise ValueError(f"sweeps must be an integer >= 1, got {sweeps!r}")
        operators = operators_of(rep_in, rep_out, "given")
        self.sweeps = sweeps
        self.projectors: Sequence[EquivariantProjector] = tuple(
            EquivariantProjector.from_operators([a], [b], cutoff)
            for a, b in zip(operators.a, operators.b, strict=True)
        )

    def __call__(self, w: Tensor | np.ndarray) -> Tensor:
        """The swept weight of W (..., C_out * m, C_in * n); shapes and dtypes as EquivariantProjector."""
        for _ in range(self.sweeps):
            for projector in self.projectors:
                w = projector(w)  # type: ignore[arg-type]
        assert isinstance(w, Tensor)
        return w
