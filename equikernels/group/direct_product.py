"""Direct products of groups. An element is the tuple of its parts, one for each factor."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.linalg import block_diag
from torch import Tensor

from equikernels.group.compiling import outside_of_graphs
from equikernels.group.group import Element, Group, Label
from equikernels.group.intertwiners import NULL_TOLERANCE
from equikernels.group.kronecker import components, kronecker
from equikernels.group.product_elements import ProductElements

if TYPE_CHECKING:
    from equikernels.group.representation import Representation


# torch.compile cannot trace how the components are found: it leaves the graph here.
@outside_of_graphs
def first_embedding(factors: tuple[Group, ...], labels: tuple[Label, ...], i: int) -> np.ndarray:
    """The embedding (D, d) of the first copy of component `i` of a Kronecker product of irreps."""
    first: np.ndarray = components(factors, labels)[i][0].copy()
    return first


@dataclass(frozen=True, init=False)
class DirectProduct(ProductElements):
    """The direct product of two or more groups.

    Elements are tuples (g1, ..., gk), one part for each factor as that group writes it; batch shapes
    broadcast, and parts on the CPU follow a part on an accelerator. A product may be a factor of another
    one: its elements then nest. Algebra coordinates are those of the factors, one after the other.

    Irreps are labelled (l1, ..., lk) by labels of the factors: the Kronecker product of their irreps in the
    order of numpy.kron. Where that is reducible, as real irreps of complex or quaternionic type make it,
    labels are (l1, ..., lk, i) with i = 0, 1, ... its inequivalent parts, in an order fixed once for all
    (under torch.compile these break the graph, the others do not).

    >>> from equikernels.group import SO3, CyclicGroup
    >>> G = DirectProduct(SO3(), CyclicGroup(3))
    >>> G, G.irrep((1, 1)).dim, G.defining().dim
    (SO(3) x C_3, 6, 5)
    >>> torus = DirectProduct(CyclicGroup(5), CyclicGroup(5))
    >>> torus.components((1, 2))
    ((1, 2, 0), (1, 2, 1))
    """

    factors: tuple[Group, ...]

    def __init__(self, *factors: Group) -> None:
        for factor in factors:
            if not isinstance(factor, Group):
                raise TypeError(f"factors of a direct product must be groups, got {factor!r}")
        if len(factors) < 2:
            raise ValueError(f"a direct product needs at least two factors, got {len(factors)}")
        object.__setattr__(self, "factors", factors)

    def __repr__(self) -> str:
        return " x ".join(f"({f!r})" if isinstance(f, DirectProduct) else repr(f) for f in self.factors)

    # -- irreducible representations -----------------------------------------------------------

    def components(self, labels: Sequence[Label]) -> tuple[Label, ...]:
        """The labels of the inequivalent irreps inside the Kronecker product of irreps of the factors."""
        if len(labels) != len(self.factors):
            raise ValueError(f"labels must name an irrep of each factor of {self!r}, got {labels!r}")
        base = tuple(f.check_label(own) for f, own in zip(self.factors, labels, strict=True))
        found = components(self.factors, base)
        if found[0].shape[1] == found[0].shape[2]:
            return (base,)
        return tuple((*base, i) for i in range(len(found)))

    def _split(self, label: Label) -> tuple[tuple[Label, ...], np.ndarray | None]:
        """The factors' labels, and the embedding (D, d) of a component of a reducible product."""
        base = label[: len(self.factors)]
        return base, first_embedding(self.factors, base, label[-1]) if len(label) > len(base) else None

    def check_label(self, label: Label) -> Label:
        count = len(self.factors)
        if not isinstance(label, tuple) or len(label) not in (count, count + 1):
            raise ValueError(f"label must be a tuple of {count} labels for {self!r}, got {label!r}")
        valid = self.components(label[:count])
        given = (*valid[0][:count], *label[count:])
        whole = not isinstance(label[-1], bool) or len(label) == count
        if given not in valid or not whole:
            raise ValueError(f"label must be {' or '.join(map(str, valid))} for {self!r}, got {label!r}")
        return valid[valid.index(given)]

    def label_order(self, label: Label) -> Any:
        own = (f.label_order(part) for f, part in zip(self.factors, label, strict=False))
        return (*own, *label[len(self.factors) :])

    def irrep_dim(self, label: Label) -> int:
        base, embedding = self._split(label)
        if embedding is not None:
            return int(embedding.shape[1])
        return math.prod([f.irrep_dim(own) for f, own in zip(self.factors, base, strict=True)])

    def irrep_matrix(self, label: Label, g: Element, dtype: torch.dtype) -> Tensor:
        base, embedding = self._split(label)
        parts = zip(self.factors, base, g, strict=True)
        rho = kronecker([f.irrep_matrix(own, part, dtype) for f, own, part in parts])
        if embedding is None:
            return rho
        e = torch.as_tensor(embedding, dtype=dtype, device=rho.device)
        return e.mT @ rho @ e

    def irrep_generators(self, label: Label) -> np.ndarray:
        base, embedding = self._split(label)
        eyes = [np.eye(f.irrep_dim(own)) for f, own in zip(self.factors, base, strict=True)]
        found = [
            reduce(np.kron, [*eyes[:i], generator, *eyes[i + 1 :]])
            for i, (f, own) in enumerate(zip(self.factors, base, strict=True))
            for generator in f.irrep_generators(own)
        ]
        if not found:
            return np.zeros((0, self.irrep_dim(label), self.irrep_dim(label)))
        return np.stack(found) if embedding is None else embedding.T @ np.stack(found) @ embedding

    def dual_matrix(self, label: Label) -> np.ndarray:
        """The orthogonal H (d, d), float64, with rho(g^-1)^T = H rho(g) H^T, from those of factors that are
        not compact; raises ValueError for a component whose dual is another component."""
        base, embedding = self._split(label)
        factors: list[Any] = list(self.factors)
        own = [
            np.eye(f.irrep_dim(part)) if f.is_compact else f.dual_matrix(part)
            for f, part in zip(factors, base, strict=True)
        ]
        h: np.ndarray = reduce(np.kron, own)
        if embedding is None:
            return h
        inside = np.asarray(embedding.T @ h @ embedding)
        if np.abs(inside @ inside.T - np.eye(len(inside))).max() > NULL_TOLERANCE:
            raise ValueError(f"the dual of irrep {label} of {self!r} is another component of {base}")
        return inside

    def tensor_candidates(self, left: Label, right: Label) -> tuple[Label, ...]:
        """The products of the factors' candidates."""
        own = [f.tensor_candidates(a, b) for f, a, b in zip(self.factors, left, right, strict=False)]
        return tuple(label for labels in itertools.product(*own) for label in self.components(labels))

    def tensor_embeddings(self, left: Label, right: Label) -> tuple[tuple[Label, np.ndarray], ...]:
        """From those of the factors, where neither label is a component of a reducible product."""
        count = len(self.factors)
        if max(len(left), len(right)) > count:
            return super().tensor_embeddings(left, right)
        own = [f.tensor_embeddings(a, b) for f, a, b in zip(self.factors, left, right, strict=True)]
        dims = [(f.irrep_dim(a), f.irrep_dim(b)) for f, a, b in zip(self.factors, left, right, strict=True)]
        # Rows come as (left 1, right 1, left 2, right 2, ...) and must stand with all of left before right.
        order = np.arange(math.prod(a * b for a, b in dims)).reshape([d for pair in dims for d in pair])
        rows = order.transpose([*range(0, 2 * count, 2), *range(1, 2 * count, 2)]).reshape(-1)
        found: list[tuple[Label, np.ndarray]] = []
        for choice in itertools.product(*own):
            both = reduce(np.kron, [embedding for _, embedding in choice])[rows]
            found += [(label, both @ e) for label, e in self._copies([part for part, _ in choice])]
        return tuple(found)

    def _copies(self, labels: Sequence[Label]) -> list[tuple[Label, np.ndarray]]:
        """Every copy of every irrep in a Kronecker product of irreps, with its embedding (D, d)."""
        found = components(self.factors, tuple(labels))
        names = self.components(labels)
        return [(name, e) for name, copies in zip(names, found, strict=True) for e in copies]

    def restrict_irrep(self, label: Label, subgroup: Group) -> tuple[tuple[Label, ...], np.ndarray]:
        if subgroup == self:
            return (label,), np.eye(self.irrep_dim(label))
        raise ValueError(
            f"{subgroup!r} has no standard embedding in {self!r}: give embedding=, for the factor i "
            "embedding=lambda g: product.inject(i, g)"
        )

    # -- representations -----------------------------------------------------------------------

    def outer(self, *representations: Representation) -> Representation:
        """The outer tensor product (g1, ..., gk) -> rho_1(g1) kron ... kron rho_k(gk).

        Raises ValueError unless there is one representation of each factor, in their order.

        >>> from equikernels.group import SO2, SO3
        >>> G = DirectProduct(SO2(), SO3())
        >>> G.outer(SO2().regular(1), SO3().defining()).irreps
        (((0, 1), 1), ((1, 1), 1))
        """
        from equikernels.group.representation import Representation

        groups = tuple(rep.group for rep in representations)
        if groups != self.factors:
            raise ValueError(f"outer takes one representation of each factor of {self!r}, got {groups!r}")
        dim = math.prod(rep.dim for rep in representations)
        labels: list[tuple[Label, int]] = []
        columns = [np.zeros((dim, 0))]
        for choice in itertools.product(*(list(rep._copies()) for rep in representations)):
            basis = reduce(np.kron, [columns for _, columns in choice])
            for label, e in self._copies([part for part, _ in choice]):
                labels.append((label, 1))
                columns.append(basis @ e)
        return Representation(self, labels, np.concatenate(columns, axis=1))

    def irreps(self, max_label: int | None = None) -> tuple[Representation, ...]:
        """All irreps of a finite product; infinite factors are taken up to `max_label`."""
        own: list[Any] = [
            f.irreps if f.order is not None else (lambda f=f: f.irreps(max_label)) for f in self.factors
        ]
        labels = [[rep.irreps[0][0] for rep in irreps()] for irreps in own]
        return tuple(
            self.irrep(name) for choice in itertools.product(*labels) for name in self.components(choice)
        )

    def trivial(self) -> Representation:
        return self.irrep(tuple(factor.trivial().irreps[0][0] for factor in self.factors))

    def defining(self) -> Representation:
        """The direct sum of the factors' defining representations; on each the other factors are trivial."""
        from equikernels.group.representation import Representation

        trivial = self.trivial().irreps[0][0]
        labels: list[tuple[Label, int]] = []
        bases = []
        for i, factor in enumerate(self.factors):
            rep = factor.defining()
            labels += [((*trivial[:i], own, *trivial[i + 1 :]), m) for own, m in rep.irreps]
            bases.append(rep.change_of_basis)
        return Representation(self, labels, block_diag(*bases))

    def regular(self, max_label: int | None = None) -> Representation:
        """rho(g) e_h = e_(g h) on the elements in their order, up to rounding; infinite factors are taken
        up to `max_label`."""
        from equikernels.group.representation import Representation

        infinite: Any
        own = []
        for infinite in self.factors:
            own.append(infinite.regular(max_label) if infinite.order is None else infinite.regular())
        form = self.outer(*own).decompose()
        return Representation(self, form.irreps, form.change_of_basis, name="regular")
