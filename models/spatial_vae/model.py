"""The spatial variational autoencoder: an image is content, an angle and a shift."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from equikernels.models.data import SampleDraws
from equikernels.models.spatial_vae.ctf import apply_transfer
from equikernels.models.spatial_vae.decoders import (
    ACTIVATIONS,
    Activation,
    CoordinateDecoder,
    Observation,
    PlainDecoder,
    perceptron,
)
from equikernels.models.spatial_vae.losses import mean_free_kl, normal_kl
from equikernels.models.spatial_vae.posterior import Posterior
from equikernels.ops import rotate
from equikernels.ops.coordinate_decoder.likelihood import log_likelihood
from equikernels.ops.coordinate_decoder.pixels import disc_mask

__all__ = ["Decoder", "Likelihood", "Mask", "Parts", "SpatialVAE"]

Likelihood = Literal["bernoulli", "gaussian", "gaussian_learned_variance"]
Decoder = Literal["spatial", "plain"]
Mask = Literal["none", "disc"]


class Parts(NamedTuple):
    """Latents by their meaning; theta and shift are None in a model without them."""

    theta: Tensor | None
    """(N,), radians."""
    shift: Tensor | None
    """(N, 2), pixels."""
    z: Tensor
    """(N, Z)."""


class SpatialVAE(nn.Module):
    """A variational autoencoder whose decoder draws pixel by pixel, at coordinates that turn and move.

    After Bepler et al., "Explicitly disentangling image content from translation and rotation with
    spatial-VAE" (2019). The encoder is a multi-layer perceptron of the flattened image; it gives the mean and
    the logarithm of the standard deviation of [theta][Delta][z]. The pixel at u, a row vector with x to the
    right and y up, is drawn by

        g(u R(theta) + s Delta, z),    R(t) = [[cos t, sin t], [-sin t, cos t]],

    so theta turns the content clockwise as displayed, and s Delta moves the coordinates: the content moves
    the other way, before it is turned. z and Delta have standard normal priors.

    Args:
        image_size: (H, W), or one number for squares.
        latent_dim: Z, numbers of the content.
        channels: of an image.
        layers, hidden: layers of hidden units of the decoder, and units in each.
        encoder_layers, encoder_hidden: of the encoder; None for those of the decoder.
        activation: "tanh" or "leaky_relu", in both.
        bilinear: whether the decoder's first layer has products of coordinates and content.
        expand: whether the decoder sees x^2, y^2 and xy besides x and y.
        residual: whether layers of the decoder after the first add their input.
        softplus: whether the means are made positive by log(1 + exp(a)); not with "bernoulli".
        isotropic: whether the pixels of images that are not square are squares; otherwise, as in the paper's
            programs, both sides run from -1 to 1, and turned content is distorted.
        likelihood: of the pixels: "bernoulli" for values in [0, 1], "gaussian" of unit variance, or
            "gaussian_learned_variance" with a variance of every pixel.
        theta_prior: standard deviation of the angle's prior in radians.
        theta_mean_penalty: whether the angle's divergence is that from a normal prior; without it the mean
            is free, see `equikernels.models.spatial_vae.losses.mean_free_kl`.
        shift_prior: s, the standard deviation of the shift's prior in pixels.
        mask: "disc": only pixels within min(H, W)/2 of the centre are explained, and seen by the encoder.
        rotation, translation: without one, the images are taken to have none; without both the model is the
            baseline of a fixed pose.
        decoder: "plain" draws all pixels at once from the content: with rotation and translation off, the
            baseline of an ordinary variational autoencoder.
        backend: of `equikernels.ops.coordinate_mlp`; "reference" for derivatives of higher order.

    The parameters are float32 as made; `model.double()` works in float64. Images are of the same dtype.

    Raises:
        ValueError: a size, number or name that cannot be, or options that exclude each other.

    >>> model = SpatialVAE(8, latent_dim=2, layers=1, hidden=16)
    >>> x = torch.rand(3, 1, 8, 8)
    >>> model.encode(x).mean.shape
    torch.Size([3, 5])
    >>> list(model.loss(x, SampleDraws(seed=0, epoch=0, indices=[0, 1, 2])))
    ['loss', 'reconstruction', 'kl_theta', 'kl_shift', 'kl_z']
    """

    def __init__(
        self,
        image_size: int | tuple[int, int],
        latent_dim: int,
        channels: int = 1,
        *,
        layers: int = 2,
        hidden: int = 500,
        encoder_layers: int | None = None,
        encoder_hidden: int | None = None,
        activation: Activation = "tanh",
        bilinear: bool = False,
        expand: bool = False,
        residual: bool = False,
        softplus: bool = False,
        isotropic: bool = True,
        likelihood: Likelihood = "bernoulli",
        theta_prior: float = math.pi / 4,
        theta_mean_penalty: bool = True,
        shift_prior: float = 1.4,
        mask: Mask = "none",
        rotation: bool = True,
        translation: bool = True,
        decoder: Decoder = "spatial",
        backend: str | None = None,
    ) -> None:
        super().__init__()
        size = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
        if len(size) != 2:
            raise ValueError(f"image_size: expected a number or (H, W), got {image_size}")
        encoder_layers = layers if encoder_layers is None else encoder_layers
        encoder_hidden = hidden if encoder_hidden is None else encoder_hidden
        for name, value in (
            ("image_size", min(size)),
            ("latent_dim", latent_dim),
            ("channels", channels),
            ("layers", layers),
            ("hidden", hidden),
            ("encoder_layers", encoder_layers),
            ("encoder_hidden", encoder_hidden),
        ):
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name}: expected an integer >= 1, got {value}")
        for name, prior in (("theta_prior", theta_prior), ("shift_prior", shift_prior)):
            if not (prior > 0 and math.isfinite(prior)):
                raise ValueError(f"{name}: expected a finite number > 0, got {prior}")
        _check_choice("activation", activation, tuple(ACTIVATIONS))
        _check_choice("likelihood", likelihood, get_args(Likelihood))
        _check_choice("mask", mask, get_args(Mask))
        _check_choice("decoder", decoder, get_args(Decoder))
        if softplus and likelihood == "bernoulli":
            raise ValueError('softplus: expected False for "bernoulli", whose outputs are logits')
        if decoder == "plain":
            taken = {
                "rotation": rotation,
                "translation": translation,
                "bilinear": bilinear,
                "expand": expand,
                "residual": residual,
            }
            for name, on in taken.items():
                if on:
                    raise ValueError(f'{name}: expected False with decoder="plain", which has no coordinates')
            if not isotropic:
                raise ValueError('isotropic: expected True with decoder="plain", which has no coordinates')
            if backend is not None:
                raise ValueError(f'backend: expected None with decoder="plain", got {backend!r}')
        self.image_size, self.latent_dim, self.channels = (size[0], size[1]), latent_dim, channels
        self.likelihood = likelihood
        self.theta_prior, self.theta_mean_penalty = theta_prior, theta_mean_penalty
        self.shift_prior = shift_prior
        self.rotation, self.translation = rotation, translation
        self.pose_dim = int(rotation) + 2 * int(translation)
        pixels = math.prod(size) * channels
        outputs = channels * (2 if likelihood == "gaussian_learned_variance" else 1)
        self.encoder = perceptron(
            pixels, 2 * (self.pose_dim + latent_dim), encoder_layers, encoder_hidden, activation
        )
        self.decoder: CoordinateDecoder | PlainDecoder
        if decoder == "plain":
            self.decoder = PlainDecoder(
                self.image_size,
                latent_dim,
                outputs,
                layers=layers,
                hidden=hidden,
                activation=activation,
                softplus=softplus,
            )
        else:
            self.decoder = CoordinateDecoder(
                self.image_size,
                latent_dim,
                outputs,
                layers=layers,
                hidden=hidden,
                activation=activation,
                bilinear=bilinear,
                expand=expand,
                residual=residual,
                softplus=softplus,
                isotropic=isotropic,
                backend=backend,
            )
        self.inside: Tensor | None
        inside = disc_mask(*self.image_size) if mask == "disc" else None
        self.register_buffer("inside", inside, persistent=False)

    # -- inference -------------------------------------------------------------------------------------------

    def encode(self, x: Tensor, gamma: Tensor | None = None) -> Posterior:
        """The posterior of the latents [theta][Delta][z] of images.

        Args:
            x: (N, C, H, W).
            gamma: angles in radians, (N,). The encoder sees the images turned counter-clockwise by them, and
                gamma is added to the mean of theta: still the posterior of x. With random angles this shows
                the encoder every orientation. The shift is turned with the content and so stays.

        Raises:
            TypeError: x is of another dtype than the model.
            ValueError: images or angles of another shape; angles for a model without rotation.
        """
        self._check_images(x)
        seen = x
        if gamma is not None:
            if not self.rotation:
                raise ValueError("gamma: expected None in a model without rotation")
            if gamma.shape != x.shape[:1]:
                raise ValueError(f"gamma: expected shape {tuple(x.shape[:1])}, got {tuple(gamma.shape)}")
            seen = rotate(x, gamma, mode="bicubic")
        if self.inside is not None:
            seen = seen * self.inside
        # Under autocast the encoder computes in fewer bits; the latents do not.
        mean, log_std = self.encoder(seen.flatten(1)).to(x.dtype).chunk(2, dim=1)
        if gamma is not None:
            mean = torch.cat([mean[:, :1] + gamma[:, None], mean[:, 1:]], dim=1)
        return Posterior(mean, log_std)

    def parts(self, latents: Tensor) -> Parts:
        """Latents [theta][Delta][z] (N, L), as an angle, a shift in pixels and content.

        >>> SpatialVAE(8, 1, layers=1, hidden=4, shift_prior=3.0).parts(torch.tensor([[0.5, 1.0, -1.0, 7.0]]))
        Parts(theta=tensor([0.5000]), shift=tensor([[ 3., -3.]]), z=tensor([[7.]]))
        """
        theta = latents[:, 0] if self.rotation else None
        start = int(self.rotation)
        shift = latents[:, start : start + 2] * self.shift_prior if self.translation else None
        return Parts(theta, shift, latents[:, self.pose_dim :])

    # -- generation ------------------------------------------------------------------------------------------

    def outputs(self, z: Tensor, theta: Tensor | None = None, shift: Tensor | None = None) -> Tensor:
        """The parameters of the pixels' distributions: logits, means, or means before log-variances.

        Args:
            z, theta, shift: as `decode` takes them.

        Returns:
            (N, C, H, W), or (N, 2C, H, W) for a learned variance.
        """
        for name, given, has in (
            ("theta", theta, self.rotation),
            ("shift", shift, self.translation),
        ):
            if given is not None and not has:
                raise ValueError(f"{name}: expected None in a model that has none")
        out: Tensor = self.decoder(theta, shift, z, self.likelihood == "gaussian_learned_variance")
        return out.mT.unflatten(2, self.image_size)

    def decode(self, z: Tensor, theta: Tensor | None = None, shift: Tensor | None = None) -> Tensor:
        """Images (N, C, H, W) of given content and pose: the means of all pixels, masked ones too.

        Args:
            z: content, (N, Z).
            theta: radians, (N,), clockwise as displayed; None for none.
            shift: s Delta in pixels, (N, 2): the coordinates move to the right and up by it, so the content
                moves to the left and down, in the frame that then turns by theta; None for none.

        Raises:
            ValueError: a shape that does not fit, or a pose that the model does not have.
        """
        out = self.outputs(z, theta, shift)
        return out.sigmoid() if self.likelihood == "bernoulli" else out[:, : self.channels]

    def sample_prior(self, draws: SampleDraws) -> Parts:
        """Content and poses of new images, one for each of the draws.

        Without the penalty on its mean the angle is uniform on the circle.
        """
        like = next(self.parameters())
        dtype = torch.promote_types(like.dtype, torch.float32)
        latents = draws.normal("prior", (self.pose_dim + self.latent_dim,), dtype=dtype).to(like)
        theta, shift, z = self.parts(latents)
        if theta is not None:
            if self.theta_mean_penalty:
                theta = theta * self.theta_prior
            else:
                theta = draws.uniform("angle", (), -math.pi, math.pi, dtype=dtype).to(like)
        return Parts(theta, shift, z)

    # -- learning --------------------------------------------------------------------------------------------

    def loss(
        self,
        x: Tensor,
        noise: Tensor | SampleDraws | None = None,
        *,
        gamma: Tensor | None = None,
        freeze_content: bool = False,
        transfer: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Minus the evidence lower bound, in nats per image, the mean over the images; and its terms.

            loss = reconstruction + kl_theta + kl_shift + kl_z,
            reconstruction = -log p(x | theta, Delta, z), summed over pixels and channels,

        with one sample of the latents for every image. Without the penalty on the angle's mean, and with
        frozen content, it is no bound of the likelihood.

        Args:
            x: images, (N, C, H, W); in [0, 1] for "bernoulli".
            noise: standard normal numbers (N, L), zeros for the posterior's mean; or the draws of the
                samples; None for numbers from PyTorch's generator.
            gamma: by which the encoder sees the images turned, see `encode`.
            freeze_content: whether z is held at 0, its prior's mean, and kl_z at 0, so that only the pose is
                learned by the encoder.
            transfer: through which the microscope saw the images, (N, H, W // 2 + 1), see
                `equikernels.models.spatial_vae.ctf`: it is applied to the means, all pixels of them, before
                they are compared with x; not with "bernoulli".

        Returns:
            Scalars: "loss", "reconstruction", "kl_theta" and "kl_shift" where the model has them, "kl_z".

        Raises:
            TypeError: x is of another dtype than the model.
            ValueError: a wrong shape, or pixels outside [0, 1] or a transfer function for "bernoulli".
        """
        posterior = self.encode(x, gamma)
        if self.likelihood == "bernoulli" and x.numel() and not (x.min() >= 0 and x.max() <= 1):
            raise ValueError(
                f'x: expected pixels in [0, 1] for "bernoulli", got {float(x.min()):g} to {float(x.max()):g}'
            )
        if noise is None:
            noise = torch.randn_like(posterior.mean)
        theta, shift, z = self.parts(posterior.sample(noise))
        if freeze_content:
            z = torch.zeros_like(z)
        flat = x.flatten(2).mT
        if transfer is None:
            seen = Observation(flat, self.likelihood, self.inside)
            likely = self.decoder.log_likelihood(theta, shift, z, seen)
        else:
            likely = self._likelihood_through(transfer, Parts(theta, shift, z), flat)
        terms = {"reconstruction": -likely.mean(), **self._divergences(posterior, freeze_content)}
        return {"loss": torch.stack(list(terms.values())).sum(), **terms}

    def _likelihood_through(self, transfer: Tensor, parts: Parts, x: Tensor) -> Tensor:
        """The log-likelihood of images (N, H * W, C) whose means a transfer function has changed: (N,)."""
        if self.likelihood == "bernoulli":
            raise ValueError('transfer: expected None for "bernoulli", whose means would leave [0, 1]')
        drawn = self.outputs(parts.z, parts.theta, parts.shift)
        means = apply_transfer(drawn[:, : self.channels], transfer)
        out = torch.cat([means, drawn[:, self.channels :]], dim=1).flatten(2).mT
        if self.inside is not None:
            out, x = out[:, self.inside.flatten()], x[:, self.inside.flatten()]
        return log_likelihood(out, x, self.likelihood, softplus=False)

    def _divergences(self, posterior: Posterior, freeze_content: bool) -> dict[str, Tensor]:
        mean, log_std = posterior
        start, end = int(self.rotation), self.pose_dim
        terms: dict[str, Tensor] = {}
        if self.rotation:
            if self.theta_mean_penalty:
                divergence = normal_kl(mean[:, :1], log_std[:, :1], self.theta_prior)
            else:
                divergence = mean_free_kl(log_std[:, :1], self.theta_prior)
            terms["kl_theta"] = divergence.mean()
        if self.translation:
            terms["kl_shift"] = normal_kl(mean[:, start:end], log_std[:, start:end]).mean()
        kl_z = mean.new_zeros(()) if freeze_content else normal_kl(mean[:, end:], log_std[:, end:]).mean()
        return {**terms, "kl_z": kl_z}

    def _check_images(self, x: Tensor) -> None:
        if x.dim() != 4 or x.shape[1:] != (self.channels, *self.image_size):
            expected = f"(N, {self.channels}, {self.image_size[0]}, {self.image_size[1]})"
            raise ValueError(f"x: expected images {expected}, got {tuple(x.shape)}")
        dtype = next(self.parameters()).dtype
        if x.dtype != dtype:
            raise TypeError(f"x: expected the dtype of the model, {dtype}, got {x.dtype}")


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name}: expected one of {', '.join(choices)}, got {value!r}")
