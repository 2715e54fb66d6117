"""What the numbers of the trajectory experiment say of the published claims, computed from them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.experiments.comparing import deviation, largest
from equikernels.models.engine.results import Cell, Result

PLAIN, STRICT, SOFT = "plain", "strict", "soft"

PUBLISHED: dict[str, dict[str, tuple[float, float, float]]] = {
    SOFT: {
        "ETH": (4.58, 6.23, 1.42), "UNIV": (7.85, 8.07, 0.69), "ZARA1": (3.40, 4.67, 0.39),
        "ZARA2": (2.91, 3.60, 0.24), "HOTEL": (5.69, 6.26, 0.41),
    },
    PLAIN: {
        "ETH": (4.73, 6.15, 1.68), "UNIV": (7.91, 8.16, 0.73), "ZARA1": (3.61, 4.68, 1.14),
        "ZARA2": (3.17, 3.79, 1.17), "HOTEL": (5.84, 6.67, 2.50),
    },
    STRICT: {
        "ETH": (5.40, 7.33, 0.0), "UNIV": (8.16, 8.33, 0.0), "ZARA1": (3.66, 4.98, 0.0),
        "ZARA2": (2.94, 3.63, 0.0), "HOTEL": (6.16, 6.78, 0.0),
    },
}  # fmt: skip
"""cADE, cFDE and eErr, in a unit that the paper does not name."""

Rows = Mapping[str, Mapping[int, Mapping[str, float]]]
"""Numbers by row, seed and name, of one scene."""

NUMBERS = ("combined_ade", "combined_fde", "equivariance_error")
ROUNDING = 1e-4
"""Metres: rounding of float32 positions of some ten metres, over twenty steps and all layers."""


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation over the seeds; the latter is nan for one seed alone."""

    mean: float
    deviation: float

    @staticmethod
    def of(values: Sequence[float]) -> Spread:
        return Spread(statistics.fmean(values), deviation(values) if len(values) > 1 else math.nan)

    def __str__(self) -> str:
        if math.isnan(self.deviation):
            return f"{self.mean:.3f}"
        return f"{self.mean:.3f} ± {self.deviation:.3f}"


def verdict(values: Sequence[float], wanted: int) -> str:
    """Whether values are below 0 (wanted = -1) or above it (+1), by more than the seeds differ.

    >>> verdict([-0.3, -0.2], -1), verdict([-0.3, 0.1], -1), verdict([0.2, 0.3], -1)
    ('confirmed', 'not confirmed: within the spread of the seeds', 'not confirmed: the opposite')
    """
    signed = [wanted * value for value in values]
    found = Spread.of(signed)
    if len(values) < 2:
        return "not decided by one seed"
    if not math.isfinite(found.mean):
        return "not confirmed: not a finite number"
    if abs(found.mean) <= found.deviation:
        return "not confirmed: within the spread of the seeds"
    return "confirmed" if found.mean > 0 else "not confirmed: the opposite"


def by_scene(results: Mapping[Cell, Result]) -> dict[str, Rows]:
    """The numbers of every scene, from cells whose rows are "SCENE, row"."""
    scenes: dict[str, dict[str, dict[int, Mapping[str, float]]]] = {}
    for cell, result in results.items():
        scene, _, row = cell.row.partition(", ")
        scenes.setdefault(scene, {}).setdefault(row, {})[cell.configuration.seed] = result.numbers
    return dict(scenes)


def findings(results: Mapping[Cell, Result]) -> str:
    """Markdown for the finished cells of one budget."""
    budget = next(iter(results.values())).budget
    parts = [_scene(scene, rows) for scene, rows in by_scene(results).items()]
    pictures = [
        "![cADE, cFDE and eErr of every row](../figures/trajectories_errors_BUDGET.png)",
        "![Predicted paths, as observed and turned](../figures/trajectories_paths_BUDGET.png)",
    ]
    return "\n\n".join([*parts, *(picture.replace("BUDGET", budget) for picture in pictures)])


def chosen_softness(rows: Rows) -> str | None:
    """The soft row with the smallest mean cADE in validation."""
    errors = {
        row: _mean(runs, "validation_combined_ade") for row, runs in rows.items() if row.startswith(SOFT)
    }
    # NaN is smaller and larger than nothing: it would win by being first.
    known = [row for row, error in errors.items() if not math.isnan(error)]
    return min(known, key=errors.__getitem__, default=None)


def _scene(scene: str, rows: Rows) -> str:
    any_numbers = next(iter(next(iter(rows.values())).values()))
    lines = [
        f"### {scene}: what the numbers say",
        "",
        "Two rules without training, both equivariant, so that their errors (m) are the same turned or not: "
        f"constant velocity, the last observed one, has ADE {any_numbers['walking_on_ade']:.3f} and "
        f"FDE {any_numbers['walking_on_fde']:.3f}; standing still has "
        f"ADE {any_numbers['standing_still_ade']:.3f} and FDE {any_numbers['standing_still_fde']:.3f}.",
    ]
    soft = chosen_softness(rows)
    if soft is None or not {PLAIN, STRICT} <= rows.keys() or not _seeds(rows, PLAIN, soft, STRICT):
        return "\n".join([*lines, "", "The rows that the claims need are not finished."])
    lines += ["", *_ratios(scene, rows, soft), "", *_claims(scene, rows, soft), "", _against_rule(rows, soft)]
    return "\n".join(lines)


def _ratios(scene: str, rows: Rows, soft: str) -> list[str]:
    """Ratios to the plain transformer of the same seed, beside the published ones."""
    heading = (
        f'Of the soft rows **{soft}** has the smallest cADE in validation; it stands for "soft" below. The '
        "published numbers have no unit, so ratios to the plain transformer are compared, seed by seed."
    )  # fmt: skip
    table = [heading, "", "| | cADE | published | cFDE | published | eErr | published |", "|" + "---|" * 7]
    for kind, row in ((SOFT, soft), (STRICT, STRICT)):
        entries = []
        for place, number in enumerate(NUMBERS):
            published = PUBLISHED[kind][scene][place] / PUBLISHED[PLAIN][scene][place]
            entries += [str(Spread.of(_ratio(rows, row, number))), f"{published:.3f}"]
        table.append(f"| {kind} / plain | " + " | ".join(entries) + " |")
    return table


def _claims(scene: str, rows: Rows, soft: str) -> list[str]:
    lines = []
    for kind, row in ((SOFT, soft), (STRICT, STRICT)):
        for place, (number, name) in enumerate(zip(NUMBERS[:2], ("cADE", "cFDE"), strict=True)):
            published = PUBLISHED[kind][scene][place] / PUBLISHED[PLAIN][scene][place] - 1
            sign = 1 if published > 0 else -1
            word = "larger" if sign > 0 else "smaller"
            found = [ratio - 1 for ratio in _ratio(rows, row, number)]
            lines.append(
                f"- {name} of {kind} is {word} than that of plain (published {100 * published:+.1f} %, here "
                f"{100 * statistics.fmean(found):+.1f} %): **{verdict(found, sign)}**."
            )
    gaps = [
        _at(rows, PLAIN, s, NUMBERS[2]) - _at(rows, soft, s, NUMBERS[2]) for s in _seeds(rows, PLAIN, soft)
    ]
    lines.append(f"- eErr of plain exceeds that of soft: **{verdict(gaps, 1)}**.")
    worst = largest(numbers[NUMBERS[2]] for numbers in rows[STRICT].values())
    kept = "confirmed" if worst <= ROUNDING else "not confirmed"
    lines.append(f"- eErr of strict is 0 to rounding: **{kept}** ({worst:.1g} m).")
    return lines


def _against_rule(rows: Rows, soft: str) -> str:
    """How the models do beside constant velocity, whose cADE is its ADE."""
    parts = []
    for name in (PLAIN, soft, STRICT):
        found = [n["combined_ade"] / n["walking_on_ade"] - 1 for n in rows[name].values()]
        parts.append(f"{name} {100 * statistics.fmean(found):+.1f} % ({_side(found)})")
    return "cADE beside that of walking on at constant velocity: " + ", ".join(parts) + "."


def _side(differences: Sequence[float]) -> str:
    if all(difference < 0 for difference in differences):
        return "better in every seed"
    return "worse in every seed" if all(difference > 0 for difference in differences) else "seeds disagree"


def _ratio(rows: Rows, row: str, number: str) -> list[float]:
    return [_at(rows, row, s, number) / _at(rows, PLAIN, s, number) for s in _seeds(rows, PLAIN, row)]


def _seeds(rows: Rows, *names: str) -> list[int]:
    """Those that all the rows have."""
    return sorted(set.intersection(*(set(rows[name]) for name in names)))


def _at(rows: Rows, row: str, seed: int, number: str) -> float:
    return rows[row][seed][number]


def _mean(runs: Mapping[int, Mapping[str, float]], number: str) -> float:
    return statistics.fmean(numbers[number] for numbers in runs.values())
