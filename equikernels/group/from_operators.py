"""Representations given by their matrices alone: the irreps inside, found numerically."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from equikernels.group.cyclic import CyclicGroup
from equikernels.group.dihedral import DihedralGroup
from equikernels.group.group import Group, Label
from equikernels.group.o2 import DETERMINANT, O2
from equikernels.group.representation import Representation
from equikernels.group.so2 import SO2

RESIDUAL_TOLERANCE = 1e-8
"""How far the irreps put together may be from the given matrices, relative to their size."""

Blocks = list[tuple[Label, np.ndarray]]
"""Labels with bases (dim, copies * d) of their isotypic parts, the copies side by side."""


def representation_from_operators(
    group: Group,
    *,
    algebra: Sequence[np.ndarray | Tensor] = (),
    elements: Sequence[np.ndarray | Tensor] = (),
) -> Representation:
    """The representation of a group whose generators act by the given matrices.

    Args:
        group: SO2(), O2(), CyclicGroup(n) or DihedralGroup(n).
        algebra: skew matrices (dim, dim), one for each Lie generator: the derivative of rho(exp(t X)) at 0.
        elements: orthogonal matrices, one for each of `group.discrete_elements`: the turn by 2 pi / n for
            C_n, the turn and the flip for D_n, the flip for O(2) beside its algebra.

    Returns:
        A Representation with irreps sorted by label and a float64 change of basis, equal to the given
        matrices up to 1e-8 of their size; `decompose()` is itself.

    Raises:
        TypeError, ValueError: a wrong number of matrices, wrong shapes, NaN, matrices that are not skew or
            not orthogonal, or that do not obey the relations of the group, frequencies that are no integers.

    >>> turn = np.kron([[0.0, -1.0], [1.0, 0.0]], np.diag([1.0, 3.0]))
    >>> representation_from_operators(SO2(), algebra=[turn]).irreps
    ((1, 1), (3, 1))
    """
    if not isinstance(group, (SO2, O2, CyclicGroup, DihedralGroup)):
        raise ValueError(f"group must be SO2(), O2(), CyclicGroup(n) or DihedralGroup(n), got {group!r}")
    lie = _matrices("algebra", algebra, group.lie_dim, group)
    discrete = _matrices("elements", elements, len(group.discrete_elements), group)
    dims = {len(matrix) for matrix in lie + discrete}
    if len(dims) != 1:
        raise ValueError(f"algebra and elements must all have one dimension, got {sorted(dims)}")
    for k, matrix in enumerate(lie):
        _require(f"algebra[{k}] must be skew, but |A + A^T|", matrix + matrix.T, matrix)
    for k, matrix in enumerate(discrete):
        _require(
            f"elements[{k}] must be orthogonal, but |R R^T - I|",
            matrix @ matrix.T - np.eye(len(matrix)),
            matrix,
        )

    blocks = _turn_blocks(group, lie, discrete)
    if isinstance(group, (O2, DihedralGroup)):
        blocks = _split_by_flip(group, blocks, discrete[-1])
    blocks.sort(key=lambda block: group.label_order(block[0]))
    irreps = [(label, basis.shape[1] // group.irrep_dim(label)) for label, basis in blocks]
    rep = Representation(
        group, irreps, _orthogonalised(np.concatenate([basis for _, basis in blocks], axis=1))
    )
    for name, given, found in (("algebra", lie, rep.generators), ("elements", discrete, rep.discrete)):
        for k, (matrix, rebuilt) in enumerate(zip(given, found, strict=True)):
            what = f"{name}[{k}] does not obey the relations of {group!r}: its distance from a representation"
            _require(what, matrix - rebuilt, matrix)
    return rep


def _matrices(name: str, given: Sequence[Any], count: int, group: Group) -> list[np.ndarray]:
    if len(given) != count:
        raise ValueError(f"{name} must hold {count} matrices for {group!r}, got {len(given)}")
    found = []
    for k, matrix in enumerate(given):
        array = np.asarray(matrix.detach().cpu() if isinstance(matrix, Tensor) else matrix)
        if array.dtype.kind not in "iuf":
            raise TypeError(f"{name}[{k}] must be real, got {array.dtype}")
        if array.ndim != 2 or array.shape[0] != array.shape[1] or array.size == 0:
            raise ValueError(f"{name}[{k}] must be a square matrix, got shape {array.shape}")
        if not np.isfinite(array).all():
            raise ValueError(f"{name}[{k}] must be finite, but it holds NaN or infinity")
        found.append(array.astype(np.float64))
    return found


def _require(what: str, defect: np.ndarray, matrix: np.ndarray) -> None:
    size = max(float(np.abs(matrix).max()), 1e-300)
    error = float(np.abs(defect).max()) / size
    if not error <= RESIDUAL_TOLERANCE:
        raise ValueError(f"{what} is {error:.1e} of its size")


def _orthogonalised(basis: np.ndarray) -> np.ndarray:
    """The nearest orthogonal matrix: bases of different eigenspaces are orthogonal up to rounding only."""
    u, _, vt = np.linalg.svd(basis)
    return np.asarray(u @ vt)


# -- turns ---------------------------------------------------------------------------------------------------


def _planes(j: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """Planes (dim, copies * 2) of a complex structure j (J^2 = -1) on the space that `basis` spans.

    For z = (x - i y) / sqrt 2 with J z = i z the plane (x, y) turns its first axis towards the second.
    """
    values, vectors = np.linalg.eigh(1j * j)
    z = basis @ vectors[:, values < 0]
    return np.stack([np.sqrt(2) * z.real, -np.sqrt(2) * z.imag], axis=-1).reshape(len(basis), -1)


def _turn_blocks(
    group: Group, lie: list[np.ndarray], discrete: list[np.ndarray]
) -> list[tuple[int, np.ndarray]]:
    """Spaces of each frequency; planes stand as (first, second) pairs."""
    if lie:
        return _frequencies_of_generator(lie[0])
    n = group.n if isinstance(group, (CyclicGroup, DihedralGroup)) else 1
    dim = len(discrete[0])
    # In D_1 the turn is the identity and not among the generators.
    turn = discrete[0] if not (isinstance(group, DihedralGroup) and n == 1) else np.eye(dim)
    return _frequencies_of_turn(turn, n)


def _frequencies_of_generator(a: np.ndarray) -> list[tuple[int, np.ndarray]]:
    values, vectors = np.linalg.eigh(1j * a)
    frequencies = np.round(-values).astype(int)
    if np.abs(values + frequencies).max() > RESIDUAL_TOLERANCE * max(1, np.abs(frequencies).max()):
        worst = float(-values[np.argmax(np.abs(values + frequencies))])
        raise ValueError(f"algebra[0] must have integer frequencies, but one is {worst:.6g}")
    blocks: list[tuple[int, np.ndarray]] = []
    for k in np.unique(np.abs(frequencies)):
        z = vectors[:, frequencies == k]
        if k == 0:
            # The null space is real: its projector is, and has the same image.
            _, null = np.linalg.eigh((z @ z.conj().T).real)
            blocks.append((0, null[:, -z.shape[1] :]))
        else:
            pairs = np.stack([np.sqrt(2) * z.real, -np.sqrt(2) * z.imag], axis=-1)
            blocks.append((int(k), pairs.reshape(len(a), -1)))
    return blocks


def _frequencies_of_turn(turn: np.ndarray, n: int) -> list[tuple[int, np.ndarray]]:
    # The cosine 2 pi k / n is different for each k up to n/2, and R + R^T is symmetric.
    values, vectors = np.linalg.eigh((turn + turn.T) / 2)
    frequencies = np.round(np.arccos(np.clip(values, -1, 1)) * n / (2 * np.pi)).astype(int)
    blocks: list[tuple[int, np.ndarray]] = []
    for k in np.unique(frequencies):
        basis = vectors[:, frequencies == k]
        if k == 0 or 2 * k == n:
            blocks.append((int(k), basis))
            continue
        j = basis.T @ (turn - turn.T) @ basis / (2 * np.sin(2 * np.pi * k / n))
        if basis.shape[1] % 2 or np.abs(j @ j + np.eye(len(j))).max() > 1e-6:
            raise ValueError(f"elements[0] does not return to the identity after {n} steps")
        blocks.append((int(k), _planes(j, basis)))
    return blocks


# -- flips ---------------------------------------------------------------------------------------------------


def _split_by_flip(group: Group, blocks: list[tuple[int, np.ndarray]], flip: np.ndarray) -> Blocks:
    """The irreps with a flip inside each frequency, from those of the turn."""
    n = group.n if isinstance(group, DihedralGroup) else None
    found: Blocks = []
    for k, basis in blocks:
        one_dimensional = k == 0 or (n is not None and 2 * k == n)
        inside = basis.T @ flip @ basis
        values, vectors = np.linalg.eigh((inside + inside.T) / 2)
        if one_dimensional:
            for sign in (0, 1):
                part = basis @ vectors[:, (values < 0) == bool(sign)]
                label: Label = ("1d", 0 if k == 0 else 1, sign)
                if n is None:
                    label = DETERMINANT if sign else 0
                if part.shape[1]:
                    found.append((label, part))
            continue
        # The irrep has the flip (-1)^k diag(1, -1): its first axis is an eigenvector of that sign, and the
        # turn by a quarter inside the plane carries it to the second.
        chosen = values > 0 if k % 2 == 0 else values < 0
        if 2 * chosen.sum() != len(values):
            raise ValueError("elements[-1] does not reverse the turns, as a flip must")
        first = vectors[:, chosen]
        quarter = np.kron(np.eye(len(values) // 2), [[0.0, -1.0], [1.0, 0.0]])
        pairs = np.stack([basis @ first, basis @ (quarter @ first)], axis=-1)
        found.append((k, pairs.reshape(len(flip), -1)))
    return found
