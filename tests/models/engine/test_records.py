"""Rows of numbers: CSV always, TensorBoard where it is."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from equikernels.models.engine import RunError
from equikernels.models.engine.records import CsvLog, RunLogs, importlib, write_json


def test_rows_are_written_through_and_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    log = CsvLog(path)
    log.append({"step": 1, "loss": 0.1 + 0.2})
    assert path.read_text() == "step,loss\n1,0.30000000000000004\n"  # before it is closed
    length = log.to_disk()
    log.append({"step": 2, "loss": float("nan")})
    log.close()
    again = CsvLog(path, length)
    assert again.columns == ["step", "loss"]
    again.append({"step": 2, "loss": 1e-300})
    with pytest.raises(
        RunError, match=r"expected numbers named step, loss, got step, size: a task must give"
    ):
        again.append({"step": 3, "size": 1.0})
    again.close()
    assert path.read_text() == "step,loss\n1,0.30000000000000004\n2,1e-300\n"


@given(st.dictionaries(st.text(min_size=1), st.floats() | st.none() | st.lists(st.floats())))
def test_json_has_every_finite_number_exactly(
    tmp_path_factory: pytest.TempPathFactory, content: dict[str, Any]
) -> None:
    path = tmp_path_factory.getbasetemp() / "written.json"
    write_json(path, content)
    read = json.loads(path.read_text())
    assert read.keys() == content.keys()
    for name, value in content.items():
        values, others = (x if isinstance(x, list) else [x] for x in (value, read[name]))
        for one, other in zip(values, others, strict=True):
            assert other == (None if one is None or one - one != 0 else one)


def test_tensorboard_gets_every_number_and_forgets_what_comes_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The package is not needed for tests: what it is told is."""
    told: list[Any] = []

    def writer(folder: str, purge_step: int) -> SimpleNamespace:
        told.append((folder, purge_step))
        return SimpleNamespace(
            add_scalar=lambda *words: told.append(words),
            add_figure=lambda *words, close: told.append(words),
            flush=lambda: told.append("flushed"),
            close=lambda: told.append("closed"),
        )

    module = ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = writer  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    logs = RunLogs(tmp_path, {}, step=7)
    logs.append("steps", {"step": 8, "epoch": 2}, {"loss": 0.5, "size": 3.0})
    logs.figure("faces", "a figure", 8)  # type: ignore[arg-type]
    assert logs.to_disk() == {
        "steps": len("step,epoch,loss,size\n8,2,0.5,3.0\n"),
        "epochs": 0,
        "validation": 0,
    }
    logs.close()
    assert told == [
        (str(tmp_path / "tensorboard"), 8), ("steps/loss", 0.5, 8), ("steps/size", 3.0, 8),
        ("faces", "a figure", 8), "flushed", "closed",
    ]  # fmt: skip


def test_without_tensorboard_there_is_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    logs = RunLogs(tmp_path, {}, step=0)
    logs.append("epochs", {"step": 8, "epoch": 2}, {"loss": 0.5})
    logs.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["epochs.csv", "steps.csv", "validation.csv"]
