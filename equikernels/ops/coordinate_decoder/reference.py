"""The specification of the coordinate MLP in plain torch: short, differentiable any number of times."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from equikernels.ops.coordinate_decoder.network import Form
from equikernels.ops.coordinate_decoder.pixels import expand_coordinates
from equikernels.ops.coordinate_decoder.products import rounded_product
from equikernels.ops.coordinate_decoder.weights import CoordinateMLPWeights


def coordinate_mlp_reference(
    coordinates: Tensor,
    theta: Tensor,
    shift: Tensor,
    z: Tensor,
    weights: CoordinateMLPWeights,
    form: Form,
) -> Tensor:
    """The outputs (N, P, C) at coordinates (P, 2)."""

    def activation(a: Tensor) -> Tensor:
        return torch.tanh(a) if form.slope is None else F.leaky_relu(a, form.slope)

    cosine, sine = theta.cos(), theta.sin()
    rotation = torch.stack([torch.stack([cosine, sine], -1), torch.stack([-sine, cosine], -1)], -2)
    u = expand_coordinates(coordinates @ rotation + shift[:, None], weights.coordinate.shape[1])
    h = u @ weights.coordinate.t() + (z @ weights.latent.t())[:, None] + weights.bias
    if weights.bilinear is not None:
        h = h + torch.einsum("npd,hdk,nk->nph", u, weights.bilinear, z)
    h = activation(h)
    for weight, bias in zip(weights.hidden, weights.hidden_bias, strict=True):
        a = _linear(h, weight, bias, form.precision)
        h = activation(a + h if form.residual else a)
    return F.linear(h, weights.output, weights.output_bias)


def _linear(h: Tensor, weight: Tensor, bias: Tensor, precision: str) -> Tensor:
    if precision == "float32":
        return F.linear(h, weight, bias)
    return rounded_product(h.flatten(0, 1), weight.t(), precision).view(h.shape) + bias
