"""An orthogonal change of basis and the cheapest way found to apply it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from equikernels.ops.bases.constants import ConstantArray, Constants
from equikernels.ops.bases.orbits import OrbitFamily, OrbitTransform, connected_parts
from equikernels.ops.bases.transform import apply_transforms

SMALL_ORBIT = 16
"""Orbits up to this size are mixed in registers; beyond, a dense product is as fast."""

SECTOR_TOLERANCE = 1e-9
"""Entries between two bases below this are rounding: they join no sectors."""

WORTHWHILE = 0.75
"""Share of the dense product's multiplications above which structure is not worth its passes."""


class Basis:
    """An orthogonal matrix U (dim, dim), float64: x -> x U gives coordinates, y -> y U^T the vector.

    It is applied as nothing at all (the identity), as an orbit transform, as an orbit transform followed by
    products in sectors, or as a dense product, whichever multiplies least.

    Args:
        matrix: U, orthogonal to 1e-9; the columns are the basis.
        symmetry: an orthogonal matrix T that splits U, such as a basis adapted to the symmetries of a grid:
            T^T U is then block-diagonal up to the order of its rows and columns.

    Attributes:
        kind: "identity", "orbits", "sectors" or "dense".
        stages: the sparse matrices whose product is U: one for "orbits", two for "sectors", or none.
        inverse_stages: those of U^T.

    Raises:
        ValueError: a matrix or a symmetry that is not square or not orthogonal, or two sizes.

    >>> Basis(np.eye(4)).kind, Basis(np.eye(4)[::-1]).kind
    ('identity', 'orbits')
    """

    def __init__(self, matrix: np.ndarray, symmetry: np.ndarray | None = None) -> None:
        matrix = _orthogonal("matrix", matrix)
        matrix.setflags(write=False)
        self.matrix = matrix
        self.dim = len(matrix)
        self._constants = Constants()
        if symmetry is not None:
            symmetry = _orthogonal("symmetry", symmetry)
            if symmetry.shape != matrix.shape:
                raise ValueError(f"symmetry: expected {matrix.shape}, got {symmetry.shape}")
        self.kind, self.stages = self._find(symmetry)
        self.inverse_stages = tuple(stage.inverse for stage in self.stages[::-1])
        self._whole = ConstantArray(matrix) if self.kind == "dense" else None

    def _find(self, symmetry: np.ndarray | None) -> tuple[str, tuple[OrbitTransform, ...]]:
        """The kind and its stages."""
        if np.array_equal(self.matrix, np.eye(self.dim)):
            return "identity", ()
        whole = OrbitTransform.of_matrix(self.matrix)
        if whole is not None and whole.largest <= SMALL_ORBIT:
            return "orbits", (whole,)
        stages = () if symmetry is None else self._split(symmetry)
        return ("sectors" if stages else "dense"), stages

    def _split(self, symmetry: np.ndarray) -> tuple[OrbitTransform, ...]:
        """T, its columns in the order of the sectors, and T^T U by sectors; nothing where it does not pay."""
        first = OrbitTransform.of_matrix(symmetry)
        if first is None or first.largest > SMALL_ORBIT:
            return ()
        inner = symmetry.T @ self.matrix
        rows, columns, count = connected_parts(np.where(np.abs(inner) > SECTOR_TOLERANCE, inner, 0.0))
        # The coordinates of a sector side by side, and in them those of equal place in their orbits.
        order = np.concatenate([outputs for family in first.families for outputs in family.outputs])
        order = order[np.argsort(rows[order], kind="stable")]
        families, start = [], 0
        for sector in range(count):
            outputs = np.flatnonzero(columns == sector)
            inputs = np.arange(start, start + np.count_nonzero(rows == sector))
            mix = inner[np.ix_(order[inputs], outputs)].T
            families.append(OrbitFamily.single(inputs, outputs, mix))
            start += inputs.size
        second = OrbitTransform(self.dim, tuple(families))
        if first.multiplications + second.multiplications > WORTHWHILE * self.dim**2:
            return ()
        return first.renamed(np.argsort(order)), second

    @property
    def multiplications(self) -> int:
        """Multiplications for one vector."""
        if self.kind == "dense":
            return self.dim**2
        return sum(stage.multiplications for stage in self.stages)

    def dense(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        """U in a dtype on a device, kept, where that is how it is applied."""
        assert self._whole is not None
        whole = self._whole
        return self._constants.get((dtype, device), lambda: whole.tensor(device, dtype))

    def analyse(self, x: Tensor) -> Tensor:
        """x U for x (..., dim): the coordinates of vectors; half precisions are computed in float32."""
        if self.kind == "dense":
            return self._multiply(x, inverse=False)
        return apply_transforms(x, self.stages) if self.stages else x

    def synthesise(self, y: Tensor) -> Tensor:
        """y U^T for y (..., dim): the vectors of coordinates; half precisions are computed in float32."""
        if self.kind == "dense":
            return self._multiply(y, inverse=True)
        return apply_transforms(y, self.inverse_stages) if self.stages else y

    def _multiply(self, x: Tensor, inverse: bool) -> Tensor:
        working = x if x.dtype in (torch.float32, torch.float64) else x.float()
        matrix = self.dense(working.dtype, x.device)
        return (working @ (matrix.mT if inverse else matrix)).to(x.dtype)

    def __repr__(self) -> str:
        cost = f"{self.multiplications} of {self.dim**2} multiplications"
        return f"Basis({self.dim} coordinates, {self.kind}, {cost})"


def _orthogonal(name: str, matrix: np.ndarray) -> np.ndarray:
    """A copy in float64."""
    matrix = np.array(matrix, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"{name}: expected (dim, dim), got {matrix.shape}")
    defect = np.abs(matrix.T @ matrix - np.eye(len(matrix))).max(initial=0.0)
    if not defect <= 1e-9:
        raise ValueError(f"{name}: expected orthogonal columns, but their products are off by {defect:.1e}")
    return matrix
