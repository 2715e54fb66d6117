"""Files of every format, damaged at random: each gives data or one clear error."""

from __future__ import annotations

import gzip
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from equikernels.models.data import load_dataset
from tests.models.data import samples
from tests.models.data.judging import judge

# What Pillow says about tags that it leaves out.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")

Writer = Callable[[Path], tuple[Path, Path, dict[str, Any]]]


def whole(path: Path, **options: Any) -> tuple[Path, Path, dict[str, Any]]:
    """The file that is damaged, what is loaded, and how."""
    return path, path, options


def picture(suffix: str) -> Writer:
    return lambda folder: whole(samples.write_picture(folder / f"a.{suffix}", samples.numbers(9, 7, 3)))


def star_stack(folder: Path) -> tuple[Path, Path, dict[str, Any]]:
    return folder / "stack.mrcs", samples.write_star(folder), {}


def labels_of(name: str) -> Writer:
    def write(folder: Path) -> tuple[Path, Path, dict[str, Any]]:
        images = samples.write_npy(folder, samples.numbers(5, 3, 3))
        labels = folder / name
        if name.endswith(".txt"):
            labels.write_text("0, 1, 2\n3 4\n")
        else:
            np.save(labels, np.arange(5))
        return labels, images, {"labels": labels}

    return write


def scenes(folder: Path) -> tuple[Path, Path, dict[str, Any]]:
    samples.write_scenes(folder)
    options = {"scene": "square", "split": "test", "observe": 3, "predict": 2}
    return folder / "splits.json", folder, options


TARGETS: dict[str, Writer] = {
    "idx": lambda d: whole(samples.write_idx(d, "a-images-idx3-ubyte", samples.numbers(4, 5, 6))),
    "idx.gz": lambda d: whole(samples.write_idx(d, "a-images-idx3-ubyte.gz", samples.numbers(4, 5, 6))),
    "npy": lambda d: whole(samples.write_npy(d, samples.numbers(3, 4, 5, dtype="f4"))),
    "npz": lambda d: whole(samples.write_npz(d, images=samples.numbers(3, 4, 5), labels=np.arange(3))),
    "npz stored": lambda d: whole(
        samples.write_npz(d, compressed=False, images=samples.numbers(3, 4, 5), labels=np.arange(3))
    ),
    "png": picture("png"),
    "jpg": picture("jpg"),
    "tif": picture("tif"),
    "bmp": picture("bmp"),
    "webp": picture("webp"),
    "ppm": lambda d: whole(samples.write_picture(d / "a.ppm", samples.numbers(9, 7, 3))),
    "mrc": lambda d: whole(samples.write_mrc(d, samples.numbers(3, 4, 5, dtype="f4"), "a.mrc", volume=True)),
    "mrcs": lambda d: whole(samples.write_mrc(d, samples.numbers(3, 4, 5, dtype="i2"))),
    "star": lambda d: whole(samples.write_star(d)),
    "stack of a star": star_stack,
    "nii": lambda d: whole(samples.write_nifti(d, samples.numbers(3, 4, 5, dtype="i2"))),
    "nii.gz": lambda d: whole(samples.write_nifti(d, samples.numbers(3, 4, 5), name="a.nii.gz")),
    "txt": lambda d: whole(
        samples.write_tracks(d, samples.track(1, range(0, 60, 10)) + samples.track(2, range(20, 90, 10))),
        observe=3,
        predict=2,
    ),
    "splits.json": scenes,
    "labels.txt": labels_of("labels.txt"),
    "labels.npy": labels_of("labels.npy"),
}  # fmt: skip
every_target = pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)

EXTREMES = [0, 1, 255, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 10**6, 10**9]


@st.composite
def damages(draw: st.DrawFn) -> Callable[[bytes], bytes]:
    """A change of the bytes of a file: cut, overwrite, insert, remove, exaggerate, turn words around."""
    place = draw(st.floats(0, 1)) ** draw(st.sampled_from([1, 4]))  # often near the beginning: headers
    kind = draw(st.sampled_from(["cut", "overwrite", "insert", "remove", "number", "swap", "word"]))
    some = draw(st.binary(min_size=1, max_size=12))
    count = draw(st.integers(1, 300))
    number = draw(st.sampled_from(EXTREMES))
    packed = struct.pack(draw(st.sampled_from("<>")) + draw(st.sampled_from("IQ")), number)
    word = draw(
        st.sampled_from(
            [b"nan", b"inf", b"-1", b"1e999", b"\xff\xfe", b"\n", b" ", b"9" * 30, b"'", b"(" * 99]
        )
    )

    def damage(data: bytes) -> bytes:
        at = int(place * len(data))
        if kind == "cut":
            return data[:at]
        if kind == "overwrite":
            return data[:at] + some + data[at + len(some) :]
        if kind == "insert":
            return data[:at] + some + data[at:]
        if kind == "remove":
            return data[:at] + data[at + count :]
        if kind == "number":
            at -= at % 4
            return data[:at] + packed + data[at + len(packed) :]
        if kind == "swap":
            at -= at % 4
            return data[:at] + data[at : at + 4][::-1] + data[at + 4 :]
        return data[:at] + word + data[at + len(word) :]

    return damage


@every_target
@settings(suppress_health_check=[HealthCheck.too_slow])
@given(damage=damages())
@example(damage=lambda data: b"")
@example(damage=lambda data: data[:-1])
@example(damage=lambda data: data + b"\0")
@example(damage=lambda data: data[::-1])
@example(damage=lambda data: gzip.compress(data))
@example(damage=lambda data: bytes(len(data)))
def test_damaged_files(target: Writer, damage: Callable[[bytes], bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file, path, options = target(Path(folder))
        file.write_bytes(damage(file.read_bytes()))
        judge(path, options, file.name)


@every_target
def test_undamaged_files(target: Writer, tmp_path: Path) -> None:
    file, path, options = target(tmp_path)
    assert judge(path, options, file.name) == ""


# A text that ends early may be a shorter text.
TEXTS = {"txt", "star", "labels.txt", "splits.json"}


@pytest.mark.parametrize("name", [name for name in TARGETS if name not in TEXTS])
def test_a_file_cut_anywhere_is_refused_or_whole(name: str, tmp_path: Path) -> None:
    """Some pictures end with bytes that hold no pixels."""
    file, path, options = TARGETS[name](tmp_path)
    data = file.read_bytes()
    expected = samples.everything(load_dataset(path, **options))
    lengths, refused = {*range(0, len(data), 1 + len(data) // 150), len(data) - 1}, 0
    for length in lengths:
        file.write_bytes(data[:length])
        if judge(path, options, file.name):
            refused += 1
            continue
        batch = samples.everything(load_dataset(path, **options))
        for field, values in expected.items():
            assert torch.equal(batch[field], values), f"{name} cut to {length} of {len(data)} bytes"
    assert refused > 0.9 * len(lengths)


@pytest.mark.parametrize("name", ["idx.gz", "npz", "npz stored", "nii.gz"])
def test_values_under_a_check_sum_are_refused_or_right(name: str, tmp_path: Path) -> None:
    file, path, options = TARGETS[name](tmp_path)
    data = file.read_bytes()
    expected = samples.everything(load_dataset(path, **options))
    refused = 0
    for place in range(len(data)):
        file.write_bytes(data[:place] + bytes([data[place] ^ 0x10]) + data[place + 1 :])
        if judge(path, options, file.name):
            refused += 1
            continue
        batch = samples.everything(load_dataset(path, **options))
        # The names of an archive's members are under no sum.
        for field in expected.keys() & batch.keys():
            assert torch.equal(batch[field], expected[field]), f"{name} with byte {place} changed"
    assert refused > 0.3 * len(data)
