"""What softness costs and buys on digits: docs/results/softness.md and its figures.

    python -m bench.softness_trade_off [--budget cpu|full] [--seeds 0 1 2 ...]

One small classifier is trained with every level of three cut-offs: a softness s, a hard cut-off b, a smooth
width tau. Each training is a cell, kept as one line of build/softness_trade_off.jsonl, so that an interrupted
run goes on where it stopped; delete that file to start again. Exits with 1 where a measured error exceeds its
bound.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from bench.softness_cells import MEASURES, Cell, Result, all_cells, complete
from bench.softness_figures import bound_figure, cutoff_figure
from equikernels.models.soft_equivariance.certified_error import SLACK
from equikernels.models.soft_equivariance.digits import SIZE, load_split

REPOSITORY = Path(__file__).resolve().parent.parent
PAGE = REPOSITORY / "docs" / "results" / "softness.md"
FIGURES = REPOSITORY / "docs" / "figures"
CELLS = REPOSITORY / "build" / "softness_trade_off.jsonl"

BUDGETS = {"cpu": 5, "full": 20}
"""How many seeds each budget has."""

KNOB_NAMES = {"s": "`Softness(s)`", "b": "`Hard(b)`", "tau": "`Smooth(0, tau)`"}
RADIUS_NAMES = {"C_4": "one letter (90 or 270 degrees)", "SO(2)": "30 degrees"}

# -- sweeps --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Sweep:
    """The results of one group and knob: `values[measure]` is (levels, seeds), levels ascending."""

    group: str
    knob: str
    levels: tuple[float, ...]
    values: Mapping[str, np.ndarray]
    holds: bool

    def mean(self, measure: str) -> np.ndarray:
        """Over seeds (levels,)."""
        return np.asarray(self.values[measure].mean(axis=1))

    def percent(self, measure: str) -> np.ndarray:
        """Means of a share in percent (levels,), rounded as the tables round theirs."""
        return np.asarray((100 * self.values[measure]).mean(axis=1))


def sweeps(results: Mapping[Cell, Result]) -> list[Sweep]:
    """The results by group and knob; every level must have the same seeds."""
    found = []
    for group, knob in dict.fromkeys((repr(cell.group), cell.knob) for cell in results):
        own = {(c.level, c.seed): r for c, r in results.items() if (repr(c.group), c.knob) == (group, knob)}
        levels = tuple(sorted({level for level, _ in own}))
        seeds = sorted({seed for _, seed in own})
        values = {
            name: np.array([[getattr(own[level, seed], name) for seed in seeds] for level in levels])
            for name in MEASURES
        }
        found.append(Sweep(group, knob, levels, values, all(r.holds for r in own.values())))
    return found


def is_monotone(values: np.ndarray) -> bool:
    """Whether values (levels,) never fall by more than rounding."""
    return bool((np.diff(values) >= -SLACK).all())


def first_near_best(values: np.ndarray, distance: float = 0.01) -> int:
    """The first level whose value is within `distance` of the best one."""
    return int(np.argmax(values >= values.max() - distance - SLACK))


def half_lost(values: np.ndarray) -> int | None:
    """The first level at which half of the difference between the first and the last is lost, or None."""
    if values[-1] >= values[0]:
        return None
    return int(np.argmax(values <= (values[0] + values[-1]) / 2))


def loosest_within(sweep: Sweep, bound: float) -> int:
    """The last level up to which the certified error of the layer is at most `bound`, in every seed.

    The strictest level serves where none does: its index is 0.
    """
    allowed = np.logical_and.accumulate(sweep.values["certified_layer"].max(axis=1) <= bound + SLACK)
    return max(int(allowed.sum()) - 1, 0)


def verdicts(found: Sequence[Sweep]) -> dict[str, bool]:
    """What must hold of every table."""
    strict = [sweep.values for sweep in found if sweep.knob in ("s", "b")]
    return {
        "measured error <= certified error <= prior bound, in every cell": all(s.holds for s in found),
        "the prior bound never falls with s, b or tau": all(is_monotone(s.mean("prior")) for s in found),
        "s = 0 and the lowest b are invariant up to rounding": all(
            float(v[name][0].max()) <= SLACK for v in strict for name in ("certified_layer", "measured_layer")
        ),
    }


# -- the page ------------------------------------------------------------------------------------------------

INTRODUCTION = """# Softness: accuracy against the certified bound

Made by `python -m bench.softness_trade_off{arguments}`; every number and every finding on this page is
computed by it. What to do with them is in [Which softness should I take?](../softness.md)."""

METHOD = """A network with one hidden layer, f(x) = W2 relu(P(W) x + c) + d with 128 hidden units, learns
scikit-learn's digits (8 x 8 pixels) from **upright images only**, from scratch and without augmentation (40
epochs of Adam). P is the invariant projector of the pixels with one of three cut-offs: `Softness(s)`,
`Hard(b)` with one b in every gap between the singular values, `Smooth(0, tau)`, which multiplies the part
with singular value sigma by exp(-sigma / tau). Each seed has its own split, initial weights and order of
images, the same for all levels. Numbers are means ± standard deviations over seeds.

- *Free*: the sum of the responses, of 64 directions in a filter.
- *Prior*: the bound on the first layer's relative error that is known before training, max over sigma of
  f(sigma) times the error of that part: `certificate.bound(radius=..., kind="prior")` over |P(W)| where P
  is a projection (every b, some s), else over the raw |W|. In the first case it is what `cutoff_for`
  promises; in the second it is relative to another length than the certified error, which may be larger.
- *Layer, certified*: `certificate.bound(radius=...)` over |P(W)| (posterior, Frobenius norm), for all turns
  g within the radius at least |P(W) rho(g) - P(W)| / |P(W)|. At most 2. *Measured*: the largest of the
  sampled turns.
- *Network, certified*: |W2| times the first layer's posterior bound in the operator norm, times |x| /
  |f(x)|, for the median test image: the most that a turn within the radius can change the logits, relative
  to their length. *Measured*: the worst sampled turn, for the median test image, by the representation that
  the bound speaks of.
- *Vouched*: test images (%) whose predicted digit provably stays within the radius: the lead of the first
  logit over the second exceeds sqrt(2) times the certified change.
- *Worst ratio*: the largest measured / certified change of the logits over all images, turns and seeds.
- *Upright*, *near*, *turned*: accuracy (%) on test images as they are, turned within the radius, and turned
  by any element. SO(2): uniformly random angles, bilinear interpolation, which is not the action of the
  bounds. C_4: exact quarter turns, the unturned image not among them.
- *Commonest*: images turned within the radius (%) that get the commonest answer, about 10 where answers are
  as balanced as the digits, 100 where a network gives one answer to all.

The radius is 30 degrees for SO(2), and one letter for C_4: a turn by 90 degrees to either side. Sampled are
both ends of the radius and 18 random angles for SO(2), all elements within the radius for C_4."""


def level_text(level: float) -> str:
    """A level with at most four digits: 0.03125, 1.707, inf."""
    return f"{level:.4g}"


def spread(values: np.ndarray, places: int) -> str:
    """Mean ± standard deviation (n - 1) of values (seeds,); what is only rounding is 0."""
    values = np.where(np.abs(values) < SLACK, 0.0, values)
    mean = f"{values.mean():.{places}f}"
    return f"{mean} ± {values.std(ddof=1):.{places}f}" if len(values) > 1 else mean


def table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *lines])


def sweep_table(sweep: Sweep) -> str:
    head = [sweep.knob, "free", "prior", "layer, certified", "layer, measured", "network, certified"]
    head += ["network, measured", "worst ratio", "vouched", "upright", "near", "turned", "commonest"]
    lines = []
    for row, level in enumerate(sweep.levels):
        at = {name: values[row] for name, values in sweep.values.items()}
        errors = ("certified_layer", "measured_layer", "certified_network", "measured_network")
        lines.append(
            [level_text(level), f"{at['dimension'].mean():.3g}", spread(at["prior"][:1], 2)]
            + [spread(at[name], 2) for name in errors]
            + [f"{at['worst_ratio'].max():.2f}"]
            + [spread(100 * at[name], 1) for name in ("vouched", "upright", "near", "turned", "commonest")]
        )
    return table(head, lines)


def findings(sweep: Sweep) -> list[str]:
    """One line of the table of findings."""
    upright, near, turned = (sweep.percent(name) for name in ("upright", "near", "turned"))
    bound, vouched = sweep.mean("certified_layer"), sweep.mean("vouched")

    def level(index: int) -> str:
        return f"{sweep.knob} = {level_text(sweep.levels[index])}"

    full, best, lost = first_near_best(upright, 1.0), int(near.argmax()), half_lost(turned)
    half = int(np.logical_and.accumulate(vouched >= 0.5).sum()) - 1
    return [
        sweep.group,
        KNOB_NAMES[sweep.knob],
        f"{level(full)}: {upright[full]:.1f} % at bound {bound[full]:.2f}",
        f"{level(best)}: {near[best]:.1f} % at bound {bound[best]:.2f}",
        "never" if lost is None else f"{level(lost)}: {turned[0]:.1f} % became {turned[lost]:.1f} %",
        "nowhere" if half < 0 else f"up to {level(half)}: {upright[half]:.1f} % upright",
    ]


def equal_bounds(found: Sequence[Sweep], bounds: Sequence[float] = (0.25, 0.5, 0.75, 1.0)) -> str:
    """The loosest level of every knob within each bound, side by side."""
    lines = []
    for group in dict.fromkeys(sweep.group for sweep in found):
        for bound in bounds:
            for sweep in (sweep for sweep in found if sweep.group == group):
                row = loosest_within(sweep, bound)
                shares = [f"{sweep.percent(name)[row]:.1f}" for name in ("upright", "near", "turned")]
                level = f"{sweep.knob} = {level_text(sweep.levels[row])}"
                reached = f"{max(float(sweep.mean('certified_layer')[row]), 0.0):.2f}"
                lines.append([group, f"{bound:g}", level, reached, *shares])
    return table(["group", "bound", "loosest level", "reached", "upright", "near", "turned"], lines)


def make_page(found: Sequence[Sweep], conditions: str, arguments: str = "") -> str:
    """The whole page as Markdown."""
    judged = [f"- {claim}: {'holds' if holds else '**fails**'}" for claim, holds in verdicts(found).items()]
    heads = ["group", "cut-off", "upright within one point of its best from", "near is best at"]
    heads += ["turned has lost half of what it loses by", "bound vouches for half of the images"]
    parts = [
        INTRODUCTION.format(arguments=arguments),
        f"Conditions: {conditions}.",
        "![Accuracy against the certified bound, one curve for each cut-off](../figures/softness_bound.png)",
        "## Findings",
        table(heads, [findings(sweep) for sweep in found]),
        "The loosest level of each cut-off whose certified error of the layer stays within a bound in every "
        "seed, and what it reaches (bound and accuracies are means):",
        equal_bounds(found),
        "Checked:",
        "\n".join(judged),
        "## What was done",
        METHOD,
    ]
    for sweep in found:
        title = f"## {sweep.group}: {KNOB_NAMES[sweep.knob]}, bounds within {RADIUS_NAMES[sweep.group]}"
        parts += [title, sweep_table(sweep)]
    return "\n\n".join(parts) + "\n"


def brightness_of_edges(images: torch.Tensor) -> tuple[float, float]:
    """The mean of images (count, 64) in their outer columns, and in their outer rows."""
    squares = images.reshape(-1, SIZE, SIZE)
    return float(squares[:, :, [0, -1]].mean()), float(squares[:, [0, -1]].mean())


def conditions_of(results: Mapping[Cell, Result], date: str) -> str:
    names = ("equikernels", "torch", "numpy", "scipy", "scikit-learn")
    packages = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    listed = ", ".join(str(seed) for seed in sorted({cell.seed for cell in results}))
    split = load_split(0, next(iter(results)).test_images)
    columns, rows = brightness_of_edges(split.train_images)
    minutes = sum(result.seconds for result in results.values()) / 60
    return (
        f"{date}; Python {platform.python_version()}, {packages}; {platform.machine()}, one thread, "
        f"{cores} cores shared with other work; {len(split.train_images)} training and "
        f"{len(split.test_images)} test images, with a mean brightness of {columns:.3f} in their outer "
        f"columns and {rows:.3f} in their outer rows; seeds {listed}; {len(results)} trainings, "
        f"{minutes:.1f} minutes together; training in float32, bounds and errors in float64"
    )


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.softness_trade_off",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--budget", choices=BUDGETS, default="cpu", help="cpu: 5 seeds, full: 20")
    parser.add_argument("--seeds", type=int, nargs="+", help="instead of the budget's")
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--figures", type=Path, default=FIGURES)
    parser.add_argument("--cells", type=Path, default=CELLS)
    options = parser.parse_args(arguments)
    seeds = list(dict.fromkeys(options.seeds or range(BUDGETS[options.budget])))
    chosen = f" --seeds {' '.join(map(str, seeds))}" if options.seeds else f" --budget {options.budget}"
    cells = all_cells(seeds)
    # Matrices of 128 x 64 are too small to share: one thread is fastest, and its sums have one order.
    torch.set_num_threads(1)

    def report(cell: Cell, result: Result) -> None:
        state = "" if result.holds else "  BOUND EXCEEDED"
        print(f"{cell.group!r}, {cell.cutoff!r}, seed {cell.seed}: {result.seconds:.1f} s{state}", flush=True)

    try:
        results = complete(cells, options.cells, report=report)
    except (OSError, ValueError) as error:
        print(f"bench.softness_trade_off: {error}", file=sys.stderr)
        return 1
    found = sweeps(results)
    page = make_page(found, conditions_of(results, datetime.date.today().isoformat()), chosen)
    options.page.parent.mkdir(parents=True, exist_ok=True)
    options.page.write_text(page, encoding="utf-8")
    options.figures.mkdir(parents=True, exist_ok=True)
    curves = {(sweep.group, sweep.knob): (sweep.levels, sweep.values) for sweep in found}
    bound_figure(curves).savefig(options.figures / "softness_bound.png")
    cutoff_figure().savefig(options.figures / "softness_cutoffs.png")
    failed = [claim for claim, holds in verdicts(found).items() if not holds]
    for claim in failed:
        print(f"bench.softness_trade_off: fails: {claim}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
