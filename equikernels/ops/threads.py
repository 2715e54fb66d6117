"""Work that is cut into independent pieces, a thread to each, with PyTorch on one thread meanwhile.

One thread does all of a piece's work: cores are never oversubscribed, nothing waits at the end of every small
product, and no product is split differently for another number of threads, so results do not depend on it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from queue import LifoQueue
from typing import TypeVar

import torch

Workspace = TypeVar("Workspace")

# Held while the number of threads is one: a second caller would save that number and restore it.
_turn = threading.RLock()


def _renew_lock() -> None:
    global _turn
    _turn = threading.RLock()


# The thread that held it does not exist in a forked child.
os.register_at_fork(after_in_child=_renew_lock)


@contextmanager
def one_thread_each() -> Iterator[int]:
    """PyTorch on one thread, in this thread and in new ones; gives the number there was."""
    with _turn:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield threads
        finally:
            torch.set_num_threads(threads)


def run_pieces(
    count: int, work: Callable[[int, Workspace], None], make_workspace: Callable[[], Workspace]
) -> None:
    """Call ``work(piece, workspace)`` for every piece below `count`, without autograd.

    Pieces must not depend on each other; a workspace is used by one thread at a time.
    """
    with one_thread_each() as threads, torch.no_grad():
        workers = min(threads, count)
        if workers <= 1:
            workspace = make_workspace()
            for piece in range(count):
                work(piece, workspace)
            return
        workspaces: LifoQueue[Workspace] = LifoQueue()
        for _ in range(workers):
            workspaces.put(make_workspace())
        # Tensors made in inference mode may be written to in inference mode only, and that is a thread's own.
        inference = torch.is_inference_mode_enabled()

        def task(piece: int) -> None:
            workspace = workspaces.get()
            try:
                with torch.inference_mode(inference), torch.no_grad():
                    work(piece, workspace)
            finally:
                workspaces.put(workspace)

        with ThreadPoolExecutor(workers, thread_name_prefix="equikernels") as pool:
            for result in [pool.submit(task, piece) for piece in range(count)]:
                result.result()
