"""Cut-offs: how much of each singular value of the constraint a projection keeps.

A cut-off turns a spectrum into one response f per cluster, between 0 and 1. The projection keeps the
part of a weight with singular value sigma times f(sigma).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from torch import Tensor

from equikernels.project.spectrum import Spectrum


class Cutoff(Protocol):
    """Anything with a response to a spectrum."""

    def response(self, spectrum: Spectrum) -> np.ndarray | Tensor:
        """f for each distinct singular value, float64 (clusters,), each in [0, 1].

        A float64 tensor with a gradient makes projections differentiable in the cut-off.
        """


def _number(name: str, value: object, low: float, high: float, expected: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{name} must be a number, got {value!r}")
    number = float(value)
    if math.isnan(number) or not low <= number <= high:
        raise ValueError(f"{name} must be {expected}, got {number}")
    return number


@dataclass(frozen=True)
class Hard:
    """f = 1 for sigma < cutoff, else 0: an orthogonal projection.

    A singular value within the cluster tolerance of the cut-off counts as equal to it, so not kept.

    >>> Hard(1.5).response(Spectrum(np.array([0.0, 1.0, 2.0]), np.array([3, 4, 2]))).tolist()
    [1.0, 1.0, 0.0]
    """

    cutoff: float

    def __post_init__(self) -> None:
        _number("cutoff", self.cutoff, 0.0, math.inf, "a number >= 0")

    def response(self, spectrum: Spectrum) -> np.ndarray:
        return (spectrum.values < self.cutoff - spectrum.tolerance).astype(float)


@dataclass(frozen=True)
class Smooth:
    """f = 1 for sigma < cutoff, exp(-(sigma - cutoff) / width) above: continuous in sigma.

    >>> Smooth(1.0, 0.5).response(Spectrum(np.array([0.0, 1.5]), np.array([1, 1]))).round(4).tolist()
    [1.0, 0.3679]
    """

    cutoff: float
    width: float

    def __post_init__(self) -> None:
        _number("cutoff", self.cutoff, 0.0, math.inf, "a number >= 0")
        _number("width", self.width, 5e-324, math.inf, "a number > 0")

    def response(self, spectrum: Spectrum) -> np.ndarray:
        above = np.maximum(spectrum.values - self.cutoff, 0.0)
        # A cut-off at infinity keeps everything: inf - inf never arises because `above` is 0 then.
        return np.asarray(np.exp(-above / self.width))

    @staticmethod
    def at_softness(spectrum: Spectrum, s: float, width: float) -> Smooth:
        """The smooth cut-off whose border is the singular value at the count that a softness s names."""
        count = Softness(s).target_count(spectrum)
        index = min(max(math.ceil(count), 1), len(spectrum)) - 1
        return Smooth(spectrum[index], width)


@dataclass(frozen=True)
class ReleasedSmooth:
    """f = 1 for sigma < cutoff, exp(-sigma / width) above: the published code's variant, for comparison.

    It jumps at the cut-off, unlike Smooth.

    >>> ReleasedSmooth(1.0, 0.5).response(Spectrum(np.array([0.0, 1.5]), np.array([1, 1]))).round(4).tolist()
    [1.0, 0.0498]
    """

    cutoff: float
    width: float

    def __post_init__(self) -> None:
        _number("cutoff", self.cutoff, 0.0, math.inf, "a number >= 0")
        _number("width", self.width, 5e-324, math.inf, "a number > 0")

    def response(self, spectrum: Spectrum) -> np.ndarray:
        below = spectrum.values < self.cutoff - spectrum.tolerance
        return np.where(below, 1.0, np.exp(-spectrum.values / self.width))


@dataclass(frozen=True)
class BlockSmooth:
    """The published smooth rule of whole Schur blocks, for method="schur" alone: it follows no spectrum.

    A block whose two sides share their eigenvalues becomes s M + (1 - s) Q(M), every other one is multiplied
    by exp(-kappa |lambda_out - lambda_in| / s) with the moduli lambda of the eigenvalues; s = 0 removes it.

    Args:
        s: softness in [0, 1].
        kappa: decay, > 0.
    """

    s: float
    kappa: float = 1.0

    def __post_init__(self) -> None:
        _number("s", self.s, 0.0, 1.0, "a softness in [0, 1]")
        _number("kappa", self.kappa, 5e-324, math.inf, "a number > 0")

    def decay(self, distance: np.ndarray) -> np.ndarray:
        """The factor of blocks that do not match, at a distance |lambda_out - lambda_in|."""
        if self.s == 0:
            return np.zeros_like(distance)
        return np.asarray(np.exp(-self.kappa * distance / self.s))

    def response(self, spectrum: Spectrum) -> np.ndarray:
        raise ValueError(
            'BlockSmooth is a rule of whole blocks, no response to a spectrum: use method="schur"'
        )


@dataclass(frozen=True)
class Softness:
    """Keep a share s of the directions that break the symmetry: s = 0 is strict, s = 1 the identity.

    With N singular values, k0 of them zero, the target count is k = k0 + (N - k0) s. Clusters wholly
    below k get weight 1, clusters above 0.

    Args:
        s: in [0, 1].
        clusters: what the cluster that contains k gets. "fraction": the share of it below k, so that
            the response is continuous in s; "down" or "up": 0 or 1, a true projection.

    >>> Softness(0.5).response(Spectrum(np.array([0.0, 1.0, 2.0]), np.array([3, 4, 2]))).tolist()
    [1.0, 0.75, 0.0]
    """

    s: float
    clusters: str = "fraction"

    def __post_init__(self) -> None:
        _number("s", self.s, 0.0, 1.0, "a softness in [0, 1]")
        if self.clusters not in ("fraction", "down", "up"):
            raise ValueError(f'clusters must be "fraction", "down" or "up", got {self.clusters!r}')

    def target_count(self, spectrum: Spectrum) -> float:
        """k = k0 + (N - k0) s, not rounded."""
        return spectrum.zeros + (len(spectrum) - spectrum.zeros) * float(self.s)

    @staticmethod
    def released_count(spectrum: Spectrum, s: float) -> int:
        """The count k0 + floor((N - k0 - 1) s) of the published code, for comparison."""
        k0 = spectrum.zeros
        return k0 + math.floor((len(spectrum) - k0 - 1) * s)

    def response(self, spectrum: Spectrum) -> np.ndarray:
        k = self.target_count(spectrum)
        sizes = spectrum.multiplicities
        starts = np.cumsum(sizes) - sizes
        # Counts are sums of products: k may miss a cluster border by rounding alone.
        share = np.clip((k - starts) / sizes, 0.0, 1.0)
        share = np.where(share < 1e-12, 0.0, np.where(share > 1 - 1e-12, 1.0, share))
        if self.clusters == "down":
            return np.floor(share)
        if self.clusters == "up":
            return np.ceil(share)
        return share
