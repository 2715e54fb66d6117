"""Derivatives, transforms and compilation of the rotation, the same for every kernel backend.

With A_k = d^k A / d theta^k, the rotation is A_0, and four functions are closed under differentiation:

    apply(z, theta, k)             A_k z
    adjoint(g, theta, k)           A_k^T g
    angle_grad(g, z, theta, k)     <g, A_{k+1} z>, one number per sample
    backward(g, z, theta, k)       the last two at once

so derivatives of every order, forward and reverse, are these functions again.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor

from equikernels.ops.arguments import compute_dtype
from equikernels.ops.differentiable import Gradients, differentiable, launcher, total


class Launchers(Protocol):
    """What a kernel backend offers: the four functions on plain tensors of its device."""

    def apply(self, z: Tensor, theta: Tensor, order: int, /) -> Tensor: ...
    def adjoint(self, grad: Tensor, theta: Tensor, order: int, /) -> Tensor: ...
    def angle_grad(self, grad: Tensor, z: Tensor, theta: Tensor, order: int, /) -> Tensor: ...
    def backward(self, grad: Tensor, z: Tensor, theta: Tensor, order: int, /) -> tuple[Tensor, Tensor]: ...


def _launch(function: str) -> Callable[..., Any]:
    def launch(*arguments: Any) -> Any:
        *operands, backend = arguments
        kernels: Launchers = launcher("rotation", backend)
        return getattr(kernels, function)(*operands)

    return launch


def _images(x: Tensor, theta: Tensor, order: int, backend: str) -> Tensor:
    return x.new_empty(x.shape)


def _angles(grad: Tensor, z: Tensor, theta: Tensor, order: int, backend: str) -> Tensor:
    return theta.new_empty(theta.shape, dtype=compute_dtype(grad.dtype))


def _scaled(factor: Tensor, x: Tensor) -> Tensor:
    """One factor per sample; multiplied in its precision, which is the higher one."""
    return (factor[:, None, None, None] * x).to(x.dtype)


# --- apply: y = A_k z -----------------------------------------------------------------------------


def _apply_vjp(saved: Any, order: int, backend: str, needs: Any, grad: Tensor | None) -> Gradients:
    z, theta = saved
    if grad is None:
        return None, None
    if needs[0] and needs[1]:
        grads: tuple[Tensor, Tensor] = rotate_backward(grad, z, theta, order, backend)
        return grads
    if needs[0]:
        return rotate_adjoint(grad, theta, order, backend), None
    return None, rotate_angle_grad(grad, z, theta, order, backend) if needs[1] else None


def _apply_jvp(saved: Any, order: int, backend: str, z_dot: Tensor | None, theta_dot: Tensor | None) -> Any:
    z, theta = saved
    return total(
        None if z_dot is None else rotate_apply(z_dot, theta, order, backend),
        None if theta_dot is None else _scaled(theta_dot, rotate_apply(z, theta, order + 1, backend)),
    )


# --- adjoint: y = A_k^T g -------------------------------------------------------------------------


def _adjoint_vjp(saved: Any, order: int, backend: str, needs: Any, u: Tensor | None) -> Gradients:
    grad, theta = saved
    if u is None:
        return None, None
    return (
        rotate_apply(u, theta, order, backend) if needs[0] else None,
        rotate_angle_grad(grad, u, theta, order, backend) if needs[1] else None,
    )


def _adjoint_jvp(
    saved: Any, order: int, backend: str, grad_dot: Tensor | None, theta_dot: Tensor | None
) -> Any:
    grad, theta = saved
    return total(
        None if grad_dot is None else rotate_adjoint(grad_dot, theta, order, backend),
        None if theta_dot is None else _scaled(theta_dot, rotate_adjoint(grad, theta, order + 1, backend)),
    )


# --- angle_grad: y = <g, A_{k+1} z> ---------------------------------------------------------------


def _angle_grad_vjp(saved: Any, order: int, backend: str, needs: Any, w: Tensor | None) -> Gradients:
    grad, z, theta = saved
    if w is None:
        return None, None, None
    return (
        _scaled(w, rotate_apply(z, theta, order + 1, backend)) if needs[0] else None,
        _scaled(w, rotate_adjoint(grad, theta, order + 1, backend)) if needs[1] else None,
        w * rotate_angle_grad(grad, z, theta, order + 1, backend) if needs[2] else None,
    )


def _angle_grad_jvp(
    saved: Any,
    order: int,
    backend: str,
    grad_dot: Tensor | None,
    z_dot: Tensor | None,
    theta_dot: Tensor | None,
) -> Any:
    grad, z, theta = saved
    return total(
        None if grad_dot is None else rotate_angle_grad(grad_dot, z, theta, order, backend),
        None if z_dot is None else rotate_angle_grad(grad, z_dot, theta, order, backend),
        None if theta_dot is None else theta_dot * rotate_angle_grad(grad, z, theta, order + 1, backend),
    )


# --- backward: both at once -----------------------------------------------------------------------


def _backward_vjp(
    saved: Any, order: int, backend: str, needs: Any, u: Tensor | None, w: Tensor | None
) -> Gradients:
    grad, z, theta = saved
    of_adjoint = _adjoint_vjp((grad, theta), order, backend, (needs[0], needs[2]), u)
    of_angle = _angle_grad_vjp((grad, z, theta), order, backend, needs, w)
    return total(of_adjoint[0], of_angle[0]), of_angle[1], total(of_adjoint[1], of_angle[2])


def _backward_jvp(
    saved: Any,
    order: int,
    backend: str,
    grad_dot: Tensor | None,
    z_dot: Tensor | None,
    theta_dot: Tensor | None,
) -> Any:
    grad, z, theta = saved
    z_grad_dot = _adjoint_jvp((grad, theta), order, backend, grad_dot, theta_dot)
    theta_grad_dot = _angle_grad_jvp((grad, z, theta), order, backend, grad_dot, z_dot, theta_dot)
    # A tangent of z alone does not move A_k^T g.
    return torch.zeros_like(grad) if z_grad_dot is None else z_grad_dot, theta_grad_dot


def _save_linear(needs: Any, x: Tensor, theta: Tensor) -> tuple[Tensor | None, ...]:
    # Linear in x: x itself matters to the gradient of the angle only, and may be large.
    return (x if needs[1] else None), theta


def _save_all(needs: Any, *tensors: Tensor) -> tuple[Tensor | None, ...]:
    return tensors


_rotation = partial(differentiable, operation="rotate")
_SCALARS = "int order, str backend"
rotate_apply = _rotation(
    "rotate_apply",
    f"(Tensor z, Tensor theta, {_SCALARS}) -> Tensor",
    tensors=2,
    launch=_launch("apply"),
    fake=_images,
    save=_save_linear,
    vjp=_apply_vjp,
    jvp=_apply_jvp,
)
rotate_adjoint = _rotation(
    "rotate_adjoint",
    f"(Tensor grad, Tensor theta, {_SCALARS}) -> Tensor",
    tensors=2,
    launch=_launch("adjoint"),
    fake=_images,
    save=_save_linear,
    vjp=_adjoint_vjp,
    jvp=_adjoint_jvp,
)
rotate_angle_grad = _rotation(
    "rotate_angle_grad",
    f"(Tensor grad, Tensor z, Tensor theta, {_SCALARS}) -> Tensor",
    tensors=3,
    launch=_launch("angle_grad"),
    fake=_angles,
    save=_save_all,
    vjp=_angle_grad_vjp,
    jvp=_angle_grad_jvp,
)
rotate_backward = _rotation(
    "rotate_backward",
    f"(Tensor grad, Tensor z, Tensor theta, {_SCALARS}) -> (Tensor, Tensor)",
    tensors=3,
    launch=_launch("backward"),
    fake=lambda grad, z, theta, order, backend: (
        _images(grad, theta, order, backend),
        _angles(grad, z, theta, order, backend),
    ),
    save=_save_all,
    vjp=_backward_vjp,
    jvp=_backward_jvp,
)
