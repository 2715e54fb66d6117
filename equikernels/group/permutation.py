"""Permutation representations of finite groups: exact index maps, never a matrix product."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from equikernels.group.group import Element, Group
from equikernels.group.orbits import orbit_normal_form
from equikernels.group.representation import Representation
from equikernels.group.words import element_index


def integer_elements(group: Group) -> bool:
    """Whether the elements of a finite group are the integers 0 .. order - 1."""
    return isinstance(group.identity, Tensor) and group.identity.ndim == 0


def positions(group: Group, g: Any) -> Tensor:
    """Places (...) of elements in the order of `group.elements()`: int64, on the elements' device."""
    if integer_elements(group):
        place: Tensor = group.check(g)
        return place
    return torch.as_tensor(element_index(group, g), device=element_device(group.check(g)))


def element_device(g: Element) -> torch.device:
    """Where a checked element lies; the parts of a tuple lie together."""
    device: torch.device = element_device(g[0]) if isinstance(g, tuple) else g.device
    return device


class PermutationRepresentation(Representation):
    """rho(s) permutes the coordinates: (rho(s) x)[i] = x[source[i]] for each generator s.

    Args:
        group: a finite group: CyclicGroup(n), DihedralGroup(n), CubeGroup(), SymmetricGroup(n), ...
        source: integers (generators, dim), or (dim,) for one generator, a permutation for each of
            `group.discrete_elements`; raises ValueError if they do not obey the group's relations.
        name: how the representation prints.

    >>> from equikernels.group import CyclicGroup
    >>> rep = PermutationRepresentation(CyclicGroup(3), np.array([2, 0, 1, 3]))
    >>> (rep(1) @ torch.tensor([10.0, 20.0, 30.0, 40.0]).double()).tolist()
    [30.0, 10.0, 20.0, 40.0]
    >>> rep.irreps
    ((0, 2), (1, 1))
    """

    _sources: np.ndarray

    def __init__(self, group: Group, source: np.ndarray, name: str | None = None) -> None:
        if group.order is None:
            raise ValueError(f"group must be finite, got {group!r}")
        source = np.ascontiguousarray(source)
        source = source[None] if source.ndim == 1 else source
        generators = group.discrete_elements
        if source.ndim != 2 or len(source) != len(generators) or source.dtype.kind not in "iu":
            raise ValueError(
                f"source must hold integers (dim,) for each of the {len(generators)} generators of "
                f"{group!r}, got {source.dtype} {source.shape}"
            )
        dim = source.shape[1]
        if not (np.sort(source, axis=1) == np.arange(dim)).all():
            raise ValueError("source must hold permutations: every index exactly once")
        self._init(group, dim, name)
        self._set(_sources=self._close(group, source))

    @staticmethod
    def _close(group: Group, source: np.ndarray) -> np.ndarray:
        """Index maps (order, dim) of all elements; (rho(g s) x)[i] = x[source_s[source_g[i]]]."""
        assert group.order is not None
        elements = group.elements()
        steps = np.stack([positions(group, group.compose(elements, s)) for s in group.discrete_elements])
        identity = int(positions(group, group.identity))
        table = np.full((group.order, source.shape[1]), -1, dtype=np.int64)
        table[identity] = np.arange(source.shape[1])
        reached = np.zeros(group.order, dtype=bool)
        reached[identity] = True
        frontier = [identity]
        while frontier:
            following = []
            for g in frontier:
                for k, permutation in enumerate(source):
                    product, expected = int(steps[k, g]), permutation[table[g]]
                    if not reached[product]:
                        table[product] = expected
                        reached[product] = True
                        following.append(product)
                    elif not np.array_equal(table[product], expected):
                        raise ValueError(
                            f"source does not obey the relations of {group!r}: no representation"
                        )
            frontier = following
        table.setflags(write=False)
        return table

    @property
    def sources(self) -> np.ndarray:
        """Index maps (order, dim) of every element: (rho(g) x)[i] = x[sources[g, i]]."""
        return self._sources

    def _matrix(self, g: Element, dtype: torch.dtype) -> Tensor:
        place = positions(self.group, g)
        source = torch.as_tensor(self._sources.copy(), device=place.device)[place]
        return torch.nn.functional.one_hot(source, self.dim).to(dtype)

    # The normal form is an orbit-wise Fourier transform, found only when asked for.

    @cached_property
    def _normal_form(self) -> tuple[tuple[tuple[Any, int], ...], np.ndarray]:
        if not integer_elements(self.group):
            from equikernels.group.from_operators import representation_from_operators

            form = representation_from_operators(self.group, elements=list(self.discrete))
            return form.irreps, form.change_of_basis
        return orbit_normal_form(self.group, self._sources)

    @property
    def irreps(self) -> tuple[tuple[Any, int], ...]:
        return self._normal_form[0]

    @property
    def change_of_basis(self) -> np.ndarray:
        return self._normal_form[1]

    @property
    def _basis(self) -> np.ndarray:
        return self._normal_form[1]

    @cached_property
    def _key(self) -> tuple[Any, ...]:
        return ("permutation", self.group, self._sources.tobytes())
