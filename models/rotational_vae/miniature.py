"""The paper in half a minute: a very small VAE learns to turn its images by half turns of its latents."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from equikernels.group import CyclicGroup
from equikernels.models.data import SampleDraws, load_dataset
from equikernels.models.data.transforms import random_crop
from equikernels.models.engine.configuration import OptimizerOptions
from equikernels.models.engine.miniature import Claim, Miniature, Picture, Report
from equikernels.models.engine.optimization import learning_rate
from equikernels.models.rotational_vae.figures import element_errors, latent_turns
from equikernels.models.rotational_vae.model import RotationalVAE

if TYPE_CHECKING:
    from diffusers import AutoencoderKL

__all__ = ["STEPS", "run"]

BASE_STEPS, TUNED_STEPS = 400, 150
PARTS = 4
"""How often each training reports."""

STEPS = 3 * PARTS + 1

HELD_OUT = (1, 2)
"""A cat and a cup of coffee, which no training sees."""

SIZE, WINDOW = 128, 32


def run(seed: int, report: Report) -> Miniature:
    """Train a VAE, tune it by the paper's loss and, as the control, by reconstruction alone; measure both.

    Args:
        seed: of the weights and of every random number.
        report: called STEPS times.
    """
    dataset = load_dataset("photographs", size=SIZE)
    images = dataset.fetch(torch.arange(len(dataset)))["image"]
    held = images[list(HELD_OUT)]
    seen = images[[number for number in range(len(images)) if number not in HELD_OUT]]

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        untuned = RotationalVAE(_small_autoencoder(), CyclicGroup(2))
    _train(untuned, seen, seed, BASE_STEPS, 3e-3, 0.0, "Training the VAE", report)
    models = {"untuned": untuned}
    for name, weight in (("further, no turns", 0.0), ("tuned", 1.0)):
        models[name] = RotationalVAE(copy.deepcopy(untuned.vae), CyclicGroup(2))
        _train(models[name], seen, seed + 1, TUNED_STEPS, 1e-3, weight, f"Training, {name}", report)
    errors = {
        name: {
            key: values.mean(1).tolist() for key, values in model.eval().errors(2 * held - 1, [0, 1]).items()
        }
        for name, model in models.items()
    }
    report("Measuring and drawing")
    return _told(models, errors, held)


def _small_autoencoder() -> AutoencoderKL:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(16, 16),
        latent_channels=4,
        norm_num_groups=4,
        mid_block_add_attention=False,
    )


def _train(
    model: RotationalVAE,
    images: Tensor,
    seed: int,
    steps: int,
    rate: float,
    turned_weight: float,
    name: str,
    report: Report,
) -> None:
    """Steps on one window of every photograph; without turned latents where their weight is 0."""
    options = OptimizerOptions(learning_rate=rate, schedule="cosine", warmup_steps=20)
    optimizer = torch.optim.AdamW(model.parameters(), rate)
    model.train()
    for step in range(steps):
        draws = SampleDraws(seed, step, range(len(images)))
        x = 2 * random_crop(images, draws, WINDOW)[0] - 1
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(options, step, steps)
        optimizer.zero_grad()
        _loss(model, x, draws, turned_weight).backward()
        optimizer.step()
        if (step + 1) * PARTS % steps < PARTS:
            report(f"{name}: {step + 1} of {steps} steps")
    model.eval()


def _loss(model: RotationalVAE, x: Tensor, draws: SampleDraws, turned_weight: float) -> Tensor:
    """The paper's loss, or its first half alone for half the work: the same draws give the same latents."""
    model.turned_weight = turned_weight
    model.mode, model.probability = ("dual", 0.5) if turned_weight else ("implicit", 0.0)
    return model.loss(x, draws)["loss"]


def _told(
    models: dict[str, RotationalVAE], errors: dict[str, dict[str, list[float]]], held: Tensor
) -> Miniature:
    mse = {name: found["round_trip_mse_unit"] for name, found in errors.items()}
    scrambled = mse["untuned"][1] / mse["untuned"][0]
    gain = mse["further, no turns"][1] / mse["tuned"][1]
    cost = errors["tuned"]["psnr"][0] - errors["further, no turns"]["psnr"][0]
    closer = errors["further, no turns"]["decoder"][1] / errors["tuned"]["decoder"][1]
    claims = [
        Claim(
            "untuned, a half turn of the latent costs quality",
            f"mean squared error times {scrambled:.2f}",
            scrambled > 1,
        ),
        Claim(
            "tuning repairs it, against equal further training",
            f"mean squared error after a half turn falls by a factor of {gain:.2f}",
            gain > 1,
        ),
        Claim(
            "the decoder comes closer to commuting with half turns",
            f"its error falls by a factor of {closer:.2f}",
            closer > 1,
        ),
        Claim("what tuning costs upright", f"{cost:+.2f} dB against equal further training", None),
    ]
    rows = [
        (
            name,
            *(f"{found['psnr'][turned]:.2f}" for turned in (0, 1)),
            *(f"{found['ssim'][turned]:.3f}" for turned in (0, 1)),
            f"{found['encoder'][1]:.3f}",
            f"{found['decoder'][1]:.3f}",
        )
        for name, found in errors.items()
    ]
    shown = {name: models[name] for name in ("untuned", "tuned")}
    psnr = {name: {"0": [f["psnr"][0]], "180": [f["psnr"][1]]} for name, f in errors.items()}
    return Miniature(
        title="VAEs whose images turn with their latents",
        introduction=(
            "A very small AutoencoderKL, the kind of network that diffusion models draw in, learns to "
            "reconstruct photographs of scikit-image. Latents turned by 180 degrees do not decode to turned "
            "photographs as good as upright ones. The paper's loss decodes every latent as it is and turned, "
            "and compares both with the photograph. All numbers are of two photographs that no training saw; "
            "the control is trained as long without turns."
        ),
        claims=claims,
        pictures=[
            Picture(
                "turns",
                "Turned latents",
                "Two photographs, their reconstructions, what the latents turned by 180 degrees decode to, "
                "and that turned back, before and after tuning. Below each the PSNR against the original.",
                latent_turns(shown, held, 1),
            ),
            Picture(
                "errors",
                "Upright and turned",
                "PSNR of the image back, for latents as they are and turned. Tuning should make them alike.",
                element_errors(psnr, "PSNR turned back (dB)"),
            ),
        ],
        headings=("", "PSNR (dB)", "after a half turn", "SSIM", "after a half turn", "encoder", "decoder"),
        rows=rows,
        note=(
            "Of the image turned back, with pixels from 0 to 1; the last two columns are "
            "|E(rho x) - rho E(x)| / |E(x)| and |D(rho z) - rho D(z)| / |D(z)| for the half turn rho."
        ),
    )
