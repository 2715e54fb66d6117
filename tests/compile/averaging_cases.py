"""The averaging kernels: every dtype, layouts of blocks and of channel-major weights, far strides."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch

from equikernels.ops.averaging import triton_kernels as LAUNCHERS

__all__ = ["LAUNCHERS", "cases"]


def maps(order: int, m: int, n: int) -> tuple[torch.Tensor, ...]:
    shapes = (m, n, order)
    return tuple(torch.empty(1, order, places, dtype=torch.int64, device="meta") for places in shapes)


def cases() -> Iterator[tuple[str, Callable[[], object]]]:
    grid, small = maps(8, 196, 196), maps(24, 8, 8)
    for dtype in (torch.float32, torch.bfloat16, torch.float16, torch.float64):
        compute = torch.float64 if dtype == torch.float64 else torch.float32
        w = torch.empty(1, 16, 196, 16, 196, dtype=dtype, device="meta").transpose(2, 3)
        weights = torch.empty(1, 8, dtype=compute, device="meta")
        yield f"average {dtype}", partial(LAUNCHERS.average, w, weights, *grid)
        yield f"correlate {dtype}", partial(LAUNCHERS.correlate, w, w, *grid)
    blocks = torch.empty(5, 64, 64, 8, 8, device="meta")
    yield "many samples", partial(LAUNCHERS.average, blocks, torch.empty(5, 24, device="meta"), *small)
    far = torch.empty(1, 4096, 16384, 8, 8, device="meta")
    yield "beyond 32 bits", partial(LAUNCHERS.average, far, torch.empty(1, 24, device="meta"), *small)
    yield "correlate beyond 32 bits", partial(LAUNCHERS.correlate, far, far, *small)
