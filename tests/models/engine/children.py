"""Processes that cost no new interpreter: forked, so that they can be killed, limited and signalled."""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import torch

LONGEST = 300
"""Seconds after which a child is ended."""


class Child:
    """A forked process that runs `action` with one thread and exits with what it returns.

    What it prints goes to `output`.
    """

    def __init__(self, action: Callable[[], int], output: Path) -> None:
        self._output = output
        self.pid = os.fork()
        if self.pid == 0:
            self._run(action)

    def _run(self, action: Callable[[], int]) -> None:
        code = 70
        try:
            file = os.open(self._output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(file, 1)
            os.dup2(file, 2)
            sys.stdout = os.fdopen(1, "w", closefd=False)
            sys.stderr = os.fdopen(2, "w", closefd=False)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            # A child of a process that has computed with several threads can wait for them for ever.
            signal.alarm(LONGEST)
            # The parent's other threads do not exist here.
            torch.set_num_threads(1)
            code = action()
        except BaseException:
            traceback.print_exc(limit=-3, chain=False)
        finally:
            try:
                sys.stdout.flush()
                sys.stderr.flush()
            finally:
                os._exit(code)  # whatever happens, only one process goes on with the tests

    def send(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def wait(self) -> int:
        """Its exit code; the negative number of the signal that ended it."""
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    @property
    def output(self) -> str:
        return self._output.read_text()


def wait_for(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    """Wait until a condition holds; fails the test where it never does."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.002)
