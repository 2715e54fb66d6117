"""Representations in normal form: an orthogonal change of basis times a direct sum of irreps."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from typing import Any

import numpy as np
import torch
from scipy.linalg import block_diag
from torch import Tensor

from equikernels.group.defects import matrix_defects
from equikernels.group.group import Element, Group, Label

ORTHOGONALITY_TOLERANCE = 1e-9


def frozen(array: np.ndarray) -> np.ndarray:
    """The array as read-only contiguous float64."""
    array = np.ascontiguousarray(array, dtype=np.float64)
    array.setflags(write=False)
    return array


class Representation:
    """A real orthogonal representation rho(g) = Q (direct sum of irreps)(g) Q^T of a group.

    Args:
        group: the group represented.
        irreps: pairs (label, multiplicity) in the order of the basis; the copies of one irrep
            stand side by side.
        change_of_basis: the orthogonal matrix Q (dim, dim), NumPy or tensor, default identity;
            raises ValueError if Q^T Q differs from I by more than 1e-9.
        name: how the representation prints.

    Representations are immutable and hashable, add (`a + b`, the direct sum) and multiply by
    integers (`3 * a`, three copies). `rep(g)` gives matrices; `generators`, `discrete` and
    `forward_differences` are float64 NumPy arrays.

    >>> from equikernels.group import SO2
    >>> rep = 2 * SO2().irrep(1) + SO2().trivial()
    >>> rep, rep.dim
    (2 [1] + [0] of SO(2), 5)
    """

    _group: Group
    _dim: int
    _name: str | None
    _irreps: tuple[tuple[Label, int], ...]
    _given_basis: np.ndarray | None

    def __init__(
        self,
        group: Group,
        irreps: Iterable[tuple[Label, int]],
        change_of_basis: np.ndarray | Tensor | None = None,
        name: str | None = None,
    ) -> None:
        merged: list[tuple[Label, int]] = []
        for label, multiplicity in irreps:
            label = group.check_label(label)
            whole = isinstance(multiplicity, (int, np.integer)) and not isinstance(multiplicity, bool)
            if not whole or multiplicity < 0:
                raise ValueError(
                    f"multiplicity of irrep {label} must be an integer >= 0, got {multiplicity!r}"
                )
            if multiplicity == 0:
                continue
            if merged and merged[-1][0] == label:
                merged[-1] = (label, merged[-1][1] + int(multiplicity))
            else:
                merged.append((label, int(multiplicity)))
        dim = sum(m * group.irrep_dim(label) for label, m in merged)
        basis: np.ndarray | None = None
        if change_of_basis is not None:
            basis = frozen(np.asarray(change_of_basis))
            if basis.shape != (dim, dim):
                raise ValueError(f"change_of_basis must have shape {(dim, dim)}, got {basis.shape}")
            defect = float(np.abs(basis.T @ basis - np.eye(dim)).max(initial=0.0))
            if not defect <= ORTHOGONALITY_TOLERANCE:
                raise ValueError(f"change_of_basis must be orthogonal, but |Q^T Q - I| is {defect:.1e}")
        self._init(group, dim, name)
        self._set(_irreps=tuple(merged), _given_basis=basis)

    def _init(self, group: Group, dim: int, name: str | None) -> None:
        self._set(_group=group, _dim=dim, _name=name)

    def _set(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"representations are immutable: {name} cannot be set")

    @classmethod
    def from_irreps(cls, group: Group, irreps: str | Iterable[tuple[Label, int]]) -> Representation:
        """The direct sum written "2x1+0" (multiplicity x label, joined by +) or as pairs.

        Labels are numbers or names: "2x1o+0e" for O(3), as e3nn writes it, "1+det" for O(2), "2xT1" for
        the cube.

        >>> from equikernels.group import CyclicGroup
        >>> Representation.from_irreps(CyclicGroup(8), "2x1+4").dim
        5
        """
        if not isinstance(irreps, str):
            return Representation(group, irreps)
        pairs: list[tuple[Label, int]] = []
        for term in irreps.split("+"):
            match = re.fullmatch(r"\s*(?:(\d+)\s*x\s*)?(\w+)\s*", term)
            if match is None:
                raise ValueError(f"irreps must read like '2x1+0' for {group!r}, got {irreps!r}")
            label = int(match[2]) if match[2].isdigit() else match[2]
            pairs.append((group.check_label(label), int(match[1] or 1)))
        return Representation(group, pairs)

    # -- what it is ----------------------------------------------------------------------------

    @property
    def group(self) -> Group:
        """The group represented."""
        return self._group

    @property
    def dim(self) -> int:
        """Dimension of the space acted on."""
        return self._dim

    @property
    def irreps(self) -> tuple[tuple[Label, int], ...]:
        """Pairs (label, multiplicity) in the order of the columns of `change_of_basis`."""
        return self._irreps

    @property
    def change_of_basis(self) -> np.ndarray:
        """The orthogonal matrix Q (dim, dim), float64: rho(g) = Q (direct sum of irreps)(g) Q^T."""
        return frozen(np.eye(self.dim)) if self._basis is None else self._basis

    @property
    def _basis(self) -> np.ndarray | None:
        """Q, or None where it is the identity."""
        return self._given_basis

    @property
    def symmetry_basis(self) -> np.ndarray | None:
        """A sparse orthogonal matrix T (dim, dim) that splits `change_of_basis`, where one is known: T^T Q is
        block-diagonal up to the order of its rows and columns, so Q is applied by T and small products."""
        return None

    @property
    def is_orthogonal(self) -> bool:
        """Whether this is an orthogonal representation, as every theorem on bounds needs."""
        return self.group.is_compact

    def decompose(self) -> Representation:
        """The isotypic decomposition: the same representation with its irreps sorted by label,
        equal irreps side by side; `irreps` and `change_of_basis` then show the blocks.

        A representation that stands so already, an index map for example, is returned as it is.
        """
        order = sorted(range(len(self.irreps)), key=lambda i: self.group.label_order(self.irreps[i][0]))
        if order == list(range(len(order))) and len({label for label, _ in self.irreps}) == len(order):
            return self
        starts = np.cumsum([0, *(m * self.group.irrep_dim(label) for label, m in self.irreps)])
        columns = np.concatenate([np.arange(starts[i], starts[i + 1]) for i in order] or [np.arange(0)])
        basis = self.change_of_basis[:, columns.astype(int)]
        return Representation(self.group, [self.irreps[i] for i in order], basis)

    # -- matrices ------------------------------------------------------------------------------

    def __call__(
        self, g: Any, dtype: torch.dtype | None = None, device: torch.device | str | None = None
    ) -> Tensor:
        """rho(g): matrices (..., dim, dim) for elements of batch shape (...).

        Differentiable in the parameters of a Lie group. `dtype` defaults to that of floating
        elements and to float64 for Python numbers and integer elements; `device` to the
        elements' device.
        """
        dtype = dtype or self.group.floating_dtype(g) or torch.float64
        return self._matrix(self.group.to(self.group.check(g), device), dtype)

    def _matrix(self, g: Element, dtype: torch.dtype) -> Tensor:
        """rho of checked elements."""
        if self.dim == 0:
            return torch.zeros(*self.group.batch_shape(g), 0, 0, dtype=dtype)
        stored = self._basis
        basis: Tensor | None = None
        columns = []
        start = 0
        for label, multiplicity in self.irreps:
            d = self.group.irrep_dim(label)
            width = multiplicity * d
            rho = self.group.irrep_matrix(label, g, dtype)
            if basis is None:
                given = np.eye(self.dim) if stored is None else stored.copy()
                basis = torch.as_tensor(given, dtype=dtype, device=rho.device)
            block = basis[:, start : start + width].reshape(self.dim, multiplicity, d)
            columns.append(torch.einsum("xma,...ab->...xmb", block, rho).flatten(-2))
            start += width
        rotated = torch.cat(columns, dim=-1)
        return rotated if stored is None or basis is None else rotated @ basis.mT

    @cached_property
    def generators(self) -> np.ndarray:
        """Lie generators (d, dim, dim), float64: the derivative of rho(exp(a)) at a = 0."""
        d = self.group.lie_dim
        if d == 0:
            return frozen(np.zeros((0, self.dim, self.dim)))
        blocks = [self.group.irrep_generators(label) for label, m in self.irreps for _ in range(m)]
        basis = self.change_of_basis
        return frozen(np.stack([basis @ block_diag(*(b[k] for b in blocks)) @ basis.T for k in range(d)]))

    @cached_property
    def discrete(self) -> np.ndarray:
        """Matrices (s, dim, dim) of the discrete generators, float64."""
        elements = self.group.discrete_elements
        if not elements:
            return frozen(np.zeros((0, self.dim, self.dim)))
        return frozen(np.stack([self(g).numpy() for g in elements]))

    @property
    def forward_differences(self) -> np.ndarray:
        """rho(s) - I for each discrete generator (s, dim, dim), float64, not scaled by a step."""
        return frozen(self.discrete - np.eye(self.dim))

    @property
    def constraints(self) -> np.ndarray:
        """Lie generators and forward differences stacked: the operators that a projector uses."""
        return frozen(np.concatenate([self.generators, self.forward_differences]))

    # -- how far it is from a representation ---------------------------------------------------

    def defects(self, data: Tensor | np.ndarray | None = None) -> dict[str, float]:
        """How far the matrices are from an orthogonal representation; all zero for an exact one.

        Returns:
            "orthogonality": the largest |rho rho^T - I|; "normality": the largest |A A^T - A^T A|
            over the constraint operators; "homomorphism": the largest |rho(g) rho(h) - rho(gh)|
            over a fixed set of pairs. Frobenius norms, each relative to |I| (or to |A|^2).
        """
        if data is not None:
            raise ValueError("data is for grid representations; this one has no pixels")
        return self._matrix_defects()

    def _matrix_defects(self) -> dict[str, float]:
        return matrix_defects(self)

    # -- algebra -------------------------------------------------------------------------------

    def restrict(self, subgroup: Group, embedding: Callable[[Any], Element] | None = None) -> Representation:
        """The representation h -> rho(embedding(h)) of a subgroup, or of any group that maps to this one.

        Without `embedding` the standard one is meant: the generator of C_n is the rotation by 2 pi / n, and
        rotations of the plane turn space about the axis z; raises ValueError where there is none. Otherwise
        `embedding` takes elements of `subgroup`, batched, to elements of `group`: a homomorphism,
        differentiable by torch where `subgroup` has a Lie algebra; raises ValueError if it is none.

        >>> from equikernels.group import CyclicGroup, DihedralGroup
        >>> D4 = DihedralGroup(4)
        >>> D4.irrep(1).restrict(CyclicGroup(2), lambda k: (4 * k) % 8).irreps  # the flip
        ((0, 1), (1, 1))
        """
        if embedding is not None:
            from equikernels.group.restriction import restrict_along

            return restrict_along(self, subgroup, embedding)
        labels: list[tuple[Label, int]] = []
        locals_: list[np.ndarray] = []
        for label, multiplicity in self.irreps:
            parts, local = self.group.restrict_irrep(label, subgroup)
            labels += [(part, 1) for _ in range(multiplicity) for part in parts]
            locals_ += [local] * multiplicity
        basis = self.change_of_basis @ block_diag(*locals_) if locals_ else None
        return Representation(subgroup, labels, basis)

    def __add__(self, other: Representation) -> Representation:
        if not isinstance(other, Representation):
            return NotImplemented
        if self.group != other.group:
            raise ValueError(
                f"representations of different groups cannot be added: {self.group!r} and {other.group!r}"
            )
        basis = None
        if self._basis is not None or other._basis is not None:
            basis = block_diag(self.change_of_basis, other.change_of_basis)
        return Representation(self.group, self.irreps + other.irreps, basis)

    def __mul__(self, copies: int) -> Representation:
        if isinstance(copies, bool) or not isinstance(copies, (int, np.integer)):
            return NotImplemented
        if copies < 0:
            raise ValueError(f"the number of copies must be >= 0, got {copies}")
        basis = None
        if self._basis is not None:
            basis = block_diag(*[self._basis] * int(copies))
        # With a change of basis the copies stand one after the other, as the direct sum says;
        # copies of a single irrep need no reordering because equal irreps are side by side.
        return Representation(self.group, self.irreps * int(copies), basis)

    __rmul__ = __mul__

    def __matmul__(self, other: Representation) -> Representation:
        """The tensor product g -> rho(g) kron sigma(g) (numpy.kron order), with its irreps found.

        The linear maps from one space to another are such a product: `hom`.
        """
        if not isinstance(other, Representation):
            return NotImplemented
        if self.group != other.group:
            raise ValueError(
                "representations of different groups have no tensor product: "
                f"{self.group!r} and {other.group!r}"
            )
        labels: list[tuple[Label, int]] = []
        columns: list[np.ndarray] = [np.zeros((self.dim * other.dim, 0))]
        for left, left_basis in self._copies():
            for right, right_basis in other._copies():
                both = np.kron(left_basis, right_basis)
                for label, embedding in self.group.tensor_embeddings(left, right):
                    labels.append((label, 1))
                    columns.append(both @ embedding)
        return Representation(self.group, labels, np.concatenate(columns, axis=1))

    def _copies(self) -> Iterator[tuple[Label, np.ndarray]]:
        """Each copy of each irrep with the columns (dim, d) of the change of basis that span it."""
        start, basis = 0, self.change_of_basis
        for label, multiplicity in self.irreps:
            d = self.group.irrep_dim(label)
            for _ in range(multiplicity):
                yield label, basis[:, start : start + d]
                start += d

    def dual(self) -> Representation:
        """g -> rho(g^-1)^T: for an orthogonal representation rho itself.

        A group that is not compact names, for each irrep, an orthogonal H with
        rho(g^-1)^T = H rho(g) H^T, its `dual_matrix(label)`.
        """
        if self.group.is_compact:
            return self
        blocks = [self.group.dual_matrix(label) for label, m in self.irreps for _ in range(m)]
        basis = self.change_of_basis @ block_diag(*blocks) if blocks else None
        return Representation(self.group, self.irreps, basis)

    def hom(self, other: Representation) -> Representation:
        """The linear maps M (other.dim, dim) from this space to that of `other`: g takes M to
        sigma(g) M rho(g)^-1. It acts on vec M, the columns of M one below the other.

        Its trivial part are the equivariant maps. Raises ValueError for representations of different groups.

        >>> from equikernels.group import SO3
        >>> SO3().defining().hom(SO3().defining()).irreps
        ((0, 1), (1, 1), (2, 1))
        """
        return self.dual() @ other

    # -- identity ------------------------------------------------------------------------------

    @cached_property
    def _key(self) -> tuple[Any, ...]:
        digest = None if self._basis is None else hashlib.sha256(self._basis.tobytes()).hexdigest()
        return (self.group, self.irreps, digest)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Representation) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __repr__(self) -> str:
        if self._name is not None:
            return f"{self._name} of {self.group!r}"
        terms = [f"[{label}]" if m == 1 else f"{m} [{label}]" for label, m in self.irreps]
        changed = "" if self._basis is None else " in another basis"
        return f"{' + '.join(terms) or 'the zero representation'} of {self.group!r}{changed}"
