"""What ends a run, each told in one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["ConfigurationError", "NonFiniteError", "RunError", "Stopped", "writing"]


class RunError(Exception):
    """A run cannot go on; the message is one line that says why. The command line exits with 1."""


class ConfigurationError(RunError):
    """A mistake in what was asked for, which the user can mend. The command line exits with 2."""


class NonFiniteError(RunError):
    """A loss or a gradient is NaN or infinite; the message names the step and the samples."""


class Stopped(Exception):
    """A signal asked the run to stop, and it stopped at the next border of a step, saved.

    Attributes:
        exit_code: what a shell expects after the signal: 130 for SIGINT, 143 for SIGTERM.
    """

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@contextmanager
def writing() -> Iterator[None]:
    """Around what writes files: an OSError becomes a RunError that names the file."""
    try:
        yield
    except OSError as error:
        raise RunError(f"cannot write {error.filename or 'a file'}: {error.strerror}") from error
