"""Tracks of pedestrians as in the ETH and UCY data: texts of frame, pedestrian, x and y."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from equikernels.models.data.columns import Content, ValueColumn
from equikernels.models.data.errors import data_error, file_size, reading
from equikernels.models.data.readers.folders import list_files

__all__ = ["read"]

_SPLITS = "splits.json"
# Whole numbers up to here are exact as floating ones, which is how some files write them.
_LARGEST = 2**53


def read(
    path: Path,
    *,
    scene: str | None = None,
    split: str | None = None,
    observe: int = 10,
    predict: int = 10,
    stride: int = 1,
) -> Content:
    """Windows of `observe` + `predict` successive steps of one pedestrian, in the units of the file.

    "observed" is float32 (observe, 2), "future" float32 (predict, 2), each step (x, y); "frame", "pedestrian"
    and "file" tell where a window begins. A step is the most frequent distance of a pedestrian's successive
    frames in a file; where one is missing, no window crosses the gap.

    Args:
        path: a file, a folder of .txt files, or a folder with splits.json, {scene: {split: [file, ...]}}.
        scene, split: of splits.json.
        stride: steps between the beginnings of a pedestrian's windows.
    """
    for name, value in (("observe", observe), ("predict", predict), ("stride", stride)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{name}: expected a positive integer, got {value!r}")
    files = _files(path, scene, split)
    parts = [_windows(_read_tracks(file), observe + predict, stride) for file in files]
    steps = np.concatenate([part.positions for part in parts])
    if not len(steps):
        listed = f"{files[0]}" if len(files) == 1 else f"{path}"
        raise data_error(listed, f"a pedestrian seen in {observe + predict} successive steps", "none")
    owners = np.repeat(np.arange(len(files)), [len(part.frames) for part in parts])
    frames = np.concatenate([part.frames for part in parts])
    pedestrians = np.concatenate([part.pedestrians for part in parts])
    names = tuple(file.name for file in files)
    columns = {
        "observed": ValueColumn(path, steps[:, :observe], "positions (x, y) of the observed steps"),
        "future": ValueColumn(path, steps[:, observe:], "positions (x, y) of the steps to predict"),
        "frame": ValueColumn(path, frames, "frame of the first step"),
        "pedestrian": ValueColumn(path, pedestrians, "number of the pedestrian in the file"),
        "file": ValueColumn(path, owners, "file of the track", names),
    }
    return Content(dict(columns), (*files, *([path / _SPLITS] if scene is not None else [])))


@dataclass(frozen=True)
class Tracks:
    """Positions, sorted by pedestrian and frame."""

    frames: NDArray[np.int64]
    pedestrians: NDArray[np.int64]
    positions: NDArray[np.float32]


def _files(path: Path, scene: str | None, split: str | None) -> tuple[Path, ...]:
    splits = path / _SPLITS
    if not path.is_dir() or not splits.is_file():
        if scene is not None or split is not None:
            raise data_error(path, f"a folder with {_SPLITS} for scene= and split=", "none")
        return list_files(path, ("*.txt",), "texts of tracks").files
    with reading(splits, "{scene: {split: [file, ...]}} as JSON"):
        scenes = json.loads(splits.read_text(encoding="utf-8"))
        if not isinstance(scenes, dict) or not all(isinstance(parts, dict) for parts in scenes.values()):
            raise data_error(splits, "{scene: {split: [file, ...]}}", "something else")
    if scene not in scenes:
        raise data_error(splits, f"the option scene=, one of {', '.join(scenes)}", repr(scene))
    if split not in scenes[scene]:
        raise data_error(splits, f"the option split=, one of {', '.join(scenes[scene])}", repr(split))
    names = scenes[scene][split]
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise data_error(splits, f"a list of files for {scene}, {split}", names)
    for name in names:
        if not (path / name).is_file():
            raise data_error(splits, f"files of {path} for {scene}, {split}", f"{name!r}, which is none")
    return tuple(path / name for name in names)


def _read_tracks(path: Path) -> Tracks:
    file_size(path)
    with reading(path, "a text in UTF-8"):
        lines = path.read_text(encoding="utf-8").splitlines()
    rows = [_row(path, number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if not rows:
        raise data_error(path, "lines of frame, pedestrian, x, y", "none")
    frames, pedestrians, x, y, places = zip(*rows, strict=True)
    order = np.lexsort((frames, pedestrians))
    tracks = Tracks(
        np.array(frames, np.int64)[order],
        np.array(pedestrians, np.int64)[order],
        np.stack((x, y), axis=1).astype(np.float32)[order],
    )
    same = (np.diff(tracks.frames) == 0) & (np.diff(tracks.pedestrians) == 0)
    if same.any():
        line = places[order[int(np.flatnonzero(same)[0]) + 1]]
        raise data_error(path, "a pedestrian once in a frame", f"one twice, the second time in line {line}")
    return tracks


def _row(path: Path, number: int, line: str) -> tuple[int, int, float, float, int]:
    words = line.split()
    if len(words) != 4:
        raise data_error(path, f"frame, pedestrian, x, y in line {number}", f"{len(words)} columns")
    try:
        frame, pedestrian, x, y = map(float, words)
    except ValueError:
        raise data_error(path, f"four numbers in line {number}", repr(line.strip())) from None
    largest = float(np.finfo(np.float32).max)
    if not all(math.isfinite(value) for value in (frame, pedestrian)) or not max(abs(x), abs(y)) <= largest:
        raise data_error(path, f"finite numbers in line {number}", repr(line.strip()))
    if frame != int(frame) or pedestrian != int(pedestrian) or max(abs(frame), abs(pedestrian)) > _LARGEST:
        raise data_error(path, f"a whole frame and pedestrian in line {number}", repr(line.strip()))
    return int(frame), int(pedestrian), x, y, number


def _windows(tracks: Tracks, length: int, stride: int) -> Tracks:
    """All windows: positions (windows, length, 2), with the frame of their first step and the pedestrian."""
    gaps, same = np.diff(tracks.frames), np.diff(tracks.pedestrians) == 0
    if not same.any():
        step = 1
    else:
        values, counts = np.unique(gaps[same], return_counts=True)
        step = int(values[counts.argmax()])
    # Rows of one run follow each other by one step: its number grows where they do not.
    run = np.concatenate(([0], np.cumsum(~(same & (gaps == step)))))
    begins = np.flatnonzero(np.concatenate(([True], np.diff(run) > 0)))
    within = np.arange(len(run)) - begins[run]
    last = np.arange(len(run)) + length - 1
    whole = last < len(run)
    whole[whole] = run[last[whole]] == run[whole]
    starts = np.flatnonzero(whole & (within % stride == 0))
    places = starts[:, None] + np.arange(length)
    return Tracks(tracks.frames[starts], tracks.pedestrians[starts], tracks.positions[places])
