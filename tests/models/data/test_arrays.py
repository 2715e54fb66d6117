"""Arrays in files, idx, npy and npz: every value at its place, whatever the dtype, byte order and layout."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch

from equikernels.models.data import DataError, load_dataset
from tests.models.data import samples
from tests.models.data.samples import everything, numbers


@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "i4", "f4", "f8"])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_idx_values(dtype: str, suffix: str, tmp_path: Path) -> None:
    array = numbers(4, 5, 6, dtype=dtype)
    dataset = load_dataset(samples.write_idx(tmp_path, f"a-images-idx3-ubyte{suffix}", array))
    image = everything(dataset)["image"]
    expected = array.astype(np.float64) / (255 if dtype == "u1" else 1)
    assert image.dtype == torch.float32
    assert image.shape == (4, 1, 5, 6)
    np.testing.assert_array_equal(image[:, 0].numpy(), expected.astype(np.float32))


def test_idx_finds_its_labels(tmp_path: Path) -> None:
    images, labels = numbers(4, 5, 6), np.array([3, 0, 9, 1], np.uint8)
    path = samples.write_idx(tmp_path, "t10k-images-idx3-ubyte.gz", images)
    assert "label" not in load_dataset(path).fields
    samples.write_idx(tmp_path, "t10k-labels-idx1-ubyte.gz", labels)
    assert everything(load_dataset(path))["label"].tolist() == [3, 0, 9, 1]
    by_folder = load_dataset(tmp_path, split="test")
    assert by_folder.fingerprint == load_dataset(tmp_path, split="test").fingerprint
    assert everything(by_folder)["label"].dtype == torch.int64
    with pytest.raises(DataError, match=r"expected a file train-images-idx3-ubyte, or with .gz, got none"):
        load_dataset(tmp_path, split="train")
    with pytest.raises(DataError, match="expected the option split=, 'train' or 'test', got None"):
        load_dataset(tmp_path)
    samples.write_idx(tmp_path, "t10k-labels-idx1-ubyte.gz", labels[:3])
    with pytest.raises(DataError, match=r"t10k-labels-idx1-ubyte.gz: expected 4 labels.*, got 3$"):
        load_dataset(path)


@pytest.mark.parametrize(
    ("layout", "shape", "order", "guessed"),
    [
        ("NHW", (2, 5, 6), None, True),
        ("NHWC", (2, 5, 6, 3), (0, 3, 1, 2), True),
        ("NCHW", (2, 3, 5, 6), (0, 1, 2, 3), True),
        ("NHWC", (2, 5, 6, 2), (0, 3, 1, 2), False),
        ("NCWH", (2, 2, 6, 5), (0, 1, 3, 2), False),
        ("NDHW", (2, 7, 5, 6), None, True),
        ("NDHWC", (2, 7, 5, 6, 4), (0, 4, 1, 2, 3), True),
        ("NCDHW", (2, 1, 7, 5, 6), (0, 1, 2, 3, 4), True),
        ("NWHD", (2, 6, 5, 7), (0, 3, 2, 1), False),
    ],
)
@pytest.mark.parametrize("order_in_file", ["C", "F"])
def test_layouts(
    layout: str, shape: tuple[int, ...], order: tuple[int, ...] | None, guessed: bool, order_in_file: str,
    tmp_path: Path,
) -> None:  # fmt: skip
    array = np.asarray(numbers(*shape, dtype="f4"), order=order_in_file)  # type: ignore[call-overload]
    moved = array if order is None else array.transpose(order)
    expected = moved if "C" in layout else moved[:, None]
    path = samples.write_npy(tmp_path, array)
    dataset = load_dataset(path, layout=layout)
    image = everything(dataset)["image"]
    np.testing.assert_array_equal(image.numpy(), expected)
    assert image.is_contiguous()
    assert dataset.fields["image"].shape == expected.shape[1:]
    if guessed:
        assert torch.equal(everything(load_dataset(path))["image"], image)


@pytest.mark.parametrize("dtype", ["?", "u1", ">u2", "<i8", "f2", ">f4", "f8"])
def test_dtypes_of_images(dtype: str, tmp_path: Path) -> None:
    array = numbers(3, 4, 5).astype(dtype) if dtype == "?" else numbers(3, 4, 5, dtype=dtype)
    image = everything(load_dataset(samples.write_npy(tmp_path, array)))["image"]
    expected = array.astype(np.float32) / np.float32(255 if dtype == "u1" else 1)
    np.testing.assert_array_equal(image[:, 0].numpy(), expected)


def test_values_beyond_float32_are_refused(tmp_path: Path) -> None:
    dataset = load_dataset(samples.write_npy(tmp_path, np.array([[[1e39]], [[np.inf]], [[2.5]]])))
    assert dataset.fetch(torch.tensor([2, 1]))["image"].flatten().tolist() == [2.5, np.inf]
    with pytest.raises(DataError, match=r"images.npy: expected values that float32 can hold, got overflow"):
        everything(dataset)


def test_uint8_fills_the_unit_interval(tmp_path: Path) -> None:
    ramp = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    image = everything(load_dataset(samples.write_npy(tmp_path, ramp)))["image"].flatten()
    assert image.min() == 0
    assert image.max() == 1
    assert torch.allclose(image * 255, torch.arange(256.0), atol=1e-4)


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        ("?", torch.int64),
        ("u1", torch.int64),
        ("u8", torch.int64),
        ("f2", torch.float16),
        (">f8", torch.float64),
    ],
)
def test_features_keep_their_numbers(dtype: str, expected: torch.dtype, tmp_path: Path) -> None:
    array = np.array([[0, 1], [1, 1]]).astype(dtype)
    features = everything(load_dataset(samples.write_npy(tmp_path, array)))["features"]
    assert features.dtype == expected
    assert features.tolist() == array.tolist()


def test_integers_beyond_int64_are_refused_when_they_are_fetched(tmp_path: Path) -> None:
    dataset = load_dataset(samples.write_npy(tmp_path, np.array([1, 2**63], np.uint64)))
    assert dataset.fetch(torch.tensor([0]))["features"].tolist() == [1]
    with pytest.raises(
        DataError, match=r"images.npy: expected integers of 64 bits .*, got 9223372036854775808"
    ):
        everything(dataset)


def test_npz_of_medmnist(tmp_path: Path) -> None:
    images, labels = numbers(3, 5, 6, 7), np.array([[1], [0], [2]], np.uint8)
    path = samples.write_npz(
        tmp_path, train_images=images, train_labels=labels, test_images=images[:1], test_labels=labels[:1]
    )
    batch = everything(load_dataset(path, split="train"))
    np.testing.assert_array_equal(batch["image"][:, 0].numpy(), images.astype(np.float32) / np.float32(255))
    assert batch["label"].tolist() == [1, 0, 2]
    assert len(load_dataset(path, split="test")) == 1
    with pytest.raises(
        DataError, match=r"archive.npz: expected the option split=, one of 'test', 'train', got"
    ):
        load_dataset(path)
    with pytest.raises(DataError, match=r"expected keys that begin with 'val_', got 'train_images'"):
        load_dataset(path, split="val")


def test_npz_fields(tmp_path: Path) -> None:
    arrays = {
        "x": numbers(3, 5, 6, 3),
        "turns": numbers(3, 2, 2, dtype="f8"),
        "labels": np.array([[1, 0], [0, 1], [1, 1]]),
        "scalar": np.array(3.0),
    }
    path = samples.write_npz(tmp_path, **arrays)
    dataset = load_dataset(path, images="x", keys=["x", "turns", "labels"])
    batch = everything(dataset)
    assert list(dataset.fields) == ["image", "turns", "label", "index"]
    assert batch["image"].shape == (3, 3, 5, 6)
    np.testing.assert_array_equal(batch["turns"].numpy(), arrays["turns"])
    assert batch["label"].tolist() == arrays["labels"].tolist()
    with pytest.raises(DataError, match=r"expected samples in scalar \(or say keys=\), got an array"):
        load_dataset(path, images="x")
    with pytest.raises(DataError, match="expected a key 'y', got 'x', 'turns', 'labels', 'scalar'"):
        load_dataset(path, images="y")
    with pytest.raises(DataError, match="expected a key 'z', got"):
        load_dataset(path, keys=["z"])
    with pytest.raises(DataError, match="expected images for layout="):
        load_dataset(path, keys=["turns"], layout="NHW")


def test_npz_names_that_mean_one_field(tmp_path: Path) -> None:
    array = numbers(3, 5, 6)
    path = samples.write_npz(tmp_path, image=array, images=array)
    with pytest.raises(DataError, match=r"expected one of 'images', 'image' \(or say keys=\), got both"):
        load_dataset(path)
    assert list(load_dataset(path, keys=["image"]).fields) == ["image", "index"]
    assert list(load_dataset(path, keys="image").fields) == ["image", "index"]
    path = samples.write_npz(tmp_path, images=array, index=np.arange(3))
    with pytest.raises(
        DataError, match="expected no field 'index', which is the number of the sample, got one"
    ):
        load_dataset(path)


def test_npz_in_fortran_order(tmp_path: Path) -> None:
    array = np.asfortranarray(numbers(3, 4, 5, dtype="f4"))
    image = everything(load_dataset(samples.write_npz(tmp_path, images=array)))["image"]
    np.testing.assert_array_equal(image[:, 0].numpy(), array)


# -- labels --------------------------------------------------------------------------------------------------


def test_labels_of_every_kind(tmp_path: Path) -> None:
    images = samples.write_npy(tmp_path, numbers(3, 4, 4))
    (tmp_path / "a.txt").write_text("7, 8\n\n 9,\n")
    (tmp_path / "b.idx1").write_bytes(samples.idx_bytes(np.array([7, 8, 9], np.int32)))
    (tmp_path / "c.idx1.gz").write_bytes(gzip.compress(samples.idx_bytes(np.array([7, 8, 9], np.uint8))))
    np.save(tmp_path / "d.npy", np.array([[7], [8], [9]]))
    for name in ("a.txt", "b.idx1", "c.idx1.gz", "d.npy"):
        batch = load_dataset(images, labels=tmp_path / name).fetch(torch.tensor([2, 0]))
        assert batch["label"].tolist() == [9, 7], name
        assert batch["label"].dtype == torch.int64


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 2", "expected 3 labels, one for every sample, got 2"),
        ("1 2 3 4", "expected 3 labels, one for every sample, got 4"),
        ("1 2 x", "expected integers in line 1, got 'x'"),
        ("1\n2\n3.5", "expected integers in line 3, got '3.5'"),
        ("1 2 9999999999999999999", "expected integers in line 1"),
        (" \n", "expected at least one label, got none"),
    ],
)
def test_wrong_labels(text: str, message: str, tmp_path: Path) -> None:
    images = samples.write_npy(tmp_path, numbers(3, 4, 4))
    (tmp_path / "labels.txt").write_text(text)
    with pytest.raises(DataError, match=f"labels.txt: {message}"):
        load_dataset(images, labels=tmp_path / "labels.txt")


def test_a_field_as_label(tmp_path: Path) -> None:
    path = samples.write_npz(tmp_path, images=numbers(3, 4, 4), kind=np.array([2, 0, 1]))
    batch = everything(load_dataset(path, labels="kind"))
    assert batch["label"].tolist() == batch["kind"].tolist() == [2, 0, 1]
    with pytest.raises(
        DataError, match=r"sort: expected a file of labels, or a field of .*image, kind, got neither"
    ):
        load_dataset(path, labels="sort")


def test_extra_fields(tmp_path: Path) -> None:
    images = samples.write_npy(tmp_path, numbers(3, 4, 4))
    turns = numbers(3, 2, 2, dtype="f8")
    poses = samples.write_npz(tmp_path, turns=turns, kind=np.arange(3))
    dataset = load_dataset(images, extra=poses, labels="kind")
    batch = dataset.fetch(torch.tensor([2, 1]))
    assert list(dataset.fields) == ["image", "turns", "kind", "label", "index"]
    np.testing.assert_array_equal(batch["turns"].numpy(), turns[[2, 1]])
    assert batch["label"].tolist() == [2, 1]
    assert dataset.fingerprint != load_dataset(images, labels=None).fingerprint
    with pytest.raises(DataError, match=r"archive.npz: expected 2 samples, got 3"):
        load_dataset(samples.write_npy(tmp_path, numbers(2, 4, 4), "two.npy"), extra=poses)
    with pytest.raises(DataError, match=r"images.npy: expected fields other than image, got image too"):
        load_dataset(images, extra=images)
