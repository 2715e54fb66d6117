"""Fused operations on tensors: one meaning each, several implementations.

Which implementation runs, and the environment variables that change it: :mod:`equikernels.ops.backends`.
"""

from equikernels.ops.averaging import IndexMaps, group_average, group_correlate
from equikernels.ops.coordinate_decoder import (
    CoordinateMLPWeights,
    coordinate_mlp,
    coordinate_mlp_log_likelihood,
    image_grid,
)
from equikernels.ops.fourier import shear_rotate, spectral_rotate
from equikernels.ops.linear import BlockProjection, Plan, schur_linear
from equikernels.ops.partitioning import partition, partition_rotate
from equikernels.ops.permutation import cube_rotate, dihedral_rotate, rot90
from equikernels.ops.rotation import rotate, rotate3d
from equikernels.ops.sampling import affine_sample
from equikernels.ops.schur import SchurBlocks, schur_blocks, schur_project, schur_scale

__all__ = [
    "BlockProjection",
    "CoordinateMLPWeights",
    "IndexMaps",
    "Plan",
    "SchurBlocks",
    "affine_sample",
    "coordinate_mlp",
    "coordinate_mlp_log_likelihood",
    "cube_rotate",
    "dihedral_rotate",
    "group_average",
    "group_correlate",
    "image_grid",
    "partition",
    "partition_rotate",
    "rot90",
    "rotate",
    "rotate3d",
    "schur_blocks",
    "schur_linear",
    "schur_project",
    "schur_scale",
    "shear_rotate",
    "spectral_rotate",
]
