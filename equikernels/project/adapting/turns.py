"""What a group does to the axes of images and volumes, and to square kernels of them."""

from __future__ import annotations

from equikernels.group import (
    O2,
    SO2,
    CubeGroup,
    CyclicGroup,
    DihedralGroup,
    Group,
    Representation,
    pixel_grid,
    voxel_grid,
)

AXES = {1: ("width",), 2: ("height", "width"), 3: ("depth", "height", "width")}


def is_planar(group: Group) -> bool:
    """Whether the group turns or flips images."""
    return isinstance(group, (SO2, O2, CyclicGroup, DihedralGroup))


def acts_on_pixels(group: Group, axes: int) -> bool:
    """Whether the group acts on signals (1 axis), images (2) or volumes (3; the plane's groups about z)."""
    if axes == 1:
        return isinstance(group, DihedralGroup) and group.n == 1
    return is_planar(group) or (axes == 3 and isinstance(group, CubeGroup))


def reversed_axes(group: Group, axes: int) -> tuple[int, ...]:
    """Spatial axes, from the last: -1 the width, that some element reverses; others are left as they are."""
    if not acts_on_pixels(group, axes) or (isinstance(group, CyclicGroup) and group.n == 1):
        return ()
    if isinstance(group, DihedralGroup) and group.n == 1:
        return (-1,)
    return (-3, -2, -1) if isinstance(group, CubeGroup) else (-2, -1)


def exchanged_axes(group: Group, axes: int) -> tuple[int, ...]:
    """Spatial axes that some element carries into one another, so that they must be alike."""
    halves = isinstance(group, (CyclicGroup, DihedralGroup)) and group.n in (1, 2)
    return () if halves or axes == 1 else reversed_axes(group, axes)


def has_other_angles(group: Group) -> bool:
    """Whether the group turns by angles that no grid of pixels carries to itself."""
    if isinstance(group, (CyclicGroup, DihedralGroup)):
        return group.n not in (1, 2, 4)
    return isinstance(group, (SO2, O2))


def turned_grid(group: Group, size: tuple[int, ...]) -> tuple[Representation, int]:
    """How the group acts on a kernel (height, width), (depth, height, width) or (width,), and the number
    of its last axes that this representation is on.

    Raises ValueError where the group carries no kernel of this size to itself.
    """
    unequal = {size[axis] for axis in exchanged_axes(group, len(size))}
    shape = " x ".join(map(str, size))
    if len(unequal) > 1:
        raise ValueError(f"{group!r} does not carry a {shape} grid to itself: it is not square")
    if isinstance(group, CubeGroup):
        return voxel_grid(size[0], group), 3
    if len(size) == 1:
        return pixel_grid((1, size[0]), group), 1
    # Turns about z act alike on every slice of a volume.
    return pixel_grid((size[-2], size[-1]), group), 2


def stuck_modes(rep: Representation) -> int:
    """Modes of a grid that the exact quarter turn negates and the representation leaves fixed."""
    return int(getattr(rep, "obstructed_modes", 0))
