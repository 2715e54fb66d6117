"""How a projector acts on a parameter: on the whole weight, on every kernel, along the tokens."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from equikernels.ops.tracing import may_keep
from equikernels.project.projector import EquivariantProjector, InvariantProjector

DENSE_ROWS = 256
"""Entries of a kernel or token grid up to which P is applied as one matrix product: a model has thousands of
small kernels, and for them the product is several times faster than any structured way."""


class Part(Protocol):
    """A linear, self-adjoint map of a parameter onto its softened value of the same shape."""

    @property
    def projector(self) -> EquivariantProjector: ...

    def __call__(self, parameter: Tensor) -> Tensor: ...

    def dimension(self, parameter: Tensor) -> float:
        """Free parameters that are left of the parameter's entries."""
        ...


class Rows:
    """An invariant P on the last axis of vectors (..., C * n), for small n by its symmetric matrix."""

    def __init__(self, projector: InvariantProjector) -> None:
        self.projector = projector
        n = projector.shape[1]
        # A tensor made in inference mode could not be used in training later.
        with torch.inference_mode(False), torch.no_grad():
            self.matrix = projector(torch.eye(n, dtype=torch.float64)) if n <= DENSE_ROWS else None
        self._converted: dict[tuple[torch.dtype, torch.device], Tensor] = {}

    def __call__(self, w: Tensor) -> Tensor:
        n = self.projector.shape[1]
        if self.matrix is None or not w.is_floating_point() or w.ndim == 0 or w.shape[-1] % n:
            return self.projector(w)  # which raises where w does not fit
        # As projectors do: half precisions lose the cancellations, float32 holds them.
        working = w if w.dtype in (torch.float32, torch.float64) else w.float()
        with torch.autocast(w.device.type, enabled=False):
            vectors = working.reshape(*w.shape[:-1], w.shape[-1] // n, n) @ self._matrix(working)
        return vectors.reshape(w.shape).to(w.dtype)

    def _matrix(self, like: Tensor) -> Tensor:
        assert self.matrix is not None
        if not may_keep():
            return self.matrix.to(like.device, like.dtype)
        key = (like.dtype, like.device)
        if key not in self._converted:
            with torch.inference_mode(False):
                self._converted[key] = self.matrix.to(like.device, like.dtype)
        return self._converted[key]

    def __deepcopy__(self, memo: dict[int, Any]) -> Rows:
        return self

    def __reduce__(self) -> Any:
        return Rows, (self.projector,)


@dataclass(frozen=True, eq=False)
class Whole:
    """P on a weight (C_out * m, C_in * n), or on a bias (..., C * n) with an invariant projector."""

    projector: EquivariantProjector

    def __call__(self, parameter: Tensor) -> Tensor:
        return self.projector(parameter)

    def dimension(self, parameter: Tensor) -> float:
        m, n = self.projector.shape
        return parameter.numel() / (m * n) * self.projector.dimension


@dataclass(frozen=True, eq=False)
class Patches:
    """P on the kernels of a convolution of fields (C_out * m, C_in * n, *kernel), as maps from a patch."""

    projector: EquivariantProjector

    def __call__(self, parameter: Tensor) -> Tensor:
        return self.projector(parameter.flatten(1)).view(parameter.shape)

    def dimension(self, parameter: Tensor) -> float:
        m, n = self.projector.shape
        return parameter.numel() / (m * n) * self.projector.dimension


@dataclass(frozen=True, eq=False)
class Kernels:
    """An invariant P on every kernel of a convolution (out, in / groups, *kernel): its last `axes` axes."""

    projector: InvariantProjector
    axes: int
    _rows: Rows = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_rows", Rows(self.projector))

    def __call__(self, parameter: Tensor) -> Tensor:
        return self._rows(parameter.flatten(-self.axes)).reshape(parameter.shape)

    def dimension(self, parameter: Tensor) -> float:
        pixels = math.prod(parameter.shape[-self.axes :])
        return parameter.numel() / pixels * self.projector.dimension


@dataclass(frozen=True, eq=False)
class Tokens:
    """An invariant P along the tokens of a table (..., leading + H * W, D); the leading ones stay."""

    projector: InvariantProjector
    leading: int
    _rows: Rows = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_rows", Rows(self.projector))

    def __call__(self, parameter: Tensor) -> Tensor:
        smooth = self._rows(parameter[..., self.leading :, :].mT).mT
        if self.leading == 0:
            return smooth
        return torch.cat([parameter[..., : self.leading, :], smooth], dim=-2)

    def dimension(self, parameter: Tensor) -> float:
        rows = parameter.numel() / parameter.shape[-2]
        return rows * (self.leading + self.projector.dimension)
