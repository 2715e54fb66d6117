"""One type of error for everything that is wrong with data, and what no file may make a reader do."""

from __future__ import annotations

import importlib
import math
import os
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Protocol

__all__ = ["DataError", "Stream", "data_error", "file_size", "library", "read_exactly", "reading"]

# Deflate, the compression of gz, zip and png, never shrinks anything by more than this.
LARGEST_DEFLATION = 1032

_LONGEST = 300


class DataError(ValueError):
    """Data that cannot be used. The message is one line: the file, what was expected and what came."""


def data_error(source: str | os.PathLike[str], expected: str, got: object) -> DataError:
    """The error to raise, on one line whatever the parts hold.

    >>> print(data_error("digits.npy", "numbers", "text"))
    digits.npy: expected numbers, got text
    """
    came = (str(got) or type(got).__name__) if isinstance(got, Exception) else str(got)
    return DataError(f"{_one_line(os.fspath(source))}: expected {_one_line(expected)}, got {_one_line(came)}")


def _one_line(text: str) -> str:
    """The text without line breaks and control characters, shortened in the middle."""
    text = " ".join("".join(c if c.isprintable() or c.isspace() else "?" for c in text).split())
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]}...{text[-_LONGEST // 2 :]}"


@contextmanager
def reading(source: str | os.PathLike[str], expected: str) -> Iterator[None]:
    """Turn what a library raises inside into a DataError that names the file; the cause stays attached.

    A lack of memory is not turned: it says nothing about the file.
    """
    try:
        yield
    except (DataError, MemoryError):
        raise
    except Exception as error:
        raise data_error(source, expected, error) from error


def library(
    name: str, needed_for: str | os.PathLike[str], install: str = "'equikernels[models]'"
) -> ModuleType:
    """Import an optional library, or say which one a file needs.

    Raises:
        DataError: it is not installed.

    >>> library("math", "a.xyz").sqrt(4)
    2.0
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        package = name.partition(".")[0]
        if error.name != package:
            raise
        raise data_error(
            needed_for, f"the library {package} to read it", f"none: pip install {install}"
        ) from error


class Stream(Protocol):
    """What bytes are read from."""

    def read(self, size: int, /) -> bytes: ...


def file_size(path: Path) -> int:
    """The size of a file in bytes.

    Raises:
        DataError: there is none, or it is no ordinary file.
    """
    with reading(path, "a file"):
        if not path.is_file():
            raise data_error(path, "a file", "a folder" if path.is_dir() else "nothing of that name")
        return path.stat().st_size


def plausible_size(shape: Sequence[int], item_size: int, stored: int) -> int | None:
    """The bytes of an array, or None where `stored` bytes that may be deflated cannot hold it."""
    size = math.prod(shape) * item_size
    return size if size <= LARGEST_DEFLATION * (stored + 64) else None


def read_exactly(stream: Stream, size: int, source: str | os.PathLike[str], what: str) -> bytes:
    """`size` bytes of a stream, taken in pieces: what a header claims is not allocated before it is there.

    Raises:
        DataError: the stream ends early, or its compression is damaged.
    """
    pieces = []
    missing = size
    # zlib.error is no OSError, which is what the modules of compressed files raise otherwise.
    try:
        while missing:
            piece = stream.read(min(missing, 1 << 20))
            if not piece:
                raise data_error(source, f"{size} bytes of {what}", f"only {size - missing}")
            pieces.append(piece)
            missing -= len(piece)
    except (OSError, EOFError, zlib.error) as error:
        raise data_error(source, f"{size} bytes of {what}", error) from error
    return b"".join(pieces)
