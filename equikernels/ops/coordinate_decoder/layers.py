"""The layers of the coordinate MLP on one tile, forward and backward.

On a CPU tanh(a) = 2 sigmoid(2a) - 1 is what PyTorch computes fastest: 5 times faster than tanh, to 1.5 units
of the last place of 1. On a grid a = P[column] + Q[row] needs exponentials of rows and columns only,

    tanh(P + Q) = 1 - 2 / (1 + exp(2P) exp(2Q)),

unless a unit's |2P| or |2Q| exceeds 40 somewhere: its factors could overflow where their product does not, so
it takes tanh(P + Q).

On a GPU, where the activations go through memory, tanh itself goes over them once, and the first layer of all
images of a tile is one product. No value is read back on the way, so the caller never waits for the GPU.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from equikernels.ops.coordinate_decoder.network import Form, Network
from equikernels.ops.coordinate_decoder.products import Products
from equikernels.ops.coordinate_decoder.schedule import Plan, Tile

# exp(40)^2 and its inverse are normal numbers in float32.
SATURATION = 40.0

_tanh_backward = torch.ops.aten.tanh_backward.grad_input
_leaky_relu_backward = torch.ops.aten.leaky_relu_backward.grad_input


class Layers:
    """The layers of one network, applied to tiles; in `batched` form the images of a tile go together."""

    def __init__(self, net: Network, form: Form, products: Products, plan: Plan, batched: bool) -> None:
        self.net, self.form, self.products, self.batched = net, form, products, batched
        separable = net.columns.numel() > 0 and not batched
        self._grids = [_grid(net, part) for part in plan.parts] if separable else []
        # What the activation takes for its argument.
        self._scale = 2 if form.slope is None and not batched else 1

    def first(self, tile: Tile, h: Tensor, spare: Tensor) -> None:
        """The activations of the first layer (rows, H), written to `h`."""
        images = tile.images.stop - tile.images.start
        features = self.net.features[tile.pixels]
        if self.batched:
            torch.bmm(_for_each(features, images), self.net.table[tile.images], out=_by_image(h, images))
            self._activate(h)
            return
        for table, part in zip(self.net.table[tile.images], h.chunk(images), strict=True):
            if self._grids:
                _separable_tanh(table, self._grids[tile.part], part, spare[: part.shape[0]])
            else:
                torch.mm(features, self._scale * table, out=part)
                self._activate(part)

    def forward(self, activations: list[Tensor], outputs: Tensor, buffers: list[Tensor]) -> None:
        """The activations of the layers after the first, and the outputs (rows, C)."""
        net, scale = self.net, self._scale
        for layer, bias in enumerate(net.hidden_bias):
            h, a = activations[layer], activations[layer + 1]
            factor = self.products.factor(h, buffers, 0)
            self.products.affine(bias, factor, self.products.weights[layer].t(), scale, a)
            if self.form.residual:
                a.add_(h, alpha=scale)
            self._activate(a)
        torch.addmm(net.output_bias, activations[-1], net.output.t(), out=outputs)

    def backward(
        self,
        activations: list[Tensor],
        grad: Tensor,
        spare: Tensor,
        buffers: list[Tensor],
        sums: list[Tensor],
        tables: bool,
    ) -> Tensor:
        """The gradient before the first layer's activation, over whose buffer it is written.

        `grad` (rows, C) is that of the outputs. Those of the weights are added to `sums`, if it holds any.
        """
        by_activation = spare
        g = activations[-1]
        if sums:
            sums[2].addmm_(grad.t(), g)
            sums[3].add_(grad.sum(0))
        torch.mm(grad, self.net.output, out=by_activation)
        self._activate_backward(by_activation, g)
        for layer in range(self.net.hidden.shape[0] - 1, -1, -1):
            h = activations[layer]
            needed = layer > 0 or tables
            factor = self.products.factor(g, buffers, 0) if sums or needed else g
            if sums:
                self.products.accumulate(sums[0][layer], factor.t(), self.products.factor(h, buffers, 1))
                sums[1][layer].add_(g.sum(0))
            if not needed:
                break
            self.products.multiply(factor, self.products.weights[layer], by_activation)
            if self.form.residual:
                by_activation.add_(g)
            self._activate_backward(by_activation, h)
            g = h
        return g

    def table(self, tile: Tile, grad: Tensor, out: Tensor) -> None:
        """The gradients (images, M, H) of the tables, from that before the first layer's activation."""
        images = tile.images.stop - tile.images.start
        features = self.net.features[tile.pixels].t()
        if self.batched:
            torch.bmm(_for_each(features, images), _by_image(grad, images), out=out)
            return
        for part, into in zip(grad.chunk(images), out, strict=True):
            torch.mm(features, part, out=into)

    def _activate(self, a: Tensor) -> None:
        """In place, of what `scale` times the argument is in."""
        if self.form.slope is not None:
            F.leaky_relu_(a, self.form.slope)
        elif self.batched:
            a.tanh_()
        else:
            _tanh_of_half(a)

    def _activate_backward(self, grad: Tensor, h: Tensor) -> None:
        """The gradient before an activation with values h, written over h."""
        if self.form.slope is None:
            _tanh_backward(grad, h, grad_input=h)
        else:
            _leaky_relu_backward(grad, h, self.form.slope, True, grad_input=h)


def _for_each(x: Tensor, images: int) -> Tensor:
    return x.expand(images, -1, -1)


def _by_image(x: Tensor, images: int) -> Tensor:
    return x.view(images, -1, x.shape[1])


class _Grid(NamedTuple):
    """The separable form of one part of an image."""

    selectors: Tensor
    """(columns + rows, 2): times the table's rows of x and y this is 2P without the constant, then 2Q."""
    columns: int
    gather: tuple[Tensor, Tensor] | None
    """Column and row of every pixel, where not all pixels of the rows are there."""


def _grid(net: Network, part: slice) -> _Grid:
    width = net.columns.numel()
    rows, gather = net.rows, None
    if net.inside.numel():
        gather = (net.inside[part] % width, net.inside[part] // width)
    else:
        rows = rows[part.start // width : part.stop // width]
    selectors = torch.block_diag(2 * net.columns[:, None], 2 * rows[:, None])
    return _Grid(selectors, width, gather)


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
