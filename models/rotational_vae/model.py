"""A diffusion model's VAE that is trained to turn its images when its latents turn."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from equikernels.group import CyclicGroup, Group
from equikernels.models.data import SampleDraws
from equikernels.models.rotational_vae.downsampling import symmetrise
from equikernels.models.rotational_vae.elements import check_group, draw_elements
from equikernels.models.rotational_vae.files import load_autoencoder, save_autoencoder
from equikernels.models.rotational_vae.losses import squared_errors, unit_normal_divergences
from equikernels.models.rotational_vae.measuring import turning_errors

if TYPE_CHECKING:
    from diffusers import AutoencoderKL

__all__ = ["MODES", "TRAINED", "RotationalVAE"]

MODES = ("dual", "implicit", "explicit")
TRAINED = ("both", "decoder")


class RotationalVAE(nn.Module):
    """An AutoencoderKL with a loss that makes decoding commute with a group of turns.

    E is the encoder, D the decoder, rho the action of the group on images and latents, MSE the mean over all
    numbers of a sample, and z = E(x) is drawn once from the posterior. The loss is
    reconstruction + turned_weight * turned (+ kl_weight * kl), where

    - "dual", the paper: reconstruction = MSE(D(z), x), turned = MSE(D(rho(g) z), rho(g) x), for one z;
    - "implicit", as EQ-VAE: MSE(D(rho(g) z), rho(g) x), where g is the identity with probability
      1 - `probability`. One decoding, not two. It counts as turned where g is not the identity, and as
      reconstruction elsewhere, so the two terms add up to it;
    - "explicit": reconstruction = MSE(D(z), x), turned = MSE(E(rho(g) x), rho(g) E(x)) between the means of
      the posteriors. Latents that shrink lower it too: watch the errors relative to them.

    Args:
        vae: a diffusers AutoencoderKL, or what `load_autoencoder` takes. It is trained in place.
        group: CyclicGroup(2), half turns, is the paper's. CyclicGroup(n), DihedralGroup(n) or SO2().
        mode: "dual", "implicit" or "explicit".
        trained: "both", or "decoder": the parameters of the encoder are frozen, so that a diffusion model
            over these latents stays valid.
        turned_weight: of the term `turned`.
        kl_weight: of the divergence of the posterior from a unit normal, in nats per image. At 0 the term is
            not computed.
        probability: of a turn, in the mode "implicit".
        symmetric_downsampling: apply `symmetrise`.
        method, padding: as `Group.act` takes them. Where pixels go to pixels nothing is interpolated;
            elsewhere corners of turned images and latents come from outside, by `padding`.

    Images are (B, C, H, W), floating, with values from -1 to 1; H and W are multiples of `factor`, and equal
    for groups that turn by 90 degrees.

    Raises:
        TypeError, ValueError, FileNotFoundError: naming the argument.

    >>> from diffusers import AutoencoderKL
    >>> blocks = {"down_block_types": ["DownEncoderBlock2D"] * 2, "up_block_types": ["UpDecoderBlock2D"] * 2}
    >>> model = RotationalVAE(AutoencoderKL(**blocks, block_out_channels=(8, 16), norm_num_groups=4))
    >>> sorted(model.loss(torch.zeros(2, 3, 8, 8)))
    ['loss', 'reconstruction', 'turned']
    """

    def __init__(
        self,
        vae: AutoencoderKL | str | os.PathLike[str],
        group: Group | None = None,
        mode: Literal["dual", "implicit", "explicit"] = "dual",
        *,
        trained: Literal["both", "decoder"] = "both",
        turned_weight: float = 1.0,
        kl_weight: float = 0.0,
        probability: float = 0.5,
        symmetric_downsampling: bool = False,
        method: str = "auto",
        padding: str | None = None,
    ) -> None:
        from diffusers import AutoencoderKL

        super().__init__()
        if isinstance(vae, (str, os.PathLike)):
            vae = load_autoencoder(vae)
        if not isinstance(vae, AutoencoderKL):
            raise TypeError(f"vae: expected a diffusers AutoencoderKL or its name, got {type(vae).__name__}")
        self.group = check_group(CyclicGroup(2) if group is None else group)
        _check_one_of("mode", mode, MODES)
        _check_one_of("trained", trained, TRAINED)
        for name, weight in (("turned_weight", turned_weight), ("kl_weight", kl_weight)):
            if not (math.isfinite(weight) and weight >= 0):
                raise ValueError(f"{name}: expected a finite number >= 0, got {weight}")
        if not 0 <= probability <= 1:
            raise ValueError(f"probability: expected a number in [0, 1], got {probability}")
        if trained == "decoder" and (mode == "explicit" or kl_weight):
            term = "mode='explicit'" if mode == "explicit" else f"kl_weight={kl_weight}"
            raise ValueError(f"trained: 'decoder' freezes the encoder, which is all that {term} would train")
        self.vae = vae
        self.mode, self.trained = mode, trained
        self.turned_weight, self.kl_weight, self.probability = turned_weight, kl_weight, probability
        self.method, self.padding = method, padding
        # Wrong methods and paddings end here, not in the first step.
        self.act(torch.zeros(1, 1, 2, 2), self.group.identity)
        if symmetric_downsampling:
            symmetrise(vae)
        if trained == "decoder":
            for part in (vae.encoder, vae.quant_conv):
                if part is not None:
                    part.requires_grad_(False)

    @property
    def factor(self) -> int:
        """How many pixels of an image, along each side, make one of a latent."""
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    def extra_repr(self) -> str:
        return f"group={self.group!r}, mode={self.mode!r}, trained={self.trained!r}"

    def enable_gradient_checkpointing(self) -> None:
        """Compute activations again in the backward pass, to save memory."""
        self.vae.enable_gradient_checkpointing()

    # -- parts ---------------------------------------------------------------------------------------------

    def act(self, z: Tensor, elements: Any) -> Tensor:
        """rho(g) z of images or latents (B, C, H, W), one element for all or one for each."""
        return self.group.act(z, elements, method=self.method, padding=self.padding)

    def posterior(self, x: Tensor) -> Any:
        """The normal distribution of the latents, as diffusers gives it: `mean`, `std`, `logvar`."""
        self._check_images(x)
        return self.vae.encode(x).latent_dist

    def encode(self, x: Tensor) -> Tensor:
        """The mode of the posterior: latents (B, latent channels, H / factor, W / factor)."""
        mean: Tensor = self.posterior(x).mean
        return mean

    def decode(self, z: Tensor) -> Tensor:
        """Images of latents, not cut to [-1, 1]."""
        images: Tensor = self.vae.decode(z).sample
        return images

    def forward(self, x: Tensor) -> Tensor:
        """The reconstruction of images from the mode of their posterior."""
        return self.decode(self.encode(x))

    # -- training --------------------------------------------------------------------------------------------

    def loss(
        self,
        x: Tensor,
        draws: SampleDraws | None = None,
        *,
        elements: Any = None,
        noise: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """The terms of the loss, means over the samples; "loss" is their weighted sum.

        In training mode the latent is mean + std * noise, in evaluation mode the mean.

        Args:
            x: images (B, C, H, W) in [-1, 1].
            draws: random numbers of the B samples: elements, and in training noise. PyTorch's generator gives
                what neither they nor the next two give.
            elements: of the group, one for all samples or one for each. Those drawn are never the identity,
                but in the mode "implicit", by `probability`.
            noise: standard normal numbers of the shape of the latents, for training mode only.

        Returns:
            "loss", "reconstruction", "turned", and "kl" (nats per image) if `kl_weight` is not 0.

        Raises:
            TypeError, ValueError: naming the argument.
        """
        self._check_images(x)
        if draws is not None and len(draws) != len(x):
            raise ValueError(f"draws: expected those of {len(x)} samples, got {len(draws)}")
        g = self._elements(len(x), draws, x.device) if elements is None else self._given(elements, x)
        posterior = self.posterior(x)
        z = self._latent(posterior, draws, noise)
        terms = self._terms(x, z, posterior, g)
        terms = {name: errors.mean() for name, errors in terms.items()}
        loss = terms["reconstruction"] + self.turned_weight * terms["turned"]
        if self.kl_weight:
            terms["kl"] = unit_normal_divergences(posterior.mean, posterior.logvar).mean()
            loss = loss + self.kl_weight * terms["kl"]
        return {"loss": loss, **terms}

    def _terms(self, x: Tensor, z: Tensor, posterior: Any, g: Tensor) -> dict[str, Tensor]:
        """Both errors of every sample (B,)."""
        if self.mode == "implicit":
            errors = squared_errors(self.decode(self.act(z, g)), self.act(x, g))
            moved = (g != self.group.identity.to(g.device)).expand(len(x))
            return {"reconstruction": errors * ~moved, "turned": errors * moved}
        reconstruction = squared_errors(self.decode(z), x)
        if self.mode == "dual":
            turned = squared_errors(self.decode(self.act(z, g)), self.act(x, g))
        else:
            turned = squared_errors(self.encode(self.act(x, g)), self.act(posterior.mean, g))
        return {"reconstruction": reconstruction, "turned": turned}

    def _latent(self, posterior: Any, draws: SampleDraws | None, noise: Tensor | None) -> Tensor:
        mean: Tensor = posterior.mean
        if not self.training:
            if noise is not None:
                raise ValueError("noise: evaluation mode takes the mode of the posterior; expected none")
            return mean
        if noise is None:
            noise = torch.randn_like(mean) if draws is None else draws.normal("posterior", mean.shape[1:])
        elif noise.shape != mean.shape:
            raise ValueError(f"noise: expected shape {tuple(mean.shape)}, got {tuple(noise.shape)}")
        sampled: Tensor = mean + posterior.std * noise.to(mean)
        return sampled

    def _elements(self, count: int, draws: SampleDraws | None, device: torch.device) -> Tensor:
        g = draw_elements(self.group, count, draws)
        if self.mode == "implicit":
            chance = torch.rand(count) if draws is None else draws.uniform("turned")
            g = torch.where(chance < self.probability, g, self.group.identity)
        return g.to(device)

    def _given(self, elements: Any, x: Tensor) -> Tensor:
        g: Tensor = self.group.check(elements).to(x.device)
        if g.shape not in ((), (len(x),)):
            raise ValueError(f"elements: expected one, or one for each of {len(x)}, got {tuple(g.shape)}")
        return g

    def _check_images(self, x: Tensor) -> None:
        channels, factor = self.vae.config.in_channels, self.factor
        if not isinstance(x, Tensor) or not x.is_floating_point():
            got = x.dtype if isinstance(x, Tensor) else type(x).__name__
            raise TypeError(f"x: expected a floating tensor of images in [-1, 1], got {got}")
        if x.dim() != 4 or x.shape[1] != channels or x.shape[2] % factor or x.shape[3] % factor:
            raise ValueError(
                f"x: expected images (B, {channels}, H, W), H and W multiples of {factor}, "
                f"got {tuple(x.shape)}"
            )

    # -- measuring and saving ------------------------------------------------------------------------------

    def errors(self, x: Tensor, elements: Any) -> dict[str, Tensor]:
        """How far the VAE is from turning with each element: see `measuring.turning_errors`.

        Args:
            x: images (B, C, H, W) in [-1, 1].
            elements: K of them, or one.

        Returns:
            float64 (K, B) on the CPU by name: "round_trip_mse", "round_trip_mse_unit", "psnr", "encoder",
            "decoder", and "ssim" of images that are large enough. The latents are the modes of the
            posteriors, whatever the mode of the module.
        """
        self._check_images(x)
        rows = self.group.check(elements).reshape(-1).to(x.device)
        encode: Callable[[Tensor], Tensor] = self.encode
        return turning_errors(encode, self.decode, self.act, self.group, x, rows)

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write the VAE as `AutoencoderKL.from_pretrained` and pipelines read it.

        Softened layers are written baked. With symmetric down-sampling only `load_autoencoder` reads it as
        the network it is.
        """
        save_autoencoder(self.vae, folder)


def _check_one_of(name: str, value: Any, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"{name}: expected one of {', '.join(known)}, got {value!r}")
