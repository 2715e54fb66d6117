"""The paper in miniature: tunable invariance with a guarantee, checked on scikit-learn's digits."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from equikernels.group import SO2, CyclicGroup, Group
from equikernels.models.engine.miniature import Claim, Miniature, Picture, Report
from equikernels.models.soft_equivariance import digits, figures
from equikernels.models.soft_equivariance.certified_error import SLACK, DigitResult, evaluate

__all__ = ["GROUPS", "STEPS", "Settings", "claims", "run", "table_rows"]

GROUPS: tuple[Group, ...] = (CyclicGroup(4), SO2())

HEADINGS = (
    "group", "softness", "certified error", "measured error", "worst ratio",
    "unchanged* (%)", "upright* (%)", "rotated* (%)",
)  # fmt: skip

NOTE = (
    "Certified and measured error: change of the logits in the worst turn checked, relative to their "
    "length, for the median test image; above 1 a certificate proves no prediction, because the logits "
    "may turn round. Worst ratio: measured / certified over all images and turns. Mean ± standard deviation "
    "over seeds. * has no certificate. Unchanged*: images whose predicted digit is the same in every turn "
    "checked. Upright*, rotated*: accuracy on test images as they are and turned, C_4 by 90, 180 and 270 "
    "degrees, SO(2) by random angles with bilinear interpolation, which is not the action of the certificate."
)

INTRODUCTION = (
    "A network with one hidden layer learns scikit-learn's digits (8 x 8 pixels) from upright images "
    "only. Its first layer is projected: softness 0 leaves only filters that no turn can change, "
    "softness 1 leaves all. From the weights alone follows how far a turn can move the network's "
    "answer, for every image; that is the certificate, and here it is compared with what happens on the "
    "test images. C_4 are the quarter turns of the pixels; SO(2) is every angle, by the spectral "
    "representation, which composes exactly. After “Tunable Soft Equivariance with Guarantees” "
    "(arXiv 2603.26657)."
)


@dataclass(frozen=True)
class Settings:
    """How much is done. `softness`: levels from 0 upwards; `random_angles`: of SO(2), beside twelve."""

    softness: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75, 1.0)
    epochs: int = 40
    hidden: int = 128
    seeds: int = 3
    test_images: int = 400
    random_angles: int = 20

    @property
    def description(self) -> str:
        """The settings in a sentence."""
        return (
            f"{self.hidden} hidden units, {self.epochs} epochs, {self.seeds} training seeds, "
            f"{self.test_images} test images, turned by all elements of C_4 "
            f"and by {12 + self.random_angles} angles of SO(2)."
        )

    @property
    def steps(self) -> int:
        """How many steps are reported: epochs and certificates of every model, the turns, the figures."""
        models = self.seeds * len(GROUPS) * len(self.softness)
        return models * (self.epochs + 1) + 1 + len(figures.CAPTIONS)


STEPS: int = Settings().steps
"""How many steps `run` reports."""


def run(seed: int, report: Report, settings: Settings = Settings()) -> Miniature:
    """Train, certify, turn and draw.

    Args:
        seed: of the split, the random angles and the first training; the others follow it.
        report: called after each of `settings.steps` steps.
    """
    split = digits.load_split(seed, settings.test_images)
    results: list[DigitResult] = []
    filters: dict[str, np.ndarray] = {}
    for model_seed in range(seed, seed + settings.seeds):
        models = _train(split, model_seed, settings, report)
        for model in itertools.chain(*models.values()):
            options = {"model_seed": model_seed, "seed": seed, "random_angles": settings.random_angles}
            results.append(evaluate(model, split, **options))
            report(f"certifying {results[-1].group}, softness {results[-1].softness:g}")
        if not filters:
            filters = {repr(group): figures.strongest_filters(models[group]) for group in GROUPS}
    turns = figures.turn_repeatedly(split.test_images)
    report("turning digits twelve times")
    curves = figures.curves(results)
    two = int((split.test_labels == 2).nonzero()[0])  # a shape that shows which way it is turned
    drawings = (
        lambda: figures.trade_off(curves),
        lambda: figures.filters(filters, settings.softness),
        lambda: figures.single_turns(turns, two),
        lambda: figures.twelve_turns(turns, two),
    )
    pictures = []
    for (name, (title, caption)), draw in zip(figures.CAPTIONS.items(), drawings, strict=True):
        pictures.append(Picture(name, title, caption, draw()))
        report(f"drawing {name}")
    return Miniature(
        title="Soft equivariance: digits under turns",
        introduction=INTRODUCTION,
        claims=claims(results, turns),
        pictures=pictures,
        headings=HEADINGS,
        rows=table_rows(curves, results),
        note=f"{settings.description} {NOTE}",
    )


def _train(
    split: digits.DigitSplit, seed: int, settings: Settings, report: Report
) -> dict[Group, list[digits.InvariantClassifier]]:
    """For each group a trained model of each softness."""
    models: dict[Group, list[digits.InvariantClassifier]] = {group: [] for group in GROUPS}
    for group, softness in itertools.product(GROUPS, settings.softness):
        model = digits.InvariantClassifier(group, softness, settings.hidden, seed)
        after_epoch = partial(
            _report_epoch, report, f"training {group!r}, softness {softness:g}, seed {seed}"
        )
        digits.train_classifier(
            model, split.train_images, split.train_labels,
            epochs=settings.epochs, seed=seed, after_epoch=after_epoch,
        )  # fmt: skip
        models[group].append(model)
    return models


def _report_epoch(report: Report, name: str, loss: float) -> None:
    report(name)


# -- verdicts and table ------------------------------------------------------------------------------------


def claims(results: Sequence[DigitResult], turns: figures.RepeatedTurns) -> list[Claim]:
    """What was promised, against what was measured."""
    worst = max((result.tightness for result in results if result.tightness is not None), default=0.0)
    strict = [r for r in results if r.softness == 0]
    largest = max(max(r.certified_max, r.measured_max) for r in strict)
    spectral, bilinear = (
        (x[-1] - x[0]).norm(dim=-1) / x[0].norm(dim=-1) for x in (turns.spectral, turns.bilinear)
    )
    ratio = f"worst ratio {worst:.2f} over {sum(r.checks for r in results)} checks"
    exact = f"largest change of the logits {largest:.0e}, certified or measured"
    returned = f"largest relative error {float(spectral.max()):.0e}"
    blurred = f"median relative error {float(bilinear.median()):.2f}"
    whole = f"certificates of {len(results)} models"
    judged = [
        Claim("measured error never exceeds its certificate", ratio, all(r.holds for r in results)),
        Claim("the bound for all turns covers each turn", whole, all(r.covered for r in results)),
        Claim("softness 0 is invariant up to rounding", exact, all(r.exact for r in strict)),
        Claim("12 spectral turns by 30° return", returned, float(spectral.max()) < SLACK),
        Claim("12 bilinear turns by 30° lose detail", blurred, None),
    ]
    for group, curve in figures.curves(results).items():
        steps = np.diff(curve.measured.mean(1))
        trend = "grows with softness" if bool((steps >= 0).all()) else "is not monotone in softness"
        values = ", ".join(f"{value:.2f}" for value in curve.measured.mean(1))
        judged.append(Claim(f"{group}: measured error {trend}", values, None))
    return judged


def table_rows(curves: Mapping[str, figures.Curve], results: Sequence[DigitResult]) -> list[tuple[str, ...]]:
    """The cells of the table, one row for each group and softness: mean ± standard deviation over seeds."""
    rows: list[tuple[str, ...]] = []
    for group, curve in curves.items():
        for level, softness in enumerate(curve.softness):
            own = [r for r in results if r.group == group and r.softness == softness]
            ratios = [r.tightness for r in own if r.tightness is not None]
            ratio = f"{max(ratios):.2f}" if ratios else "exact" if all(r.exact for r in own) else "-"
            errors = (_spread(curve.certified[level], 2), _spread(curve.measured[level], 2), ratio)
            unchanged = np.array([r.unchanged_predictions for r in own])
            shares = (unchanged, curve.clean[level], curve.rotated[level])
            rows.append((group, f"{softness:g}", *errors, *(_spread(100 * share, 1) for share in shares)))
    return rows


def _spread(values: np.ndarray, places: int) -> str:
    mean = f"{values.mean():.{places}f}"
    return f"{mean} ± {values.std(ddof=1):.{places}f}" if len(values) > 1 else mean
