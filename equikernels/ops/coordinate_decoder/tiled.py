"""The coordinate MLP tile by tile: exact, with nothing of size batch x pixels x hidden in memory.

Every tile runs forward and, where gradients are wanted, straight on backward while its activations are in
the caches. Of the first layer's gradient only S_n = sum over pixels of p(u) G^T is kept, G being the gradient
before its activation: it is the gradient of the table T_n, from which those of angle, shift, latents and
weights follow without the pixels.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from equikernels.ops.coordinate_decoder import schedule
from equikernels.ops.coordinate_decoder.layers import Layers
from equikernels.ops.coordinate_decoder.likelihood import log_likelihood, log_likelihood_gradient
from equikernels.ops.coordinate_decoder.network import Form, Gradients, Network
from equikernels.ops.coordinate_decoder.products import Products, full_products, make_products
from equikernels.ops.coordinate_decoder.schedule import Plan, Tile, make_plan, run_groups, run_in_order


def values(net: Network, form: Form) -> Tensor:
    """The outputs (N, P, C)."""
    out = net.table.new_empty(net.table.shape[0], net.features.shape[0], net.output.shape[0])

    def store(tile: Tile, outputs: Tensor) -> None:
        out[tile.images, tile.pixels] = outputs

    _sweep(net, form, store)
    return out


def values_gradients(grad: Tensor, net: Network, form: Form, weights: bool, tables: bool) -> Gradients:
    """What <grad, values> has for gradients."""
    return _sweep(net, form, lambda tile, _: grad[tile.images, tile.pixels], weights, tables)


def likelihoods(net: Network, x: Tensor, form: Form, likelihood: str, softplus: bool) -> Tensor:
    """The log-likelihood (N,) of x (N, P, channels)."""
    by_part: dict[int, Tensor] = {}

    def store(tile: Tile, outputs: Tensor) -> None:
        found = log_likelihood(outputs, x[tile.images, tile.pixels], likelihood, softplus)
        by_part[tile.part][tile.images] = found

    return _summed(net, by_part, store, form)[0]


def likelihoods_gradients(
    cotangent: Tensor | None,
    net: Network,
    x: Tensor,
    form: Form,
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

    found, gradients = _summed(net, by_part, store, form, weights, tables)
    return found, gradients, x_grad


def _summed(
    net: Network,
    by_part: dict[int, Tensor],
    store: Callable[[Tile, Tensor], Tensor | None],
    form: Form,
    weights: bool = False,
    tables: bool = False,
) -> tuple[Tensor, Gradients]:
    """A sweep whose consumer leaves one number for each image in `by_part`; their sum over the parts."""
    plan, _ = prepared = _prepare(net, form)
    partial = net.table.new_zeros(len(plan.parts), net.table.shape[0])
    by_part.update(enumerate(partial))
    gradients = _sweep(net, form, store, weights, tables, prepared)
    return partial.sum(0), gradients


def _prepare(net: Network, form: Form) -> tuple[Plan, Products]:
    batch, _, units = net.table.shape
    products = make_products(net.hidden, form.precision)
    how = schedule.schedule_of(net.table.device)
    whole_rows = net.columns.numel() > 0 and net.inside.numel() == 0 and not how.batched
    granule = net.columns.numel() if whole_rows else 1
    row = units
    if how.batched:
        row = units * (net.hidden.shape[0] + 2) + net.output.shape[0]
    row_bytes = row * net.table.element_size() + (products.row_bytes if how.batched else 0)
    return make_plan(batch, net.features.shape[0], row_bytes, granule, how), products


def _sweep(
    net: Network,
    form: Form,
    consume: Callable[[Tile, Tensor], Tensor | None],
    weights: bool = False,
    tables: bool = False,
    prepared: tuple[Plan, Products] | None = None,
) -> Gradients:
    """Run every tile forward, hand its outputs to `consume`, and what that returns backward.

    `consume` gets outputs (images, pixels, C) and returns their gradient where gradients are wanted.
    """
    batch, terms, units = net.table.shape
    channels, count = net.output.shape[0], net.hidden.shape[0]
    plan, products = _prepare(net, form) if prepared is None else prepared
    batched = schedule.schedule_of(net.table.device).batched
    layers = Layers(net, form, products, plan, batched)
    wanted = (net.hidden, net.hidden_bias, net.output, net.output_bias)
    sizes = [x.numel() if weights else 0 for x in wanted]
    total = net.table.new_zeros(sum(sizes))
    table_parts = net.table.new_zeros(len(plan.parts) if tables else 0, batch, terms, units)

    def views(flat: Tensor) -> list[Tensor]:
        pieces = flat.split(sizes)
        return [x.view(like.shape) for x, like in zip(pieces, wanted, strict=True)] if weights else []

    def make_workspace() -> list[Tensor]:
        buffers = [net.table.new_empty(plan.rows, units) for _ in range(count + 2)]
        return [*buffers, net.table.new_empty(plan.rows, channels), *products.buffers(plan.rows)]

    def work(tiles: list[Tile], partial: Tensor, workspace: list[Tensor]) -> None:
        sums = views(partial)
        for tile in tiles:
            images = tile.images.stop - tile.images.start
            rows = images * (tile.pixels.stop - tile.pixels.start)
            cut = [buffer[:rows] for buffer in workspace]
            activations, spare, outputs = cut[: count + 1], cut[count + 1], cut[count + 2]
            factors = cut[count + 3 :]
            layers.first(tile, activations[0], spare)
            layers.forward(activations, outputs, factors)
            grad = consume(tile, outputs.view(images, -1, channels))
            if grad is None or not (weights or tables):
                continue
            grad = grad.reshape(rows, channels)
            first = layers.backward(activations, grad, spare, factors, sums, tables)
            if tables:
                layers.table(tile, first, table_parts[tile.part, tile.images])

    with full_products(net.table.device):
        (run_in_order if batched else run_groups)(plan.groups, work, make_workspace, total)
    # Copies: the results of an operator must not share memory.
    by_weights = [view.clone() for view in views(total)] or [net.table.new_empty(0) for _ in wanted]
    return Gradients(table_parts.sum(0) if tables else net.table.new_empty(0), *by_weights)
