"""Normal forms of permutation representations, orbit by orbit."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy.special import cosdg, sindg

from equikernels.group.cyclic import CyclicGroup
from equikernels.group.group import Group, Label

NormalForm = tuple[tuple[tuple[Any, int], ...], np.ndarray]


def orbit_normal_form(group: Group, sources: np.ndarray) -> NormalForm:
    """Irreps with multiplicities, and the orthogonal basis that shows them.

    Args:
        group: C_n, or a group all of whose irreps are absolutely irreducible, as those of D_n are.
        sources: index maps (order, dim) of the elements: (rho(g) x)[i] = x[sources[g, i]].
    """
    blocks = (
        _cyclic_blocks(group, sources) if isinstance(group, CyclicGroup) else _real_blocks(group, sources)
    )
    blocks.sort(key=lambda block: group.label_order(block[0]))
    counts: dict[Label, int] = {}
    for label, columns in blocks:
        counts[label] = counts.get(label, 0) + columns.shape[1] // group.irrep_dim(label)
    basis = np.ascontiguousarray(np.concatenate([columns for _, columns in blocks], axis=1))
    basis.setflags(write=False)
    return tuple(counts.items()), basis


def _cyclic_blocks(group: CyclicGroup, sources: np.ndarray) -> list[tuple[Label, np.ndarray]]:
    """A discrete Fourier transform on each orbit, all orbits of one length at once."""
    n, dim = sources.shape
    starts = np.flatnonzero(sources.min(axis=0) == np.arange(dim))
    # rho(s^j) e_a = e_b with sources[j][b] = a, so b = sources[-j][a].
    orbits = sources[-np.arange(n) % n][:, starts]
    returned = orbits == starts
    returned[0] = False
    lengths = np.where(returned.any(axis=0), returned.argmax(axis=0), n)
    blocks: list[tuple[Label, np.ndarray]] = []
    for length in np.unique(lengths):
        members = orbits[:length, lengths == length]
        for r in range(length // 2 + 1):
            blocks.append((r * (n // int(length)), _fourier_modes(members, r, dim)))
    return blocks


def _fourier_modes(members: np.ndarray, r: int, dim: int) -> np.ndarray:
    """Columns of frequency r on orbits `members` (length, count): a cosine, then a sine for each.

    rho(s) turns (cosine, sine) by +2 pi r / length: the first axis moves towards the second.
    """
    length, count = members.shape
    degrees = 360.0 * ((r * np.arange(length)) % length) / length
    waves = [cosdg(degrees)] if 2 * r in (0, length) else [cosdg(degrees), sindg(degrees)]
    columns = np.zeros((dim, count, len(waves)))
    for axis, wave in enumerate(waves):
        columns[members, np.arange(count), axis] = (wave / np.linalg.norm(wave))[:, None]
    return columns.reshape(dim, -1)


def _real_blocks(group: Group, sources: np.ndarray) -> list[tuple[Label, np.ndarray]]:
    """The matrix units P_ij = d/|G| sum_g rho_ij(g) R(g) of each irrep, on each orbit.

    P_11 projects onto one vector per copy of the irrep, and P_i1 carries it to the copy's other axes:
    R(g) v_j = sum_i rho_ij(g) v_i for v_i = P_i1 v_1.
    """
    order, dim = sources.shape
    irreps = {rep.irreps[0][0]: rep(torch.arange(order)).numpy() for rep in group.irreps()}
    lowest = sources.min(axis=0)
    orbit_of = np.unique(lowest, return_inverse=True)[1]
    sizes = np.bincount(orbit_of)
    blocks: list[tuple[Label, np.ndarray]] = []
    for size in np.unique(sizes):
        chosen = np.flatnonzero(sizes[orbit_of] == size)
        members = chosen[np.argsort(orbit_of[chosen], kind="stable")].reshape(-1, size)
        place = np.empty(dim, dtype=np.int64)
        place[members] = np.arange(size)
        moved = place[sources[:, members]]  # (order, orbits, size): where each member looks, within its orbit
        actions = np.eye(size)[moved]  # R(g) on each orbit (order, orbits, size, size)
        for label, rho in irreps.items():
            d = rho.shape[-1]
            units = d / order * np.einsum("gi,goab->ioab", rho[:, :, 0], actions)
            values, vectors = np.linalg.eigh(units[0])
            orbit, which = np.nonzero(values > 0.5)
            if orbit.size == 0:
                continue
            first = vectors[orbit, :, which]
            columns = np.zeros((dim, orbit.size, d))
            for axis in range(d):
                image = np.einsum("kab,kb->ka", units[axis][orbit], first)
                columns[members[orbit], np.arange(orbit.size)[:, None], axis] = image
            blocks.append((label, columns.reshape(dim, -1)))
    return blocks
