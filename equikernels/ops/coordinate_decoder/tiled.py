"""The coordinate MLP tile by tile: exact, with nothing of size batch x pixels x hidden in memory.

Every tile runs forward and, where gradients are wanted, straight on backward while its activations are in
the caches. Of the first layer's gradient only S_n = sum over pixels of p(u) G^T is kept, G being the gradient
before its activation: it is the gradient of the table T_n, from which those of angle, shift, latents and
weights follow without the pixels.

tanh(a) = 2 sigmoid(2a) - 1 is what PyTorch computes fastest: 5 times faster than tanh, to 1.5 units of the
last place of 1. On a grid a = P[column] + Q[row] needs exponentials of rows and columns only,

    tanh(P + Q) = 1 - 2 / (1 + exp(2P) exp(2Q)),

unless a unit's |2P| or |2Q| exceeds 40 somewhere: its factors could overflow where their product does not, so
it takes tanh(P + Q).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from equikernels.ops.coordinate_decoder.likelihood import log_likelihood, log_likelihood_gradient
from equikernels.ops.coordinate_decoder.schedule import Plan, Tile, make_plan, run_groups

# exp(40)^2 and its inverse are normal numbers in float32.
SATURATION = 40.0

_tanh_backward = torch.ops.aten.tanh_backward.grad_input
_leaky_relu_backward = torch.ops.aten.leaky_relu_backward.grad_input


class Network(NamedTuple):
    """A coordinate MLP whose first layer is folded into a table for each of N images."""

    table: Tensor
    """(N, M, H), M monomials."""
    features: Tensor
    """(P, M), the monomials of the evaluated pixels."""
    columns: Tensor
    """x of a grid's columns where the separable form is to be used, else empty."""
    rows: Tensor
    """y of its rows."""
    inside: Tensor
    """(P,), the evaluated pixels of the grid; empty for all."""
    hidden: Tensor
    """(L, H, H); a residual connection is an identity added to the weight."""
    hidden_bias: Tensor
    """(L, H)."""
    output: Tensor
    """(C, H)."""
    output_bias: Tensor
    """(C,)."""


class Gradients(NamedTuple):
    """Of the tables and the weights of a network; empty tensors where not wanted."""

    table: Tensor
    hidden: Tensor
    hidden_bias: Tensor
    output: Tensor
    output_bias: Tensor


def values(net: Network, slope: float | None) -> Tensor:
    """The outputs (N, P, C); tanh for `slope` None, else leaky ReLU."""
    out = net.table.new_empty(net.table.shape[0], net.features.shape[0], net.output.shape[0])

    def store(tile: Tile, outputs: Tensor) -> None:
        out[tile.images, tile.pixels] = outputs

    _sweep(net, slope, store)
    return out


def values_gradients(
    grad: Tensor, net: Network, slope: float | None, weights: bool, tables: bool
) -> Gradients:
    """What <grad, values> has for gradients."""
    return _sweep(net, slope, lambda tile, _: grad[tile.images, tile.pixels], weights, tables)


def likelihoods(net: Network, x: Tensor, slope: float | None, likelihood: str, softplus: bool) -> Tensor:
    """The log-likelihood (N,) of x (N, P, channels)."""
    by_part: dict[int, Tensor] = {}

    def store(tile: Tile, outputs: Tensor) -> None:
        found = log_likelihood(outputs, x[tile.images, tile.pixels], likelihood, softplus)
        by_part[tile.part][tile.images] = found

    return _summed(net, by_part, store, slope)[0]


def likelihoods_gradients(
    cotangent: Tensor | None,
    net: Network,
    x: Tensor,
    slope: float | None,
    likelihood: str,
    softplus: bool,
    weights: bool,
    tables: bool,
) -> tuple[Tensor, Gradients, Tensor]:
    """The log-likelihood, and the gradients of its product with a cotangent (N,), or of its sum; x's last."""
    by_part: dict[int, Tensor] = {}
    x_grad = torch.empty_like(x, memory_format=torch.contiguous_format)

    def store(tile: Tile, outputs: Tensor) -> Tensor:
        pixels = x[tile.images, tile.pixels]
        by_part[tile.part][tile.images] = log_likelihood(outputs, pixels, likelihood, softplus)
        by_outputs, by_x = log_likelihood_gradient(outputs, pixels, likelihood, softplus)
        if cotangent is not None:
            factor = cotangent[tile.images, None, None]
            by_outputs, by_x = factor * by_outputs, factor * by_x
        x_grad[tile.images, tile.pixels] = by_x
        return by_outputs

    found, gradients = _summed(net, by_part, store, slope, weights, tables)
    return found, gradients, x_grad


def _summed(
    net: Network,
    by_part: dict[int, Tensor],
    store: Callable[[Tile, Tensor], Tensor | None],
    slope: float | None,
    weights: bool = False,
    tables: bool = False,
) -> tuple[Tensor, Gradients]:
    """A sweep whose consumer leaves one number for each image in `by_part`; their sum over the parts."""
    batch = net.table.shape[0]
    parts = len(_plan(net).parts)
    partial = net.table.new_zeros(parts, batch)
    by_part.update(enumerate(partial))
    gradients = _sweep(net, slope, store, weights, tables)
    return partial.sum(0), gradients


class _Grid(NamedTuple):
    """The separable form of one part of an image."""

    selectors: Tensor
    """(columns + rows, 2): times the table's rows of x and y this is 2P without the constant, then 2Q."""
    columns: int
    gather: tuple[Tensor, Tensor] | None
    """Column and row of every pixel, where not all pixels of the rows are there."""


def _plan(net: Network) -> Plan:
    batch, _, units = net.table.shape
    whole_rows = net.columns.numel() > 0 and net.inside.numel() == 0
    granule = net.columns.numel() if whole_rows else 1
    return make_plan(batch, net.features.shape[0], units * net.table.element_size(), granule)


def _sweep(
    net: Network,
    slope: float | None,
    consume: Callable[[Tile, Tensor], Tensor | None],
    weights: bool = False,
    tables: bool = False,
) -> Gradients:
    """Run every tile forward, hand its outputs to `consume`, and what that returns backward.

    `consume` gets outputs (images, pixels, C) and returns their gradient where gradients are wanted.
    """
    batch, terms, units = net.table.shape
    channels, layers = net.output.shape[0], net.hidden.shape[0]
    plan = _plan(net)
    grids = [_grid(net, part) for part in plan.parts] if net.columns.numel() else []
    wanted = (net.hidden, net.hidden_bias, net.output, net.output_bias)
    sizes = [x.numel() if weights else 0 for x in wanted]
    total = net.table.new_zeros(sum(sizes))
    table_parts = net.table.new_zeros(len(plan.parts) if tables else 0, batch, terms, units)

    def views(flat: Tensor) -> list[Tensor]:
        pieces = flat.split(sizes)
        return [x.view(like.shape) for x, like in zip(pieces, wanted, strict=True)] if weights else []

    def make_workspace() -> list[Tensor]:
        buffers = [net.table.new_empty(plan.rows, units) for _ in range(layers + 2)]
        return [*buffers, net.table.new_empty(plan.rows, channels)]

    def work(tiles: list[Tile], partial: Tensor, workspace: list[Tensor]) -> None:
        sums = views(partial)
        for tile in tiles:
            images = tile.images.stop - tile.images.start
            rows = images * (tile.pixels.stop - tile.pixels.start)
            *activations, spare, outputs = (buffer[:rows] for buffer in workspace)
            for each, h in zip(
                range(tile.images.start, tile.images.stop), activations[0].chunk(images), strict=True
            ):
                _first_layer(net, slope, each, tile, grids, h, spare)
            _forward(net, slope, activations, outputs)
            grad = consume(tile, outputs.view(images, -1, channels))
            if grad is None or not (weights or tables):
                continue
            grad = grad.reshape(rows, channels)
            first = _backward(net, slope, activations, grad, spare, sums, tables)
            if tables:
                features = net.features[tile.pixels].t()
                for each, g in zip(
                    range(tile.images.start, tile.images.stop), first.chunk(images), strict=True
                ):
                    torch.mm(features, g, out=table_parts[tile.part, each])

    run_groups(plan.groups, work, make_workspace, total)
    # Copies: the results of an operator must not share memory.
    by_weights = [view.clone() for view in views(total)] or [net.table.new_empty(0) for _ in wanted]
    return Gradients(table_parts.sum(0) if tables else net.table.new_empty(0), *by_weights)


def _grid(net: Network, part: slice) -> _Grid:
    width = net.columns.numel()
    rows, gather = net.rows, None
    if net.inside.numel():
        gather = (net.inside[part] % width, net.inside[part] // width)
    else:
        rows = rows[part.start // width : part.stop // width]
    selectors = torch.block_diag(2 * net.columns[:, None], 2 * rows[:, None])
    return _Grid(selectors, width, gather)


def _first_layer(
    net: Network, slope: float | None, image: int, tile: Tile, grids: list[_Grid], h: Tensor, spare: Tensor
) -> None:
    table = net.table[image]
    if grids:
        _separable_tanh(table, grids[tile.part], h, spare[: h.shape[0]])
        return
    features = net.features[tile.pixels]
    if slope is None:
        torch.mm(features, 2 * table, out=h)
        _tanh_of_half(h)
    else:
        torch.mm(features, table, out=h)
        F.leaky_relu_(h, slope)


def _separable_tanh(table: Tensor, grid: _Grid, h: Tensor, spare: Tensor) -> None:
    """tanh(P + Q), with half of the constant in each, of one image's pixels."""
    exponents = torch.addmm(table[0], grid.selectors, table[1:])
    largest = exponents.abs().amax(0)
    saturated = ((largest <= SATURATION).logical_not_()).nonzero().flatten()
    plain = exponents[:, saturated]
    factors = exponents.exp_()
    one = h.new_ones(())
    if grid.gather is None:
        by_column, by_row = factors[: grid.columns], factors[grid.columns :, None]
        grid_of_units = h.view(-1, *by_column.shape)
        torch.addcmul(one, by_column, by_row, out=grid_of_units)
    else:
        torch.index_select(factors[: grid.columns], 0, grid.gather[0], out=spare)
        torch.index_select(factors[grid.columns :], 0, grid.gather[1], out=h)
        torch.addcmul(one, spare, h, out=h)
    torch.sub(one, h.reciprocal_(), alpha=2, out=h)
    if saturated.numel():
        by_column, by_row = plain[: grid.columns], plain[grid.columns :]
        if grid.gather is None:
            doubled = (by_column + by_row[:, None]).flatten(0, 1)
        else:
            doubled = by_column[grid.gather[0]] + by_row[grid.gather[1]]
        h[:, saturated] = torch.tanh(doubled / 2)


def _tanh_of_half(a: Tensor) -> None:
    """tanh(a/2) in place."""
    torch.add(a.new_full((), -1.0), a.sigmoid_(), alpha=2, out=a)


def _forward(net: Network, slope: float | None, activations: list[Tensor], outputs: Tensor) -> None:
    for layer, (weight, bias) in enumerate(zip(net.hidden, net.hidden_bias, strict=True)):
        h, a = activations[layer], activations[layer + 1]
        if slope is None:
            torch.addmm(bias, h, weight.t(), beta=2, alpha=2, out=a)
            _tanh_of_half(a)
        else:
            torch.addmm(bias, h, weight.t(), out=a)
            F.leaky_relu_(a, slope)
    torch.addmm(net.output_bias, activations[-1], net.output.t(), out=outputs)


def _backward(
    net: Network,
    slope: float | None,
    activations: list[Tensor],
    grad: Tensor,
    spare: Tensor,
    sums: list[Tensor],
    tables: bool,
) -> Tensor:
    """The gradient before the first layer's activation, over whose buffer it is written."""
    by_activation = spare
    g = activations[-1]
    if sums:
        sums[2].addmm_(grad.t(), g)
        sums[3].add_(grad.sum(0))
    torch.mm(grad, net.output, out=by_activation)
    _activation_backward(by_activation, g, slope)
    for layer in range(net.hidden.shape[0] - 1, -1, -1):
        h = activations[layer]
        if sums:
            sums[0][layer].addmm_(g.t(), h)
            sums[1][layer].add_(g.sum(0))
        if layer == 0 and not tables:
            break
        torch.mm(g, net.hidden[layer], out=by_activation)
        _activation_backward(by_activation, h, slope)
        g = h
    return g


def _activation_backward(grad: Tensor, h: Tensor, slope: float | None) -> None:
    """The gradient before an activation with values h, written over h."""
    if slope is None:
        _tanh_backward(grad, h, grad_input=h)
    else:
        _leaky_relu_backward(grad, h, slope, True, grad_input=h)
