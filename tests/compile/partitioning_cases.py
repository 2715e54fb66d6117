"""The partition kernels: every dtype and loss, every subset of gradients, vectors and large images."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import product

import torch

from equikernels.ops.partitioning import triton_kernels as LAUNCHERS

__all__ = ["LAUNCHERS", "cases"]


def operands(dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    compute = torch.float64 if dtype == torch.float64 else torch.float32
    return (
        torch.empty(16, 32, 48, 48, dtype=dtype, device="meta"),
        torch.empty(16, dtype=compute, device="meta"),
        torch.empty(32, dtype=compute, device="meta").expand(16, 32),
    )


def cases() -> Iterator[tuple[str, Callable[[], object]]]:
    for dtype in (torch.float32, torch.bfloat16, torch.float16, torch.float64):
        z, theta, mask = operands(dtype)
        yield f"split {dtype}", partial(LAUNCHERS.split, z, mask)
        yield f"split_backward {dtype}", partial(LAUNCHERS.split_backward, z, z, z, mask)
        yield f"masked_rotate {dtype}", partial(LAUNCHERS.masked_rotate, z, theta, mask)
        yield f"masked_rotate_backward {dtype}", partial(LAUNCHERS.masked_rotate_backward, z, z, theta, mask)
        yield f"consistency {dtype}", partial(LAUNCHERS.consistency, z, theta, mask, z)
        for estimator in ("ste", "counterfactual"):
            yield (
                f"consistency_backward {estimator} {dtype}",
                partial(LAUNCHERS.consistency_backward, z, theta, theta, z, theta, mask, z, estimator),
            )
    z, theta, mask = operands(torch.bfloat16)
    for needs in product((False, True), repeat=3):
        yield (
            f"masked_rotate_backward {needs}",
            partial(LAUNCHERS.masked_rotate_backward, z, z, theta, mask, *needs),
        )
        for estimator in ("ste", "counterfactual"):
            yield (
                f"consistency_backward {estimator} {needs}",
                partial(
                    LAUNCHERS.consistency_backward, z, theta, theta, z, theta, mask, z, estimator, *needs
                ),
            )
    for needs in ((True, False), (False, True)):
        yield f"split_backward {needs}", partial(LAUNCHERS.split_backward, z, z, z, mask, *needs)
    theta, mask = torch.empty(3, device="meta"), torch.empty(3, 2, device="meta")
    vectors = torch.empty(3, 2, device="meta")
    yield "split vectors", partial(LAUNCHERS.split, vectors, mask)
    yield "split_backward vectors", partial(LAUNCHERS.split_backward, vectors, vectors, vectors, mask)
    large = torch.empty(3, 2, 2**16, 2**16, device="meta")
    yield "consistency beyond 32 bits", partial(LAUNCHERS.consistency, large, theta, mask, large)
    yield (
        "consistency_backward beyond 32 bits",
        partial(LAUNCHERS.consistency_backward, large, theta, theta, large, theta, mask, large, "ste"),
    )
