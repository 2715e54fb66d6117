"""Groups and their representations, in float64.

Elements: SO2 angles in radians; O2 pairs (angle, flip); CyclicGroup(n) integers modulo n; DihedralGroup(n)
integers k + n * flip meaning r^k s^flip; CubeGroup integers 0 .. 23 with `.matrices`; SymmetricGroup(n)
integer images (..., n); GridTranslations(H, W) integer shifts (..., 2); SO3 and O3 matrices (..., 3, 3);
SpecialOrthogonal(n), Orthogonal(n), Lorentz and MatrixGroup matrices (..., n, n); DirectProduct(G1, G2, ...)
tuples of elements of its factors.
Representations are immutable, orthogonal, and know their irreps; `pixel_grid` and `voxel_grid` are how
rotations and flips act on images and volumes.
"""

from equikernels.group.calculus import (
    FirstOrderExpansion,
    first_order_expansion,
    forward_difference,
    lie_derivative,
    remainder_bound,
)
from equikernels.group.classical.lorentz import Lorentz
from equikernels.group.classical.orthogonal import Orthogonal
from equikernels.group.classical.special_orthogonal import SpecialOrthogonal
from equikernels.group.clebsch_gordan import clebsch_gordan
from equikernels.group.cube import CubeGroup
from equikernels.group.cyclic import CyclicGroup
from equikernels.group.dihedral import DihedralGroup
from equikernels.group.direct_product import DirectProduct
from equikernels.group.from_operators import representation_from_operators
from equikernels.group.grids import pixel_grid, voxel_grid
from equikernels.group.group import Group
from equikernels.group.isotypic import IsotypicBlock, isotypic_blocks
from equikernels.group.matrix_group import MatrixGroup
from equikernels.group.o2 import O2
from equikernels.group.o3 import O3
from equikernels.group.permutation import PermutationRepresentation
from equikernels.group.representation import Representation
from equikernels.group.so2 import SO2
from equikernels.group.so3 import SO3
from equikernels.group.symmetric import SymmetricGroup
from equikernels.group.translations import GridTranslations
from equikernels.group.words import canonical_word, word_product

__all__ = [
    "O2",
    "O3",
    "SO2",
    "SO3",
    "CubeGroup",
    "CyclicGroup",
    "DihedralGroup",
    "DirectProduct",
    "FirstOrderExpansion",
    "GridTranslations",
    "Group",
    "IsotypicBlock",
    "MatrixGroup",
    "Lorentz",
    "Orthogonal",
    "PermutationRepresentation",
    "Representation",
    "SpecialOrthogonal",
    "SymmetricGroup",
    "canonical_word",
    "clebsch_gordan",
    "first_order_expansion",
    "forward_difference",
    "isotypic_blocks",
    "lie_derivative",
    "pixel_grid",
    "remainder_bound",
    "representation_from_operators",
    "voxel_grid",
    "word_product",
]
