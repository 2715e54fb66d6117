"""The model: an encoder, a mask of the channels that vary, the action of the group on them, a decoder."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from equikernels.group import Group
from equikernels.models.latent_actions.losses import (
    act_on_varying,
    consistency,
    keeps_lengths,
    mean_square,
)
from equikernels.models.latent_actions.partitioning import fixed_logits, initial_logits
from equikernels.ops import partition as part

__all__ = ["LatentActionModel"]

ESTIMATORS = ("ste", "counterfactual")
TARGETS = ("auto", "stopped", "free")


class LatentActionModel(nn.Module):
    """An autoencoder in whose latent a group acts on the channels that vary with it.

    With z = E(x), the mask M = 1[sigmoid(logits) > threshold] of the channels and rho(g) the action on latent
    images or volumes,

        z_v = M z,   z_i = (1 - M) z,   Phi_g(z) = rho(g) z_v + z_i,

    and D(Phi_g(E(x))) is the transformed image ("Learning Group Actions in Disentangled Latent Image
    Representations"). The mask is binary forwards and differentiates as the sigmoid.

    Args:
        encoder: images (N, ., H, W) to latents (N, C, h, w), volumes (N, ., D, H, W) to (N, C, d, h, w).
        decoder: latents back to images or volumes.
        group: one that moves images or volumes, see :meth:`equikernels.group.Group.act`: SO2() for any
            angle, CyclicGroup(4) for exact quarter turns, SO3() and CubeGroup() for volumes.
        channels: C, of the latents.
        partition: "learned"; "manual", the first half of the channels varies; "none", all vary; or one bool
            for each channel. All but the first are fixed, and the model has no parameter for them.
        threshold: between 0 and 1, of the mask.
        start: of the logits: "threshold" draws N(logit(threshold), 0.1), about half of the channels vary;
            "zero" draws 0.1 N(0, 1), for which a threshold other than 0.5 mostly lets none or all vary.
        estimator: of the gradient of the mask in the consistency losses: "ste", straight-through, or
            "counterfactual", what they would change by if the channel changed sides.
        invariant_weight, varying_weight: of the two consistency losses.
        method: how the group acts on latents: "auto" is exact where the group allows it and bilinear
            elsewhere.
        target: of the consistency losses, the latents of the transformed images: "stopped", a constant, as
            published; "free", which gradients reach too; "auto", stopped where the action keeps the lengths
            of latents and free elsewhere. An action that shortens them, as interpolation does, lags behind a
            stopped target: the encoder grows to follow it, the target grows with it, and training diverges.

    Two things that no loss can mend: where a whole scene turns, it is best to let every channel vary, and
    samples with g = e say nothing about the mask.

    Raises:
        TypeError: an argument of a wrong type.
        ValueError: a number out of range or an unknown name.

    >>> from equikernels.group import CyclicGroup
    >>> from equikernels.models.latent_actions import convolutional_autoencoder
    >>> model = LatentActionModel(*convolutional_autoencoder(), CyclicGroup(4), 64)
    >>> x, g = torch.rand(2, 1, 28, 28), torch.tensor([1, 3])
    >>> model.transform(x, g).shape, model.mask.shape
    (torch.Size([2, 1, 28, 28]), torch.Size([64]))
    >>> sorted(model.loss(x, CyclicGroup(4).act(x, g), g))
    ['invariant', 'loss', 'reconstruction', 'varying']
    """

    logits: Tensor

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        group: Group,
        channels: int,
        *,
        partition: str | Tensor | Sequence[bool] = "learned",
        threshold: float = 0.5,
        start: str = "threshold",
        estimator: str = "ste",
        invariant_weight: float = 1.0,
        varying_weight: float = 1.0,
        method: str = "auto",
        target: str = "auto",
    ) -> None:
        super().__init__()
        if not isinstance(group, Group):
            raise TypeError(f"group: expected a group such as SO2(), got {group!r}")
        if isinstance(channels, bool) or not isinstance(channels, int) or channels < 1:
            raise ValueError(f"channels: expected a positive integer, got {channels!r}")
        if not (_is_number(threshold) and 0 < threshold < 1):
            raise ValueError(f"threshold: expected a number between 0 and 1, got {threshold!r}")
        if estimator not in ESTIMATORS:
            raise ValueError(f"estimator: expected one of {', '.join(ESTIMATORS)}, got {estimator!r}")
        if target not in TARGETS:
            raise ValueError(f"target: expected one of {', '.join(TARGETS)}, got {target!r}")
        weights = {"invariant_weight": invariant_weight, "varying_weight": varying_weight}
        for name, weight in weights.items():
            if not (_is_number(weight) and math.isfinite(weight) and weight >= 0):
                raise ValueError(f"{name}: expected a finite number >= 0, got {weight!r}")
        self.encoder, self.decoder, self.group = encoder, decoder, group
        self.channels, self.threshold, self.method = channels, float(threshold), method
        self.estimator = estimator
        self.free_target = target == "free" or (target == "auto" and not keeps_lengths(group, method))
        self.invariant_weight, self.varying_weight = float(invariant_weight), float(varying_weight)
        if isinstance(partition, str) and partition == "learned":
            self.logits = nn.Parameter(initial_logits(channels, self.threshold, start))
        else:
            self.register_buffer("logits", fixed_logits(channels, partition))

    @property
    def mask(self) -> Tensor:
        """Which channels vary now: bool (C,)."""
        ones = torch.ones(1, self.channels, dtype=self.logits.dtype, device=self.logits.device)
        return part(ones, self.logits.detach(), threshold=self.threshold)[0][0] == 1

    def encode(self, x: Tensor) -> Tensor:
        """The latents z (N, C, ...) of images or volumes.

        Raises:
            ValueError: the encoder gives another number of channels than the model was told.
        """
        z: Tensor = self.encoder(x)
        if z.dim() not in (4, 5) or z.shape[1] != self.channels:
            raise ValueError(
                f"encoder: expected latents (N, {self.channels}, H, W) or (N, {self.channels}, D, H, W), "
                f"got {tuple(z.shape)}"
            )
        return z

    def decode(self, z: Tensor) -> Tensor:
        """Images or volumes of latents."""
        x: Tensor = self.decoder(z)
        return x

    def parts(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """(z_v, z_i), each of the shape of `z`, with zeros in the channels of the other."""
        return part(z, self.logits, threshold=self.threshold)

    def act(self, z: Tensor, g: Any) -> Tensor:
        """Phi_g(z) = rho(g) z_v + z_i, for one element or one per sample, on the device of `z` if tensors."""
        return act_on_varying(
            z, g, self.logits, group=self.group, threshold=self.threshold, method=self.method
        )  # fmt: skip

    def transform(self, x: Tensor, g: Any) -> Tensor:
        """D(Phi_g(E(x))): the images as the group would move them.

        Args:
            x: images (N, ., H, W) or volumes (N, ., D, H, W), as the encoder takes them.
            g: one element of the group, or N; tensors on the device of `x`. Angles in radians,
                counter-clockwise as displayed; integers; matrices (N, 3, 3) of (x right, y up, z deep).

        Returns:
            Images or volumes, as the decoder gives them.
        """
        return self.decode(self.act(self.encode(x), g))

    def forward(self, x: Tensor, g: Any) -> Tensor:
        return self.transform(x, g)

    def reconstruct(self, x: Tensor) -> Tensor:
        """D(E(x)); z_v + z_i is z whatever the mask."""
        return self.decode(self.encode(x))

    def swap(self, varying: Tensor, invariant: Tensor) -> Tensor:
        """D(z_v^a + z_i^b): what varies of images `varying` with what does not of images `invariant`.

        Raises:
            ValueError: the two have different shapes.
        """
        _check_shapes("invariant", invariant, "varying", varying)
        return self.decode(self.parts(self.encode(varying))[0] + self.parts(self.encode(invariant))[1])

    def loss(self, x: Tensor, gx: Tensor, g: Any) -> dict[str, Tensor]:
        """How far the action is from that on images, in pixels and in latents.

        With z' = E(gx), a constant unless the target is free,

            reconstruction = mean(D(Phi_g(z)) - gx)^2
            invariant      = mean(z_i - z'_i)^2
            varying        = mean(rho(g) z_v - z'_v)^2
            loss           = reconstruction + invariant_weight invariant + varying_weight varying

        each a mean over all elements, so that with weights of 1 the last two are mean(Phi_g(z) - z')^2.

        Args:
            x: images or volumes, as `transform` takes them.
            gx: the same, transformed by `g`.
            g: one element, or N.

        Returns:
            The four, by name, without dimensions.

        Raises:
            ValueError: `gx`, or what the decoder gives, has another shape than it should.
        """
        _check_shapes("gx", gx, "x", x)
        z = self.encode(x)
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.free_target):
            target = self.encode(gx)
        acted, invariant, varying = consistency(
            z,
            g,
            self.logits,
            target,
            group=self.group,
            threshold=self.threshold,
            method=self.method,
            estimator=self.estimator,
            free_target=self.free_target,
        )
        moved = self.decode(acted)
        if moved.shape != gx.shape:
            raise ValueError(f"decoder: expected images {tuple(gx.shape)}, got {tuple(moved.shape)}")
        reconstruction = mean_square(moved, gx)
        whole = reconstruction + self.invariant_weight * invariant + self.varying_weight * varying
        return {"loss": whole, "reconstruction": reconstruction, "invariant": invariant, "varying": varying}

    def extra_repr(self) -> str:
        learned = "learned" if isinstance(self.logits, nn.Parameter) else "fixed"
        return f"{self.group!r}, channels={self.channels}, {learned} partition, threshold={self.threshold}"


def _is_number(value: object) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _check_shapes(name: str, given: Tensor, other: str, expected: Tensor) -> None:
    if given.shape != expected.shape:
        raise ValueError(
            f"{name}: expected the shape of {other}, {tuple(expected.shape)}, got {tuple(given.shape)}"
        )
