"""Intertwiners between small representations, and with them the irreps inside a tensor product."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch

from equikernels.group.group import Group, Label

NULL_TOLERANCE = 1e-8
"""Singular values of the intertwining equations below this are zeros; the others are of order one."""


def _generating_operators(group: Group, label: Label) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Lie generators and discrete generators of an irrep."""
    lie = list(group.irrep_generators(label))
    elements = [group.check(s) for s in group.discrete_elements]
    return lie, [group.irrep_matrix(label, s, torch.float64).numpy() for s in elements]


def intertwiner_space(
    lie: list[tuple[np.ndarray, np.ndarray]], discrete: list[tuple[np.ndarray, np.ndarray]]
) -> np.ndarray:
    """An orthonormal basis (count, m, n) of the T with B T = T A for every pair (A, B) of operators.

    `lie` holds pairs of Lie generators, `discrete` pairs of matrices: the equations are the same.
    """
    pairs = lie + discrete
    m, n = pairs[0][1].shape[0], pairs[0][0].shape[0]
    # Row-major vec: vec(B T) = (B kron I) vec T, vec(T A) = (I kron A^T) vec T.
    rows = [np.kron(b, np.eye(n)) - np.kron(np.eye(m), a.T) for a, b in pairs]
    _, sigma, vt = np.linalg.svd(np.concatenate(rows))
    return np.asarray(vt[np.flatnonzero(sigma < NULL_TOLERANCE)].reshape(-1, m, n))


def embeddings(space: np.ndarray) -> list[np.ndarray]:
    """Isometric embeddings (m, n) of an irrep with orthogonal images, from all its intertwiners.

    An intertwiner out of an irrep is a multiple of an isometry. Removing from the others what maps into
    the images already taken leaves intertwiners, so a Gram-Schmidt process finds one for each copy, for
    irreps of real, complex and quaternionic type alike.
    """
    found: list[np.ndarray] = []
    for candidate in space:
        t = candidate
        for _ in range(2):  # twice is enough for orthogonality to rounding
            for taken in found:
                t = t - taken @ (taken.T @ t)
        length = float(np.linalg.norm(t)) / np.sqrt(t.shape[1])
        if length > NULL_TOLERANCE:
            found.append(_signed(t / length))
    return found


def _signed(t: np.ndarray) -> np.ndarray:
    """Of t and -t the one whose first large entry is positive: bases must not depend on LAPACK's sign."""
    flat = t.ravel()
    return np.asarray(t * np.sign(flat[np.argmax(np.abs(flat) > 0.5 * np.abs(flat).max())]))


@lru_cache(maxsize=512)
def tensor_embeddings(group: Group, left: Label, right: Label) -> tuple[tuple[Label, np.ndarray], ...]:
    """The irreps inside left tensor right, each with its embedding (d_left * d_right, d), float64.

    The embeddings side by side are an orthogonal matrix Q with
    rho_left(g) kron rho_right(g) = Q (direct sum of the irreps)(g) Q^T. Raises ValueError if the candidates
    that the group names do not fill the product.
    """
    lie_left, discrete_left = _generating_operators(group, left)
    lie_right, discrete_right = _generating_operators(group, right)
    eye_left, eye_right = np.eye(group.irrep_dim(left)), np.eye(group.irrep_dim(right))
    lie = [np.kron(a, eye_right) + np.kron(eye_left, b) for a, b in zip(lie_left, lie_right, strict=True)]
    discrete = [np.kron(a, b) for a, b in zip(discrete_left, discrete_right, strict=True)]
    found: list[tuple[Label, np.ndarray]] = []
    for label in group.tensor_candidates(left, right):
        lie_label, discrete_label = _generating_operators(group, label)
        space = intertwiner_space(
            list(zip(lie_label, lie, strict=True)), list(zip(discrete_label, discrete, strict=True))
        )
        for t in embeddings(space):
            t.setflags(write=False)
            found.append((label, t))
    if sum(t.shape[1] for _, t in found) != len(eye_left) * len(eye_right):
        raise ValueError(f"the irreps of {group!r} inside {left} tensor {right} are not all known")
    return tuple(found)
