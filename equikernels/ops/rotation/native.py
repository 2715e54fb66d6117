"""Launchers of the C++ kernels: plain CPU tensors in, addresses and strides out."""

from __future__ import annotations

import torch
from torch import Tensor

from equikernels.ops.arguments import compute_dtype
from equikernels.ops.extension import addressable, native, result_like

# In the order of equikernels::Storage.
_STORAGE = {torch.float32: 0, torch.float64: 1, torch.bfloat16: 2, torch.float16: 3}
_NO_STRIDE: tuple[int, ...] = (0, 0, 0, 0)


def apply(z: Tensor, theta: Tensor, order: int) -> Tensor:
    """A_k z, with A_k the k-th derivative of the rotation with respect to its angle; k = `order`."""
    z, theta = addressable(z), addressable(theta)
    out = result_like(z)
    native.rotate_apply(
        _STORAGE[z.dtype], order, torch.get_num_threads(), z.shape,
        z.data_ptr(), z.stride(), theta.data_ptr(), theta.stride(0), out.data_ptr(),
    )  # fmt: skip
    return out


def adjoint(grad: Tensor, theta: Tensor, order: int) -> Tensor:
    """A_k^T grad."""
    return _backward(grad, None, theta, order, True)[0]


def angle_grad(grad: Tensor, z: Tensor, theta: Tensor, order: int) -> Tensor:
    """<grad, A_{k+1} z> of each sample: the derivative of <grad, A_k z> with respect to its angle."""
    return _backward(grad, z, theta, order, False)[1]


def backward(grad: Tensor, z: Tensor, theta: Tensor, order: int) -> tuple[Tensor, Tensor]:
    """Both of the above, in one pass where the image fits one tile."""
    return _backward(grad, z, theta, order, True)


def _backward(
    grad: Tensor, z: Tensor | None, theta: Tensor, order: int, need_z: bool
) -> tuple[Tensor, Tensor]:
    grad, theta = addressable(grad), addressable(theta)
    # A null address says that the kernels need not read, or not write, that tensor; empty tensors have it
    # too.
    z_address, z_stride = 0, _NO_STRIDE
    if z is not None:
        z = addressable(z)
        z_address, z_stride = z.data_ptr(), z.stride()
    # Zeros, because a sample without channels or pixels still has an angle, and its gradient is zero.
    theta_grad = torch.zeros(theta.shape if z is not None else (0,), dtype=compute_dtype(grad.dtype))
    z_grad = result_like(grad) if need_z else torch.empty(0, dtype=grad.dtype)
    native.rotate_backward(
        _STORAGE[grad.dtype], order, torch.get_num_threads(), grad.shape,
        grad.data_ptr(), grad.stride(), z_address, z_stride, theta.data_ptr(), theta.stride(0),
        z_grad.data_ptr(), theta_grad.data_ptr(),
    )  # fmt: skip
    return z_grad, theta_grad
