"""The idx files of MNIST and its relatives, compressed by gzip or not, alone or in their folder."""

from __future__ import annotations

import gzip
import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from equikernels.models.data.columns import Array, Column, Content, MappedArray, ValueColumn, label_column
from equikernels.models.data.errors import (
    Stream,
    data_error,
    file_size,
    plausible_size,
    read_exactly,
    reading,
)
from equikernels.models.data.pixels import PixelColumn, check_layout, guess_layout

__all__ = ["idx_array", "read"]

_DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_MOST_AXES = 8
_PREFIXES = {"train": "train", "test": "t10k"}


def read(path: Path, *, split: str | None = None, layout: str | None = None) -> Content:
    """Images, with labels where a file of the same name has "labels" and "idx1" for "images" and "idx3".

    Args:
        split: of a folder of the four files of MNIST, "train" or "test".
        layout: letters of the axes; by default from their number.
    """
    if path.is_dir():
        path = _file_of(path, split)
    elif split is not None:
        raise data_error(path, "a folder for split=", "a file")
    array = idx_array(path)
    if len(array.shape) == 1 and layout is None:
        column: Column = ValueColumn(path, array, "numbers of the sample")
        return Content({"features": column}, (path,))
    order = guess_layout(path, array.shape) if layout is None else check_layout(layout)
    columns: dict[str, Column] = {"image": PixelColumn(path, array, order, "pixels")}
    labels = _labels_beside(path)
    if labels is None:
        return Content(columns, (path,))
    columns["label"] = label_column(labels, idx_array(labels), array.shape[0])
    return Content(columns, (path, labels))


def idx_array(path: Path) -> Array:
    """The array of an idx file: in memory if it is compressed, else left in the file.

    Raises:
        DataError: anything but a whole idx file.
    """
    size = file_size(path)
    if path.suffix == ".gz":
        with reading(path, "a file compressed by gzip"), gzip.open(path, "rb") as stream:
            dtype, shape, _ = _header(stream, path)
            return _rest(stream, path, dtype, shape, size)
    with reading(path, "a file that can be read"), path.open("rb") as stream:
        dtype, shape, offset = _header(stream, path)
    expected = offset + math.prod(shape) * dtype.itemsize
    if size != expected:
        raise data_error(path, f"{expected} bytes for an array {shape} of {dtype.name}", f"{size} bytes")
    return MappedArray(path, dtype, shape, offset)


def _header(stream: Stream, path: Path) -> tuple[np.dtype, tuple[int, ...], int]:
    start = read_exactly(stream, 4, path, "an idx header")
    if start[:2] != b"\0\0" or start[2] not in _DTYPES or not 1 <= start[3] <= _MOST_AXES:
        expected = f"an idx header: 0, 0, a type 8 to 14, 1 to {_MOST_AXES} axes"
        raise data_error(path, expected, " ".join(map(str, start)))
    sizes = np.frombuffer(read_exactly(stream, 4 * start[3], path, "an idx header"), ">u4")
    shape = tuple(int(extent) for extent in sizes)
    if min(shape) < 1:
        raise data_error(path, "at least one value", f"an array {shape}")
    return np.dtype(_DTYPES[start[2]]), shape, 4 + 4 * start[3]


def _rest(stream: Stream, path: Path, dtype: np.dtype, shape: tuple[int, ...], stored: int) -> NDArray:
    size = plausible_size(shape, dtype.itemsize, stored)
    if size is None:
        raise data_error(path, f"data for an array {shape} of {dtype.name}", f"{stored} compressed bytes")
    data = read_exactly(stream, size, path, f"an array {shape} of {dtype.name}")
    # Reading on to the end also checks the sum of the bytes.
    if stream.read(1):
        raise data_error(path, f"{size} bytes for an array {shape} of {dtype.name}", "more")
    return np.frombuffer(data, dtype).reshape(shape)


def _file_of(folder: Path, split: str | None) -> Path:
    if split not in _PREFIXES:
        raise data_error(folder, "the option split=, 'train' or 'test'", repr(split))
    found = sorted(folder.glob(f"{_PREFIXES[split]}-images*idx3-ubyte*"))
    if not found:
        raise data_error(folder, f"a file {_PREFIXES[split]}-images-idx3-ubyte, or with .gz", "none")
    return found[0]


def _labels_beside(path: Path) -> Path | None:
    name = path.name.replace("images", "labels").replace("idx3", "idx1").replace("idx4", "idx1")
    beside = path.with_name(name)
    return beside if name != path.name and beside.is_file() else None
