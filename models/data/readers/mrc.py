"""MRC files of electron microscopy, through mrcfile: stacks of images and volumes, mapped into memory."""

from __future__ import annotations

import io
import math
import warnings
from pathlib import Path

import numpy as np

from equikernels.models.data.columns import Content, MappedArray
from equikernels.models.data.errors import data_error, file_size, library, read_exactly, reading
from equikernels.models.data.pixels import PixelColumn

__all__ = ["image_stack", "read"]

_HEADER = 1024
# Where the length of the extended header is: mrcfile would allocate what it says.
_EXTENDED = slice(92, 96)
_VOLUME_STACKS = range(401, 631)


def read(path: Path, *, stack: bool | None = None) -> Content:
    """Images, or volumes (1, D, H, W) with sections along D. Values are kept, in float32.

    Args:
        stack: whether sections are images; by default so in .mrcs files and where the header's space group
            is 0. Space groups 401 to 630 are stacks of volumes, others one volume.
    """
    array, space_group, sections = _mapped(path)
    if stack is None:
        stack = path.suffix.lower() == ".mrcs" or space_group == 0
    if stack:
        return Content({"image": PixelColumn(path, array, "NHW", "densities of the particle image")}, (path,))
    depth = sections if space_group in _VOLUME_STACKS else array.shape[0]
    if depth < 1 or array.shape[0] % depth:
        raise data_error(path, "sections in volumes of equal depth", f"{array.shape[0]} by {depth}")
    shape = (array.shape[0] // depth, depth, *array.shape[1:])
    volumes = MappedArray(path, array.dtype, shape, array.offset)
    return Content({"image": PixelColumn(path, volumes, "NDHW", "densities of the volume")}, (path,))


def image_stack(path: Path) -> MappedArray:
    """All sections of a file, (N, H, W), left in the file.

    Raises:
        DataError: anything but a whole MRC file of real numbers.
    """
    return _mapped(path)[0]


def _mapped(path: Path) -> tuple[MappedArray, int, int]:
    """Sections, space group, sections a volume."""
    size = file_size(path)
    interpreter = library("mrcfile.mrcinterpreter", path)
    utils = library("mrcfile.utils", path)
    with reading(path, "a file that can be read"), path.open("rb") as stream:
        raw = bytearray(read_exactly(stream, _HEADER, path, "an MRC header"))
    extended, raw[_EXTENDED] = bytes(raw[_EXTENDED]), bytes(4)
    with reading(path, "an MRC header"), warnings.catch_warnings():
        # Files without the map identifier and machine stamp are common; the size then has to agree.
        warnings.simplefilter("ignore", RuntimeWarning)
        plain = io.BytesIO(bytes(raw))
        header = interpreter.MrcInterpreter(plain, permissive=True, header_only=True).header
        dtype = utils.data_dtype_from_header(header)
        offset = _HEADER + int(np.frombuffer(extended, header.mode.dtype)[0])
    if dtype.kind not in "iuf":
        raise data_error(path, "real numbers, MRC modes 0, 1, 2, 6 or 12", f"mode {int(header.mode)}")
    shape = (int(header.nz), int(header.ny), int(header.nx))
    if min(shape) < 1 or offset < _HEADER:
        expected = "positive sizes and no negative extended header"
        raise data_error(path, expected, f"sizes {shape}, {offset - _HEADER} bytes")
    expected_size = offset + math.prod(shape) * dtype.itemsize
    if size != expected_size:
        sizes = " x ".join(map(str, shape))
        raise data_error(path, f"{expected_size} bytes for {sizes} values of {dtype.name}", f"{size}")
    return MappedArray(path, dtype, shape, offset), int(header.ispg), int(header.mz)
