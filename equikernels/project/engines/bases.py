"""Engines that multiply coordinates: P(W) = U_out (F o (U_out^T W U_in)) U_in^T."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping

import numpy as np
from torch import Tensor

from equikernels.ops.linear import BlockProjection, Operator, Side
from equikernels.project.engines.engine import Engine, Factors

FixedFactors = tuple[np.ndarray | None, ...]
"""Factors that are constants, as arrays: inside transforms of functions no tensor gives its values."""

FactorsLike = Callable[[Tensor], Factors]
"""Gives the factors in the dtype and on the device of a tensor."""


class BasesEngine(Engine):
    """An engine with a basis on either side in which a response multiplies little blocks."""

    @property
    @abstractmethod
    def sides(self) -> tuple[Side, Side]:
        """The output's and the input's basis and types."""

    @abstractmethod
    def scale(self, blocks: Tensor, factors: Factors) -> Tensor:
        """F o W' for blocks W' (..., m, n) in coordinates."""

    @abstractmethod
    def scale_into(self, blocks: Tensor, factors: Factors, out: Tensor) -> None:
        """The same into `out`, which may be `blocks`; plain tensors of the CPU, no gradient."""

    @abstractmethod
    def operators(self, factors: FixedFactors) -> Mapping[tuple[int, int], Operator]:
        """F by pairs of types (out, in) where it is not zero; float64."""

    def projection(self, fixed: FixedFactors | None, factors: FactorsLike) -> BlockProjection:
        """The response as data; `fixed` are its factors in float64 where nothing in them is trained."""
        out, inn = self.sides

        def scale_into(blocks: Tensor, result: Tensor) -> None:
            self.scale_into(blocks, factors(blocks), result)

        return BlockProjection(
            out,
            inn,
            scale=lambda blocks: self.scale(blocks, factors(blocks)),
            find_operators=None if fixed is None else lambda: self.operators(fixed),
            scale_into=scale_into,
        )
