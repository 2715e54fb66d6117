"""Groups and their representations, in float64.

Elements: SO2 angles in radians; O2 pairs (angle, flip); CyclicGroup(n) integers modulo n; DihedralGroup(n)
integers k + n * flip meaning r^k s^flip. Representations are immutable, orthogonal, and know their irreps;
`pixel_grid` is how rotations and flips act on the pixels of an image.
"""

from equikernels.group.cyclic import CyclicGroup
from equikernels.group.dihedral import DihedralGroup
from equikernels.group.from_operators import representation_from_operators
from equikernels.group.grids import pixel_grid
from equikernels.group.group import Group
from equikernels.group.o2 import O2
from equikernels.group.permutation import PermutationRepresentation
from equikernels.group.representation import Representation
from equikernels.group.so2 import SO2

__all__ = [
    "O2",
    "SO2",
    "CyclicGroup",
    "DihedralGroup",
    "Group",
    "PermutationRepresentation",
    "Representation",
    "pixel_grid",
    "representation_from_operators",
]
