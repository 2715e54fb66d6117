"""What a data set is made of: columns, one for each field, that are read by row numbers."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray
from torch import Tensor

from equikernels.models.data.errors import data_error, file_size, reading

__all__ = ["Column", "Content", "Field", "MappedArray", "Rows", "ValueColumn", "label_column"]

Rows = NDArray[np.int64]
Order = Literal["C", "F"]


@dataclass(frozen=True)
class Field:
    """What one entry of a batch holds.

    Attributes:
        shape: of one sample.
        dtype: of the tensor that `fetch` returns.
        meaning: in words.
        classes: the names of the labels 0, 1, ..., where the data have any.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    meaning: str
    classes: tuple[str, ...] = ()


class Column(Protocol):
    """One field of all samples. It can be pickled and read from several processes."""

    @property
    def field(self) -> Field: ...

    def __len__(self) -> int: ...

    def read(self, rows: Rows) -> Tensor:
        """The samples of these rows, (len(rows), *field.shape), a tensor of its own."""
        ...


class Array(Protocol):
    """An array that is read by row numbers, in memory or in a file."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype: ...

    def __getitem__(self, rows: Rows, /) -> NDArray: ...


@dataclass(frozen=True)
class Content:
    """What a reader found in a file or folder.

    Attributes:
        columns: by the names of their fields, all of the same length.
        files: all files that were read, for the fingerprint; those of a folder may be many.
        evidence: more bytes for the fingerprint, where there are no files.
    """

    columns: dict[str, Column]
    files: tuple[Path, ...] = ()
    evidence: bytes = b""


class MappedArray:
    """An array inside a file, mapped into memory on first use and mapped again where it is unpickled.

    Args:
        path: of the file; offset: of the first byte; order: "C" or "F".

    Raises:
        DataError: the file is too short.
    """

    def __init__(
        self, path: Path, dtype: DTypeLike, shape: tuple[int, ...], offset: int, order: Order = "C"
    ) -> None:
        self.path, self.shape, self.offset, self.order = path, shape, offset, order
        self.dtype: np.dtype = np.dtype(dtype)
        self._map: NDArray | None = None
        self._check()

    def _check(self) -> None:
        needed = self.offset + math.prod(self.shape) * self.dtype.itemsize
        size = file_size(self.path)
        if size < needed:
            shape = " x ".join(map(str, self.shape))
            raise data_error(
                self.path, f"at least {needed} bytes for {shape} values of {self.dtype}", f"{size} bytes"
            )

    def __getitem__(self, rows: Rows, /) -> NDArray:
        if self._map is None:
            # It may have shrunk since, and touching a map beyond the end of its file ends the process.
            self._check()
            with reading(self.path, "a file that can be mapped into memory"):
                self._map = np.memmap(self.path, self.dtype, "r", self.offset, self.shape, self.order)
        return np.asarray(self._map[rows])

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_map": None}


@dataclass(frozen=True)
class ValueColumn:
    """An array as it is: integers and booleans become int64, floating numbers keep their dtype.

    Raises:
        DataError: values that are neither, or integers beyond int64.
    """

    source: str | os.PathLike[str]
    array: Array
    meaning: str
    classes: tuple[str, ...] = ()
    field: Field = field(init=False)

    def __post_init__(self) -> None:
        dtype = self.array.dtype
        if dtype.kind not in "biuf" or dtype.itemsize > 8:
            raise data_error(self.source, f"numbers for {self.meaning}", f"{dtype}")
        kind = torch.int64
        if dtype.kind == "f":
            kind = torch.from_numpy(np.empty(0, dtype.newbyteorder("="))).dtype
        object.__setattr__(self, "field", Field(self.array.shape[1:], kind, self.meaning, self.classes))

    def __len__(self) -> int:
        return self.array.shape[0]

    def read(self, rows: Rows) -> Tensor:
        values = np.asarray(self.array[rows])
        if values.dtype.kind in "biu":
            if values.dtype == np.uint64 and values.size and int(values.max()) >= 2**63:
                raise data_error(
                    self.source, f"integers of 64 bits with a sign for {self.meaning}", values.max()
                )
            return torch.from_numpy(values.astype(np.int64))
        return torch.from_numpy(values.astype(values.dtype.newbyteorder("=")))


def label_column(
    source: str | os.PathLike[str], array: Array, count: int, classes: tuple[str, ...] = ()
) -> ValueColumn:
    """The field "label" of `count` samples: one number each, or several; a single one loses its axis.

    Raises:
        DataError: a number of labels that is not `count`, or labels that are no numbers.
    """
    if len(array.shape) == 0 or array.shape[0] != count:
        got = f"an array of shape {array.shape}" if len(array.shape) == 0 else f"{array.shape[0]}"
        raise data_error(source, f"{count} labels, one for every sample", got)
    if len(array.shape) == 2 and array.shape[1] == 1:
        array = array[np.arange(count)].reshape(count)
    return ValueColumn(source, array, "class of the sample", classes)
