"""The published rules of whole Schur blocks, for comparison: they follow no spectrum.

With lambda the modulus of a block's eigenvalue, the hard rule leaves a block free where
lambda_out + lambda_in < b, reduces it to the part Q(M) that commutes with the rotation where the two
share their eigenvalues, and removes it elsewhere. The smooth rule keeps s M + (1 - s) Q(M) of a matching
block and multiplies every other one by exp(-kappa |lambda_out - lambda_in| / s).
"""

from __future__ import annotations

import numpy as np
import torch

from equikernels.project.cutoffs import BlockSmooth, Cutoff, Hard
from equikernels.project.engines.engine import Factors
from equikernels.project.engines.spectral import SpectralEngine
from equikernels.project.normal_form import BlockPairs
from equikernels.project.spectrum import CLUSTER_TOLERANCE


class BlockRule:
    """The factors of one rule on the block pairs of a spectral engine.

    Args:
        engine: the normal forms.
        cutoff: Hard for the hard rule, BlockSmooth for the smooth one; raises ValueError for others.

    Attributes:
        tables: a factor for each block pair.
        factors: what the engine multiplies with.
    """

    def __init__(self, engine: SpectralEngine, cutoff: Cutoff) -> None:
        if not isinstance(cutoff, (Hard, BlockSmooth)):
            raise ValueError(
                f'method="schur" is the published rule for Hard(cutoff) or BlockSmooth(s), got {cutoff!r}'
            )
        po, ao = (np.abs(x) for x in (engine.out.planes, engine.out.axes))
        pi, ai = (np.abs(x) for x in (engine.inn.planes, engine.inn.axes))
        scale = max([float(x.max(initial=0.0)) for x in (po, ao, pi, ai)])
        tolerance = CLUSTER_TOLERANCE * max(scale, 1e-300)
        sides = ((po, pi), (po, pi), (po, ai), (ao, pi), (ao, ai))
        matched = [table <= tolerance for table, _ in engine.pairs.parts]
        if isinstance(cutoff, Hard):
            rest = [(out[:, None] + inn < cutoff.cutoff - tolerance).astype(float) for out, inn in sides]
        else:
            distances = [np.abs(out[:, None] - inn) for out, inn in sides]
            rest = [cutoff.decay(np.where(d <= tolerance, 0.0, d)) for d in distances]
            # The part of a matching block that does not commute with the rotation.
            rest[1] = np.where(matched[0], cutoff.s, rest[1])
        matched[1] = np.zeros_like(matched[1])
        tables = [np.where(same, 1.0, other) for same, other in zip(matched, rest, strict=True)]
        self.tables = BlockPairs(*tables)
        self.factors: Factors = engine.factors_of_tables([torch.tensor(table) for table in tables])
        self._engine = engine

    @property
    def trace(self) -> float:
        """The sum of the factors over all directions."""
        return float(sum(table.sum() * count for table, count in self.tables.parts))

    @property
    def largest(self) -> np.ndarray:
        """The largest factor that any direction of each cluster gets (clusters,)."""
        best = np.zeros(self._engine.spectrum.values.size)
        for (factor, _), (index, _) in zip(self.tables.parts, self._engine.clusters.parts, strict=True):
            np.maximum.at(best, index.ravel(), factor.ravel())
        return best

    @property
    def is_projection(self) -> bool:
        """Whether every factor is 0 or 1."""
        return all(bool(np.isin(table, (0.0, 1.0)).all()) for table, _ in self.tables.parts)

    def basis(self) -> np.ndarray:
        """Orthonormal weights (count, m, n) of every direction with a factor > 0."""
        return self._engine.basis_of_tables(BlockPairs(*(table > 0 for table, _ in self.tables.parts)))
