"""How much larger the strict part of a weight must begin so that a projection costs it no size."""

from __future__ import annotations

import math

import numpy as np
from torch import Tensor

from equikernels.project.projector import EquivariantProjector

__all__ = ["strict_gain"]


def strict_gain(projector: EquivariantProjector) -> float:
    """c such that P(W + (c - 1) P_0 W) is expected to be as large as W, P_0 the strict projector.

    Let the entries of a block W be independent with one variance v, N of them, and f_i what the cut-off
    makes of its N singular directions. Then E |P(W)|^2 = v sum f_i^2. With the k_0 strict directions c
    times as long and the others as they are,

        E |P(W + (c - 1) P_0 W)|^2 = v (c^2 f_0^2 k_0 + sum_{sigma_i > 0} f_i^2) = v N,
        c^2 = (N - sum_{sigma_i > 0} f_i^2) / (f_0^2 k_0).

    Only strict directions grow. One factor for all of P(W) would also enlarge the few directions that a
    small softness keeps just above 0, beyond those of a plain layer, and training would have to undo them.
    c is 1 where all is kept.

    Raises:
        ValueError: the cut-off removes something, and there is no strict direction that could make up for
            it; a projector by method="iterative", which knows no spectrum.

    >>> from equikernels.group import SO2
    >>> from equikernels.project import Softness
    >>> rep = SO2().irrep(1) + SO2().trivial()
    >>> [round(strict_gain(EquivariantProjector(rep, rep, Softness(s))) ** 2, 3) for s in (0, 0.5, 1)]
    [3.0, 2.25, 1.0]
    """
    spectrum = projector.spectrum
    response = projector.cutoff.response(spectrum)
    kept = response.detach().cpu().numpy() if isinstance(response, Tensor) else np.asarray(response)
    energy = kept**2 * spectrum.multiplicities
    strict = spectrum.values <= spectrum.tolerance
    missing = len(spectrum) - float(energy[~strict].sum())
    if float(energy.sum()) > len(spectrum) * (1 - 1e-12):
        return 1.0
    if float(energy[strict].sum()) == 0:
        raise ValueError(
            f"projector must keep equivariant maps, whose size could grow: {projector!r} has none"
        )
    return math.sqrt(missing / float(energy[strict].sum()))
