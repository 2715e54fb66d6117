"""The irreps of groups of the plane, from matrices: frequencies of the turn, signs of the flip."""

from __future__ import annotations

import numpy as np

from equikernels.group.cyclic import CyclicGroup
from equikernels.group.dihedral import DihedralGroup
from equikernels.group.group import Group, Label
from equikernels.group.o2 import DETERMINANT, O2
from equikernels.group.recognise_generic import Blocks

INTEGER_TOLERANCE = 1e-8
"""How far frequencies may be from integers, relative to the largest."""


def planar_blocks(group: Group, lie: list[np.ndarray], discrete: list[np.ndarray]) -> Blocks:
    """The isotypic blocks of SO(2), O(2), C_n or D_n acting by skew and orthogonal matrices.

    Raises ValueError where a frequency is no integer, a turn does not close or a flip reverses no turn.
    """
    blocks = _turn_blocks(group, lie, discrete)
    if isinstance(group, (O2, DihedralGroup)):
        return _split_by_flip(group, blocks, discrete[-1])
    return list(blocks)


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
    if np.abs(values + frequencies).max() > INTEGER_TOLERANCE * max(1, np.abs(frequencies).max()):
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
