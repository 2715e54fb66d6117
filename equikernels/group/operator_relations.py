"""Whether matrices obey the relations of a group, and which relation fails where they do not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy.spatial import cKDTree
from torch import Tensor

from equikernels.group.group import Group
from equikernels.group.words import cayley_table, element_index

RESIDUAL_TOLERANCE = 1e-8
"""How far matrices may be from the relations, relative to their size."""

LARGEST_SEARCH = 2**23
"""Elements times dimension up to which the relations of a finite group are tried one by one: 128 MiB."""

PROBES = 2
"""Random vectors on which words are compared: one misses a wrong matrix with probability zero."""

LARGEST_DENOMINATOR = 12
"""Frequencies of a generator are looked for among fractions of the smallest with these denominators."""


def real_square(name: str, matrix: Any) -> np.ndarray:
    """An array or tensor as a square float64 matrix; raises TypeError or ValueError, naming it, otherwise."""
    array = np.asarray(matrix.detach().cpu() if isinstance(matrix, Tensor) else matrix)
    if array.dtype.kind not in "iuf":
        raise TypeError(f"{name} must be real, got {array.dtype}")
    if array.ndim != 2 or array.shape[0] != array.shape[1] or array.size == 0:
        raise ValueError(f"{name} must be a square matrix, got shape {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite, but it holds NaN or infinity")
    return array.astype(np.float64)


def require(what: str, defect: np.ndarray, size: float) -> None:
    """Raise ValueError if the largest entry of a defect exceeds 1e-8 of the size."""
    error = float(np.abs(defect).max(initial=0.0)) / max(size, 1e-300)
    if not error <= RESIDUAL_TOLERANCE:
        raise ValueError(f"{what} is {error:.1e} of its size")


def require_skew_and_orthogonal(lie: list[np.ndarray], discrete: list[np.ndarray]) -> None:
    """That Lie generators are skew and discrete ones orthogonal."""
    for k, matrix in enumerate(lie):
        size = float(np.abs(matrix).max())
        require(f"algebra[{k}] must be skew, but |A + A^T|", matrix + matrix.T, size)
    for k, matrix in enumerate(discrete):
        defect = matrix @ matrix.T - np.eye(len(matrix))
        require(f"elements[{k}] must be orthogonal, but |R R^T - I|", defect, float(np.abs(matrix).max()))


def require_relations(group: Group, lie: list[np.ndarray], discrete: list[np.ndarray]) -> None:
    """That matrices obey the brackets, periods, conjugations and word relations of a compact group.

    Raises ValueError that names the relation and says by how much it fails. Nothing is missed for good: a
    representation is compared with its matrices once it is found.
    """
    if lie:
        _require_brackets(group, lie)
        own = group.defining()
        _require_periods(lie, own.generators)
        _require_conjugations(lie, discrete, own.generators, own.discrete)
    listed = group.order is not None and isinstance(group.identity, Tensor)
    if discrete and listed and (group.order or 0) * len(discrete[0]) <= LARGEST_SEARCH:
        _require_words(group, discrete)


def _require_brackets(group: Group, lie: list[np.ndarray]) -> None:
    constants = group.structure_constants
    size = max(1.0, *(float(np.abs(a).max()) for a in lie)) ** 2
    for i in range(len(lie)):
        for j in range(i):
            bracket = lie[i] @ lie[j] - lie[j] @ lie[i]
            expected = np.tensordot(constants[i, j], np.stack(lie), axes=1)
            terms = " + ".join(
                f"{c:.6g} algebra[{k}]" for k, c in enumerate(constants[i, j]) if abs(c) > 1e-12
            )
            require(
                f"algebra does not obey the relations of {group!r}: "
                f"[algebra[{i}], algebra[{j}]] must be {terms or '0'}, but the difference",
                bracket - expected,
                size,
            )


def frequency_unit(a: np.ndarray) -> float | None:
    """The largest w of which all frequencies of a skew matrix are multiples (its turns by 2 pi / w close), or
    None if there is none with w >= 1/12 of the smallest frequency.

    >>> turn = np.array([[0.0, -1.0], [1.0, 0.0]])
    >>> frequency_unit(np.kron(np.diag([2.0, 3.0, 0.0]), turn))
    1.0
    """
    frequencies = np.abs(np.linalg.eigvalsh(1j * a))
    positive = frequencies[frequencies > 1e-9 * max(1.0, float(frequencies.max()))]
    if positive.size == 0:
        return None
    smallest = float(np.round(positive.min(), 12))
    for denominator in range(1, LARGEST_DENOMINATOR + 1):
        multiples = positive / smallest * denominator
        if np.abs(multiples - np.round(multiples)).max() < RESIDUAL_TOLERANCE * denominator:
            return smallest / denominator
    return None


def _require_periods(lie: list[np.ndarray], own: np.ndarray) -> None:
    """Where exp(2 pi X / w) = 1 in the group, frequencies are multiples of w."""
    for k, a in enumerate(lie):
        unit = frequency_unit(own[k])
        if unit is None:
            continue
        multiples = np.linalg.eigvalsh(1j * a) / unit
        off = np.abs(multiples - np.round(multiples))
        if off.max() <= RESIDUAL_TOLERANCE * max(1.0, float(np.abs(multiples).max())):
            continue
        worst = float(np.abs(multiples[np.argmax(off)]) * unit)
        half = np.abs(2 * multiples - np.round(2 * multiples)).max() < 1e-6
        reason = "half-integer spin, a representation of a covering group" if half else "no period"
        raise ValueError(
            f"algebra[{k}] must have frequencies that are multiples of {unit:.6g}, so that "
            f"exp({2 * np.pi / unit:.4f} X) = 1, but one is {worst:.6g}: {reason}"
        )


def _require_conjugations(
    lie: list[np.ndarray], discrete: list[np.ndarray], own: np.ndarray, own_discrete: np.ndarray
) -> None:
    """s X_k s^-1 = sum_j c_j X_j, with coefficients read off the defining representation."""
    span = own.reshape(len(own), -1).T
    size = max(1.0, *(float(np.abs(a).max()) for a in lie))
    for i, (s, own_s) in enumerate(zip(discrete, own_discrete, strict=True)):
        for k, a in enumerate(lie):
            moved = own_s @ own[k] @ own_s.T
            coefficients = np.linalg.lstsq(span, moved.ravel(), rcond=None)[0]
            terms = " + ".join(f"{c:.6g} algebra[{j}]" for j, c in enumerate(coefficients) if abs(c) > 1e-9)
            require(
                f"elements[{i}] algebra[{k}] elements[{i}]^-1 must be {terms or '0'}, but the difference",
                s @ a @ s.T - np.tensordot(coefficients, np.stack(lie), axes=1),
                size,
            )


def _steps(group: Group) -> tuple[np.ndarray, int]:
    """Positions of g s for each element g and generator s, (order, generators), and that of the identity."""
    if not group.identity.is_floating_point():
        return cayley_table(group)[:, ::2], int(element_index(group, group.identity))
    everything = group.elements()
    tree = cKDTree(everything.flatten(1).numpy())
    products = [group.compose(everything, s).flatten(1).numpy() for s in group.discrete_elements]
    table = np.stack([tree.query(product)[1] for product in products], axis=1)
    return table, int(tree.query(group.identity.flatten().numpy())[1])


def _require_words(group: Group, discrete: list[np.ndarray]) -> None:
    """Two words for one element must act alike: every edge of the Cayley graph outside the search tree."""
    table, root = _steps(group)
    rows = np.zeros((len(table), PROBES, len(discrete[0])))
    rows[root] = np.random.default_rng(0).standard_normal(rows.shape[1:])
    parent = np.full((len(table), 2), -1)
    known = np.zeros(len(table), dtype=bool)
    known[root] = True
    frontier = np.array([root])
    while frontier.size:
        reached = []
        for letter, matrix in enumerate(discrete):
            products = rows[frontier] @ matrix
            targets = table[frontier, letter]
            new = ~known[targets]
            # Multiplication by one letter is one-to-one: no target occurs twice.
            rows[targets[new]] = products[new]
            parent[targets[new]] = np.stack([frontier[new], np.full(new.sum(), letter)], axis=1)
            known[targets[new]] = True
            reached.append(targets[new])
            errors = np.abs(products - rows[targets]).max(axis=(1, 2))
            wrong = int(np.argmax(errors))
            # Vectors of norm about sqrt(dim), and words as long as the search is deep.
            if errors[wrong] > RESIDUAL_TOLERANCE * 100:
                left = [*_word(parent, root, int(frontier[wrong])), letter]
                right = _word(parent, root, int(targets[wrong]))
                raise ValueError(
                    f"elements do not obey the relations of {group!r}: the products {_spelled(left)} and "
                    f"{_spelled(right)} must be equal, but differ by {errors[wrong]:.1e}"
                )
        frontier = np.concatenate(reached)


def _word(parent: np.ndarray, root: int, position: int) -> list[int]:
    def backwards() -> Iterator[int]:
        here = position
        while here != root:
            here, letter = parent[here].tolist()
            yield letter

    return list(backwards())[::-1]


def _spelled(word: list[int]) -> str:
    return " ".join(f"elements[{letter}]" for letter in word) or "I"
