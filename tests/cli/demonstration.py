"""Parts of a demonstration that take no time."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from types import ModuleType

import pytest
import torch
from matplotlib.figure import Figure

from equikernels.cli.demo import parts
from equikernels.models.engine.miniature import Claim, Miniature, Picture, Report

NAMES = tuple(parts.PARTS)

Run = Callable[[int, Report], Miniature]


def picture(name: str = "line") -> Picture:
    figure = Figure()
    figure.subplots().plot([0, 1])
    return Picture(name, "A line", "It rises by 45° & ends.", figure)


def miniature(name: str, verdicts: Sequence[bool | None] = (True, None), number: object = 1) -> Miniature:
    return Miniature(
        title=f"Part {name}",
        introduction="Nothing was trained <on nothing>.",
        claims=[Claim(f"{name} claims {i}", f"{number} ± 0", holds) for i, holds in enumerate(verdicts)],
        pictures=[picture()],
        headings=("what", "how much"),
        rows=[("of & all", f"{number}")],
        note="All is < 1.",
    )


def part(name: str, verdicts: Sequence[bool | None] = (True, None), steps: int = 2) -> Run:
    """A part that draws a number from the global generator and reports its steps."""

    def run(seed: int, report: Report) -> Miniature:
        for step in range(steps):
            report(f"step [{step}] of {name}")
        return miniature(name, verdicts, f"{float(torch.rand(())):.6f} of {seed}")

    return run


def use(monkeypatch: pytest.MonkeyPatch, **runs: Run) -> None:
    """Put `runs`, by the names of parts with underscores, or else quick parts, in the places of all parts."""
    for name in NAMES:
        module = ModuleType(f"tests_demo_{name}")
        module.__dict__.update(STEPS=2, run=runs.get(name.replace("-", "_"), part(name)))
        monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setitem(parts.PARTS, name, module.__name__)
