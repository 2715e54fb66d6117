"""For which elements a bound is made, and how far linear maps are from commuting with them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from equikernels.group import Group, Representation
from equikernels.project.certification.actions import Action, Features, Still
from equikernels.project.certification.frequency import operator_norm
from equikernels.project.cutoffs import Hard
from equikernels.project.projector import EquivariantProjector, InvariantProjector


@dataclass(frozen=True)
class Scope:
    """Elements one by one, or a group as a whole.

    Attributes:
        group: the group.
        elements: the elements that bounds are for, one bound each; None: all of the group at once.
        radius: limits `elements` None to those of at most this length.
    """

    group: Group
    elements: tuple[Any, ...] | None
    radius: float | None

    @property
    def count(self) -> int:
        """How many bounds are kept side by side."""
        return 1 if self.elements is None else len(self.elements)

    @property
    def zeros(self) -> Tensor:
        """One zero for each (count,), float64."""
        return torch.zeros(self.count, dtype=torch.float64)

    def __str__(self) -> str:
        within = "" if self.radius is None else f" of length at most {self.radius:.4g}"
        if self.elements is None:
            return f"every element of {self.group!r}{within}"
        every = self.group.order == len(self.elements)
        return f"{'all ' if every else ''}{len(self.elements)} elements{within}"

    # -- linear maps between representations -----------------------------------------------------------------

    def linear_errors(self, weight: Tensor, before: Action, after: Action) -> Tensor:
        """Upper bounds (count,) of the operator norm of rho_out(g)^-1 W rho_in(g) - W, W (out, in)."""
        if isinstance(before, Still) and isinstance(after, Still):
            return self.zeros
        if self.elements is not None:
            # Actions take rows, x to x rho(g)^T: the inverse acts on the rows of W as W rho_in(g).
            inverses = [self.group.inverse(g) for g in self.elements]
            moved = (before(h, after(h, weight.mT).mT) for h in inverses)
            return torch.stack([operator_norm(m - weight) for m in moved])
        rep_in, rep_out = (self._representation(action) for action in (before, after))
        projector = EquivariantProjector(rep_in, rep_out, Hard(math.inf))
        return self._certified(projector, weight)

    def vector_errors(self, vector: Tensor, action: Action) -> Tensor:
        """Upper bounds (count,) of |g c - c| for a vector c (dim,)."""
        if isinstance(action, Still) or not bool(vector.any()):
            return self.zeros
        if self.elements is not None:
            return torch.stack([(action(g, vector[None]) - vector).norm() for g in self.elements])
        return self._certified(InvariantProjector(self._representation(action), Hard(math.inf)), vector[None])

    def _representation(self, action: Action) -> Representation:
        return action.rep if isinstance(action, Features) else self.group.trivial()

    def _certified(self, projector: EquivariantProjector, weight: Tensor) -> Tensor:
        """The bound of the posterior certificate: nothing is cut off, W is what it is."""
        certificate = projector.certificate(weight)
        radius = math.inf if self.radius is None else self.radius
        return torch.tensor([certificate.bound(radius=radius, norm="operator")], dtype=torch.float64)
