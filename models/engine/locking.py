"""Folders that one command at a time works in."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from equikernels.models.engine.errors import ConfigurationError

__all__ = ["locked"]

NAME = ".lock"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes out of a folder, which is made if need be, until the block or the process ends.

    The file that carries the lock stays behind, empty: it says nothing, its being locked does.

    Raises:
        ConfigurationError: another process has locked it.
        OSError: it cannot be made.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as name, locked(Path(name)):
    ...     print([path.name for path in Path(name).iterdir()])
    ['.lock']
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / NAME).open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigurationError(
                f"{folder}: another command is at work there: wait until it ends"
            ) from None
        yield
