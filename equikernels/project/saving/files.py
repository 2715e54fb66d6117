"""Files that are written whole or not at all, and read with one error that names them."""

from __future__ import annotations

import errno
import importlib.util
import os
import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from torch import Tensor


class SavedFileError(ValueError):
    """A saved file that is damaged, foreign, of another version or another model; the message names it."""


class MissingSafetensors(ImportError):
    """The optional dependency safetensors is not installed."""


def require_safetensors() -> None:
    """Raise MissingSafetensors, naming the extra that brings it, where safetensors is not installed."""
    if importlib.util.find_spec("safetensors") is None:
        raise MissingSafetensors(
            "saving and loading need safetensors, which the extra `models` brings: "
            "pip install 'equikernels[models]'"
        )


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Turn what is wrong with the contents of a file into one SavedFileError that names it."""
    try:
        yield
    except SavedFileError:
        raise
    except (ValueError, TypeError, KeyError, IndexError, OverflowError, RecursionError) as error:
        raise SavedFileError(f"{path}: {error}") from error


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` make a temporary file beside `path`, then put it in its place at once.

    What was there before stays whole until the new file is on the disk, whenever power or the process ends.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        temporary.touch()
        mode = temporary.stat().st_mode
        write(temporary)
        os.chmod(temporary, mode)  # what a new file gets here; safetensors makes its files private
        _to_disk(temporary)
        os.replace(temporary, path)
        _to_disk(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _to_disk(path: Path) -> None:
    """Have the operating system write a file, or a folder's list of names, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file atomically; tensors that share memory are written out each.

    Raises:
        OSError: it cannot be written, as for any other file.
    """
    require_safetensors()
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    seen: set[int] = set()
    alone: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        plain = tensor.detach().to("cpu").contiguous()
        storage = plain.untyped_storage()
        whole = storage.nbytes() == plain.numel() * plain.element_size()
        if storage.data_ptr() in seen or not whole:
            plain = plain.clone()
        seen.add(storage.data_ptr())
        alone[name] = plain

    def write(temporary: Path) -> None:
        try:
            save_file(alone, temporary, metadata=dict(metadata))
        except SafetensorError as error:
            # It tells what the operating system said in words only.
            number = re.search(r"os error (\d+)", str(error))
            if number is None:
                raise
            raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from error

    write_atomically(path, write)


def existing(path: Path) -> Path:
    """The path of a regular file; raises FileNotFoundError, or SavedFileError for anything else there."""
    if not path.exists():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    if not path.is_file():
        raise SavedFileError(f"{path}: not a regular file")
    return path


def read_tensors(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """The metadata and the tensors, on the CPU, of a safetensors file.

    Raises:
        FileNotFoundError: there is no such file.
        SavedFileError: it is no safetensors file, or only a part of one.
    """
    require_safetensors()
    from safetensors import SafetensorError, safe_open

    existing(path)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            return metadata, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise SavedFileError(f"{path}: not a safetensors file, or a truncated one: {error}") from error
