"""A function of tensors with its derivatives, made to work wherever PyTorch may call it.

Every kernel function exists twice, for the reasons told in :mod:`equikernels.ops.tracing`: as an operator,
taken while something traces, and as an autograd.Function, taken otherwise; and neither where nothing can be
recorded. The derivative rules are written once and call such functions again, so that a family of functions
that is closed under differentiation has derivatives of every order, forward and reverse.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from importlib import import_module
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from equikernels.ops.tracing import (
    fold,
    has_hidden_batch,
    is_plain,
    is_traced,
    refuse_dual_numbers,
    refuse_forward_mode,
    unfold,
)

Gradients = tuple[Tensor | None, ...]

_MODULES = {"cpp": "native", "triton": "triton_kernels"}


@cache
def launcher(folder: str, backend: str) -> Any:
    """The module with a backend's kernels of one operation, loaded when it is first needed.

    >>> launcher("permutation", "cpp").__name__
    'equikernels.ops.permutation.native'
    """
    return import_module(f"equikernels.ops.{folder}.{_MODULES[backend]}")


def total(*terms: Tensor | None) -> Tensor | None:
    """The sum of the terms that are there."""
    present = [x for x in terms if x is not None]
    return sum(present[1:], present[0]) if present else None


def differentiable(
    name: str,
    schema: str,
    *,
    operation: str,
    tensors: int,
    launch: Callable[..., Any],
    fake: Callable[..., Any],
    save: Callable[..., Gradients],
    vjp: Callable[..., Gradients],
    jvp: Callable[..., Any],
    batch_dims: Sequence[int] | None = None,
) -> Callable[..., Any]:
    """The function ``launch(*tensors, *options)`` with derivatives, transforms and compilation.

    Args:
        name: name of the operator ``equikernels::name``, unique.
        schema: the operator's schema: `tensors` tensors, then options that are no tensors.
        operation: what the user called, for messages.
        tensors: how many arguments are tensors.
        launch: the kernel, on plain tensors; returns a new tensor, or a tuple of new tensors.
        fake: the same arguments, for tensors without values: shapes and dtypes of the results.
        save: ``save(needs, *tensors)``, what `vjp` wants of the tensors, given which need a gradient.
        vjp: ``vjp(saved, *options, needs, *cotangents)``, a gradient or None for every tensor; a cotangent
            that is zero may be None.
        jvp: ``jvp(tensors, *options, *tangents)``, the result's tangent or tangents; a tangent that is zero
            may be None. A function with integer tensors gets None for them.
        batch_dims: the dimension of every tensor that torch.vmap's dimension is joined with, the first by
            default. Results are batched in their first dimension.
    """
    dims = tuple(batch_dims) if batch_dims is not None else (0,) * tensors

    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.options = inputs[tensors:]
        ctx.save_for_backward(*save(ctx.needs_input_grad, *inputs[:tensors]))

    def setup_function(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        setup_context(ctx, inputs, output)
        ctx.set_materialize_grads(False)
        outputs = (output,) if isinstance(output, Tensor) else output
        fixed = [x for x in outputs if not (x.is_floating_point() or x.is_complex())]
        if fixed:
            ctx.mark_non_differentiable(*fixed)
        if forward_ad._current_level >= 0:
            ctx.save_for_forward(*inputs[:tensors])

    def backward(ctx: Any, *cotangents: Tensor | None) -> Gradients:
        grads = vjp(ctx.saved_tensors, *ctx.options, ctx.needs_input_grad, *cotangents)
        return (*grads, *(None,) * len(ctx.options))

    def forward_mode(ctx: Any, *tangents: Tensor | None) -> Any:
        saved = ctx.saved_tensors
        if not torch._C._are_functorch_transforms_active():
            return jvp(saved, *ctx.options, *tangents[:tensors])
        # Forward mode is switched off while a jvp rule runs, and with it that of the transforms outside this
        # one: the second derivative of jvp(jvp(f)) would be lost. Without tangents of this level it can be
        # on.
        primals = [forward_ad.unpack_dual(x).primal for x in saved]
        with forward_ad._set_fwd_grad_enabled(True):
            return jvp(primals, *ctx.options, *tangents[:tensors])

    def vmap(info: Any, in_dims: tuple[int | None, ...], *arguments: Any) -> Any:
        size = info.batch_size
        folded = [
            fold(x, dim, size, into) for x, dim, into in zip(arguments[:tensors], in_dims, dims, strict=False)
        ]
        out = call(*folded, *arguments[tensors:])
        if isinstance(out, Tensor):
            return unfold(out, size), 0
        return tuple(unfold(x, size) for x in out), (0,) * len(out)

    def launch_operator(*arguments: Any) -> Any:
        refuse_dual_numbers(operation, arguments[:tensors])
        return launch(*arguments)

    traced = torch.library.custom_op(f"equikernels::{name}", launch_operator, mutates_args=(), schema=schema)
    traced.register_fake(fake)
    traced.register_autograd(backward, setup_context=setup_context)
    traced.register_vmap(vmap)

    function = type(
        name,
        (torch.autograd.Function,),
        {
            "forward": staticmethod(launch),
            "setup_context": staticmethod(setup_function),
            "backward": staticmethod(backward),
            "jvp": staticmethod(forward_mode),
            "vmap": staticmethod(vmap),
        },
    )

    def launch_recorded(ctx: Any, *arguments: Any) -> Any:
        out = launch(*arguments)
        setup_function(ctx, arguments, out)
        return out

    # The same without support for transforms, whose machinery costs more than a small kernel.
    reverse_only = type(
        f"{name}_reverse",
        (torch.autograd.Function,),
        {"forward": staticmethod(launch_recorded), "backward": staticmethod(backward)},
    )

    def call(*arguments: Any) -> Any:
        given = arguments[:tensors]
        if is_plain(given):
            if torch.is_grad_enabled():
                for x in given:
                    if x.requires_grad:
                        return reverse_only.apply(*arguments)  # type: ignore[attr-defined]
            return launch(*arguments)
        if is_traced(*given):
            refuse_forward_mode(operation, given)
            return traced(*arguments)
        if has_hidden_batch(*given):
            return traced(*arguments)
        # What is left is a transform, or forward mode.
        return function.apply(*arguments)  # type: ignore[attr-defined]

    return call
