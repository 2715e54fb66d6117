"""Checkpoint files: whole or refused, each with one clear line."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from equikernels.models.data import load_dataset
from equikernels.models.engine import RunError, open_run, resume, train
from equikernels.models.engine.checkpoints import (
    Position,
    read_checkpoint,
    restore,
    take_checkpoint,
    write_checkpoint,
)
from equikernels.models.engine.configuration import OptimizerOptions
from equikernels.models.engine.optimization import WeightAverage, make_optimizer
from equikernels.models.engine.toml import to_toml
from equikernels.project.saving.files import read_tensors, write_tensors
from tests.models.engine.samples import configured, digits


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has not come to its end."""
    folder = tmp_path_factory.mktemp("run") / "run"
    asked = configured(epochs=2, ema_decay=0.9)
    train(asked, folder, dataset=digits())
    (folder / "metrics.json").write_text('{"status": "training"}')
    return folder


@pytest.mark.parametrize("algorithm", ["adam", "adamw", "sgd"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_the_whole_state_comes_back(algorithm: str, dtype: torch.dtype, tmp_path: Path) -> None:
    def parts(seed: int) -> tuple[nn.Module, torch.optim.Optimizer, WeightAverage, torch.amp.GradScaler]:
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)).to(dtype)
        model[1].register_buffer("seen", torch.tensor([True, False]))
        model[0].bias.requires_grad_(False)
        options = OptimizerOptions(algorithm=algorithm, momentum=0.9)  # type: ignore[arg-type]
        return model, make_optimizer(model, options), WeightAverage(model, 0.9), torch.amp.GradScaler("cpu")

    model, optimizer, average, scaler = parts(0)
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.randn(4, 3, dtype=dtype)).square().sum().backward()
        optimizer.step()
        average.update(model)
    position = Position(3, 4, 5, 6, {"loss": 0.1 + 0.2}, {"epoch": 2, "loss": 1e-300}, {}, {"steps": 9})
    taken = take_checkpoint(model, optimizer, average, scaler, position, "text = 1\n", {"name": "x"})
    write_checkpoint(tmp_path / "c.safetensors", taken)
    found = read_checkpoint(tmp_path / "c.safetensors")
    assert (found.position, found.configuration, found.data) == (position, "text = 1\n", {"name": "x"})
    other, its_optimizer, its_average, its_scaler = parts(1)
    restore(tmp_path / "c.safetensors", found, other, its_optimizer, its_average, its_scaler)
    again = take_checkpoint(
        other, its_optimizer, its_average, its_scaler, position, "text = 1\n", {"name": "x"}
    )
    assert again.tensors.keys() == taken.tensors.keys()
    assert all(torch.equal(again.tensors[name], tensor) for name, tensor in taken.tensors.items())
    assert again.scalars == taken.scalars
    assert {"optimizer.exp_avg.0.weight", "optimizer.momentum_buffer.0.weight"} & taken.tensors.keys()
    assert not any(".0.bias" in name for name in taken.tensors if name.startswith("optimizer."))


@settings(max_examples=60)
@given(st.data())
def test_a_changed_or_shortened_file_is_never_taken(stopped: Path, data: st.DataObject) -> None:
    content = (stopped / "checkpoints" / "last.safetensors").read_bytes()
    place = data.draw(st.integers(0, len(content) - 1), label="place")
    if data.draw(st.booleans(), label="shortened"):
        changed = content[:place]
    else:
        mask = data.draw(st.integers(1, 255), label="mask")
        changed = content[:place] + bytes([content[place] ^ mask]) + content[place + 1 :]
    path = stopped.parent / "changed.safetensors"
    path.write_bytes(changed)
    with pytest.raises(RunError) as caught:
        read_checkpoint(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_foreign_files_are_one_line(stopped: Path, tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.safetensors"
    write_tensors(foreign, {"a": torch.zeros(2)}, {"format": "pt"})
    with pytest.raises(RunError, match=r"foreign.safetensors: not a checkpoint of a run"):
        read_checkpoint(foreign)
    foreign.write_bytes(b"\x80\x02}q\x00.")  # what pickle writes
    with pytest.raises(RunError, match=r"foreign.safetensors: not a safetensors file"):
        read_checkpoint(foreign)
    with pytest.raises(RunError, match=r"nothing.safetensors: No such file"):
        read_checkpoint(tmp_path / "nothing.safetensors")
    foreign.unlink()
    foreign.mkdir()
    with pytest.raises(RunError, match=r"foreign.safetensors: not a regular file"):
        read_checkpoint(foreign)


def copied(stopped: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    for path in stopped.rglob("*"):
        if path.is_file():
            target = folder / path.relative_to(stopped)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    return folder


def test_a_configuration_that_was_changed_is_named(stopped: Path, tmp_path: Path) -> None:
    folder = copied(stopped, tmp_path)
    toml = folder / "run.toml"
    kept = toml.read_text()
    for old, new, message in (
        ("epochs = 2", "epochs = 3", "training.epochs is 3, but .* was written with 2"),
        ("hidden = 8", "hidden = 9", "model.hidden is 9, but .* was written with 8"),
        ("ema_decay = 0.9", "", "training.ema_decay is not set, but .* was written with 0.9"),
    ):
        assert old in kept
        toml.write_text(kept.replace(old, new))
        with pytest.raises(RunError, match=rf"run.toml: {message}: change it back, or start another run"):
            resume(folder, dataset=digits())
    toml.write_text(kept)
    resume(folder, dataset=digits())


def test_data_that_have_changed_are_named(stopped: Path, tmp_path: Path) -> None:
    folder = copied(stopped, tmp_path)
    with pytest.raises(RunError, match=r"digits: the data set has changed: its fingerprint was .* and is "):
        resume(folder, dataset=load_dataset("digits").subset(299, name="digits"))


def test_a_checkpoint_of_another_model_is_named(stopped: Path, tmp_path: Path) -> None:
    folder = copied(stopped, tmp_path)
    path = folder / "checkpoints" / "best.safetensors"
    found = read_checkpoint(path)
    missing = {name: tensor for name, tensor in found.tensors.items() if not name.endswith(".4.bias")}
    write_checkpoint(path, dataclasses.replace(found, tensors=missing))
    with pytest.raises(
        RunError, match=r"best.safetensors: of another model: 4.bias is a tensor that the file has"
    ):
        open_run(folder).load_model(digits())
    wider = {**found.tensors, "model.1.weight": torch.zeros(9, 64), "average.1.weight": torch.zeros(9, 64)}
    write_checkpoint(path, dataclasses.replace(found, tensors=wider))
    with pytest.raises(RunError, match=r"1.weight has shape \(9, 64\) in the file, \(8, 64\) in the model"):
        open_run(folder).load_model(digits())
    write_checkpoint(path, dataclasses.replace(found, tensors={**found.tensors, "model.x": torch.zeros(1)}))
    with pytest.raises(RunError, match=r"x is a tensor that the model has not"):
        open_run(folder).load_model(digits())
    path.unlink()
    with pytest.raises(RunError, match=r"best.safetensors: there is no such checkpoint"):
        open_run(folder).load_model(digits())


def test_logs_are_cut_to_the_checkpoint_or_missed(stopped: Path, tmp_path: Path) -> None:
    folder = copied(stopped, tmp_path)
    whole = (folder / "steps.csv").read_text()
    with (folder / "steps.csv").open("a") as file:
        file.write("11,3,0.5,what an interrupted ro")
    (folder / "checkpoints" / ".last.safetensors.half").write_text("written")
    resume(folder, dataset=digits())
    assert (folder / "steps.csv").read_text() == whole
    assert sorted(os.listdir(folder / "checkpoints")) == ["best.safetensors", "last.safetensors"]
    (folder / "metrics.json").write_text('{"status": "training"}')
    (folder / "steps.csv").write_text(whole[:50])
    with pytest.raises(
        RunError, match=r"steps.csv: expected the \d+ bytes that the checkpoint speaks of, got 50"
    ):
        resume(folder, dataset=digits())


def test_damaged_records_of_a_run_are_one_line(stopped: Path, tmp_path: Path) -> None:
    folder = copied(stopped, tmp_path)
    (folder / "metrics.json").write_text('{"status"')
    with pytest.raises(RunError, match=r"metrics.json: no JSON: "):
        resume(folder, dataset=digits())
    (folder / "metrics.json").write_text("[]")
    with pytest.raises(RunError, match=r"metrics.json: expected an object, got list"):
        resume(folder, dataset=digits())


def test_a_checkpoint_is_no_pickle_and_needs_no_code(stopped: Path) -> None:
    text, tensors = read_tensors(stopped / "checkpoints" / "last.safetensors")
    state = json.loads(text["state"])
    assert state["configuration"] == to_toml(open_run(stopped).configuration)
    assert state["position"]["step"] == 10
    assert {name.partition(".")[0] for name in tensors} == {"model", "average", "optimizer"}
