"""All elements of a finite group of matrices, by breadth-first search from its generators."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

LARGEST_ORDER = 100_000
"""Groups with more elements are not listed."""

LARGEST_NUMBERS = 2**25
"""Matrix entries that a list may hold: 256 MiB."""

SAME_ELEMENT = 1e-6
"""Matrices closer than this are one element; different ones of a group this small are further apart."""

FINGERPRINT = 6
"""How many random projections tell matrices apart."""


class MatrixClosure:
    """The finite group that orthogonal matrices (s, n, n) generate.

    Attributes:
        elements: all matrices (order, n, n), float64, the identity first, by increasing word length.
        distance: their word lengths (order,), where a letter is a generator or its inverse.

    Raises:
        ValueError: more than 10^5 elements, or more than 2^25 matrix entries, were found.

    >>> quarter = np.array([[[0.0, -1.0], [1.0, 0.0]]])
    >>> MatrixClosure(quarter).distance.tolist()
    [0, 1, 1, 2]
    """

    def __init__(self, generators: np.ndarray) -> None:
        n = generators.shape[-1]
        self._axes = np.random.default_rng(0).standard_normal((n * n, FINGERPRINT))
        most = min(LARGEST_ORDER, LARGEST_NUMBERS // n**2)
        letters = np.concatenate([generators, generators.transpose(0, 2, 1)])
        levels = [np.eye(n)[None]]
        trees = [cKDTree(self._fingerprints(levels[0]))]
        total = 1
        while len(levels[-1]):
            # An element of this level times a letter lies in the level before, in this one or in the next.
            near, next_level = trees[-2:], []
            for letter in letters:
                reached = levels[-1] @ letter
                points = self._fingerprints(reached)
                known = np.zeros(len(points), dtype=bool)
                for tree in near:
                    known |= np.isfinite(tree.query(points, distance_upper_bound=SAME_ELEMENT)[0])
                if known.all():
                    continue
                next_level.append(reached[~known])
                near = [*near, cKDTree(points[~known])]
                total += int((~known).sum())
                if total > most:
                    raise ValueError(
                        f"elements generate more than {most} matrices of size {n}: an infinite group, or one "
                        "too large to be listed"
                    )
            levels.append(np.concatenate(next_level) if next_level else np.zeros((0, n, n)))
            if next_level:
                trees = [trees[-1], cKDTree(self._fingerprints(levels[-1]))]
        self.elements = np.concatenate(levels)
        self.distance = np.repeat(np.arange(len(levels)), [len(level) for level in levels])
        for array in (self.elements, self.distance):
            array.setflags(write=False)
        self._tree = cKDTree(self._fingerprints(self.elements))

    def _fingerprints(self, matrices: np.ndarray) -> np.ndarray:
        """Random projections (count, 6) of matrices (count, n, n): far apart for different elements."""
        return np.asarray(matrices.reshape(len(matrices), -1) @ self._axes)

    def positions(self, matrices: np.ndarray, tolerance: float) -> np.ndarray:
        """Where matrices (count, n, n) stand in `elements`, (count,); raises ValueError for one further than
        `tolerance` (the largest entry) from each of them."""
        places = np.asarray(self._tree.query(self._fingerprints(matrices))[1])
        errors = np.abs(matrices - self.elements[places]).max(axis=(1, 2), initial=0.0)
        if not (errors <= tolerance).all():
            raise ValueError(
                f"g is none of the {len(self.elements)} elements: one differs from the nearest by "
                f"{errors.max():.1e}"
            )
        return places
