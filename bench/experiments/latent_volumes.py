"""Adrenal glands turned in space: docs/results/latent_volumes.md.

python -m bench.experiments.latent_volumes [--budget cpu|full]
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
from equikernels.models.latent_actions.tasks import LatentActionOptions

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DATA = "$EQUIKERNELS_DATA/adrenalmnist3d/adrenalmnist3d.npz"
GROUPS = ("cube", "so3")
STE, COUNTERFACTUAL, MANUAL, NONE = KINDS

INTRODUCTION = """
Shapes of adrenal glands, AdrenalMNIST3D of MedMNIST, are turned in space: by the 24 rotations of the cube,
which move voxels to voxels, or by any rotation, uniform on SO(3), interpolated trilinearly. The latent of a
convolutional autoencoder is turned in their place ([the model](../latent_actions.md)). The numbers compare
the decoded, turned latent with the turned volume, for the 298 test volumes and random rotations that
training never saw, with values from 0 to 1; each is a mean over volumes.

The whole volume turns, so that it is optimal to let every latent channel vary: a learned partition can at
best do as well as *none*. *Manual* lets the first half of the channels vary. The target of the losses is
free: with a constant one, as published, they diverge under both groups in trials of this size. The decoder
has no Tanh at its end: nearly all voxels are empty, and it saturates within the first steps for good. Both
were chosen on training and validation volumes.

The data are read from `$EQUIKERNELS_DATA/adrenalmnist3d/adrenalmnist3d.npz`, the file of that name from
https://medmnist.com. The budget `full` has the volumes of 28 x 28 x 28 as they are, and the recipe for
MNIST, as the paper's code has none for volumes: batches of 64, Adam 1e-3, 50 epochs, widths 32 and 64, five
seeds. The budget `cpu` has means over 2 x 2 x 2 voxels in a frame of 16 x 16 x 16, widths 16 and 32, 16
epochs in batches of 16, two seeds. Both keep a tenth of the training volumes for validation, and the epoch
with the smallest loss there. The two budgets see different volumes, so that their numbers are not to be
compared. The paper's own table is not repeated, as its other methods are not implemented.

![PSNR of every run](../figures/latent_volumes_psnr.png)

Every dot is a run, the bar their mean. Figures show the budget that was made last; pictures are of the
first seed, and show the largest value along the depth.

![Volumes turned by every model](../figures/latent_volumes_transformed.png)
"""


def row_name(group: str, kind: str) -> str:
    return f"{GROUP_NAMES[group]}: {kind}"


def cells(budget: Budget) -> list[Cell]:
    """All runs of a budget; one seed of every row before the next seed."""
    small = budget == "cpu"
    training = {"epochs": 16, "batch_size": 16, "validate_epochs": 4} if small else {"epochs": 50}
    shape = {"widths": (16, 32), "average": 2, "side": 16} if small else {"widths": (32, 64)}
    found = []
    for seed in range(2 if small else 5):
        for group in GROUPS:
            for kind, options in KINDS.items():
                common = {"group": group, "target": "free", "output": "linear"}
                model = LatentActionOptions(**{**shape, **options, **common})  # type: ignore[arg-type]
                configuration = configured(
                    model, seed, training=training, data=DATA, data_options=("split=train",), validation=0.1
                )
                found.append(Cell(row_name(group, kind), configuration))
    return found


def measure(run: Run) -> dict[str, float]:
    """Of all test volumes."""
    return transformation_numbers(trained(run, ("split=test",)))


def comparisons() -> list[Comparison]:
    found = []
    for group in GROUPS:
        for kind in (STE, COUNTERFACTUAL):
            for other in (MANUAL, NONE):
                claim = f"{GROUP_NAMES[group]}: {kind}, against {other}"
                published = kind == STE and other == MANUAL
                found.append(
                    Comparison(claim, row_name(group, kind), row_name(group, other), published=published)
                )
    return found


def findings(results: Mapping[Cell, Result]) -> str:
    """Verdicts, what the masks were, and what leaving volumes as they are gives."""
    shares = []
    for group in GROUPS:
        for kind in (STE, COUNTERFACTUAL):
            values = row_values(results, row_name(group, kind), "varying_share")
            if values:
                shares.append(f"{row_name(group, kind)}: {spread(values, '.2f')}")
    still = [result.numbers["rmse_still"] for result in results.values()]
    parts = [
        EXPLANATION,
        comparison_table(results, comparisons()),
        f"Share of channels that vary, 1 being the best: {'; '.join(shares)}." if shares else "",
        f"For scale: a volume that is left as it is has an RMSE of {min(still):.3f} to {max(still):.3f} "
        "from the turned one.",
    ]
    return "\n\n".join(part for part in parts if part)


def experiment() -> Experiment:
    return Experiment(
        name="latent_volumes",
        title="Latent actions on volumes",
        introduction=INTRODUCTION,
        command="python -m bench.experiments.latent_volumes",
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
    panels = {
        "rotations of the cube": [(row_name("cube", kind), kind) for kind in KINDS],
        "any rotation": [(row_name("so3", kind), kind) for kind in KINDS],
    }
    figures = {"psnr": dot_figure(finished.results, panels, "PSNR (dB)", "psnr")}
    first = finished.first()
    runs = {
        kind: trained(finished.run(first[row]), ("split=test",), 100)
        for kind in KINDS
        if (row := row_name("so3", kind)) in first
    }
    return {**figures, "transformed": side_by_side(runs)} if runs else figures


def main(arguments: Sequence[str] | None = None, root: Path = Path()) -> int:
    return experiment_main(experiment, arguments, root)


if __name__ == "__main__":
    sys.exit(main())
