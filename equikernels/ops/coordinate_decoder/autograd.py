"""Derivatives, transforms and compilation of the tiled coordinate MLP.

Two functions, the outputs and their log-likelihood, and the gradient of each, which runs forward again tile
by tile: nothing is kept between them. Outside of transforms and compilation the log-likelihood finds its
gradients in the one pass that computes it; they are kept instead, and are no larger than weights, tables and
images.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import partial
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch._C._functorch import TransformType, get_interpreter_stack

from equikernels.ops.coordinate_decoder import tiled
from equikernels.ops.coordinate_decoder.network import Form, Network
from equikernels.ops.coordinate_decoder.products import full_products
from equikernels.ops.coordinate_decoder.table import first_layer_table
from equikernels.ops.coordinate_decoder.weights import CoordinateMLPWeights
from equikernels.ops.differentiable import Gradients, differentiable
from equikernels.ops.threads import one_thread_each
from equikernels.ops.tracing import has_hidden_batch, is_traced, is_transformed

_INPUTS = len(Network._fields)
_FORM = len(Form._fields)
_FIRST_WEIGHT = Network._fields.index("hidden")


def _is_plain(*tensors: Tensor) -> bool:
    return not (is_traced(*tensors) or is_transformed() or has_hidden_batch(*tensors))


def refuse_vmap(*tensors: Tensor) -> None:
    """Raise NotImplementedError under torch.vmap, and for batches of cotangents."""
    if is_traced(*tensors):
        return
    stack = get_interpreter_stack() or []
    if any(level.key() == TransformType.Vmap for level in stack) or has_hidden_batch(*tensors):
        raise NotImplementedError(
            "coordinate_mlp: torch.vmap and batched gradients are not supported by this backend, "
            'use backend="reference"'
        )


def _no_second_derivative(*arguments: Any) -> NoReturn:
    raise NotImplementedError(
        'coordinate_mlp: this backend has no second derivatives, use backend="reference"'
    )


def _no_forward_mode(*arguments: Any) -> NoReturn:
    raise NotImplementedError(
        'coordinate_mlp: this backend has no forward-mode differentiation, use backend="reference"'
    )


def _save_all(needs: Any, *tensors: Tensor) -> Gradients:
    return tensors


def _save_none(needs: Any, *tensors: Tensor) -> Gradients:
    return ()


def _wanted(needs: Any) -> tuple[bool, bool]:
    """Whether gradients of weights, and of tables, are needed."""
    return any(needs[_FIRST_WEIGHT:_INPUTS]), bool(needs[0])


def _by_input(needs: Any, table: Tensor, *by_weight: Tensor) -> Gradients:
    """The gradients in the order of the inputs, None where none is needed; by_weight ends with that of x."""
    grads = (table, *(None,) * (_FIRST_WEIGHT - 1), *by_weight)
    return tuple(grad if need else None for grad, need in zip(grads, needs, strict=False))


# --- the table ------------------------------------------------------------------------------------


def _alone(device: torch.device) -> AbstractContextManager[object]:
    """Nothing that runs beside it, nor a setting of PyTorch's, changes the bits of a product."""
    return full_products(device) if device.type == "cuda" else one_thread_each()


class _Table(torch.autograd.Function):
    """`first_layer_table` with bits that depend on no number of threads and on no setting."""

    @staticmethod
    def forward(ctx: Any, theta: Tensor, *others: Tensor | None) -> Tensor:
        ctx.save_for_backward(theta, *others)
        with _alone(theta.device):
            return _table(theta, *others)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Gradients:
        refuse_vmap(grad)
        needs = ctx.needs_input_grad
        with_graph = torch.is_grad_enabled()
        tensors = ctx.saved_tensors
        if not with_graph:
            tensors = [x if x is None else x.detach().requires_grad_() for x in tensors]
        wanted = [x for x, need in zip(tensors, needs, strict=True) if need]
        with _alone(grad.device), torch.enable_grad():
            found = iter(torch.autograd.grad(_table(*tensors), wanted, grad, create_graph=with_graph))
        return tuple(next(found) if need else None for need in needs)


def _table(*tensors: Any) -> Tensor:
    return first_layer_table(*tensors)


def table_apply(theta: Tensor, shift: Tensor, z: Tensor, weights: CoordinateMLPWeights) -> Tensor:
    """The tables of the first layer (N, M, H)."""
    tensors = (theta, shift, z, weights.coordinate, weights.latent, weights.bias, weights.bilinear)
    if not _is_plain(*(x for x in tensors if x is not None)):
        return _table(*tensors)
    table: Tensor = _Table.apply(*tensors)  # type: ignore[no-untyped-call]
    return table


# --- the outputs ----------------------------------------------------------------------------------


def _values(*arguments: Any) -> Tensor:
    return tiled.values(Network(*arguments[:_INPUTS]), Form(*arguments[_INPUTS:]))


def _values_fake(*arguments: Any) -> Tensor:
    net = Network(*arguments[:_INPUTS])
    return net.table.new_empty(net.table.shape[0], net.features.shape[0], net.output.shape[0])


def _values_vjp(
    saved: Any, slope: float | None, precision: str, residual: bool, needs: Any, grad: Tensor | None
) -> Gradients:
    if grad is None:
        return (None,) * _INPUTS
    refuse_vmap(grad)
    weights, tables = _wanted(needs)
    return _by_input(needs, *_values_gradients_op(grad, *saved, slope, precision, residual, weights, tables))


def _values_gradients(*arguments: Any) -> tuple[Tensor, ...]:
    grad, *tensors = arguments[: _INPUTS + 1]
    *form, weights, tables = arguments[_INPUTS + 1 :]
    return tuple(tiled.values_gradients(grad, Network(*tensors), Form(*form), weights, tables))


def _gradients_fake(net: Network, weights: bool, tables: bool) -> tuple[Tensor, ...]:
    empty = net.table.new_empty
    by_weight = [empty(x.shape if weights else 0) for x in net[_FIRST_WEIGHT:]]
    return (empty(net.table.shape if tables else 0), *by_weight)


def _values_gradients_fake(*arguments: Any) -> tuple[Tensor, ...]:
    _, *tensors = arguments[: _INPUTS + 1]
    *_, weights, tables = arguments
    return _gradients_fake(Network(*tensors), weights, tables)


# --- the log-likelihood ---------------------------------------------------------------------------


def _likelihoods(*arguments: Any) -> Tensor:
    x, *options = arguments[_INPUTS:]
    form, rest = Form(*options[:_FORM]), options[_FORM:]
    return tiled.likelihoods(Network(*arguments[:_INPUTS]), x, form, *rest)


def _likelihoods_fake(*arguments: Any) -> Tensor:
    table: Tensor = arguments[0]
    return table.new_empty(table.shape[0])


def _likelihoods_vjp(saved: Any, *given: Any) -> Gradients:
    *options, needs, grad = given
    if grad is None:
        return (None,) * (_INPUTS + 1)
    refuse_vmap(grad)
    weights, tables = _wanted(needs)
    grads = _likelihoods_gradients_op(grad, *saved, *options, weights, tables)
    return _by_input(needs, *grads)


def _likelihoods_gradients(*arguments: Any) -> tuple[Tensor, ...]:
    grad, *tensors = arguments[: _INPUTS + 1]
    x, *options = arguments[_INPUTS + 1 :]
    form, rest = Form(*options[:_FORM]), options[_FORM:]
    _, grads, x_grad = tiled.likelihoods_gradients(grad, Network(*tensors), x, form, *rest)
    return (*grads, x_grad)


def _likelihoods_gradients_fake(*arguments: Any) -> tuple[Tensor, ...]:
    _, *tensors = arguments[: _INPUTS + 1]
    x, *_, weights, tables = arguments[_INPUTS + 1 :]
    return (*_gradients_fake(Network(*tensors), weights, tables), x.new_empty(x.shape))


_decoder = partial(differentiable, operation="coordinate_mlp", jvp=_no_forward_mode)
_second = partial(_decoder, save=_save_none, vjp=_no_second_derivative)
_TENSORS = ", ".join(f"Tensor {name}" for name in Network._fields)
_LAYERS = "float? slope, str precision, bool residual"
_OPTIONS = f"{_LAYERS}, str likelihood, bool softplus"

values_apply = _decoder(
    "coordinate_mlp_values",
    f"({_TENSORS}, {_LAYERS}) -> Tensor",
    tensors=_INPUTS,
    launch=_values,
    fake=_values_fake,
    save=_save_all,
    vjp=_values_vjp,
)
_values_gradients_op = _second(
    "coordinate_mlp_values_gradients",
    f"(Tensor grad, {_TENSORS}, {_LAYERS}, bool weights, bool tables) "
    "-> (Tensor, Tensor, Tensor, Tensor, Tensor)",
    tensors=_INPUTS + 1,
    launch=_values_gradients,
    fake=_values_gradients_fake,
)
_likelihoods_op = _decoder(
    "coordinate_mlp_likelihoods",
    f"({_TENSORS}, Tensor x, {_OPTIONS}) -> Tensor",
    tensors=_INPUTS + 1,
    launch=_likelihoods,
    fake=_likelihoods_fake,
    save=_save_all,
    vjp=_likelihoods_vjp,
)
_likelihoods_gradients_op = _second(
    "coordinate_mlp_likelihoods_gradients",
    f"(Tensor grad, {_TENSORS}, Tensor x, {_OPTIONS}, bool weights, bool tables) "
    "-> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
    tensors=_INPUTS + 2,
    launch=_likelihoods_gradients,
    fake=_likelihoods_gradients_fake,
)


class _OnePass(torch.autograd.Function):
    """The log-likelihood with the gradients of its sum, found in the same pass.

    Those of table and x belong to one image each, so any cotangent scales them. Those of the weights are sums
    over the images: a cotangent that is the same for all, as that of a mean is, scales them too; any other
    asks for another pass.
    """

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tensor:
        tensors, ctx.options = arguments[: _INPUTS + 1], arguments[_INPUTS + 1 :]
        net, x = Network(*tensors[:_INPUTS]), tensors[_INPUTS]
        form, (likelihood, softplus) = Form(*ctx.options[:_FORM]), ctx.options[_FORM:]
        weights, tables = _wanted(ctx.needs_input_grad)
        found, grads, x_grad = tiled.likelihoods_gradients(
            None, net, x, form, likelihood, softplus, weights, tables
        )
        ctx.save_for_backward(*tensors, *grads, x_grad)
        return found

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Gradients:
        refuse_vmap(grad)
        needs, saved = ctx.needs_input_grad, ctx.saved_tensors
        tensors, (table, *by_weight, x_grad) = saved[: _INPUTS + 1], saved[_INPUTS + 1 :]
        weights, tables = _wanted(needs)
        each = grad[:, None, None]
        if torch.is_grad_enabled():
            # With create_graph the gradients need a graph of their own, if only one that refuses.
            grads = _likelihoods_gradients_op(grad, *tensors, *ctx.options, weights, tables)
        elif weights and not _is_constant(grad):
            again = _likelihoods_gradients_op(grad, *tensors, *ctx.options, True, False)
            grads = (each * table if tables else table, *again[1:-1], each * x_grad)
        else:
            scaled = (grad[0] * g for g in by_weight) if weights else by_weight
            grads = (each * table if tables else table, *scaled, each * x_grad)
        return (*_by_input(needs, *grads), *(None,) * len(ctx.options))


def _is_constant(grad: Tensor) -> bool:
    # That of a sum is one number seen N times: no look at the values, which a GPU's caller would wait for.
    return grad.numel() > 0 and (grad.stride(0) == 0 or bool((grad == grad[0]).all()))


def likelihoods_apply(*arguments: Any, recompute: bool) -> Tensor:
    """The log-likelihood (N,): tensors of a `Network`, x, fields of a `Form`, likelihood, softplus."""
    tensors = arguments[: _INPUTS + 1]
    if (
        not recompute
        and torch.is_grad_enabled()
        and any(x.requires_grad for x in tensors)
        and _is_plain(*tensors)
    ):
        found: Tensor = _OnePass.apply(*arguments)  # type: ignore[no-untyped-call]
        return found
    found = _likelihoods_op(*arguments)
    return found
