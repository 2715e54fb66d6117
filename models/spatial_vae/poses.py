"""Poses of particle images as RELION writes them, and the command that puts them into a STAR file.

    python -m equikernels.models.spatial_vae.poses ANSWERS OUT.star --particles particles.star

ANSWERS is the folder that ``equikernels infer`` wrote.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from equikernels.models.data.errors import DataError, data_error, library, reading
from equikernels.models.data.readers import mrc
from equikernels.models.data.readers.star import image_table
from equikernels.models.spatial_vae.ctf import ANGSTROM_PER_MICROMETRE, DETECTOR, MAGNIFICATION, PIXEL_SIZE

__all__ = ["main", "relion_pose", "write_poses"]

Array = NDArray[np.float64]

POSE = ("rlnAnglePsi", "rlnOriginXAngst", "rlnOriginYAngst")
# Origins in pixels, as versions before 3.1 write them: they would contradict those in Angstrom.
OLD_ORIGINS = ("rlnOriginX", "rlnOriginY")


def relion_pose(
    theta: NDArray[np.floating], shift: NDArray[np.floating], size: tuple[int, int]
) -> tuple[Array, Array, Array]:
    """The pose of RELION that says the same as an angle and a shift of a spatial-VAE.

    RELION moves an image by its origin, to the right and down with row 0 on top, and then finds at x, from
    pixel (H // 2, W // 2), what the reference has at A(psi)^T x, where A(psi) = [[cos, sin], [-sin, cos]]: a
    positive psi turns content counter-clockwise as displayed. The decoder turns clockwise, about the middle
    of the image, which is half a pixel before that pixel where a side is even. So with d = `shift`

        psi = -theta
        x = (W // 2 - (W - 1) / 2) + d_x cos(theta) + d_y sin(theta)
        y = (H // 2 - (H - 1) / 2) + d_x sin(theta) - d_y cos(theta)

    for the reference that has the origin of the decoder's coordinates in pixel (H // 2, W // 2).

    Args:
        theta: radians, (N,), as the model says.
        shift: pixels, (N, 2), as the model says: of the coordinates.
        size: (H, W).

    Returns:
        psi in degrees in [-180, 180), origin x and origin y in pixels, each (N,).

    Raises:
        ValueError: other shapes.

    >>> psi, x, y = relion_pose(np.array([np.pi / 2]), np.array([[0.0, 2.0]]), (33, 33))
    >>> float(psi[0]), round(float(x[0]), 6), round(abs(float(y[0])), 6)
    (-90.0, 2.0, 0.0)
    """
    theta, shift = np.asarray(theta, np.float64), np.asarray(shift, np.float64)
    if theta.ndim != 1 or shift.shape != (len(theta), 2):
        raise ValueError(
            f"theta, shift: expected shapes (N,) and (N, 2), got {theta.shape} and {shift.shape}"
        )
    cos, sin = np.cos(theta), np.sin(theta)
    right, up = shift[:, 0], shift[:, 1]
    height, width = size
    x = width // 2 - (width - 1) / 2 + right * cos + up * sin
    y = height // 2 - (height - 1) / 2 + right * sin - up * cos
    psi = (-np.degrees(theta) + 180) % 360 - 180
    return psi, x, y


def write_poses(
    answers: Path,
    out: Path,
    particles: Path,
    *,
    pixel_size: float | None = None,
    images: str = "rlnImageName",
) -> None:
    """Write a STAR file of particle images with the poses that a model gave them.

    Args:
        answers: a folder with theta.npy and shift.npy, as ``equikernels infer`` writes; without shift.npy
            the model has no shift.
        out: the file to write; one that is there is replaced.
        particles: the images, in the order of the answers: a STAR file, all of whose tables and other
            columns are kept, or an MRC stack.
        pixel_size: in Angstrom; by default that of the STAR file, see
            `equikernels.models.spatial_vae.ctf.ContrastTransfer.from_star`, or of the header of the stack.
        images: the column of a STAR file that names the images.

    Raises:
        DataError: a file that cannot be read or written, no pixel size, or numbers that do not fit.
    """
    if particles.suffix.lower() == ".star":
        tables, name, size = image_table(particles, images)
        if pixel_size is None:
            pixel_size = _star_pixel_size(particles, tables, name)
    else:
        stack = mrc.image_stack(particles)
        name, size = "particles", (stack.shape[1], stack.shape[2])
        # RELION looks for stacks from where it is started; beside the table is where our reader looks.
        references = [f"{number:06d}@{particles.name}" for number in range(1, stack.shape[0] + 1)]
        tables = {name: library("pandas", particles).DataFrame({images: references})}
        if pixel_size is None:
            pixel_size = _stack_pixel_size(particles)
    theta, shift = _answers(answers, len(tables[name]), particles)
    psi, x, y = relion_pose(theta, shift, size)
    table = tables[name].drop(columns=list(OLD_ORIGINS), errors="ignore").copy()
    for column, values in zip(POSE, (psi, x * pixel_size, y * pixel_size), strict=True):
        table[column] = values
    starfile = library("starfile", out)
    with reading(out, "a file that can be written"):
        starfile.write({**tables, name: table}, out, float_format="%.12g")


def _answers(folder: Path, count: int, particles: Path) -> tuple[NDArray, NDArray]:
    arrays: dict[str, NDArray] = {}
    for name, shape in (("theta", (count,)), ("shift", (count, 2))):
        path = folder / f"{name}.npy"
        if name == "shift" and not path.exists():
            arrays[name] = np.zeros(shape)
            continue
        with reading(path, "an array of a model with rotation"):
            arrays[name] = np.load(path, allow_pickle=False)
        if arrays[name].shape != shape:
            raise data_error(path, f"shape {shape} for the images of {particles}", arrays[name].shape)
    return arrays["theta"], arrays["shift"]


def _star_pixel_size(path: Path, tables: dict[str, Any], name: str) -> float:
    """The one pixel size of all images."""
    for table in (tables[table] for table in ("optics", name) if table in tables):
        columns = getattr(table, "columns", ())
        sizes = None
        if PIXEL_SIZE in columns:
            sizes = table[PIXEL_SIZE]
        elif DETECTOR in columns and MAGNIFICATION in columns:
            sizes = table[DETECTOR] * ANGSTROM_PER_MICROMETRE / table[MAGNIFICATION]
        if sizes is not None:
            if sizes.nunique() != 1:
                raise data_error(path, "one pixel size for all images", sorted(set(sizes)))
            return float(sizes.iloc[0])
    expected = f"a column {PIXEL_SIZE}, or {DETECTOR} and {MAGNIFICATION} (or say --pixel-size)"
    raise data_error(path, expected, "none")


def _stack_pixel_size(path: Path) -> float:
    mrcfile = library("mrcfile", path)
    with reading(path, "an MRC header"), mrcfile.open(path, permissive=True, header_only=True) as file:
        x, y = float(file.voxel_size.x), float(file.voxel_size.y)
    if not (x > 0 and np.isclose(x, y)):
        raise data_error(path, "a pixel size in the header (or say --pixel-size)", f"{x:g} x {y:g}")
    return x


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns 0, or 2 after one line about a mistake."""
    command = "python -m equikernels.models.spatial_vae.poses"
    parser = argparse.ArgumentParser(prog=command, description="Write a STAR file with a model's poses.")
    parser.add_argument("answers", type=Path, help="the folder that equikernels infer wrote")
    parser.add_argument("out", type=Path, help="the STAR file to write")
    parser.add_argument("--particles", type=Path, required=True, help="the images: a STAR file or MRC stack")
    parser.add_argument("--pixel-size", type=float, help="in Angstrom; by default that of the images")
    parser.add_argument("--images", default="rlnImageName", help="the column that names them")
    asked = parser.parse_args(arguments)
    if asked.pixel_size is not None and not asked.pixel_size > 0:
        print(f"{command}: --pixel-size: expected a number > 0, got {asked.pixel_size}", file=sys.stderr)
        return 2
    try:
        write_poses(
            asked.answers, asked.out, asked.particles, pixel_size=asked.pixel_size, images=asked.images
        )
    except DataError as error:
        print(f"{command}: {error}", file=sys.stderr)
        return 2
    print(f"saved: {asked.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
