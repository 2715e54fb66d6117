"""One projection per version of a weight."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from equikernels.ops.tracing import may_keep

T = TypeVar("T")


class _Projected(torch.autograd.Function):
    """Gives the cached P(W) as a function of W, whose derivative is the adjoint of P."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, cached: Tensor, adjoint: Callable[[Tensor], Tensor]) -> Tensor:
        ctx.adjoint = adjoint
        return cached.view_as(cached)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        return ctx.adjoint(grads[0]), None, None


def _cacheable(weight: Tensor) -> bool:
    """Whether a weight is a parameter whose changes can be seen from outside.

    Stand-ins have no version of their own: plain tensors of function transforms, fake, distributed and
    other subclasses, tensors made in inference mode. In a compiled or captured graph the projection is
    a part of the graph, or a replay would use yesterday's.
    """
    if not may_keep() or type(weight) is not nn.Parameter or weight.is_inference():
        return False
    return not (weight.is_cuda and torch.cuda.is_current_stream_capturing())


def version_key(weight: Tensor) -> tuple[Any, ...] | None:
    """What changes whenever a parameter does, or None for a tensor whose changes cannot be seen."""
    if not _cacheable(weight):
        return None
    return (
        weight._version,
        weight.data_ptr(),
        weight.dtype,
        weight.device,
        tuple(weight.shape),
        weight.stride(),
    )


class KeptValue:
    """Keeps something made from a parameter, without gradients, until the parameter changes."""

    def __init__(self) -> None:
        self._kept: tuple[Any, Tensor, Any] | None = None

    def __call__(self, weight: Tensor, what: Any, make: Callable[[Tensor], T]) -> T:
        """make(weight); `what` names it, and only the last one made is kept."""
        key = version_key(weight)
        if key is None:
            return make(weight)
        kept = self._kept
        if kept is None or kept[0] != (key, what):
            with torch.inference_mode(False), torch.no_grad():
                value = make(weight.detach())
            # Holding the storage keeps its address from being given to another tensor.
            kept = ((key, what), weight.detach(), value)
            self._kept = kept
        return kept[2]

    def __deepcopy__(self, memo: dict[int, Any]) -> KeptValue:
        return KeptValue()

    def __getstate__(self) -> dict[str, Any]:
        return {"_kept": None}


class ProjectedWeight:
    """Keeps the projection of a parameter until the parameter changes.

    The cache is keyed on the parameter's storage, layout, version counter, dtype and device, so an
    optimizer step, `load_state_dict` or `.to(...)` renews it. Writing through `weight.data` does not move
    the version counter: call `forget()` afterwards. Copies and pickles start empty.
    """

    def __init__(self) -> None:
        # (key, raw weight, projected weight, version of the projected weight): replaced as a whole, so that
        # a thread never reads the halves of two versions.
        self._kept: tuple[tuple[Any, ...], Tensor, Tensor, int] | None = None

    def forget(self) -> None:
        """Drop what is kept."""
        self._kept = None

    def __call__(
        self,
        weight: Tensor,
        project: Callable[[Tensor], Tensor],
        adjoint: Callable[[Tensor], Tensor] | None = None,
    ) -> Tensor:
        """P(weight), differentiable in `weight`; `project` must be linear, by default self-adjoint.

        Raises:
            RuntimeError: the tensor given out before was written in place. The writing would be lost with
                the next version of the parameter: it was meant for the raw one. The next call is right.
            TypeError: a distributed tensor, of which each process holds a shard only.
        """
        if isinstance(getattr(project, "cutoff", None), nn.Module):
            return project(weight)  # a learnable cut-off changes while the weight does not
        key = version_key(weight)
        if key is None:
            if not torch.compiler.is_compiling() and hasattr(weight, "device_mesh"):
                raise TypeError(
                    "a softened parameter cannot be a distributed tensor (fully_shard, tensor parallelism): "
                    "use DistributedDataParallel, or bake(model) first"
                )
            return project(weight)
        kept = self._kept
        if kept is None or kept[0] != key:
            # A tensor made in inference mode could not be used in training later.
            with torch.inference_mode(False), torch.no_grad():
                value = project(weight.detach())
            # Holding the storage keeps its address from being given to another tensor.
            kept = (key, weight.detach(), value, value._version)
            self._kept = kept
        value = kept[2]
        if value._version != kept[3]:
            self.forget()
            raise RuntimeError(
                "a projected weight was written in place: write to the raw parameter instead "
                "(raw_parameter(module, name), or the entry of named_parameters())"
            )
        if torch.is_grad_enabled() and weight.requires_grad:
            return _Projected.apply(weight, value, adjoint or project)  # type: ignore[no-any-return, no-untyped-call]
        return value

    def __deepcopy__(self, memo: dict[int, Any]) -> ProjectedWeight:
        return ProjectedWeight()

    def __getstate__(self) -> dict[str, Any]:
        return {"_kept": None}
