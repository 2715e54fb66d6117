"""What all data sets do: batches, parts, names, processes."""

from __future__ import annotations

import importlib.abc
import multiprocessing
import pickle
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from equikernels.models.data import DataError, Dataset, epoch_order, load_dataset
from equikernels.models.data.columns import ValueColumn
from tests.models.data import samples
from tests.models.data.samples import everything, numbers


def small(folder: Path) -> dict[str, Dataset]:
    """One data set of every reader."""
    for name in ("idx", "gz", "npy", "npz", "classes", "star", "nii", "scenes"):
        (folder / name).mkdir()
    samples.write_idx(folder / "idx", "a-labels-idx1-ubyte", np.arange(4, dtype=np.uint8))
    for seed, name in enumerate(["x/1.png", "y/1.png", "y/2.png"]):
        samples.write_picture(folder / "classes" / name, numbers(4, 4, seed=seed))
    return {
        "idx": load_dataset(samples.write_idx(folder / "idx", "a-images-idx3-ubyte", numbers(4, 5, 6))),
        "gz": load_dataset(samples.write_idx(folder / "gz", "a-images-idx3-ubyte.gz", numbers(4, 5, 6))),
        "npy": load_dataset(samples.write_npy(folder / "npy", numbers(4, 5, 6, dtype="f4"))),
        "npz": load_dataset(samples.write_npz(folder / "npz", images=numbers(4, 5, 6), labels=np.arange(4))),
        "classes": load_dataset(folder / "classes"),
        "star": load_dataset(samples.write_star(folder / "star")),
        "nii": load_dataset(samples.write_nifti(folder / "nii", numbers(3, 4, 5, dtype="i2"))),
        "tracks": load_dataset(
            samples.write_scenes(folder / "scenes"), scene="square", split="test", observe=3, predict=2
        ),
        "digits": load_dataset("digits").subset(5),
    }


@pytest.fixture(scope="module")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Dataset]:
    return small(tmp_path_factory.mktemp("data"))


KINDS = ("idx", "gz", "npy", "npz", "classes", "star", "nii", "tracks", "digits")
every_kind = pytest.mark.parametrize("kind", KINDS)


def equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


# -- batches -------------------------------------------------------------------------------------------------


@every_kind
def test_a_batch_is_its_samples(kind: str, datasets: dict[str, Dataset]) -> None:
    dataset = datasets[kind]
    whole = everything(dataset)
    assert whole["index"].tolist() == list(range(len(dataset)))
    chosen = torch.tensor([len(dataset) - 1, 0, 0])
    batch = dataset.fetch(chosen)
    assert batch.keys() == dataset.fields.keys()
    for name, field in dataset.fields.items():
        assert torch.equal(batch[name], whole[name][chosen])
        assert batch[name].shape == (3, *field.shape)
        assert batch[name].dtype == field.dtype
        assert field.meaning
        alone = dataset.fetch(chosen[:1])[name]
        assert torch.equal(alone[0], whole[name][-1])


@every_kind
def test_an_empty_batch(kind: str, datasets: dict[str, Dataset]) -> None:
    batch = datasets[kind].fetch(torch.empty(0, dtype=torch.int64))
    for name, field in datasets[kind].fields.items():
        assert batch[name].shape == (0, *field.shape)
        assert batch[name].dtype == field.dtype


@every_kind
def test_batches_belong_to_the_caller(kind: str, datasets: dict[str, Dataset]) -> None:
    indices = torch.arange(len(datasets[kind]))
    first = datasets[kind].fetch(indices)
    expected = {name: values.clone() for name, values in first.items()}
    for values in first.values():
        values.zero_()
    assert indices.tolist() == list(range(len(datasets[kind])))
    assert equal(datasets[kind].fetch(indices), expected)


@pytest.mark.parametrize(
    ("indices", "error", "message"),
    [
        (torch.tensor([0, 5]), IndexError, "indices: expected 0 .. 4, got 5"),
        (torch.tensor([-1]), IndexError, "indices: expected 0 .. 4, got -1"),
        (torch.tensor([0.0]), TypeError, "indices: expected a tensor of int64, got torch.float32"),
        (torch.tensor([True]), TypeError, "got torch.bool"),
        ([0, 1], TypeError, "indices: expected a tensor of int64, got list"),
        (torch.tensor([[0]]), ValueError, r"indices: expected one dimension \(B,\), got \(1, 1\)"),
        (torch.tensor(0), ValueError, r"got \(\)"),
    ],
)
def test_wrong_indices(
    indices: Any, error: type[Exception], message: str, datasets: dict[str, Dataset]
) -> None:
    with pytest.raises(error, match=message):
        datasets["digits"].fetch(indices)


# -- parts ---------------------------------------------------------------------------------------------------


@given(count=st.integers(4, 300), seed=st.integers(), data=st.data())
def test_a_split_shares_nothing_and_loses_nothing(count: int, seed: int, data: st.DataObject) -> None:
    whole = load_digits().subset(count)
    weights = data.draw(st.lists(st.integers(1, 8), min_size=1, max_size=4))
    fractions = {f"part {i}": weight / sum(weights) for i, weight in enumerate(weights)}
    if min(fractions.values()) * count < 1:
        return
    parts = whole.split(fractions, seed)
    rows = {name: everything(part)["index"].tolist() for name, part in parts.items()}
    assert sorted(row for part in rows.values() for row in part) == list(range(count))
    for name, fraction in fractions.items():
        assert abs(len(parts[name]) - fraction * count) <= 1
    again = whole.split(fractions, seed)
    assert all(everything(again[name])["index"].tolist() == rows[name] for name in rows)


@given(
    values=st.lists(st.integers(-3, 3), min_size=8, max_size=60),
    seed=st.integers(),
    share=st.floats(0.2, 0.8),
)
def test_groups_stay_together(values: list[int], seed: int, share: float) -> None:
    whole = Dataset("test", {"group": ValueColumn("test", np.array(values), "group")}, b"")
    largest = max(values.count(value) for value in values)
    if largest / 2 >= min(share, 1 - share) * len(values):
        return  # a group may then fill more than a part
    parts = whole.split({"a": share, "b": 1 - share}, seed, by="group")
    found = {name: everything(part) for name, part in parts.items()}
    assert not set(found["a"]["group"].tolist()) & set(found["b"]["group"].tolist())
    rows = [*found["a"]["index"].tolist(), *found["b"]["index"].tolist()]
    assert sorted(rows) == list(range(len(values)))
    assert abs(len(parts["a"]) - share * len(values)) <= largest / 2 + 1e-9


def test_groups_of_a_part() -> None:
    digits = load_digits().subset(range(1000, 1300))
    parts = digits.split({"a": 0.5, "b": 0.5}, by="label")
    labels = [set(everything(part)["label"].tolist()) for part in parts.values()]
    assert labels[0] | labels[1] == set(range(10))
    assert not labels[0] & labels[1]
    others = [digits.split({"a": 0.5, "b": 0.5}, seed, by="label")["a"] for seed in range(4)]
    assert len({tuple(everything(part)["index"].tolist()) for part in others}) > 1
    for wrong in ("image", "index", "nothing"):
        with pytest.raises(ValueError, match=f"by: expected a field of one integer, of label, got '{wrong}'"):
            digits.split({"a": 0.5, "b": 0.5}, by=wrong)


def load_digits(cache: list[Dataset] = []) -> Dataset:  # noqa: B006
    if not cache:
        cache.append(load_dataset("digits"))
    return cache[0]


def test_splits_are_random_and_change_with_the_seed() -> None:
    digits = load_digits()
    first = digits.split({"a": 0.5, "b": 0.5})["a"]
    second = digits.split({"a": 0.5, "b": 0.5}, seed=1)["a"]
    rows = [set(everything(part)["index"].tolist()) for part in (first, second)]
    overlap = len(rows[0] & rows[1]) / len(first)
    # Half of a half, by chance, with a standard deviation of 0.012.
    assert abs(overlap - 0.5) < 0.06
    share = torch.tensor(sorted(rows[0])).double().mean() / len(digits)
    assert abs(share - 0.5) < 0.06
    assert first.name == "digits[a]"
    in_epoch = set(epoch_order(0, 0, len(digits))[: len(first)].tolist())
    assert abs(len(in_epoch & rows[0]) / len(first) - 0.5) < 0.06, "parts have nothing to do with orders"


def test_parts_of_parts_keep_their_samples() -> None:
    digits = load_digits()
    whole = everything(digits)
    part = digits.subset([9, 3, 7, 7]).subset(torch.tensor([3, 1]))
    batch = everything(part)
    assert batch["index"].tolist() == [7, 3]
    assert torch.equal(batch["image"], whole["image"][[7, 3]])
    inner = digits.subset(100).split({"a": 0.5, "b": 0.5})["b"]
    batch = everything(inner)
    assert torch.equal(batch["image"], whole["image"][batch["index"]])
    assert batch["index"].max() < 100


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda d: d.split({"a": 0.5}), r"fractions: expected positive numbers with sum 1, got \{'a': 0.5\}"),
        (lambda d: d.split({"a": 1.5, "b": -0.5}), "fractions: expected positive numbers"),
        (lambda d: d.split({"a": float("nan"), "b": 0.5}), "fractions: expected positive numbers"),
        (lambda d: d.split({}), "fractions: expected positive numbers"),
        (
            lambda d: d.split({"a": 0.99, "b": 0.01}),
            "fractions: expected a sample for 'b', got none: 0.01 of 5",
        ),
        (lambda d: d.subset(0), "chosen: expected 1 .. 5 samples, got 0"),
        (lambda d: d.subset(6), "chosen: expected 1 .. 5 samples, got 6"),
        (lambda d: d.subset([]), "chosen: expected at least one sample, got none"),
    ],
)
def test_wrong_parts(call: Callable[[Dataset], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(load_digits().subset(5))


# -- fingerprints --------------------------------------------------------------------------------------------


def test_fingerprints_follow_what_is_held_and_not_where(tmp_path: Path) -> None:
    array = numbers(200, 30, 30, dtype="f4")
    (tmp_path / "a").mkdir()
    path = samples.write_npy(tmp_path / "a", array)
    dataset = load_dataset(path)
    name = dataset.fingerprint
    assert len(name) == 16
    assert int(name, 16) >= 0
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    (tmp_path / "b" / "images.npy").touch()
    assert load_dataset(tmp_path / "b" / "images.npy").fingerprint == name
    others = {
        "layout": load_dataset(path, layout="NWH").fingerprint,
        "part": dataset.subset(50).fingerprint,
        "other part": dataset.subset(range(1, 51)).fingerprint,
        "first value": load_dataset(samples.write_npy(tmp_path, array + np.eye(1, 30, 0))).fingerprint,
        "last value": load_dataset(samples.write_npy(tmp_path, array * 2)).fingerprint,
        "length": load_dataset(samples.write_npy(tmp_path, array[:-1])).fingerprint,
    }
    array[-1, -1, -1] += 1
    others["one value at the end"] = load_dataset(samples.write_npy(tmp_path, array)).fingerprint
    (tmp_path / "labels.txt").write_text(" ".join("0" * 200))
    others["labels"] = load_dataset(path, labels=tmp_path / "labels.txt").fingerprint
    (tmp_path / "labels.txt").write_text(" ".join("1" * 200))
    others["other labels"] = load_dataset(path, labels=tmp_path / "labels.txt").fingerprint
    assert len({name, *others.values()}) == len(others) + 1, others


def test_fingerprints_of_folders(tmp_path: Path) -> None:
    for number in range(70):
        samples.write_picture(tmp_path / f"{number:02}.png", numbers(4, 4, seed=number))
    first = load_dataset(tmp_path).fingerprint
    assert load_dataset(tmp_path).fingerprint == first
    assert load_dataset(tmp_path, size=[3, 2]).fingerprint == load_dataset(tmp_path, size=(3, 2)).fingerprint
    (tmp_path / "69.png").rename(tmp_path / "70.png")
    assert load_dataset(tmp_path).fingerprint != first
    for place in ("a/x/1.png", "a/y/2.png", "a/y/3.png", "b/x/1.png", "b/x/2.png", "b/y/3.png"):
        samples.write_picture(tmp_path / "classes" / place, numbers(4, 4))
    in_classes = [load_dataset(tmp_path / "classes" / name).fingerprint for name in "ab"]
    assert in_classes[0] != in_classes[1]


@every_kind
def test_fingerprints_are_all_different(kind: str, datasets: dict[str, Dataset]) -> None:
    others = [dataset.fingerprint for name, dataset in datasets.items() if name != kind]
    assert datasets[kind].fingerprint not in others


# -- processes -----------------------------------------------------------------------------------------------


@every_kind
def test_data_sets_are_pickled(kind: str, datasets: dict[str, Dataset]) -> None:
    dataset = datasets[kind]
    before = everything(dataset)
    copy = pickle.loads(pickle.dumps(dataset))
    assert equal(everything(copy), before)
    assert copy.fingerprint == dataset.fingerprint
    assert repr(copy) == repr(dataset)


def test_files_that_are_mapped_are_pickled_by_name(tmp_path: Path) -> None:
    dataset = load_dataset(samples.write_npy(tmp_path, numbers(100, 30, 30, dtype="f4")))
    everything(dataset)
    assert len(pickle.dumps(dataset)) < 10_000


def _digest(dataset: Dataset, queue: Any) -> None:
    torch.set_num_threads(1)
    try:
        queue.put({name: values.double().sum().item() for name, values in everything(dataset).items()})
    except Exception as error:
        queue.put(error)


def test_data_sets_are_read_in_forked_processes(datasets: dict[str, Dataset]) -> None:
    context = multiprocessing.get_context("fork")
    for dataset in datasets.values():
        expected = {name: values.double().sum().item() for name, values in everything(dataset).items()}
        queue = context.SimpleQueue()
        processes = [context.Process(target=_digest, args=(dataset, queue)) for _ in range(2)]
        for process in processes:
            process.start()
        answers = [queue.get() for _ in processes]
        for process in processes:
            process.join()
        assert answers == [expected, expected]


def test_errors_of_other_processes_arrive(tmp_path: Path) -> None:
    path = samples.write_picture(tmp_path / "a.png", numbers(4, 4))
    dataset = load_dataset(path)
    path.write_bytes(b"no picture")
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    process = context.Process(target=_digest, args=(dataset, queue))
    process.start()
    error = queue.get()
    process.join()
    assert isinstance(error, DataError)
    assert str(error).startswith(f"{path}: expected a picture, got")


def test_a_mapped_file_that_shrinks_is_an_error(tmp_path: Path) -> None:
    path = samples.write_npy(tmp_path, numbers(100, 30, 30, dtype="f4"))
    copy = pickle.loads(pickle.dumps(load_dataset(path)))
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(DataError, match=r"images.npy: expected at least 360128 bytes .*, got 5000 bytes"):
        everything(copy)


# -- specifications ------------------------------------------------------------------------------------------


def test_embedded_data() -> None:
    digits = load_dataset("digits")
    batch = everything(digits)
    assert batch["image"].shape == (1797, 1, 8, 8)
    assert (batch["image"].min(), batch["image"].max()) == (0, 1)
    assert digits.fields["label"].classes == tuple("0123456789")
    assert torch.bincount(batch["label"]).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    photographs = load_dataset("photographs", size=(32, 48))
    assert everything(photographs)["image"].shape == (7, 3, 32, 48)
    assert photographs.fingerprint != load_dataset("photographs", size=(32, 40)).fingerprint


def test_names_of_embedded_data_may_be_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples.write_picture(tmp_path / "digits" / "a.png", numbers(4, 4))
    monkeypatch.chdir(tmp_path)
    assert len(load_dataset("./digits")) == 1
    assert len(load_dataset(Path("digits"))) == 1
    assert len(load_dataset("digits")) == 1797


@pytest.mark.parametrize(
    ("spec", "options", "message"),
    [
        ("", {}, "spec: expected a name or a path, got ''"),
        ("digits", {"format": "npy"}, "format: expected none for 'digits', got 'npy'"),
        ("digits", {"size": 8}, "size: no option of digits data, which take format, labels, extra"),
        ("nowhere", {}, "nowhere: expected a file or folder, got nothing of that name"),
        ("nowhere", {"format": "jpeg"}, "format: expected one of nifti, idx, npy, .*, got 'jpeg'"),
        ("\0", {}, r"expected a file or folder, got"),
    ],
)
def test_wrong_specifications(spec: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_dataset(spec, **options)


def test_a_format_can_be_named(tmp_path: Path) -> None:
    path = samples.write_npy(tmp_path, numbers(2, 3, 4))
    odd = path.rename(tmp_path / "images.data")
    with pytest.raises(DataError, match=r"got the name images.data"):
        load_dataset(odd)
    assert len(load_dataset(odd, format="npy")) == 2


class Without(importlib.abc.MetaPathFinder):
    """Makes a library look as if it were not installed."""

    def __init__(self, name: str) -> None:
        self.name = name

    def find_spec(self, fullname: str, *_: object) -> None:
        if fullname.partition(".")[0] == self.name:
            raise ModuleNotFoundError(f"No module named {self.name!r}", name=self.name)


@pytest.mark.parametrize(
    ("name", "spec"),
    [
        ("mrcfile", "stack.mrcs"),
        ("PIL", "a.png"),
        ("nibabel", "a.nii"),
        ("starfile", "a.star"),
        ("sklearn", "digits"),
    ],
)
def test_a_missing_library_is_named(
    name: str, spec: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for loaded in list(sys.modules):
        if loaded.partition(".")[0] == name:
            monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setattr(sys, "meta_path", [Without(name), *sys.meta_path])
    (tmp_path / spec).write_bytes(b"\x5c\1\0\0" * 400)
    with pytest.raises(DataError) as caught:
        load_dataset(spec if spec == "digits" else tmp_path / spec)
    message = f"{spec}: expected the library {name} to read it, got none: pip install 'equikernels[models]'"
    assert str(caught.value).endswith(message)
