"""A sparse orthogonal matrix as what it does to orbits: few numbers, whatever its size."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from equikernels.ops.bases.constants import ConstantArray, Constants

LARGEST_ORBIT = 64
"""Coordinates that one orbit may mix: the kernel keeps them in a buffer of its own."""

NEGLIGIBLE = 1e-12
"""Entries below this are rounding: those of an orthogonal matrix have the size one."""

DIGITS = 9
"""Digits by which two small matrices count as one."""


@dataclass(frozen=True, eq=False)
class OrbitFamily:
    """Orbits that are mixed by one and the same matrix.

    Attributes:
        inputs, outputs: int32 (size, orbits), coordinates before and after.
        mix: float64 (size, size): y[outputs[a, s]] = sum over b of mix[a, b] x[inputs[b, s]].
    """

    inputs: np.ndarray
    outputs: np.ndarray
    mix: np.ndarray

    @classmethod
    def single(cls, inputs: np.ndarray, outputs: np.ndarray, mix: np.ndarray) -> OrbitFamily:
        """A family of one orbit, with coordinates (size,) before and after."""
        before, after = (np.ascontiguousarray(t[:, None], dtype=np.int32) for t in (inputs, outputs))
        return cls(before, after, np.ascontiguousarray(mix))

    @cached_property
    def runs(self) -> tuple[int, int]:
        """Bit b of the first number: row b of `inputs` holds consecutive numbers; the second: `outputs`."""

        def bits(table: np.ndarray) -> int:
            consecutive = (np.diff(table, axis=1) == 1).all(axis=1)
            return sum(1 << b for b in np.flatnonzero(consecutive).tolist())

        return bits(self.inputs), bits(self.outputs)

    @property
    def inverse(self) -> OrbitFamily:
        """The way back, for an orthogonal mix."""
        return OrbitFamily(self.outputs, self.inputs, np.ascontiguousarray(self.mix.T))

    def copies(self, inputs: np.ndarray, outputs: np.ndarray) -> OrbitFamily:
        """The same mix in several copies of the coordinates.

        `inputs` (copies, dim) and `outputs` (copies, dim) say where each copy's coordinates are.
        """

        def placed(table: np.ndarray, at: np.ndarray) -> np.ndarray:
            moved = at[:, table].transpose(1, 0, 2)
            return np.ascontiguousarray(moved.reshape(len(table), -1), dtype=np.int32)

        return OrbitFamily(placed(self.inputs, inputs), placed(self.outputs, outputs), self.mix)


class OrbitTransform:
    """x -> x T for an orthogonal T whose rows and columns fall into small sets that do not meet.

    Such are the Fourier transforms of permutation representations, orbit by orbit, bases adapted to the
    symmetries of a grid, permutations, and direct sums of small matrices. Immutable.

    Attributes:
        dim: the number of coordinates.
        families: OrbitFamily for each different small matrix.
        inverse: x -> x T^T.
    """

    inverse: OrbitTransform

    def __init__(self, dim: int, families: tuple[OrbitFamily, ...]) -> None:
        self._set(dim, families)
        self.inverse = OrbitTransform.__new__(OrbitTransform)
        self.inverse._set(dim, tuple(family.inverse for family in families))
        self.inverse.inverse = self

    def _set(self, dim: int, families: tuple[OrbitFamily, ...]) -> None:
        self.dim = dim
        self.families = families
        self.constants = Constants()
        self._arrays = [tuple(map(ConstantArray, (f.inputs, f.outputs, f.mix))) for f in families]

    @classmethod
    def of_matrix(cls, matrix: np.ndarray) -> OrbitTransform | None:
        """The transform of an orthogonal T (dim, dim), or None where more than 64 coordinates mix.

        Raises ValueError for a matrix with parts that are not square, which no orthogonal one has.

        >>> OrbitTransform.of_matrix(np.eye(6)[::-1]).largest
        1
        """
        dim = len(matrix)
        if dim == 0:
            return cls(0, ())
        rows, columns, count = connected_parts(matrix)
        sizes = np.bincount(columns, minlength=count)
        if not np.array_equal(sizes, np.bincount(rows, minlength=count)):
            raise ValueError("matrix: expected an orthogonal one, got parts that are not square")
        if sizes.max() > LARGEST_ORBIT:
            return None
        by_matrix: dict[tuple[int, bytes], list[tuple[np.ndarray, np.ndarray, np.ndarray]]] = {}
        row_sets = np.split(
            np.argsort(rows, kind="stable"), np.cumsum(np.bincount(rows, minlength=count))[:-1]
        )
        column_sets = np.split(
            np.argsort(columns, kind="stable"), np.cumsum(np.bincount(columns, minlength=count))[:-1]
        )
        for inputs, outputs in zip(row_sets, column_sets, strict=True):
            mix = matrix[np.ix_(inputs, outputs)].T
            rounded = np.round(mix, DIGITS) + 0.0
            # Orbits are listed from any point: with sorted points, equal ones look equal.
            order = np.lexsort(rounded[::-1])
            key = (len(inputs), rounded[:, order].tobytes())
            by_matrix.setdefault(key, []).append((inputs[order], outputs, mix[:, order]))
        families = []
        for found in by_matrix.values():
            before, after = (np.stack([part[k] for part in found], axis=1).astype(np.int32) for k in (0, 1))
            families.append(OrbitFamily(before, after, np.ascontiguousarray(found[0][2])))
        return cls(dim, tuple(families))

    @property
    def largest(self) -> int:
        """Coordinates in the largest orbit."""
        return max((len(family.mix) for family in self.families), default=0)

    @property
    def multiplications(self) -> int:
        """Multiplications for one vector."""
        return sum(family.mix.size * family.inputs.shape[1] for family in self.families)

    def renamed(self, places: np.ndarray) -> OrbitTransform:
        """The transform whose result k is at `places[k]`."""
        families = [OrbitFamily(f.inputs, places[f.outputs].astype(np.int32), f.mix) for f in self.families]
        return OrbitTransform(self.dim, tuple(families))

    def copies(self, inputs: np.ndarray, outputs: np.ndarray) -> OrbitTransform:
        """The transform of a direct sum of copies, whose coordinates may be anywhere.

        Args:
            inputs, outputs: integers (copies, dim): where each coordinate of each copy is, before and after.
        """
        return OrbitTransform(inputs.size, tuple(f.copies(inputs, outputs) for f in self.families))

    def tables(self, dtype: torch.dtype, device: torch.device) -> tuple[tuple[Tensor, Tensor, Tensor], ...]:
        """(inputs, outputs, mix) of every family on a device, kept."""
        return self.constants.get(
            (dtype, device),
            lambda: tuple(
                (inputs.tensor(device), outputs.tensor(device), mix.tensor(device, dtype))
                for inputs, outputs, mix in self._arrays
            ),
        )

    def matrix(self) -> np.ndarray:
        """T (dim, dim), float64."""
        dense = np.zeros((self.dim, self.dim))
        for family in self.families:
            for s in range(family.inputs.shape[1]):
                dense[np.ix_(family.inputs[:, s], family.outputs[:, s])] = family.mix.T
        return dense

    def __repr__(self) -> str:
        parts = ", ".join(f"{f.inputs.shape[1]} of {f.inputs.shape[0]}" for f in self.families)
        return f"OrbitTransform({self.dim} coordinates: {parts})"


def connected_parts(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """The part that each row and each column belongs to, and their number: no entry joins two parts."""
    entries = sp.coo_array(np.abs(matrix) > NEGLIGIBLE)
    size = sum(matrix.shape)
    joined = sp.coo_array(
        (np.ones(entries.nnz), (entries.row, entries.col + matrix.shape[0])), shape=(size, size)
    )
    count, labels = sp.csgraph.connected_components(joined, directed=False)
    return labels[: matrix.shape[0]], labels[matrix.shape[0] :], int(count)
