"""Representations on the pixels of images."""

from equikernels.group.grids.pixel import pixel_grid

__all__ = ["pixel_grid"]
