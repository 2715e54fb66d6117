"""The paper in small, for the demonstration: digits whose latent turns, and a mask against the true one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.figure import Figure
from scipy.stats import binom
from torch import Tensor
from torch.nn import functional

from equikernels.group import SO2
from equikernels.models.data import Dataset, SampleDraws, epoch_order, load_dataset
from equikernels.models.data.transforms import pad_to
from equikernels.models.engine.miniature import Claim, Miniature, Picture, Report
from equikernels.models.latent_actions.figures import (
    BLUE,
    GREY,
    ORANGE,
    STYLE,
    Examples,
    swapped_parts,
    transformed_images,
)
from equikernels.models.latent_actions.losses import mean_square
from equikernels.models.latent_actions.measuring import compare_images
from equikernels.models.latent_actions.model import LatentActionModel
from equikernels.models.latent_actions.networks import convolutional_autoencoder
from equikernels.models.latent_actions.pairs import PairOptions, transformed_pair, transformed_scene

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["STEPS", "run"]

PARTITIONS = ("learned", "manual", "none")
WIDTHS = (16, 32)
SIDE, DIGIT = 16, 12
DIGITS = PairOptions(square=5)
LAYERS = PairOptions(scene="layers")
TRAINED, TESTED = 1400, 300
BATCH = 32
EPOCHS, REPORTED = 12, 3
LEARNING_RATE = 2e-3
ROUNDING = 1e-5
STEPS = (len(PARTITIONS) + 1) * (EPOCHS // REPORTED) + 1


@dataclass(frozen=True, eq=False)
class Learned:
    """A trained model and the logits of its mask after every step, (steps, C)."""

    model: LatentActionModel
    logits: np.ndarray


def run(seed: int, report: Report) -> Miniature:
    """Train and measure everything; the same for the same seed, and PyTorch's generator is left as it was.

    Args:
        seed: of parameters, order, angles and squares.
        report: called `STEPS` times.
    """
    with torch.random.fork_rng(devices=[]):
        digits = load_dataset("digits").split({"train": 0.8, "test": 0.2}, seed=0)
        trained = {
            name: _train(digits["train"], DIGITS, name, seed, f"digits, {name} partition", report)
            for name in PARTITIONS
        }
        scenes = load_dataset("scenes", count=TRAINED, size=SIDE)
        layered = _train(scenes, LAYERS, "learned", seed, "scenes in two layers", report)
        found = _measure({name: entry.model for name, entry in trained.items()}, digits["test"], seed)
        tested = _pair(_first(digits["test"], TESTED), SampleDraws(seed, -1, range(TESTED)), DIGITS)
        model = trained["learned"].model
        pictures = _pictures(model, tested, layered)
        claims = [*_claims(found, layered.model), _sum_of_losses(model, tested)]
    report("pictures of latents that turn")
    return Miniature(
        title="Latent group actions",
        introduction=(
            "An autoencoder learns to turn pictures by turning their latent. Handwritten digits turn by any "
            "angle under a white square that stays, at a random place of every image: only some of the "
            "latent channels may turn. Which ones is learned, by a mask, or it is the first half (manual) or "
            "all (none). In scenes made of an object that turns and a background that stays, in layers of "
            "their own, the true mask is known, and the one that is found is compared with it."
        ),
        claims=claims,
        pictures=pictures,
        headings=("partition", "PSNR (dB)", "SSIM", "RMSE", "channels that vary"),
        rows=[
            (name, f"{n['psnr']:.2f}", f"{n['ssim']:.3f}", f"{n['rmse']:.4f}", f"{n['share']:.2f}")
            for name, n in found.items()
        ],
        note=(
            f"Decoded turned latents against turned digits, means over {TESTED} that training never saw, "
            "values from 0 to 1; a digit left as it is: RMSE "
            f"{found['learned']['still']:.4f}."
        ),
    )


# -- training ------------------------------------------------------------------------------------------------


def _first(dataset: Dataset, count: int) -> dict[str, Tensor]:
    return dataset.fetch(torch.arange(min(count, len(dataset))))


def _pair(
    batch: Mapping[str, Tensor], draws: SampleDraws, options: PairOptions
) -> tuple[Tensor, Tensor, Tensor]:
    """(x, gx, g), from -1 to 1; digits are enlarged first, with a frame that gives them room to turn."""
    if options.scene == "layers":
        x, gx, g = transformed_scene(batch, draws, SO2(), options)
    else:
        images = functional.interpolate(batch["image"], size=(DIGIT, DIGIT), mode="bilinear").clamp(0, 1)
        x, gx, g = transformed_pair(pad_to(images, SIDE), draws, SO2(), options)
    return 2 * x - 1, 2 * gx - 1, g


def _train(
    dataset: Dataset, options: PairOptions, partition: str, seed: int, name: str, report: Report
) -> Learned:
    """A model of the first `TRAINED` samples, each with an angle of its own in every epoch."""
    samples = _first(dataset, TRAINED)
    count = len(samples["index"])
    torch.manual_seed(seed)
    layers = 2 if options.scene == "layers" else 1
    networks = convolutional_autoencoder(layers, WIDTHS, groups=layers)
    model = LatentActionModel(*networks, SO2(), WIDTHS[-1], partition=partition)
    optimizer = torch.optim.Adam(model.parameters(), LEARNING_RATE)
    logits = []
    for epoch in range(EPOCHS):
        for chosen in epoch_order(seed, epoch, count).split(BATCH):
            batch = {field: values[chosen] for field, values in samples.items()}
            terms = model.loss(*_pair(batch, SampleDraws(seed, epoch, batch["index"]), options))
            optimizer.zero_grad()
            terms["loss"].backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            logits.append(model.logits.detach().clone())
        if (epoch + 1) % REPORTED == 0:
            report(f"{name}: {epoch + 1} of {EPOCHS} epochs")
    return Learned(model.eval(), torch.stack(logits).numpy())


# -- what is measured ----------------------------------------------------------------------------------------


@torch.no_grad()
def _measure(
    models: Mapping[str, LatentActionModel], dataset: Dataset, seed: int
) -> dict[str, dict[str, float]]:
    batch = _first(dataset, TESTED)
    x, gx, g = _pair(batch, SampleDraws(seed, -1, range(len(batch["index"]))), DIGITS)
    still = compare_images((x + 1) / 2, (gx + 1) / 2)["rmse"]
    return {
        name: {
            **compare_images((model.transform(x, g) + 1) / 2, (gx + 1) / 2),
            "share": float(model.mask.double().mean()),
            "still": still,
        }
        for name, model in models.items()
    }


def _claims(found: Mapping[str, Mapping[str, float]], layered: LatentActionModel) -> list[Claim]:
    learned, manual, none = (found[name] for name in PARTITIONS)
    truth = torch.arange(layered.channels) < layered.channels // 2
    right = int((layered.mask == truth).sum())
    chance = float(binom.sf(right - 1, layered.channels, 0.5))
    return [
        Claim(
            "turning the latent turns the picture: it is nearer to the turned digit than the digit as it was",
            f"RMSE {learned['rmse']:.3f} against {learned['still']:.3f}",
            learned["rmse"] < learned["still"],
        ),
        Claim(
            "where something stays, a learned partition is better than turning the whole latent",
            f"PSNR {learned['psnr']:.2f} dB against {none['psnr']:.2f} dB",
            learned["psnr"] > none["psnr"],
        ),
        Claim(
            "a learned partition against one by hand",
            f"PSNR {learned['psnr']:.2f} dB against {manual['psnr']:.2f} dB, one seed",
            None,
        ),
        Claim(
            "the mask that is found against the true one, where there is one",
            f"{right} of {layered.channels} channels on the right side, by chance p = {chance:.1g}, one seed",
            None,
        ),
    ]


@torch.no_grad()
def _sum_of_losses(model: LatentActionModel, tested: tuple[Tensor, Tensor, Tensor]) -> Claim:
    x, gx, g = tested
    terms = model.loss(x, gx, g)
    whole = float(mean_square(model.act(model.encode(x), g), model.encode(gx)))
    parts = float(terms["invariant"] + terms["varying"])
    error = abs(parts - whole) / whole
    return Claim(
        "for a binary mask the two losses of the latent add up to that of the action on the whole latent",
        f"{parts:.6g} and {whole:.6g}, {error:.0e} apart",
        error < ROUNDING,
    )


# -- pictures ------------------------------------------------------------------------------------------------


def _pictures(
    model: LatentActionModel, tested: tuple[Tensor, Tensor, Tensor], layered: Learned
) -> list[Picture]:
    few = Examples(*tested).first(6)
    return [
        Picture(
            "turned",
            "A turned latent, decoded",
            "Digits that training never saw, the same turned by random angles under a square that stays, "
            "and what the model makes by turning the varying channels of its latent.",
            transformed_images(model, few),
        ),
        Picture(
            "swapped",
            "What varies of one image, what stays of another",
            "Each picture is decoded from the varying channels of the image at the left of its row and the "
            "other channels of the one above its column. If the partition is right, it has the digit of its "
            "row and the square of its column. Framed pictures have both parts of one image.",
            swapped_parts(model, few.x[:5]),
        ),
        Picture(
            "mask",
            "A mask while it is learned",
            "Every line is a latent channel of the scenes in layers; above the dashed line it varies. Blue "
            "channels see the object alone, which turns, orange ones the background, which stays.",
            _mask_figure(layered),
        ),
    ]


def _mask_figure(layered: Learned) -> Figure:
    half = layered.model.channels // 2
    steps = np.arange(1, len(layered.logits) + 1)
    threshold = layered.model.threshold
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 3.4), layout="constrained")
        axes = figure.subplots()
        for start, colour, label in ((0, BLUE, "sees the object"), (half, ORANGE, "sees the background")):
            lines = axes.plot(steps, layered.logits[:, start : start + half], color=colour, linewidth=1)
            lines[0].set_label(label)
        axes.axhline(math.log(threshold / (1 - threshold)), color=GREY, linestyle="--", linewidth=1)
        axes.set_xlabel("training step")
        axes.set_ylabel("logit of the channel's mask")
        axes.set_xlim(0, steps[-1])
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    return figure
