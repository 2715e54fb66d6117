"""What a person sees of the demonstration on a terminal, or in a file that its output goes to."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from equikernels.cli.demo.parts import Bar, FinishedPart

__all__ = ["open_console", "plain", "print_claims", "progress"]

STYLES = {True: "green", False: "bold red", None: "dim"}


class _Silent:
    def begin(self, steps: int) -> None:
        pass

    def step(self, name: str) -> None:
        pass


class _Shown:
    def __init__(self, console: Console, display: Progress, task: TaskID) -> None:
        self._console, self._display, self._task = console, display, task

    def begin(self, steps: int) -> None:
        self._display.update(self._task, total=steps)

    def step(self, name: str) -> None:
        self._display.update(self._task, advance=1, now=plain(self._console, name))


def open_console() -> Console:
    """The standard output; 120 columns wide where it is no terminal."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=120)


def plain(console: Console, text: str) -> str:
    """The text as this console can show it: in ASCII where it shows nothing else."""
    if not console.options.ascii_only:
        return text
    return text.replace("±", "+-").replace("°", " degrees").encode("ascii", "replace").decode()


@contextmanager
def progress(console: Console, title: str) -> Iterator[Bar]:
    """A progress bar on a terminal; elsewhere a plain line when the part is done."""
    if not console.is_terminal:
        begun = time.perf_counter()
        yield _Silent()
        console.print(f"{title}: {time.perf_counter() - begun:.1f} s")
        return
    columns = (TextColumn("{task.description:18}"), BarColumn(16), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TextColumn("{task.fields[now]}", markup=False), console=console) as display:
        task = display.add_task(title, total=None, now="")
        yield _Shown(console, display, task)
        display.update(task, now="")


def print_claims(console: Console, done: Sequence[FinishedPart]) -> None:
    """One table of the claims of all parts, and how many of them failed."""
    table = Table("part", "claim", "measured", "verdict", title="Claims and what was measured")
    for part in done:
        for index, claim in enumerate(part.miniature.claims):
            style = STYLES[claim.holds]
            table.add_row(
                "" if index else part.name,
                escape(plain(console, claim.claim)),
                escape(plain(console, claim.measured)),
                f"[{style}]{claim.verdict}[/]",
                end_section=index + 1 == len(part.miniature.claims),
            )
    console.print(table)
    failed = sum(claim.holds is False for part in done for claim in part.miniature.claims)
    if failed:
        console.print(f"[bold red]{failed} of these claims failed.[/]")
