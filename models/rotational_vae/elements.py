"""The group elements that images are moved by: which groups, one element for each sample, their names."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from equikernels.group import SO2, CyclicGroup, DihedralGroup, Group
from equikernels.models.data import SampleDraws

__all__ = ["check_group", "draw_elements", "element_name"]


def check_group(group: Any) -> Group:
    """`group`, if it turns images and has more than the identity.

    Raises:
        TypeError: none of SO2, CyclicGroup and DihedralGroup.
        ValueError: the trivial group.
    """
    if not isinstance(group, (CyclicGroup, DihedralGroup, SO2)):
        raise TypeError(f"group: expected CyclicGroup(n), DihedralGroup(n) or SO2(), got {group!r}")
    if group.order == 1:
        raise ValueError(f"group: expected one with more than the identity, got {group!r}")
    return group


def draw_elements(group: Group, count: int, draws: SampleDraws | None, name: str = "element") -> Tensor:
    """One element for each of `count` samples, on the CPU.

    Finite groups: every element but the identity, equally likely; int64 (count,). The identity is what the
    plain reconstruction is for. SO2: angles in radians, uniform between -pi and pi; float64 (count,).

    Args:
        draws: of the samples; without them PyTorch's generator decides.

    >>> draw_elements(CyclicGroup(2), 3, SampleDraws(0, 0, [0, 1, 2]))
    tensor([1, 1, 1])
    """
    if group.order is None:
        if draws is not None:
            return draws.uniform(name, low=-math.pi, high=math.pi, dtype=torch.float64)
        return group.sample(count)
    if draws is not None:
        return draws.integers(name, 1, group.order)
    return torch.randint(1, group.order, (count,))


def element_name(group: Group, element: Tensor) -> str:
    """A short name for tables: degrees counter-clockwise, and "flip" for what is flipped left-right first.

    >>> element_name(CyclicGroup(4), torch.tensor(1)), element_name(DihedralGroup(4), torch.tensor(6))
    ('90', '180flip')
    """
    if isinstance(group, DihedralGroup):
        turns, flip = int(element) % group.n, int(element) >= group.n
        return f"{360 * turns / group.n:g}{'flip' if flip else ''}"
    if isinstance(group, CyclicGroup):
        return f"{360 * int(element) / group.n:g}"
    return f"{math.degrees(float(element)):g}"
