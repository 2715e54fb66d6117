"""STAR files of RELION, through starfile: particle images in stacks, with the columns of their table."""

from __future__ import annotations

import linecache
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from equikernels.models.data.columns import Column, Content, Field, MappedArray, Rows, ValueColumn
from equikernels.models.data.errors import data_error, file_size, library, reading
from equikernels.models.data.pixels import to_pixels
from equikernels.models.data.readers.mrc import image_stack

__all__ = ["image_table", "read"]

_GROUP = "rlnOpticsGroup"
_REFERENCE = re.compile(r"(?:(?P<section>\d{1,9})@)?(?P<stack>.+)")


def read(
    path: Path,
    *,
    columns: str | Sequence[str] | None = None,
    images: str = "rlnImageName",
    root: str | os.PathLike[str] | None = None,
) -> Content:
    """The images that a table refers to, as in "000001@stack.mrcs", and the numbers beside them.

    Args:
        columns: the field or fields to take; by default every column of numbers, those of the optics table
            too, joined by the optics group. They keep their names.
        images: the column of references.
        root: the folder that references start from; by default that of the file.
    """
    columns = (columns,) if isinstance(columns, str) else columns
    tables = _tables(path)
    name, table = _particles(path, tables, images)
    if not len(table):
        raise data_error(path, f"rows in the table {name!r}", "none")
    numbers = _numbers(path, table) | _optics(path, tables, table)
    missing = [column for column in columns or () if column not in numbers]
    if missing:
        raise data_error(path, f"a column of numbers {missing[0]!r}", ", ".join(numbers) or "none")
    found: dict[str, Column] = {}
    for key in numbers if columns is None else columns:
        values = numbers[key]
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            row = int(np.flatnonzero(~np.isfinite(values))[0])
            raise data_error(
                path, f"finite numbers in {key} (or say columns=)", f"{values[row]} in row {row + 1}"
            )
        found[key] = ValueColumn(path, values, f"column {key} of the star file")
    particles = _stacked(
        path, table[images].astype(str).tolist(), path.parent if root is None else Path(root)
    )
    return Content({"image": particles, **found}, (path, *(stack.path for stack in particles.stacks)))


def image_table(path: Path, images: str = "rlnImageName") -> tuple[dict[str, Any], str, tuple[int, int]]:
    """All tables of a file by name, as pandas has them, the name of that of the images, and (H, W).

    Args:
        images: the column of references.

    Raises:
        DataError: no such table, or images that are not there.
    """
    tables = _tables(path)
    name, table = _particles(path, tables, images)
    if not len(table):
        raise data_error(path, f"rows in the table {name!r}", "none")
    height, width = _stacked(path, table[images].astype(str).tolist(), path.parent).field.shape[1:]
    return tables, name, (height, width)


@dataclass(frozen=True)
class StackColumn:
    """Images of one size in several stacks: sample i is section ``section[i]`` of stack ``stack[i]``."""

    stacks: tuple[MappedArray, ...]
    stack: NDArray[np.int64]
    section: NDArray[np.int64]
    field: Field = field(init=False)

    def __post_init__(self) -> None:
        shape = (1, *self.stacks[0].shape[1:])
        object.__setattr__(self, "field", Field(shape, torch.float32, "densities of the particle image"))

    def __len__(self) -> int:
        return len(self.stack)

    def read(self, rows: Rows) -> Tensor:
        batch = torch.empty(len(rows), *self.field.shape)
        owners = self.stack[rows]
        for number in np.unique(owners).tolist():
            here = np.flatnonzero(owners == number)
            batch[torch.from_numpy(here), 0] = to_pixels(self.stacks[number][self.section[rows[here]]])
        return batch


def _tables(path: Path) -> dict[str, Any]:
    file_size(path)
    starfile = library("starfile", path)
    # starfile reads through a cache of lines that does not see that a file has changed.
    linecache.checkcache(str(path))
    with reading(path, "a STAR file in UTF-8"):
        path.read_text(encoding="utf-8")
        tables: dict[str, Any] = starfile.read(path, always_dict=True)
    return tables


def _particles(path: Path, tables: dict[str, Any], images: str) -> tuple[str, Any]:
    named = {name: table for name, table in tables.items() if images in getattr(table, "columns", ())}
    if len(named) != 1:
        listed = "; ".join(f"{name!r}: {', '.join(map(str, table))}" for name, table in tables.items())
        raise data_error(path, f"one table with a column {images}", listed or "no table")
    return next(iter(named.items()))


def _numbers(path: Path, table: Any) -> dict[str, NDArray]:
    """The columns of numbers."""
    with reading(path, "columns of numbers"):
        columns = {str(key): table[key].to_numpy() for key in table.columns}
    return {key: values for key, values in columns.items() if values.dtype.kind in "iuf"}


def _optics(path: Path, tables: dict[str, Any], table: Any) -> dict[str, NDArray]:
    """The columns of numbers of the optics table, one value for every row of `table`."""
    optics: Any = tables.get("optics")
    if _GROUP not in getattr(optics, "columns", ()) or _GROUP not in table.columns:
        return {}
    groups = optics[_GROUP].tolist()
    places = {group: place for place, group in enumerate(groups)}
    if len(places) != len(groups):
        raise data_error(path, f"every {_GROUP} once in the optics table", groups)
    rows = []
    for number, group in enumerate(table[_GROUP].tolist(), 1):
        if group not in places:
            raise data_error(path, f"an optics group, one of {groups}", f"{group} in row {number}")
        rows.append(places[group])
    numbers = _numbers(path, optics)
    return {key: values[rows] for key, values in numbers.items() if key not in table.columns}


def _stacked(path: Path, references: list[str], root: Path) -> StackColumn:
    names: dict[str, int] = {}
    stacks: list[MappedArray] = []
    owners, sections = [], []
    for row, reference in enumerate(references, 1):
        match = _REFERENCE.fullmatch(reference)
        if match is None:
            raise data_error(path, "an image like 000001@stack.mrcs", f"{reference!r} in row {row}")
        name = match["stack"]
        if name not in names:
            names[name] = len(stacks)
            stacks.append(_stack(path, root / name, row))
            if stacks[-1].shape[1:] != stacks[0].shape[1:]:
                expected = f"images of {stacks[0].shape[1:]} pixels as in {stacks[0].path.name}"
                raise data_error(root / name, expected, stacks[-1].shape[1:])
        count, section = stacks[names[name]].shape[0], int(match["section"] or 1)
        if not 1 <= section <= count or (match["section"] is None and count != 1):
            raise data_error(path, f"a section 1 to {count} of {name}", f"{reference!r} in row {row}")
        owners.append(names[name])
        sections.append(section - 1)
    return StackColumn(tuple(stacks), np.array(owners, np.int64), np.array(sections, np.int64))


def _stack(path: Path, stack: Path, row: int) -> MappedArray:
    with reading(path, "a stack that can be found"):
        if not stack.is_file():
            raise data_error(path, f"the stack {stack}, which row {row} refers to", "no file of that name")
    return image_stack(stack)
