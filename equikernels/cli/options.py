"""Options of a command from the fields of a dataclass, with mistakes told in one line."""

from __future__ import annotations

import contextlib
import io
import itertools
import re
from collections.abc import Sequence
from typing import Any, TypeVar, cast

import tyro

from equikernels.cli import UserError

__all__ = ["parse"]

T = TypeVar("T")

HINT = "Perhaps you meant:"
_RULE = re.compile(r"^[\s\u2500-\u257f-]*$")


def parse(kind: type[T], words: Sequence[str], command: str, default: T | None = None) -> T:
    """The dataclass that the words of a command line ask for; ``--help`` prints the options and exits.

    Args:
        kind: its fields become options, those of dataclasses in it too, without a prefix.
        command: what ``--help`` calls it, such as "equikernels train".
        default: the values of what is not asked for; without it the fields' own.

    Raises:
        UserError: a mistake, in one line, with exit code 2.
    """
    messages = io.StringIO()
    given: dict[str, Any] = {} if default is None else {"default": default}
    try:
        with contextlib.redirect_stderr(messages):
            flat = (tyro.conf.OmitArgPrefixes,)
            return cast(T, tyro.cli(kind, args=list(words), prog=command, config=flat, **given))
    except SystemExit as ended:
        if ended.code in (None, 0):
            raise
        raise UserError(f"{one_line(messages.getvalue())} (see {command} --help)", exit_code=2) from ended


def one_line(message: str) -> str:
    """The first part of a framed message, which says what is wrong, without the frame.

    >>> print(one_line('''╭─ Invalid choice ───╮
    ... │ invalid choice 'x' │
    ... │ for argument --a   │
    ... │ ────────────────── │
    ... │ For help, see ...  │
    ... ╰────────────────────╯'''))
    invalid choice 'x' for argument --a
    """
    # After the title; without Unicode there is no frame, but a rule below the title too.
    lines = [line.strip().strip("│").strip() for line in message.splitlines()[1:]]
    below = itertools.dropwhile(_RULE.match, lines)
    said = itertools.takewhile(lambda line: not _RULE.match(line), below)
    text = " ".join(" ".join(said).split()).removeprefix("Error parsing ").rstrip(".")
    if HINT in lines[:-1]:
        text += f": did you mean {lines[lines.index(HINT) + 1].split()[0]}?"
    return text
