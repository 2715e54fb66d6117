"""What finite groups share: integers for elements, words instead of an algebra, no Lie generators."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from equikernels.group.group import Element, Group, Label


def check_order(n: Any) -> int:
    """The parameter n of a family of groups; raises ValueError unless it is an integer >= 1."""
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < 1:
        raise ValueError(f"n must be an integer >= 1, got {n!r}")
    return int(n)


def integer_tensor(g: Any, description: str) -> Tensor:
    """Elements as int64; raises TypeError, saying what elements are, for any other kind of number."""
    element = g if isinstance(g, Tensor) else torch.as_tensor(np.asarray(g))
    if element.is_floating_point() or element.is_complex() or element.dtype == torch.bool:
        raise TypeError(f"{description}, got {element.dtype}")
    return element.long()


class FiniteGroup(Group):
    """A finite group. Its elements are integers 0 .. order - 1, 0 the identity, or what it says itself."""

    @property
    def lie_dim(self) -> int:
        return 0

    @property
    @abstractmethod
    def order(self) -> int:
        """Number of elements."""

    @property
    def identity(self) -> Element:
        return torch.zeros((), dtype=torch.int64)

    def elements(self) -> Element:
        return torch.arange(self.order)

    def sample(
        self,
        n: int,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Element:
        return torch.randint(self.order, (n,), generator=generator, dtype=dtype or torch.int64, device=device)

    def quadrature(self, degree: int | None = None) -> tuple[Element, Tensor]:
        return self.elements(), torch.full((self.order,), 1 / self.order, dtype=torch.float64)

    def exp(self, a: Any) -> Element:
        raise ValueError(f"{self!r} is finite: it has no Lie algebra and no exp")

    def log(self, g: Any) -> Tensor:
        raise ValueError(f"{self!r} is finite: it has no Lie algebra and no log; use word_length(g)")

    def length(self, g: Any) -> Tensor:
        return self.word_length(g)

    def irrep_generators(self, label: Label) -> np.ndarray:
        d = self.irrep_dim(label)
        return np.zeros((0, d, d))
