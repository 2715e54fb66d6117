"""Which reader takes which file: a new format is one module in ``readers`` and one line here."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from equikernels.models.data.columns import Content
from equikernels.models.data.errors import data_error, reading

__all__ = ["FORMATS", "Format", "find_format", "options_of"]


@dataclass(frozen=True)
class Format:
    """A format of files.

    Attributes:
        name: for the option ``format=``.
        files: patterns of the names of its files, in lower case.
        folders: patterns of names, or of names in sub-folders, that make a folder one of this format.
    """

    name: str
    files: tuple[str, ...]
    folders: tuple[str, ...] = ()

    @property
    def read(self) -> Callable[..., Content]:
        """``read(path, **options)`` of the module of the same name."""
        module = importlib.import_module(f"equikernels.models.data.readers.{self.name}")
        read: Callable[..., Content] = module.read
        return read


_PICTURES = tuple(
    f"*.{suffix}" for suffix in ("png", "jpg", "jpeg", "bmp", "webp", "tif", "tiff", "pgm", "ppm")
)

# The first that fits is taken.
FORMATS = (
    Format("nifti", ("*.nii", "*.nii.gz"), ("*.nii", "*.nii.gz", "*/*.nii", "*/*.nii.gz")),
    Format("idx", ("*idx[1-8]-*", "*.idx", "*.idx.gz"), ("*idx3-ubyte", "*idx3-ubyte.gz")),
    Format("npy", ("*.npy",)),
    Format("npz", ("*.npz",)),
    Format("mrc", ("*.mrc", "*.mrcs")),
    Format("star", ("*.star",)),
    Format("pictures", _PICTURES, (*_PICTURES, *(f"*/{pattern}" for pattern in _PICTURES))),
    Format("trajectories", ("*.txt",), ("splits.json", "*.txt")),
)


def find_format(path: Path, name: str | None) -> Format:
    """The format of this name, or the one that the name of a file, or the files of a folder, tell.

    Raises:
        ValueError: no format of this name.
        DataError: nothing there, or nothing that any format takes.
    """
    known = {entry.name: entry for entry in FORMATS}
    if name is not None and name not in known:
        raise ValueError(f"format: expected one of {', '.join(known)}, got {name!r}")
    with reading(path, "a file or folder"):
        if not path.exists():
            raise data_error(path, "a file or folder", "nothing of that name")
        if name is not None:
            return known[name]
        if path.is_dir():
            return _format_of_folder(path)
    for entry in FORMATS:
        if any(fnmatch(path.name.lower(), pattern) for pattern in entry.files):
            return entry
    patterns = ", ".join(pattern for entry in FORMATS for pattern in entry.files)
    raise data_error(path, f"a file like {patterns} (or say format=)", f"the name {path.name}")


def _format_of_folder(path: Path) -> Format:
    entries = sorted(entry for entry in path.iterdir() if not entry.name.startswith("."))
    names = [entry.name.lower() for entry in entries]
    # One look into every sub-folder, as deep as folders of classes are.
    names += [f"{d.name.lower()}/{f.name.lower()}" for d in entries if d.is_dir() for f in d.iterdir()]
    for entry in FORMATS:
        if any(
            fnmatch(name, pattern) and name.count("/") == pattern.count("/")
            for pattern in entry.folders
            for name in names
        ):
            return entry
    found = ", ".join(names[:5]) or "an empty folder"
    patterns = ", ".join(pattern for entry in FORMATS for pattern in entry.folders)
    raise data_error(path, f"a folder of files like {patterns}", found)


def options_of(read: Callable[..., Content]) -> list[str]:
    """The names of the options of a reader."""
    parameters = inspect.signature(read).parameters.values()
    return [parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]
