"""Elements of groups of matrices: laws, exp and log, the list of a finite group, words, lengths."""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from equikernels.group.group import Element, Group
from equikernels.group.matrix_closure import MatrixClosure
from equikernels.group.matrix_generators import matrix_logarithm, random_products
from equikernels.group.orthogonal_matrices import HALF_TOLERANCE, TOLERANCES, check_orthogonal, floating


class MatrixElements(Group):
    """A group of orthogonal matrices (..., n, n) without its representations.

    Attributes:
        algebra: Lie generators (lie_dim, n, n), skew, linearly independent and closed under brackets.
        discrete: discrete generators (s, n, n), orthogonal.
    """

    algebra: np.ndarray
    discrete: np.ndarray

    @property
    def dim(self) -> int:
        """The size n of the matrices."""
        return int(self.algebra.shape[-1])

    @property
    def lie_dim(self) -> int:
        return len(self.algebra)

    @cached_property
    def _closure(self) -> MatrixClosure:
        if self.lie_dim:
            raise ValueError(f"{self!r} is infinite: it has no list of elements; use sample(n)")
        return MatrixClosure(self.discrete)

    @property
    def order(self) -> int | None:
        """Number of elements, None for a group with an algebra; raises ValueError where the discrete
        generators of a group without one generate more than 10^5 elements."""
        return None if self.lie_dim else len(self._closure.elements)

    @property
    def identity(self) -> Tensor:
        return torch.eye(self.dim, dtype=torch.float64)

    def check(self, g: Any) -> Tensor:
        """`g` as floating orthogonal matrices (..., n, n); membership in the group is not looked at."""
        return check_orthogonal(g, repr(self), self.dim)

    def batch_shape(self, g: Element) -> torch.Size:
        return torch.Size(g.shape[:-2])

    def unbind(self, g: Element) -> list[Element]:
        return list(g.reshape(-1, self.dim, self.dim))

    def compose(self, g: Any, h: Any) -> Tensor:
        g, h = self.check(g), self.check(h)
        dtype = torch.promote_types(g.dtype, h.dtype)
        product: Tensor = g.to(dtype) @ h.to(dtype)
        return product

    def inverse(self, g: Any) -> Tensor:
        matrix: Tensor = self.check(g)
        return matrix.mT

    def sample(
        self,
        n: int,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Tensor:
        """`n` independent elements (n, dim, dim): uniform on a finite group, else nearly Haar distributed.

        A group with an algebra is sampled by products of 24 random elements: exponentials with normal
        coordinates, a standard deviation of one period of the slowest frequency, each between random powers
        of the discrete generators. The mean of an irrep over such products is that over one factor to the
        24th power: for the rotations of space below 1e-10 instead of zero.
        """
        dtype = dtype or torch.float64
        if self.lie_dim == 0:
            drawn = torch.randint(len(self._closure.elements), (n,), generator=generator, device=device)
            return self.elements().to(drawn.device)[drawn].to(dtype)
        return random_products(self.algebra, self.discrete, n, generator, device).to(dtype)

    def elements(self) -> Tensor:
        """All elements (order, dim, dim) of a finite group, float64, by increasing word length."""
        return torch.tensor(self._closure.elements)

    def quadrature(self, degree: int | None = None) -> tuple[Tensor, Tensor]:
        if self.lie_dim:
            return super().quadrature(degree)
        everything = self.elements()
        return everything, torch.full((len(everything),), 1 / len(everything), dtype=torch.float64)

    @property
    def structure_constants(self) -> np.ndarray:
        if self.lie_dim == 0:
            return super().structure_constants
        span = self.algebra.reshape(self.lie_dim, -1)
        brackets = np.einsum("iab,jbc->ijac", self.algebra, self.algebra)
        brackets = (brackets - brackets.transpose(1, 0, 2, 3)).reshape(self.lie_dim**2, -1)
        return np.asarray(brackets @ np.linalg.pinv(span)).reshape((self.lie_dim,) * 3)

    def exp(self, a: Any) -> Tensor:
        """The element exp(sum_k a_k X_k), (..., n, n), of algebra coordinates a (..., lie_dim)."""
        if self.lie_dim == 0:
            raise ValueError(f"{self!r} has no Lie algebra and no exp")
        a = floating(a, f"algebra coordinates of {self!r}")
        if a.ndim == 0 or a.shape[-1] != self.lie_dim:
            raise ValueError(f"a must have shape (..., {self.lie_dim}) for {self!r}, got {tuple(a.shape)}")
        working = a.to(torch.promote_types(a.dtype, torch.float32))
        basis = torch.as_tensor(self.algebra.copy()).to(working)
        matrix: Tensor = torch.linalg.matrix_exp(torch.einsum("...k,kab->...ab", working, basis))
        return matrix.to(a.dtype)

    def log(self, g: Any) -> Tensor:
        """Algebra coordinates (..., lie_dim) of a logarithm: exp(log(g)) is g; no derivatives.

        The principal logarithm of the matrix, with angles in [-pi, pi], where it lies in the algebra: it does
        for every element near the identity. Raises ValueError elsewhere, although the element may have a
        logarithm that is not principal, and for groups without an algebra.
        """
        if self.lie_dim == 0:
            raise ValueError(f"{self!r} has no Lie algebra and no log; use word_length(g)")
        g = self.check(g)
        tolerance = TOLERANCES.get(g.dtype, HALF_TOLERANCE)
        matrices = g.detach().reshape(-1, self.dim, self.dim).double().cpu().numpy()
        found = [matrix_logarithm(matrix, self.algebra, tolerance, repr(self)) for matrix in matrices]
        coordinates = torch.as_tensor(np.stack(found)) if found else torch.zeros(0, self.lie_dim)
        return coordinates.reshape(*self.batch_shape(g), self.lie_dim).to(g)

    def numbers(self, g: Element) -> Tensor:
        """The position of each element in `elements()`, (..., 1)."""
        matrices = g.detach().double().cpu().numpy().reshape(-1, self.dim, self.dim)
        places = self._closure.positions(matrices, TOLERANCES.get(g.dtype, HALF_TOLERANCE))
        return torch.as_tensor(places).reshape(*self.batch_shape(g), 1)

    def word_length(self, g: Any) -> Tensor:
        """How many generators or inverses of them a shortest word for g (...) needs, in a finite group.

        Raises ValueError for a matrix that is none of the elements.
        """
        g = self.check(g)
        matrices = g.detach().reshape(-1, self.dim, self.dim).double().cpu().numpy()
        places = self._closure.positions(matrices, TOLERANCES.get(g.dtype, HALF_TOLERANCE))
        lengths = torch.as_tensor(self._closure.distance[places], device=g.device)
        return lengths.reshape(self.batch_shape(g))

    def length(self, g: Any) -> Tensor:
        """The word length in a finite group, |log g| in a group without discrete generators.

        |log g| is the length of one logarithm, the shortest where the generators are orthonormal up to one
        factor. Raises ValueError for a group with both, and where `log` does.
        """
        if self.lie_dim == 0:
            return self.word_length(g)
        if len(self.discrete):
            raise ValueError(f"{self!r} has Lie and discrete generators: there is no one length")
        norm: Tensor = torch.linalg.vector_norm(self.log(g), dim=-1)
        return norm

    @property
    def diameter(self) -> float:
        """The largest word length in a finite group; infinity, a bound that says nothing, in a group without
        discrete generators. Raises ValueError for a group with both."""
        if self.lie_dim == 0:
            return float(self._closure.distance.max())
        if len(self.discrete):
            raise ValueError(f"{self!r} has Lie and discrete generators: there is no one length")
        return math.inf

    @property
    def injectivity_radius(self) -> float:
        if self.lie_dim == 0:
            return super().injectivity_radius
        raise ValueError(f"the injectivity radius of {self!r} is not known")

    @property
    def discrete_elements(self) -> tuple[Any, ...]:
        return tuple(torch.tensor(self.discrete))

    def conjugates(self) -> tuple[Element, ...]:
        """The discrete generators and all their conjugates.

        Finitely many where the discrete generators generate a finite group and commute with the algebra.
        Raises ValueError where they do not.
        """
        for k, s in enumerate(self.discrete):
            if self.lie_dim and np.abs(s @ self.algebra - self.algebra @ s).max() > 1e-8:
                raise ValueError(
                    f"elements[{k}] of {self!r} does not commute with the algebra, so its conjugates may be "
                    'infinitely many: use generators="given"'
                )
        if not len(self.discrete):
            return ()
        closure = self._closure if self.lie_dim == 0 else MatrixClosure(self.discrete)
        found: dict[int, None] = {}
        for s in self.discrete:
            moved = closure.elements @ s @ closure.elements.transpose(0, 2, 1)
            found.update(dict.fromkeys(closure.positions(moved, 1e-6).tolist()))
        return tuple(torch.tensor(closure.elements[list(found)]))
