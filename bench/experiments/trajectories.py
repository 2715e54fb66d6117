"""Pedestrians with plain, soft and strictly equivariant transformers: docs/results/trajectories.md.

    EQUIKERNELS_DATA=FOLDER python -m bench.experiments.trajectories --budget cpu|full

FOLDER/eth_ucy holds the ETH and UCY tracks with splits.json, {scene: {"train", "val", "test": [file, ...]}}.
A run that was interrupted goes on where it stopped. The figures are drawn when the table is complete.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from bench.experiments.trajectory_findings import by_scene, findings
from bench.experiments.trajectory_plots import error_bars, paths
from equikernels.models.engine import OptimizerOptions, RunConfiguration, TrainingOptions
from equikernels.models.engine.inference import Use, evaluate_run
from equikernels.models.engine.results import (
    Budget,
    Cell,
    Column,
    Experiment,
    Finished,
    best_numbers,
    experiment_main,
)
from equikernels.models.engine.runs import Run
from equikernels.models.soft_equivariance.tasks import SoftTrajectoriesTask, TrajectoryOptions

SCENES = ("eth", "hotel", "univ", "zara1", "zara2")
SEEDS = (0, 1)

ROWS: dict[str, TrajectoryOptions] = {
    "plain": TrajectoryOptions(softness=1.0, activation="relu"),
    "soft 0.5": TrajectoryOptions(softness=0.5),
    "soft 0.2": TrajectoryOptions(softness=0.2),
    "strict": TrajectoryOptions(softness=0.0),
}

INTRODUCTION = """
The trajectory experiment of "Tunable Soft Equivariance with Guarantees" (arXiv 2603.26657): from ten
positions of a pedestrian the next ten are predicted. For each scene of ETH/UCY a model is trained on windows
of the other scenes, the best epoch is chosen on their validation files, and the numbers are those of all
windows of the scene itself, which takes no part in either. One epoch is chosen by the validation cADE;
nothing was chosen by looking at a test scene.

- **plain**: ReLU, LayerNorm and free weights. **strict**: softness 0, equivariant under every rotation to
  rounding. **soft s**: softness s; both softnesses were fixed before any run. All have weight matrices of
  the same number and shapes.
- **ADE, FDE**: mean distance over all steps, and at the last, in metres. **aADE, aFDE**: the same when every
  window is turned by a random angle of its own, input and truth together. **cADE, cFDE**: the means of the
  two. **eErr**: the mean distance between the turned prediction and the prediction of the turned input.
- A seed decides the initial weights, the order of the windows and the test's angles.

**Budget cpu** is a small version: the scene ETH, 64 features, 2 layers, feed-forward 128, every eighth
window of a pedestrian in training and every twentieth in validation, 8 epochs of batches of 64, learning
rate 1e-3. **Budget full** follows the published recipe: five scenes, 128 features, 4 heads, 4 layers,
feed-forward 512, dropout 0.1, AdamW with 5e-4 and weight decay 1e-5, cosine to 1e-6, batch 128, 100 epochs,
all windows.

The data are the ETH (BIWI Walking Pedestrians, Pellegrini et al. 2009) and UCY (Crowds by Example, Lerner et
al. 2007) tracks in metres, as four columns frame, pedestrian, x, y, with the usual leave-one-out split. They
are not part of this package; [the page of trajectories](../trajectories.md#data) tells what the folder must
look like.
"""

COLUMNS = [
    Column("ADE", "ade", ".3f"),
    Column("FDE", "fde", ".3f"),
    Column("aADE", "turned_ade", ".3f"),
    Column("aFDE", "turned_fde", ".3f"),
    Column("cADE", "combined_ade", ".3f"),
    Column("cFDE", "combined_fde", ".3f"),
    Column("eErr", "equivariance_error", ".2g"),
]


def run_of(
    scene: str,
    options: TrajectoryOptions,
    seed: int,
    training: TrainingOptions,
    optimizer: OptimizerOptions,
    strides: tuple[int, int] = (1, 1),
) -> RunConfiguration[TrajectoryOptions]:
    """A run on the training files of a scene.

    Args:
        strides: steps between the windows of one pedestrian, in training and in validation.
    """
    name = "$EQUIKERNELS_DATA/eth_ucy"
    return RunConfiguration(
        task=SoftTrajectoriesTask.name,
        model=options,
        data=name,
        data_options=(f"scene={scene}", "split=train", f"stride={strides[0]}"),
        validation_data=name,
        validation_options=(f"scene={scene}", "split=val", f"stride={strides[1]}"),
        seed=seed,
        training=training,
        optimizer=optimizer,
    )


def cpu_cells() -> list[Cell]:
    """The scene ETH with small models, in the order of the rows."""
    training = dataclasses.replace(
        SoftTrajectoriesTask.training, epochs=8, batch_size=64, validate_epochs=2, device="cpu"
    )
    optimizer = dataclasses.replace(SoftTrajectoriesTask.optimizer, learning_rate=1e-3)
    cells = []
    for row, options in ROWS.items():
        small = dataclasses.replace(options, width=64, layers=2, feedforward=128)
        cells += [
            Cell(f"ETH, {row}", run_of("eth", small, seed, training, optimizer, (8, 20))) for seed in SEEDS
        ]
    return cells


def full_cells() -> list[Cell]:
    """All scenes with the published recipe, which is the task's own."""
    task = SoftTrajectoriesTask
    return [
        Cell(f"{scene.upper()}, {row}", run_of(scene, options, seed, task.training, task.optimizer))
        for scene in SCENES
        for row, options in ROWS.items()
        for seed in SEEDS
    ]


def held_out(run: Run) -> tuple[str, ...]:
    """The options of the data of the scene that a run was not trained on."""
    scene = next(option for option in run.configuration.data_options if option.startswith("scene="))
    return (scene, "split=test")


def measure(run: Run) -> dict[str, float]:
    """All numbers on the test scene, and the validation cADE that decided the epoch."""
    numbers = evaluate_run(run, Use(data=run.configuration.data, data_options=held_out(run)))
    return {**numbers, "validation_combined_ade": best_numbers(run)["combined_ade"]}


def make() -> Experiment:
    cells: dict[Budget, Sequence[Cell]] = {"cpu": cpu_cells(), "full": full_cells()}
    return Experiment(
        name="trajectories",
        title="Trajectories of pedestrians",
        introduction=INTRODUCTION,
        command="python -m bench.experiments.trajectories",
        cells=cells,
        columns=COLUMNS,
        measure=measure,
        findings=findings,
        figures=figures,
    )


def figures(finished: Finished) -> dict[str, Figure]:
    """Errors of all rows, and paths where none of the rows that they compare failed; files of each budget."""
    found = {f"errors_{finished.budget}": error_bars(by_scene(finished.results))}
    drawn = paths(finished, held_out)
    return found if drawn is None else {**found, f"paths_{finished.budget}": drawn}


def main(
    arguments: Sequence[str] | None = None, root: Path = Path(), make: Callable[[], Experiment] = make
) -> int:
    return experiment_main(make, arguments, root)


if __name__ == "__main__":
    sys.exit(main())
