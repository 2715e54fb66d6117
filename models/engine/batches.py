"""Batches of a data set with the random numbers of their samples, and how processes share them."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from equikernels.models.data import SampleDraws

if TYPE_CHECKING:
    from equikernels.models.data import Dataset

__all__ = ["Batches", "read_ahead", "shares", "to_device"]

Batch = Mapping[str, Tensor]


class Batches:
    """Samples of a data set, batch by batch, with their draws; the same at every iteration.

    Args:
        indices: of the samples in `dataset`, int64 (count,), in order.
        batch_size: samples in each batch; the last one has the rest.
        seed, epoch: of the draws.
        device: where the tensors are wanted.
        workers: threads that read ahead; 0 reads when needed.

    Iteration gives pairs (batch, draws): tensors (B, ...) by field, and `SampleDraws` of their samples,
    which are numbered as in the whole data set.
    """

    def __init__(
        self,
        dataset: Dataset,
        indices: Tensor,
        batch_size: int,
        *,
        seed: int,
        epoch: int,
        device: torch.device | str = "cpu",
        workers: int = 0,
    ) -> None:
        self.dataset = dataset
        self.indices = indices
        self.batch_size = batch_size
        self.seed, self.epoch = seed, epoch
        self.device = torch.device(device)
        self.workers = workers

    def __len__(self) -> int:
        """How many batches there are."""
        return -(-len(self.indices) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[dict[str, Tensor], SampleDraws]]:
        # split would give one empty batch of no samples.
        parts = list(self.indices.split(self.batch_size))[: len(self)]
        for batch in read_ahead(self.dataset, parts, self.workers):
            yield to_device(batch, self.device), SampleDraws(self.seed, self.epoch, batch["index"])


def to_device(batch: Batch, device: torch.device) -> dict[str, Tensor]:
    return {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}


def read_ahead(dataset: Dataset, parts: Sequence[Tensor], workers: int) -> Generator[Batch, None, None]:
    """What the data set has at each of several index tensors, in their order.

    With workers, twice as many parts as there are threads are being read or wait to be taken.
    """
    if workers == 0:
        yield from map(dataset.fetch, parts)
        return
    waiting: deque[Future[Batch]] = deque()
    left = iter(parts)
    pool = ThreadPoolExecutor(workers, thread_name_prefix="read-ahead")
    try:
        waiting.extend(pool.submit(dataset.fetch, part) for part in itertools.islice(left, 2 * workers))
        while waiting:
            batch = waiting.popleft().result()
            waiting.extend(pool.submit(dataset.fetch, part) for part in itertools.islice(left, 1))
            yield batch
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def shares(chosen: Tensor, rank: int, processes: int, accumulation: int) -> list[Tensor]:
    """The parts of one batch that a process computes, one after the other.

    The batch is split among the processes, each share into `accumulation` parts, as evenly as can be; no part
    is empty, so there may be none.

    >>> [part.tolist() for part in shares(torch.arange(7), rank=0, processes=2, accumulation=3)]
    [[0, 1], [2], [3]]
    """
    own = chosen.tensor_split(processes)[rank]
    return [part for part in own.tensor_split(accumulation) if len(part)]
