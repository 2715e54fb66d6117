"""The constraint between two irreps: closed under conjugation, or with the generators as given."""

from __future__ import annotations

from collections.abc import Hashable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch

from equikernels.group import Group, Representation
from equikernels.project.engines.isotypic import IrrepType, IsotypicForm, PairProblem, problem_of_operators

LARGEST_PROBLEM = 4096
"""Entries d_in * d_out of a matrix between two irreps up to which its constraint is decomposed."""

LISTED_ORDER = 50_000
"""Finite groups up to this order are averaged over element by element."""


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


class CharacterTable(NamedTuple):
    """Characters of a finite group's real irreps at all elements (irreps, order), and d_nu / type number."""

    labels: tuple[Hashable, ...]
    characters: np.ndarray
    weights: np.ndarray


@lru_cache(maxsize=16)
def character_table(group: Group) -> CharacterTable:
    """The characters of a finite group, in the order of its irreps and elements.

    With type t = <chi, chi> (1 real, 2 complex, 4 quaternionic), (d / t) mean over g of chi(g) rho(g) is the
    projector onto all copies of the irrep.
    """
    elements = group.check(group.elements())
    labels = tuple(rep.irreps[0][0] for rep in group.irreps())
    characters = np.stack(
        [
            group.irrep_matrix(label, elements, torch.float64).diagonal(dim1=-2, dim2=-1).sum(-1).numpy()
            for label in labels
        ]
    )
    types = (characters**2).mean(axis=1)
    dims = np.array([group.irrep_dim(label) for label in labels])
    return CharacterTable(labels, characters, dims / np.round(types))


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
    table = character_table(group)
    elements = group.check(group.elements())
    inn = group.irrep_matrix(label_in, elements, torch.float64).numpy()
    out = group.irrep_matrix(label_out, elements, torch.float64).numpy()
    order, d_in, d_out = len(inn), inn.shape[-1], out.shape[-1]
    flat_in, flat_out = inn.reshape(order, -1), out.reshape(order, -1)
    # Projectors times 1, 2, 3, ...: their sum has the irrep's number for an eigenvalue.
    weighted = (np.arange(1, len(table.labels) + 1) * table.weights) @ table.characters / order
    combined = (flat_in.T * weighted) @ flat_out
    combined = combined.reshape(d_in, d_in, d_out, d_out).transpose(0, 2, 1, 3).reshape(d_in * d_out, -1)
    numbers, vectors = np.linalg.eigh((combined + combined.T) / 2)
    index = np.round(numbers).astype(int) - 1
    if np.abs(numbers - index - 1).max() > 1e-6:
        raise ValueError(f"the irreps of {group!r} do not fill the maps from {label_in} to {label_out}")
    return [table.labels[k] for k in index], vectors


@lru_cache(maxsize=1024)
def given_problem(group: Group, label_in: Hashable, label_out: Hashable) -> PairProblem:
    """The constraint of the generators as they are."""
    _check_size(group, label_in, label_out)
    inn, out = group.irrep_constraints(label_in), group.irrep_constraints(label_out)
    pairs = list(zip(inn, out, strict=True))
    return problem_of_operators(pairs, [])
