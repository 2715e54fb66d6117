"""A data set: samples by number, in batches of tensors."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from equikernels.models.data.columns import Column, Field, Rows
from equikernels.models.data.draws import shuffled

__all__ = ["Dataset"]

_INDEX = Field((), torch.int64, "number of the sample in the whole data set, before any split")


class Dataset:
    """Samples that are fetched in batches, by number. Made by :func:`load_dataset`; never changed.

    A data set can be pickled, and read from forked processes.

    Attributes:
        name: for people.
        fields: what `fetch` returns, by name: shape of a sample, dtype, meaning.

    >>> from equikernels.models.data import load_dataset
    >>> digits = load_dataset("digits")
    >>> batch = digits.fetch(torch.tensor([3, 0]))
    >>> batch["image"].shape, batch["label"].tolist(), batch["index"].tolist()
    (torch.Size([2, 1, 8, 8]), [3, 0], [3, 0])
    """

    def __init__(
        self, name: str, columns: Mapping[str, Column], identity: bytes, rows: Rows | None = None
    ) -> None:
        self.name = name
        self._columns = dict(columns)
        self._identity = identity
        self._rows = rows
        self._length = len(rows) if rows is not None else len(next(iter(self._columns.values())))
        self.fields: Mapping[str, Field] = {
            **{key: column.field for key, column in self._columns.items()},
            "index": _INDEX,
        }

    def __len__(self) -> int:
        return self._length

    def __repr__(self) -> str:
        fields = ", ".join(f"{name} {tuple(entry.shape)}" for name, entry in self.fields.items())
        return f"Dataset({self.name!r}, {len(self)} samples: {fields})"

    def fetch(self, indices: Tensor) -> dict[str, Tensor]:
        """The samples of these numbers, in their order: for every field a tensor (B, *shape) on the CPU.

        Args:
            indices: int64 (B,) on any device, each 0 .. len(self) - 1; they may repeat.

        Raises:
            TypeError: no tensor of int64.
            ValueError: not one-dimensional.
            IndexError: a number out of range.
            DataError: a file that turns out to be damaged.
        """
        numbers = self._numbers(indices)
        rows = numbers if self._rows is None else self._rows[numbers]
        batch = {name: column.read(rows) for name, column in self._columns.items()}
        return {**batch, "index": torch.from_numpy(rows.copy())}

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that change with what the data set holds, and not with where it lies.

        From names, sizes and sampled bytes of the files, options, fields and the choice of samples: a change
        of bytes that are not sampled goes unseen.
        """
        digest = hashlib.blake2b(self._identity, digest_size=8)
        digest.update(repr(sorted(self.fields.items())).encode())
        digest.update(str(len(self)).encode())
        if self._rows is not None:
            digest.update(self._rows.tobytes())
        return digest.hexdigest()

    def subset(self, chosen: Tensor | Iterable[int] | int, name: str | None = None) -> Dataset:
        """The samples of these numbers, in their order, or the first so many.

        Raises:
            TypeError, ValueError, IndexError: numbers that `fetch` would refuse, none at all, or more samples
                than there are.

        >>> from equikernels.models.data import load_dataset
        >>> load_dataset("digits").subset(100).subset([5, 7]).fetch(torch.tensor([1]))["label"]
        tensor([7])
        """
        if isinstance(chosen, int):
            if isinstance(chosen, bool) or not 1 <= chosen <= len(self):
                raise ValueError(f"chosen: expected 1 .. {len(self)} samples, got {chosen!r}")
            chosen = torch.arange(chosen)
        elif not isinstance(chosen, Tensor):
            numbers_given = list(chosen)
            chosen = torch.tensor(numbers_given, dtype=None if numbers_given else torch.int64)
        numbers = self._numbers(chosen)
        if not len(numbers):
            raise ValueError("chosen: expected at least one sample, got none")
        rows = numbers.copy() if self._rows is None else self._rows[numbers]
        return Dataset(name or f"{self.name}[{len(numbers)}]", self._columns, self._identity, rows)

    def split(
        self, fractions: Mapping[str, float], seed: int = 0, by: str | None = None
    ) -> dict[str, Dataset]:
        """Parts that share no sample and together hold all, chosen at random by the seed alone.

        Args:
            fractions: of every part, positive, with sum 1. Sizes are rounded so that no sample is lost.
            seed: equal seeds and lengths give equal parts.
            by: a field of integers; samples that agree in it stay together, such as the slices of a volume.
                Sizes are then as near to the fractions as the order of the groups allows.

        Raises:
            ValueError: fractions that are not positive or do not sum to 1, a part without a sample, or no
                such field of one integer.

        >>> from equikernels.models.data import load_dataset
        >>> parts = load_dataset("digits").split({"train": 0.8, "test": 0.2})
        >>> len(parts["train"]), len(parts["test"])
        (1438, 359)
        """
        shares = list(fractions.values())
        if not shares or not all(share > 0 for share in shares) or not math.isclose(math.fsum(shares), 1):
            raise ValueError(f"fractions: expected positive numbers with sum 1, got {dict(fractions)}")
        ends = np.cumsum(shares) / math.fsum(shares) * len(self)
        # A sample has the part that holds the middle of its place, or of its group's, in a random order.
        part = np.minimum(np.searchsorted(ends, self._middles(seed, by), side="right"), len(shares) - 1)
        parts = {}
        for number, (key, share) in enumerate(fractions.items()):
            chosen = torch.from_numpy(np.flatnonzero(part == number))
            if not len(chosen):
                raise ValueError(
                    f"fractions: expected a sample for {key!r}, got none: {share} of {len(self)}"
                )
            parts[key] = self.subset(chosen, f"{self.name}[{key}]")
        return parts

    def _middles(self, seed: int, by: str | None) -> NDArray[np.float64]:
        """Where every sample, or the middle of its group, comes in a random order of all."""
        fields = {key: (column.field.shape, column.field.dtype) for key, column in self._columns.items()}
        known = [key for key, kind in fields.items() if kind == ((), torch.int64)]
        if by is None:
            groups, sizes = np.arange(len(self)), np.ones(len(self), dtype=np.int64)
        elif by not in known:
            raise ValueError(f"by: expected a field of one integer, of {', '.join(known)}, got {by!r}")
        else:
            rows = np.arange(len(self)) if self._rows is None else self._rows
            values = self._columns[by].read(rows).numpy()
            _, groups, sizes = np.unique(values, return_inverse=True, return_counts=True)
        # A name of its own: the order of an epoch with the same seed has nothing to do with the parts.
        order = shuffled(seed, 0, "split", len(sizes)).numpy()
        middles = np.empty(len(sizes))
        middles[order] = np.cumsum(sizes[order]) - sizes[order] / 2
        return middles[groups]

    def _numbers(self, indices: Tensor) -> Rows:
        if not isinstance(indices, Tensor) or indices.dtype != torch.int64:
            got = indices.dtype if isinstance(indices, Tensor) else type(indices).__name__
            raise TypeError(f"indices: expected a tensor of int64, got {got}")
        if indices.dim() != 1:
            raise ValueError(f"indices: expected one dimension (B,), got {tuple(indices.shape)}")
        numbers: Rows = indices.detach().cpu().numpy()
        if len(numbers) and not (numbers.min() >= 0 and numbers.max() < len(self)):
            wrong = numbers[(numbers < 0) | (numbers >= len(self))][0]
            raise IndexError(f"indices: expected 0 .. {len(self) - 1}, got {wrong}")
        return numbers
