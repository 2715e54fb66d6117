"""How elements of a direct product are written, multiplied, batched, sampled and measured."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial, reduce
from typing import Any

import numpy as np
import torch
from torch import Tensor

from equikernels.group.group import Element, Group
from equikernels.group.orthogonal_matrices import concrete, floating

IDENTITY_TOLERANCE = 1e-5
"""How far a matrix in a finite factor may be from its identity and still have a logarithm."""


def _leaves(g: Element) -> list[Tensor]:
    return [leaf for part in g for leaf in _leaves(part)] if isinstance(g, tuple) else [g]


def _map(change: Callable[[Tensor], Tensor], g: Element) -> Element:
    """Every tensor of an element changed; a checked element's tensors all begin with its batch shape."""
    return tuple(_map(change, part) for part in g) if isinstance(g, tuple) else change(g)


def _spread(leaf: Tensor, device: torch.device, own: tuple[int, ...], shape: tuple[int, ...]) -> Tensor:
    """A tensor of batch shape `own` moved to a device and expanded to the batch shape `shape`."""
    return leaf.to(device).expand((*shape, *leaf.shape[len(own) :]))


class ProductElements(Group):
    """Tuples with one part for each of the `factors`; parts compose by themselves."""

    factors: tuple[Group, ...]

    @property
    def lie_dim(self) -> int:
        return sum(factor.lie_dim for factor in self.factors)

    @property
    def is_compact(self) -> bool:
        return all(factor.is_compact for factor in self.factors)

    @property
    def order(self) -> int | None:
        orders = [factor.order for factor in self.factors]
        return None if None in orders else math.prod(order for order in orders if order is not None)

    @property
    def identity(self) -> Element:
        return tuple(factor.identity for factor in self.factors)

    def check(self, g: Any) -> Element:
        parts = tuple(f.check(part) for f, part in zip(self.factors, self._parts(g), strict=True))
        devices = [leaf.device for leaf in _leaves(parts)]
        device = next((d for d in devices if d.type != "cpu"), devices[0])
        shapes = [tuple(f.batch_shape(part)) for f, part in zip(self.factors, parts, strict=True)]
        try:
            shape = torch.broadcast_shapes(*shapes)
        except RuntimeError as error:
            raise ValueError(
                f"parts of {self!r} must have batch shapes that broadcast, got {shapes}"
            ) from error
        return tuple(
            _map(partial(_spread, device=device, own=own, shape=shape), part)
            for part, own in zip(parts, shapes, strict=True)
        )

    def _parts(self, g: Any) -> tuple[Any, ...]:
        if not isinstance(g, (tuple, list)) or len(g) != len(self.factors):
            got = f"{len(g)} of them" if isinstance(g, (tuple, list)) else type(g).__name__
            raise TypeError(f"elements of {self!r} are tuples of {len(self.factors)} parts, got {got}")
        return tuple(g)

    def batch_shape(self, g: Element) -> torch.Size:
        return self.factors[0].batch_shape(g[0])

    def to(self, g: Element, device: torch.device | str | None) -> Element:
        return tuple(f.to(part, device) for f, part in zip(self.factors, g, strict=True))

    def floating_dtype(self, g: Any) -> torch.dtype | None:
        found = [f.floating_dtype(part) for f, part in zip(self.factors, self._parts(g), strict=True)]
        known = [dtype for dtype in found if dtype is not None]
        return reduce(torch.promote_types, known) if known else None

    def unbind(self, g: Element) -> list[Element]:
        return list(zip(*(f.unbind(part) for f, part in zip(self.factors, g, strict=True)), strict=True))

    def inject(self, i: int, g: Any) -> Element:
        """An element of factor `i` as an element of the product, the other parts being identities.

        >>> from equikernels.group import CyclicGroup, DirectProduct
        >>> DirectProduct(CyclicGroup(2), CyclicGroup(3)).inject(1, 2)
        (tensor(0), tensor(2))
        """
        if isinstance(i, bool) or not isinstance(i, int) or not 0 <= i < len(self.factors):
            raise ValueError(f"i must be the position 0 .. {len(self.factors) - 1} of a factor, got {i!r}")
        dtype = self.factors[i].floating_dtype(g)

        def like(leaf: Tensor) -> Tensor:
            return leaf.to(dtype) if leaf.is_floating_point() else leaf

        parts = [f.identity if dtype is None else _map(like, f.identity) for f in self.factors]
        parts[i] = g
        return self.check(tuple(parts))

    def compose(self, g: Any, h: Any) -> Element:
        pairs = zip(self.factors, self.check(g), self.check(h), strict=True)
        return self.check(tuple(f.compose(first, second) for f, first, second in pairs))

    def inverse(self, g: Any) -> Element:
        return tuple(f.inverse(part) for f, part in zip(self.factors, self.check(g), strict=True))

    def sample(
        self,
        n: int,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Element:
        """Independent parts; beside infinite factors, whose dtype it is, finite ones keep their own."""
        infinite = self.order is None
        return tuple(
            f.sample(n, generator, dtype if (f.order is None) == infinite else None, device)
            for f in self.factors
        )

    def elements(self) -> Element:
        """All elements, the last factor's fastest."""
        if self.order is None:
            return super().elements()
        return self._grid([factor.elements() for factor in self.factors])

    def _grid(self, parts: list[Element]) -> Element:
        """Every combination of one-dimensional batches, the last factor's fastest."""
        counts = [f.batch_shape(part).numel() for f, part in zip(self.factors, parts, strict=True)]
        places = torch.unravel_index(torch.arange(math.prod(counts)), counts)
        return tuple(
            _map(partial(torch.index_select, dim=0, index=place), part)
            for part, place in zip(parts, places, strict=True)
        )

    def quadrature(self, degree: int | None = None) -> tuple[Element, Tensor]:
        """The product of the factors' quadratures; exact up to frequency `degree` in each factor."""
        rules = [f.quadrature(degree if f.order is None else None) for f in self.factors]
        weights = reduce(torch.kron, [weights for _, weights in rules])
        return self._grid([elements for elements, _ in rules]), weights

    # -- algebra, words, lengths ---------------------------------------------------------------

    @property
    def structure_constants(self) -> np.ndarray:
        c = np.zeros((self.lie_dim,) * 3)
        start = 0
        for factor in self.factors:
            span = slice(start, start + factor.lie_dim)
            c[span, span, span] = factor.structure_constants
            start = span.stop
        return c

    def exp(self, a: Any) -> Element:
        if self.lie_dim == 0:
            raise ValueError(f"{self!r} has no Lie algebra and no exp")
        a = floating(a, f"algebra coordinates of {self!r}")
        if a.ndim == 0 or a.shape[-1] != self.lie_dim:
            raise ValueError(f"a must have shape (..., {self.lie_dim}) for {self!r}, got {tuple(a.shape)}")
        parts = []
        for f, own in zip(self.factors, a.split([f.lie_dim for f in self.factors], dim=-1), strict=True):
            rest = _map(lambda leaf: leaf.to(a if leaf.is_floating_point() else a.device), f.identity)
            parts.append(f.exp(own) if f.lie_dim else rest)
        return self.check(tuple(parts))

    def log(self, g: Any) -> Tensor:
        """Algebra coordinates (..., lie_dim); raises ValueError where a part has no logarithm."""
        if self.lie_dim == 0:
            raise ValueError(f"{self!r} has no Lie algebra and no log")
        g = self.check(g)
        for f, part in zip(self.factors, g, strict=True):
            for leaf, unit in zip(_leaves(part), _leaves(f.identity), strict=True):
                if f.lie_dim == 0 and concrete(leaf):
                    distance = (leaf.detach() - unit.to(leaf)).abs()
                    if bool((distance > IDENTITY_TOLERANCE).any()):
                        raise ValueError(f"elements of {self!r} that move {f!r} have no logarithm")
        return torch.cat([f.log(part) for f, part in zip(self.factors, g, strict=True) if f.lie_dim], dim=-1)

    def word_length(self, g: Any) -> Tensor:
        """The sum of the factors' word lengths: the generators of different factors commute."""
        if self.lie_dim:
            raise ValueError(f"{self!r} is not generated by discrete generators alone, so it has no words")
        g = self.check(g)
        return torch.stack([f.word_length(part) for f, part in zip(self.factors, g, strict=True)]).sum(0)

    def _one_length(self) -> None:
        if self.lie_dim and not all(factor.lie_dim for factor in self.factors):
            raise ValueError(f"elements of {self!r} mix Lie and finite parts: there is no one length")

    def length(self, g: Any) -> Tensor:
        """The word length in a product of finite groups; in one of Lie groups the norm of a shortest
        logarithm, the root of the sum of the squares of the factors' lengths."""
        self._one_length()
        if not self.lie_dim:
            return self.word_length(g)
        lengths = [f.length(part) for f, part in zip(self.factors, self.check(g), strict=True)]
        dtype = reduce(torch.promote_types, [own.dtype for own in lengths])
        norm: Tensor = torch.linalg.vector_norm(torch.stack([own.to(dtype) for own in lengths]), dim=0)
        return norm

    @property
    def diameter(self) -> float:
        self._one_length()
        own = [factor.diameter for factor in self.factors]
        return math.hypot(*own) if self.lie_dim else math.fsum(own)

    def numbers(self, g: Element) -> Tensor:
        """The factors' numbers side by side."""
        return torch.cat([f.numbers(part) for f, part in zip(self.factors, g, strict=True)], dim=-1)

    def lengths(self, g: Any) -> tuple[Tensor, Tensor]:
        """The root of the sum of the squares of the factors' Lie lengths, and the sum of their letters."""
        pairs = [f.lengths(part) for f, part in zip(self.factors, self.check(g), strict=True)]
        angles, letters = (torch.stack([own.double() for own in side]) for side in zip(*pairs, strict=True))
        lie: Tensor = torch.linalg.vector_norm(angles, dim=0)
        return lie, letters.sum(0)

    @property
    def diameters(self) -> tuple[float, float]:
        own = [factor.diameters for factor in self.factors]
        return math.hypot(*(lie for lie, _ in own)), math.fsum(letters for _, letters in own)

    @property
    def injectivity_radius(self) -> float:
        """The smallest of the factors that have a Lie algebra."""
        if not self.lie_dim:
            return super().injectivity_radius
        return min(factor.injectivity_radius for factor in self.factors if factor.lie_dim)

    def _padded(self, i: int, s: Any) -> Element:
        return tuple(s if i == k else factor.identity for k, factor in enumerate(self.factors))

    @property
    def discrete_elements(self) -> tuple[Any, ...]:
        """Each factor's generators, the other parts being identities."""
        return tuple(self._padded(i, s) for i, f in enumerate(self.factors) for s in f.discrete_elements)

    def conjugates(self) -> tuple[Element, ...]:
        """The conjugates of each factor's generators: conjugation leaves the other parts identities."""
        with_generators = [(i, f) for i, f in enumerate(self.factors) if f.discrete_elements]
        return tuple(self._padded(i, s) for i, f in with_generators for s in f.conjugates())
