"""``equikernels evaluate``, ``infer`` and ``generate``: what a trained model is used for."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from equikernels.cli import UserError
from equikernels.cli.options import parse
from equikernels.cli.task_modules import load_tasks
from equikernels.models.data import DataError
from equikernels.models.engine import ConfigurationError, Run, RunError, Stopped, open_run
from equikernels.models.engine.inference import (
    Use,
    evaluate_run,
    generate_samples,
    infer_samples,
    save_arrays,
)

__all__ = ["evaluate", "generate", "infer", "user_errors"]

Folder = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]


@dataclass(frozen=True)
class Evaluation:
    """Measure a trained model: on the run's validation part, or on all of another data set.

    Attributes:
        run: The folder of the run.
        use: How the model is used.
        out: A JSON file to write the numbers to, besides printing them.
    """

    run: Folder
    use: Use = dataclasses.field(default_factory=Use)
    out: Path | None = None


@dataclass(frozen=True)
class Inference:
    """Apply a trained model to every sample of a data set, the run's or another, and save NAME.npy.

    Attributes:
        run: The folder of the run.
        out: The folder to write to.
        use: How the model is used.
    """

    run: Folder
    out: Path
    use: Use = dataclasses.field(default_factory=Use)


@dataclass(frozen=True)
class Generation:
    """Let a trained model make samples, and save them as NAME.npy.

    Attributes:
        run: The folder of the run.
        out: The folder to write to.
        count: How many samples.
        seed: Decides the samples: number i depends on i and the seed alone.
        use: How the model is used.
    """

    run: Folder
    out: Path
    count: int = 16
    seed: int = 0
    use: Use = dataclasses.field(default_factory=Use)


def evaluate(words: Sequence[str]) -> int:
    """Print the numbers of a run as JSON; returns 0 or raises UserError."""
    asked = parse(Evaluation, words, "equikernels evaluate")
    with user_errors():
        run = _open(asked.run)
        text = json.dumps(evaluate_run(run, asked.use), indent=1)
    print(text)
    if asked.out is not None:
        try:
            asked.out.write_text(text + "\n", encoding="utf-8")
        except OSError as error:
            raise UserError(f"--out: cannot write {asked.out}: {error.strerror}", exit_code=2) from error
    return 0


def infer(words: Sequence[str]) -> int:
    """Save what a model says about samples; returns 0 or raises UserError."""
    asked = parse(Inference, words, "equikernels infer")
    with user_errors():
        run = _open(asked.run)
        _tell(save_arrays(asked.out, infer_samples(run, asked.use)))
    return 0


def generate(words: Sequence[str]) -> int:
    """Save samples that a model makes; returns 0 or raises UserError."""
    asked = parse(Generation, words, "equikernels generate")
    with user_errors():
        run = _open(asked.run)
        _tell(save_arrays(asked.out, generate_samples(run, asked.count, asked.seed, asked.use)))
    return 0


def _open(folder: Path) -> Run:
    load_tasks()
    return open_run(folder)


def _tell(paths: Sequence[Path]) -> None:
    for path in paths:
        print(f"saved: {path}")


@contextmanager
def user_errors() -> Iterator[None]:
    """Turn what ends a run into one line and an exit code: 2 mistakes, 1 failures, 130 and 143 signals."""
    try:
        yield
    except (ConfigurationError, DataError) as error:
        raise UserError(str(error), exit_code=2) from error
    except RunError as error:
        raise UserError(str(error)) from error
    except Stopped as stopped:
        raise UserError(str(stopped), stopped.exit_code) from stopped
