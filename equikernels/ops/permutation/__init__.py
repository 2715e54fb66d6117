"""Exact symmetries of square images and of cubes, one element per sample: nothing is interpolated."""

from __future__ import annotations

import numbers

import torch
from torch import Tensor

from equikernels.ops import backends, tracing
from equikernels.ops.permutation.autograd import permute
from equikernels.ops.permutation.elements import TABLES
from equikernels.ops.permutation.reference import permute_reference
from equikernels.ops.registration import register_kernels

__all__ = ["cube_rotate", "dihedral_rotate", "rot90"]

INTEGERS = frozenset(
    {torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8, torch.uint16, torch.uint32, torch.uint64}
)

for _operation in ("rot90", "dihedral_rotate", "cube_rotate"):
    register_kernels(_operation)


def rot90(z: Tensor, k: Tensor | int, *, backend: str | None = None) -> Tensor:
    """Turn every image of a batch by its own number of quarter turns, counter-clockwise as displayed.

    Sample n of the result is ``torch.rot90(z[n], k[n], (-2, -1))``, exactly, in one pass over the batch.

    Args:
        z: images, (N, C, H, W), of any dtype, with any strides.
        k: quarter turns, (N,), of any integer dtype and value, negative ones too, on the device of `z`; or
            one integer, or a tensor without dimensions, for all samples.
        backend: implementation to use, see :mod:`equikernels.ops.backends`.

    Returns:
        A contiguous tensor of the dtype of `z`, (N, C, H, W), or (N, C, W, H) after odd turns of images that
        are not square. There all turns must be odd or all even, because the shapes would differ, and a tensor
        `k` is read to know which (on a GPU that waits for it); for square images its values are never looked
        at in Python.

    Gradients go to floating and complex `z`, to any order and in forward mode. Results do not depend on the
    number of threads. Inside torch.compile forward mode raises NotImplementedError, torch.func.grad raises,
    and images that are not square need an integer `k`. In a forked child process set one thread before
    calling (``torch.set_num_threads(1)``).

    Raises:
        TypeError: `z` is no dense tensor, or `k` is not of an integer dtype.
        ValueError: a wrong shape, devices that differ, even and odd turns of images that are not square, or a
            backend that cannot run here.

    >>> image = torch.arange(6).view(1, 1, 2, 3)
    >>> rot90(image.expand(2, 1, 2, 3), torch.tensor([1, -1])).tolist()
    [[[[2, 5], [1, 4], [0, 3]]], [[[3, 0], [4, 1], [5, 2]]]]
    """
    _check_arrays(z, "(N, C, H, W)", 4)
    elements = _elements(z, k, "k", "turns")
    return _permute("rot90", "turns", z, elements, "k", _swaps(z, k, "k"), backend)


def dihedral_rotate(z: Tensor, g: Tensor | int, *, backend: str | None = None) -> Tensor:
    """Turn and flip every image of a batch by its own symmetry of the square.

    The element k + 4 flip is r^k s^flip, as in ``equikernels.group.DihedralGroup(4)``: first the left-right
    flip s, if flip is 1, then k quarter turns r counter-clockwise as displayed. This is the action
    (rho(g) z)(p) = z(g^-1 p), so moving by h and then by g is moving by g h.

    Args:
        z: images, (N, C, H, W), of any dtype, with any strides.
        g: elements 0 .. 7, (N,), of any integer dtype, on the device of `z`; or one integer, or a tensor
            without dimensions, for all samples.
        backend: implementation to use, see :mod:`equikernels.ops.backends`.

    Returns:
        A contiguous tensor of the dtype of `z`. Shapes, gradients, transforms and threads are as for `rot90`;
        for images that are not square k must be odd for all samples or even for all.

    Raises:
        TypeError: `z` is no dense tensor, or `g` is not of an integer dtype.
        ValueError: a wrong shape, devices that differ, an element out of range, odd and even k for images
            that are not square, or a backend that cannot run here. With ``backend="reference"`` elements out
            of range raise what indexing raises for tensors on a GPU, in transforms and compiled functions.

    >>> image = torch.arange(4).view(1, 1, 2, 2)
    >>> dihedral_rotate(image, 4).tolist(), dihedral_rotate(image, 5).tolist()
    ([[[[1, 0], [3, 2]]]], [[[[0, 2], [1, 3]]]])
    """
    _check_arrays(z, "(N, C, H, W)", 4)
    elements = _elements(z, g, "g", "square")
    return _permute("dihedral_rotate", "square", z, elements, "g", _swaps(z, g, "g"), backend)


def cube_rotate(z: Tensor, g: Tensor | int, *, backend: str | None = None) -> Tensor:
    """Turn every volume of a batch by its own rotation of the cube.

    Elements are those of ``equikernels.group.CubeGroup()``: 4 c + j is t_c r_z^j, with t = (1, r_x, r_x^2,
    r_x^-1, r_y, r_y^-1) and the turns r by +90 degrees about the axes x right (columns), y up (against the
    rows, row 0 on top) and z depth. So j = 0 .. 3 is ``torch.rot90(z[n], j, (-2, -1))``. This is the action
    (rho(g) z)(p) = z(g^-1 p), so moving by h and then by g is moving by g h.

    Args:
        z: volumes, (N, C, D, H, W) with D = H = W, of any dtype, with any strides.
        g: elements 0 .. 23, (N,), of any integer dtype, on the device of `z`; or one integer, or a tensor
            without dimensions, for all samples.
        backend: implementation to use, see :mod:`equikernels.ops.backends`.

    Returns:
        A contiguous tensor with the shape and dtype of `z`. Gradients, transforms and threads are as for
        `rot90`.

    Raises:
        TypeError: `z` is no dense tensor, or `g` is not of an integer dtype.
        ValueError: a wrong shape, volumes that are no cubes, devices that differ, an element out of range, or
            a backend that cannot run here. Where `dihedral_rotate` leaves elements out of range to indexing,
            so does this function.

    >>> volume = torch.arange(8).view(1, 1, 2, 2, 2)
    >>> torch.equal(cube_rotate(volume, 1), torch.rot90(volume, 1, (-2, -1)))
    True
    """
    _check_arrays(z, "(N, C, D, H, W)", 5)
    elements = _elements(z, g, "g", "cube")
    depth, height, width = z.shape[2:]
    if depth != height or height != width:
        raise ValueError(f"z: expected cubes, D = H = W, got {depth} x {height} x {width}")
    return _permute("cube_rotate", "cube", z, elements, "g", False, backend)


def _permute(
    operation: str, kind: str, z: Tensor, elements: Tensor, name: str, swapped: bool, backend: str | None
) -> Tensor:
    # The short way to the usual device: naming one takes longer than any other step on the way to a kernel.
    chosen = backends.choose(operation, "cpu" if z.is_cpu else z.device.type, backend)
    if chosen != "reference":
        return permute(z, elements, kind, False, swapped, chosen)
    if kind != "turns" and elements.device.type == "cpu" and _readable(elements):
        _check_range(elements, len(TABLES[kind]), name)
    return permute_reference(z, elements, kind, False, swapped)


def _check_arrays(z: Tensor, expected: str, dimensions: int) -> None:
    if not isinstance(z, Tensor):
        raise TypeError(f"z: expected a tensor, got {type(z).__name__}")
    if z.layout != torch.strided or z.is_quantized:
        raise TypeError(f"z: expected a dense tensor, got {'quantized' if z.is_quantized else z.layout}")
    if z.dim() != dimensions:
        raise ValueError(f"z: expected {dimensions} dimensions {expected}, got {z.dim()}: {tuple(z.shape)}")


def _elements(z: Tensor, g: Tensor | int, name: str, kind: str) -> Tensor:
    """The elements, checked, as int64 (N,)."""
    if not isinstance(g, Tensor):
        if isinstance(g, bool) or not isinstance(g, numbers.Integral):
            raise TypeError(f"{name}: expected a tensor or an integer, got {type(g).__name__}")
        count = len(TABLES[kind])
        # Any number of turns is one, however large the integer.
        g = int(g) % count if kind == "turns" else int(g)
        if not 0 <= g < count:
            raise ValueError(f"{name}: expected elements 0 .. {count - 1}, got {g}")
        return torch.full((z.shape[0],), g, dtype=torch.int64, device=z.device)
    dtype, dimensions = g.dtype, g.dim()
    if dtype not in INTEGERS:
        raise TypeError(f"{name}: expected an integer dtype, got {dtype}")
    if g.device != z.device:
        raise ValueError(f"{name}: expected on the device of z, {z.device}, got {g.device}")
    if dimensions == 0:
        g = g.expand(z.shape[0])
    elif dimensions != 1 or g.shape[0] != z.shape[0]:
        raise ValueError(
            f"{name}: expected shape ({z.shape[0]},), one element per sample, got {tuple(g.shape)}"
        )
    return g if dtype == torch.int64 else g.to(torch.int64)


def _readable(g: Tensor) -> bool:
    return not tracing.is_traced(g) and not tracing.is_transformed() and not tracing.has_hidden_batch(g)


def _swaps(z: Tensor, g: Tensor | int, name: str) -> bool:
    """Whether rows and columns change places: for squares it makes no difference, and g is not read."""
    _, _, height, width = z.shape
    if height == width:
        return False
    if not isinstance(g, Tensor):
        return int(g) % 2 == 1
    if tracing.is_traced(g):
        raise ValueError(
            f"{name}: expected an integer for images that are not square, {height} x {width}, inside a "
            "compiled or exported function: the values of a tensor, which decide the output's shape, are not "
            "known there"
        )
    try:
        parities = {value % 2 for value in g.tolist()} if g.dim() else {int(g) % 2}
    except RuntimeError as error:
        raise ValueError(
            f"{name}: expected an integer for images that are not square, {height} x {width}, inside "
            "torch.vmap: the values of a batched tensor, which decide the output's shape, are not known there"
        ) from error
    if len(parities) > 1:
        raise ValueError(
            f"{name}: expected only odd or only even turns of images that are not square, got both for "
            f"{height} x {width}: the results would have different shapes"
        )
    return parities == {1}


def _check_range(g: Tensor, count: int, name: str) -> None:
    wrong = g[(g < 0) | (g >= count)]
    if len(wrong):
        raise ValueError(f"{name}: expected elements 0 .. {count - 1}, got {int(wrong[0])}")
