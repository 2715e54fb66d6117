"""Permutation representations of cyclic groups: exact index maps, never a matrix product."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import torch
from scipy.special import cosdg, sindg
from torch import Tensor

from equikernels.group.cyclic import CyclicGroup
from equikernels.group.representation import Representation, frozen


class PermutationRepresentation(Representation):
    """rho(s) permutes the coordinates: (rho(s) x)[i] = x[source[i]].

    Args:
        group: a cyclic group C_n.
        source: integers (dim,), a permutation whose n-th power is the identity; raises ValueError
            otherwise.
        name: how the representation prints.

    >>> from equikernels.group import CyclicGroup
    >>> rep = PermutationRepresentation(CyclicGroup(3), np.array([2, 0, 1, 3]))
    >>> (rep(1) @ torch.tensor([10.0, 20.0, 30.0, 40.0]).double()).tolist()
    [30.0, 10.0, 20.0, 40.0]
    >>> rep.irreps
    ((0, 2), (1, 1))
    """

    _powers: np.ndarray

    def __init__(self, group: CyclicGroup, source: np.ndarray, name: str | None = None) -> None:
        source = np.ascontiguousarray(source)
        if source.ndim != 1 or source.dtype.kind not in "iu":
            raise ValueError(f"source must be a vector of integers, got {source.dtype} {source.shape}")
        if not np.array_equal(np.sort(source), np.arange(source.size)):
            raise ValueError("source must be a permutation: every index exactly once")
        powers = np.empty((group.n, source.size), dtype=np.int64)
        powers[0] = np.arange(source.size)
        for j in range(1, group.n):
            powers[j] = powers[j - 1][source]
        if not np.array_equal(powers[-1][source], powers[0]):
            raise ValueError(f"source must return to the identity after {group.n} steps for {group!r}")
        powers.setflags(write=False)
        self._init(group, source.size, name)
        self._set(_powers=powers)

    @property
    def sources(self) -> np.ndarray:
        """Index maps (n, dim) of every element: (rho(s^j) x)[i] = x[sources[j, i]]."""
        return self._powers

    def _matrix(self, g: Tensor, dtype: torch.dtype) -> Tensor:
        source = torch.as_tensor(self._powers.copy(), device=g.device)[g]
        return torch.nn.functional.one_hot(source, self.dim).to(dtype)

    # The normal form is an orbit-wise discrete Fourier transform, found only when asked for.

    @cached_property
    def _normal_form(self) -> tuple[tuple[tuple[int, int], ...], np.ndarray]:
        n, sources = len(self._powers), self._powers
        starts = np.flatnonzero(sources.min(axis=0) == np.arange(self.dim))
        # rho(s^j) e_a = e_b with sources[j][b] = a, so b = sources[-j][a].
        orbits = sources[-np.arange(n) % n][:, starts]
        returned = (orbits == starts).copy()
        returned[0] = False
        lengths = np.where(returned.any(axis=0), returned.argmax(axis=0), n)
        blocks: list[tuple[int, np.ndarray]] = []
        for length in np.unique(lengths):
            members = orbits[:length, lengths == length]
            for r in range(length // 2 + 1):
                blocks.append((r * (n // int(length)), self._fourier_modes(members, r)))
        blocks.sort(key=lambda block: block[0])
        irreps = tuple((k, c.shape[1] // self.group.irrep_dim(k)) for k, c in blocks)
        merged = {k: sum(m for j, m in irreps if j == k) for k, _ in irreps}
        return tuple(merged.items()), frozen(np.concatenate([c for _, c in blocks], axis=1))

    def _fourier_modes(self, members: np.ndarray, r: int) -> np.ndarray:
        """Columns of frequency r on orbits `members` (length, count): a cosine, then a sine for each.

        rho(s) turns (cosine, sine) by +2 pi r / length: the first axis moves towards the second.
        """
        length, count = members.shape
        degrees = 360.0 * ((r * np.arange(length)) % length) / length
        waves = [cosdg(degrees)] if 2 * r in (0, length) else [cosdg(degrees), sindg(degrees)]
        columns = np.zeros((self.dim, count, len(waves)))
        for axis, wave in enumerate(waves):
            columns[members, np.arange(count), axis] = (wave / np.linalg.norm(wave))[:, None]
        return columns.reshape(self.dim, -1)

    @property
    def irreps(self) -> tuple[tuple[int, int], ...]:
        return self._normal_form[0]

    @property
    def change_of_basis(self) -> np.ndarray:
        return self._normal_form[1]

    @property
    def _basis(self) -> np.ndarray:
        return self._normal_form[1]

    @cached_property
    def _key(self) -> tuple[Any, ...]:
        return ("permutation", self.group, self._powers[1 % len(self._powers)].tobytes())
