"""``equikernels demo``: tunable invariance with a guarantee, trained and checked on real digits."""

from __future__ import annotations

import importlib.metadata
import itertools
import json
import platform
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from equikernels import __version__
from equikernels.cli import UserError
from equikernels.cli.demo_page import CAPTION, COLUMNS, TITLE, Verdict, page
from equikernels.group import SO2, CyclicGroup, Group
from equikernels.models.soft_equivariance import digits, figures
from equikernels.models.soft_equivariance.certified_error import SLACK, DigitResult, evaluate

__all__ = ["Settings", "run"]

GROUPS: tuple[Group, ...] = (CyclicGroup(4), SO2())
MOST_SEEDS = 10


@dataclass(frozen=True)
class Settings:
    """How much is done. `softness`: levels from 0 upwards; `random_angles`: of SO(2), beside twelve."""

    softness: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75, 1.0)
    epochs: int = 40
    hidden: int = 128
    seeds: int = 3
    test_images: int = 400
    random_angles: int = 20


def run(out: Path, budget: str | None, seed: int, settings: Settings = Settings()) -> int:
    """Train, certify, draw and report.

    Args:
        out: folder to write figures, results.json and index.html into; made where it is absent.
        budget: how much time to spend ("90", "90s", "5m"): training is repeated with further seeds, at most
            10, while another repetition fits. None: as many seeds as `settings` says.
        seed: of the split, the random angles and the first training; the others follow it.

    Returns:
        0 where every verdict holds, else 1.

    Raises:
        UserError: an output folder that cannot be written, or a budget that is not a time.
    """
    seconds = parse_budget(budget)
    if not 0 <= seed < 2**31:
        raise UserError(f"argument --seed: expected 0 .. {2**31 - 1}, got {seed}", exit_code=2)
    prepare_folder(out)
    console = Console()
    if not console.is_terminal:
        console = Console(width=120)
    started = time.perf_counter()
    results: list[DigitResult] = []
    filters: dict[str, np.ndarray] = {}
    slowest = 0.0
    # Matrices of 128 x 64 are too small to share: one thread is fastest, and its sums have one order.
    with _threads(1):
        split = digits.load_split(seed, settings.test_images)
        for repetition in range(settings.seeds if seconds is None else MOST_SEEDS):
            begun = time.perf_counter()
            if repetition and seconds is not None and begun - started + slowest > seconds:
                break
            models = _train(console, split, seed + repetition, settings)
            results += _certify(console, models, split, seed, seed + repetition, settings)
            if repetition == 0:
                filters = {repr(group): figures.strongest_filters(models[group]) for group in GROUPS}
            slowest = max(slowest, time.perf_counter() - begun)
        with _part(console, "Turning digits twelve times", 1) as step:
            turns = figures.turn_repeatedly(split.test_images)
            step("")
        judged, curves = verdicts(results, turns), figures.curves(results)
        two = int((split.test_labels == 2).nonzero()[0])  # a shape that shows which way it is turned
        with _part(console, "Drawing figures", len(figures.CAPTIONS)) as step:
            drawn = (
                figures.trade_off(curves),
                figures.filters(filters, settings.softness),
                figures.single_turns(turns, two),
                figures.twelve_turns(turns, two),
            )
            for name, figure in zip(figures.CAPTIONS, drawn, strict=True):
                figure.savefig(out / name)
                step(name)
    elapsed = time.perf_counter() - started
    if seconds is not None and elapsed > seconds:
        console.print(f"This took {elapsed:.0f} s, more than the budget of {seconds:g} s.")
    conditions = _conditions(budget, seed, settings, results, elapsed)
    listed = {"verdicts": [asdict(v) for v in judged], "results": [asdict(r) for r in results]}
    content = {"conditions": conditions} | listed
    (out / "results.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    rows = table_rows(curves, results)
    (out / "index.html").write_text(page(rows, judged, conditions), encoding="utf-8")
    _print(console, out, rows, judged, elapsed)
    return 1 if any(verdict.holds is False for verdict in judged) else 0


def parse_budget(budget: str | None) -> float | None:
    """A time such as "90", "90s", "5m" or "1h" in seconds.

    >>> parse_budget("1.5m")
    90.0
    """
    if budget is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh]?)", budget.strip())
    if found is None or float(found[1]) == 0:
        raise UserError(f"argument --budget: expected a time such as 90s or 5m, got {budget!r}", exit_code=2)
    return float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[found[2]]


def prepare_folder(out: Path) -> None:
    """Make the folder, and write into it once: better to fail now than after a minute of training."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise UserError(f"argument --out: cannot write to {out}: {error.strerror}", exit_code=2) from error


# -- the parts -------------------------------------------------------------------------------------------


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _part(console: Console, title: str, total: int) -> Iterator[Callable[..., None]]:
    """A progress bar on a terminal, a plain line elsewhere. Gives a function that counts a named step."""
    begun = time.perf_counter()
    if not console.is_terminal:
        yield lambda *_: None
        console.print(f"{title}: {time.perf_counter() - begun:.1f} s", highlight=False)
        return
    columns = (TextColumn("{task.description:27}"), BarColumn(16), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TextColumn("{task.fields[now]}"), console=console) as progress:
        task = progress.add_task(title, total=total, now="")
        yield lambda now, *_: progress.update(task, advance=1, now=now)
        progress.update(task, now="")


Models = dict[Group, list[digits.InvariantClassifier]]


def _train(console: Console, split: digits.DigitSplit, seed: int, settings: Settings) -> Models:
    models: Models = {group: [] for group in GROUPS}
    total = len(GROUPS) * len(settings.softness) * settings.epochs
    with _part(console, f"Training, seed {seed}", total) as step:
        for group, softness in itertools.product(GROUPS, settings.softness):
            model = digits.InvariantClassifier(group, softness, settings.hidden, seed)
            data = split.train_images, split.train_labels
            named = partial(step, f"{group!r}, softness {softness:g}")
            digits.train_classifier(model, *data, epochs=settings.epochs, seed=seed, after_epoch=named)
            models[group].append(model)
    return models


def _certify(
    console: Console, models: Models, split: digits.DigitSplit, seed: int, model_seed: int, settings: Settings
) -> list[DigitResult]:
    results = []
    every = list(itertools.chain(*models.values()))
    options = {"model_seed": model_seed, "seed": seed, "random_angles": settings.random_angles}
    with _part(console, f"Certifying, seed {model_seed}", len(every)) as step:
        for model in every:
            results.append(evaluate(model, split, **options))
            step(f"{results[-1].group}, softness {results[-1].softness:g}")
    return results


# -- verdicts and table ------------------------------------------------------------------------------------


def verdicts(results: Sequence[DigitResult], turns: figures.RepeatedTurns) -> list[Verdict]:
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
        Verdict("measured error never exceeds its certificate", ratio, all(r.holds for r in results)),
        Verdict("the bound for all turns covers each turn", whole, all(r.covered for r in results)),
        Verdict("softness 0 is invariant up to rounding", exact, all(r.exact for r in strict)),
        Verdict("12 spectral turns by 30° return", returned, float(spectral.max()) < SLACK),
        Verdict("12 bilinear turns by 30° lose detail", blurred, None),
    ]
    for group, curve in figures.curves(results).items():
        steps = np.diff(curve.measured.mean(1))
        trend = "grows with softness" if bool((steps >= 0).all()) else "is not monotone in softness"
        values = ", ".join(f"{value:.2f}" for value in curve.measured.mean(1))
        judged.append(Verdict(f"{group}: measured error {trend}", values, None))
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


def _print(
    console: Console, out: Path, rows: Sequence[Sequence[str]], judged: Sequence[Verdict], elapsed: float
) -> None:
    def text(cell: str) -> str:
        if not console.options.ascii_only:
            return cell
        return cell.replace("±", "+-").replace("°", " degrees").encode("ascii", "replace").decode()

    table = Table(title=TITLE, caption=text(CAPTION), caption_justify="left")
    for heading in COLUMNS:
        table.add_column(heading, justify="left" if heading == COLUMNS[0] else "right")
    for index, row in enumerate(rows):
        table.add_row(*map(text, row), end_section=index + 1 < len(rows) and rows[index + 1][0] != row[0])
    console.print(table)
    verdict_table = Table("claim", "measured", "verdict", title="Verdicts")
    for verdict in judged:
        style = {True: "green", False: "bold red", None: "dim"}[verdict.holds]
        verdict_table.add_row(text(verdict.claim), text(verdict.measured), f"[{style}]{verdict.word}[/]")
    console.print(verdict_table)
    failed = sum(verdict.holds is False for verdict in judged)
    if failed:
        console.print(f"[bold red]{failed} of these claims failed.[/]")
    message = f"{elapsed:.0f} s. Figures, numbers and a page to read: {out / 'index.html'}"
    console.print(text(message), markup=False, highlight=False, soft_wrap=True)


def _conditions(
    budget: str | None,
    seed: int,
    settings: Settings,
    results: Sequence[DigitResult],
    elapsed: float,
) -> dict[str, object]:
    command = f"equikernels demo --seed {seed}" + (f" --budget {budget}" if budget else "")
    libraries = ("torch", "numpy", "scipy", "scikit-learn", "matplotlib")
    return {
        "command": command,
        "training seeds": sorted({result.seed for result in results}),
        # The seeds are told above: with a budget, how many there are is not a setting.
        "settings": {name: value for name, value in asdict(settings).items() if name != "seeds"},
        "versions": {"equikernels": __version__, "Python": platform.python_version()}
        | {library: importlib.metadata.version(library) for library in libraries},
        "machine": f"{platform.machine()}, {platform.system()}, one thread",
        "seconds": round(elapsed, 1),
    }
