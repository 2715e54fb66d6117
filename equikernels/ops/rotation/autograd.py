"""Derivatives, transforms and compilation of the rotation, the same for every kernel backend.

With A_k = d^k A / d theta^k, the rotation is A_0, and four functions are closed under differentiation:

    apply(z, theta, k)             A_k z
    adjoint(g, theta, k)           A_k^T g
    angle_grad(g, z, theta, k)     <g, A_{k+1} z>, one number per sample
    backward(g, z, theta, k)       the last two at once

so derivatives of every order, forward and reverse, are these functions again. Each exists twice: as an
operator (torch.compile and torch.export see one node; but torch.func.grad rejects operators, and in forward
mode they return silent zeros) and as an autograd.Function (every transform of eager torch; but its backward
does not compile). The operator is taken while tracing, the autograd.Function otherwise, and neither where
nothing can be recorded.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd import forward_ad

from equikernels.ops.rotation import native
from equikernels.ops.rotation.reference import compute_dtype
from equikernels.ops.tracing import (
    fold,
    has_hidden_batch,
    is_traced,
    is_transformed,
    refuse_dual_numbers,
    refuse_forward_mode,
    unfold,
)


class Launchers(Protocol):
    """What a kernel backend offers: the four functions on plain tensors of its device."""

    def apply(self, z: Tensor, theta: Tensor, order: int, /) -> Tensor: ...
    def adjoint(self, grad: Tensor, theta: Tensor, order: int, /) -> Tensor: ...
    def angle_grad(self, grad: Tensor, z: Tensor, theta: Tensor, order: int, /) -> Tensor: ...
    def backward(self, grad: Tensor, z: Tensor, theta: Tensor, order: int, /) -> tuple[Tensor, Tensor]: ...


LAUNCHERS: dict[str, Launchers] = {"cpp": native}

Gradients = tuple[Tensor | None, ...]


_requires_grad = operator.attrgetter("requires_grad")


def _differentiable(
    name: str,
    schema: str,
    *,
    fake: Callable[..., Any],
    save: Callable[..., tuple[Tensor | None, ...]],
    vjp: Callable[..., Gradients],
    jvp: Callable[..., Any],
) -> Callable[..., Any]:
    """One of the four functions, from its operator schema (tensors, then order and backend) and its rules.

    `save(needs, *tensors)` is what `vjp(saved, order, backend, needs, *cotangents)` wants of the tensors,
    given which of them need a gradient; `jvp(tensors, order, backend, *tangents)` may get None for a tangent
    that is zero.
    """

    def launch(*arguments: Any) -> Any:
        *operands, backend = arguments
        return getattr(LAUNCHERS[backend], name)(*operands)

    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        *tensors, ctx.order, ctx.backend = inputs
        ctx.save_for_backward(*save(ctx.needs_input_grad, *tensors))

    def setup_function(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        setup_context(ctx, inputs, output)
        ctx.set_materialize_grads(False)
        if forward_ad._current_level >= 0:
            ctx.save_for_forward(*inputs[:-2])

    def backward(ctx: Any, *cotangents: Tensor | None) -> Gradients:
        grads = vjp(ctx.saved_tensors, ctx.order, ctx.backend, ctx.needs_input_grad, *cotangents)
        return (*grads, None, None)

    def forward_mode(ctx: Any, *tangents: Tensor | None) -> Any:
        tensors = ctx.saved_tensors
        if not torch._C._are_functorch_transforms_active():
            return jvp(tensors, ctx.order, ctx.backend, *tangents[:-2])
        # Forward mode is switched off while a jvp rule runs, and with it that of the transforms outside this
        # one: the second derivative of jvp(jvp(f)) would be lost. Without tangents of this level it can be
        # on.
        primals = [forward_ad.unpack_dual(x).primal for x in tensors]
        with forward_ad._set_fwd_grad_enabled(True):
            return jvp(primals, ctx.order, ctx.backend, *tangents[:-2])

    def vmap(info: Any, in_dims: tuple[int | None, ...], *arguments: Any) -> Any:
        *tensors, order, backend = arguments
        size = info.batch_size
        folded = [fold(x, dim, size) for x, dim in zip(tensors, in_dims, strict=False)]
        out = call(*folded, order, backend)
        if isinstance(out, Tensor):
            return unfold(out, size), 0
        return tuple(unfold(x, size) for x in out), (0,) * len(out)

    def launch_operator(*arguments: Any) -> Any:
        refuse_dual_numbers("rotate", arguments[:-2])
        return launch(*arguments)

    traced = torch.library.custom_op(
        f"equikernels::rotate_{name}", launch_operator, mutates_args=(), schema=schema
    )
    traced.register_fake(fake)
    traced.register_autograd(backward, setup_context=setup_context)
    traced.register_vmap(vmap)

    function = type(
        f"Rotate_{name}",
        (torch.autograd.Function,),
        {
            "forward": staticmethod(launch),
            "setup_context": staticmethod(setup_function),
            "backward": staticmethod(backward),
            "jvp": staticmethod(forward_mode),
            "vmap": staticmethod(vmap),
        },
    )

    def launch_recorded(ctx: Any, *arguments: Any) -> Any:
        out = launch(*arguments)
        setup_function(ctx, arguments, out)
        return out

    # The same without support for transforms, whose machinery costs more than a small rotation.
    reverse_only = type(
        f"Rotate_{name}_reverse",
        (torch.autograd.Function,),
        {"forward": staticmethod(launch_recorded), "backward": staticmethod(backward)},
    )

    def call(*arguments: Any) -> Any:
        tensors = arguments[:-2]
        if is_traced(*tensors):
            refuse_forward_mode("rotate", tensors)
            return traced(*arguments)
        if has_hidden_batch(*tensors):
            return traced(*arguments)
        if is_transformed():
            return function.apply(*arguments)  # type: ignore[attr-defined]
        if torch.is_grad_enabled() and any(map(_requires_grad, tensors)):
            return reverse_only.apply(*arguments)  # type: ignore[attr-defined]
        return launch(*arguments)

    return call


def _images(x: Tensor, theta: Tensor, order: int, backend: str) -> Tensor:
    return x.new_empty(x.shape)


def _angles(grad: Tensor, z: Tensor, theta: Tensor, order: int, backend: str) -> Tensor:
    return theta.new_empty(theta.shape, dtype=compute_dtype(grad.dtype))


def _scaled(factor: Tensor, x: Tensor) -> Tensor:
    """One factor per sample; multiplied in its precision, which is the higher one."""
    return (factor[:, None, None, None] * x).to(x.dtype)


def _total(*terms: Tensor | None) -> Tensor | None:
    present = [x for x in terms if x is not None]
    return sum(present[1:], present[0]) if present else None


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
    return _total(
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
    return _total(
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
    return _total(
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
    return _total(of_adjoint[0], of_angle[0]), of_angle[1], _total(of_adjoint[1], of_angle[2])


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


_SCALARS = "int order, str backend"
rotate_apply = _differentiable(
    "apply",
    f"(Tensor z, Tensor theta, {_SCALARS}) -> Tensor",
    fake=_images,
    save=_save_linear,
    vjp=_apply_vjp,
    jvp=_apply_jvp,
)
rotate_adjoint = _differentiable(
    "adjoint",
    f"(Tensor grad, Tensor theta, {_SCALARS}) -> Tensor",
    fake=_images,
    save=_save_linear,
    vjp=_adjoint_vjp,
    jvp=_adjoint_jvp,
)
rotate_angle_grad = _differentiable(
    "angle_grad",
    f"(Tensor grad, Tensor z, Tensor theta, {_SCALARS}) -> Tensor",
    fake=_angles,
    save=_save_all,
    vjp=_angle_grad_vjp,
    jvp=_angle_grad_jvp,
)
rotate_backward = _differentiable(
    "backward",
    f"(Tensor grad, Tensor z, Tensor theta, {_SCALARS}) -> (Tensor, Tensor)",
    fake=lambda grad, z, theta, order, backend: (
        _images(grad, theta, order, backend),
        _angles(grad, z, theta, order, backend),
    ),
    save=_save_all,
    vjp=_backward_vjp,
    jvp=_backward_jvp,
)
