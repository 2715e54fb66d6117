"""What every projection engine offers: a spectrum, and the operator of a response to it."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import torch
from torch import Tensor

from equikernels.ops.tracing import may_keep
from equikernels.project.spectrum import Spectrum

Factors = tuple[Tensor | None, ...]
"""What a response becomes for one engine: numbers to multiply with; None stands for zeros."""


class Engine(ABC):
    """The constraint of one m x n block, decomposed once; any response can then be applied.

    An engine does not change after construction and is shared by the projectors of all cut-offs.

    Attributes:
        m, n: rows and columns of one block.
    """

    m: int
    n: int

    @property
    @abstractmethod
    def spectrum(self) -> Spectrum:
        """The singular values of the constraint on one block."""

    @property
    def lie_slopes(self) -> np.ndarray:
        """An upper bound of |(C_k W)_k| / |W| over the Lie generators, W in each cluster (clusters,)."""
        return self.spectrum.values

    @property
    def discrete_slopes(self) -> np.ndarray:
        """An upper bound of max_s |C_s W| / |W| over the discrete generators, in each cluster (clusters,)."""
        return self.spectrum.values

    @abstractmethod
    def factors(self, response: Tensor) -> Factors:
        """The factors of a response f (clusters,), float64 on the CPU; differentiable in it."""

    @abstractmethod
    def energies(self, w: Tensor) -> np.ndarray:
        """|w_sigma|^2 for each cluster (clusters,), summed over all blocks w (..., m, n), in float64."""

    @abstractmethod
    def basis(self, kept: np.ndarray) -> np.ndarray:
        """Orthonormal weights (count, m, n), float64: a basis of the clusters where `kept` holds."""


class BlockEngine(Engine):
    """An engine that projects whole blocks in a way of its own."""

    @abstractmethod
    def apply(self, w: Tensor, factors: Factors) -> Tensor:
        """f of the constraint on blocks (..., m, n); the factors have the dtype and device of w."""


class Constants:
    """Float64 tensors, converted once for each dtype and device."""

    def __init__(self, *tensors: Tensor) -> None:
        self._given = tensors
        self._converted: dict[tuple[torch.dtype, torch.device], tuple[Tensor, ...]] = {}

    def like(self, w: Tensor) -> tuple[Tensor, ...]:
        """The tensors in the dtype and on the device of w."""
        key = (w.dtype, w.device)
        if key in self._converted:
            return self._converted[key]
        converted = tuple(t.to(dtype=w.dtype, device=w.device) for t in self._given)
        if may_keep():
            self._converted[key] = converted
        return converted


def float64(array: np.ndarray) -> Tensor:
    """An array of any strides, read-only or not, as a float64 tensor of its own."""
    return torch.tensor(np.array(array, dtype=np.float64, order="C"))
