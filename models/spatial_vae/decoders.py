"""From latents to the parameters of the pixels' distribution: the coordinate network, and a plain one."""

from __future__ import annotations

import itertools
import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from equikernels.ops import CoordinateMLPWeights, coordinate_mlp, coordinate_mlp_log_likelihood, image_grid
from equikernels.ops.coordinate_decoder.likelihood import log_likelihood, softplus_of
from equikernels.ops.coordinate_decoder.weights import COORDINATES, EXPANDED_COORDINATES

__all__ = ["ACTIVATIONS", "Activation", "CoordinateDecoder", "Observation", "PlainDecoder", "perceptron"]

Activation = Literal["tanh", "leaky_relu"]
ACTIVATIONS: dict[str, type[nn.Module]] = {"tanh": nn.Tanh, "leaky_relu": nn.LeakyReLU}


class Observation(NamedTuple):
    """Images that a decoder is to explain, and how their pixels are distributed."""

    x: Tensor
    """(N, H * W, C)."""
    likelihood: str
    inside: Tensor | None
    """The pixels that count, bool (H, W); None for all."""


class CoordinateDecoder(nn.Module):
    """A network that is asked for one pixel at a time, at coordinates that turn and move with the image.

    See `equikernels.ops.coordinate_mlp`, which it calls.

    Args:
        image_size: (H, W).
        latent_dim: numbers of the content.
        outputs: of every pixel.
        layers, hidden: layers of hidden units, and units in each.
        activation: "tanh" or "leaky_relu".
        bilinear: whether the first layer has products of coordinates and content.
        expand: whether it has x^2, y^2 and xy besides x and y.
        residual: whether a layer after the first adds its input before the activation.
        softplus: whether the means pass through log(1 + exp(a)).
        isotropic: whether pixels are squares; otherwise both sides of the image run from -1 to 1.
        backend: of the operation.
    """

    def __init__(
        self,
        image_size: tuple[int, int],
        latent_dim: int,
        outputs: int,
        *,
        layers: int,
        hidden: int,
        activation: Activation,
        bilinear: bool,
        expand: bool,
        residual: bool,
        softplus: bool,
        isotropic: bool,
        backend: str | None,
    ) -> None:
        super().__init__()
        self.image_size = image_size
        self.activation, self.residual, self.softplus = activation, residual, softplus
        self.isotropic, self.backend = isotropic, backend
        inputs = EXPANDED_COORDINATES if expand else COORDINATES
        self.coordinate = nn.Linear(inputs, hidden)
        self.latent = nn.Linear(latent_dim, hidden, bias=False)
        self.bilinear = nn.Bilinear(inputs, latent_dim, hidden, bias=False) if bilinear else None
        self.hidden = nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(layers - 1))
        self.output = nn.Linear(hidden, outputs)

    @property
    def weights(self) -> CoordinateMLPWeights:
        """The parameters as the operation takes them."""
        hidden = [layer for layer in self.hidden if isinstance(layer, nn.Linear)]
        return CoordinateMLPWeights(
            coordinate=self.coordinate.weight,
            latent=self.latent.weight,
            bias=self.coordinate.bias,
            hidden=tuple(layer.weight for layer in hidden),
            hidden_bias=tuple(layer.bias for layer in hidden),
            output=self.output.weight,
            output_bias=self.output.bias,
            bilinear=None if self.bilinear is None else self.bilinear.weight,
        )

    def forward(
        self, theta: Tensor | None, shift: Tensor | None, z: Tensor, learned_variance: bool = False
    ) -> Tensor:
        """What the pixels' distributions are made of, (N, H * W, outputs); `shift` in pixels."""
        return coordinate_mlp(
            self._grid(z),
            theta,
            self._in_coordinates(shift),
            z,
            self.weights,
            activation=self.activation,
            residual=self.residual,
            softplus=self.softplus,
            learned_variance=learned_variance,
            backend=self.backend,
        )

    def log_likelihood(
        self, theta: Tensor | None, shift: Tensor | None, z: Tensor, seen: Observation
    ) -> Tensor:
        """Of the images that were seen, in nats: (N,)."""
        return coordinate_mlp_log_likelihood(
            self._grid(z),
            theta,
            self._in_coordinates(shift),
            z,
            self.weights,
            seen.x,
            likelihood=seen.likelihood,
            activation=self.activation,
            residual=self.residual,
            softplus=self.softplus,
            mask=seen.inside,
            backend=self.backend,
        )

    def _grid(self, z: Tensor) -> tuple[Tensor, Tensor]:
        # Made anew, since a buffer in float32 would stay rounded in a model that is turned to float64.
        return image_grid(*self.image_size, isotropic=self.isotropic, dtype=z.dtype, device=z.device)

    def _in_coordinates(self, shift: Tensor | None) -> Tensor | None:
        if shift is None:
            return None
        height, width = self.image_size
        extents = (max(height, width),) * 2 if self.isotropic else (width, height)
        return shift * shift.new_tensor([2 / max(extent - 1, 1) for extent in extents])


class PlainDecoder(nn.Module):
    """All pixels at once from the content alone: the decoder of an ordinary variational autoencoder."""

    def __init__(
        self,
        image_size: tuple[int, int],
        latent_dim: int,
        outputs: int,
        *,
        layers: int,
        hidden: int,
        activation: Activation,
        softplus: bool,
    ) -> None:
        super().__init__()
        self.pixels, self.outputs, self.softplus = math.prod(image_size), outputs, softplus
        self.network = perceptron(latent_dim, self.pixels * outputs, layers, hidden, activation)

    def forward(
        self, theta: Tensor | None, shift: Tensor | None, z: Tensor, learned_variance: bool = False
    ) -> Tensor:
        """As `CoordinateDecoder.forward`; theta and shift are None."""
        out = self._raw(z)
        if not self.softplus:
            return out
        means = self.outputs // 2 if learned_variance else self.outputs
        return torch.cat([softplus_of(out[..., :means]), out[..., means:]], dim=2)

    def log_likelihood(
        self, theta: Tensor | None, shift: Tensor | None, z: Tensor, seen: Observation
    ) -> Tensor:
        """As `CoordinateDecoder.log_likelihood`; theta and shift are None."""
        out, x = self._raw(z), seen.x
        if seen.inside is not None:
            out, x = out[:, seen.inside.flatten()], x[:, seen.inside.flatten()]
        return log_likelihood(out, x, seen.likelihood, self.softplus)

    def _raw(self, z: Tensor) -> Tensor:
        out: Tensor = self.network(z)
        return out.unflatten(1, (self.pixels, self.outputs)).to(z)


def perceptron(inputs: int, outputs: int, layers: int, hidden: int, activation: Activation) -> nn.Sequential:
    """`layers` layers of hidden units and a linear one."""
    modules: list[nn.Module] = []
    widths = (inputs, *(hidden,) * layers)
    for before, after in itertools.pairwise(widths):
        modules += [nn.Linear(before, after), ACTIVATIONS[activation]()]
    return nn.Sequential(*modules, nn.Linear(widths[-1], outputs))
