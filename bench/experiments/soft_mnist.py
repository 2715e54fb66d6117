"""MNIST by softness: two layers between pixel grids, soft or with the residual pathway prior.

``python -m bench.experiments.soft_mnist --budget cpu|full``
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from bench.experiments.comparing import deviation, largest
from bench.experiments.soft_mnist_figure import softness_figure
from equikernels.metrics import equivariance_error
from equikernels.models.data import Dataset
from equikernels.models.engine import OptimizerOptions, RunConfiguration, TrainingOptions
from equikernels.models.engine.results import Cell, Column, Experiment, Finished, Result, experiment_main
from equikernels.models.engine.runs import Run, open_dataset
from equikernels.models.engine.validation import validation_batches
from equikernels.models.soft_equivariance import SoftGridClassifier
from equikernels.models.soft_equivariance.tasks import SoftGridOptions, SoftGridTask

NAME = "soft_mnist"
DATA = "$EQUIKERNELS_DATA/mnist"
LEVELS = (0.0, 0.25, 0.5, 0.75, 1.0)
PUBLISHED = {0.7: 85.52, 0.8: 85.22, 0.9: 85.11}
"""cAcc (%) by softness; group convolutions have 83.08, 81.25 and 82.74 with 2, 3 and 4 banks of filters."""

CERTIFIED_IMAGES = 500
SLACK = 1e-9
"""Bounds below it are zero but for rounding in float64."""

INTRODUCTION = """How much a share of symmetry-breaking directions helps a classifier of upright digits that
is asked about turned ones too ("Tunable Soft Equivariance with Guarantees"). The network is
`SoftGridClassifier`: two layers between pixel grids with ReLU, means over 2 x 2 pixels between them, means
over all pixels and a linear layer. Its layers are softly equivariant, or a residual pathway prior: the same
share of a free layer beside a strict one. At softness 0 and 1 both are the same, so the prior is trained
between these alone. No image is turned in training.

The data are the four files of MNIST (Yann LeCun, Corinna Cortes, Christopher Burges), in a folder `mnist`
of the folder that the environment variable `EQUIKERNELS_DATA` names. Images are padded to 32 x 32 pixels.
Budget cpu takes 8000 of the 60000 training images, shrinks all by means over 2 x 2 pixels to 16 x 16, has 2
and 32 channels and trains for 14 epochs; its learning rate, 0.015, was the best of 0.005, 0.015 and 0.03 for
the accuracy on validation images at softness 0 and 1 of C_4. Budget full takes all of the images at 32 x 32,
8 and 32 channels, 50 epochs, five seeds and a learning rate of 0.003. Adam, batch 128, a learning rate that
falls linearly to zero; a fifth of the training images is kept for validation, and the epoch with the best
cAcc on them is measured. Everything below is measured on the 10000 test images; errors are compared with
bounds in float64.

- *Acc*, *aAcc*: accuracy upright, and with every image turned by a random element of the group: quarter
  turns (0 among them), which move pixels exactly, for C_4; angles uniformly within ± 30 degrees, bilinear,
  for SO(2), and within ± 15 and ± 45 degrees in their columns. *cAcc*: the square root of Acc times aAcc.
- *iErr*: the mean divergence KL(p(x) || p(gx)) in nats of the same images and elements.
- *Certified*, *measured*: for C_4 the bound on the change of the logits under the worst turn and the change
  itself, over the length of the logits, each the median of 500 images. For SO(2) no bound of the whole
  network is known, because ReLU does not commute with turns between pixels: the numbers are those of the
  first layer alone, without its bias, within 30 degrees, by the spectral representation of the grid, over
  the operator norm of its weight.
- *Worst ratio*: the largest measured change over its bound; above 1 the guarantee would be broken."""


# -- the runs ------------------------------------------------------------------------------------------------


def cell(group: str, layer: str, softness: float, seed: int, base: RunConfiguration[Any]) -> Cell:
    """A run like `base` with one group, kind of layers, softness and seed."""
    model = dataclasses.replace(base.model, group=group, layer=layer, softness=softness)
    name = {"C4": "C_4", "SO2": "SO(2)"}[group]
    return Cell(f"{name}, {layer}, s = {softness:g}", dataclasses.replace(base, model=model, seed=seed))


def cells(base: RunConfiguration[Any], levels: Sequence[float], seeds: Sequence[int]) -> list[Cell]:
    """All levels of softness of both groups; the prior where it differs from soft layers."""
    return [
        cell(group, layer, softness, seed, base)
        for group in ("C4", "SO2")
        for layer in ("soft", "prior")
        for softness in levels
        if layer == "soft" or 0 < softness < 1
        for seed in seeds
    ]


def configurations() -> dict[str, RunConfiguration[Any]]:
    """What the runs of a budget have in common."""
    training = TrainingOptions(
        epochs=14, batch_size=128, device="cpu", validate_epochs=2, monitor="combined_accuracy", maximize=True
    )
    cpu: RunConfiguration[Any] = RunConfiguration(
        task="soft-grid",
        model=SoftGridOptions(size=32, shrink=2, channels=(2, 32), classes=10),
        data=DATA,
        data_options=("split=train",),
        limit=8000,
        training=training,
        optimizer=OptimizerOptions(learning_rate=0.015, schedule="linear"),
    )
    full = dataclasses.replace(
        cpu,
        limit=None,
        model=dataclasses.replace(cpu.model, shrink=1, channels=(8, 32)),
        training=dataclasses.replace(training, epochs=50, device="auto", validate_epochs=1),
        optimizer=OptimizerOptions(learning_rate=3e-3, schedule="linear"),
    )
    return {"cpu": cpu, "full": full}


# -- what is measured ----------------------------------------------------------------------------------------


def test_images(run: Run) -> Dataset:
    """The test part of the data that a run was trained on; of data without parts all."""
    options = tuple(
        "split=test" if option == "split=train" else option for option in run.configuration.data_options
    )
    return open_dataset(dataclasses.replace(run.configuration, data_options=options))


def measure(run: Run) -> dict[str, float]:
    """The numbers of a finished run, on test images."""
    dataset = test_images(run)
    model = run.load_model(dataset)
    assert isinstance(model, SoftGridClassifier)
    task = run.task
    assert isinstance(task, SoftGridTask)
    batches = validation_batches(dataset, run.configuration, "cpu")
    batches.batch_size = 500
    chosen = torch.arange(min(CERTIFIED_IMAGES, len(dataset)))
    images = task.padded(dataset.fetch(chosen)["image"]).double()
    with torch.no_grad():
        numbers = dict(task.evaluate(model, batches))
        if task.configuration.group == "SO2":
            for angle in (15, 45):
                other = SoftGridTask(dataclasses.replace(task.configuration, angle=float(angle)))
                numbers[f"turned_accuracy_{angle}"] = other.evaluate(model, batches)["turned_accuracy"]
            return numbers | first_layer_errors(model, images, math.radians(task.configuration.angle))
        return numbers | network_errors(model, images)


def network_errors(model: SoftGridClassifier, images: Tensor) -> dict[str, float]:
    """Certified and measured changes of the logits under quarter turns of float64 images (B, C, S, S)."""
    bound = model.certificate(images).bound
    assert bound is not None
    exact = model.double()
    logits = exact(images)
    changes = torch.stack([(exact(images.rot90(k, (-2, -1))) - logits).norm(dim=1) for k in (1, 2, 3)])
    certified = torch.tensor([bound(float(x.norm())) for x in images], dtype=torch.float64)
    lengths = logits.norm(dim=1)
    worst = changes.amax(0)
    return {
        "certified": float((certified / lengths).median()),
        "measured": float((worst / lengths).median()),
        "worst_ratio": ratio(worst, certified),
    }


def first_layer_errors(model: SoftGridClassifier, images: Tensor, radius: float) -> dict[str, float]:
    """Certified and measured error of the first layer's weight within a radius in radians, over its norm."""
    layer = model.double().first
    grid = layer.projector.rep_in
    assert grid is not None
    weight = layer.projected_weight
    pixels = nn.Sequential(*list(model.network)[:2])(images)
    found = layer.certificate()
    certified = torch.tensor(found.bound(radius=radius, norm="operator"), dtype=torch.float64)
    elements = torch.linspace(-radius, radius, 13, dtype=torch.float64)
    worst = equivariance_error(lambda x: x @ weight.mT, pixels, grid, grid, elements, reduction="max")
    norm = torch.linalg.matrix_norm(weight, ord=2)
    return {
        "certified": float(certified / norm),
        "measured": float(worst / norm),
        "worst_ratio": ratio(worst, certified),
    }


def ratio(measured: Tensor, certified: Tensor) -> float:
    """The largest measured / certified; where the bound is zero but for rounding, 0 if the error is."""
    ratios = torch.where(
        certified > SLACK, measured / certified, torch.where(measured <= SLACK, 0.0, math.inf)
    )
    return float(ratios.max())


# -- what follows from it ------------------------------------------------------------------------------------


def by_level(
    found: Mapping[Cell, Result], group: str, layer: str, number: str
) -> dict[float, dict[int, float]]:
    """A number by softness and seed; the prior has the soft layers' at softness 0 and 1."""
    values: dict[float, dict[int, float]] = {}
    for one, result in found.items():
        model = one.configuration.model
        same = model.layer == layer or model.softness in (0, 1)
        if model.group == group and same and number in result.numbers:
            values.setdefault(model.softness, {})[one.configuration.seed] = result.numbers[number]
    return dict(sorted(values.items()))


def compared(better: Mapping[int, float], worse: Mapping[int, float]) -> list[float]:
    """Differences of two rows, seed by seed, where both have the seed."""
    return [better[seed] - worse[seed] for seed in sorted(better.keys() & worse.keys())]


def spread(values: Sequence[float], scale: float = 100, places: int = 2) -> str:
    """Mean ± standard deviation."""
    mean = f"{scale * statistics.fmean(values):+.{places}f}"
    return mean if len(values) < 2 else f"{mean} ± {scale * deviation(values):.{places}f}"


def findings(found: Mapping[Cell, Result]) -> str:
    """What the finished runs of one budget say about each published claim."""
    groups = [group for group in ("C4", "SO2") if any(c.configuration.model.group == group for c in found)]
    lines = [
        line
        for group in groups
        for line in (*intermediate_best(found, group), *soft_against_prior(found, group))
    ]
    worst = largest(result.numbers["worst_ratio"] for result in found.values())
    kept = "confirmed" if worst <= 1 else "NOT CONFIRMED"
    lines.append(
        f"**No measured error exceeds its bound: {kept}.** The largest ratio in {len(found)} runs is "
        f"{worst:.3f}."
    )
    lines.append(comparison(found))
    budget = "cpu" if any(c.configuration.limit for c in found) else "full"
    picture = f"![cAcc and iErr over softness](../figures/{NAME}_{budget}.png)"
    return "\n\n".join([picture, "\n".join(f"- {line}" for line in lines)])


def intermediate_best(found: Mapping[Cell, Result], group: str) -> list[str]:
    """Is cAcc at some softness between 0 and 1 above both ends, in every seed?"""
    values = by_level(found, group, "soft", "combined_accuracy")
    inner = [level for level in values if 0 < level < 1]
    if not inner or not {0.0, 1.0} <= values.keys():
        return []
    means = {level: statistics.fmean(values[level].values()) for level in inner}
    known = [level for level in inner if not math.isnan(means[level])]
    if not known:
        return []
    best = max(known, key=means.__getitem__)
    margins = {end: compared(values[best], values[end]) for end in (0.0, 1.0)}
    if any(not margin for margin in margins.values()):
        return []
    if all(gain > 0 for margin in margins.values() for gain in margin):
        verdict = "confirmed"
    else:
        above = all(statistics.fmean(margin) > 0 for margin in margins.values())
        verdict = "not confirmed in every seed" if above else "not confirmed"
    against = ", ".join(f"{spread(margin)} points against s = {end:g}" for end, margin in margins.items())
    name = GROUP_NAMES[group]
    return [
        f"**{name}: cAcc is best at an intermediate softness: {verdict}.** The best of {len(known)} levels "
        f"is s = {best:g}, by the test images themselves: {against} (paired by seeds)."
    ]


def soft_against_prior(found: Mapping[Cell, Result], group: str) -> list[str]:
    """Is cAcc of soft layers above the prior's at the same softness?"""
    soft, prior = (by_level(found, group, layer, "combined_accuracy") for layer in ("soft", "prior"))
    margins = {
        level: margin
        for level in soft.keys() & prior.keys()
        if 0 < level < 1 and (margin := compared(soft[level], prior[level]))
    }
    if not margins:
        return []
    always = all(gain > 0 for margin in margins.values() for gain in margin)
    never = all(gain < 0 for margin in margins.values() for gain in margin)
    verdict = "confirmed" if always else "not confirmed" if never else "not confirmed at every level and seed"
    listed = ", ".join(f"{spread(margins[level])} points at s = {level:g}" for level in sorted(margins))
    return [
        f"**{GROUP_NAMES[group]}: soft layers are above the residual pathway prior at equal softness: "
        f"{verdict}.** cAcc: {listed}."
    ]


def comparison(found: Mapping[Cell, Result]) -> str:
    """The published numbers beside those of the same softness, and what keeps them apart."""
    published = ", ".join(f"{number:.2f} at s = {level:g}" for level, number in PUBLISHED.items())
    text = (
        f"**Published cAcc (%): {published}; group convolutions 83.08, 81.25 and 82.74: not comparable.** "
        "Widths, group and angles of the published network are not known here, and no group convolutions "
        "were trained"
    )
    values = by_level(found, "SO2", "soft", "combined_accuracy")
    ours = [
        f"{100 * statistics.fmean(values[level].values()):.2f} at s = {level:g}"
        for level in PUBLISHED
        if level in values
    ]
    if ours:
        text += f"; ours for SO(2) are {', '.join(ours)}"
    if any(one.configuration.limit for one in found):
        text += "; this budget trains on a part of the images, shrunk"
    return text + "."


GROUP_NAMES = {"C4": "C_4", "SO2": "SO(2)"}

COLUMNS = [
    Column("Acc", "accuracy", ".2%"),
    Column("aAcc", "turned_accuracy", ".2%"),
    Column("cAcc", "combined_accuracy", ".2%"),
    Column("iErr", "invariance_error", ".3g"),
    Column("aAcc ± 15°", "turned_accuracy_15", ".2%"),
    Column("aAcc ± 45°", "turned_accuracy_45", ".2%"),
    Column("certified", "certified", ".3g"),
    Column("measured", "measured", ".3g"),
    Column("worst ratio", "worst_ratio", ".2g"),
]


def make_experiment() -> Experiment:
    common = configurations()
    levels = (*LEVELS[:3], *PUBLISHED, *LEVELS[3:])
    return Experiment(
        name=NAME,
        title="MNIST by softness",
        introduction=INTRODUCTION,
        command="python -m bench.experiments.soft_mnist",
        cells={
            "cpu": cells(common["cpu"], LEVELS, (0, 1)),
            "full": cells(common["full"], sorted(levels), range(5)),
        },
        columns=COLUMNS,
        measure=measure,
        findings=findings,
        figures=figures,
    )


def figures(finished: Finished) -> dict[str, Figure]:
    """Curves over softness, a file for each budget."""
    curves = {
        (group, number): {
            layer: by_level(finished.results, group, layer, number) for layer in ("soft", "prior")
        }
        for group in GROUP_NAMES
        for number in ("combined_accuracy", "invariance_error")
    }
    return {finished.budget: softness_figure(curves)}


def main(arguments: Sequence[str] | None = None, root: Path = Path()) -> int:
    # Matrices of this size are too small to share: one thread is fastest, and its sums have one order.
    torch.set_num_threads(1)
    return experiment_main(make_experiment, arguments, root)


if __name__ == "__main__":
    raise SystemExit(main())
