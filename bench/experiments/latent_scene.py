"""The partition found against the true one, in scenes made by rule: docs/results/latent_scene.md.

python -m bench.experiments.latent_scene [--budget cpu|full]
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch

from bench.experiments.latent_tables import (
    EXPLANATION,
    KINDS,
    Comparison,
    Trained,
    comparison_table,
    configured,
    dot_figure,
    row_values,
    side_by_side,
    spread,
    trained,
    transformation_numbers,
)
from equikernels.models.engine import Run
from equikernels.models.engine.results import (
    Budget,
    Cell,
    Column,
    Experiment,
    Finished,
    Result,
    experiment_main,
)
from equikernels.models.latent_actions.measuring import object_dependence, region_correlation
from equikernels.models.latent_actions.pairs import PairOptions
from equikernels.models.latent_actions.tasks import LatentActionOptions

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STE, COUNTERFACTUAL, MANUAL, NONE = KINDS
STARTS: tuple[tuple[float, Literal["threshold", "zero"]], ...] = (
    (0.5, "threshold"),
    (0.3, "threshold"),
    (0.3, "zero"),
    (0.7, "threshold"),
    (0.7, "zero"),
)
"""Threshold of the mask and where its logits start; for 0.5 the two starts are one."""

TRAINING_DATA = {"cpu": 2500, "full": 20000}
TESTED = 500

INTRODUCTION = f"""
Scenes made by rule stand in for the paper's ShapeNet and SWIMSEG: a lobed object turns by any angle over a
background of waves that stays ([the data set `scenes`](../data.md)). What varies is known here, so that the
partition which a model found can be compared with the true one, in two ways.

*Layers*: object and background reach the encoder as two channels, and its layers never mix them (grouped
convolutions). Then half of the latent channels see the object alone and half the background alone, and the
true mask is known: exactly the former vary. The first half is the object's, so that *manual* is the true
mask, and its PSNR what a perfect mask gives; *none* lets all vary. Mask accuracy is the share of channels
on the right side; a mask drawn by coin has 0.5.

*One image*: the object lies over the background, and every channel of a free encoder may see both. Two
measures: whether a channel varies exactly if it depends more on the object than on the background (with
d_o, d_b the mean squared changes of a channel when another scene's object or background is put in, d_o >
d_b), again as a share of the channels; and the correlation of |z_v| and of |z_i| with the object's share of
the pixels at each place of the latent.

Numbers are of {TESTED} scenes and angles that training never saw. The budget `cpu`: scenes of 16 x 16,
{TRAINING_DATA["cpu"]} split 80/20, widths 16 and 32, 24 epochs in batches of 32, Adam 1e-3, two seeds. The
budget `full`: scenes of 32 x 32, {TRAINING_DATA["full"]} of them, widths 32 and 64, 50 epochs in batches of
64, five seeds. Latents turn bilinearly, and the target of the losses is free. The threshold tau of the mask
and the start of its logits: *threshold* N(logit tau, 0.1), about half of the channels vary; *zero* 0.1 N(0,
1), as published, so that for tau = 0.3 all channels vary at first and for 0.7 none. For the paper's own
scenes, folders of pictures and NIfTI volumes can be read ([data](../data.md)); they are not at hand here,
and no number of the paper is to be compared with these.

![Mask accuracy of every run](../figures/latent_scene_masks.png)

Every dot is a run, the bar their mean. Figures show the budget that was made last; pictures are of the
first seed, one image.

![Scenes turned by every model](../figures/latent_scene_transformed.png)

![Parts of two scenes put together](../figures/latent_scene_swapped.png)

The learned partition, straight-through: the part that varies of the scenes on the left with the part that
stays of those above.

![Where the two parts of the latent are large](../figures/latent_scene_parts.png)
"""


def layers_row(kind: str, threshold: float = 0.5, start: str = "threshold") -> str:
    detail = (
        "" if "learned" not in kind else f", tau {threshold}" + (f", {start}" if threshold != 0.5 else "")
    )
    return f"layers: {kind}{detail}"


def image_row(kind: str) -> str:
    return f"one image: {kind}"


def rows(widths: tuple[int, ...]) -> dict[str, LatentActionOptions]:
    """The model of every row."""
    layers, image = PairOptions(scene="layers"), PairOptions(scene="object")
    found = {
        layers_row(kind, threshold, start): LatentActionOptions(
            widths=widths, pairs=layers, threshold=threshold, start=start, **KINDS[kind]
        )  # type: ignore[arg-type]
        for threshold, start in STARTS
        for kind in (STE, COUNTERFACTUAL)
    }
    for kind in (MANUAL, NONE):
        found[layers_row(kind)] = LatentActionOptions(widths=widths, pairs=layers, **KINDS[kind])
    for kind, options in KINDS.items():
        found[image_row(kind)] = LatentActionOptions(widths=widths, pairs=image, **options)
    return found


def cells(budget: Budget) -> list[Cell]:
    """All runs of a budget; one seed of every row before the next seed."""
    small = budget == "cpu"
    training = {"epochs": 24, "batch_size": 32, "validate_epochs": 4} if small else {"epochs": 50}
    data_options = (f"count={TRAINING_DATA[budget]}", f"size={16 if small else 32}", "seed=0")
    found = []
    for seed in range(2 if small else 5):
        for row, model in rows((16, 32) if small else (32, 64)).items():
            configuration = configured(
                model, seed, training=training, data="scenes", data_options=data_options, validation=0.2
            )
            found.append(Cell(row, configuration))
    return found


def measure(run: Run) -> dict[str, float]:
    """Numbers of scenes of another seed than those of training, and of the mask."""
    size = next(option for option in run.configuration.data_options if option.startswith("size="))
    found = trained(run, (f"count={TESTED}", size, "seed=1"))
    numbers = {**transformation_numbers(found), **mask_numbers(found)}
    return {name: value for name, value in numbers.items() if not math.isnan(value)}


def mask_numbers(found: Trained) -> dict[str, float]:
    """The share of channels on the right side, and where both parts are large; NaN where one is empty."""
    task, model = found.task, found.model
    scenes = found.batches.dataset.fetch(torch.arange(len(found.batches.dataset)))
    if task.configuration.pairs.scene == "layers":
        truth = torch.arange(model.channels) < model.channels // 2
    else:
        truth = object_dependence(model, scenes) > 0.5
    numbers = {"mask_accuracy": float((model.mask == truth).double().mean())}
    with torch.no_grad():
        parts = model.parts(model.encode(2 * task.seen(scenes) - 1))
    for name, part in zip(("varying", "invariant"), parts, strict=True):
        numbers[f"{name}_region"] = region_correlation(part, scenes["coverage"])
    return numbers


# -- findings ------------------------------------------------------------------------------------------------


def comparisons() -> list[Comparison]:
    found = []
    for kind in (STE, COUNTERFACTUAL):
        published = kind == STE
        for name, row, others in (
            ("layers", layers_row, {"the true mask": layers_row(MANUAL), NONE: layers_row(NONE)}),
            ("one image", image_row, {MANUAL: image_row(MANUAL), NONE: image_row(NONE)}),
        ):
            for other, other_row in others.items():
                # That a learned mask is as good as the truth is more than anyone says.
                own = not published or other == "the true mask"
                claim = f"{name}: {kind}, against {other}"
                found.append(Comparison(claim, row(kind), other_row, published=not own))
    for threshold, start in STARTS:
        better, worse = (layers_row(kind, threshold, start) for kind in (COUNTERFACTUAL, STE))
        claim = f"mask accuracy, tau {threshold}, start {start}: counterfactual, against straight-through"
        found.append(Comparison(claim, better, worse, "mask_accuracy", "", published=False))
    return found


def findings(results: Mapping[Cell, Result]) -> str:
    """Verdicts, and whether the masks found are better than drawn by coin."""
    parts = [
        f"{EXPLANATION} For masks it is a difference of their accuracies.",
        comparison_table(results, comparisons()),
        found_masks(results),
        regions(results),
    ]
    return "\n\n".join(part for part in parts if part)


def found_masks(results: Mapping[Cell, Result]) -> str:
    """Where the true mask was found in every seed, and where a coin is as good."""
    names: dict[str, list[str]] = {"found in every seed": [], "better than a coin": [], "no better": []}
    for threshold, start in STARTS:
        for kind in (STE, COUNTERFACTUAL):
            row = layers_row(kind, threshold, start)
            values = row_values(results, row, "mask_accuracy")
            if values:
                group = (
                    "found in every seed" if min(values) == 1
                    else "better than a coin" if min(values) > 0.5
                    else "no better"
                )  # fmt: skip
                names[group].append(f"{row.removeprefix('layers: ')} ({spread(values, '.2f')})")
    shown = [f"- {group}: {'; '.join(rows)}." for group, rows in names.items() if rows]
    return "The true mask of the layers, by what was learned:\n\n" + "\n".join(shown) if shown else ""


def regions(results: Mapping[Cell, Result]) -> str:
    """Whether the part that varies lies on the object more than the part that stays."""
    lines = []
    for kind in (STE, COUNTERFACTUAL, MANUAL):
        pairs = [
            (result.numbers["varying_region"], result.numbers["invariant_region"])
            for cell, result in results.items()
            if cell.row == image_row(kind) and {"varying_region", "invariant_region"} <= result.numbers.keys()
        ]
        if pairs:
            more = sum(v > i for v, i in pairs)
            verdict = (
                "lies more on the object" if more == len(pairs)
                else f"does so in {more} of {len(pairs)} seeds" if more
                else "does not, in every seed"
            )  # fmt: skip
            varying, invariant = (spread(values, ".2f") for values in zip(*pairs, strict=True))
            lines.append(f"- {kind}: {varying} against {invariant}: what varies {verdict}.")
    head = "One image, correlation of |z_v| and of |z_i| with the object:"
    return "\n\n".join([head, "\n".join(lines)]) if lines else ""


def experiment() -> Experiment:
    return Experiment(
        name="latent_scene",
        title="Latent partitions found and true",
        introduction=INTRODUCTION,
        command="python -m bench.experiments.latent_scene",
        cells={"cpu": cells("cpu"), "full": cells("full")},
        columns=[
            Column("mask accuracy", "mask_accuracy", ".2f"),
            Column("channels that vary", "varying_share", ".2f"),
            Column("PSNR (dB)", "psnr", ".2f"),
            Column("SSIM", "ssim", ".3f"),
            Column("RMSE", "rmse", ".4f"),
            Column("\\|z_v\\| on the object", "varying_region", ".2f"),
            Column("\\|z_i\\| on the object", "invariant_region", ".2f"),
        ],
        measure=measure,
        findings=findings,
        figures=draw,
    )


def draw(finished: Finished) -> dict[str, Figure]:
    """All figures of the page; what needs a row that failed is left out."""
    from equikernels.models.latent_actions.figures import part_sizes, swapped_parts

    panels = {
        "layers: the true mask is known": [
            (row, row.removeprefix("layers: ").replace("learned, ", ""))
            for threshold, start in STARTS
            for kind in (STE, COUNTERFACTUAL)
            for row in [layers_row(kind, threshold, start)]
        ],
        "one image: by dependence": [(image_row(kind), kind) for kind in KINDS],
    }
    figures = {"masks": dot_figure(finished.results, panels, "mask accuracy", "mask_accuracy", (0, 1.05))}
    first = finished.first()
    runs = {}
    for kind in KINDS:
        cell = first.get(image_row(kind))
        if cell is not None:
            size = next(o for o in cell.configuration.data_options if o.startswith("size="))
            runs[kind] = trained(finished.run(cell), ("count=100", size, "seed=1"))
    if STE in runs:
        learned = runs[STE]
        batch, draws = next(iter(learned.batches))
        x = 2 * learned.task.pair(batch, draws)[0][:6] - 1
        figures["transformed"] = side_by_side(runs)
        figures |= {"swapped": swapped_parts(learned.model, x), "parts": part_sizes(learned.model, x)}
    return figures


def main(arguments: Sequence[str] | None = None, root: Path = Path()) -> int:
    return experiment_main(experiment, arguments, root)


if __name__ == "__main__":
    sys.exit(main())
