"""Representations on the pixels of images and the voxels of volumes."""

from equikernels.group.grids.pixel import pixel_grid
from equikernels.group.grids.voxel import voxel_grid

__all__ = ["pixel_grid", "voxel_grid"]
