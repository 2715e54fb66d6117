"""What a person sees: a bar on a terminal, lines elsewhere, nothing of other processes."""

from __future__ import annotations

import functools
import io
import re

import pytest
from rich.console import Console

from equikernels.models.engine import progress


def shown(monkeypatch: pytest.MonkeyPatch, terminal: bool, main: bool = True) -> str:
    stream = io.StringIO()
    console = functools.partial(Console, file=stream, force_terminal=terminal, width=120)
    monkeypatch.setattr(progress, "Console", console)
    with progress.ProgressReport(epochs=3, samples=100, shown=main) as report:
        report.begin(1, done=40)
        report.step(30, 0.5)
        report.step(30, 0.25)
        assert report.rate > 0
        report.epoch(1, {"loss": 0.375}, {"loss": 0.4, "accuracy": 0.9})
        report.say("[bold]a name in brackets[/bold]")
    return stream.getvalue()


def test_a_terminal_has_a_bar_with_the_loss_and_the_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown(monkeypatch, terminal=True))
    assert re.search(r"epoch 2/3 .* 100/100 .*loss 0.25, \d+ samples/s", text)
    assert re.search(
        r"epoch 2/3, loss 0.375, validation loss 0.4, validation accuracy 0.9, \d+ samples/s", text
    )


def test_elsewhere_there_is_a_line_for_each_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = shown(monkeypatch, terminal=False).splitlines()
    assert re.fullmatch(
        r"epoch 2/3, loss 0.375, validation loss 0.4, validation accuracy 0.9, \d+ samples/s", lines[0]
    )
    assert lines[1:] == ["[bold]a name in brackets[/bold]"]


def test_only_the_main_process_says_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(monkeypatch, terminal=False, main=False) == ""
    assert re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown(monkeypatch, terminal=True, main=False)).strip() == ""


def test_a_line_has_few_numbers_and_always_the_one_that_decides(
    capsys: pytest.CaptureFixture[str],
) -> None:
    numbers = {name: float(place) for place, name in enumerate("abcdefghij")}
    with progress.ProgressReport(epochs=1, samples=1, monitor="i") as report:
        report.epoch(0, {"loss": 0.5}, numbers)
        report.epoch(0, {"loss": 0.5}, dict(list(numbers.items())[:6]))
    many, few = capsys.readouterr().out.splitlines()
    listed = ", ".join(f"validation {name} {numbers[name]:g}" for name in "abcdei")
    assert many.startswith(f"epoch 1/1, loss 0.5, {listed}, 4 more in validation.csv, ")
    assert "validation f 5, 0 samples/s" in few
