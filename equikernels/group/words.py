"""Words in the generators of a finite group: the Cayley graph, distances, canonical shortest words.

A letter is +k for the k-th of `group.discrete_elements` (counted from 1) and -k for its inverse. A word
is a tuple of letters; it spells the product of its letters from left to right.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Any, NamedTuple

import numpy as np

from equikernels.group.group import Element, Group

LARGEST_ORDER = 1_000_000
"""Groups with more elements are not listed one by one."""

COMPILE_FROM = 10_000
"""Edges of the Cayley graph from which compiling the search (about a second, once) pays off."""

CACHED_GROUPS = 16


class SearchTree(NamedTuple):
    """The breadth-first tree of the Cayley graph: for each element, in the order of `elements()`,
    its distance from the identity, the element before it and the column of the letter between them."""

    distance: np.ndarray
    parent: np.ndarray
    column: np.ndarray


def cayley_table(group: Group) -> np.ndarray:
    """The Cayley graph: integers (order, 2 * generators), the position of g s for each letter s.

    Rows and values count elements in the order of `group.elements()`. The columns are the letters in
    their order +1, -1, +2, -2, ...

    Raises:
        ValueError: the group is infinite or has more than 10^6 elements.
        TypeError: its elements cannot be numbered.

    >>> from equikernels.group import CyclicGroup
    >>> cayley_table(CyclicGroup(4)).tolist()
    [[1, 3], [2, 0], [3, 1], [0, 2]]
    """
    _lookup(group)
    elements = group.elements()
    columns = []
    for s in group.discrete_elements:
        for letter in (s, group.inverse(s)):
            columns.append(element_index(group, group.compose(elements, letter)))
    return np.stack(columns, axis=1)


def element_index(group: Group, g: Any) -> np.ndarray:
    """Positions of elements in the order of `group.elements()`: int64 of their batch shape (...)."""
    radices, codes, positions = _lookup(group)
    checked = group.check(g)
    code = _rows(group, checked) @ radices
    place = np.minimum(np.searchsorted(codes, code), len(codes) - 1)
    if not np.array_equal(codes[place], code):
        raise ValueError(f"{group!r} does not list all of its elements")
    return np.asarray(positions[place].reshape(tuple(group.batch_shape(checked))))


def word_lengths(group: Group) -> np.ndarray:
    """The breadth-first distance of every element from the identity: int32 (order,), read-only.

    In the order of `group.elements()`; raises as `cayley_table` does.

    >>> from equikernels.group import DihedralGroup
    >>> word_lengths(DihedralGroup(3)).tolist()
    [0, 1, 1, 1, 2, 2]
    """
    return _search(group).distance


def canonical_word(group: Group, g: Any) -> tuple[int, ...]:
    """The shortest word for one element that comes first in the letter order +1, -1, +2, -2, ...

    The product of its letters is `g`; the identity has the empty word. Raises ValueError for a batch,
    and as `cayley_table` does.

    >>> from equikernels.group import DihedralGroup
    >>> canonical_word(DihedralGroup(5), 4), canonical_word(DihedralGroup(5), 7)
    ((-1,), (1, 1, 2))
    """
    if tuple(group.batch_shape(group.check(g))) != ():
        raise ValueError(f"g must be one element of {group!r}, got a batch")
    tree = _search(group)
    position = int(element_index(group, g))
    word = []
    while tree.distance[position]:
        column = int(tree.column[position])
        word.append(-(column // 2 + 1) if column % 2 else column // 2 + 1)
        position = int(tree.parent[position])
    return tuple(reversed(word))


def word_product(group: Group, word: Sequence[int]) -> Element:
    """The element that a word spells; raises ValueError for a letter the group has not.

    >>> from equikernels.group import DihedralGroup
    >>> int(word_product(DihedralGroup(5), (1, 1, 2)))
    7
    """
    generators = group.discrete_elements
    product = group.identity
    for letter in word:
        if not 1 <= abs(letter) <= len(generators):
            raise ValueError(f"letters of {group!r} are +-1 .. +-{len(generators)}, got {letter!r}")
        s = generators[abs(letter) - 1]
        product = group.compose(product, s if letter > 0 else group.inverse(s))
    return product


@lru_cache(maxsize=CACHED_GROUPS)
def _search(group: Group) -> SearchTree:
    table = cayley_table(group)
    root = int(element_index(group, group.identity))
    search = _compiled_search() if table.size >= COMPILE_FROM else breadth_first
    tree = SearchTree(*search(table, root))
    if (tree.distance < 0).any():
        raise ValueError(f"the discrete generators of {group!r} do not generate it: it has no words")
    for array in tree:
        array.setflags(write=False)
    return tree


def breadth_first(table: np.ndarray, root: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distances from the root, -1 where none leads, with the tree of lexicographically first paths.

    The queue holds each level in the lexicographic order of its canonical words, by induction: a prefix
    of a canonical word is canonical, so the first element to reach another one has its smallest prefix.
    """
    order, letters = table.shape
    distance = np.full(order, -1, np.int32)
    parent = np.full(order, -1, np.int32)
    column = np.full(order, -1, np.int32)
    queue = np.empty(order, np.int32)
    queue[0] = root
    distance[root] = 0
    head, tail = 0, 1
    while head < tail:
        here = queue[head]
        head += 1
        for letter in range(letters):
            there = table[here, letter]
            if distance[there] < 0:
                distance[there] = distance[here] + 1
                parent[there] = here
                column[there] = letter
                queue[tail] = there
                tail += 1
    return distance, parent, column


@cache
def _compiled_search() -> Any:
    # Imported here: numba takes longer to import than everything else that groups need.
    import numba

    return numba.njit(breadth_first)


@lru_cache(maxsize=CACHED_GROUPS)
def _lookup(group: Group) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How elements are found: radices that make one number of each, those numbers sorted, their positions."""
    if group.order is None:
        raise ValueError(f"{group!r} is infinite: it has no Cayley graph to search")
    if group.order > LARGEST_ORDER:
        raise ValueError(f"{group!r} has {group.order} elements; words are found for at most {LARGEST_ORDER}")
    rows = _rows(group, group.elements())
    digits = [int(largest) + 1 for largest in rows.max(axis=0)]
    if math.prod(digits) > np.iinfo(np.int64).max:
        raise ValueError(f"elements of {group!r} are too long to be numbered in 64 bits")
    radices = np.array([math.prod(digits[i + 1 :]) for i in range(len(digits))], dtype=np.int64)
    codes = rows @ radices
    positions = np.argsort(codes, kind="stable")
    return radices, codes[positions], positions


def _rows(group: Group, g: Element) -> np.ndarray:
    """Checked elements as rows of integers (count, numbers in one element)."""
    return group.numbers(g).reshape(group.batch_shape(g).numel(), -1).cpu().numpy()
