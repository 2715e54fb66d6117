"""The spatial autoencoder's part of the demonstration: digits that were turned and shifted, told from it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from equikernels.models.data import SampleDraws, epoch_order, load_dataset
from equikernels.models.data.moving import Motion
from equikernels.models.data.transforms import pad_to
from equikernels.models.engine.miniature import Claim, Miniature, Picture, Report
from equikernels.models.spatial_vae.figures import manifold, pose_scatter, reconstructions
from equikernels.models.spatial_vae.model import SpatialVAE
from equikernels.models.spatial_vae.pose_agreement import pose_agreement
from equikernels.ops import rotate

__all__ = ["STEPS", "run"]

DIGIT, SIZE = 14, 16
"""Pixels along each side: of a digit, enlarged from 8 x 8, and of the image it lies in. In smaller images
there are too few pixels to be explained, and content is not worth its cost."""

TURN, SHIFT = math.pi / 4, 1.5
"""Standard deviations of the motions, radians and pixels; the priors have the same."""

EPOCHS, BATCH, RATE, HIDDEN, ENCODER = 24, 25, 3e-3, 64, 128
SAMPLES = 4
"""Samples of the latents of every image in the bounds."""

EVERY = 6
"""Epochs of a step that is reported."""

MODELS = {"spatial": True, "fixed pose": False}
"""Whether images have a pose."""
STEPS = len(MODELS) * (EPOCHS // EVERY) + 1

FOLLOWS = 0.5
"""The correlation from which on inferred poses are said to follow the true ones."""


class MovedDigits(NamedTuple):
    """Digits, each turned and then shifted by a motion of its own."""

    images: Tensor
    """(N, 1, 16, 16), 0 to 1."""
    turn: Tensor
    """(N,), radians, counter-clockwise."""
    shift: Tensor
    """(N, 2), pixels to the right and down."""
    label: Tensor
    """(N,)."""
    numbers: Tensor
    """(N,), numbers of the samples."""


def moved_digits(seed: int) -> tuple[MovedDigits, MovedDigits]:
    """Four fifths of scikit-learn's digits for training, and a fifth for tests."""
    parts = load_dataset("digits").split({"train": 0.8, "test": 0.2}, seed)
    motion = Motion(TURN, SHIFT, seed)
    found = []
    for part in parts.values():
        batch = part.fetch(torch.arange(len(part)))
        rows = batch["index"].numpy()
        turn, shift = motion.turns(rows), motion.shifts(rows)
        large = interpolate(batch["image"], (DIGIT, DIGIT), mode="bilinear")
        # Clamped, because sums of weights can exceed one by rounding.
        moved = rotate(pad_to(large, SIZE), turn, translation=shift).clamp(0, 1)
        found.append(MovedDigits(moved, turn, shift, batch["label"], batch["index"]))
    return found[0], found[1]


def learn(digits: MovedDigits, seed: int, report: Report, name: str) -> SpatialVAE:
    """A model of `MODELS` trained on all of them; `report` is called every few epochs."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = SpatialVAE(
            SIZE, 2, hidden=HIDDEN, encoder_hidden=ENCODER, theta_prior=TURN, shift_prior=SHIFT,
            activation="leaky_relu", bilinear=True,
            rotation=MODELS[name], translation=MODELS[name],
        )  # fmt: skip
    optimizer = torch.optim.Adam(model.parameters(), RATE)
    for epoch in range(EPOCHS):
        for chosen in epoch_order(seed, epoch, len(digits.images)).split(BATCH):
            draws = SampleDraws(seed, epoch, digits.numbers[chosen])
            loss = model.loss(digits.images[chosen], draws)["loss"]
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if (epoch + 1) % EVERY == 0:
            report(f"{name}, {epoch + 1} of {EPOCHS} epochs")
    return model.eval()


@torch.no_grad()
def bound(model: SpatialVAE, digits: MovedDigits, seed: int) -> float:
    """The evidence lower bound in nats per image."""
    shape = (SAMPLES, model.pose_dim + model.latent_dim)
    noise = SampleDraws(seed, -1, digits.numbers).normal("evaluation", shape)
    return -sum(float(model.loss(digits.images, each)["loss"]) for each in noise.unbind(1)) / SAMPLES


def run(seed: int, report: Report) -> Miniature:
    """Train the spatial autoencoder and the same with a fixed pose on moved digits, and compare them.

    About half a minute of processor time; `report` is called `STEPS` times.
    """
    train, test = moved_digits(seed)
    trained = {name: learn(train, seed, report, name) for name in MODELS}
    bounds = {name: bound(model, test, seed) for name, model in trained.items()}
    spatial = trained["spatial"]
    with torch.no_grad():
        parts = spatial.parts(spatial.encode(test.images).mean)
    agreement = pose_agreement(parts, test.turn, test.shift)
    pictures = _pictures(trained, test)
    report("pictures")
    gap = bounds["spatial"] - bounds["fixed pose"]
    angle, shift = agreement["theta_correlation"], agreement["shift_correlation"]
    return Miniature(
        title="Content, angle and shift",
        introduction=(
            f"{len(train.images)} handwritten digits are turned by random angles (standard deviation 45°) "
            f"and shifted (by {SHIFT:g} pixels each way). A variational autoencoder that draws every pixel "
            "at coordinates which turn and move learns from them, without being told any angle or shift, to "
            "say what a digit is by two numbers and where it is by three. Beside it learns the same network "
            "whose coordinates are fixed, with the two numbers alone. All numbers are of "
            f"{len(test.images)} other digits, moved likewise."
        ),
        claims=[
            Claim(
                "with the pose as latents, the bound on the likelihood is higher than with a fixed pose",
                f"{gap:+.1f} nats per image",
                gap > 0,
            ),
            Claim(
                f"inferred angles follow the true ones, circular correlation above {FOLLOWS:g}",
                f"{angle:.2f}",
                angle > FOLLOWS,
            ),
            Claim(
                f"inferred shifts follow the true ones, correlation above {FOLLOWS:g}",
                f"{shift:.2f}",
                shift > FOLLOWS,
            ),
        ],
        pictures=pictures,
        headings=("model", "ELBO (nats per image)", "angle", "shift"),
        rows=[
            ("spatial", f"{bounds['spatial']:.1f}", f"{angle:.2f}", f"{shift:.2f}"),
            ("fixed pose", f"{bounds['fixed pose']:.1f}", "-", "-"),
        ],
        note=(
            "ELBO: evidence lower bound, higher is better. Angle and shift: correlations of inferred with "
            "true motions, 1 is full recovery."
        ),
    )


def _pictures(trained: Mapping[str, SpatialVAE], test: MovedDigits) -> list[Picture]:
    labels = test.label.tolist()
    first = torch.tensor([labels.index(digit) for digit in sorted(set(labels))])
    spatial = trained["spatial"]
    with torch.no_grad():
        parts = spatial.parts(spatial.encode(test.images).mean)
    return [
        Picture(
            "upright",
            "Turned digits, set upright",
            "Test digits as they are seen; what the model makes of them; and the same content at pose zero. "
            "The model has never seen which way is up: it is the commonest one.",
            reconstructions(spatial, test.images[first]),
        ),
        Picture(
            "poses",
            "Poses that nobody told",
            "Inferred against true motions of the test digits. The dashed lines are full recovery; for "
            "angles up to the model's own idea of upright.",
            pose_scatter(parts, test.turn, test.shift),
        ),
        Picture(
            "manifold",
            "What two numbers hold",
            "Digits drawn from each part of the plane of contents. With a pose of its own the two numbers "
            "are left to the content; with a fixed pose they hold angles and shifts as well.",
            manifold(trained),
        ),
    ]
