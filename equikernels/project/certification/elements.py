"""Which elements of a group a certificate is compared with."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from equikernels.group import Group

LISTED = 64
"""Groups of at most this order are gone through element by element."""


def is_listed(group: Group) -> bool:
    """Whether every element of the group is looked at."""
    return group.order is not None and group.order <= LISTED


def checked_elements(group: Group, samples: int, seed: int, radius: float | None = None) -> list[Any]:
    """All elements of a small finite group; else `samples` random ones and the discrete generators.

    A group with a Lie algebra gets as many elements of length at most `radius` beside the Haar samples, where
    one is given: a bound within a radius is not tested by elements beyond it. Empty for a group that is not
    compact, which has no Haar measure.
    """
    if is_listed(group):
        return group.unbind(group.elements())
    if not group.is_compact:
        return []
    generator = torch.Generator().manual_seed(seed)
    found = group.unbind(group.sample(samples, generator=generator))
    found += [group.check(g) for g in group.discrete_elements]
    if radius is not None and group.lie_dim:
        size = min(radius, group.diameters[0])
        directions = torch.randn(samples, group.lie_dim, generator=generator, dtype=torch.float64)
        lengths = size * torch.linspace(0, 1, samples + 1, dtype=torch.float64)[1:, None]
        near = directions / directions.norm(dim=1, keepdim=True) * lengths
        found += group.unbind(group.exp(near))
    return found


def element_text(g: Any) -> str:
    """An element in words: angles in four digits, matrices by their entries.

    >>> element_text((torch.tensor(0.123456), torch.tensor(1)))
    '(0.1235, 1)'
    """
    if isinstance(g, tuple):
        return "(" + ", ".join(element_text(part) for part in g) + ")"
    if isinstance(g, Tensor):
        return str(g.tolist()) if g.ndim else element_text(g.item())
    return f"{g:.4g}" if isinstance(g, float) else str(g)
