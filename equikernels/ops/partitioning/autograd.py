"""Derivatives, transforms and compilation of the partition, the same for every kernel backend.

The fused backward functions compute all gradients in few passes and have no derivatives of their own. They
are taken where nothing will differentiate them; elsewhere the same gradients are composed of the rotation's
functions, `split` and plain torch, all of which have derivatives of every order. With y = rho(theta) z:

    split           z_v = m z,  z_i = (1 - m) z,  m = 1[soft > threshold], which counts as soft: m' = soft'
    masked_rotate   out = m y + (1 - m) z
    consistency     out, and per sample  loss_i = |(1 - m) z - (1 - m) z'|^2,  loss_v = |m y - m z'|^2
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn

import torch
from torch import Tensor

from equikernels.ops.differentiable import Gradients, differentiable, launcher, total
from equikernels.ops.partitioning.launchers import Launchers
from equikernels.ops.partitioning.reference import seen
from equikernels.ops.rotation.autograd import (
    rotate_adjoint,
    rotate_angle_grad,
    rotate_apply,
    rotate_backward,
)
from equikernels.ops.tracing import is_traced, is_transformed


def _launch(function: str, count: int | None = None) -> Callable[..., Any]:
    """A backend's function of the arguments, or of the first `count` of them."""

    def launch(*arguments: Any) -> Any:
        *operands, backend = arguments
        kernels: Launchers = launcher("partitioning", backend)
        return getattr(kernels, function)(*operands[:count])

    return launch


def _is_last(*tensors: Tensor) -> bool:
    """Whether nothing will differentiate these gradients; a tracer cannot, and is told so when it tries."""
    return is_traced(*tensors) or not (torch.is_grad_enabled() or is_transformed())


def _zeros(x: Tensor) -> Tensor:
    """A gradient of zero, without memory of its own."""
    return x.new_zeros(()).expand(x.shape)


def _needed(gradients: tuple[Tensor, ...], needs: Any) -> Gradients:
    """Without those that were not asked for."""
    return tuple(x if need else None for x, need in zip(gradients, needs, strict=False))


def _per_image(x: Tensor) -> Tensor:
    return x[:, None, None, None]


def _selected(x: Tensor, mask: Tensor, backend: str) -> tuple[Tensor, Tensor]:
    """(m x, (1 - m) x) for images."""
    # Any threshold between the two values of the mask.
    m_x, others = split(x, mask, 0.5, backend)
    return m_x, others


def _per_channel(a: Tensor, b: Tensor) -> Tensor:
    """<a, b> of every channel, (N, C)."""
    return (a * b).flatten(2).sum(2)


# --- split: z_v = m z, z_i = (1 - m) z ------------------------------------------------------------


def _split_vjp(
    saved: Any, threshold: float, backend: str, needs: Any, grad_v: Tensor | None, grad_i: Tensor | None
) -> Gradients:
    z, soft = saved
    present = grad_v if grad_v is not None else grad_i
    if present is None:
        return None, None
    grad_v = _zeros(present) if grad_v is None else grad_v
    grad_i = _zeros(present) if grad_i is None else grad_i
    if _is_last(grad_v, grad_i, soft):
        # Without a gradient of the mask z was not kept and is not read.
        values = present if z is None else z
        fused = split_backward(grad_v, grad_i, values, soft, *needs[:2], threshold, backend)
        return _needed(fused, needs)
    z_grad = soft_grad = None
    if needs[0]:
        z_grad = split(grad_v, soft, threshold, backend)[0] + split(grad_i, soft, threshold, backend)[1]
    if needs[1]:
        soft_grad = _per_channel(grad_v.to(soft.dtype) - grad_i, z)
    return z_grad, soft_grad


def _split_jvp(
    saved: Any, threshold: float, backend: str, z_dot: Tensor | None, soft_dot: Tensor | None
) -> Any:
    z, soft = saved
    along_v, along_i = (None, None) if z_dot is None else split(z_dot, soft, threshold, backend)
    if soft_dot is None:
        return along_v, along_i
    change = (soft_dot.view(*soft_dot.shape, *(1,) * (z.dim() - 2)) * z).to(z.dtype)
    return total(along_v, change), total(along_i, -change)


# --- masked_rotate: out = m rho(theta) z + (1 - m) z ----------------------------------------------


def _masked_rotate_vjp(saved: Any, backend: str, needs: Any, grad: Tensor | None) -> Gradients:
    z, theta, mask = saved
    if grad is None:
        return None, None, None
    if _is_last(grad, theta, mask):
        # Without gradients of angle and mask z was not kept and is not read.
        fused = masked_rotate_backward(grad, grad if z is None else z, theta, mask, *needs[:3], backend)
        return _needed(fused, needs)
    z_grad, theta_grad = _composed(grad, grad, z, theta, mask, backend, needs)
    mask_grad = None
    if needs[2]:
        values = z.to(mask.dtype)
        mask_grad = _per_channel(grad, rotate_apply(values, theta, 0, backend) - values)
    return z_grad, theta_grad, mask_grad


def _masked_rotate_jvp(
    saved: Any,
    backend: str,
    z_dot: Tensor | None,
    theta_dot: Tensor | None,
    mask_dot: Tensor | None,
) -> Any:
    z, theta, mask = saved
    turned, copied = _tangents(z, theta, mask, backend, z_dot, theta_dot)
    change = None
    if mask_dot is not None:
        values = z.to(mask.dtype)
        change = mask_dot[:, :, None, None] * (rotate_apply(values, theta, 0, backend) - values)
    tangent = total(turned, copied, change)
    return None if tangent is None else tangent.to(z.dtype)


def _composed(
    turned_grad: Tensor,
    copied_grad: Tensor,
    z: Tensor,
    theta: Tensor,
    mask: Tensor,
    backend: str,
    needs: Any,
) -> Gradients:
    """Gradients of z and theta in m rho(theta) z + (1 - m) z, given those of both terms without their m."""
    z_grad = theta_grad = None
    # Where nothing turns the angle does not matter, finite or not.
    theta = torch.where((mask != 0).any(1), theta, 0)
    if needs[1]:
        # The mask is applied once, to one of the factors; so the other may have to be cleared of infinities.
        shown = seen(turned_grad, mask[:, :, None, None] != 0)
        z_v = _selected(z, mask, backend)[0]
        if needs[0]:
            z_grad, theta_grad = rotate_backward(shown, z_v, theta, 0, backend)
        else:
            theta_grad = rotate_angle_grad(shown, z_v, theta, 0, backend)
    elif needs[0]:
        z_grad = rotate_adjoint(turned_grad, theta, 0, backend)
    if z_grad is not None:
        # The adjoint acts on every channel alone: selecting before it or after it is the same.
        z_grad = _selected(z_grad, mask, backend)[0] + _selected(copied_grad, mask, backend)[1]
    return z_grad, theta_grad


def _tangents(
    z: Tensor, theta: Tensor, mask: Tensor, backend: str, z_dot: Tensor | None, theta_dot: Tensor | None
) -> tuple[Tensor | None, Tensor | None]:
    """Those of m rho(theta) z and of (1 - m) z while the mask stays as it is."""
    turned = copied = None
    if z_dot is not None:
        turned, copied = rotate_apply(z_dot, theta, 0, backend), _selected(z_dot, mask, backend)[1]
    if theta_dot is not None:
        turned = total(turned, _per_image(theta_dot) * rotate_apply(z, theta, 1, backend))
    return None if turned is None else _selected(turned, mask, backend)[0], copied


# --- consistency: the same, and the two losses ----------------------------------------------------


def _residuals(
    z: Tensor, y: Tensor, mask: Tensor, target: Tensor, estimator: str, backend: str
) -> tuple[Tensor, Tensor]:
    """What stands beside (1 - m) and m in the derivatives of the two losses by z and by y."""
    if estimator == "counterfactual":
        # The losses are linear in the mask: (1 - m) |z - target|^2 and m |y - target|^2.
        return z - target, y - target
    # |(1 - m) z - (1 - m') target|^2 and |m y - m' target|^2, m' a constant.
    target_v, target_i = _selected(target, mask.detach(), backend)
    return _selected(z, mask, backend)[1] - target_i, _selected(y, mask, backend)[0] - target_v


def _consistency_vjp(
    saved: Any,
    estimator: str,
    backend: str,
    needs: Any,
    grad: Tensor | None,
    grad_i: Tensor | None,
    grad_v: Tensor | None,
) -> Gradients:
    z, theta, mask, target = saved
    if grad is None and grad_i is None and grad_v is None:
        return None, None, None, None
    grad = _zeros(z) if grad is None else grad
    grad_i = _zeros(theta) if grad_i is None else grad_i
    grad_v = _zeros(theta) if grad_v is None else grad_v
    if _is_last(grad, grad_i, grad_v, z, theta, mask, target):
        fused = consistency_backward(
            grad, grad_i, grad_v, z, theta, mask, target, estimator, *needs[:3], backend
        )
        return (*_needed(fused, needs), None)
    dtype = mask.dtype
    grad, values, goal = grad.to(dtype), z.to(dtype), target.to(dtype)
    weight_i, weight_v = 2 * _per_image(grad_i), 2 * _per_image(grad_v)
    y = rotate_apply(values, theta, 0, backend)
    residual_i, residual_v = _residuals(values, y, mask, goal, estimator, backend)
    turned_grad, copied_grad = grad + weight_v * residual_v, grad + weight_i * residual_i
    z_grad, theta_grad = _composed(turned_grad, copied_grad, values, theta, mask, backend, needs)
    if z_grad is not None:
        z_grad = z_grad.to(z.dtype)
    mask_grad = None
    if needs[2] and estimator == "ste":
        mask_grad = _per_channel(turned_grad, y) - _per_channel(copied_grad, values)
    elif needs[2]:
        gain = grad * (y - values) + (weight_v * residual_v.square() - weight_i * residual_i.square()) / 2
        mask_grad = gain.flatten(2).sum(2)
    return z_grad, theta_grad, mask_grad, None


def _consistency_jvp(
    saved: Any,
    estimator: str,
    backend: str,
    z_dot: Tensor | None,
    theta_dot: Tensor | None,
    mask_dot: Tensor | None,
    target_dot: Tensor | None,
) -> Any:
    z, theta, mask, target = saved
    m, values, goal = mask[:, :, None, None], z.to(mask.dtype), target.to(mask.dtype)
    y = rotate_apply(values, theta, 0, backend)
    residual_i, residual_v = _residuals(values, y, mask, goal, estimator, backend)
    turned, copied = _tangents(values, theta, mask, backend, z_dot, theta_dot)
    sums = []
    terms = ((copied, residual_i, m != 1, values, -1), (turned, residual_v, m != 0, y, 1))
    for along, residual, used, part, sign in terms:
        tangent = None if along is None else 2 * _per_channel(seen(residual, used), along)
        if mask_dot is not None:
            slope = 2 * _per_channel(residual, part)
            if estimator == "counterfactual":
                slope = _per_channel(residual, residual)
            tangent = total(tangent, sign * mask_dot * slope)
        sums.append(torch.zeros_like(theta) if tangent is None else tangent.sum(1))
    change = None if mask_dot is None else mask_dot[:, :, None, None] * (y - values)
    out = total(turned, copied, change)
    return torch.zeros_like(z) if out is None else out.to(z.dtype), *sums


# --- the fused backward functions -----------------------------------------------------------------


def _no_second_derivative(*arguments: Any) -> NoReturn:
    raise NotImplementedError(
        "partition: a second derivative is not supported inside torch.compile and other tracers, take it "
        "outside"
    )


def _save_split(needs: Any, z: Tensor, soft: Tensor) -> tuple[Tensor | None, ...]:
    # Linear in z: z itself matters to the gradient of the mask only, and may be large.
    return (z if needs[1] else None), soft


def _save_masked_rotate(needs: Any, z: Tensor, theta: Tensor, mask: Tensor) -> tuple[Tensor | None, ...]:
    return (z if needs[1] or needs[2] else None), theta, mask


def _fake_gradients(operands: slice) -> Callable[..., Any]:
    """Of these operands, where flags among the arguments say that they are needed."""

    def fake(*arguments: Any) -> tuple[Tensor, ...]:
        needs = (x for x in arguments if isinstance(x, bool))
        pairs = zip(arguments[operands], needs, strict=True)
        return tuple(x.new_empty(x.shape if need else (0,)) for x, need in pairs)

    return fake


_NEEDS = "bool need_z, bool need_theta, bool need_mask"
_backward = partial(differentiable, save=lambda *_: (), vjp=_no_second_derivative, jvp=_no_second_derivative)
split = differentiable(
    "split",
    "(Tensor z, Tensor soft, float threshold, str backend) -> (Tensor, Tensor)",
    operation="partition",
    tensors=2,
    launch=_launch("split"),
    fake=lambda z, *_: (z.new_empty(z.shape), z.new_empty(z.shape)),
    save=_save_split,
    vjp=_split_vjp,
    jvp=_split_jvp,
)
split_backward = _backward(
    "split_backward",
    "(Tensor grad_v, Tensor grad_i, Tensor z, Tensor soft, bool need_z, bool need_soft,"
    " float threshold, str backend) -> (Tensor, Tensor)",
    operation="partition",
    tensors=4,
    launch=_launch("split_backward"),
    fake=_fake_gradients(slice(2, 4)),
)
masked_rotate = differentiable(
    "masked_rotate",
    "(Tensor z, Tensor theta, Tensor mask, str backend) -> Tensor",
    operation="partition_rotate",
    tensors=3,
    launch=_launch("masked_rotate"),
    fake=lambda z, theta, mask, backend: z.new_empty(z.shape),
    save=_save_masked_rotate,
    vjp=_masked_rotate_vjp,
    jvp=_masked_rotate_jvp,
)
masked_rotate_backward = _backward(
    "masked_rotate_backward",
    f"(Tensor grad, Tensor z, Tensor theta, Tensor mask, {_NEEDS}, str backend) -> (Tensor, Tensor, Tensor)",
    operation="partition_rotate",
    tensors=4,
    launch=_launch("masked_rotate_backward"),
    fake=_fake_gradients(slice(1, 4)),
)
consistency = differentiable(
    "consistency",
    "(Tensor z, Tensor theta, Tensor mask, Tensor target, str estimator, str backend)"
    " -> (Tensor, Tensor, Tensor)",
    operation="partition_rotate",
    tensors=4,
    # The estimator changes gradients only.
    launch=_launch("consistency", 4),
    fake=lambda z, theta, *_: tuple(x.new_empty(x.shape) for x in (z, theta, theta)),
    save=lambda needs, *tensors: tensors,
    vjp=_consistency_vjp,
    jvp=_consistency_jvp,
)
consistency_backward = _backward(
    "consistency_backward",
    "(Tensor grad, Tensor grad_i, Tensor grad_v, Tensor z, Tensor theta, Tensor mask, Tensor target,"
    f" str estimator, {_NEEDS}, str backend) -> (Tensor, Tensor, Tensor)",
    operation="partition_rotate",
    tensors=7,
    launch=_launch("consistency_backward"),
    fake=_fake_gradients(slice(3, 6)),
)
