"""Features in the bases of their types: what belongs to one type side by side."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from equikernels.ops.bases import OrbitTransform, orbit_transform
from equikernels.ops.linear.projection import Side


class Slabs:
    """The order of features (..., channels * dim) in which each type is one contiguous run.

    Within the run of a type come its dim coordinates, in each the channels, in each the copies: so that one
    coordinate of all copies in all channels is a run too.

    Args:
        side: basis and types.
        channels: copies of the whole side.

    Attributes:
        runs: the slice of every type.
        places: where coordinate k of channel c is, integers (channels, dim).
        order: the whole way there where one pass can do it, or the order alone after a change of basis; None
            where nothing moves.
    """

    def __init__(self, side: Side, channels: int) -> None:
        self.side, self.channels = side, channels
        runs, start = [], 0
        for coordinates in side.types:
            size = coordinates.size * channels
            runs.append(slice(start, start + size))
            start += size
        self.runs = tuple(runs)
        self.places = self._find_places()
        self.order = self._find_order()

    def _find_places(self) -> np.ndarray:
        places = np.empty((self.channels, self.side.dim), dtype=np.int64)
        for run, coordinates in zip(self.runs, self.side.types, strict=True):
            d, copies = coordinates.shape
            inside = np.arange(run.start, run.stop).reshape(d, self.channels, copies)
            for axis in range(d):
                places[:, coordinates[axis]] = inside[axis]
        return places

    def _find_order(self) -> OrbitTransform | None:
        basis = self.side.basis
        channel_major = np.arange(self.places.size).reshape(self.places.shape)
        if basis.kind == "orbits":
            return basis.stages[0].copies(channel_major, self.places)
        if np.array_equal(self.places, channel_major):
            return None
        order = OrbitTransform.of_matrix(np.eye(self.side.dim))
        assert order is not None
        return order.copies(channel_major, self.places)

    def analyse(self, x: Tensor) -> Tensor:
        """Features (..., channels * dim) of the layer, channel-major, in slabs; differentiable."""
        basis = self.side.basis
        if basis.kind != "orbits":
            x = basis.analyse(x.unflatten(-1, (self.channels, self.side.dim))).flatten(-2)
        return x if self.order is None else orbit_transform(x, self.order)

    def synthesise(self, y: Tensor) -> Tensor:
        """The way back; differentiable."""
        basis = self.side.basis
        y = y if self.order is None else orbit_transform(y, self.order, inverse=True)
        if basis.kind == "orbits":
            return y
        return basis.synthesise(y.unflatten(-1, (self.channels, self.side.dim))).flatten(-2)
