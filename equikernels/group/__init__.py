"""Groups and their representations, in float64.

Elements: SO2 angles in radians; CyclicGroup(n) integers modulo n. Representations are immutable,
orthogonal, and know their irreps; `pixel_grid` is how rotations act on the pixels of an image.
"""

from equikernels.group.cyclic import CyclicGroup
from equikernels.group.grids import pixel_grid
from equikernels.group.group import Group
from equikernels.group.permutation import PermutationRepresentation
from equikernels.group.representation import Representation
from equikernels.group.so2 import SO2

__all__ = ["SO2", "CyclicGroup", "Group", "PermutationRepresentation", "Representation", "pixel_grid"]
