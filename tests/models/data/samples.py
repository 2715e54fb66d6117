"""Small files of every format, written without the readers' own code."""

from __future__ import annotations

import gzip
import json
import struct
from pathlib import Path

import mrcfile
import nibabel
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from equikernels.models.data import Dataset

IDX_TYPES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}


def numbers(*shape: int, dtype: str = "u1", seed: int = 0) -> NDArray:
    """Values that differ everywhere that matters, of any dtype."""
    generator = np.random.default_rng(seed)
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return generator.normal(size=shape).astype(kind)
    low, high = max(np.iinfo(kind).min, -1000), min(np.iinfo(kind).max, 1000)
    return generator.integers(low, high, shape, endpoint=True).astype(kind)


def idx_bytes(array: NDArray) -> bytes:
    code = IDX_TYPES[array.dtype.str[1:]]
    sizes = struct.pack(f">{array.ndim}I", *array.shape)
    return bytes([0, 0, code, array.ndim]) + sizes + array.astype(array.dtype.newbyteorder(">")).tobytes()


def write_idx(folder: Path, name: str, array: NDArray) -> Path:
    path = folder / name
    data = idx_bytes(array)
    path.write_bytes(gzip.compress(data, mtime=0) if name.endswith(".gz") else data)
    return path


def write_npy(folder: Path, array: NDArray, name: str = "images.npy") -> Path:
    np.save(folder / name, array)
    return folder / name


def write_npz(folder: Path, *, compressed: bool = True, **arrays: NDArray) -> Path:
    (np.savez_compressed if compressed else np.savez)(folder / "archive.npz", **arrays)
    return folder / "archive.npz"


def write_picture(path: Path, array: NDArray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    return path


def write_mrc(folder: Path, array: NDArray, name: str = "stack.mrcs", *, volume: bool = False) -> Path:
    path = folder / name
    with mrcfile.new(path, overwrite=True) as file:
        file.set_data(array)
        if volume:
            file.set_volume()
        else:
            file.set_image_stack()
    return path


STAR = """
data_optics

loop_
_rlnOpticsGroup #1
_rlnOpticsGroupName #2
_rlnVoltage #3
1 first 300.0
2 second 200.0

data_particles

loop_
_rlnImageName #1
_rlnAnglePsi #2
_rlnOpticsGroup #3
_rlnMicrographName #4
000002@stack.mrcs  10.5 2 m1.mrc
000001@stack.mrcs -20.0 1 m1.mrc
000001@other.mrcs  30.0 1 m2.mrc
"""


def write_star(folder: Path, text: str = STAR) -> Path:
    write_mrc(folder, numbers(3, 4, 5, dtype="f4", seed=1))
    write_mrc(folder, numbers(2, 4, 5, dtype="f4", seed=2), "other.mrcs")
    path = folder / "particles.star"
    path.write_text(text)
    return path


def write_nifti(folder: Path, array: NDArray, affine: NDArray | None = None, name: str = "brain.nii") -> Path:
    nibabel.save(nibabel.Nifti1Image(array, np.eye(4) if affine is None else affine), folder / name)
    return folder / name


def track(pedestrian: int, frames: range, start: tuple[float, float] = (0.0, 0.0)) -> list[str]:
    """A pedestrian who goes (0.5, 0.25) a step."""
    return [
        f"{frame}\t{pedestrian}.0\t{start[0] + 0.5 * i}\t{start[1] + 0.25 * i}"
        for i, frame in enumerate(frames)
    ]


def write_tracks(folder: Path, lines: list[str], name: str = "scene.txt") -> Path:
    (folder / name).write_text("\n".join(lines) + "\n")
    return folder / name


def write_scenes(folder: Path) -> Path:
    write_tracks(folder, track(1, range(0, 60, 10)), "a.txt")
    write_tracks(folder, track(2, range(0, 80, 10)), "b.txt")
    splits = {"square": {"train": ["a.txt"], "test": ["b.txt"]}}
    (folder / "splits.json").write_text(json.dumps(splits))
    return folder


def everything(dataset: Dataset) -> dict[str, torch.Tensor]:
    """All samples in one batch."""
    return dataset.fetch(torch.arange(len(dataset)))
