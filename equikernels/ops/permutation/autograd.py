"""Derivatives, transforms and compilation of the permutations, the same for every kernel backend.

A permutation is linear and its transpose is its inverse, so one function with a flag,

    permute(z, g, kind, inverse, swapped, backend)

is closed under differentiation of every order, forward and reverse. It exists as an operator and as an
autograd.Function, for the reasons told in :mod:`equikernels.ops.tracing`: the operator is taken while
tracing, the autograd.Function otherwise, and neither where nothing can be recorded.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd import forward_ad

from equikernels.ops import tracing
from equikernels.ops.permutation import native
from equikernels.ops.permutation.reference import output_shape


class Launcher(Protocol):
    """What a kernel backend offers, on plain tensors of its device."""

    def permute(self, z: Tensor, g: Tensor, kind: str, inverse: bool, swapped: bool, /) -> Tensor: ...


LAUNCHERS: dict[str, Launcher] = {"cpp": native}

Gradients = tuple[Tensor | None, None, None, None, None, None]


def _launch(z: Tensor, g: Tensor, kind: str, inverse: bool, swapped: bool, backend: str) -> Tensor:
    return LAUNCHERS[backend].permute(z, g, kind, inverse, swapped)


def _launch_operator(z: Tensor, g: Tensor, kind: str, inverse: bool, swapped: bool, backend: str) -> Tensor:
    tracing.refuse_dual_numbers("permute", (z,))
    return _launch(z, g, kind, inverse, swapped, backend)


def _fake(z: Tensor, g: Tensor, kind: str, inverse: bool, swapped: bool, backend: str) -> Tensor:
    return z.new_empty(output_shape(z, swapped))


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, g, ctx.kind, ctx.inverse, ctx.swapped, ctx.backend = inputs
    ctx.save_for_backward(g)


def _setup_function(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _setup_context(ctx, inputs, output)
    ctx.set_materialize_grads(False)
    if not (output.is_floating_point() or output.is_complex()):
        ctx.mark_non_differentiable(output)
    if forward_ad._current_level >= 0:
        ctx.save_for_forward(inputs[1])


def _backward(ctx: Any, grad: Tensor | None) -> Gradients:
    (g,) = ctx.saved_tensors
    z_grad = None
    if grad is not None and ctx.needs_input_grad[0]:
        z_grad = permute(grad, g, ctx.kind, not ctx.inverse, ctx.swapped, ctx.backend)
    return z_grad, None, None, None, None, None


def _forward_mode(ctx: Any, z_dot: Tensor | None, *_: None) -> Tensor | None:
    if z_dot is None:
        return None
    (g,) = ctx.saved_tensors
    return permute(z_dot, g, ctx.kind, ctx.inverse, ctx.swapped, ctx.backend)


def _vmap(
    info: Any, in_dims: tuple[int | None, ...], z: Tensor, g: Tensor, *options: Any
) -> tuple[Tensor, int]:
    size = info.batch_size
    out = permute(tracing.fold(z, in_dims[0], size), tracing.fold(g, in_dims[1], size), *options)
    return tracing.unfold(out, size), 0


_operator = torch.library.custom_op(
    "equikernels::permute",
    _launch_operator,
    mutates_args=(),
    schema="(Tensor z, Tensor g, str kind, bool inverse, bool swapped, str backend) -> Tensor",
)
_operator.register_fake(_fake)
_operator.register_autograd(_backward, setup_context=_setup_context)
_operator.register_vmap(_vmap)


class _Permute(torch.autograd.Function):
    """With support for the transforms of torch.func and for forward mode."""

    forward = staticmethod(_launch)
    setup_context = staticmethod(_setup_function)
    backward = staticmethod(_backward)
    jvp = staticmethod(_forward_mode)
    vmap = staticmethod(_vmap)


class _PermuteReverse(torch.autograd.Function):
    """Without: their machinery costs more than a small permutation."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tensor:
        out = _launch(*arguments)
        _setup_function(ctx, arguments, out)
        return out

    backward = staticmethod(_backward)


def permute(z: Tensor, g: Tensor, kind: str, inverse: bool, swapped: bool, backend: str) -> Tensor:
    """Move every sample by its element of the table `kind`, or by the element's inverse, with gradients."""
    arguments = (z, g, kind, inverse, swapped, backend)
    if tracing.is_traced(z, g):
        tracing.refuse_forward_mode("permute", (z,))
        out: Tensor = _operator(*arguments)
    elif tracing.has_hidden_batch(z, g):
        out = _operator(*arguments)
    elif tracing.is_transformed():
        out = _Permute.apply(*arguments)  # type: ignore[no-untyped-call]
    elif z.requires_grad and torch.is_grad_enabled():
        out = _PermuteReverse.apply(*arguments)  # type: ignore[no-untyped-call]
    else:
        out = _launch(*arguments)
    return out
