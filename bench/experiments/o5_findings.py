"""What the regression under O(5) shows: verdicts computed from its numbers, and curves over softness."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.experiments.comparing import largest
from bench.experiments.trajectory_findings import Rows, Spread, verdict
from equikernels.models.engine.results import Cell, Result
from equikernels.models.soft_equivariance.figures import BLUE, GREY, ORANGE, STYLE

MLP, STRICT, FREE = "mlp", "softness 0", "softness 1"


def by_sigma(results: Mapping[Cell, Result]) -> dict[float, Rows]:
    """The numbers at every strength of the breaking term, from cells whose rows are "sigma S, row"."""
    found: dict[float, dict[str, dict[int, Mapping[str, float]]]] = {}
    for cell, result in results.items():
        sigma, _, row = cell.row.removeprefix("sigma ").partition(", ")
        found.setdefault(float(sigma), {}).setdefault(row, {})[cell.configuration.seed] = result.numbers
    return dict(found)


def findings(results: Mapping[Cell, Result]) -> str:
    """Markdown for the finished cells of one budget."""
    budget = next(iter(results.values())).budget
    lines = ["### What the numbers say", ""]
    for sigma, rows in by_sigma(results).items():
        soft = best_soft(rows)
        needed = {MLP, STRICT, FREE}
        if soft is None or not needed <= rows.keys() or not _seeds(rows, *needed, soft):
            lines.append(f"- sigma {sigma:g}: the rows that the claims need are not finished.")
        elif sigma == 0:
            lines += [_claim(rows, STRICT, other, "sigma 0") for other in (soft, FREE, MLP)]
        else:
            lines += [_claim(rows, soft, other, f"sigma {sigma:g}") for other in (STRICT, FREE, MLP)]
        worst = [numbers["invariance_error"] for numbers in rows.get(STRICT, {}).values()]
        if worst:
            kept = "confirmed" if largest(worst) < 1e-3 else "not confirmed"
            lines.append(
                f"- sigma {sigma:g}: softness 0 does not change under O(5), to rounding: **{kept}** "
                f"({largest(worst):.1g} in units of the target)."
            )
    lines += [
        "",
        "Where a soft row is compared it is the one of an intermediate softness with the smallest RMSE in "
        "validation. A difference is confirmed where it exceeds its standard deviation over the seeds.",
        "",
        f"![RMSE and change over softness](../figures/o5_regression_{budget}.png)",
    ]
    return "\n".join(lines)


def best_soft(rows: Rows) -> str | None:
    """The intermediate softness with the smallest mean RMSE in validation."""
    between = [row for row in rows if row.startswith("softness ") and row not in (STRICT, FREE)]
    errors = {row: statistics.fmean(n["validation_rmse"] for n in rows[row].values()) for row in between}
    known = [row for row, error in errors.items() if not math.isnan(error)]
    return min(known, key=errors.__getitem__, default=None)


def _claim(rows: Rows, better: str, worse: str, where: str) -> str:
    """Whether the test RMSE of one row is below that of another, by their common seeds."""
    seeds = _seeds(rows, better, worse)
    gaps = [rows[better][seed]["rmse"] - rows[worse][seed]["rmse"] for seed in seeds]
    numbers = [Spread.of([rows[row][seed]["rmse"] for seed in seeds]) for row in (better, worse)]
    return (
        f"- {where}: {better} ({numbers[0]}) is better than {worse} ({numbers[1]}): **{verdict(gaps, -1)}**."
    )


def _seeds(rows: Rows, *names: str) -> list[int]:
    return sorted(set.intersection(*(set(rows[name]) for name in names)))


def error_curves(results: Mapping[Cell, Result]) -> Figure:
    """Over softness, for every sigma: test RMSE upright and turned above, the change under O(5) below."""
    tables = by_sigma(results)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(max(3.4 * len(tables), 7.0), 5.6), layout="constrained")
        grid = figure.subplots(2, len(tables), squeeze=False, sharex=True, sharey="row")
        for column, (sigma, rows) in enumerate(tables.items()):
            top, bottom = grid[0, column], grid[1, column]
            _curve(top, rows, "rmse", BLUE, "o-", "upright")
            _curve(top, rows, "turned_rmse", ORANGE, "s--", "turned")
            if MLP in rows:
                mlp = statistics.fmean(numbers["rmse"] for numbers in rows[MLP].values())
                top.axhline(mlp, color=GREY, linestyle=":", label="ordinary network, upright")
            _curve(bottom, rows, "invariance_error", BLUE, "o-", "change under O(5)")
            top.set_title(f"sigma = {sigma:g}")
            bottom.set_xlabel("softness (0: invariant, 1: free)")
        grid[0, 0].set_ylabel("test RMSE")
        grid[1, 0].set_ylabel("mean |f(g x) - f(x)|")
        handles, labels = grid[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=len(labels))
    return figure


def _curve(axes: Axes, rows: Rows, number: str, colour: str, style: str, label: str) -> None:
    """The mean over seeds, and the range from the lowest to the highest."""
    levels = {float(row.removeprefix("softness ")): runs for row, runs in rows.items() if row != MLP}
    # A seed that failed is missing at its level alone.
    values = [[n[number] for n in levels[level].values()] for level in sorted(levels)]
    low, high = [min(v) for v in values], [max(v) for v in values]
    axes.fill_between(sorted(levels), low, high, color=colour, alpha=0.18, linewidth=0)
    axes.plot(sorted(levels), [statistics.fmean(v) for v in values], style, color=colour, label=label)
