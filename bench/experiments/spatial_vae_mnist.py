"""Content told from pose on MNIST: docs/results/spatial_vae_mnist.md and its figures.

    python -m bench.experiments.spatial_vae_mnist [--budget cpu|full]

Three settings, from upright digits to widely shifted ones; in each the spatial variational autoencoder, the
same with a fixed pose, and ordinary ones. EQUIKERNELS_DATA names a folder whose folder mnist has the four idx
files of MNIST.
"""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from matplotlib.figure import Figure

from bench.experiments.spatial_vae_findings import FIGURES, MODELS, PAGE_NAME, Place, findings
from equikernels.models.data import Dataset
from equikernels.models.engine import (
    Batches,
    OptimizerOptions,
    Run,
    RunConfiguration,
    TrainingOptions,
)
from equikernels.models.engine.processes import Processes
from equikernels.models.engine.results import (
    Budget,
    Cell,
    Column,
    Experiment,
    Finished,
    experiment_main,
)
from equikernels.models.engine.runs import open_dataset
from equikernels.models.spatial_vae import SpatialVAE
from equikernels.models.spatial_vae.figures import interpolation, manifold, reconstructions
from equikernels.models.spatial_vae.pose_agreement import pose_agreement
from equikernels.models.spatial_vae.tasks import SpatialVAEOptions, SpatialVAETask

COMMAND = f"python -m bench.experiments.{PAGE_NAME}"
DATA = "$EQUIKERNELS_DATA/mnist"

TURN, NEAR, FAR = math.pi / 4, 1.4, 14.0
SETTINGS: dict[str, tuple[float, float, float, float]] = {
    "upright": (0.0, 0.0, math.pi / 8, NEAR),
    "turned, shifted a little": (TURN, NEAR, TURN, NEAR),
    "turned, shifted widely": (TURN, FAR, TURN, FAR),
}
"""Of the images' motions, the standard deviations in radians and pixels; of the priors, the same."""

POSE = 3
"""Numbers of a pose: an angle and two of a shift."""

TEST_MOTIONS, TRAINING_MOTIONS = 1, 0
"""Seeds: no test image is moved as a training image was."""

INTRODUCTION = f"""
Made by the command below; every number and verdict is computed by it. The model and its losses:
[spatial-VAE](../spatial_vae.md).

**Data.** MNIST, the four official idx files (yann.lecun.com/exdb/mnist, and mirrors of it) in the folder
`{DATA}`. *Upright*: the images as they are. *Turned, shifted a little*: every image is moved once and for
all, turned by an angle from N(0, (pi/4)^2), then shifted by N(0, 1.4^2) pixels each way. *Widely*: shifted
by N(0, 14^2) pixels, which takes much of the ink out of the frame. Test images have motions of their own.

**Models.** *spatial*: content z, angle and shift are inferred. *Fixed pose*: the same decoder of
coordinates without angle and shift. *Vanilla*: an ordinary decoder that draws all pixels at once from z;
once more with three more numbers, as many as spatial has with its pose. The prior of the angle has standard
deviation pi/4, of upright digits pi/8; that of the shift that of the data, of upright digits 1.4 pixels.

**Numbers.** ELBO: the evidence lower bound in nats per test image, mean over images, expectations by 4
samples of the latents of each. At the mean: with the likelihood at the posterior's mean in their place, no
bound. Angle: circular correlation of the inferred with the true angles. Shift: Pearson's of the inferred
with the true shifts, mean of both directions.

**Budgets.** *full* is the published recipe: two layers of 500 tanh units in encoder and decoder, Adam with
1e-4, batches of 100, 60000 images (1000 of them for validation), 100 epochs, z of 2 and 10, 5 seeds, all
test images. *cpu* is small: 3000 images (300 for validation), 20 epochs in batches of 25, Adam with 3e-3,
64 units in each layer of the decoders and 256 in those of the encoders, z = 2, 2 seeds, every fifth test
image. Batch and rate were chosen by the validation bound of one spatial run, where 3 such epochs did as
much as 10 in batches of 50 with 1e-3. The weights are those of the epoch with the best bound on the
validation images.

The decoder of coordinates is the fused operation, by default; its step beside a textbook one is in [the
benchmarks](benchmarks.md).
"""


# -- runs ----------------------------------------------------------------------------------------------------


def cells(budget: Budget) -> list[Cell]:
    """All runs of a budget, seed by seed: an interrupted table can be read."""
    small = budget == "cpu"
    seeds, contents = (range(2), (2,)) if small else (range(5), (2, 10))
    return [
        Cell(str(place), _configuration(place, seed, small))
        for seed in seeds
        for z in contents
        for setting in SETTINGS
        for place in (Place(setting, z, model) for model in MODELS)
    ]


def _configuration(place: Place, seed: int, small: bool) -> RunConfiguration[SpatialVAEOptions]:
    turned, shifted, theta_prior, shift_prior = SETTINGS[place.setting]
    moved = (f"turned={turned!r}", f"shifted={shifted!r}", f"motion_seed={TRAINING_MOTIONS}")
    spatial, plain = place.model == "spatial", place.model.startswith("vanilla")
    return RunConfiguration(
        task=SpatialVAETask.name,
        data=DATA,
        data_options=("split=train", *(moved if turned else ())),
        limit=3000 if small else None,
        validation=0.1 if small else 1 / 60,
        seed=seed,
        model=SpatialVAEOptions(
            latent_dim=place.z + (POSE if place.model == "vanilla, 3 more numbers" else 0),
            hidden=64 if small else 500,
            encoder_hidden=256 if small else 500,
            theta_prior=theta_prior,
            shift_prior=shift_prior,
            rotation=spatial,
            translation=spatial,
            decoder="plain" if plain else "spatial",
        ),
        training=TrainingOptions(
            epochs=20 if small else 100,
            batch_size=25 if small else 100,
            validate_epochs=5,
            log_steps=100,
        ),
        optimizer=OptimizerOptions(learning_rate=3e-3 if small else 1e-4),
    )


def open_test(configuration: RunConfiguration[SpatialVAEOptions], moved: bool = True) -> Dataset:
    """The test images of a run, moved as its training images are, by motions of their own.

    All of them, or every fifth where the run has a part of the training images.
    """
    changes = {
        "split=train": "split=test",
        f"motion_seed={TRAINING_MOTIONS}": f"motion_seed={TEST_MOTIONS}",
    }
    options = [changes.get(option, option) for option in configuration.data_options]
    if not moved:
        options = [option for option in options if option.partition("=")[0] not in ("turned", "shifted")]
    dataset = open_dataset(dataclasses.replace(configuration, data_options=tuple(options)))
    return dataset if configuration.limit is None else dataset.subset(range(0, len(dataset), 5))


@torch.no_grad()
def measure(run: Run) -> dict[str, float]:
    """Bounds on the test images; how far the inferred poses follow the true ones; what the frame cut off."""
    configuration = run.configuration
    device = Processes(configuration.training.device).device
    test, still = open_test(configuration), open_test(configuration, moved=False)
    model = run.load_model(test, device=device)
    assert isinstance(model, SpatialVAE)
    batches = Batches(test, torch.arange(len(test)), 100, seed=configuration.seed, epoch=-1, device=device)
    task = run.task
    assert isinstance(task, SpatialVAETask)
    numbers = dict(task.evaluate(model, batches))
    if "turn" not in test.fields:
        return numbers
    whole = test.fetch(torch.arange(len(test)))
    ink = whole["image"].flatten(1).sum(1) / still.fetch(torch.arange(len(still)))["image"].flatten(1).sum(1)
    numbers["mostly_outside"] = float((ink < 0.5).double().mean())
    parts = model.parts(model.encode(whole["image"].to(device)).mean)
    return numbers | pose_agreement(parts, whole["turn"].to(device), whole["shift"].to(device))


def make() -> Experiment:
    return Experiment(
        name=PAGE_NAME,
        title="Content and pose of digits: spatial-VAE on MNIST",
        introduction=INTRODUCTION,
        command=COMMAND,
        cells={"cpu": cells("cpu"), "full": cells("full")},
        columns=[
            Column("ELBO", "elbo", ".2f"),
            Column("at the mean", "elbo_at_mean", ".2f"),
            Column("angle", "theta_correlation", ".3f"),
            Column("shift", "shift_correlation", ".3f"),
        ],
        measure=measure,
        findings=findings,
        figures=draw,
    )


# -- figures -------------------------------------------------------------------------------------------------


def draw(finished: Finished) -> dict[str, Figure]:
    """Figures of the first run of every row with the smallest z, where no row that they show failed."""
    least = min(cell.configuration.model.latent_dim for cell in finished.results)
    first = finished.first()
    figures = {}
    for kind, (setting, models) in FIGURES.items():
        rows = {model: str(Place(setting, least, model)) for model in models}
        if not first.keys() >= set(rows.values()):
            continue
        runs = {model: finished.run(first[row]) for model, row in rows.items()}
        test = open_test(next(iter(runs.values())).configuration)
        loaded = {model: run.load_model(test) for model, run in runs.items()}
        spatial = {model: module for model, module in loaded.items() if isinstance(module, SpatialVAE)}
        figures[f"{finished.budget}_{kind}"] = _figure(kind, spatial, test)
    return figures


def _figure(kind: str, models: Mapping[str, SpatialVAE], test: Dataset) -> Figure:
    if kind == "manifolds":
        return manifold(models)
    (model,) = models.values()
    # The first test image of every digit.
    labels = test.fetch(torch.arange(min(len(test), 200)))["label"].tolist()
    images = test.fetch(torch.tensor([labels.index(digit) for digit in sorted(set(labels))]))["image"]
    if kind == "reconstructions":
        return reconstructions(model, images)
    return interpolation(model, images[2], images[-1])


def main(arguments: Sequence[str] | None = None, root: Path = Path()) -> int:
    return experiment_main(make, arguments, root)


if __name__ == "__main__":
    sys.exit(main())
