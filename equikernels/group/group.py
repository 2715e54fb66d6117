"""The interface that every group implements: elements, laws, irreducible representations."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from equikernels.group.representation import Representation

Label = Any
"""What names an irreducible representation; each group says in its docstring how."""

Element = Any
"""One or many elements: a tensor, or a tuple of tensors for groups that are products of sets."""


class Group(ABC):
    """A group given by Lie generators and discrete generators.

    Elements are tensors (or Python numbers), batched over leading dimensions; each group says
    in its own docstring how one element is written. Groups are immutable and hashable: two
    groups are equal exactly when they have the same elements in the same convention.
    """

    @property
    @abstractmethod
    def lie_dim(self) -> int:
        """Dimension of the Lie algebra (0 for a finite group)."""

    @property
    def is_compact(self) -> bool:
        """Whether the group is compact, so that its representations here are orthogonal and bounds hold."""
        return True

    @property
    def order(self) -> int | None:
        """Number of elements, None for an infinite group."""
        return None

    # -- elements ------------------------------------------------------------------------------

    @property
    @abstractmethod
    def identity(self) -> Element:
        """The neutral element."""

    @abstractmethod
    def check(self, g: Any) -> Element:
        """`g` as a tensor of elements; raises TypeError or ValueError where it is none."""

    def batch_shape(self, g: Element) -> torch.Size:
        """The shape (...) over which checked elements are batched."""
        return torch.Size(g.shape)

    def to(self, g: Element, device: torch.device | str | None) -> Element:
        """Checked elements on another device (None: where they are)."""
        return g if device is None else g.to(device)

    def floating_dtype(self, g: Any) -> torch.dtype | None:
        """The dtype of floating tensor elements, None for numbers and integers."""
        return g.dtype if isinstance(g, Tensor) and g.is_floating_point() else None

    def unbind(self, g: Element) -> list[Element]:
        """The elements of a checked batch one by one, in row-major order."""
        return list(g.reshape(-1))

    @abstractmethod
    def compose(self, g: Any, h: Any) -> Element:
        """The product g h, so that rho(compose(g, h)) = rho(g) rho(h)."""

    @abstractmethod
    def inverse(self, g: Any) -> Element:
        """The inverse element."""

    @abstractmethod
    def sample(
        self,
        n: int,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Element:
        """`n` independent elements from the Haar measure (uniform on a finite group)."""

    def elements(self) -> Element:
        """All elements of a finite group; raises ValueError for an infinite one."""
        raise ValueError(f"{self!r} is infinite: it has no list of elements; use sample(n)")

    def numbers(self, g: Element) -> Tensor:
        """Integers (..., k), none negative, that tell checked elements of a finite group apart."""
        if not isinstance(g, Tensor) or g.dtype != torch.int64:
            raise TypeError(f"elements of {self!r} are no integers, so words are not found for them")
        return g.reshape(*self.batch_shape(g), -1)

    def quadrature(self, degree: int | None = None) -> tuple[Element, Tensor]:
        """Elements and weights (float64, sum 1) that integrate over the Haar measure.

        Exact for every matrix entry of the irreps up to frequency `degree`; a finite group needs no
        degree: its quadrature is the list of its elements and is exact for every function. Raises
        ValueError for a group without one.
        """
        raise ValueError(f"no quadrature is available for {self!r} yet: average over sample(n)")

    @property
    def structure_constants(self) -> np.ndarray:
        """c (d, d, d), float64, with [X_i, X_j] = sum_k c_ijk X_k; zero for abelian algebras."""
        return np.zeros((self.lie_dim,) * 3)

    @abstractmethod
    def exp(self, a: Any) -> Element:
        """The element exp(sum_k a_k X_k) of algebra coordinates (..., lie_dim)."""

    @abstractmethod
    def log(self, g: Any) -> Tensor:
        """Algebra coordinates (..., lie_dim) of a shortest logarithm."""

    @abstractmethod
    def word_length(self, g: Any) -> Tensor:
        """|g|_S: how many letters, s or the inverse of s for a generator s, a shortest word needs."""

    @abstractmethod
    def length(self, g: Any) -> Tensor:
        """What a bound multiplies: the norm |a| of a shortest logarithm, or the word length."""

    @property
    @abstractmethod
    def diameter(self) -> float:
        """The largest `length` of an element."""

    def lengths(self, g: Any) -> tuple[Tensor, Tensor]:
        """The two parts (|a|, letters) of a length: of a Lie element and of a word in discrete generators.

        A Lie group has letters 0, a finite group |a| = 0. A group with both writes g as a product of the
        two; raises ValueError where it has no such form.
        """
        if self.lie_dim and self.discrete_elements:
            raise ValueError(f"elements of {self!r} have no known split into a Lie part and a word")
        length = self.length(g)
        return (length, torch.zeros_like(length)) if self.lie_dim else (torch.zeros_like(length), length)

    @property
    def diameters(self) -> tuple[float, float]:
        """The largest `lengths` of an element, part by part; infinite where they are not known."""
        if self.lie_dim and self.discrete_elements:
            return math.inf, math.inf
        return (self.diameter, 0.0) if self.lie_dim else (0.0, self.diameter)

    @property
    def injectivity_radius(self) -> float:
        """The radius of the ball around 0 on which exp is one-to-one; raises ValueError for finite groups."""
        raise ValueError(f"{self!r} has no Lie algebra, so exp has no injectivity radius")

    @property
    @abstractmethod
    def discrete_elements(self) -> tuple[Any, ...]:
        """The discrete generators as elements (empty for a connected Lie group)."""

    def conjugates(self) -> tuple[Element, ...]:
        """The discrete generators of a finite group and all their conjugates g s g^-1.

        A sum over this set commutes with the group; a sum over the generators alone need not.
        """
        everything = self.elements()
        inverses = self.inverse(everything)
        found: dict[int, None] = {}
        for s in self.discrete_elements:
            for element in self.compose(self.compose(everything, s), inverses).tolist():
                found[element] = None
        return tuple(found)

    def act(self, z: Tensor, g: Any, *, method: str = "auto", padding: str | None = None) -> Tensor:
        """rho(g) z on images (N, C, ..., H, W) or volumes (N, C, D, H, W), (rho(g) z)(p) = z(g^-1 p).

        Groups of the plane move images about their centre, those of space volumes, with one element for all
        samples or one for each of the N; elements that are tensors must be on the device of `z`.

        Args:
            z: data; real and floating unless the action is exact, which moves any dtype bit by bit.
            g: one element, or a batch of N.
            method: "exact" moves pixels to pixels, for C_n and D_n with n = 1, 2, 4 and for the cube group;
                "nearest", "bilinear" (trilinear in space) and, in the plane, "bicubic" interpolate
                (:func:`equikernels.ops.rotate`); "shear" and "spectral" keep the group law, wrapping round
                (:func:`equikernels.ops.shear_rotate`, :func:`equikernels.ops.spectral_rotate`, for square
                images). "auto" is exact where that exists and bilinear elsewhere.
            padding: what lies outside for the methods that interpolate: "zeros" (the default), "border" or
                "reflection".

        Gradients go to `z` and to angles and matrices.

        Raises:
            TypeError: `g` is no element. ValueError: a wrong shape, or a method or padding that the group
            does not have; and for groups that have no action on images or volumes.
        """
        raise ValueError(f"{self!r} has no action on images or volumes: apply a representation to vectors")

    # -- irreducible representations -----------------------------------------------------------

    @abstractmethod
    def check_label(self, label: Label) -> Label:
        """The label in its normal form; raises ValueError for a label that names no irrep."""

    def label_order(self, label: Label) -> Any:
        """The key by which a decomposition sorts its irreps."""
        return label

    @abstractmethod
    def irrep_dim(self, label: Label) -> int:
        """Real dimension of an irrep."""

    @abstractmethod
    def irrep_matrix(self, label: Label, g: Element, dtype: torch.dtype) -> Tensor:
        """Matrices (..., d, d) of an irrep at checked elements, on the elements' device."""

    @abstractmethod
    def irrep_generators(self, label: Label) -> np.ndarray:
        """Lie generators (lie_dim, d, d) of an irrep, float64, skew-symmetric."""

    def irrep_constraints(self, label: Label) -> np.ndarray:
        """Constraint operators (k, d, d) of an irrep, float64: Lie generators, then forward differences."""
        operators = list(self.irrep_generators(label))
        for element in self.discrete_elements:
            rho = self.irrep_matrix(label, self.check(element), torch.float64).numpy()
            operators.append(rho - np.eye(len(rho)))
        return np.stack(operators)

    def tensor_candidates(self, left: Label, right: Label) -> tuple[Label, ...]:
        """Labels among which the irreps of left tensor right are; of a finite group all labels."""
        return tuple(rep.irreps[0][0] for rep in self.irreps())

    def tensor_embeddings(self, left: Label, right: Label) -> tuple[tuple[Label, np.ndarray], ...]:
        """The irreps inside left tensor right, each with its isometric embedding (d_left * d_right, d).

        Side by side the embeddings are orthogonal and block-diagonalise the Kronecker product.
        """
        from equikernels.group.intertwiners import tensor_embeddings

        return tensor_embeddings(self, left, right)

    def dual_matrix(self, label: Label) -> np.ndarray:
        """The orthogonal H (d, d) with rho(g^-1)^T = H rho(g) H^T for an irrep: I where it is orthogonal."""
        if not self.is_compact:
            raise ValueError(f"the dual of the irreps of {self!r} is not known")
        return np.eye(self.irrep_dim(label))

    @abstractmethod
    def restrict_irrep(self, label: Label, subgroup: Group) -> tuple[tuple[Label, ...], np.ndarray]:
        """Labels of the subgroup's irreps inside an irrep, and the orthogonal matrix Q (d, d)
        with rho(h) = Q (direct sum of the labels)(h) Q^T; raises ValueError where `subgroup`
        is not a subgroup in the standard embedding."""

    @abstractmethod
    def irreps(self) -> tuple[Representation, ...]:
        """The irreps of a finite group; an infinite one takes `max_label`, the highest frequency wanted."""

    @abstractmethod
    def defining(self) -> Representation:
        """The representation by which the group is usually given."""

    @abstractmethod
    def regular(self) -> Representation:
        """The regular representation; an infinite group takes `max_label` and gives the part up to it."""

    def irrep(self, label: Label) -> Representation:
        """One irreducible representation by its label."""
        from equikernels.group.representation import Representation

        return Representation(self, [(label, 1)])

    @abstractmethod
    def trivial(self) -> Representation:
        """The one-dimensional representation rho(g) = 1."""
