"""Signals that ask a run to stop: the first is kept until the run can save, a second one stops at once."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any

__all__ = ["StopSignals"]

AGAIN = 2.0
"""Seconds after which a second signal is meant: a launcher passes on what the terminal has sent already."""


class StopSignals:
    """Within the block, SIGINT and SIGTERM are remembered in `received`; elsewhere they do what they did.

    Outside the main thread Python lets nobody handle signals: then nothing is remembered.
    """

    def __init__(self) -> None:
        self.received = 0
        self._when = 0.0
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._remember)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if self.received and time.monotonic() - self._when > AGAIN:
            raise KeyboardInterrupt
        if not self.received:
            self.received, self._when = number, time.monotonic()
