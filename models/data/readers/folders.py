"""Files of a folder, either flat or in one sub-folder for every class."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import numpy as np

from equikernels.models.data.columns import Column, ValueColumn
from equikernels.models.data.errors import data_error, reading

__all__ = ["Listing", "list_files"]


@dataclass(frozen=True)
class Listing:
    """Files in the order of their names, class after class; `labels` are empty where there are no classes."""

    folder: Path
    files: tuple[Path, ...]
    labels: tuple[int, ...] = ()
    classes: tuple[str, ...] = ()

    @property
    def evidence(self) -> bytes:
        """Which file has which label, for the fingerprint."""
        return np.array(self.labels, dtype=np.int64).tobytes()

    def label_columns(self) -> dict[str, Column]:
        """The field "label", if the files lie in folders of classes."""
        if not self.classes:
            return {}
        numbers = np.array(self.labels, dtype=np.int64)
        return {"label": ValueColumn(self.folder, numbers, "class of the sample", self.classes)}


def list_files(path: Path, patterns: tuple[str, ...], what: str) -> Listing:
    """The files of these patterns in a folder or in its sub-folders, or the one file that `path` is.

    Names that begin with a dot are left out, and so are files of other patterns.

    Raises:
        DataError: no such files, some in the folder and some in sub-folders, or a sub-folder without any.
    """
    if not path.is_dir():
        return Listing(path.parent, (path,))
    with reading(path, f"a folder of {what}"):
        inside = _matching(path, patterns)
        folders = sorted(entry for entry in path.iterdir() if entry.is_dir() and entry.name[0] != ".")
        classes = {folder: _matching(folder, patterns) for folder in folders}
    filled = [folder for folder, files in classes.items() if files]
    if inside and filled:
        got = f"{inside[0].name} beside the folder {filled[0].name}"
        raise data_error(path, f"{what} either here or in one folder for every class", got)
    if inside:
        return Listing(path, tuple(inside))
    if not filled:
        raise data_error(path, f"{what} ({', '.join(patterns)})", "none")
    for folder, files in classes.items():
        if not files:
            raise data_error(folder, f"{what} of a class ({', '.join(patterns)})", "none")
    return Listing(
        path,
        tuple(file for files in classes.values() for file in files),
        tuple(number for number, files in enumerate(classes.values()) for _ in files),
        tuple(folder.name for folder in folders),
    )


def _matching(folder: Path, patterns: tuple[str, ...]) -> list[Path]:
    return sorted(
        entry
        for entry in folder.iterdir()
        if entry.name[0] != "." and any(fnmatch(entry.name.lower(), pattern) for pattern in patterns)
    )
