"""What the tables of latent actions share: rows, numbers of test samples, comparisons by seed, figures."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from bench.experiments.comparing import deviation
from equikernels.models.data import Dataset
from equikernels.models.engine import Batches, Run, RunConfiguration, default_configuration
from equikernels.models.engine.results import Cell, Result
from equikernels.models.engine.runs import open_dataset
from equikernels.models.latent_actions.model import LatentActionModel
from equikernels.models.latent_actions.tasks import LatentActionOptions, LatentActionTask

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

KINDS: dict[str, dict[str, Any]] = {
    "learned, straight-through": {"partition": "learned", "estimator": "ste"},
    "learned, counterfactual": {"partition": "learned", "estimator": "counterfactual"},
    "manual": {"partition": "manual"},
    "none": {"partition": "none"},
}
"""The partitions side by side: two ways to learn it, the first half of the channels, all channels."""

GROUP_NAMES = {"c4": "C_4", "so2": "SO(2)", "cube": "cube", "so3": "SO(3)"}

BATCH = 100


# -- runs ----------------------------------------------------------------------------------------------------


def configured(
    model: LatentActionOptions, seed: int, *, training: Mapping[str, Any], **engine: Any
) -> RunConfiguration[Any]:
    """A run of the task with its own defaults, Adam of rate 1e-3 among them, where nothing else is said."""
    whole = default_configuration("latent-actions")
    trained = dataclasses.replace(whole.training, **training)
    return dataclasses.replace(whole, model=model, seed=seed, training=trained, **engine)


@dataclass(frozen=True, eq=False)
class Trained:
    """A trained model with its task and the samples that it is tested on."""

    task: LatentActionTask
    model: LatentActionModel
    batches: Batches


def trained(run: Run, data_options: tuple[str, ...], count: int | None = None) -> Trained:
    """The model of the best epoch of a run, and the first `count` samples of its data with other options."""
    configuration = dataclasses.replace(run.configuration, data_options=data_options)
    dataset: Dataset = open_dataset(configuration)
    if count is not None:
        dataset = dataset.subset(min(count, len(dataset)))
    task, model = run.task, run.load_model(dataset)
    assert isinstance(task, LatentActionTask)
    assert isinstance(model, LatentActionModel)
    # An epoch of its own: none of the elements of training or validation. Runs of one seed share them.
    batches = Batches(dataset, torch.arange(len(dataset)), BATCH, seed=run.configuration.seed, epoch=-2)
    return Trained(task, model, batches)


@torch.no_grad()
def transformation_numbers(found: Trained) -> dict[str, float]:
    """The task's own numbers, and "rmse_still", that of an image which is left as it is."""
    still = []
    for batch, draws in found.batches:
        x, gx, _ = found.task.pair(batch, draws)
        still.append((x - gx).double().square().flatten(1).mean(1).sqrt())
    return {**found.task.evaluate(found.model, found.batches), "rmse_still": float(torch.cat(still).mean())}


EXPLANATION = (
    "Differences of PSNR between runs of the same seed, mean ± standard deviation. A claim is confirmed "
    "where the difference is not negative in any seed."
)

# -- findings ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Comparison:
    """That one row is at least as good as another in a number.

    Attributes:
        claim: in words.
        better, worse: the rows.
        number: its name.
        unit: after a difference.
        published: whether the paper says so; other comparisons are our own questions.
    """

    claim: str
    better: str
    worse: str
    number: str = "psnr"
    unit: str = " dB"
    published: bool = True


def differences(results: Mapping[Cell, Result], comparison: Comparison) -> list[float]:
    """better - worse for every seed that has both rows."""
    by_row: dict[str, dict[int, float]] = {}
    for cell, result in results.items():
        if comparison.number in result.numbers:
            seed = cell.configuration.seed
            by_row.setdefault(cell.row, {})[seed] = result.numbers[comparison.number]
    better, worse = by_row.get(comparison.better, {}), by_row.get(comparison.worse, {})
    return [better[seed] - worse[seed] for seed in sorted(better.keys() & worse.keys())]


def verdict(found: Sequence[float]) -> str:
    """Confirmed where the difference is not negative in any seed."""
    # all() over comparisons: a NaN fails each of them, while min() and max() pass over it.
    if all(value >= 0 for value in found):
        return "confirmed"
    opposite = all(value < 0 for value in found)
    return "not confirmed: the opposite, in every seed" if opposite else "not confirmed"


def comparison_table(results: Mapping[Cell, Result], comparisons: Sequence[Comparison]) -> str:
    """A Markdown table of all comparisons whose rows are there."""
    lines = []
    for comparison in comparisons:
        found = differences(results, comparison)
        if found:
            source = "paper" if comparison.published else "own"
            lines.append(
                f"| {comparison.claim} | {source} | {spread(found, '+.3f')}{comparison.unit} "
                f"| {verdict(found)} |"
            )
    head = ["| at least as good as | whose claim | difference | verdict |", "|---|---|---|---|"]
    return "\n".join([*head, *lines]) if lines else ""


def spread(values: Sequence[float], form: str) -> str:
    """Mean and standard deviation over seeds."""
    mean = format(statistics.fmean(values), form)
    return mean if len(values) == 1 else f"{mean} ± {format(deviation(values), form.lstrip('+'))}"


def row_values(results: Mapping[Cell, Result], row: str, number: str) -> list[float]:
    """A number of a row, one for each seed that has it."""
    return [r.numbers[number] for cell, r in results.items() if cell.row == row and number in r.numbers]


# -- figures -------------------------------------------------------------------------------------------------


def dot_figure(
    results: Mapping[Cell, Result],
    panels: Mapping[str, Sequence[tuple[str, str]]],
    label: str,
    number: str,
    span: tuple[float, float] | None = None,
) -> Figure:
    """A number of every run: a dot for each seed and a bar at their mean, rows below each other.

    Args:
        panels: for each title the rows, as (name in the table, name in the figure).
        label: of the axis.
        number: its name.
        span: of the axis; by default that of the values.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    from equikernels.models.latent_actions.figures import STYLE

    longest = max(len(rows) for rows in panels.values())
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3.0 * len(panels) + 1.6, 0.34 * longest + 1.2), layout="constrained")
        grid = figure.subplots(1, len(panels), squeeze=False, sharey=len(set(map(len, panels.values()))) == 1)
        for axes, (title, rows) in zip(grid[0], panels.items(), strict=True):
            _dots(axes, results, rows, number)
            axes.set_title(title)
            axes.set_xlabel(label)
            if span is not None:
                axes.set_xlim(*span)
    return figure


def _dots(axes: Axes, results: Mapping[Cell, Result], rows: Sequence[tuple[str, str]], number: str) -> None:
    from equikernels.models.latent_actions.figures import BLUE, GREY, ORANGE

    for place, (row, _) in enumerate(rows):
        values = row_values(results, row, number)
        if values:
            axes.plot([statistics.fmean(values)], [place], "|", color=GREY, markersize=16, markeredgewidth=2)
            colour = BLUE if "learned" in row else ORANGE
            axes.plot(values, [place] * len(values), "o", color=colour, markersize=5)
    axes.set_yticks(range(len(rows)), [name for _, name in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.grid(axis="x", color="#e4e4e4")
    axes.set_axisbelow(True)


def side_by_side(runs: Mapping[str, Trained], count: int = 6) -> Figure:
    """Images, the same as they should be transformed, and as every model transforms them: one row each.

    Args:
        runs: by the names of their rows; all see the same images and elements.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    from equikernels.models.latent_actions.figures import STYLE, show_image, show_label

    first = next(iter(runs.values()))
    batch, draws = next(iter(first.batches))
    x, gx, g = (values[:count] for values in first.task.pair(batch, draws))
    rows = {"image": 2 * x - 1, "truth": 2 * gx - 1}
    with torch.no_grad():
        rows |= {name: found.model.transform(2 * x - 1, g) for name, found in runs.items()}
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(1.0 * len(x) + 1.9, 1.02 * len(rows) + 0.1), layout="constrained")
        grid = figure.subplots(len(rows), len(x), squeeze=False)
        for axes, (name, images) in zip(grid, rows.items(), strict=True):
            show_label(axes[0], name.replace(", ", ",\n"))
            for place, image in zip(axes, images, strict=True):
                show_image(place, image)
    return figure
