"""Data sets of the hub, through a small stand-in for the library, with the calls and rows of `datasets`."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from equikernels.models.data import DataError, load_dataset
from tests.models.data.samples import everything, numbers


class Rows:
    """What `datasets.load_dataset` returns, as far as it is used: columns, rows by number or by a list."""

    _fingerprint = "stand-in"

    def __init__(self, columns: dict[str, list[Any]]) -> None:
        self.columns = columns
        self.column_names = list(columns)
        self.features = {name: SimpleNamespace(names=["cat", "dog"]) for name in columns if name == "label"}

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def select_columns(self, names: list[str]) -> Rows:
        return Rows({name: self.columns[name] for name in names})

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            return self.columns[key]
        if isinstance(key, int):
            return {name: values[key] for name, values in self.columns.items()}
        return {name: [values[number] for number in key] for name, values in self.columns.items()}


PICTURES = [numbers(4, 6, 3, seed=seed) for seed in range(3)]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """The stand-in takes the library's place; the arguments it was called with."""
    made: list[tuple[Any, ...]] = []
    rows = {
        "pets": Rows({"image": [Image.fromarray(array) for array in PICTURES], "label": [1, 0, 1]}),
        "mixed": Rows({"picture": [Image.fromarray(PICTURES[0]), Image.fromarray(numbers(8, 8))]}),
        "nothing": Rows({"image": []}),
    }

    def load(name: str, config: str | None, *, split: str) -> Rows:
        made.append((name, config, split))
        if name not in rows:
            raise FileNotFoundError(f"Dataset '{name}' doesn't exist on the Hub\nor cannot be accessed.")
        return rows[name]

    library = ModuleType("datasets")
    library.load_dataset = load  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "datasets", library)
    return made


def test_images_and_labels(calls: list[tuple[Any, ...]]) -> None:
    dataset = load_dataset("hf:pets", split="test", config="small")
    assert calls == [("pets", "small", "test")]
    assert dataset.name == "pets"
    assert dataset.fields["label"].classes == ("cat", "dog")
    batch = dataset.fetch(torch.tensor([2, 0]))
    assert batch["label"].tolist() == [1, 1]
    expected = np.stack([PICTURES[2], PICTURES[0]]).transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)
    np.testing.assert_array_equal(batch["image"].numpy(), expected)
    assert dataset.fetch(torch.empty(0, dtype=torch.int64))["image"].shape == (0, 3, 4, 6)
    assert load_dataset("hf:pets").fingerprint != dataset.fingerprint


def test_options(calls: list[tuple[Any, ...]]) -> None:
    dataset = load_dataset("hf:pets", label=None, size=3, channels=1)
    assert set(dataset.fields) == {"image", "index"}
    assert everything(dataset)["image"].shape == (3, 1, 3, 3)


def test_mixed_sizes(calls: list[tuple[Any, ...]]) -> None:
    dataset = load_dataset("hf:mixed", image="picture")
    with pytest.raises(DataError, match=r"hf:mixed: expected 4 x 6 pixels .*size=.*, got 8 x 8 in sample 1"):
        everything(dataset)
    assert everything(load_dataset("hf:mixed", image="picture", size=4))["image"].shape == (2, 3, 4, 4)


def test_a_column_without_pictures(calls: list[tuple[Any, ...]]) -> None:
    with pytest.raises(DataError, match="hf:pets: expected pictures in the column 'label', got int"):
        load_dataset("hf:pets", image="label", size=3)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            "hf:absent",
            "hf:absent: expected a data set of the hub, got Dataset 'absent' doesn't exist on the Hub or",
        ),
        ("hf:mixed", "hf:mixed: expected a column 'image' of images, got picture"),
        ("hf:nothing", "hf:nothing: expected samples in the split 'train', got none"),
    ],
)
def test_what_is_wrong_is_said(spec: str, message: str, calls: list[tuple[Any, ...]]) -> None:
    with pytest.raises(DataError, match=message) as caught:
        load_dataset(spec)
    assert "\n" not in str(caught.value)


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(
        DataError, match=r"hf:pets: expected the library datasets .*, got none: pip install datasets"
    ):
        load_dataset("hf:pets")
