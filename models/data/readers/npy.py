"""Arrays of NumPy: .npy files, mapped into memory."""

from __future__ import annotations

import io
import math
import warnings
from pathlib import Path

import numpy as np

from equikernels.models.data.columns import Content, MappedArray, Order, ValueColumn
from equikernels.models.data.errors import Stream, data_error, file_size, read_exactly, reading
from equikernels.models.data.pixels import PixelColumn, check_layout, guess_layout

__all__ = ["array_header", "mapped_array", "read"]

_MAGIC = b"\x93NUMPY"
_READERS = {
    1: (2, np.lib.format.read_array_header_1_0),
    2: (4, np.lib.format.read_array_header_2_0),
}
# Of plain arrays; only records with many fields have longer ones.
_LONGEST_HEADER = 4096


def read(path: Path, *, layout: str | None = None) -> Content:
    """Images or volumes, by `layout` or by their number of axes; arrays of one or two axes become "features".

    Args:
        layout: letters of the axes, for example "NHW", "NHWC", "NCDHW".
    """
    array = mapped_array(path)
    if layout is None and len(array.shape) <= 2:
        if not array.shape or not array.shape[0]:
            raise data_error(path, "an array with at least one sample", f"one of shape {array.shape}")
        return Content({"features": ValueColumn(path, array, "numbers of the sample")}, (path,))
    order = guess_layout(path, array.shape) if layout is None else check_layout(layout)
    return Content({"image": PixelColumn(path, array, order, "pixels")}, (path,))


def mapped_array(path: Path) -> MappedArray:
    """The array of a .npy file, left in the file.

    Raises:
        DataError: no such file, or one whose size is not what its header says.
    """
    size = file_size(path)
    with reading(path, "a file that can be read"), path.open("rb") as stream:
        dtype, shape, order = array_header(stream, path)
        offset = stream.tell()
    expected = offset + math.prod(shape) * dtype.itemsize
    if size != expected:
        raise data_error(path, f"{expected} bytes for an array {shape} of {dtype}", f"{size} bytes")
    return MappedArray(path, dtype, shape, offset, order)


def array_header(stream: Stream, source: Path | str) -> tuple[np.dtype, tuple[int, ...], Order]:
    """The dtype, shape and order ("C" or "F") of the array that starts here; the stream is left at its data.

    Raises:
        DataError: no header of version 1 or 2, or one of what is no array of plain numbers.
    """
    start = read_exactly(stream, 8, source, "a .npy header")
    if start[:6] != _MAGIC:
        raise data_error(source, "an array of NumPy, which begins with \\x93NUMPY", repr(start[:6]))
    if start[6] not in _READERS:
        raise data_error(source, "a .npy header of version 1 or 2", f"version {start[6]}.{start[7]}")
    width, parse = _READERS[start[6]]
    length = read_exactly(stream, width, source, "a .npy header")
    size = int.from_bytes(length, "little")
    if size > _LONGEST_HEADER:
        raise data_error(source, f"a .npy header of at most {_LONGEST_HEADER} bytes", f"{size} bytes")
    header = io.BytesIO(length + read_exactly(stream, size, source, "a .npy header"))
    with reading(source, "a .npy header"), warnings.catch_warnings():
        # Of Python's parser, about headers that are wrong.
        warnings.simplefilter("ignore")
        shape, fortran, dtype = parse(header)
        if dtype.kind not in "biuf" or dtype.itemsize > 8:
            raise data_error(source, "an array of real numbers", f"dtype {dtype}")
        if any(isinstance(extent, bool) or extent < 0 for extent in shape):
            raise data_error(source, "a shape without negative sizes", shape)
    return dtype, shape, "F" if fortran else "C"
