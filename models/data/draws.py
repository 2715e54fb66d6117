"""Random numbers that belong to samples: functions of (seed, epoch, sample, name of the draw) alone.

Whatever the number of workers and processes, the batch size or the order of calls, a sample gets the same
numbers.
"""

from __future__ import annotations

import hashlib
import math
import operator
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from equikernels.models.data.philox import Words, philox_words

__all__ = ["SampleDraws", "epoch_order"]

_DTYPES = (torch.float32, torch.float64)


class SampleDraws:
    """The random numbers of a batch of samples in one epoch; row i of a draw depends on ``indices[i]`` only.

    Draws of different names are independent, and so are those of different kinds, samples, epochs and seeds.
    The same call gives the same numbers again: use one name for one purpose.

    Args:
        seed: of the run, any integer.
        epoch: any integer.
        indices: numbers of the samples in their data set, none negative: int64 (B,), or integers.

    Raises:
        TypeError: a seed, epoch or index that is no integer.
        ValueError: a negative index, or indices that are not one-dimensional.

    >>> draws = SampleDraws(seed=0, epoch=3, indices=[10, 11, 12])
    >>> draws.uniform("angle", high=2 * math.pi).shape, draws.normal("shift", (2,)).shape
    (torch.Size([3]), torch.Size([3, 2]))
    >>> alone = SampleDraws(seed=0, epoch=3, indices=[12])
    >>> bool(alone.normal("shift", (2,))[0].equal(draws.normal("shift", (2,))[2]))
    True
    """

    def __init__(self, seed: int, epoch: int, indices: Tensor | Sequence[int]) -> None:
        self.seed = _integer("seed", seed)
        self.epoch = _integer("epoch", epoch)
        self.indices = _sample_numbers(indices)
        self._rows: NDArray[np.int64] = self.indices.numpy()

    def __len__(self) -> int:
        return len(self._rows)

    def __repr__(self) -> str:
        return f"SampleDraws(seed={self.seed}, epoch={self.epoch}, samples={len(self)})"

    def uniform(
        self,
        name: str,
        shape: Sequence[int] = (),
        low: float = 0.0,
        high: float = 1.0,
        *,
        dtype: torch.dtype = torch.float32,
    ) -> Tensor:
        """Uniform numbers, low <= value < high: (B, *shape) on the CPU.

        Drawn in float64 on a lattice of 2^53 steps; in float32 they are rounded, which may reach `high`.

        Raises:
            ValueError: an empty name, a negative size, bounds that are not finite or not in order, a dtype
                other than float32 and float64.

        >>> SampleDraws(0, 0, range(1000)).uniform("angle", low=-1, high=1).abs().max() <= 1
        tensor(True)
        """
        _check_dtype(dtype)
        if not (low <= high and math.isfinite(high - low)):
            raise ValueError(f"low, high: expected finite numbers, low <= high, got {low!r} and {high!r}")
        unit = (self._words("uniform", name, shape) >> np.uint64(11)).astype(np.float64) * 2.0**-53
        # The sum may round to high, which the interval does not hold.
        values = np.minimum(low + (high - low) * unit, math.nextafter(high, low))
        return torch.from_numpy(values).to(dtype)

    def normal(self, name: str, shape: Sequence[int] = (), *, dtype: torch.dtype = torch.float32) -> Tensor:
        """Normal numbers of mean 0 and standard deviation 1: (B, *shape) on the CPU, drawn in float64.

        One word a number, through the inverse of the normal distribution function; none exceeds 8.2 in size.

        Raises:
            ValueError: an empty name, a negative size, a dtype other than float32 and float64.

        >>> SampleDraws(0, 0, [4]).normal("noise", (2, 3)).shape
        torch.Size([1, 2, 3])
        """
        _check_dtype(dtype)
        # Centres of 2^52 cells: the last, 1 - 2^-53, is still below 1, where the inverse is infinite.
        centres = ((self._words("normal", name, shape) >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52
        return torch.special.ndtri(torch.from_numpy(centres)).to(dtype)

    def integers(self, name: str, low: int, high: int, shape: Sequence[int] = ()) -> Tensor:
        """Integers, low <= value < high, equally likely up to a share of 2^-32: int64 (B, *shape), CPU.

        Raises:
            TypeError: a bound that is no integer.
            ValueError: an empty name, a negative size, no integer between the bounds, more than 2^32 of them,
                or bounds beyond int64.

        >>> sorted(set(SampleDraws(0, 0, range(100)).integers("turn", 0, 4).tolist()))
        [0, 1, 2, 3]
        """
        low, high = _integer("low", low), _integer("high", high)
        if not 0 < high - low <= 2**32:
            raise ValueError(f"low, high: expected 1 to 2^32 integers low .. high - 1, got {low} and {high}")
        if low < -(2**63) or high > 2**63:
            raise ValueError(f"low, high: expected numbers of 64 bits, got {low} and {high}")
        words, span = self._words("integers", name, shape), np.uint64(high - low)
        # floor(word * span / 2^64), from halves of 32 bits, so that no product overflows.
        half = np.uint64(32)
        upper, lower = words >> half, words & np.uint64(2**32 - 1)
        offsets = (upper * span + (lower * span >> half)) >> half
        return torch.from_numpy(offsets.astype(np.int64) + np.int64(low))

    def _words(self, kind: str, name: str, shape: Sequence[int]) -> Words:
        if not isinstance(name, str) or not name:
            raise ValueError(f"name: expected a non-empty string, got {name!r}")
        sizes = tuple(_integer("shape", size) for size in shape)
        if any(size < 0 for size in sizes):
            raise ValueError(f"shape: expected no negative sizes, got {sizes}")
        words = philox_words(_key(self.seed, self.epoch, kind, name), self._rows, math.prod(sizes))
        return words.reshape(len(self), *sizes)


def epoch_order(seed: int, epoch: int, length: int) -> Tensor:
    """The shuffled order of an epoch: each of 0 .. length - 1 once, int64 (length,) on the CPU.

    A function of its arguments alone, with a generator of its own: no version of PyTorch or NumPy changes it.

    Raises:
        TypeError: an argument that is no integer.
        ValueError: a negative length.

    >>> epoch_order(seed=0, epoch=1, length=5).sort().values.tolist()
    [0, 1, 2, 3, 4]
    """
    return shuffled(seed, epoch, "", length)


def shuffled(seed: int, epoch: int, name: str, length: int) -> Tensor:
    """0 .. length - 1 in random order, one for every name: int64 (length,)."""
    seed, epoch, length = _integer("seed", seed), _integer("epoch", epoch), _integer("length", length)
    if length < 0:
        raise ValueError(f"length: expected no negative number, got {length}")
    words = philox_words(_key(seed, epoch, "order", name), np.zeros(1, dtype=np.int64), length)[0]
    # Stable, so that even equal words leave one order.
    return torch.from_numpy(np.argsort(words, kind="stable").astype(np.int64))


def _key(seed: int, epoch: int, kind: str, name: str) -> bytes:
    """12 bytes for one stream. Kinds hold no space, so different streams have different texts."""
    return hashlib.blake2b(
        f"{seed} {epoch} {kind} {name}".encode(errors="surrogatepass"), digest_size=12
    ).digest()


def _integer(name: str, value: int) -> int:
    if isinstance(value, bool):
        raise TypeError(f"{name}: expected an integer, got {value!r}")
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{name}: expected an integer, got {value!r}") from None


def _check_dtype(dtype: torch.dtype) -> None:
    if dtype not in _DTYPES:
        raise ValueError(f"dtype: expected torch.float32 or torch.float64, got {dtype}")


def _sample_numbers(indices: Tensor | Sequence[int]) -> Tensor:
    if isinstance(indices, Tensor):
        if indices.dtype != torch.int64:
            raise TypeError(f"indices: expected int64, got {indices.dtype}")
        # A copy: what the caller does with the tensor later must not change the draws.
        numbers = indices.detach().to("cpu", copy=True)
    else:
        numbers = torch.tensor([_integer("indices", index) for index in indices], dtype=torch.int64)
    if numbers.dim() != 1:
        raise ValueError(f"indices: expected one dimension (B,), got {tuple(numbers.shape)}")
    if len(numbers) and int(numbers.min()) < 0:
        raise ValueError(f"indices: expected none below 0, got {int(numbers.min())}")
    return numbers
