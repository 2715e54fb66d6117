"""Fused operations on tensors: one meaning each, several implementations.

Which implementation runs, and the environment variables that change it: :mod:`equikernels.ops.backends`.
"""

from equikernels.ops.permutation import cube_rotate, dihedral_rotate, rot90
from equikernels.ops.rotation import rotate

__all__ = ["cube_rotate", "dihedral_rotate", "rot90", "rotate"]
