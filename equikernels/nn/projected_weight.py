"""One projection per version of a weight."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


class _Projected(torch.autograd.Function):
    """Gives the cached P(W) as a function of W: its derivative is P, and P is self-adjoint."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, cached: Tensor, project: Callable[[Tensor], Tensor]) -> Tensor:
        ctx.project = project
        return cached.view_as(cached)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return ctx.project(grad), None, None


class ProjectedWeight:
    """Keeps the projection of a parameter until the parameter changes.

    The cache is keyed on the parameter's identity, version counter, dtype and device, so an optimizer
    step, `load_state_dict` or `.to(...)` renews it. Writing through `weight.data` does not move the
    version counter: call `forget()` afterwards. Copies and pickles start empty.
    """

    def __init__(self) -> None:
        self._key: tuple[Any, ...] | None = None
        self._weight: Tensor | None = None
        self._value: Tensor | None = None

    def forget(self) -> None:
        """Drop what is kept."""
        self._key = self._weight = self._value = None

    def __call__(self, weight: Tensor, project: Callable[[Tensor], Tensor]) -> Tensor:
        """P(weight), differentiable in `weight`; `project` must be linear and self-adjoint."""
        # Inside function transforms and compiled graphs a weight is a stand-in without a version.
        if torch.compiler.is_compiling() or not isinstance(weight, nn.Parameter):
            return project(weight)
        key = (weight._version, weight.data_ptr(), weight.dtype, weight.device, tuple(weight.shape))
        if key != self._key or self._value is None:
            # A tensor made in inference mode could not be used in training later.
            with torch.inference_mode(False), torch.no_grad():
                self._value = project(weight.detach())
            # Holding the storage keeps its address from being given to another tensor.
            self._key, self._weight = key, weight.detach()
        if torch.is_grad_enabled() and weight.requires_grad:
            return _Projected.apply(weight, self._value, project)  # type: ignore[no-any-return, no-untyped-call]
        return self._value

    def __deepcopy__(self, memo: dict[int, Any]) -> ProjectedWeight:
        return ProjectedWeight()

    def __getstate__(self) -> dict[str, Any]:
        return {"_key": None, "_weight": None, "_value": None}
