"""The rotation kernels: every dtype, derivatives, with and without either gradient, large images."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch

from equikernels.ops.rotation import triton_kernels as LAUNCHERS

__all__ = ["LAUNCHERS", "cases"]


def cases() -> Iterator[tuple[str, Callable[[], object]]]:
    for dtype in (torch.float32, torch.bfloat16, torch.float16, torch.float64):
        z = torch.empty(32, 16, 64, 64, dtype=dtype, device="meta")
        theta = torch.empty(
            32, dtype=torch.float64 if dtype == torch.float64 else torch.float32, device="meta"
        )
        for order in (0, 1, 2):
            yield f"apply {dtype} {order}", partial(LAUNCHERS.apply, z, theta, order)
            yield f"backward {dtype} {order}", partial(LAUNCHERS.backward, z, z, theta, order)
        yield f"adjoint {dtype}", partial(LAUNCHERS.adjoint, z, theta, 0)
        yield f"angle_grad {dtype}", partial(LAUNCHERS.angle_grad, z, z, theta, 0)
    theta = torch.empty(3, device="meta")
    small = torch.empty(3, 1, 5, 7, device="meta").mT
    yield "apply small", partial(LAUNCHERS.apply, small, theta, 0)
    yield "backward small", partial(LAUNCHERS.backward, small, small, theta, 0)
    large = torch.empty(3, 2, 2**16, 2**16, device="meta")
    yield "apply beyond 32 bits", partial(LAUNCHERS.apply, large, theta, 0)
    yield "backward beyond 32 bits", partial(LAUNCHERS.backward, large, large, theta, 0)
