"""The kernels of the partition that every backend has."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class Launchers(Protocol):
    """What a kernel backend offers: functions on plain tensors of its device, of any strides.

    The mask (N, C) holds 0, 1 or NaN. Results are contiguous; images and their gradients have the dtype of
    `z`, all others that of the mask. Losses and their gradients are one number per sample. Flags say which of
    the gradients of z, theta and mask are needed; an empty tensor takes the place of one that is not.

    The split and its backward take any numbers (N, C) instead, and make the mask 1[soft > threshold] of them;
    the threshold is rounded to their dtype, as torch's comparison does.
    """

    def split(self, z: Tensor, soft: Tensor, threshold: float, /) -> tuple[Tensor, Tensor]: ...
    def split_backward(
        self,
        grad_v: Tensor,
        grad_i: Tensor,
        z: Tensor,
        soft: Tensor,
        need_z: bool,
        need_soft: bool,
        threshold: float,
        /,
    ) -> tuple[Tensor, Tensor]: ...
    def masked_rotate(self, z: Tensor, theta: Tensor, mask: Tensor, /) -> Tensor: ...
    def masked_rotate_backward(
        self,
        grad: Tensor,
        z: Tensor,
        theta: Tensor,
        mask: Tensor,
        need_z: bool,
        need_theta: bool,
        need_mask: bool,
        /,
    ) -> tuple[Tensor, Tensor, Tensor]: ...
    def consistency(
        self, z: Tensor, theta: Tensor, mask: Tensor, target: Tensor, /
    ) -> tuple[Tensor, Tensor, Tensor]: ...
    def consistency_backward(
        self,
        grad: Tensor,
        grad_i: Tensor,
        grad_v: Tensor,
        z: Tensor,
        theta: Tensor,
        mask: Tensor,
        target: Tensor,
        estimator: str,
        need_z: bool,
        need_theta: bool,
        need_mask: bool,
        /,
    ) -> tuple[Tensor, Tensor, Tensor]: ...
