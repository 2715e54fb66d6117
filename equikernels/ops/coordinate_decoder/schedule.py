"""Tiles of a batch of images, and how a device works through them with the same result every time.

On a CPU a tile is small enough that its activations stay in a core's caches, and one thread does all of its
work: PyTorch and its BLAS are set to one thread meanwhile, so that cores are never oversubscribed and no
matrix product is split differently for another number of threads. Tiles form groups; sums over tiles are
accumulated within a group and then over the groups in order. Neither tiles nor groups depend on the number of
threads.

On a GPU launching a kernel costs more than a small tile, so a tile is as large as the memory for activations
allows, its images go through every step together, and the tiles follow each other on the current stream.
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


class Schedule(NamedTuple):
    """How a device works through the tiles of a batch."""

    tile_bytes: int
    """Of one layer's activations in a tile or, where tiles are `batched`, of all memory for activations."""
    min_rows: int
    """Fewer rows than this make the matrix products slow."""
    min_tiles: int
    max_groups: int
    batched: bool
    """Whether the images of a tile go through the first layer together, and tiles one after the other."""


# A few layers of 2 MiB fit a core's share of the caches, and a matrix product with so many rows runs at full
# speed. Eight tiles are enough for small batches to occupy several cores.
IN_CACHES = Schedule(tile_bytes=2**21, min_rows=192, min_tiles=8, max_groups=32, batched=False)
# With 128 MiB a network with a hidden layer of 500 units has 22,000 rows in a tile. That its kernels outlast
# the time that launching them takes is an estimate, not measured on a GPU yet.
IN_MEMORY = Schedule(tile_bytes=2**27, min_rows=1, min_tiles=1, max_groups=1, batched=True)


def schedule_of(device: torch.device) -> Schedule:
    """The schedule of a device."""
    return IN_MEMORY if device.type == "cuda" else IN_CACHES


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


def make_plan(batch: int, pixels: int, row_bytes: int, granule: int, schedule: Schedule) -> Plan:
    """Tiles for `batch` images; parts of an image start at a multiple of `granule` pixels.

    `row_bytes` is what the schedule's `tile_bytes` counts for each pixel of a tile.
    """
    if batch == 0 or pixels == 0:
        return Plan([], [], 0)
    share = -(-batch * pixels // schedule.min_tiles)
    limit = max(schedule.min_rows, min(schedule.tile_bytes // row_bytes, share))
    images = max(1, min(batch, limit // pixels))
    step = -(-pixels // -(-pixels // limit))
    step = min(pixels, -(-step // granule) * granule)
    parts = [slice(first, min(first + step, pixels)) for first in range(0, pixels, step)]
    tiles = [
        Tile(slice(first, min(first + images, batch)), part, slice_)
        for first in range(0, batch, images)
        for part, slice_ in enumerate(parts)
    ]
    size = -(-len(tiles) // schedule.max_groups)
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


def run_in_order(
    groups: Sequence[list[Tile]],
    work: Callable[[list[Tile], Tensor, list[Tensor]], None],
    make_workspace: Callable[[], list[Tensor]],
    total: Tensor,
) -> None:
    """The same on the caller's thread and stream, with sums straight into `total`."""
    with torch.no_grad():
        workspace = make_workspace()
        for group in groups:
            work(group, total, workspace)
