"""Rotation of images and volumes, one rotation per sample."""

from equikernels.ops.rotation.planar import rotate
from equikernels.ops.rotation.spatial import rotate3d

__all__ = ["rotate", "rotate3d"]
