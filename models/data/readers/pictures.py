"""Pictures that people look at, through Pillow: a file, a flat folder, or one folder for every class."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from equikernels.models.data.columns import Column, Content, Field, Rows
from equikernels.models.data.errors import data_error, file_size, library, reading
from equikernels.models.data.pixels import PixelColumn, to_pixels
from equikernels.models.data.readers.folders import list_files

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["as_size", "decode", "fit", "read"]

PATTERNS = ("*.png", "*.jpg", "*.jpeg", "*.bmp", "*.webp", "*.tif", "*.tiff", "*.pgm", "*.ppm")
# Of Pillow's formats only these: some of the others start programs.
_FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "TIFF", "PPM")
# What a file can hold at most: a picture of one colour compresses well, a lying header claims far more.
_FREE_PIXELS = 1 << 20
_PIXELS_PER_BYTE = 10_000

KEPT_BYTES = 1 << 29
"""Bytes of decoded pictures that each data set keeps in memory at most, in every process."""

_COLOURS = {1: "L", 3: "RGB", 4: "RGBA"}
_KINDS = {"1": 1, "L": 1, "RGB": 3, "CMYK": 3, "YCbCr": 3, "RGBA": 4, "LA": 4, "PA": 4}
# Modes of one channel that hold more than 8 bits, and what their values are divided by.
_DEEP = {"I;16": 65535.0, "I;16L": 65535.0, "I;16B": 65535.0, "I": 1.0, "F": 1.0}


def read(
    path: Path,
    *,
    size: int | tuple[int, int] | None = None,
    channels: int | None = None,
    sheet: tuple[int, int] | None = None,
) -> Content:
    """One sample a picture, turned as its EXIF orientation says; sub-folders are classes, in order of name.

    8 bits become [0, 1], 16 bits too; other values are kept.

    Args:
        size: (H, W) or both at once: every picture is scaled to cover it (bicubic) and cut in the middle.
            Without it all must have one size, which their headers are asked for now.
        channels: 1, 3 or 4, to convert to; by default all must have as many as the first. Alpha is dropped.
        sheet: (H, W) where every row of pixels of a picture is an image of its own, H W pixels wide.
    """
    if channels is not None and channels not in _COLOURS:
        raise ValueError(f"channels: expected 1, 3 or 4, got {channels!r}")
    if size is not None and sheet is not None:
        raise ValueError("size, sheet: expected at most one of them, got both")
    target = None if size is None else as_size("size", size)
    listing = list_files(path, PATTERNS, "pictures")
    first = listing.files[0]
    with opened(first) as image:
        found = _kind(image, first)
        shape = _turned_size(image) if target is None else target
    wanted = found if channels is None else channels
    if sheet is not None:
        if listing.classes:
            raise data_error(path, "sheets in one flat folder", f"folders {', '.join(listing.classes)}")
        return _from_sheets(path, listing.files, as_size("sheet", sheet), wanted, channels is not None)
    if target is None:
        for other in listing.files[1:]:
            with opened(other) as image:
                if (got := _turned_size(image)) != shape:
                    expected = f"{shape[0]} x {shape[1]} pixels as in {first.name} (or say size=)"
                    raise data_error(other, expected, f"{got[0]} x {got[1]}")
    pictures: Column = PictureColumn(listing.files, shape, wanted, channels is not None, target is not None)
    return Content({"image": pictures, **listing.label_columns()}, listing.files, listing.evidence)


@dataclass(frozen=True)
class PictureColumn:
    """Pictures in their files, decoded when they are first fetched.

    Those of 8 bits a channel are kept then, as bytes and at the size asked for: as many of the first ones as
    `KEPT_BYTES` have room for, since every epoch asks for all of them equally often. Files that are changed
    meanwhile are not read again. Threads share what is kept; a copy for another process begins without.

    Attributes:
        size: (H, W); channels: of every picture.
        convert, resize: whether a picture that has others is changed, or an error.
    """

    files: tuple[Path, ...]
    size: tuple[int, int]
    channels: int
    convert: bool
    resize: bool
    _kept: dict[int, NDArray] = field(init=False, repr=False, compare=False, default_factory=dict)
    field: Field = field(init=False)

    def __post_init__(self) -> None:
        shape = (self.channels, *self.size)
        object.__setattr__(self, "field", Field(shape, torch.float32, "pixels, 0 to 1 from 8 or 16 bits"))

    def __len__(self) -> int:
        return len(self.files)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kept": {}}

    def read(self, rows: Rows) -> Tensor:
        batch = torch.empty(len(rows), *self.field.shape)
        for place, row in zip(batch, rows.tolist(), strict=True):
            place.copy_(to_pixels(self._values(row)).permute(2, 0, 1))
        return batch

    def _values(self, row: int) -> NDArray:
        """A picture (H, W, C). Two threads may decode the same one at once; either is kept."""
        if row in self._kept:
            return self._kept[row]
        values = decode(self.files[row], self.channels, self.convert, self.size if self.resize else None)
        if values.shape[:2] != self.size:
            expected = f"{self.size[0]} x {self.size[1]} pixels as in the other pictures (or say size=)"
            raise data_error(self.files[row], expected, f"{values.shape[0]} x {values.shape[1]}")
        if values.dtype == np.uint8 and (row + 1) * values.nbytes <= KEPT_BYTES:
            self._kept[row] = values
        return values


class _Clipped(io.BufferedReader):
    """A file that never makes room for more bytes than it has left, however many a damaged header claims."""

    def __init__(self, path: Path, size: int) -> None:
        super().__init__(io.FileIO(path))
        self._size = size

    def read(self, size: int | None = -1, /) -> bytes:
        rest = max(self._size - self.tell(), 0)
        return super().read(rest if size is None or size < 0 else min(size, rest))


@contextmanager
def opened(path: Path) -> Iterator[Image]:
    """A picture whose header has been read and is plausible; whatever fails inside is a DataError."""
    pillow = library("PIL.Image", path)
    stored = file_size(path)
    # Opened here: by its name Pillow maps some files into memory, and turned TIFF then come out scrambled.
    with (
        reading(path, "a picture"),
        _Clipped(path, stored) as stream,
        pillow.open(stream, formats=_FORMATS) as image,
    ):
        width, height = image.size
        if width * height > _FREE_PIXELS + _PIXELS_PER_BYTE * stored:
            raise data_error(path, f"data for {height} x {width} pixels", f"{stored} bytes")
        if getattr(image, "n_frames", 1) != 1:
            raise data_error(path, "one picture", f"a series of {image.n_frames}")
        yield image


def decode(path: Path, channels: int, convert: bool, size: tuple[int, int] | None) -> NDArray:
    """A picture (H, W, channels), uint8 or float32; scaled and cut to `size` (H, W) if there is one.

    Raises:
        DataError: a damaged file, or other channels without `convert`.
    """
    with opened(path) as image:
        found = _kind(image, path)
        if found != channels and not convert:
            expected = f"{channels} channels as in the first picture (or say channels=)"
            raise data_error(path, expected, f"{found} ({image.mode})")
        if image.mode not in _DEEP:
            plain = image.convert(_COLOURS[channels])
        elif channels == 1:
            divisor = 65535.0 if image.format == "PPM" else _DEEP[image.mode]
            values = np.asarray(image).astype(np.float32) / np.float32(divisor)
            plain = library("PIL.Image", path).fromarray(values)
        else:
            raise data_error(path, f"8 bits a channel, to make {channels} channels", f"mode {image.mode}")
        upright = _upright(plain, _orientation(image))
        values = np.asarray(upright if size is None else fit(upright, size))
    return values.reshape(*values.shape[:2], channels)


def fit(image: Image, size: tuple[int, int]) -> Image:
    """The largest part around the middle with the proportions of `size` (H, W), scaled to it, bicubic."""
    height, width = size
    scale = min(image.width / width, image.height / height)
    left, top = (image.width - scale * width) / 2, (image.height - scale * height) / 2
    box = (left, top, min(left + scale * width, image.width), min(top + scale * height, image.height))
    return image.resize((width, height), library("PIL.Image", "pictures").Resampling.BICUBIC, box)


def as_size(name: str, size: Any) -> tuple[int, int]:
    """One number for both, or (H, W).

    Raises:
        ValueError: anything else.
    """
    pair = (size, size) if isinstance(size, int) else size
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        raise ValueError(f"{name}: expected a number of pixels or (height, width), got {size!r}")
    height, width = pair
    for extent in pair:
        if isinstance(extent, bool) or not isinstance(extent, int) or not 1 <= extent <= 1 << 16:
            raise ValueError(f"{name}: expected 1 to 65536 pixels, got {size!r}")
    return height, width


def _kind(image: Image, path: Path) -> int:
    """The number of channels."""
    if image.mode in _DEEP:
        return 1
    if image.mode == "P":
        return 4 if "transparency" in image.info else 3
    if image.mode not in _KINDS:
        raise data_error(path, f"pixels of mode {', '.join((*_KINDS, 'P', *_DEEP))}", image.mode)
    return _KINDS[image.mode]


def _orientation(image: Image) -> int:
    """The EXIF orientation, 1 to 8. Pillow turns TIFF by itself; asking a PNG without one would decode it."""
    if image.format == "TIFF" or (image.format == "PNG" and "exif" not in image.info):
        return 1
    found = image.getexif().get(0x0112, 1)
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


def _turned_size(image: Image) -> tuple[int, int]:
    """(H, W) after the turn."""
    return image.size if _orientation(image) >= 5 else (image.height, image.width)


def _upright(image: Image, orientation: int) -> Image:
    turn = library("PIL.Image", "pictures").Transpose
    moves = {
        2: turn.FLIP_LEFT_RIGHT, 3: turn.ROTATE_180, 4: turn.FLIP_TOP_BOTTOM, 5: turn.TRANSPOSE,
        6: turn.ROTATE_270, 7: turn.TRANSVERSE, 8: turn.ROTATE_90,
    }  # fmt: skip
    return image.transpose(moves[orientation]) if orientation in moves else image


def _from_sheets(
    path: Path, files: tuple[Path, ...], size: tuple[int, int], channels: int, convert: bool
) -> Content:
    """All rows of all sheets, in memory: a row cannot be decoded alone."""
    height, width = size
    sheets = []
    for file in files:
        values = decode(file, channels, convert, None)
        if values.dtype != np.uint8:
            raise data_error(file, "8 bits a channel in a sheet", "more")
        if values.shape[1] != height * width:
            raise data_error(file, f"{height * width} pixels in a row for sheet={size}", f"{values.shape[1]}")
        sheets.append(values.reshape(-1, height, width, channels))
    return Content({"image": PixelColumn(path, np.concatenate(sheets), "NHWC", "rows of the sheets")}, files)
