"""Tiles of a batch of images, and threads that work through them with the same result for every number.

A tile is small enough that its activations stay in a core's caches, and one thread does all of its work:
PyTorch and its BLAS are set to one thread meanwhile, so that cores are never oversubscribed and no matrix
product is split differently for another number of threads. Tiles form groups; sums over tiles are accumulated
within a group and then over the groups in order. Neither tiles nor groups depend on the number of threads.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from queue import LifoQueue
from typing import NamedTuple

import torch
from torch import Tensor

from equikernels.ops.threads import one_thread_each

# Of one layer's activations in a tile: a few of these fit a core's share of the caches, and a matrix product
# with so many rows runs at full speed.
TILE_BYTES = 2**21
# Fewer rows than this make the matrix products slow.
MIN_ROWS = 192
# Enough for small batches to occupy several cores.
MIN_TILES = 8
MAX_GROUPS = 32


class Tile(NamedTuple):
    """Some whole images, or a part of the pixels of one image."""

    images: slice
    part: int
    pixels: slice


class Plan(NamedTuple):
    groups: list[list[Tile]]
    parts: list[slice]
    """The pixels of every part that an image is cut into."""
    rows: int
    """Of the largest tile."""


def make_plan(batch: int, pixels: int, row_bytes: int, granule: int) -> Plan:
    """Tiles for `batch` images; parts of an image start at a multiple of `granule` pixels."""
    if batch == 0 or pixels == 0:
        return Plan([], [], 0)
    share = -(-batch * pixels // MIN_TILES)
    limit = max(MIN_ROWS, min(TILE_BYTES // row_bytes, share))
    images = max(1, min(batch, limit // pixels))
    step = -(-pixels // -(-pixels // limit))
    step = min(pixels, -(-step // granule) * granule)
    parts = [slice(first, min(first + step, pixels)) for first in range(0, pixels, step)]
    tiles = [
        Tile(slice(first, min(first + images, batch)), part, slice_)
        for first in range(0, batch, images)
        for part, slice_ in enumerate(parts)
    ]
    size = -(-len(tiles) // MAX_GROUPS)
    groups = [tiles[first : first + size] for first in range(0, len(tiles), size)]
    return Plan(groups, parts, images * step)


def run_groups(
    groups: Sequence[list[Tile]],
    work: Callable[[list[Tile], Tensor, list[Tensor]], None],
    make_workspace: Callable[[], list[Tensor]],
    total: Tensor,
) -> None:
    """Call ``work(tiles, partial, workspace)`` for every group, and add the partial sums to `total` in order.

    `partial` is a zeroed tensor like `total`; a workspace is used by one thread at a time.
    """
    with one_thread_each() as threads, torch.no_grad():
        workers = min(threads, len(groups))
        if workers <= 1:
            workspace, partial = make_workspace(), torch.empty_like(total)
            for group in groups:
                work(group, partial.zero_(), workspace)
                total.add_(partial)
            return
        workspaces: LifoQueue[list[Tensor]] = LifoQueue()
        for _ in range(workers):
            workspaces.put(make_workspace())
        # One more than the workers, so that none waits for the slowest; all memory is allocated by this
        # thread, where a profiler sees it.
        spare = [torch.empty_like(total) for _ in range(workers + 1)]

        # Tensors made in inference mode may be written to in inference mode only, and that is a thread's own.
        inference = torch.is_inference_mode_enabled()

        def task(group: list[Tile], partial: Tensor) -> Tensor:
            workspace = workspaces.get()
            try:
                with torch.inference_mode(inference), torch.no_grad():
                    work(group, partial.zero_(), workspace)
            finally:
                workspaces.put(workspace)
            return partial

        waiting: deque[Future[Tensor]] = deque()

        def fold() -> None:
            partial = waiting.popleft().result()
            total.add_(partial)
            spare.append(partial)

        with ThreadPoolExecutor(workers, thread_name_prefix="coordinate_mlp") as pool:
            try:
                for group in groups:
                    if not spare:
                        fold()
                    waiting.append(pool.submit(task, group, spare.pop()))
                while waiting:
                    fold()
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise
