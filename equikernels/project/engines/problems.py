"""The constraint between two irreps: closed under conjugation, or with the generators as given."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch

from equikernels.group import Group, Representation
from equikernels.project.engines.isotypic import IrrepType, IsotypicForm, PairProblem, problem_of_operators

LARGEST_PROBLEM = 4096
"""Entries d_in * d_out of a matrix between two irreps up to which its constraint is decomposed."""

LARGEST_CHUNK = 2**24
"""Matrix entries that are held at once while a group is gone through: 128 MiB."""

LISTED_ORDER = 50_000
"""Finite groups up to this order are gone through element by element."""


class CentralValue(NamedTuple):
    """What a constraint closed under conjugation does on one irrep: its singular value and its slopes."""

    sigma: float
    lie: float
    discrete: float


def form_of_representation(rep: Representation) -> IsotypicForm:
    """The isotypic form, with the irreps' labels for keys."""
    labels = [label for label, _ in rep.irreps]
    if len(set(labels)) != len(labels):
        rep = rep.decompose()
    types, start = [], 0
    for label, copies in rep.irreps:
        d = rep.group.irrep_dim(label)
        types.append(IrrepType(label, d, copies, start))
        start += copies * d
    return IsotypicForm(rep.change_of_basis, tuple(types))


@lru_cache(maxsize=4096)
def central_value(group: Group, label: Hashable) -> CentralValue:
    """sqrt(K) on one irrep nu, for K = sum C_k^T C_k closed under conjugation.

    The average over the group of a symmetric operator is its mean eigenvalue on each irrep, so
    sigma^2 = (1 / d) sum_k |C_k on nu|^2; the generators of a finite group count once for each conjugate.
    """
    generators = group.irrep_generators(label)
    d = group.irrep_dim(label)
    eye = np.eye(d)

    def differences(elements: tuple[object, ...]) -> np.ndarray:
        found = [group.irrep_matrix(label, group.check(s), torch.float64).numpy() - eye for s in elements]
        return np.stack(found) if found else np.zeros((0, d, d))

    letters = differences(group.discrete_elements)
    closed = differences(group.conjugates()) if group.order is not None else letters
    square = (float((generators**2).sum()) + float((closed**2).sum())) / d
    lie = np.linalg.norm(generators.reshape(-1, d), 2) if len(generators) else 0.0
    discrete = max((float(np.linalg.norm(c, 2)) for c in letters), default=0.0)
    return CentralValue(float(np.sqrt(square)), float(lie), discrete)


class Character(NamedTuple):
    """The character chi of a finite group's irrep at all elements (order,), and d / <chi, chi>.

    <chi, chi> is 1, 2 or 4 for irreps of real, complex and quaternionic type. weight times the mean over g of
    chi(g) rho(g) is the projector onto all copies of the irrep.
    """

    values: np.ndarray
    weight: float


@lru_cache(maxsize=4096)
def character(group: Group, label: Hashable) -> Character:
    """The character of one irrep, in the order of the group's elements."""
    d = group.irrep_dim(label)
    values = np.concatenate([np.trace(part, axis1=1, axis2=2) for part in _matrices(group, label, d**2)])
    return Character(values, d / round(float((values**2).mean())))


def _matrices(group: Group, label: Hashable, numbers: int) -> Iterator[np.ndarray]:
    """An irrep at all elements (chunk, d, d), as many at a time as leave room for `numbers` each."""
    elements = group.check(group.elements())
    assert group.order is not None
    size = max(1, LARGEST_CHUNK // numbers)
    positions = torch.arange(group.order)
    for part in positions.split(size):
        yield group.irrep_matrix(label, _take(elements, part), torch.float64).numpy()


def _take(elements: Any, positions: torch.Tensor) -> Any:
    """Some elements of a list of all: a tensor batched over its first dimension, or a tuple of such."""
    if isinstance(elements, tuple):
        return tuple(_take(part, positions) for part in elements)
    return elements[positions]


def _check_size(group: Group, label_in: Hashable, label_out: Hashable) -> int:
    size = group.irrep_dim(label_in) * group.irrep_dim(label_out)
    if size > LARGEST_PROBLEM:
        raise ValueError(
            f"the irreps {label_in} and {label_out} of {group!r} have {size} linear maps between them, "
            f'more than {LARGEST_PROBLEM}: use method="iterative"'
        )
    return size


@lru_cache(maxsize=1024)
def central_problem(group: Group, label_in: Hashable, label_out: Hashable) -> PairProblem:
    """The constraint closed under conjugation: a number on each irrep of the linear maps."""
    size = _check_size(group, label_in, label_out)
    if group.order is not None and group.order <= LISTED_ORDER:
        labels, vectors = _split_by_characters(group, label_in, label_out)
    else:
        parts = group.tensor_embeddings(label_in, label_out)
        labels = [label for label, embedding in parts for _ in range(embedding.shape[1])]
        vectors = np.concatenate([embedding for _, embedding in parts], axis=1)
    if vectors.shape != (size, size):
        raise ValueError(f"the irreps of {group!r} between {label_in} and {label_out} are not all known")
    values = np.array([central_value(group, label) for label in labels]).reshape(-1, 3)
    return PairProblem(vectors, values[:, 0], values[:, 1], values[:, 2])


def _split_by_characters(
    group: Group, label_in: Hashable, label_out: Hashable
) -> tuple[list[Hashable], np.ndarray]:
    """The irrep that each column belongs to, and an orthonormal basis sorted by irrep."""
    candidates = group.tensor_candidates(label_in, label_out)
    known = [character(group, label) for label in candidates]
    d_in, d_out = group.irrep_dim(label_in), group.irrep_dim(label_out)
    # Projectors times 1, 2, 3, ...: their sum has the irrep's number for an eigenvalue.
    weighted = np.sum([k * chi.weight * chi.values for k, chi in enumerate(known, start=1)], axis=0)
    combined, start = np.zeros((d_in**2, d_out**2)), 0
    chunks = (_matrices(group, label, d_in**2 + d_out**2) for label in (label_in, label_out))
    for inn, out in zip(*chunks, strict=True):
        share = weighted[start : start + len(inn), None] / len(weighted)
        combined += (inn.reshape(len(inn), -1) * share).T @ out.reshape(len(out), -1)
        start += len(inn)
    combined = combined.reshape(d_in, d_in, d_out, d_out).transpose(0, 2, 1, 3).reshape(d_in * d_out, -1)
    eigenvalues, vectors = np.linalg.eigh((combined + combined.T) / 2)
    index = np.round(eigenvalues).astype(int) - 1
    if np.abs(eigenvalues - index - 1).max() > 1e-6 or index.min() < 0:
        raise ValueError(f"the irreps of {group!r} do not fill the maps from {label_in} to {label_out}")
    return [candidates[k] for k in index], vectors


@lru_cache(maxsize=1024)
def given_problem(group: Group, label_in: Hashable, label_out: Hashable) -> PairProblem:
    """The constraint of the generators as they are."""
    _check_size(group, label_in, label_out)
    inn, out = group.irrep_constraints(label_in), group.irrep_constraints(label_out)
    pairs = list(zip(inn, out, strict=True))
    return problem_of_operators(pairs, [])
