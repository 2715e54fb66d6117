"""A classifier of images with two softly equivariant layers from pixels to pixels."""

from __future__ import annotations

import copy
import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from equikernels.group import Group, Representation, pixel_grid
from equikernels.nn import SoftLinear
from equikernels.project import Hard, NetworkCertificate, Softness, certify

__all__ = ["PriorLinear", "SoftGridClassifier"]


class PriorLinear(nn.Module):
    """y = x (s W + (1 - s) P(V))^T + s b + (1 - s) P_inv(c): a residual pathway prior with a fixed share.

    A free layer (W, b) and a strictly equivariant one (V, c) side by side (Finzi, Benton and Wilson 2021,
    arXiv 2112.01388). Instead of their priors on the two paths, which training weighs up, the share s of the
    free one is given, so that it compares with a softness: at 0 and at 1 the layer computes what SoftLinear
    does at these.

    Args:
        rep_in, rep_out: representations of one group.
        softness: s in [0, 1].
        channels_in, channels_out: copies of each representation, >= 1.

    Raises:
        ValueError: a softness outside [0, 1]; what SoftLinear raises.

    >>> from equikernels.group import CyclicGroup
    >>> grid = pixel_grid(4, CyclicGroup(4))
    >>> PriorLinear(grid, grid, 0.5, channels_out=2)(torch.zeros(3, 16)).shape
    torch.Size([3, 32])
    """

    def __init__(
        self,
        rep_in: Representation,
        rep_out: Representation,
        softness: float,
        channels_in: int = 1,
        channels_out: int = 1,
    ) -> None:
        super().__init__()
        _check_softness(softness)
        self.softness = softness
        self.strict = SoftLinear(rep_in, rep_out, Softness(0), channels_in, channels_out)
        self.free = nn.Linear(self.strict.in_features, self.strict.out_features)

    @property
    def mixed_weight(self) -> Tensor:
        """s W + (1 - s) P(V), (out, in)."""
        return self.softness * self.free.weight + (1 - self.softness) * self.strict.projected_weight

    @property
    def mixed_bias(self) -> Tensor:
        """s b + (1 - s) P_inv(c), (out,)."""
        strict = self.strict.projected_bias
        assert strict is not None
        return self.softness * self.free.bias + (1 - self.softness) * strict

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.mixed_weight, self.mixed_bias)

    @torch.no_grad()
    def unrestricted(self) -> SoftLinear:
        """The same map as a SoftLinear that cuts nothing off, which certificates know."""
        rep_in, rep_out = self.strict.projector.rep_in, self.strict.projector.rep_out
        assert rep_in is not None
        assert rep_out is not None
        channels = self.strict.channels_in, self.strict.channels_out
        same = SoftLinear(rep_in, rep_out, Hard(math.inf), *channels).to(self.free.weight)
        same.weight.copy_(self.mixed_weight)
        assert same.bias is not None
        same.bias.copy_(self.mixed_bias)
        return same


class SoftGridClassifier(nn.Module):
    """f = linear o mean o relu o L2 o pool o relu o L1 o shrink: two layers L between pixel grids.

    Shrink takes means over squares of pixels and pool over squares of 2 x 2; mean is that over all pixels of
    a channel. Each L maps every pixel of every channel to every pixel of every channel: it is no
    convolution, translations mean nothing to it. With P the equivariant projector of the pixel grids its
    weight is P(W) ("soft"), or s W + (1 - s) P_0(V) with the strict P_0 (`PriorLinear`, "prior").

    Where the group moves whole pixels (C_4, D_4) shrink, pool and relu commute with it, mean is invariant,
    and the network is exactly invariant at softness 0. Otherwise the error made in one layer is stretched
    by those after it. With |L| the operator norm, e(L) = max |rho(g)^-1 L rho(g) - L| for one element g, d
    the pixels along a square of shrink, and n^2 the pixels after pool, for the weights alone

        |f(g x) - f(x)| <= |A| / n (|L2| / 2 e(L1) + e(L2) |L1| / 2) / d |x|

    with A the last linear layer, since means over m numbers divide lengths by sqrt(m) at least. Biases,
    which a soft cut-off does not make invariant either, add terms without |x|. `certificate` composes all
    of it. SO(2) and O(2) act by the spectral representation of the grid, with which relu does not commute:
    there only the error of a single layer is bounded.

    Args:
        size: pixels along each side of the square images, a multiple of 2 * shrink.
        group: acts on pixel grids: CyclicGroup(4), DihedralGroup(4), SO2(), O2(), and others.
        softness: 0 (equivariant) to 1 (free).
        classes: outputs K, >= 1.
        layer: "soft" or "prior".
        channels_in: of the images.
        channels: after the first and after the second layer.
        shrink: pixels along each side of the squares that become one pixel first.

    Raises:
        ValueError: naming the argument, what was expected and what came.

    >>> from equikernels.group import CyclicGroup
    >>> model = SoftGridClassifier(8, CyclicGroup(4), 0.0, 10, channels=(2, 4))
    >>> images = torch.rand(3, 1, 8, 8)
    >>> torch.allclose(model(images), model(images.rot90(1, (-2, -1))), atol=1e-6)
    True
    """

    def __init__(
        self,
        size: int,
        group: Group,
        softness: float,
        classes: int,
        *,
        layer: Literal["soft", "prior"] = "soft",
        channels_in: int = 1,
        channels: tuple[int, int] = (4, 32),
        shrink: int = 1,
    ) -> None:
        super().__init__()
        _check_softness(softness)
        if layer not in ("soft", "prior"):
            raise ValueError(f'layer: expected "soft" or "prior", got {layer!r}')
        for name, value in (("classes", classes), ("channels_in", channels_in), ("shrink", shrink)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name}: expected an integer >= 1, got {value!r}")
        if size < 1 or size % (2 * shrink):
            raise ValueError(f"size: expected a multiple of 2 * shrink = {2 * shrink}, got {size}")
        self.group = group
        sides = size // shrink, size // (2 * shrink)
        layers = []
        for side, before, after in zip(sides, (channels_in, channels[0]), channels, strict=True):
            grid = pixel_grid(side, group)
            layers.append(
                SoftLinear(grid, grid, Softness(softness), before, after)
                if layer == "soft"
                else PriorLinear(grid, grid, softness, before, after)
            )
        self.network = nn.Sequential(
            nn.AvgPool2d(shrink),
            nn.Flatten(),
            layers[0],
            nn.ReLU(),
            nn.Unflatten(1, (channels[0], sides[0], sides[0])),
            nn.AvgPool2d(2),
            nn.Flatten(),
            layers[1],
            nn.ReLU(),
            nn.Unflatten(1, (channels[1], sides[1], sides[1])),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(channels[1], classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, K) of images (B, C, size, size)."""
        logits: Tensor = self.network(images)
        return logits

    def loss(self, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """The mean cross-entropy in nats, as "loss"; labels int64 (B,)."""
        return {"loss": functional.cross_entropy(self(images), labels)}

    @property
    def first(self) -> SoftLinear:
        """The first of the two layers as a SoftLinear; a copy of it for layer="prior"."""
        layer = self.network[2]
        if isinstance(layer, PriorLinear):
            return layer.unrestricted()
        assert isinstance(layer, SoftLinear)
        return layer

    def certificate(self, images: Tensor) -> NetworkCertificate:
        """The bound composed of the layers, with the errors measured at images (B, C, size, size).

        For groups that move whole pixels; others are refused by the certificate itself.
        """
        exact = copy.deepcopy(self.network).double()
        known = [layer.unrestricted() if isinstance(layer, PriorLinear) else layer for layer in exact]
        return certify(nn.Sequential(*known), self.group, images)


def _check_softness(softness: float) -> None:
    if not 0 <= softness <= 1:
        raise ValueError(f"softness: expected a number in [0, 1], got {softness!r}")
