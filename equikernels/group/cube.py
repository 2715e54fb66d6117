"""The rotations of the cube. An element is an integer 4 c + j, meaning t_c r_z^j."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.linalg import block_diag
from torch import Tensor

from equikernels.group import acting
from equikernels.group.compiling import constant_of_graphs
from equikernels.group.cyclic import CyclicGroup, reduce_frequency
from equikernels.group.finite import FiniteGroup, integer_tensor
from equikernels.group.group import Element, Group
from equikernels.group.orthogonal_matrices import concrete
from equikernels.group.words import word_lengths
from equikernels.ops import cube_rotate

if TYPE_CHECKING:
    from equikernels.group.representation import Representation

LABELS = ("A1", "A2", "E", "T1", "T2")

TURN_X = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]])
TURN_Y = np.array([[0, 0, 1], [0, 1, 0], [-1, 0, 0]])
TURN_Z = np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1]])

MATRIX_TOLERANCE = 1e-6
"""How far a matrix may be from the rotation it stands for, in its largest entry."""


@cache
def _matrices() -> np.ndarray:
    x, y = TURN_X, TURN_Y
    cosets = (np.eye(3, dtype=np.int64), x, x @ x, x @ x @ x, y, y @ y @ y)
    turns = (np.eye(3, dtype=np.int64), TURN_Z, TURN_Z @ TURN_Z, TURN_Z @ TURN_Z @ TURN_Z)
    matrices = np.stack([t @ r for t in cosets for r in turns]).astype(np.int64)
    matrices.setflags(write=False)
    return matrices


@cache
def _products() -> np.ndarray:
    """The multiplication table (24, 24)."""
    matrices = _matrices()
    products = np.einsum("aij,bjk->abik", matrices, matrices)
    same = (products[:, :, None] == matrices).all(axis=(-2, -1))
    return np.asarray(same.argmax(axis=-1))


@cache
def _tables() -> dict[str, np.ndarray]:
    """The irreps at every element (24, d, d), float64."""
    rotations = _matrices().astype(np.float64)
    diagonals = np.array([[1, 1, 1], [1, 1, -1], [1, -1, 1], [-1, 1, 1]])
    # Two body diagonals are one line where their inner product is +-3.
    moved = np.abs(np.einsum("da,gab,eb->gde", diagonals, rotations, diagonals)) == 3
    sign = np.round(np.linalg.det(moved.astype(np.float64))).reshape(24, 1, 1)
    # The axes are permuted; E is the plane orthogonal to (1, 1, 1): 2z^2 - x^2 - y^2, then x^2 - y^2.
    plane = np.array([[-1.0, -1.0, 2.0], [1.0, -1.0, 0.0]]) / np.sqrt([[6.0], [2.0]])
    twofold = plane @ np.abs(rotations) @ plane.T
    tables = {"A1": np.ones((24, 1, 1)), "A2": sign, "E": twofold, "T1": rotations, "T2": sign * rotations}
    for table in tables.values():
        table.setflags(write=False)
    return tables


# Plain numbers, found outside of the graph: torch.compile cannot trace how the tables are made.
@constant_of_graphs
def irrep_table(label: str) -> list[list[list[float]]]:
    """An irrep at every element (24, d, d), as plain numbers."""
    numbers: list[list[list[float]]] = _tables()[label].tolist()
    return numbers


def _irreps_of_quarter_turns(label: str) -> tuple[tuple[int, ...], np.ndarray]:
    """The irreps of C_4 about z inside an irrep, and the basis that shows them."""
    if label == "T2":
        # The quarter turn of the plane, times the sign of an odd permutation: frequency 3 modulo 4.
        folded, basis = reduce_frequency(3, 4)
        return (*folded, 2), block_diag(basis, np.eye(1))
    labels = {"A1": (0,), "A2": (2,), "E": (0, 2), "T1": (1, 0)}[label]
    return labels, np.eye(len(_tables()[label][0]))


@dataclass(frozen=True)
class CubeGroup(FiniteGroup):
    """The 24 rotations of the cube on the axes x right, y up, z depth.

    Elements are integers 0 .. 23, Python integers or integer tensors of any shape: 4 c + j means
    t_c r_z^j with t = (1, r_x, r_x^2, r_x^-1, r_y, r_y^-1), where r_x, r_y, r_z are the turns by +90
    degrees about the axes. So 0 is the identity and 0 .. 3 are the turns about z.

    The generators are r_x, r_y, r_z: with their inverses a whole conjugacy class, and every element is a
    product of at most three.

    Irreps: "A1" trivial; "A2" the sign of the permutation of the four body diagonals; "E" the plane in which
    the three axes are permuted, spanned as 2 z^2 - x^2 - y^2 and x^2 - y^2; "T1" the rotations themselves;
    "T2" = A2 times T1.

    >>> G = CubeGroup()
    >>> (G.matrices[1] @ [1, 0, 0]).tolist()  # r_z carries x to y
    [0, 1, 0]
    >>> dict(G.regular().irreps)
    {'A1': 1, 'A2': 1, 'E': 2, 'T1': 3, 'T2': 3}
    """

    def __repr__(self) -> str:
        return "Cube"

    @property
    def order(self) -> int:
        return 24

    @property
    def matrices(self) -> np.ndarray:
        """The rotation matrices of all elements: int64 (24, 3, 3), read-only."""
        return _matrices()

    def from_matrix(self, matrix: Any) -> Tensor:
        """The elements with given rotation matrices (..., 3, 3): int64 of shape (...).

        NumPy or tensor, of any real dtype; raises ValueError for a matrix that is farther than 1e-6, in
        an entry, from every rotation of the cube.
        """
        given = np.asarray(matrix.detach().cpu() if isinstance(matrix, Tensor) else matrix)
        if given.shape[-2:] != (3, 3):
            raise ValueError(f"matrix must have shape (..., 3, 3), got {given.shape}")
        distance = np.abs(given[..., None, :, :] - _matrices()).max(axis=(-2, -1))
        if not (distance.min(axis=-1) <= MATRIX_TOLERANCE).all():
            raise ValueError("matrix must be a rotation that carries the cube to itself")
        return torch.as_tensor(distance.argmin(axis=-1))

    def check(self, g: Any) -> Tensor:
        element = integer_tensor(g, f"elements of {self!r} are integers 0 .. 23")
        if concrete(element) and bool(((element < 0) | (element >= 24)).any()):
            raise ValueError(f"elements of {self!r} lie in 0 .. 23")
        return element

    def act(self, z: Tensor, g: Any, *, method: str = "auto", padding: str | None = None) -> Tensor:
        acting.check_volumes(self, z)
        acting.check_method(self, method, padding, ("auto", "exact"), exact=True)
        return cube_rotate(z, acting.on_device(self, g, z))

    def compose(self, g: Any, h: Any) -> Tensor:
        first, second = self.check(g), self.check(h)
        return torch.as_tensor(_products(), device=first.device)[first, second]

    def inverse(self, g: Any) -> Tensor:
        element = self.check(g)
        return torch.as_tensor((_products() == 0).argmax(axis=1), device=element.device)[element]

    def word_length(self, g: Any) -> Tensor:
        """How many quarter turns about the axes the rotation takes: 0 to 3."""
        element = self.check(g)
        return torch.tensor(word_lengths(self), dtype=torch.int64, device=element.device)[element]

    @property
    def diameter(self) -> float:
        return 3.0

    @property
    def discrete_elements(self) -> tuple[Any, ...]:
        return (4, 16, 1)

    def check_label(self, label: Any) -> str:
        if not isinstance(label, str) or label not in LABELS:
            raise ValueError(f"label must be one of {', '.join(LABELS)} for {self!r}, got {label!r}")
        return label

    def label_order(self, label: Any) -> int:
        return LABELS.index(label)

    def irrep_dim(self, label: str) -> int:
        return {"A1": 1, "A2": 1, "E": 2, "T1": 3, "T2": 3}[label]

    def irrep_matrix(self, label: str, g: Element, dtype: torch.dtype) -> Tensor:
        return torch.tensor(irrep_table(label), dtype=dtype, device=g.device)[g]

    def restrict_irrep(self, label: str, subgroup: Group) -> tuple[tuple[Any, ...], np.ndarray]:
        """To the turns about z, CyclicGroup(n) with n in 1, 2, 4, and to the group itself."""
        if subgroup == self:
            return (label,), np.eye(self.irrep_dim(label))
        if not isinstance(subgroup, CyclicGroup) or 4 % subgroup.n:
            raise ValueError(
                f"{subgroup!r} is not a subgroup of {self!r} in the standard embedding: "
                "C_1, C_2 and C_4 are, the turns about z"
            )
        labels, basis = _irreps_of_quarter_turns(label)
        parts = [CyclicGroup(4).restrict_irrep(k, subgroup) for k in labels]
        return tuple(k for part, _ in parts for k in part), basis @ block_diag(*(local for _, local in parts))

    def irreps(self) -> tuple[Representation, ...]:
        return tuple(self.irrep(label) for label in LABELS)

    def trivial(self) -> Representation:
        return self.irrep("A1")

    def defining(self) -> Representation:
        """The rotation matrices on (x, y, z)."""
        return self.irrep("T1")

    def regular(self) -> Representation:
        """The permutation rho(g) e_h = e_(g h) of the 24 elements."""
        from equikernels.group.permutation import PermutationRepresentation

        everything = self.elements()
        sources = [self.compose(self.inverse(s), everything).numpy() for s in self.discrete_elements]
        return PermutationRepresentation(self, np.stack(sources), name="regular")
