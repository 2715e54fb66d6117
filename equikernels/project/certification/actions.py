"""How the elements of a group move what flows through a network: images, features, or nothing at all."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor

from equikernels.group import (
    O2,
    SO2,
    CyclicGroup,
    DihedralGroup,
    Group,
    Representation,
    pixel_grid,
)
from equikernels.ops import rotate
from equikernels.project.adapting.turns import exchanged_axes, has_other_angles, is_planar


class Action(Protocol):
    """Moves a batch of tensors by one element."""

    def __call__(self, g: Any, x: Tensor) -> Tensor: ...


def turn_and_flip(group: Group, g: Any) -> tuple[float, bool]:
    """The angle in radians and whether a left-right flip goes first, for an element of a planar group."""
    if isinstance(group, SO2):
        return float(group.check(g)), False
    if isinstance(group, O2):
        angle, flip = group.check(g)
        return float(angle), bool(flip)
    assert isinstance(group, (CyclicGroup, DihedralGroup))
    element = int(group.check(g))
    return 2 * math.pi * (element % group.n) / group.n, element >= group.n


def turn_exactly(group: Group, g: Any, x: Tensor) -> Tensor:
    """x (..., H, W) turned by an element of C_n or D_n for n = 1, 2, 4: index maps, no interpolation."""
    assert isinstance(group, (CyclicGroup, DihedralGroup))
    element = int(group.check(g))
    flipped = x.flip(-1) if element >= group.n else x
    return torch.rot90(flipped, element % group.n * (4 // group.n), (-2, -1))


@dataclass(frozen=True)
class Pixels:
    """Images (N, C, H, W) whose pixels change places, channels untouched; n = 1, 2 or 4 in C_n and D_n."""

    group: Group
    height: int
    width: int

    def __call__(self, g: Any, x: Tensor) -> Tensor:
        return turn_exactly(self.group, g, x)

    def __str__(self) -> str:
        return f"images of {self.height} x {self.width} pixels"

    @cached_property
    def flattened(self) -> Action:
        """The action on (N, C * H * W)."""
        if self.height * self.width == 1:
            return Still()
        return Features(pixel_grid((self.height, self.width), self.group))


@dataclass(frozen=True)
class TurnedImages:
    """Images (N, C, H, W) turned by bilinear interpolation: no representation, so for measuring alone."""

    group: Group

    def __call__(self, g: Any, x: Tensor) -> Tensor:
        angle, flip = turn_and_flip(self.group, g)
        return rotate(x.flip(-1) if flip else x, angle)

    def __str__(self) -> str:
        return "images turned by interpolation"


@dataclass(frozen=True)
class Features:
    """A representation on the last dimension (..., C * dim), channel-major."""

    rep: Representation

    def __call__(self, g: Any, x: Tensor) -> Tensor:
        channels = x.reshape(*x.shape[:-1], -1, self.rep.dim)
        return (channels @ self.rep(g, dtype=x.dtype, device=x.device).mT).reshape(x.shape)

    def __str__(self) -> str:
        return f"features {self.rep!r}"


@dataclass(frozen=True)
class Still:
    """Nothing moves: the output is to be invariant."""

    def __call__(self, g: Any, x: Tensor) -> Tensor:
        return x

    def __str__(self) -> str:
        return "invariant features"


@dataclass(frozen=True)
class Given:
    """A function (g, x) -> g x of the caller's."""

    function: Callable[[Any, Tensor], Tensor]

    def __call__(self, g: Any, x: Tensor) -> Tensor:
        return self.function(g, x)

    def __str__(self) -> str:
        return "an action given as a function"


def features_of(rep: Representation) -> Features | Still:
    """The action of a representation; Still where it is trivial."""
    if getattr(rep, "method", "") not in ("bilinear", "interpolated"):
        trivial = rep.group.trivial().irreps[0][0]
        if all(label == trivial for label, _ in rep.irreps):
            return Still()
    return Features(rep)


def images_of(group: Group, height: int, width: int) -> Pixels | TurnedImages:
    """How a planar group acts on images of a size; raises ValueError for other groups and sizes."""
    if not is_planar(group):
        raise ValueError(f"{group!r} has no action on images here: give act_in and act_out")
    if has_other_angles(group):
        return TurnedImages(group)
    if height != width and exchanged_axes(group, 2):
        raise ValueError(f"{group!r} carries only square images to themselves, got {height} x {width}")
    return Pixels(group, height, width)


def same_action(first: Action, second: Action, group: Group, dim: int) -> bool:
    """Whether two actions move features (N, dim) alike, from what they do at the group's generators."""
    if first == second:
        return True
    kinds = (Features, Still)
    if not (isinstance(first, kinds) and isinstance(second, kinds)):
        return False
    if any(isinstance(a, Features) and dim % a.rep.dim for a in (first, second)):
        return False
    eye = torch.eye(dim, dtype=torch.float64)
    # One element on each line of the algebra, at no special angle, and the discrete generators.
    lines = 0.7 * torch.eye(group.lie_dim, dtype=torch.float64)
    elements = [*group.discrete_elements, *(group.exp(line) for line in lines)]
    return all(bool((first(g, eye) - second(g, eye)).abs().max() <= 1e-9) for g in elements)
