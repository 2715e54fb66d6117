"""Volumes of medical imaging in NIfTI files, through nibabel: a file, a folder, or folders of classes."""

from __future__ import annotations

import gzip
import io
import logging
import math
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from equikernels.models.data.columns import Column, Content, Field, Rows, ValueColumn
from equikernels.models.data.errors import (
    Stream,
    data_error,
    file_size,
    library,
    plausible_size,
    read_exactly,
    reading,
)
from equikernels.models.data.readers.folders import list_files

__all__ = ["read"]

PATTERNS = ("*.nii", "*.nii.gz")
_HEADERS = {348: ("Nifti1Header", "nibabel.nifti1"), 540: ("Nifti2Header", "nibabel.nifti2")}


# The axis of (C, D, H, W) that slices are taken along.
_SLICES = {"axial": 1, "coronal": 2, "sagittal": 3}


def read(path: Path, *, slices: str | None = None) -> Content:
    """One sample a file, float32 (C, D, H, W), scaled as the header says; or one a slice, (C, H, W).

    Whatever the order of the axes in a file, columns run from left to right, rows from front (on top) to back
    and depth from feet to head, to the nearest axis: x, y and z of the library point to the right, to the
    front and up. A fourth axis of the file becomes the channels. All files must have one shape.

    Args:
        slices: "axial", "coronal" or "sagittal" for images instead of volumes, with the front, or the head,
            on top and the right of space, or the back, to the right. "volume" is the number of the file, by
            which to split.
    """
    if slices is not None and slices not in _SLICES:
        raise ValueError(f"slices: expected one of {', '.join(_SLICES)}, got {slices!r}")
    listing = list_files(path, PATTERNS, "NIfTI files")
    volumes = tuple(_volume(file) for file in listing.files)
    for volume in volumes:
        if volume.shape != volumes[0].shape:
            expected = f"{volumes[0].shape} voxels as in {volumes[0].path.name}"
            raise data_error(volume.path, expected, volume.shape)
    if slices is None:
        columns: dict[str, Column] = {"image": VolumeColumn(volumes), **listing.label_columns()}
        return Content(columns, listing.files, listing.evidence)
    images = SliceColumn(volumes, _SLICES[slices])
    owners = np.arange(len(images)) // images.count
    names = tuple(file.name for file in listing.files)
    columns = {"image": images, "volume": ValueColumn(path, owners, "file of the slice", names)}
    if listing.classes:
        labels = np.array(listing.labels, dtype=np.int64)[owners]
        columns["label"] = ValueColumn(path, labels, "class of the sample", listing.classes)
    return Content(columns, listing.files, listing.evidence)


@dataclass(frozen=True)
class Volume:
    """Where the voxels of a file are and how they are to be turned; `shape` is (C, D, H, W)."""

    path: Path
    dtype: np.dtype
    file_shape: tuple[int, ...]
    offset: int
    slope: float
    intercept: float
    orientation: NDArray
    shape: tuple[int, ...]

    def voxels(self) -> NDArray[np.float32]:
        """The values, turned and scaled.

        Raises:
            DataError: a file that ends early or is damaged.
        """
        size = math.prod(self.file_shape) * self.dtype.itemsize
        what = f"{' x '.join(map(str, self.file_shape))} voxels of {self.dtype.name}"
        with reading(self.path, what), _opened(self.path) as stream:
            read_exactly(stream, self.offset, self.path, "a NIfTI header and its extensions")
            data = read_exactly(stream, size, self.path, what)
            # Reading on to the end also checks the sum of compressed bytes.
            if stream.read(1):
                raise data_error(self.path, what, "more")
        values = np.frombuffer(data, self.dtype).reshape(self.file_shape, order="F")
        turned = library("nibabel.orientations", self.path).apply_orientation(values, self.orientation)
        channels = turned.reshape(*turned.shape[:3], -1)
        # (x, y, z, C) with y to the front becomes (C, z, rows from the front, x).
        volume = channels.transpose(3, 2, 1, 0)[:, :, ::-1]
        with reading(self.path, "values that float32 can hold"), np.errstate(over="raise"):
            if (self.slope, self.intercept) != (1.0, 0.0):
                volume = volume.astype(np.float64) * self.slope + self.intercept
            return volume.astype(np.float32)


@dataclass(frozen=True)
class VolumeColumn:
    """Volumes in their files, read when they are fetched."""

    volumes: tuple[Volume, ...]
    field: Field = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "field", Field(self.volumes[0].shape, torch.float32, "voxels, scaled"))

    def __len__(self) -> int:
        return len(self.volumes)

    def read(self, rows: Rows) -> Tensor:
        batch = torch.empty(len(rows), *self.field.shape)
        for place, row in zip(batch, rows.tolist(), strict=True):
            place.copy_(torch.from_numpy(self.volumes[row].voxels()))
        return batch


@dataclass(frozen=True)
class SliceColumn:
    """Slices of volumes along an axis; a volume is read once for all of its slices in a batch."""

    volumes: tuple[Volume, ...]
    axis: int
    field: Field = field(init=False)

    def __post_init__(self) -> None:
        whole = self.volumes[0].shape
        shape = whole[: self.axis] + whole[self.axis + 1 :]
        object.__setattr__(self, "field", Field(shape, torch.float32, "voxels of the slice, scaled"))

    @property
    def count(self) -> int:
        """Slices of a volume."""
        return self.volumes[0].shape[self.axis]

    def __len__(self) -> int:
        return len(self.volumes) * self.count

    def read(self, rows: Rows) -> Tensor:
        batch = torch.empty(len(rows), *self.field.shape)
        owners = rows // self.count
        for number in np.unique(owners).tolist():
            here = np.flatnonzero(owners == number)
            voxels = self.volumes[number].voxels()
            # The head on top: depth, which becomes the rows, counts from the feet.
            upright = voxels if self.axis == 1 else voxels[:, ::-1]
            chosen = upright.take(rows[here] % self.count, axis=self.axis)
            batch[torch.from_numpy(here)] = torch.from_numpy(np.moveaxis(chosen, self.axis, 0).copy())
        return batch


def _opened(path: Path) -> AbstractContextManager[Stream]:
    return gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")


def _volume(path: Path) -> Volume:
    stored = file_size(path)
    with reading(path, "a NIfTI file"), _opened(path) as stream:
        start = read_exactly(stream, 4, path, "a NIfTI header")
        size = next((n for n in _HEADERS if start in (n.to_bytes(4, "little"), n.to_bytes(4, "big"))), None)
        if size is None:
            raise data_error(path, "a NIfTI header of 348 or 540 bytes", f"the length {start.hex()}")
        raw = start + read_exactly(stream, size - 4, path, "a NIfTI header")
        volume = _described(path, raw)
    needed = math.prod(volume.file_shape) * volume.dtype.itemsize + volume.offset
    compressed = path.suffix == ".gz"
    fits = plausible_size((needed,), 1, stored) is not None if compressed else stored == needed
    if not fits:
        sizes = " x ".join(map(str, volume.file_shape))
        got = f"{stored}{' compressed' if compressed else ''} bytes"
        raise data_error(path, f"{needed} bytes for {sizes} voxels of {volume.dtype.name}", got)
    return volume


def _described(path: Path, raw: bytes) -> Volume:
    """What a header says, without its extensions, which nothing here needs."""
    name, module = _HEADERS[len(raw)]
    library("nibabel", path)
    quiet = logging.Logger("nibabel header")
    with reading(path, "a NIfTI header"):
        header = getattr(library(module, path), name).from_fileobj(io.BytesIO(raw), check=False)
        if header.is_single is False or header["magic"].item()[:2] != b"n+":
            raise data_error(path, "a NIfTI file with its voxels inside", repr(header["magic"].item()))
        header.check_fix(logger=quiet, error_level=30)
        shape = tuple(int(extent) for extent in header.get_data_shape())
        dtype = header.get_data_dtype()
        offset = int(header.get_data_offset())
        slope, intercept = header.get_slope_inter()
        while len(shape) > 4 and shape[-1] == 1:
            shape = shape[:-1]
        if not 3 <= len(shape) <= 4 or min(shape) < 1:
            raise data_error(path, "3 or 4 axes, none empty", f"shape {shape}")
        if dtype.kind not in "iuf" or dtype.itemsize > 8:
            raise data_error(path, "voxels of real numbers", dtype)
        if offset < len(raw):
            raise data_error(path, f"voxels from byte {len(raw)} on", f"offset {offset}")
        orientation = library("nibabel.orientations", path).io_orientation(header.get_best_affine())
        if not np.isfinite(orientation).all():
            raise data_error(path, "an affine map to the three axes of space", "one that loses an axis")
    axes = np.empty(3, dtype=int)
    axes[orientation[:, 0].astype(int)] = shape[:3]
    turned = (shape[3] if len(shape) == 4 else 1, *axes[::-1].tolist())
    slope, intercept = (1.0 if slope is None else slope), (0.0 if intercept is None else intercept)
    return Volume(path, dtype, shape, offset, slope, intercept, orientation, turned)
