"""Turned digits, alone and under a square that stays: docs/results/latent_mnist.md.

python -m bench.experiments.latent_mnist [--budget cpu|full]
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bench.experiments.latent_tables import (
    EXPLANATION,
    GROUP_NAMES,
    KINDS,
    Comparison,
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
from equikernels.models.latent_actions.pairs import PairOptions
from equikernels.models.latent_actions.tasks import LatentActionOptions

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DATA = "$EQUIKERNELS_DATA/mnist"
SQUARE = 8
SCENES = {"rotated": 0, "blocked": SQUARE}
GROUPS = ("c4", "so2")
STE, COUNTERFACTUAL, MANUAL, NONE = KINDS
ABLATION = {"neither loss": (0.0, 0.0), "invariant loss only": (1.0, 0.0), "varying loss only": (0.0, 1.0)}
ACTIONS = {
    "spectral action": {"method": "spectral"},
    "bilinear action, stopped target": {"target": "stopped"},
}
"""Other ways than bilinear turns of latents whose target is free."""
STOPPED = list(ACTIONS)[1]
TESTED = 1000

INTRODUCTION = f"""
Digits of MNIST are turned, by quarter turns (C_4) or by any angle (SO(2)), and the latent of a
convolutional autoencoder is turned in their place ([the model](../latent_actions.md)). *Rotated*: the whole
image turns. *Blocked*: a white square of {SQUARE} x {SQUARE} pixels lies over the digit at a random place
and does not turn. The numbers compare the decoded, turned latent with the turned image, for test images and
random elements that training never saw, with values from 0 to 1; each is a mean over images.

The partition of the latent channels is learned, by the straight-through gradient or by the counterfactual
one, or is *manual*, the first half of the channels varies, or there is *none*, all vary. For the blocked
digits under C_4 the two consistency losses are also left away, one by one and both. C_4 moves latents
exactly, and the target of the losses is a constant, as published. SO(2) turns them bilinearly, and the
target is free, because the published loss diverges with turns that shorten latents; two more rows show
that, and the spectral turn, which keeps lengths and so the published loss.

MNIST is read from `$EQUIKERNELS_DATA/mnist`, the folder of its four official files
(`train-images-idx3-ubyte.gz` and so on, http://yann.lecun.com/exdb/mnist/ or its mirrors). Images of 28 x
28 need no frame: two layers halve them twice. The budget `full` is the published recipe: 60000 images split
80/20, batches of 64, Adam 1e-3, 50 epochs, widths 32 and 64, five seeds, all test images. The budget `cpu`
has 3000 images split 80/20, 12 epochs in batches of 32, widths 16 and 32, two seeds, and the first {TESTED}
test images. Both keep the epoch with the smallest validation loss. The paper's tables are not repeated
here: they are for longer training on all images, and its other methods (InfoGAN-CR, CausalVAE, MAGANet,
EquivNR) are not implemented. What is compared is the order that it claims.

![PSNR of every run](../figures/latent_mnist_psnr.png)

Every dot is a run, the bar their mean. Figures show the budget that was made last; pictures are of the
first seed, blocked, SO(2).

![Digits under a square, turned by every model](../figures/latent_mnist_transformed.png)

![Parts of two images put together](../figures/latent_mnist_swapped.png)

The learned partition, straight-through: the part that varies of the images on the left with the part that
stays of those above.

![Where the two parts of the latent are large](../figures/latent_mnist_parts.png)
"""


def row_name(scene: str, group: str, kind: str) -> str:
    return f"{scene}, {GROUP_NAMES[group]}: {kind}"


def cells(budget: Budget) -> list[Cell]:
    """All runs of a budget; one seed of every row before the next seed."""
    small = budget == "cpu"
    training = {"epochs": 12, "batch_size": 32, "validate_epochs": 2} if small else {"epochs": 50}
    found = []
    for seed in range(2 if small else 5):
        rows = {
            row_name(scene, group, kind): {**options, "group": group, "pairs": PairOptions(square=square)}
            for scene, square in SCENES.items()
            for group in GROUPS
            for kind, options in KINDS.items()
        }
        for name, (invariant, varying) in ABLATION.items():
            rows[row_name("blocked", "c4", f"{STE}, {name}")] = {
                "group": "c4", "pairs": PairOptions(square=SQUARE),
                "invariant_weight": invariant, "varying_weight": varying,
            }  # fmt: skip
        for name, action in ACTIONS.items():
            rows[row_name("blocked", "so2", f"{STE}, {name}")] = {
                **action, "group": "so2", "pairs": PairOptions(square=SQUARE)
            }  # fmt: skip
        for row, options in rows.items():
            model = LatentActionOptions(widths=(16, 32) if small else (32, 64), **options)  # type: ignore[arg-type]
            configuration = configured(
                model, seed, training=training, data=DATA, data_options=("split=train",),
                limit=3000 if small else None, validation=0.2,
            )  # fmt: skip
            found.append(Cell(row, configuration))
    return found


def measure(run: Run) -> dict[str, float]:
    """Of the test images: all, or the first of them where training had a part of the images too."""
    count = None if run.configuration.limit is None else TESTED
    last = run.read_metrics()["last"]
    return {**transformation_numbers(trained(run, ("split=test",), count)), "last_loss": last["loss"]}


def comparisons() -> list[Comparison]:
    found = []
    for scene in SCENES:
        for group in GROUPS:
            where = f"{scene}, {GROUP_NAMES[group]}"
            rows = {kind: row_name(scene, group, kind) for kind in KINDS}
            for kind in (STE, COUNTERFACTUAL):
                ours = kind == COUNTERFACTUAL
                for other in (MANUAL, NONE):
                    # Where all turns, none is the best there is, so that no one claims this.
                    own = ours or (other == NONE and scene == "rotated")
                    claim = f"{where}: {kind}, against {other}"
                    found.append(Comparison(claim, rows[kind], rows[other], published=not own))
            claim = f"{where}: {COUNTERFACTUAL}, against straight-through"
            found.append(Comparison(claim, rows[COUNTERFACTUAL], rows[STE], published=False))
    both = row_name("blocked", "c4", STE)
    for name in ABLATION:
        claim = f"blocked, C_4: both losses, against {name}"
        found.append(Comparison(claim, both, row_name("blocked", "c4", f"{STE}, {name}")))
    return found


def findings(results: Mapping[Cell, Result]) -> str:
    """Verdicts on what is claimed, and whether the mask does what it must where all turns."""
    parts = [
        EXPLANATION,
        comparison_table(results, comparisons()),
        *whole_scene(results),
        stopped_target(results),
    ]
    still = [result.numbers["rmse_still"] for result in results.values()]
    parts.append(
        f"For scale: an image that is left as it is has an RMSE of {min(still):.3f} to {max(still):.3f} "
        "from the turned one."
    )
    return "\n\n".join(part for part in parts if part)


def whole_scene(results: Mapping[Cell, Result]) -> list[str]:
    """Where a whole scene turns, it is best to let all vary: what the learned masks made of that."""
    lines = []
    for group in GROUPS:
        shares = {
            f"{scene}, {kind.removeprefix('learned, ')}": row_values(
                results, row_name(scene, group, kind), "varying_share"
            )
            for scene in SCENES
            for kind in (STE, COUNTERFACTUAL)
        }
        shown = [f"{name}: {spread(values, '.2f')}" for name, values in shares.items() if values]
        if shown:
            lines.append(f"- {GROUP_NAMES[group]}: " + "; ".join(shown) + ".")
    if not lines:
        return []
    whole = [
        value
        for group in GROUPS
        for kind in (STE, COUNTERFACTUAL)
        for value in row_values(results, row_name("rotated", group, kind), "varying_share")
    ]
    verdict = ""
    if whole:
        verdict = (
            " Every mask let all vary." if min(whole) == 1
            else f" No mask let all vary; the largest share is {max(whole):.2f}." if max(whole) < 1
            else f" {sum(share == 1 for share in whole)} of {len(whole)} masks let all vary."
        )  # fmt: skip
    return [
        "Where the whole image turns, a mask of ones everywhere is optimal, and a partition says nothing "
        f"about the data.{verdict} The share of channels that vary, by what was learned:",
        "\n".join(lines),
    ]


def stopped_target(results: Mapping[Cell, Result]) -> str:
    """What the validation loss was in the end, by the action and the target."""
    rows = {
        "C_4, exact, stopped": row_name("blocked", "c4", STE),
        "SO(2), bilinear, free": row_name("blocked", "so2", STE),
        **{f"SO(2), {name}": row_name("blocked", "so2", f"{STE}, {name}") for name in ACTIONS},
    }
    values = {name: row_values(results, row, "last_loss") for name, row in rows.items()}
    shown = [f"{name}: {', '.join(f'{v:.4g}' for v in found)}" for name, found in values.items() if found]
    stopped = values[f"SO(2), {STOPPED}"]
    free = values["SO(2), bilinear, free"]
    if not stopped or not free:
        return ""
    # A loss that is not a number any more has diverged.
    diverges = all(not value <= 10 * max(free) for value in stopped)
    verdict = "diverges" if diverges else "does not diverge here"
    return (
        "An interpolated turn shortens latents, and with a constant as target the encoder runs after itself: "
        f"the published loss {verdict} with bilinear turns by any angle. Validation loss at the last epoch, "
        f"blocked, each seed: {'; '.join(shown)}."
    )


def experiment() -> Experiment:
    return Experiment(
        name="latent_mnist",
        title="Latent actions on turned and blocked digits",
        introduction=INTRODUCTION,
        command="python -m bench.experiments.latent_mnist",
        cells={"cpu": cells("cpu"), "full": cells("full")},
        columns=[
            Column("PSNR (dB)", "psnr", ".2f"),
            Column("SSIM", "ssim", ".3f"),
            Column("RMSE", "rmse", ".4f"),
            Column("channels that vary", "varying_share", ".2f"),
        ],
        measure=measure,
        findings=findings,
        figures=draw,
    )


def draw(finished: Finished) -> dict[str, Figure]:
    """All figures of the page; what needs a row that failed is left out."""
    from equikernels.models.latent_actions.figures import Examples, part_sizes, swapped_parts

    panels = {
        scene: [
            (row_name(scene, group, kind), f"{GROUP_NAMES[group]}: {kind}")
            for group in GROUPS
            for kind in KINDS
        ]
        for scene in SCENES
    }
    figures = {"psnr": dot_figure(finished.results, panels, "PSNR (dB)", "psnr")}
    shown = {kind: row_name("blocked", "so2", kind) for kind in KINDS}
    first = finished.first()
    runs = {
        kind: trained(finished.run(first[row]), ("split=test",), 100)
        for kind, row in shown.items()
        if row in first
    }
    if STE in runs:
        figures["transformed"] = side_by_side(runs)
        learned = runs[STE]
        batch, draws = next(iter(learned.batches))
        x, gx, g = learned.task.pair(batch, draws)
        few = Examples(2 * x - 1, 2 * gx - 1, g).first(6)
        figures |= {"swapped": swapped_parts(learned.model, few.x), "parts": part_sizes(learned.model, few.x)}
    return figures


def main(arguments: Sequence[str] | None = None, root: Path = Path()) -> int:
    return experiment_main(experiment, arguments, root)


if __name__ == "__main__":
    sys.exit(main())
