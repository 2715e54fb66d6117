"""``equikernels demo``: the four papers in miniature, trained and checked on embedded real data."""

from __future__ import annotations

import importlib.metadata
import platform
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from equikernels import __version__
from equikernels.cli import UserError
from equikernels.cli.demo.page import page
from equikernels.cli.demo.parts import PARTS, FinishedPart, chosen_parts, perform
from equikernels.cli.demo.terminal import open_console, plain, print_claims, progress
from equikernels.models.engine.records import write_json
from equikernels.project.saving.files import write_text

__all__ = ["run"]

LIBRARIES = ("torch", "numpy", "scipy", "scikit-learn", "scikit-image", "diffusers", "matplotlib")


def run(out: Path, seed: int, parts: Sequence[str] | None = None) -> int:
    """Do the parts one after the other, judge their claims and report.

    After every part the folder holds all that is known: its figures, results.json and index.html.

    Args:
        out: folder to write into; made where it is absent.
        seed: of everything random; equal seeds give equal results.
        parts: names of those to do, which keep their order; all without it.

    Returns:
        0 where no claim fails, else 1.

    Raises:
        UserError: an unknown part, a negative seed, an output folder that cannot be written.
        Exception: whatever a part raises, with a note that names the part.
    """
    names = chosen_parts(parts)
    if not 0 <= seed < 2**31:
        raise UserError(f"argument --seed: expected 0 .. {2**31 - 1}, got {seed}", exit_code=2)
    prepare_folder(out)
    console = open_console()
    begun = time.perf_counter()
    done: list[FinishedPart] = []
    # At once: the page of an earlier run must not pass for that of this one.
    _record(out, names, done, seed, 0.0)
    # The matrices of the parts are too small to share: one thread is fastest, and its sums have one order.
    with _threads(1):
        for name in names:
            with progress(console, name) as bar, _named_on_error(name, out):
                done.append(perform(name, seed, out, bar))
            _record(out, names, done, seed, time.perf_counter() - begun)
    print_claims(console, done)
    elapsed = time.perf_counter() - begun
    message = f"{elapsed:.0f} s. Figures, numbers and a page to read: {out / 'index.html'}"
    console.print(plain(console, message), markup=False, soft_wrap=True)
    return 1 if any(claim.holds is False for part in done for claim in part.miniature.claims) else 0


def prepare_folder(out: Path) -> None:
    """Make the folder, and write into it once: better to fail now than after a minute of training."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise UserError(f"argument --out: cannot write to {out}: {error.strerror}", exit_code=2) from error


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _named_on_error(name: str, out: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        error.add_note(f"This ended the demonstration in its part {name}; those before it are in {out}.")
        raise


def _record(out: Path, names: Sequence[str], done: Sequence[FinishedPart], seed: int, elapsed: float) -> None:
    """Write results.json and index.html for the parts done so far."""
    chosen = "" if list(names) == list(PARTS) else f" --parts {' '.join(names)}"
    conditions: dict[str, Any] = {
        "command": f"equikernels demo --seed {seed}{chosen}",
        "versions": {"equikernels": __version__, "Python": platform.python_version()}
        | {library: importlib.metadata.version(library) for library in LIBRARIES},
        "machine": f"{platform.machine()}, {platform.system()}, one thread",
        "seconds": round(elapsed, 1),
    }
    waiting = list(names[len(done) :])
    content = {"conditions": conditions, "parts": [part.as_json() for part in done], "not done": waiting}
    write_json(out / "results.json", content)
    write_text(out / "index.html", page(done, waiting, conditions))
