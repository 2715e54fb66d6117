"""A cut-off applied to a decomposed constraint: the response, the factors, the rank."""

from __future__ import annotations

from functools import cached_property, lru_cache

import numpy as np
import torch
from torch import Tensor, nn

from equikernels.ops.linear import BlockProjection, project_weight
from equikernels.ops.tracing import may_keep
from equikernels.project.cutoffs import BlockSmooth, Cutoff, Hard, ReleasedSmooth, Smooth, Softness
from equikernels.project.engines import (
    AveragingEngine,
    BasesEngine,
    BlockEngine,
    BlockRule,
    Engine,
    Factors,
    SpectralEngine,
)
from equikernels.project.operators import from_blocks, to_blocks


class AppliedCutoff:
    """What a projector multiplies with, for one engine and one cut-off.

    Args:
        engine: the decomposed constraint, shared with other cut-offs.
        cutoff: the cut-off; a torch module among them is trained, and asked anew every time.
        by_blocks: whether the published rule of whole Schur blocks decides instead of the spectrum.

    Raises:
        ValueError: a cut-off that does not fit.
    """

    def __init__(self, engine: Engine, cutoff: Cutoff, by_blocks: bool) -> None:
        self.engine, self.cutoff = engine, cutoff
        self.is_learnable = isinstance(cutoff, nn.Module)
        self._rule: BlockRule | None = None
        self._fixed: Factors | None = None
        if by_blocks:
            assert isinstance(engine, SpectralEngine)
            self._rule = BlockRule(engine, cutoff)
            self._fixed = self._rule.factors
        elif not self.is_learnable:
            # Here, not at the first use: that may be while a graph is traced, where none of it can be.
            self._fixed = engine.factors(self._response())
        self._constants: tuple[np.ndarray | None, ...] | None = None
        if self._fixed is not None:
            self._constants = tuple(None if f is None else f.detach().numpy() for f in self._fixed)
        self._converted: dict[tuple[torch.dtype, torch.device], Factors] = {}

    def _response(self) -> Tensor:
        response = self.cutoff.response(self.engine.spectrum)
        return response if isinstance(response, Tensor) else torch.as_tensor(response)

    @property
    def response(self) -> np.ndarray:
        """f for each cluster of the spectrum (clusters,); for a rule of blocks the largest in it."""
        if self._rule is not None:
            return self._rule.largest
        return np.asarray(self._response().detach().numpy())

    def __call__(self, w: Tensor) -> Tensor:
        """The projection of weights (..., C_out * m, C_in * n), of at least single precision."""
        if isinstance(self.engine, BlockEngine):
            blocks = to_blocks(w, self.engine.m, self.engine.n)
            return from_blocks(self.engine.apply(blocks, self._factors(blocks)))
        projection = self.projection
        assert projection is not None
        return project_weight(w.flatten(0, -2), projection).view(w.shape)

    @cached_property
    def projection(self) -> BlockProjection | None:
        """The projection as bases and factors, None where nothing but whole blocks is known.

        Index maps of a finite group have bases of irreps too, which features can be brought into.
        """
        if isinstance(self.engine, AveragingEngine):
            return apply_cutoff(self.engine.in_bases, self.cutoff, by_blocks=False).projection
        if isinstance(self.engine, BasesEngine):
            return self.engine.projection(self._constants, self._factors)
        return None

    def _factors(self, like: Tensor) -> Factors:
        dtype, device = like.dtype, like.device
        key = (dtype, device)
        if key in self._converted:
            return self._converted[key]
        factors = self.engine.factors(self._response()) if self._fixed is None else self._fixed
        converted = tuple(None if f is None else f.to(dtype=dtype, device=device) for f in factors)
        if not self.is_learnable and may_keep():
            self._converted[key] = converted
        return converted

    @property
    def is_projection(self) -> bool:
        """Whether every factor is 0 or 1."""
        if self._rule is not None:
            return self._rule.is_projection
        return bool(np.isin(self.response, (0.0, 1.0)).all())

    @property
    def trace(self) -> float:
        """The sum of the factors over all directions of one block."""
        if self._rule is not None:
            return self._rule.trace
        return float(self.response @ self.engine.spectrum.multiplicities)

    def basis(self) -> np.ndarray:
        """Orthonormal weights (count, m, n) of every direction with a factor > 0."""
        return self.engine.basis(self.response > 0) if self._rule is None else self._rule.basis()


CACHED = 128
"""How many pairs of a decomposed constraint and a cut-off are kept for the next projector that needs them."""


@lru_cache(maxsize=CACHED)
def _shared(engine: Engine, cutoff: Cutoff, by_blocks: bool) -> AppliedCutoff:
    return AppliedCutoff(engine, cutoff, by_blocks)


def apply_cutoff(engine: Engine, cutoff: Cutoff, by_blocks: bool) -> AppliedCutoff:
    """The applied cut-off; projectors with equal representations and equal cut-offs share one.

    A cut-off of the user's own may change, so it is applied anew for each projector.
    """
    if isinstance(cutoff, (Hard, Smooth, Softness, ReleasedSmooth, BlockSmooth)):
        return _shared(engine, cutoff, by_blocks)
    return AppliedCutoff(engine, cutoff, by_blocks)
