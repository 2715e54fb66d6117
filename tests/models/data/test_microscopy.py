"""MRC stacks and volumes, and STAR tables that refer to them."""

from __future__ import annotations

from pathlib import Path

import mrcfile
import numpy as np
import pytest
import torch

from equikernels.models.data import DataError, load_dataset
from tests.models.data import samples
from tests.models.data.samples import STAR, everything, numbers, write_mrc, write_star


@pytest.mark.parametrize("dtype", ["i1", "i2", "u2", "f2", "f4"])
def test_stacks(dtype: str, tmp_path: Path) -> None:
    array = numbers(3, 4, 5, dtype=dtype)
    image = everything(load_dataset(write_mrc(tmp_path, array)))["image"]
    assert image.shape == (3, 1, 4, 5)
    np.testing.assert_array_equal(image[:, 0].numpy(), array.astype(np.float32))


def test_stacks_and_volumes(tmp_path: Path) -> None:
    array = numbers(6, 4, 5, dtype="f4")
    volume = write_mrc(tmp_path, array, "a.mrc", volume=True)
    assert load_dataset(volume).fields["image"].shape == (1, 6, 4, 5)
    np.testing.assert_array_equal(everything(load_dataset(volume))["image"][0, 0].numpy(), array)
    assert len(load_dataset(volume, stack=True)) == 6
    stack = write_mrc(tmp_path, array, "b.mrc")
    assert len(load_dataset(stack)) == 6
    assert len(load_dataset(stack, stack=False)) == 1
    with mrcfile.new(tmp_path / "c.mrc") as file:
        file.set_data(array.reshape(3, 2, 4, 5))
    several = everything(load_dataset(tmp_path / "c.mrc"))["image"]
    np.testing.assert_array_equal(several[:, 0].numpy(), array.reshape(3, 2, 4, 5))


def test_byte_order_and_extended_header(tmp_path: Path) -> None:
    array = numbers(3, 4, 5, dtype=">f4")
    with mrcfile.new(tmp_path / "a.mrcs") as file:
        file.set_data(array)
        file.set_extended_header(np.zeros(160, "V1"))
    raw = (tmp_path / "a.mrcs").read_bytes()
    assert raw[212] == 0x11, "a big-endian file was written"
    np.testing.assert_array_equal(everything(load_dataset(tmp_path / "a.mrcs"))["image"][:, 0].numpy(), array)


def test_files_without_identifier(tmp_path: Path) -> None:
    """As RELION and others write them; the size then has to agree."""
    path = write_mrc(tmp_path, numbers(3, 4, 5, dtype="f4"))
    expected = everything(load_dataset(path))["image"]
    raw = bytearray(path.read_bytes())
    raw[208:216] = bytes(8)
    path.write_bytes(raw)
    assert torch.equal(everything(load_dataset(path))["image"], expected)
    path.write_bytes(raw + b"\0")
    with pytest.raises(DataError, match=r"stack.mrcs: expected 1264 bytes for 3 x 4 x 5 .* got 1265"):
        load_dataset(path)


def test_star(tmp_path: Path) -> None:
    stack, other = numbers(3, 4, 5, dtype="f4", seed=1), numbers(2, 4, 5, dtype="f4", seed=2)
    dataset = load_dataset(write_star(tmp_path))
    batch = dataset.fetch(torch.tensor([2, 0, 1, 0]))
    np.testing.assert_array_equal(batch["image"][:, 0].numpy(), [other[0], stack[1], stack[0], stack[1]])
    assert batch["rlnAnglePsi"].tolist() == [30.0, 10.5, -20.0, 10.5]
    assert batch["rlnAnglePsi"].dtype == torch.float64
    assert batch["rlnOpticsGroup"].tolist() == [1, 2, 1, 2]
    assert batch["rlnVoltage"].tolist() == [300.0, 200.0, 300.0, 200.0], "joined by the optics group"
    assert set(dataset.fields) == {"image", "rlnAnglePsi", "rlnOpticsGroup", "rlnVoltage", "index"}


def test_star_options(tmp_path: Path) -> None:
    path = write_star(tmp_path)
    (tmp_path / "tables").mkdir()
    moved = path.rename(tmp_path / "tables" / "p.star")
    with pytest.raises(
        DataError, match=r"p.star: expected the stack .*stack.mrcs, which row 1 refers to, got no"
    ):
        load_dataset(moved)
    dataset = load_dataset(moved, root=tmp_path, columns=["rlnAnglePsi"], labels="rlnAnglePsi")
    assert set(dataset.fields) == {"image", "rlnAnglePsi", "label", "index"}
    assert set(load_dataset(moved, root=tmp_path, columns="rlnVoltage").fields) == {
        "image",
        "rlnVoltage",
        "index",
    }
    with pytest.raises(DataError, match="expected a column of numbers 'rlnMicrographName', got rlnAnglePsi"):
        load_dataset(moved, root=tmp_path, columns=["rlnMicrographName"])
    with pytest.raises(DataError, match="expected one table with a column rlnName"):
        load_dataset(moved, root=tmp_path, images="rlnName")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("000002@stack", "000004@stack", r"a section 1 to 3 of stack.mrcs, got '000004@stack.mrcs' in row 1"),
        ("000002@stack", "000000@stack", r"a section 1 to 3 of stack.mrcs, got '000000@stack.mrcs' in row 1"),
        ("000002@stack", "stack", r"a section 1 to 3 of stack.mrcs, got 'stack.mrcs' in row 1"),
        ("1 first", "2 first", r"every rlnOpticsGroup once in the optics table, got \[2, 2\]"),
        ("10.5 2", "10.5 3", r"an optics group, one of \[1, 2\], got 3 in row 1"),
        ("-20.0", "nan", r"finite numbers in rlnAnglePsi \(or say columns=\), got nan in row 2"),
        ("-20.0", "1e999", r"finite numbers in rlnAnglePsi \(or say columns=\), got inf in row 2"),
        (" m1.mrc\n000001", "\n000001", "expected a STAR file|finite numbers|one table"),
    ],
)
def test_wrong_tables(old: str, new: str, message: str, tmp_path: Path) -> None:
    assert STAR.count(old) >= 1
    with pytest.raises(DataError, match=message):
        everything(load_dataset(write_star(tmp_path, STAR.replace(old, new, 1)), columns=None))


def test_stacks_of_different_sizes(tmp_path: Path) -> None:
    path = write_star(tmp_path)
    write_mrc(tmp_path, numbers(2, 5, 5, dtype="f4"), "other.mrcs")
    with pytest.raises(
        DataError, match=r"other.mrcs: expected images of \(4, 5\) pixels as in stack.mrcs, got"
    ):
        load_dataset(path)


def test_a_star_file_is_read_again_when_it_has_changed(tmp_path: Path) -> None:
    path = write_star(tmp_path)
    assert everything(load_dataset(path))["rlnAnglePsi"][0] == 10.5
    path.write_text(STAR.replace("10.5", "99.5"))
    assert everything(load_dataset(path))["rlnAnglePsi"][0] == 99.5
    path.write_text(STAR.replace("10.5", "abc def ghi"))
    with pytest.raises(DataError):
        load_dataset(path)
    path.write_text(STAR.replace("10.5", "77.5"))
    assert everything(load_dataset(path))["rlnAnglePsi"][0] == 77.5


def test_one_section_needs_no_number(tmp_path: Path) -> None:
    samples.write_mrc(tmp_path, numbers(1, 4, 5, dtype="f4"), "one.mrc")
    path = tmp_path / "a.star"
    path.write_text("data_\nloop_\n_rlnImageName\n_rlnAnglePsi\none.mrc 3.0\n")
    assert everything(load_dataset(path))["image"].shape == (1, 1, 4, 5)
