"""Coordinates of a real Schur basis: single ones and conjugate pairs, as the kernels read them."""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from equikernels.ops.tracing import is_traced

LARGEST_MODULUS = 1e150
"""Differences of larger eigenvalues could have squares beyond the numbers of float64."""


class BlockLayout:
    """Which coordinates are single and which belong together in pairs.

    Args:
        steps: from every coordinate to its partner: 0 for a single one, d and -d for the first and the second
            one of a pair, with the same d for all of them.

    Attributes:
        size: the number of coordinates.
        sizes: of the blocks, 1 or 2, in the order of their first coordinates.
        places: int32 (1, size, 3). Of every coordinate: the index of its block, and its step; entry k of the
            third column is the first coordinate of block k.
    """

    def __init__(self, steps: tuple[int, ...]) -> None:
        self.size = len(steps)
        step = np.array(steps, dtype=np.int64)
        starts = np.flatnonzero(step >= 0)
        self.sizes = tuple(np.where(step[starts] > 0, 2, 1).tolist())
        places = np.zeros((1, self.size, 3), dtype=np.int32)
        places[0, starts, 0] = np.arange(len(starts))
        second = np.flatnonzero(step < 0)
        places[0, second, 0] = places[0, second + step[second], 0]
        places[0, :, 1] = step
        places[0, : len(starts), 2] = starts
        self.places = torch.from_numpy(places)
        self._copies: dict[torch.device, Tensor] = {}

    def places_on(self, device: torch.device) -> Tensor:
        """`places` on a device, copied there once."""
        return _on(self.places, device, self._copies)


@lru_cache(maxsize=256)
def layout_of_steps(steps: tuple[int, ...]) -> BlockLayout:
    """The layout with these steps, the same object every time."""
    return BlockLayout(steps)


@lru_cache(maxsize=256)
def layout_of_sizes(sizes: tuple[int, ...]) -> BlockLayout:
    """The layout of blocks of these sizes whose coordinates are neighbours."""
    return layout_of_steps(tuple(step for size in sizes for step in ((0,) if size == 1 else (1, -1))))


class SchurBlocks:
    """The eigenvalues of a normal operator in real Schur form, checked and laid out for the kernels.

    Made by :func:`schur_blocks`. Not to be changed: two of them are equal if they are the same object.

    Attributes:
        layout: which coordinates are single and which are pairs.
        modes: float64 (1, size, 2), real and imaginary part of the eigenvalue of every coordinate.
    """

    def __init__(self, layout: BlockLayout, modes: Tensor) -> None:
        self.layout = layout
        self.modes = modes
        self.largest = float(torch.linalg.vector_norm(modes, dim=-1).max()) if layout.size else 0.0
        """The largest modulus of an eigenvalue."""
        self._copies: dict[torch.device, Tensor] = {}

    @property
    def sizes(self) -> tuple[int, ...]:
        """The sizes of the blocks, 1 or 2, in the order of their first coordinates."""
        return self.layout.sizes

    @property
    def size(self) -> int:
        """The number of coordinates."""
        return self.layout.size

    def modes_on(self, device: torch.device) -> Tensor:
        """`modes` on a device, copied there once."""
        return _on(self.modes, device, self._copies)

    def __repr__(self) -> str:
        pairs = self.sizes.count(2)
        return f"SchurBlocks({self.size} coordinates: {pairs} pairs, {len(self.sizes) - pairs} single)"


def schur_blocks(eigenvalues: Any, distance: int = 1) -> SchurBlocks:
    """The blocks of a normal operator in real Schur form, from its eigenvalues in the order of coordinates.

    The operator has blocks [a] and [[a, -b], [b, a]]. A single coordinate has the eigenvalue a, the first one
    of a pair a + ib and the second one a - ib, where b may have either sign. The two coordinates of a pair
    are `distance` apart: neighbours by default, and with a distance of p for instance p first coordinates,
    their p second ones, and then single ones. Pairs and single coordinates may come in any order.

    Args:
        eigenvalues: (m,), a tensor or a NumPy array, complex or real: one per coordinate. One that is not
            real has its exact conjugate `distance` further on. They are constants: no gradient goes to them.
            Their values are read, so call this outside of torch.compile and torch.func.vmap.
        distance: >= 1, from the first to the second coordinate of every pair.

    Returns:
        SchurBlocks, which `schur_project` and `schur_scale` take for either side. It keeps a copy for every
        device it is used on. Its blocks are counted in the order of their first coordinates.

    Raises:
        TypeError: not an array of real or complex numbers, or a distance that is no integer.
        ValueError: not one-dimensional, not finite, larger than 1e150 in modulus, requiring a gradient, a
            distance below 1, or an eigenvalue that is not real without its conjugate at that distance.

    >>> schur_blocks(torch.tensor([2j, -2j, 1.0]))
    SchurBlocks(3 coordinates: 1 pairs, 1 single)
    >>> schur_blocks(np.array([0.0, 1 - 1j, 3j, 1 + 1j, -3j]), distance=2).sizes
    (1, 2, 2)
    """
    if isinstance(distance, bool) or not isinstance(distance, numbers.Integral):
        raise TypeError(f"distance: expected an integer, got {type(distance).__name__}")
    if distance < 1:
        raise ValueError(f"distance: expected at least 1, got {distance}")
    values = _checked_values(eigenvalues)
    steps = [0] * len(values)
    for at in np.flatnonzero(values.imag != 0).tolist():
        if steps[at] != 0:
            continue
        partner = at + int(distance)
        inside = partner < len(values)
        if not inside or values[partner] != values[at].conjugate():
            raise ValueError(
                f"eigenvalues: expected the conjugate of entry {at}, {values[at]}, at entry {partner}, "
                f"got {f'{values[partner]}' if inside else f'{len(values)} entries'}"
            )
        steps[at], steps[partner] = int(distance), -int(distance)
    modes = torch.from_numpy(np.stack([values.real, values.imag], axis=-1)[None])
    return SchurBlocks(layout_of_steps(tuple(steps)), modes)


def as_blocks(name: str, eigenvalues: Any) -> SchurBlocks:
    """Blocks of what a user gave as `name`."""
    if isinstance(eigenvalues, SchurBlocks):
        return eigenvalues
    try:
        return schur_blocks(eigenvalues)
    except (TypeError, ValueError) as error:
        message = str(error).replace("eigenvalues:", f"{name}:", 1)
        raise type(error)(message) from None


def as_layout(name: str, blocks: Any) -> BlockLayout:
    """The layout of SchurBlocks, or of a sequence of sizes."""
    if isinstance(blocks, SchurBlocks):
        return blocks.layout
    if not isinstance(blocks, Sequence) or isinstance(blocks, str):
        raise TypeError(f"{name}: expected SchurBlocks or a sequence of sizes, got {type(blocks).__name__}")
    for size in blocks:
        if isinstance(size, bool) or size not in (1, 2):
            raise ValueError(f"{name}: expected sizes 1 and 2, got {size!r}")
    return layout_of_sizes(tuple(int(size) for size in blocks))


def _checked_values(eigenvalues: Any) -> np.ndarray:
    if isinstance(eigenvalues, Tensor):
        if eigenvalues.requires_grad:
            raise ValueError("eigenvalues: expected constants, got a tensor that requires a gradient")
        eigenvalues = eigenvalues.detach().resolve_conj().resolve_neg().cpu()
        if eigenvalues.dtype == torch.bfloat16:
            eigenvalues = eigenvalues.float()
        eigenvalues = eigenvalues.numpy()
    if not isinstance(eigenvalues, np.ndarray):
        raise TypeError(f"eigenvalues: expected a tensor or an array, got {type(eigenvalues).__name__}")
    if eigenvalues.dtype.kind not in "iufc":
        raise TypeError(f"eigenvalues: expected real or complex numbers, got {eigenvalues.dtype}")
    if eigenvalues.ndim != 1:
        raise ValueError(f"eigenvalues: expected shape (m,), got {eigenvalues.shape}")
    values = eigenvalues.astype(np.complex128)
    wrong = values[~np.isfinite(values)]
    if wrong.size:
        raise ValueError(f"eigenvalues: expected finite numbers, got {wrong[0]}")
    if values.size and np.hypot(values.real, values.imag).max() > LARGEST_MODULUS:
        raise ValueError(
            f"eigenvalues: expected moduli up to {LARGEST_MODULUS:g}, got {np.abs(values).max():g}"
        )
    return values


def _on(constant: Tensor, device: torch.device, copies: dict[torch.device, Tensor]) -> Tensor:
    if constant.device == device:
        return constant
    if device in copies:
        return copies[device]
    copy = constant.to(device)
    # What a tracer hands out is no constant outside of it.
    if not is_traced(copy):
        copies[device] = copy
    return copy
