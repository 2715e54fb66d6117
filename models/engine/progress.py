"""What a person sees of a run: a bar on a terminal, a line for each epoch elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

__all__ = ["ProgressReport"]


SHOWN = 6
"""How many validation numbers a line has at most; all are in validation.csv."""


class ProgressReport:
    """Tells how a run goes: loss and samples a second.

    Args:
        epochs: how many there will be.
        samples: samples in an epoch.
        shown: only the main process of a run shows anything.
        monitor: the validation number that is shown however many there are.
    """

    def __init__(self, epochs: int, samples: int, shown: bool = True, monitor: str = "loss") -> None:
        self.epochs, self.samples, self.monitor = epochs, samples, monitor
        self._console = Console(quiet=not shown, highlight=False, soft_wrap=True)
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._begun = time.perf_counter()
        self._seen = 0
        self.rate = 0.0
        """Samples a second since the epoch, or the part of it that this process does, began."""

    def __enter__(self) -> ProgressReport:
        if self._console.is_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(24), MofNCompleteColumn())
            rest = (TimeRemainingColumn(), TextColumn("{task.fields[now]}"))
            self._bar = Progress(*columns, *rest, console=self._console)
            self._bar.start()
            self._task = self._bar.add_task("training", total=self.samples, now="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def begin(self, epoch: int, done: int) -> None:
        """An epoch, from 0, begins with so many of its samples done already."""
        self._begun, self._seen = time.perf_counter(), 0
        if self._bar is not None:
            name = f"epoch {epoch + 1}/{self.epochs}"
            self._bar.reset(self._task, description=name, completed=done, total=self.samples, now="")

    def step(self, samples: int, loss: float) -> None:
        """So many samples more are done."""
        self._seen += samples
        self.rate = self._seen / max(time.perf_counter() - self._begun, 1e-9)
        if self._bar is not None:
            now = f"loss {loss:.4g}, {self.rate:.0f} samples/s"
            self._bar.update(self._task, advance=samples, now=now)

    def epoch(self, epoch: int, training: Mapping[str, float], validation: Mapping[str, float]) -> None:
        """An epoch has ended."""
        parts = [f"epoch {epoch + 1}/{self.epochs}", f"loss {training['loss']:.5g}"]
        listed = list(validation)[:SHOWN]
        if self.monitor in validation and self.monitor not in listed:
            listed[-1] = self.monitor
        parts += [f"validation {name} {validation[name]:.5g}" for name in listed]
        if len(validation) > SHOWN:
            parts.append(f"{len(validation) - SHOWN} more in validation.csv")
        self.say(f"{', '.join(parts)}, {self.rate:.0f} samples/s")

    def say(self, text: str) -> None:
        """A line of text, above the bar where there is one."""
        self._console.print(text, markup=False)
