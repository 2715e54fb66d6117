"""Launchers of the C++ kernels: plain CPU tensors in, addresses and strides out."""

from __future__ import annotations

import torch
from torch import Tensor

from equikernels.ops.extension import addressable, native, result_like

# In the order of equikernels::Storage and equikernels::Padding, and the taps along each axis.
_STORAGE = {torch.float32: 0, torch.float64: 1, torch.bfloat16: 2, torch.float16: 3}
_PADDING = {"zeros": 0, "border": 1, "reflection": 2}
_TAPS = {"nearest": 1, "bilinear": 2, "bicubic": 4}
_NO_STRIDE: tuple[int, ...] = (0, 0, 0, 0, 0)


def apply(z: Tensor, matrix: Tensor, directions: Tensor, mode: str, padding: str) -> Tensor:
    """F_k z: the k-th derivative of sampling at M [p; 1] along the k directions; k = len(directions)."""
    z, matrix, directions = addressable(z), addressable(matrix), addressable(directions)
    out = result_like(z)
    shape, stride = _volume(z)
    native.sample_apply(
        _STORAGE[z.dtype], z.dim() - 2, _TAPS[mode], _PADDING[padding], torch.get_num_threads(),
        shape, z.data_ptr(), stride, matrix.data_ptr(), matrix.stride(),
        directions.data_ptr(), directions.stride(), len(directions), out.data_ptr(),
    )  # fmt: skip
    return out


def adjoint(grad: Tensor, matrix: Tensor, directions: Tensor, mode: str, padding: str) -> Tensor:
    """F_k^T grad."""
    return _backward(grad, None, matrix, directions, mode, padding, True)[0]


def matrix_grad(
    grad: Tensor, z: Tensor, matrix: Tensor, directions: Tensor, mode: str, padding: str
) -> Tensor:
    """The gradient of <grad, F_k z> of each sample with respect to its matrix."""
    return _backward(grad, z, matrix, directions, mode, padding, False)[1]


def backward(
    grad: Tensor, z: Tensor, matrix: Tensor, directions: Tensor, mode: str, padding: str
) -> tuple[Tensor, Tensor]:
    """Both of the above, in one pass unless threads have to share an image."""
    return _backward(grad, z, matrix, directions, mode, padding, True)


def _volume(z: Tensor) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Shape and strides with a depth: images are volumes of one slice."""
    shape, stride = z.shape, z.stride()
    if len(shape) == 5:
        return shape, stride
    # The stride of a slice of depth one is never taken.
    return (*shape[:2], 1, *shape[2:]), (*stride[:2], 0, *stride[2:])


def _backward(
    grad: Tensor,
    z: Tensor | None,
    matrix: Tensor,
    directions: Tensor,
    mode: str,
    padding: str,
    need_z: bool,
) -> tuple[Tensor, Tensor]:
    grad, matrix, directions = addressable(grad), addressable(matrix), addressable(directions)
    # A null address says that the kernels need not read, or not write, that tensor; empty tensors have it
    # too.
    z_address, z_stride = 0, _NO_STRIDE
    if z is not None:
        z = addressable(z)
        z_address, z_stride = z.data_ptr(), _volume(z)[1]
    shape, grad_stride = _volume(grad)
    # Zeros, because a sample without channels or pixels still has a matrix, and its gradient is zero.
    matrix_grad = torch.zeros(matrix.shape if z is not None else (0,), dtype=matrix.dtype)
    z_grad = result_like(grad) if need_z else torch.empty(0, dtype=grad.dtype)
    native.sample_backward(
        _STORAGE[grad.dtype], grad.dim() - 2, _TAPS[mode], _PADDING[padding], torch.get_num_threads(),
        shape, grad.data_ptr(), grad_stride, z_address, z_stride, matrix.data_ptr(), matrix.stride(),
        directions.data_ptr(), directions.stride(), len(directions),
        z_grad.data_ptr(), matrix_grad.data_ptr(),
    )  # fmt: skip
    return z_grad, matrix_grad
