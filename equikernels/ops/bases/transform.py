"""The orbit transform as a differentiable function."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from equikernels.ops import backends
from equikernels.ops.bases.orbits import OrbitTransform
from equikernels.ops.bases.reference import transform_reference
from equikernels.ops.differentiable import launcher
from equikernels.ops.extension import UNAVAILABLE
from equikernels.ops.tracing import is_plain

backends.register(
    backends.Backend("orbit_transform", "cpp", ("cpu",), available=not UNAVAILABLE, reason=UNAVAILABLE)
)
backends.register(backends.Backend("orbit_transform", "torch", ("any",)))
backends.register(backends.Backend("orbit_transform", "reference", ("any",)))


def orbit_transform(
    x: Tensor, transform: OrbitTransform, *, inverse: bool = False, dim: int = -1, backend: str | None = None
) -> Tensor:
    """Multiply every vector by a sparse orthogonal matrix T, orbit by orbit: x T, or x T^T.

    Args:
        x: vectors (..., transform.dim), or with ``dim=-2`` (..., transform.dim, columns); float32, float64,
            bfloat16 or float16, any strides. Half precisions are computed in float32.
        transform: T, see :class:`OrbitTransform`.
        inverse: multiply by T^T instead.
        dim: -1 or -2, where the coordinates are.
        backend: "cpp" on the CPU; "torch", gathers and small products of PyTorch, on a GPU and wherever
            something traces or transforms; see :mod:`equikernels.ops.backends`.

    Returns:
        A contiguous tensor with the shape and dtype of x. Derivatives of every order, in both modes.
        Bit-equal for every number of threads.

    Raises:
        TypeError: x is no floating tensor.
        ValueError: a wrong shape or dim, or a backend that cannot run here.

    >>> import numpy as np
    >>> turn = OrbitTransform.of_matrix(np.array([[0.0, 1, 0], [0, 0, 1], [1, 0, 0]]))
    >>> orbit_transform(torch.tensor([1.0, 2.0, 3.0]), turn)
    tensor([3., 1., 2.])
    """
    if not isinstance(x, Tensor) or not x.is_floating_point():
        raise TypeError(f"x: expected a floating tensor, got {x.dtype if isinstance(x, Tensor) else type(x)}")
    if dim not in (-1, -2):
        raise ValueError(f"dim: expected -1 or -2, got {dim}")
    if x.dim() < -dim or x.shape[dim] != transform.dim:
        raise ValueError(f"x: expected {transform.dim} coordinates in dimension {dim}, got {tuple(x.shape)}")
    applied = transform.inverse if inverse else transform
    return apply_transforms(x, (applied,), dim, backend)


def apply_transforms(
    x: Tensor, transforms: tuple[OrbitTransform, ...], dim: int = -1, backend: str | None = None
) -> Tensor:
    """x T_1 T_2 ... for one or two transforms, checked already; see :func:`orbit_transform`."""
    chosen = backends.choose("orbit_transform", x.device.type, backend)
    working = x if x.dtype in (torch.float32, torch.float64) else x.float()
    if chosen == "cpp" and is_plain((x,)):
        if torch.is_grad_enabled() and x.requires_grad:
            out = _Native.apply(working, transforms, dim)  # type: ignore[no-untyped-call]
        else:
            out = launcher("bases", "cpp").transform(working, transforms, dim)
        return out.to(x.dtype)  # type: ignore[no-any-return]
    if backend == "cpp":
        raise backends.BackendError("backend: 'cpp' runs eagerly only; leave the choice open here")
    out = working if dim == -1 else working.mT
    for transform in transforms:
        out = transform_reference(out, transform)
    return (out if dim == -1 else out.mT.contiguous()).to(x.dtype)


class _Native(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, transforms: tuple[OrbitTransform, ...], dim: int) -> Tensor:
        ctx.transforms, ctx.dim = transforms, dim
        return launcher("bases", "cpp").transform(x, transforms, dim)  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        # The transpose is the inverse.
        back = tuple(transform.inverse for transform in reversed(ctx.transforms))
        return apply_transforms(grads[0], back, ctx.dim), None, None
