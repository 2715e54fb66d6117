"""The singular values of a constraint, in clusters of equal values."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

CLUSTER_TOLERANCE = 1e-9
"""Values closer than this multiple of the largest are one value: degenerate singular values must
share one response, or the projector depends on rounding and does not commute with the group."""


def cluster(values: np.ndarray, scale: float | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Distinct values and, for each input, the index of its value.

    Args:
        values: real (n,) or complex (n,).
        scale: what the tolerance 1e-9 is relative to, default the largest modulus.

    Returns:
        (distinct, index): distinct values ascending (complex ones by real, then imaginary part),
        each the mean of its members, and index (n,) with values ~ distinct[index].
    """
    if values.size == 0:
        return values.copy(), np.zeros(0, dtype=int)
    tolerance = CLUSTER_TOLERANCE * (float(np.abs(values).max()) if scale is None else scale)
    if np.iscomplexobj(values):
        real, real_index = cluster(values.real, tolerance / CLUSTER_TOLERANCE)
        imag, imag_index = cluster(values.imag, tolerance / CLUSTER_TOLERANCE)
        code, index = np.unique(real_index * imag.size + imag_index, return_inverse=True)
        return real[code // imag.size] + 1j * imag[code % imag.size], index
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    group = np.concatenate([[0], np.cumsum(np.diff(ordered) > tolerance)])
    means = np.bincount(group, ordered) / np.bincount(group)
    index = np.empty(values.size, dtype=int)
    index[order] = group
    return means, index


@dataclass(frozen=True, eq=False)
class Spectrum:
    """The singular values of the constraint on one block, ascending, in clusters.

    Behaves as the sequence of all singular values: `len(s)`, iteration and `np.asarray(s)` give
    them with their multiplicities.

    Attributes:
        values: distinct singular values, ascending, float64 (clusters,).
        multiplicities: how often each occurs, integers (clusters,).
        scale: the size of the operators. Rounding is measured against it where every singular value is
            nearly zero, as for the constraint of trivial representations.

    >>> Spectrum(np.array([0.0, 1.0]), np.array([3, 4]))
    Spectrum({0: 3, 1: 4})
    """

    values: np.ndarray
    multiplicities: np.ndarray
    scale: float = 0.0

    @property
    def singular_values(self) -> np.ndarray:
        """All singular values, ascending, with multiplicity (total,)."""
        return np.repeat(self.values, self.multiplicities)

    @property
    def tolerance(self) -> float:
        """How close two numbers must be to count as one singular value."""
        largest = float(self.values[-1]) if self.values.size else 0.0
        return CLUSTER_TOLERANCE * max(largest, self.scale)

    @property
    def zeros(self) -> int:
        """Multiplicity of the singular value 0: the dimension of the exactly equivariant maps."""
        small = self.values <= self.tolerance
        return int(self.multiplicities[small].sum())

    def __len__(self) -> int:
        return int(self.multiplicities.sum())

    def __iter__(self) -> Iterator[float]:
        return iter(self.singular_values.tolist())

    def __getitem__(self, index: int) -> float:
        return float(self.singular_values[index])

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
        return self.singular_values.astype(dtype or np.float64)

    def __repr__(self) -> str:
        pairs = zip(self.values, self.multiplicities, strict=True)
        return "Spectrum({" + ", ".join(f"{v:.6g}: {m}" for v, m in pairs) + "})"


def spectrum_of(
    values: np.ndarray, weights: np.ndarray | None = None, scale: float = 0.0
) -> tuple[Spectrum, np.ndarray]:
    """The spectrum of singular values (n,) with multiplicities `weights`, and each one's cluster index.

    The lowest cluster is set to exactly 0 where rounding put it within the tolerance of 0; `scale` is that
    of Spectrum.
    """
    weights = np.ones(values.size, dtype=int) if weights is None else weights
    values = np.abs(values)
    reference = max(float(values.max(initial=0.0)), scale)
    distinct, index = cluster(values, reference)
    if distinct.size and distinct[0] <= CLUSTER_TOLERANCE * reference:
        distinct[0] = 0.0
    counts = np.bincount(index, weights, minlength=distinct.size).round().astype(int)
    for array in (distinct, counts):
        array.setflags(write=False)
    return Spectrum(distinct, counts, scale), index
