"""What is happening around a call: is it traced, batched, transformed or differentiated forwards?

An operation exists twice: as an operator (torch.compile and torch.export see one node; but torch.func.grad
rejects operators, and in forward mode they return silent zeros) and as an autograd.Function (every transform
of eager torch; but its backward does not compile). These functions tell which of them a call must take.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd import forward_ad

_PLAIN = frozenset({Tensor, torch.nn.Parameter})


def is_traced(*tensors: Tensor) -> bool:
    """Whether torch.compile, torch.export, make_fx or FakeTensorMode is watching."""
    # make_fx and FakeTensorMode show as a dispatch mode, or as tensors of a type of their own.
    return (
        torch.compiler.is_compiling()
        or torch._C._len_torch_dispatch_stack() > 0
        or not _PLAIN.issuperset(map(type, tensors))
    )


def is_plain(tensors: tuple[Tensor, ...]) -> bool:
    """Whether nothing of what this module tells apart is going on: one question for the usual call."""
    if (
        torch.compiler.is_compiling()
        or torch._C._len_torch_dispatch_stack() > 0
        or torch._C._are_functorch_transforms_active()
        or forward_ad._current_level >= 0
    ):
        return False
    # A plain loop: with iterators the whole takes half as long again, before every small kernel.
    for x in tensors:  # noqa: SIM110
        if type(x) not in _PLAIN or not torch._C._has_storage(x):
            return False
    return True


def may_keep() -> bool:
    """Whether a tensor that is made now may be kept for later calls.

    Tracers make tensors without values, and inside a transform of torch.func even a copy of a constant
    belongs to that transform.
    """
    return (
        not torch.compiler.is_compiling()
        and torch._C._len_torch_dispatch_stack() == 0
        and not torch._C._are_functorch_transforms_active()
    )


def is_transformed() -> bool:
    """Whether a transform of torch.func is active, or forward mode."""
    return torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0


def has_hidden_batch(*tensors: Tensor) -> bool:
    """Whether torch.autograd.grad(is_grads_batched=True) hides a batch dimension in a tensor.

    Its vmap is older than torch.func's and shows as tensors without memory. Only the dispatcher, which sees
    an operator, knows how to take them apart.
    """
    return not torch._C._are_functorch_transforms_active() and not all(map(torch._C._has_storage, tensors))


def refuse_forward_mode(operation: str, tensors: tuple[Tensor, ...]) -> None:
    """Raise NotImplementedError where a tensor carries a tangent, which an operator would lose."""
    if any(forward_ad.unpack_dual(x).tangent is not None for x in tensors):
        raise NotImplementedError(
            f"{operation}: forward-mode differentiation is not supported inside torch.compile, "
            "take it outside"
        )


def refuse_dual_numbers(operation: str, tensors: tuple[Tensor, ...]) -> None:
    """The same below autograd, in the body of an operator.

    Dual numbers handed to an already compiled function are seen only there.
    """
    if forward_ad._current_level >= 0:
        # Unpacking them needs this dispatch key back.
        with torch._C._SetExcludeDispatchKeyGuard(torch._C.DispatchKey.ADInplaceOrView, False):
            refuse_forward_mode(operation, tensors)


def fold(x: Tensor, dim: int | None, size: int, into: int = 0) -> Tensor:
    """The dimension of torch.vmap joined with dimension `into`; `dim` None: the same for all `size`."""
    x = x.expand(size, *x.shape) if dim is None else x.movedim(dim, 0)
    x = x.movedim(0, into)
    return x.reshape(*x.shape[:into], size * x.shape[into + 1], *x.shape[into + 2 :])


def unfold(x: Tensor, size: int) -> Tensor:
    """The dimension of torch.vmap taken out of the batch again, in front."""
    return x.reshape(size, x.shape[0] // max(size, 1), *x.shape[1:])
