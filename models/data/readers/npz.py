"""Archives of arrays: .npz files as NumPy writes them, those of MedMNIST among them."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from equikernels.models.data.columns import Column, Content, ValueColumn, label_column
from equikernels.models.data.errors import data_error, file_size, plausible_size, read_exactly, reading
from equikernels.models.data.pixels import PixelColumn, check_layout, guess_layout
from equikernels.models.data.readers.npy import array_header

__all__ = ["read"]

_IMAGES = ("images", "image")
_LABELS = ("labels", "label")
_STORED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def read(
    path: Path,
    *,
    split: str | None = None,
    images: str | None = None,
    keys: str | Sequence[str] | None = None,
    layout: str | None = None,
) -> Content:
    """Every array is a field; "images" and "labels" become "image" and "label". All are read into memory.

    Args:
        split: only keys that begin with it and an underscore, which are dropped: "train" for "train_images".
        images: the key of the images, where it is another one.
        keys: only this one or these; all of them by default.
        layout: letters of the images' axes, for example "NHWC"; by default from their number of axes.
    """
    file_size(path)
    keys = (keys,) if isinstance(keys, str) else keys
    with reading(path, "a .npz archive"), zipfile.ZipFile(path) as archive:
        names = _chosen(path, archive, split, keys)
        if images is not None and images not in names:
            raise data_error(path, f"a key {images!r}", f"{_listed(names)}")
        arrays = {key: _array(path, archive, member) for key, member in names.items()}
    count = _common_length(path, arrays)
    columns: dict[str, Column] = {}
    for pair in (_LABELS,) if images is not None else (_LABELS, _IMAGES):
        if set(pair) <= arrays.keys():
            raise data_error(path, f"one of {_listed(pair)} (or say keys=)", "both")
    for key, array in arrays.items():
        source = f"{path} ({names[key].removesuffix('.npy')})"
        if key == images or (images is None and key in _IMAGES):
            order = guess_layout(source, array.shape) if layout is None else check_layout(layout)
            columns["image"] = PixelColumn(source, array, order, "pixels")
        elif key in _LABELS:
            columns["label"] = label_column(source, array, count)
        else:
            columns[key] = ValueColumn(source, array, f"array {key} of the archive")
    if layout is not None and "image" not in columns:
        raise data_error(path, "images for layout= (say images=)", f"the keys {_listed(arrays)}")
    return Content(columns, (path,))


def _chosen(
    path: Path, archive: zipfile.ZipFile, split: str | None, keys: Sequence[str] | None
) -> dict[str, str]:
    """Members by the names of their fields."""
    members = {name.removesuffix(".npy"): name for name in archive.namelist() if name.endswith(".npy")}
    if not members:
        raise data_error(path, "at least one array", f"{_listed(archive.namelist())}")
    splits = sorted({key.rpartition("_")[0] for key in members if key.endswith("_images")})
    if split is None and keys is None and len(splits) > 1:
        raise data_error(path, f"the option split=, one of {_listed(splits)}", "none")
    prefix = f"{split}_" if split is not None else ""
    found = {key.removeprefix(prefix): name for key, name in members.items() if key.startswith(prefix)}
    if not found:
        raise data_error(path, f"keys that begin with {prefix!r}", f"{_listed(members)}")
    missing = [key for key in keys or () if key not in found]
    if missing:
        raise data_error(path, f"a key {missing[0]!r}", f"{_listed(found)}")
    return found if keys is None else {key: found[key] for key in keys}


def _array(path: Path, archive: zipfile.ZipFile, member: str) -> NDArray:
    info, source = archive.getinfo(member), f"{path} ({member.removesuffix('.npy')})"
    if info.compress_type not in _STORED or info.flag_bits & 1:
        raise data_error(source, "an array stored or deflated, not encrypted", f"method {info.compress_type}")
    with archive.open(info) as stream:
        dtype, shape, order = array_header(stream, source)
        size = plausible_size(shape, dtype.itemsize, min(info.compress_size, path.stat().st_size))
        if size is None:
            raise data_error(
                source, f"data for an array {shape} of {dtype}", f"{info.compress_size} compressed bytes"
            )
        data = read_exactly(stream, size, source, f"an array {shape} of {dtype}")
        # Reading on to the end also checks the sum of the bytes.
        if stream.read(1):
            raise data_error(source, f"{size} bytes for an array {shape} of {dtype}", "more")
    return np.frombuffer(data, dtype).reshape(shape, order=order)


def _common_length(path: Path, arrays: dict[str, NDArray]) -> int:
    lengths = {key: len(array) if array.ndim else None for key, array in arrays.items()}
    first, count = next(iter(lengths.items()))
    for key, length in lengths.items():
        if not length:
            raise data_error(path, f"samples in {key} (or say keys=)", f"an array {arrays[key].shape}")
        if length != count:
            expected = f"arrays of one length (or say keys=), as many rows in {key} as in {first}, {count}"
            raise data_error(path, expected, f"{length}")
    assert count is not None
    return count


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names)) or "nothing"
