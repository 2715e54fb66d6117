"""Groups and their representations, in float64.

Elements: SO2 angles in radians; O2 pairs (angle, flip); CyclicGroup(n) integers modulo n; DihedralGroup(n)
integers k + n * flip meaning r^k s^flip; CubeGroup integers 0 .. 23 with `.matrices`; SymmetricGroup(n)
integer images (..., n); GridTranslations(H, W) integer shifts (..., 2); SO3 and O3 matrices (..., 3, 3).
Representations are immutable, orthogonal, and know their irreps; `pixel_grid` and `voxel_grid` are how
rotations and flips act on images and volumes.
"""

from equikernels.group.clebsch_gordan import clebsch_gordan
from equikernels.group.cube import CubeGroup
from equikernels.group.cyclic import CyclicGroup
from equikernels.group.dihedral import DihedralGroup
from equikernels.group.from_operators import representation_from_operators
from equikernels.group.grids import pixel_grid, voxel_grid
from equikernels.group.group import Group
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
    "GridTranslations",
    "Group",
    "PermutationRepresentation",
    "Representation",
    "SymmetricGroup",
    "canonical_word",
    "clebsch_gordan",
    "pixel_grid",
    "representation_from_operators",
    "voxel_grid",
    "word_product",
]
