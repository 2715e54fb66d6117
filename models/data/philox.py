"""Philox4x32-10: a random number generator without a state, random words as a function of their counter.

J. Salmon, M. Moraes, R. Dror, D. Shaw: "Parallel random numbers: as easy as 1, 2, 3", SC 2011. A key picks
one of the permutations of the 128-bit counters; what a counter is mapped to are its random bits.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["philox_words"]

Words = NDArray[np.uint64]

_ROUNDS = 10
_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)


def philox_4x32(counter: tuple[Words, Words, Words, Words], key: tuple[int, int]) -> tuple[Words, ...]:
    """The four random words of every counter, all of 32 bits, held in uint64; arrays broadcast.

    >>> zero = np.zeros(1, dtype=np.uint64)
    >>> [f"{int(word[0]):08x}" for word in philox_4x32((zero, zero, zero, zero), (0, 0))]
    ['6627e8d5', 'e169c58d', 'bc57ac4c', '9b00dbd8']
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(_ROUNDS):
        # The product of two words of 32 bits fits 64: its halves are the "high" and "low" of the paper.
        first, second = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1, c2, c3 = (
            (second >> _HALF) ^ c1 ^ np.uint64(k0),
            second & _LOW,
            (first >> _HALF) ^ c3 ^ np.uint64(k1),
            first & _LOW,
        )
        k0, k1 = (k0 + _KEY_STEPS[0]) & 0xFFFFFFFF, (k1 + _KEY_STEPS[1]) & 0xFFFFFFFF
    return c0, c1, c2, c3


def philox_words(key: bytes, rows: NDArray[np.int64], count: int) -> Words:
    """`count` random words of 64 bits for every row number: uint64 (len(rows), count).

    A row depends on its own number alone, and its first words do not depend on `count`.

    Args:
        key: 12 bytes.
        rows: non-negative int64 (B,).
        count: words a row, at most 2^33.

    >>> both = philox_words(bytes(12), np.array([5, 7]), 3)
    >>> alone = philox_words(bytes(12), np.array([7]), 2)
    >>> bool((both[1, :2] == alone[0]).all())
    True
    """
    k0, k1, domain = (int.from_bytes(key[start : start + 4], "little") for start in (0, 4, 8))
    numbers = rows.astype(np.uint64)[:, None]
    blocks = np.arange((count + 1) // 2, dtype=np.uint64)[None]
    counter = (blocks, numbers & _LOW, numbers >> _HALF, np.full((1, 1), domain, dtype=np.uint64))
    a, b, c, d = philox_4x32(counter, (k0, k1))
    words = np.stack((a | (b << _HALF), c | (d << _HALF)), axis=-1)
    return words.reshape(len(rows), 2 * blocks.size)[:, :count]
