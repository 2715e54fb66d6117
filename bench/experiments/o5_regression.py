"""Regression of a function that O(5) leaves nearly as it is: docs/results/o5_regression.md.

    python -m bench.experiments.o5_regression --budget cpu|full

The data are made by a formula. A run that was interrupted goes on where it stopped. The figure is drawn when
the table is complete.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.experiments.o5_findings import error_curves, findings
from equikernels.models.engine import RunConfiguration
from equikernels.models.engine.inference import Use, evaluate_run
from equikernels.models.engine.results import (
    Cell,
    Column,
    Experiment,
    best_numbers,
    experiment_main,
)
from equikernels.models.engine.runs import Run
from equikernels.models.soft_equivariance.tasks import RegressionOptions, SoftRegressionTask

INTRODUCTION = """
The synthetic experiment of "Tunable Soft Equivariance with Guarantees" (arXiv 2603.26657): from two standard
normal vectors a and b of five coordinates the number

```text
sin|a| - |b|^3 / 2 + a.b / (|a||b|)
  + sigma (|a_0| + |a_1| + |b_0| + |b_1|) / (|a_2| + |a_3| + |b_2| + |b_3| + 1)
```

is to be predicted. O(5), acting on both vectors together, leaves it as it is at sigma = 0 and not otherwise.

- **softness s**: a network of scalars, vectors and tensors of order two, with gates of lengths and products
  of vectors, whose linear layers are projected with softness s: 0 is invariant, 1 leaves all weights free.
  **mlp**: an ordinary network of about as many weights.
- **RMSE**: on test samples, in the unit of the target. **turned RMSE**: with a random element of O(5) for
  every sample, whose target stays. Normal vectors are distributed alike in every direction, so that at sigma
  = 0 no model can lose by turns on average: **change**, the mean |f(g x) - f(x)|, tells what turns do.
- Soft layers begin with the norm of plain ones: the equivariant part of a weight makes up for what is cut
  off, the rest begins as in a plain layer ([soft layers](../soft_layers.md)).
- Training, validation (which decides the best epoch) and test samples are independent, and the same for all
  rows of one sigma. A seed decides the initial weights and the order of the samples.

**Budget cpu** has 1000 training, 500 validation and 2000 test samples, 4 channels, 2 blocks, 40 epochs of
batches of 100, Adam with 3e-3 falling to 0 as a cosine. **Budget full** has more levels of sigma and
softness, 10000 training samples, 8 channels, 100 epochs and five seeds. Softnesses and sigmas were fixed
before any run of the table. No published number is at hand for this experiment: its claims are compared in
kind.

How weights begin was changed after a first table, in which every weight had one factor for its norm. At
sigma 0 and softness 0.1 its RMSE was 0.963, worse than at 0.3 (0.796) and at 1 (0.757). Trials outside
the table at this softness (the same settings, seeds 0 and 1, means of the test RMSE) show why: the one
factor made the directions that break the symmetry about three times as large as in a plain layer, and
training had to undo them. With it the RMSE was 1.06, and the training error 0.7. With the factor for the
equivariant part alone it was 0.52; with the larger one of this page for that part and the old one for the
rest 1.42; as on this page 0.46. With the old factor four times as many epochs gave 0.60, a learning rate
of 0.01 gave 0.57, and the last epoch was as good as the best. Breaking directions that begin at zero gave
0.30, but would not begin as in a plain layer at softness 1, so they are not used.
"""

COLUMNS = [
    Column("RMSE", "rmse", ".3f"),
    Column("turned RMSE", "turned_rmse", ".3f"),
    Column("change", "invariance_error", ".2g"),
    Column("validation RMSE", "validation_rmse", ".3f"),
]
TEST_SAMPLES, TEST_SEED = 2000, 2


def run_of(
    options: RegressionOptions, sigma: float, seed: int, samples: int, epochs: int
) -> RunConfiguration[RegressionOptions]:
    """A run at one strength of the breaking term."""
    task = SoftRegressionTask
    return RunConfiguration(
        task=task.name,
        model=options,
        data=task.data,
        data_options=(f"count={samples}", f"sigma={sigma!r}", "seed=0"),
        validation_data=task.data,
        validation_options=("count=500", f"sigma={sigma!r}", "seed=1"),
        seed=seed,
        training=dataclasses.replace(task.training, epochs=epochs, validate_epochs=4, device="cpu"),
        optimizer=task.optimizer,
    )


def cells(
    sigmas: Sequence[float],
    levels: Sequence[float],
    seeds: Sequence[int],
    sizes: RegressionOptions,
    samples: int,
    epochs: int,
) -> list[Cell]:
    """For every sigma the ordinary network and every softness; rows are "sigma S, ROW"."""
    models = {"mlp": dataclasses.replace(sizes, network="mlp")}
    models |= {f"softness {level:g}": dataclasses.replace(sizes, softness=level) for level in levels}
    return [
        Cell(f"sigma {sigma:g}, {row}", run_of(model, sigma, seed, samples, epochs))
        for sigma in sigmas
        for row, model in models.items()
        for seed in seeds
    ]


def measure(run: Run) -> dict[str, float]:
    """The numbers on the test samples, and the validation RMSE of the best epoch."""
    sigma = next(option for option in run.configuration.data_options if option.startswith("sigma="))
    options = (f"count={TEST_SAMPLES}", sigma, f"seed={TEST_SEED}")
    numbers = evaluate_run(run, Use(data=run.configuration.data, data_options=options, batch_size=500))
    return {**numbers, "validation_rmse": best_numbers(run)["rmse"]}


def make() -> Experiment:
    wide = RegressionOptions(channels=8, width=280)
    return Experiment(
        name="o5_regression",
        title="Regression under O(5)",
        introduction=INTRODUCTION,
        command="python -m bench.experiments.o5_regression",
        cells={
            "cpu": cells((0.0, 1.0), (0.0, 0.1, 0.3, 1.0), (0, 1), RegressionOptions(width=150), 1000, 40),
            "full": cells(
                (0.0, 0.25, 0.5, 1.0, 2.0),
                (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0),
                (0, 1, 2, 3, 4),
                wide,
                10_000,
                100,
            ),
        },
        columns=COLUMNS,
        measure=measure,
        findings=findings,
        figures=lambda finished: {finished.budget: error_curves(finished.results)},
    )


def main(
    arguments: Sequence[str] | None = None, root: Path = Path(), make: Callable[[], Experiment] = make
) -> int:
    return experiment_main(make, arguments, root)


if __name__ == "__main__":
    sys.exit(main())
