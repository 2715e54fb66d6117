"""Launchers of the C++ kernels: plain CPU tensors of any strides in, addresses and strides out.

A gradient that is not needed is not computed: its flag is false, and an empty tensor takes its place.
"""

from __future__ import annotations

import torch
from torch import Tensor

from equikernels.ops.arguments import compute_dtype
from equikernels.ops.extension import addressable, native, result_like

# In the order of equikernels::Storage.
_STORAGE = {torch.float32: 0, torch.float64: 1, torch.bfloat16: 2, torch.float16: 3}
_Address = tuple[int, tuple[int, ...]]
# A null address says that the kernels need not read, or not write, that tensor.
_NOTHING: _Address = (0, (0, 0, 0, 0))


def _images(x: Tensor) -> _Address:
    """Address and strides of (N, C, H, W), or of (N, C, P) as images of one row."""
    stride = x.stride()
    return x.data_ptr(), (*stride[:2], 0, stride[2]) if len(stride) == 3 else stride


def _shape(x: Tensor) -> tuple[int, ...]:
    shape = x.shape
    return (*shape[:2], 1, shape[2]) if len(shape) == 3 else shape


def _result(like: Tensor, needed: bool = True) -> Tensor:
    return result_like(like) if needed else torch.empty(0, dtype=like.dtype)


def _zeros(like: Tensor, dtype: torch.dtype, needed: bool = True) -> Tensor:
    # Zeros, because a sum over no pixels is written by no kernel.
    return torch.zeros(like.shape if needed else (0,), dtype=dtype)


def split(z: Tensor, soft: Tensor, threshold: float = 0.5) -> tuple[Tensor, Tensor]:
    """(m z, (1 - m) z) of z (N, C, H, W) or (N, C, P), with m = 1[soft > threshold], (N, C)."""
    z, soft = addressable(z), addressable(soft)
    z_v, z_i = result_like(z), result_like(z)
    native.split(
        _STORAGE[z.dtype], torch.get_num_threads(), _shape(z), *_images(z), soft.data_ptr(), soft.stride(),
        threshold, z_v.data_ptr(), z_i.data_ptr(),
    )  # fmt: skip
    return z_v, z_i


def split_backward(
    grad_v: Tensor,
    grad_i: Tensor,
    z: Tensor,
    soft: Tensor,
    need_z: bool = True,
    need_soft: bool = True,
    threshold: float = 0.5,
) -> tuple[Tensor, Tensor]:
    """Gradients to z and, straight through, to `soft`."""
    grad_v, grad_i, z, soft = map(addressable, (grad_v, grad_i, z, soft))
    z_grad = _result(z, need_z)
    soft_grad = _zeros(soft, compute_dtype(z.dtype), need_soft)
    native.split_backward(
        _STORAGE[z.dtype], torch.get_num_threads(), _shape(z), *_images(grad_v), *_images(grad_i),
        *_images(z), soft.data_ptr(), soft.stride(), threshold, z_grad.data_ptr(), soft_grad.data_ptr(),
    )  # fmt: skip
    return z_grad, soft_grad


def masked_rotate(z: Tensor, theta: Tensor, mask: Tensor) -> Tensor:
    """rho(theta) (m z) + (1 - m) z."""
    return _forward(z, theta, mask, None)[0]


def consistency(z: Tensor, theta: Tensor, mask: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The same, and each sample's sums of squares of (1 - m)(z - target) and m (rho(theta) z - target)."""
    return _forward(z, theta, mask, target)


def masked_rotate_backward(
    grad: Tensor,
    z: Tensor,
    theta: Tensor,
    mask: Tensor,
    need_z: bool = True,
    need_theta: bool = True,
    need_mask: bool = True,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients to z, theta (N,) and the mask (N, C)."""
    return _backward(grad, None, z, theta, mask, None, "", (need_z, need_theta, need_mask))


def consistency_backward(
    grad: Tensor,
    grad_i: Tensor,
    grad_v: Tensor,
    z: Tensor,
    theta: Tensor,
    mask: Tensor,
    target: Tensor,
    estimator: str,
    need_z: bool = True,
    need_theta: bool = True,
    need_mask: bool = True,
) -> tuple[Tensor, Tensor, Tensor]:
    """The same, given also the gradients (N,) of both sums; `estimator` is "ste" or "counterfactual"."""
    needs = (need_z, need_theta, need_mask)
    return _backward(grad, (grad_i, grad_v), z, theta, mask, target, estimator, needs)


def _forward(z: Tensor, theta: Tensor, mask: Tensor, target: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    z, theta, mask = addressable(z), addressable(theta), addressable(mask)
    where = _NOTHING
    if target is not None:
        target = addressable(target)
        where = _images(target)
    out = _result(z)
    loss_i, loss_v = (_zeros(theta, compute_dtype(z.dtype), target is not None) for _ in range(2))
    native.partition_forward(
        _STORAGE[z.dtype], torch.get_num_threads(), z.shape, *_images(z), theta.data_ptr(), theta.stride(0),
        mask.data_ptr(), mask.stride(), *where, out.data_ptr(), loss_i.data_ptr(), loss_v.data_ptr(),
    )  # fmt: skip
    return out, loss_i, loss_v


def _backward(
    grad: Tensor,
    loss_grads: tuple[Tensor, Tensor] | None,
    z: Tensor,
    theta: Tensor,
    mask: Tensor,
    target: Tensor | None,
    estimator: str,
    needs: tuple[bool, bool, bool],
) -> tuple[Tensor, Tensor, Tensor]:
    grad, z, theta, mask = map(addressable, (grad, z, theta, mask))
    where = _NOTHING
    of_losses = (0, 0, 0, 0)
    if target is not None and loss_grads is not None:
        target, grad_i, grad_v = map(addressable, (target, *loss_grads))
        where = _images(target)
        of_losses = (grad_i.data_ptr(), grad_i.stride(0), grad_v.data_ptr(), grad_v.stride(0))
    dtype = compute_dtype(z.dtype)
    z_grad = _result(z, needs[0])
    theta_grad, mask_grad = _zeros(theta, dtype, needs[1]), _zeros(mask, dtype, needs[2])
    native.partition_backward(
        _STORAGE[z.dtype], torch.get_num_threads(), z.shape, *_images(grad), *of_losses, *_images(z),
        theta.data_ptr(), theta.stride(0), mask.data_ptr(), mask.stride(), *where,
        estimator == "counterfactual", z_grad.data_ptr(), theta_grad.data_ptr(), mask_grad.data_ptr(),
    )  # fmt: skip
    return z_grad, theta_grad, mask_grad
