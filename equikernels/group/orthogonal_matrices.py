"""What groups of orthogonal matrices share: how elements are checked, and, of 3 x 3 ones, multiplied."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from equikernels.group.group import Element, Group

TOLERANCES = {torch.float64: 1e-5, torch.float32: 1e-4}
"""The largest |R R^T - I| that `check` accepts. Float64 admits what was once rounded to float32."""

HALF_TOLERANCE = 5e-2


def concrete(g: Tensor) -> bool:
    """Whether the numbers of a tensor can be looked at: not while a graph is traced or a transform runs."""
    return not (
        torch.compiler.is_compiling()
        or torch._C._are_functorch_transforms_active()
        or torch._C._len_torch_dispatch_stack() > 0
        or g.is_meta
        or not torch._C._has_storage(g)
    )


def floating(values: Any, what: str) -> Tensor:
    """Numbers, arrays or tensors as a floating tensor; raises TypeError for every other dtype."""
    tensor = values if isinstance(values, Tensor) else torch.as_tensor(np.asarray(values))
    if not tensor.is_floating_point():
        raise TypeError(f"{what} must be floating, got {tensor.dtype}")
    return tensor


def determinant_sign(g: Tensor) -> Tensor:
    """The sign (...) of the determinants of orthogonal matrices (..., n, n), a constant for derivatives."""
    g = g.detach()
    if g.shape[-1] == 3:
        volume = (torch.linalg.cross(g[..., 0, :], g[..., 1, :]) * g[..., 2, :]).sum(-1)
    else:
        volume = torch.linalg.det(g.to(torch.promote_types(g.dtype, torch.float32)))
    return torch.where(volume < 0, -1.0, 1.0).to(g.dtype)


def check_orthogonal(g: Any, group: str, n: int = 3) -> Tensor:
    """`g` as floating orthogonal matrices (..., n, n); raises TypeError or ValueError otherwise.

    Only shape and dtype are looked at where the numbers cannot be: under torch.compile, vmap and grad.
    """
    matrix = floating(g, f"elements of {group} are matrices, whose entries")
    if matrix.shape[-2:] != (n, n):
        raise ValueError(f"elements of {group} must have shape (..., {n}, {n}), got {tuple(matrix.shape)}")
    if not concrete(matrix) or matrix.numel() == 0:
        return matrix
    values = matrix.detach()
    if values.dtype not in TOLERANCES:
        values = values.float()
    defect = float((values @ values.mT - torch.eye(n, dtype=values.dtype, device=values.device)).abs().max())
    tolerance = TOLERANCES.get(matrix.dtype, HALF_TOLERANCE)
    if math.isnan(defect):
        raise ValueError(f"elements of {group} must be finite, but some entries are NaN or infinite")
    if defect > tolerance:
        raise ValueError(
            f"elements of {group} must be orthogonal, but |R R^T - I| reaches {defect:.1e}"
            f" (allowed for {matrix.dtype}: {tolerance:.0e})"
        )
    return matrix


class OrthogonalMatrices(Group):
    """A group whose elements are orthogonal matrices (..., 3, 3) and whose Lie algebra is so(3)."""

    @property
    def lie_dim(self) -> int:
        return 3

    @property
    def identity(self) -> Tensor:
        return torch.eye(3, dtype=torch.float64)

    def batch_shape(self, g: Element) -> torch.Size:
        return torch.Size(g.shape[:-2])

    def unbind(self, g: Element) -> list[Element]:
        return list(g.reshape(-1, 3, 3))

    def compose(self, g: Any, h: Any) -> Tensor:
        g, h = self.check(g), self.check(h)
        dtype = torch.promote_types(g.dtype, h.dtype)
        product: Tensor = g.to(dtype) @ h.to(dtype)
        return product

    def inverse(self, g: Any) -> Tensor:
        matrix: Tensor = self.check(g)
        return matrix.mT

    @property
    def injectivity_radius(self) -> float:
        """The radius below which exp is one-to-one: pi."""
        return math.pi

    @property
    def structure_constants(self) -> np.ndarray:
        """c (3, 3, 3), float64, with [X_i, X_j] = sum_k c[i, j, k] X_k: the Levi-Civita symbol."""
        c = np.zeros((3, 3, 3))
        for i in range(3):
            j, k = (i + 1) % 3, (i + 2) % 3
            c[i, j, k], c[j, i, k] = 1, -1
        return c
