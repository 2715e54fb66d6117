"""``equikernels train``: train the model of a task, or go on with a run."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from equikernels.cli import UserError
from equikernels.cli.options import parse
from equikernels.cli.running import user_errors
from equikernels.cli.task_modules import load_tasks
from equikernels.models.engine import (
    RunConfiguration,
    default_configuration,
    find_task,
    open_run,
    read_configuration,
    resume,
    task_names,
    train,
)

__all__ = ["run"]

COMMAND = "equikernels train"

Options = TypeVar("Options")


@dataclass(frozen=True)
class Training(Generic[Options]):
    """Train a model. What is not asked for has the defaults of the task, or of the file.

    Attributes:
        run: Options of the run.
        out: Folder of the new run; without it runs/TASK.
        config: A TOML file as every run leaves it; options given here come before it.
    """

    run: RunConfiguration[Options]
    out: Path | None = None
    config: Path | None = None


@dataclass(frozen=True)
class Resuming:
    """Go on with an interrupted run, exactly as if it had not been interrupted. It takes no other options.

    Attributes:
        resume: The folder of the run.
    """

    resume: Path


def run(words: Sequence[str]) -> int:
    """Carry out the command.

    Args:
        words: what follows ``equikernels train``.

    Returns:
        0.

    Raises:
        UserError: anything that ends a run, in one line, with its exit code.
    """
    with user_errors():
        load_tasks()
        if not words or words[0] in ("-h", "--help"):
            print(usage(), file=sys.stdout if words else sys.stderr)
            return 0 if words else 2
        if any(word.partition("=")[0] == "--resume" for word in words):
            _resume(parse(Resuming, words, COMMAND).resume)
            return 0
        asked = configure(words)
        train(asked.run, asked.out or Path("runs") / asked.run.task.rpartition(":")[2])
    return 0


def _resume(folder: Path) -> None:
    finished = open_run(folder).read_metrics().get("status") == "finished"
    resume(folder)
    if finished:
        print(f"{folder} is finished: there is nothing left to do")


def configure(words: Sequence[str]) -> Training[Any]:
    """The run that the words ask for: a task, a file, or both, and options.

    Raises:
        ConfigurationError, UserError: a mistake in one of them.
    """
    named = None if words[0].startswith("-") else words[0]
    rest = list(words) if named is None else list(words[1:])
    if named is not None:
        find_task(named)
    file = _file(rest)
    if file is not None:
        default = read_configuration(file, named)
    elif named is not None:
        default = default_configuration(named)
    else:
        raise UserError(f"{COMMAND}: expected a task first, or --config, or --resume; tasks are "
                        f"{', '.join(task_names())}", exit_code=2)  # fmt: skip
    kind: Any = Training[find_task(default.task).options]  # type: ignore[misc]
    return parse(kind, rest, f"{COMMAND} {default.task}", Training(default, config=file))


def _file(words: Sequence[str]) -> Path | None:
    """What --config says."""
    for position, word in enumerate(words):
        option, equals, value = word.partition("=")
        if option == "--config":
            if not equals and position + 1 == len(words):
                raise UserError("--config: expected a file after it", exit_code=2)
            return Path(value if equals else words[position + 1])
    return None


def usage() -> str:
    """What ``equikernels train --help`` prints."""
    tasks = {name: find_task(name).summary for name in task_names()}
    tasks["MODULE:NAME"] = "a task that a module of yours registers"
    width = max(map(len, tasks))
    return "\n".join(
        [
            f"usage: {COMMAND} TASK [--config FILE] [--out FOLDER] [OPTIONS]",
            f"       {COMMAND} --config FILE [--out FOLDER] [OPTIONS]",
            f"       {COMMAND} --resume RUN",
            "",
            "tasks:",
            *(f"  {name:{width}}  {summary}" for name, summary in tasks.items()),
            "",
            f"{COMMAND} TASK --help lists the options of a task.",
        ]
    )
