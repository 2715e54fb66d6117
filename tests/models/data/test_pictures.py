"""Folders of pictures: pixels, classes, sizes, channels, orientation."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from equikernels.models.data import DataError, load_dataset
from equikernels.models.data.readers import pictures
from equikernels.models.engine.batches import read_ahead
from tests.models.data import samples
from tests.models.data.samples import everything, numbers, write_picture


@pytest.mark.parametrize("suffix", ["png", "PNG", "bmp", "tif", "ppm"])
def test_pixels(suffix: str, tmp_path: Path) -> None:
    array = numbers(5, 6, 3)
    batch = everything(load_dataset(write_picture(tmp_path / f"a.{suffix}", array)))
    assert batch["image"].shape == (1, 3, 5, 6)
    expected = array.transpose(2, 0, 1).astype(np.float32) / np.float32(255)
    np.testing.assert_array_equal(batch["image"][0].numpy(), expected)


def test_a_flat_folder_goes_by_name(tmp_path: Path) -> None:
    pictures = {name: numbers(4, 4, seed=seed) for seed, name in enumerate(["b.png", "a.png", "c.bmp"])}
    for name, array in pictures.items():
        write_picture(tmp_path / name, array)
    (tmp_path / "notes.md").write_text("no picture")
    (tmp_path / ".hidden.png").write_bytes(b"no picture")
    dataset = load_dataset(tmp_path)
    assert "label" not in dataset.fields
    images = everything(dataset)["image"]
    for row, name in enumerate(sorted(pictures)):
        np.testing.assert_array_equal(images[row, 0].mul(255).round().numpy(), pictures[name])


def test_folders_are_classes(tmp_path: Path) -> None:
    for seed, name in enumerate(["dog/1.png", "cat/2.png", "cat/1.png"]):
        write_picture(tmp_path / name, numbers(4, 4, seed=seed))
    (tmp_path / ".git").mkdir()
    dataset = load_dataset(tmp_path)
    assert dataset.fields["label"].classes == ("cat", "dog")
    batch = everything(dataset)
    assert batch["label"].tolist() == [0, 0, 1]
    np.testing.assert_array_equal(batch["image"][1, 0].mul(255).round().numpy(), numbers(4, 4, seed=1))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"/empty: expected pictures of a class .*, got none"):
        load_dataset(tmp_path)
    (tmp_path / "empty").rmdir()
    write_picture(tmp_path / "lost.png", numbers(4, 4))
    with pytest.raises(DataError, match=r"either here or in one folder for every class, got lost.png beside"):
        load_dataset(tmp_path)


def test_empty_folders(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected a folder of files like .*, got an empty folder"):
        load_dataset(tmp_path)
    with pytest.raises(DataError, match=r"expected pictures \(\*.png, .*\), got none"):
        load_dataset(tmp_path, format="pictures")


def test_mixed_sizes_are_an_error_that_names_the_file(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.png", numbers(4, 6, 3))
    write_picture(tmp_path / "b.png", numbers(4, 6, 3))
    write_picture(tmp_path / "odd.png", numbers(6, 4, 3))
    with pytest.raises(
        DataError, match=r"odd.png: expected 4 x 6 pixels as in a.png \(or say size=\), got 6 x 4$"
    ):
        load_dataset(tmp_path)
    batch = everything(load_dataset(tmp_path, size=(2, 3)))
    assert batch["image"].shape == (3, 3, 2, 3)


def test_mixed_channels_are_an_error_that_names_the_file(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.png", numbers(4, 4, 3))
    write_picture(tmp_path / "b.png", numbers(4, 4))
    with pytest.raises(
        DataError, match=r"b.png: expected 3 channels as in the first picture .*, got 1 \(L\)"
    ):
        everything(load_dataset(tmp_path))
    grey = everything(load_dataset(tmp_path, channels=3))["image"][1]
    assert torch.equal(grey[0], grey[1])
    assert everything(load_dataset(tmp_path, channels=1))["image"].shape == (2, 1, 4, 4)
    assert everything(load_dataset(tmp_path, channels=4))["image"][:, 3].eq(1).all()


def test_size_covers_and_cuts_the_middle(tmp_path: Path) -> None:
    """A wide picture loses its left and right: what is left is what its middle alone gives."""
    smooth = np.linspace(0, 255, 16 * 40).reshape(40, 16).T.astype(np.uint8)
    write_picture(tmp_path / "wide/a.png", smooth)
    write_picture(tmp_path / "middle/a.png", smooth[:, 12:28])
    wide = everything(load_dataset(tmp_path / "wide", size=8))["image"]
    middle = everything(load_dataset(tmp_path / "middle", size=8))["image"]
    assert wide.shape == (1, 1, 8, 8)
    # The kernel looks a little over the border of the box, which only the wide picture has pixels beyond.
    assert torch.allclose(wide[..., 1:-1], middle[..., 1:-1], atol=2 / 255)
    same = everything(load_dataset(tmp_path / "middle", size=16))["image"]
    np.testing.assert_array_equal(same[0, 0].mul(255).round().numpy(), smooth[:, 12:28])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "webp"])
def test_exif_orientation_is_obeyed(orientation: int, suffix: str, tmp_path: Path) -> None:
    """Three by two blocks, stored as each of the eight symmetries has them, are read upright."""
    blocks = np.array([[0, 100, 200], [50, 150, 250]], np.uint8)
    upright = np.repeat(np.repeat(blocks, 16, 0), 16, 1)
    # What a camera stores so that the turn that EXIF names leads back to `upright`.
    stored = {
        1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1], 5: upright.T,
        6: np.rot90(upright), 7: upright[::-1, ::-1].T, 8: np.rot90(upright, -1),
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = Image.fromarray(np.ascontiguousarray(stored))
    picture.save(tmp_path / f"a.{suffix}", exif=exif, **({"lossless": True} if suffix == "webp" else {}))
    image = everything(load_dataset(tmp_path / f"a.{suffix}", channels=1))["image"][0, 0]
    assert image.shape == (32, 48)
    np.testing.assert_allclose(image[8::16, 8::16].mul(255).numpy(), blocks, atol=4)


def test_sixteen_bits_and_floating_pixels(tmp_path: Path) -> None:
    deep = np.array([[0, 65535], [1, 32768]], np.uint16)
    for name in ("a.png", "a.tif", "a.pgm"):
        write_picture(tmp_path / name, deep)
        image = everything(load_dataset(tmp_path / name))["image"][0, 0]
        np.testing.assert_allclose(image.numpy(), deep / 65535, rtol=1e-6, err_msg=name)
    values = np.array([[-1.5, 0.25], [3.0, 1e6]], np.float32)
    write_picture(tmp_path / "b.tif", values)
    np.testing.assert_array_equal(everything(load_dataset(tmp_path / "b.tif"))["image"][0, 0].numpy(), values)
    with pytest.raises(
        DataError, match=r"a.png: expected 8 bits a channel, to make 3 channels, got mode I;16"
    ):
        everything(load_dataset(tmp_path / "a.png", channels=3))


def test_palettes_and_black_and_white(tmp_path: Path) -> None:
    array = np.zeros((4, 4, 3), np.uint8)
    array[:2, :, 0] = 255
    Image.fromarray(array).quantize(2).save(tmp_path / "p.png")
    image = everything(load_dataset(tmp_path / "p.png"))["image"]
    np.testing.assert_array_equal(image[0].permute(1, 2, 0).mul(255).numpy(), array)
    Image.fromarray(array[..., 0]).convert("1").save(tmp_path / "bw.png")
    image = everything(load_dataset(tmp_path / "bw.png"))["image"]
    np.testing.assert_array_equal(image[0, 0].mul(255).numpy(), array[..., 0])


def test_sheets_hold_an_image_in_every_row(tmp_path: Path) -> None:
    images = numbers(5, 4, 6, 3)
    write_picture(tmp_path / "1.png", images[:3].reshape(3, 24, 3))
    write_picture(tmp_path / "2.png", images[3:].reshape(2, 24, 3))
    batch = everything(load_dataset(tmp_path, sheet=(4, 6)))
    expected = images.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)
    np.testing.assert_array_equal(batch["image"].numpy(), expected)
    with pytest.raises(DataError, match=r"1.png: expected 25 pixels in a row for sheet=\(5, 5\), got 24"):
        load_dataset(tmp_path, sheet=(5, 5))


def test_a_series_of_pictures_is_refused(tmp_path: Path) -> None:
    frames = [Image.fromarray(numbers(4, 4, seed=seed)) for seed in range(3)]
    frames[0].save(tmp_path / "a.tif", save_all=True, append_images=frames[1:])
    with pytest.raises(DataError, match=r"a.tif: expected one picture, got a series of 3"):
        load_dataset(tmp_path / "a.tif")


def test_a_picture_that_breaks_later_is_named(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        write_picture(tmp_path / name, numbers(20, 20))
    dataset = load_dataset(tmp_path)
    (tmp_path / "b.png").write_bytes((tmp_path / "b.png").read_bytes()[:200])
    assert dataset.fetch(torch.tensor([0]))["image"].shape == (1, 1, 20, 20)
    with pytest.raises(DataError, match=r"b.png: expected a picture, got"):
        everything(dataset)
    (tmp_path / "b.png").unlink()
    with pytest.raises(DataError, match=r"b.png: expected a file, got nothing of that name"):
        everything(dataset)
    write_picture(tmp_path / "b.png", numbers(20, 21))
    with pytest.raises(
        DataError, match=r"b.png: expected 20 x 20 pixels as in the other pictures .*, got 20 x 21"
    ):
        everything(dataset)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, "size: expected 1 to 65536 pixels, got 0"),
        ({"size": (3,)}, r"size: expected a number of pixels or \(height, width\), got \(3,\)"),
        ({"size": "big"}, "size: expected a number of pixels"),
        ({"channels": 2}, "channels: expected 1, 3 or 4, got 2"),
        ({"size": 3, "sheet": (1, 1)}, "size, sheet: expected at most one of them"),
        (
            {"colour": 3},
            "colour: no option of pictures data, which take format, labels, extra, size, channels, sheet",
        ),
    ],
)
def test_wrong_options(options: dict, message: str, tmp_path: Path) -> None:
    samples.write_picture(tmp_path / "a.png", numbers(4, 4))
    with pytest.raises(ValueError, match=message):
        load_dataset(tmp_path, **options)


# -- what is kept --------------------------------------------------------------------------------------------


def decodings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files as they are decoded."""
    real, names = pictures.decode, []

    def decode(path: Path, *options: Any) -> Any:
        names.append(path.name)
        return real(path, *options)

    monkeypatch.setattr(pictures, "decode", decode)
    return names


def folder_of(tmp_path: Path, count: int) -> Path:
    for number in range(count):
        write_picture(tmp_path / f"{number}.png", numbers(4, 5, 3, seed=number))
    return tmp_path


def test_pictures_are_decoded_once_and_stay_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = decodings(monkeypatch)
    dataset = load_dataset(folder_of(tmp_path, 3))
    first = dataset.fetch(torch.tensor([2, 0, 2]))["image"]
    assert names == ["2.png", "0.png"]
    expected = first.clone()
    # What a batch's owner does to it is none of the next one's business.
    first.zero_()
    again = dataset.subset([0, 2]).fetch(torch.tensor([1, 0, 1]))["image"]
    assert torch.equal(again, expected)
    assert names == ["2.png", "0.png"]
    for row in (0, 2):
        values = numbers(4, 5, 3, seed=row).transpose(2, 0, 1).astype(np.float32) / np.float32(255)
        np.testing.assert_array_equal(dataset.fetch(torch.tensor([row]))["image"][0].numpy(), values)
    # Those of another size are kept at theirs; another data set keeps its own.
    small = load_dataset(tmp_path, size=2)
    for _ in range(2):
        assert small.fetch(torch.tensor([0]))["image"].shape == (1, 3, 2, 2)
    assert names == ["2.png", "0.png", "0.png"]


@pytest.mark.parametrize(("room", "kept"), [(0, 0), (59, 0), (60, 1), (179, 2), (180, 3), (1000, 4)])
def test_as_many_are_kept_as_there_is_room_for(
    room: int, kept: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of the four has 4 x 5 x 3 bytes."""
    monkeypatch.setattr(pictures, "KEPT_BYTES", room)
    dataset = load_dataset(folder_of(tmp_path, 4))
    expected = everything(dataset)["image"]
    names = decodings(monkeypatch)
    assert torch.equal(everything(dataset)["image"], expected)
    assert names == [f"{number}.png" for number in range(kept, 4)]


def test_deep_pictures_are_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(np.arange(20, dtype=np.uint16).reshape(4, 5) * 3000).save(tmp_path / "deep.png")
    names = decodings(monkeypatch)
    dataset = load_dataset(tmp_path)
    assert torch.equal(everything(dataset)["image"], everything(dataset)["image"])
    assert names == ["deep.png"] * 2


def test_copies_of_a_data_set_begin_without_what_was_kept(tmp_path: Path) -> None:
    dataset = load_dataset(folder_of(tmp_path, 3))
    before = len(pickle.dumps(dataset))
    expected = everything(dataset)["image"]
    assert len(pickle.dumps(dataset)) == before
    assert torch.equal(everything(pickle.loads(pickle.dumps(dataset)))["image"], expected)


def test_threads_share_what_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = decodings(monkeypatch)
    dataset = load_dataset(folder_of(tmp_path, 6))
    expected = everything(load_dataset(tmp_path))["image"]
    names.clear()
    parts = list(torch.arange(6).repeat(8).split(3))
    for epoch in range(2):
        batches = list(read_ahead(dataset, parts, 4))
        for rows, batch in zip(parts, batches, strict=True):
            assert torch.equal(batch["image"], expected[rows])
        if epoch == 0:
            # In the beginning several may have decoded the same one.
            assert set(names) == {f"{number}.png" for number in range(6)}
            names.clear()
    assert not names


def test_a_damaged_picture_is_told_every_time(tmp_path: Path) -> None:
    dataset = load_dataset(folder_of(tmp_path, 2))
    (tmp_path / "1.png").write_bytes((tmp_path / "1.png").read_bytes()[:60])
    for _ in range(2):
        with pytest.raises(DataError, match=r"1\.png: expected a picture"):
            everything(dataset)
