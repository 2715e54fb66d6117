"""Conformation and rotation of a simulated body: docs/results/two_domains.md and its figures.

    python -m bench.experiments.two_domains [--budget cpu|full]

A spatial-VAE and ordinary variational autoencoders learn the same simulated particle images; what they say of
other images of the same body is compared with how these were made.
"""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from matplotlib.figure import Figure
from torch import Tensor

from bench.experiments.comparing import largest
from bench.experiments.two_domains_figures import draw_figures
from equikernels.metrics import circular_correlation
from equikernels.models.data import Dataset
from equikernels.models.engine import (
    OptimizerOptions,
    Run,
    RunConfiguration,
    TrainingOptions,
    default_configuration,
)
from equikernels.models.engine.results import (
    Budget,
    Cell,
    Column,
    Experiment,
    Finished,
    Result,
    best_numbers,
    experiment_main,
)
from equikernels.models.engine.runs import open_dataset, split_dataset
from equikernels.models.spatial_vae import SpatialVAE
from equikernels.models.spatial_vae.tasks import SpatialVAEOptions

SEEDS = (0, 1)
TEST_SEED, TEST_COUNT = 1000, 2000
SPATIAL = "spatial-VAE, 1 latent and the pose"
PLAIN = {latents: f"ordinary VAE, {latents} latent{'s' if latents > 1 else ''}" for latents in (1, 2, 4)}
"""The last has as many numbers as the spatial-VAE has in all."""

PUBLISHED = {"conformation": 0.95, "rotation": 0.92, "ordinary": 0.09}
MARGIN = 0.05

INTRODUCTION = """
The stand-in for the simulated integrins of the spatial-VAE paper (Bepler et al., 2019, arXiv 1909.11663): a
body of two domains, one of which swings, simulated by the package itself
(`load_dataset("two-domains")`, see the [data page](../data.md)), so nothing is downloaded. Every image is a
projection in a random conformation, turned by a random angle, moved by a pixel or so, under white noise. The
paper's images were made from PDB entry 5HDB: the tasks are alike, the images are not.

*Conformation*: Pearson's correlation, without its sign, of a content latent with the conformation, on 2000
new images; of several latents that one is taken which correlates best on the training images. *Rotation*:
circular correlation of the angle with the true one (Jammalamadaka and Sarma, the form for uniform marginals);
*up to half turns*: the same of the doubled angles, which a model that confuses the two ends of the body still
gets right. Latents and angles are means of the posterior. *ELBO*: of the validation images, in nats per
image; the spatial-VAE's is no bound on the likelihood, because the mean of its angle is free.

The cpu budget shrinks the paper's recipe: images of 28 x 28 pixels, 64 hidden units in the decoder and 256
in the encoder, Adam with 1e-3 for 30 epochs. Its settings come from trials with seed 0, judged on images that
are not those of the table. A first body was nearly straight: with the content held back for one epoch (the
paper: two of 500) half of its angles stayed wrong by half a turn, and the content told the two ends apart.
Since then the body has a bend, as an integrin has, and the content is held back for eight epochs. These
two changes were made knowing the true angles and conformations of the trials.
"""


# -- the runs ------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Size:
    """What a budget trains on and for how long."""

    images: int
    pixels: int
    spatial: dict[str, Any]
    plain: dict[str, Any]
    training: TrainingOptions
    optimizer: OptimizerOptions


SIZES: dict[Budget, Size] = {
    # A tenth of the pixels and of the hidden units, and a learning rate for few steps.
    "cpu": Size(
        images=10000,
        pixels=28,
        spatial={"hidden": 64, "encoder_hidden": 256, "z_delay": 8},
        plain={"hidden": 256},
        training=TrainingOptions(epochs=30, batch_size=100, validate_epochs=2),
        optimizer=OptimizerOptions(learning_rate=1e-3),
    ),
    # The paper's: 2 x 500 units, 500 epochs, content delayed by two.
    "full": Size(
        images=20000,
        pixels=40,
        spatial={"hidden": 500, "z_delay": 2},
        plain={"hidden": 500},
        training=TrainingOptions(epochs=500, batch_size=100, validate_epochs=10),
        optimizer=OptimizerOptions(learning_rate=1e-4),
    ),
}


def make_cells(size: Size, seeds: Sequence[int] = SEEDS) -> list[Cell]:
    """The spatial-VAE first, every seed of it."""
    spatial = SpatialVAEOptions(
        **{
            "latent_dim": 1,
            "likelihood": "gaussian",
            "theta_prior": math.pi,
            "theta_mean_penalty": False,
            "shift_prior": 1.0,
            "mask": "disc",
            "samples": 1,
            **size.spatial,
        }
    )
    plain = {"likelihood": "gaussian", "mask": "disc", "samples": 1, "rotation": False, "translation": False}
    rows = {SPATIAL: spatial}
    for latents, row in PLAIN.items():
        rows[row] = SpatialVAEOptions(**{**plain, "latent_dim": latents, "decoder": "plain", **size.plain})
    return [Cell(row, _configuration(size, options, seed)) for row, options in rows.items() for seed in seeds]


def _configuration(size: Size, options: SpatialVAEOptions, seed: int) -> RunConfiguration[Any]:
    return dataclasses.replace(
        default_configuration("spatial-vae"),
        model=options,
        data="two-domains",
        data_options=(f"count={size.images}", f"size={size.pixels}"),
        seed=seed,
        training=size.training,
        optimizer=size.optimizer,
    )


# -- what is measured ----------------------------------------------------------------------------------------


class Answers(NamedTuple):
    """Means of the posterior of images, and how these were made."""

    z: Tensor
    """(N, Z)."""
    theta: Tensor | None
    """(N,), radians."""
    conformation: Tensor
    """(N,)."""
    true_theta: Tensor
    """(N,), radians."""


@torch.no_grad()
def answers(model: SpatialVAE, dataset: Dataset, part: int = 1000) -> Answers:
    """What a model says about all images of a data set."""
    said = []
    for numbers in torch.arange(len(dataset)).split(part):
        batch = dataset.fetch(numbers)
        theta, _, z = model.parts(model.encode(batch["image"]).mean)
        said.append((z, theta, batch["conformation"], batch["theta"]))
    contents, angles, conformations, true_angles = zip(*said, strict=True)
    turns = None if angles[0] is None else torch.cat(angles)
    return Answers(torch.cat(contents), turns, torch.cat(conformations), torch.cat(true_angles))


def correlations(z: Tensor, conformation: Tensor) -> Tensor:
    """Pearson's correlation of every latent with the conformation, (Z,); 0 for a latent that is constant."""
    both = torch.cat([z, conformation[:, None]], dim=1).double()
    centred = both - both.mean(0)
    scale = centred.norm(dim=0)
    products = centred[:, :-1].T @ centred[:, -1]
    return torch.where(scale[:-1] > 0, products / (scale[:-1] * scale[-1]), 0.0)


def unseen(configuration: RunConfiguration[Any]) -> RunConfiguration[Any]:
    """The same with images that no run has seen."""
    kept = tuple(o for o in configuration.data_options if not o.startswith(("count=", "seed=")))
    return dataclasses.replace(
        configuration, data_options=(*kept, f"count={TEST_COUNT}", f"seed={TEST_SEED}")
    )


class Judged(NamedTuple):
    """A trained model, its answers on the test images, and the latent chosen on the training images."""

    model: SpatialVAE
    answers: Answers
    latent: int


def judge(run: Run) -> Judged:
    """A finished run, judged."""
    dataset = open_dataset(run.configuration)
    model = run.load_model(dataset)
    assert isinstance(model, SpatialVAE)
    learnt = answers(model, split_dataset(dataset, run.configuration)[0])
    latent = int(correlations(learnt.z, learnt.conformation).abs().argmax())
    return Judged(model, answers(model, open_dataset(unseen(run.configuration))), latent)


def measure(run: Run) -> dict[str, float]:
    """The numbers of the table."""
    judged = judge(run)
    return numbers_of(judged.answers, judged.latent) | {"elbo": best_numbers(run)["elbo"]}


def numbers_of(said: Answers, latent: int) -> dict[str, float]:
    """How far the answers are the truth."""
    numbers = {"conformation": float(correlations(said.z, said.conformation)[latent].abs())}
    if said.theta is not None:
        pairs = said.theta.double(), said.true_theta.double()
        numbers["rotation"] = float(circular_correlation(*pairs, uniform=True))
        doubled = (2 * angles for angles in pairs)
        numbers["rotation up to half turns"] = float(circular_correlation(*doubled, uniform=True))
    return numbers


# -- findings ------------------------------------------------------------------------------------------------


def findings(results: Mapping[Cell, Result]) -> str:
    """The published claims beside the numbers of every seed."""
    spatial = [result.numbers for cell, result in results.items() if cell.row == SPATIAL]
    plain = [result.numbers["conformation"] for cell, result in results.items() if cell.row != SPATIAL]
    claims: list[tuple[str, str, bool | None]] = []
    for name, what in (("conformation", "conformation"), ("rotation", "rotation (circular)")):
        values = [numbers[name] for numbers in spatial]
        claims.append(
            (
                f"the spatial-VAE finds the {what}: {PUBLISHED[name]:.2f}",
                _listed(values),
                None if not values else all(value >= PUBLISHED[name] - MARGIN for value in values),
            )
        )
    claims.append(
        (
            f"ordinary VAEs do not find the conformation: {PUBLISHED['ordinary']:.2f} and less",
            _listed(plain),
            None if not plain else largest(plain) <= PUBLISHED["ordinary"] + MARGIN,
        )
    )
    own = [numbers["conformation"] for numbers in spatial]
    claims.append(
        (
            "the spatial-VAE finds it better than any ordinary one",
            f"{_listed(own)} against at most {largest(plain):.2f}" if own and plain else "-",
            None if not (own and plain) else all(value > largest(plain) for value in own),
        )
    )
    words = {None: "no run yet", True: "confirmed", False: "**not confirmed**"}
    lines = ["| published | here, every run | verdict |", "|---|---|---|"]
    lines += [f"| {claim} | {here} | {words[verdict]} |" for claim, here, verdict in claims]
    rule = (
        f"A number counts as confirmed where every seed comes within {MARGIN} of the published one or beyond "
        "it. The images are others than the paper's, so a number that is not confirmed here says nothing "
        "about that of the paper."
    )
    half = [numbers["rotation up to half turns"] for numbers in spatial]
    turns = [numbers["rotation"] for numbers in spatial]
    told = [
        f"- A run of the spatial-VAE knows the body's axis but confuses its ends: rotation {one:.2f}, up to "
        f"half turns {two:.2f}."
        for one, two in zip(turns, half, strict=True)
        if two - one > 0.2
    ]
    figures = (
        "![Correlations of every run](../figures/two_domains_correlations.png)\n\n"
        "![Latents against the truth](../figures/two_domains_latents.png)\n\n"
        "![The body along its content latent](../figures/two_domains_content.png)"
    )
    return "\n\n".join(["\n".join(lines), rule, *(["\n".join(told)] if told else []), figures])


def _listed(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.2f}" for value in values) or "-"


def figures(finished: Finished) -> dict[str, Figure]:
    """All figures; what models say is that of the first run of each kind."""
    first = finished.first()
    spatial, plain = (
        judge(finished.run(first[row])) if row in first else None for row in (SPATIAL, PLAIN[1])
    )
    return draw_figures(finished.results, spatial, plain)


EXPERIMENT = Experiment(
    name="two_domains",
    title="A body with two domains: conformation and rotation",
    introduction=INTRODUCTION,
    command="python -m bench.experiments.two_domains",
    cells={budget: make_cells(size) for budget, size in SIZES.items()},
    columns=[
        Column("conformation", "conformation", ".3f"),
        Column("rotation", "rotation", ".3f"),
        Column("up to half turns", "rotation up to half turns", ".3f"),
        Column("ELBO", "elbo", ".1f"),
    ],
    measure=measure,
    findings=findings,
    figures=figures,
)


def main(
    arguments: Sequence[str] | None = None, root: Path = Path(), experiment: Experiment = EXPERIMENT
) -> int:
    return experiment_main(lambda: experiment, arguments, root)


if __name__ == "__main__":
    # Small matrices: one thread is fastest, and its sums have one order.
    torch.set_num_threads(1)
    sys.exit(main())
