"""Index maps of a finite group on rows and columns, checked once."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from equikernels.ops.tracing import is_traced


class IndexMaps:
    """How the elements of a finite group permute the rows and the columns of a block.

    Element g acts on vectors by (rho(g) x)[i] = x[sources[g, i]]. All checks and everything that
    `group_average` needs to know beyond the maps are done here, once; an object never changes.

    Args:
        sources_out: int64 (order, m), the index maps on rows.
        sources_in: int64 (order, n), those of the same elements on columns. Element 0 is the identity.

    Elements may act alike on rows and columns together: each action must then come equally often.

    Raises:
        TypeError: something else than int64 tensors.
        ValueError: wrong shapes, a map that is no permutation, an element 0 that is not the identity, or maps
            that are no group: a product or an inverse is missing, or comes more often than others.

    >>> swap = torch.tensor([[0, 1], [1, 0]])
    >>> maps = IndexMaps(swap, torch.zeros(2, 3, dtype=torch.int64) + torch.arange(3))
    >>> maps.order, maps.shape, maps.inverse.tolist()
    (2, (2, 3), [0, 1])
    """

    def __init__(self, sources_out: Tensor, sources_in: Tensor) -> None:
        out, inn = _checked("sources_out", sources_out), _checked("sources_in", sources_in)
        if len(out) != len(inn):
            raise ValueError(f"sources_in: expected {len(out)} maps, as many as sources_out, got {len(inn)}")
        table = torch.from_numpy(_quotients(np.concatenate([out, inn + out.shape[1]], axis=1)))
        self._shape = (out.shape[1], inn.shape[1])
        tensors = (torch.from_numpy(out.copy()), torch.from_numpy(inn.copy()), table)
        self._on: dict[str, tuple[Tensor, ...]] = {"cpu": tuple(x.unsqueeze(0) for x in tensors)}

    @property
    def order(self) -> int:
        """The number of elements."""
        return self._on["cpu"][0].shape[1]

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n): rows and columns of a block."""
        return self._shape

    @property
    def sources_out(self) -> Tensor:
        """A copy of the maps on rows (order, m)."""
        return self._on["cpu"][0][0].clone()

    @property
    def sources_in(self) -> Tensor:
        """A copy of the maps on columns (order, n)."""
        return self._on["cpu"][1][0].clone()

    @property
    def inverse(self) -> Tensor:
        """The place of the inverse of every element (order,)."""
        return self._on["cpu"][2][0, 0].clone()

    def on(self, device: torch.device) -> tuple[Tensor, ...]:
        """Maps on rows and columns and the places of a b^-1, each (1, order, ...), kept for each device."""
        kept = self._on.get(str(device))
        if kept is None:
            kept = tuple(x.to(device) for x in self._on["cpu"])
            # What a tracer sees must not outlive it.
            if not is_traced(*kept):
                self._on[str(device)] = kept
        return kept

    def __repr__(self) -> str:
        return f"IndexMaps(order {self.order}, blocks {self._shape[0]} x {self._shape[1]})"


def _checked(name: str, sources: Any) -> np.ndarray:
    if not isinstance(sources, Tensor):
        raise TypeError(f"{name}: expected a tensor, got {type(sources).__name__}")
    if sources.dtype != torch.int64:
        raise TypeError(f"{name}: expected int64, got {sources.dtype}")
    if sources.dim() != 2 or len(sources) == 0:
        raise ValueError(f"{name}: expected shape (order, places), got {tuple(sources.shape)}")
    maps: np.ndarray = sources.detach().cpu().numpy()
    straight = np.arange(maps.shape[1])
    wrong = np.flatnonzero((np.sort(maps, axis=1) != straight).any(axis=1))
    if len(wrong):
        raise ValueError(
            f"{name}: expected permutations of 0 .. {len(straight) - 1}, got another map at {wrong[0]}"
        )
    if (maps[0] != straight).any():
        raise ValueError(f"{name}: expected the identity at element 0, got another permutation")
    return maps


def _quotients(joint: np.ndarray) -> np.ndarray:
    """The place of a b^-1 for all a and b (order, order), from maps on rows and columns together.

    Of several elements that act alike, the r-th as a divisor belongs to the r-th as a quotient: whatever is
    summed over all elements is the same for every one-to-one choice.
    """
    members: dict[bytes, list[int]] = {}
    for place, row in enumerate(joint):
        members.setdefault(row.tobytes(), []).append(place)
    if len({len(places) for places in members.values()}) > 1:
        raise ValueError("maps: expected every action equally often, got some more often than others")
    actions = list(members.values())
    # s_(g h) = s_h s_g, so the map of a b^-1 is that of a followed by the inverse of that of b.
    undone = np.argsort(joint, axis=1)
    table = np.empty((len(joint), len(joint)), dtype=np.int64)
    for above in actions:
        products = undone[:, joint[above[0]]]
        for below in actions:
            quotient = members.get(products[below[0]].tobytes())
            if quotient is None:
                raise ValueError(
                    f"maps: expected a group, got none: element {above[0]} after the inverse of element "
                    f"{below[0]} is not among them"
                )
            table[np.ix_(above, below)] = quotient
    return table
