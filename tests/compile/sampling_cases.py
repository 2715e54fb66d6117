"""The sampling kernels: every order that does not vanish, both modes and paddings, images and volumes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch

from equikernels.ops.sampling import triton_kernels as LAUNCHERS

__all__ = ["LAUNCHERS", "cases"]

IMAGES = (4, 16, 64, 64)
VOLUMES = (4, 1, 32, 32, 32)


def cases() -> Iterator[tuple[str, Callable[[], object]]]:
    for shape in (IMAGES, VOLUMES):
        dims = len(shape) - 2
        z = torch.zeros(shape)
        for order in range(dims + 1):
            yield from case(z, order, "bilinear", "border" if order else "zeros")
        yield from case(z, 0, "bilinear", "border")
        yield from case(z, 0, "nearest", "border")
        for dtype in (torch.bfloat16, torch.float64):
            yield from case(z.to(dtype), dims, "bilinear", "border")
        # Odd sizes, one pixel, and strides that leave 32 bits.
        far = tuple(2 ** (50 - 8 * axis) for axis in range(len(shape)))
        yield from case(torch.zeros(3, 3, *(7,) * dims), 0, "bilinear", "zeros")
        yield from case(torch.zeros(3, 3, *(7,) * dims), 1, "bilinear", "zeros")
        yield from case(torch.zeros(1, 1, *(1,) * dims), 1, "bilinear", "zeros")
        yield from case(torch.empty_strided(shape, far, device="meta"), 1, "bilinear", "zeros")


def case(z: torch.Tensor, order: int, mode: str, padding: str) -> Iterator[tuple[str, Callable[[], object]]]:
    dims = z.dim() - 2
    dtype = torch.float64 if z.dtype == torch.float64 else torch.float32
    matrix = torch.zeros(len(z), dims, dims + 1, dtype=dtype)
    options = (matrix, matrix.expand(order, *matrix.shape), mode, padding)
    name = f"{dims}-D {mode} {padding} {order} {str(z.dtype).removeprefix('torch.')}"
    yield f"{name} apply", partial(LAUNCHERS.apply, z, *options)
    yield f"{name} adjoint", partial(LAUNCHERS.adjoint, z, *options)
    if order < dims:
        yield f"{name} matrix_grad", partial(LAUNCHERS.matrix_grad, z, z, *options)
