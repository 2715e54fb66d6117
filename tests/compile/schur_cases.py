"""The Schur kernels: every dtype, hard and smooth responses and tables, small and large blocks, views."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from equikernels.ops.schur import triton_kernels as LAUNCHERS

__all__ = ["LAUNCHERS", "cases"]


def empty(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


def constants(m: int, n: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    places = empty(m, 3, dtype=torch.int32), empty(n, 3, dtype=torch.int32)
    return *places, empty(m, 2, dtype=torch.float64), empty(n, 2, dtype=torch.float64)


def cases() -> Iterator[tuple[str, Callable[[], object]]]:
    for dtype in (torch.float32, torch.bfloat16, torch.float16, torch.float64):
        compute = torch.float64 if dtype == torch.float64 else torch.float32
        weight = empty(16 * 196, 16 * 196, dtype=dtype)
        for name, w, p in (
            ("grid", weight.view(16, 196, 16, 196).transpose(1, 2), 98),
            ("vectors", weight[:, :512].view(16 * 98, 2, 256, 2).transpose(1, 2), 1),
            ("one matrix", empty(1, 1, 200, 300, dtype=dtype), 150),
        ):
            both = constants(*w.shape[2:])
            table = empty(1, p, p, dtype=compute)
            for width in (0.0, 0.5):
                yield (
                    f"project {name} {width} {dtype}",
                    partial(LAUNCHERS.project, w, *both, 1.0, width, 0.0, 1e-9),
                )
            yield f"scale {name} {dtype}", partial(LAUNCHERS.scale, w[None], table, table, *both[:2])
            yield f"inner {name} {dtype}", partial(LAUNCHERS.inner, w[None], w[None], *both[:2], p, p)
