"""A data set of its own for validation."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from equikernels.models.data import load_dataset
from equikernels.models.engine import ConfigurationError, RunError, open_run, resume, train
from equikernels.models.engine.inference import evaluate_run
from equikernels.models.engine.runs import open_dataset, split_dataset
from tests.models.engine.samples import configured


def archive(path: Path, part: slice, **changed: Any) -> Path:
    """Some of the digits as a file."""
    every = load_dataset("digits").fetch(torch.arange(1797))
    arrays = {"image": every["image"].numpy()[part], "label": every["label"].numpy()[part], **changed}
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return path


def named(folder: Path, **changed: Any) -> Any:
    train_file = archive(folder / "train.npz", slice(0, 90))
    valid_file = archive(folder / "valid.npz", slice(90, 130), **changed)
    whole = configured(epochs=2)
    return dataclasses.replace(whole, data=str(train_file), validation_data=str(valid_file))


def test_all_of_it_is_validated_on_and_nothing_of_the_other_is_kept_back(tmp_path: Path) -> None:
    asked = named(tmp_path)
    metrics = train(asked, tmp_path / "run")
    assert metrics["samples"] == {"training": 90, "validation": 40}
    # The rows of the CSV file are those of the last forty, and so is what the command repeats.
    run = open_run(tmp_path / "run")
    model = run.load_model(open_dataset(asked))
    batch = load_dataset("digits").fetch(torch.arange(90, 130))
    with torch.no_grad():
        right = (model(batch["image"]).argmax(1) == batch["label"]).double().mean()
    assert metrics["best"]["accuracy"] == float(right)
    assert evaluate_run(run)["accuracy"] == float(right)
    limited = dataclasses.replace(asked, limit=30)
    train_part, valid = split_dataset(open_dataset(limited), limited)
    assert (len(train_part), len(valid)) == (30, 40)


def test_options_of_its_format_are_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    every = load_dataset("digits").fetch(torch.arange(100))
    images, labels = every["image"].numpy(), every["label"].numpy()
    parts = {"train": slice(0, 70), "val": slice(70, 100)}
    arrays = {f"{part}_images": images[chosen] for part, chosen in parts.items()}
    np.savez(
        tmp_path / "both.npz",
        **arrays,
        **{f"{part}_labels": labels[chosen] for part, chosen in parts.items()},
    )
    monkeypatch.setenv("WHERE_DIGITS_ARE", str(tmp_path))
    asked = dataclasses.replace(
        configured(),
        data="$WHERE_DIGITS_ARE/both.npz",
        data_options=("split=train",),
        validation_data="$WHERE_DIGITS_ARE/both.npz",
        validation_options=("split=val",),
    )
    assert [len(part) for part in split_dataset(open_dataset(asked), asked)] == [70, 30]
    same = dataclasses.replace(asked, validation_options=("split=train",))
    with pytest.raises(ConfigurationError, match="validation_data: expected other samples than those of"):
        split_dataset(open_dataset(same), same)
    with pytest.raises(
        ValueError, match="validation_options: expected validation_data beside them, got none"
    ):
        dataclasses.replace(asked, validation_data=None)
    with pytest.raises(ValueError, match="validation_options: expected name=value, got 'split'"):
        dataclasses.replace(asked, validation_options=("split",))
    absent = dataclasses.replace(asked, validation_data="$WHERE_DIGITS_ARE/absent", validation_options=())
    with pytest.raises(ConfigurationError, match=r"^validation_data: .*absent: expected a file or folder"):
        train(absent, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_goes_on_with_the_same_validation_data_only(tmp_path: Path) -> None:
    asked = named(tmp_path)
    train(asked, tmp_path / "run")
    found = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert found["data"]["validation_fingerprint"] == load_dataset(tmp_path / "valid.npz").fingerprint
    (tmp_path / "run" / "metrics.json").write_text(json.dumps({**found, "status": "interrupted"}))
    again = resume(tmp_path / "run")
    assert again["best"] == found["best"]
    (tmp_path / "run" / "metrics.json").write_text(json.dumps({**found, "status": "interrupted"}))
    archive(tmp_path / "valid.npz", slice(91, 131))
    with pytest.raises(RunError, match=r"valid.npz: the data set has changed: its fingerprint was "):
        resume(tmp_path / "run")
    archive(tmp_path / "train.npz", slice(0, 80))
    with pytest.raises(RunError, match=r"train.npz: the data set has changed: its fingerprint was "):
        resume(tmp_path / "run")


def test_other_fields_are_refused(tmp_path: Path) -> None:
    small = load_dataset("digits").fetch(torch.arange(40))["image"].numpy()[..., :5, :5]
    for number, (change, message) in enumerate(
        (
            ({"label": None}, r"expected the field label of data, .*valid.npz has none"),
            ({"image": small}, r"expected image of .* with shape \(1, 8, 8\) as in data, .* \(1, 5, 5\)"),
            ({"label": np.zeros(40)}, r"expected label of torch.int64 .* has torch.float64"),
        )
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        asked = named(folder, **change)
        with pytest.raises(ConfigurationError, match=f"^validation_data: {message}"):
            split_dataset(open_dataset(asked), asked)
