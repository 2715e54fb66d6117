"""The permutation kernels: every size of value, small and large arrays, strides that leave 32 bits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch

from equikernels.ops.permutation import triton_kernels as LAUNCHERS

__all__ = ["LAUNCHERS", "cases"]

IMAGES = (4, 16, 64, 64)


def cases() -> Iterator[tuple[str, Callable[[], object]]]:
    g = torch.empty(4, dtype=torch.int64, device="meta")
    for dtype in (torch.bool, torch.bfloat16, torch.float32, torch.complex64, torch.complex128):
        z = torch.empty(IMAGES, dtype=dtype, device="meta")
        yield f"rot90 {dtype}", partial(LAUNCHERS.permute, z, g, "turns", False, False)
    z = torch.empty(4, 3, 7, 7, device="meta")
    yield "dihedral small", partial(LAUNCHERS.permute, z, g, "square", True, False)
    yield "dihedral swapped", partial(LAUNCHERS.permute, z[..., :5], g, "square", True, True)
    for size in (3, 32):
        volumes = torch.empty(4, 2, size, size, size, device="meta")
        yield f"cube {size}", partial(LAUNCHERS.permute, volumes, g, "cube", False, False)
    far = torch.empty(2, 256, 4096, 4096, device="meta")
    yield "beyond 32 bits", partial(LAUNCHERS.permute, far, g[:2], "turns", False, False)
