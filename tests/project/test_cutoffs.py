"""Responses of the cut-offs to a spectrum."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from equikernels.group import CyclicGroup, Representation
from equikernels.project import EquivariantProjector, Hard, Smooth, Softness, Spectrum
from equikernels.project.spectrum import cluster, spectrum_of
from equikernels.testing.strategies import random_orthogonal


@st.composite
def spectra(draw: st.DrawFn) -> Spectrum:
    values = draw(st.lists(st.integers(0, 60), min_size=1, max_size=8, unique=True))
    counts = draw(st.lists(st.integers(1, 50), min_size=len(values), max_size=len(values)))
    return Spectrum(np.sort(np.array(values, dtype=float)) / 4, np.array(counts))


@given(spectra(), st.floats(0, 1))
def test_softness_keeps_exactly_its_share(spectrum: Spectrum, s: float) -> None:
    k = Softness(s).target_count(spectrum)
    kept = Softness(s).response(spectrum) @ spectrum.multiplicities
    assert kept == pytest.approx(k, abs=1e-9 * max(1, len(spectrum)))
    down = Softness(s, clusters="down").response(spectrum)
    up = Softness(s, clusters="up").response(spectrum)
    for f in (down, up):
        assert set(f.tolist()) <= {0.0, 1.0}
    assert down @ spectrum.multiplicities <= k + 1e-6
    assert up @ spectrum.multiplicities >= k - 1e-6
    assert (down <= up).all()


@given(spectra(), st.floats(0, 1), st.floats(0, 1))
def test_softness_is_monotone_and_continuous(spectrum: Spectrum, s: float, t: float) -> None:
    low, high = sorted((s, t))
    f, g = Softness(low).response(spectrum), Softness(high).response(spectrum)
    assert (f <= g + 1e-12).all()
    steepest = len(spectrum) / spectrum.multiplicities.min()
    assert (g - f).max() <= steepest * (high - low) + 1e-9


@given(spectra())
def test_softness_ends_are_strict_and_free(spectrum: Spectrum) -> None:
    for clusters in ("fraction", "down", "up"):
        strict = Softness(0, clusters=clusters).response(spectrum)
        np.testing.assert_array_equal(strict, (spectrum.values == 0).astype(float))
        np.testing.assert_array_equal(Softness(1, clusters=clusters).response(spectrum), 1.0)


@given(spectra(), st.floats(0, 20), st.floats(0.01, 5))
def test_smooth_follows_its_formula(spectrum: Spectrum, b: float, tau: float) -> None:
    expected = [1.0 if v < b else math.exp(-(v - b) / tau) for v in spectrum.values]
    np.testing.assert_allclose(Smooth(b, tau).response(spectrum), expected, rtol=1e-12)


def test_hard_treats_rounding_as_equality() -> None:
    """A singular value meant to be 1 is not kept by Hard(1), whichever way rounding pushed it."""
    spectrum, _ = spectrum_of(np.array([0.0, 1 - 1e-15, 1 + 1e-15, 2.0]))
    assert spectrum.multiplicities.tolist() == [1, 2, 1]
    assert Hard(1.0).response(spectrum).tolist() == [1, 0, 0]
    assert Hard(0.0).response(spectrum).tolist() == [0, 0, 0]
    assert Hard(math.inf).response(spectrum).tolist() == [1, 1, 1]


@given(st.lists(st.integers(0, 20), min_size=1, max_size=40), st.integers(0, 2**32 - 1))
def test_clusters_undo_rounding(values: list[int], seed: int) -> None:
    exact = np.array(values, dtype=float)
    noisy = exact + 1e-14 * max(values) * np.random.default_rng(seed).standard_normal(exact.size)
    spectrum, index = spectrum_of(np.abs(noisy))
    assert len(spectrum.values) == len(set(values))
    np.testing.assert_allclose(spectrum.values[index], exact, atol=1e-12)
    assert len(spectrum) == exact.size


def test_complex_eigenvalues_cluster_by_both_parts() -> None:
    values = np.array([1 + 1j, 1 - 1j, 1 + 1j + 1e-13, -1 + 1j, 2.0])
    distinct, index = cluster(values)
    assert distinct.size == 4
    assert index[0] == index[2]
    np.testing.assert_allclose(distinct[index], values, atol=1e-12)


def test_a_spectrum_reads_as_its_singular_values() -> None:
    spectrum = Spectrum(np.array([0.0, 1.5]), np.array([2, 3]))
    assert len(spectrum) == 5
    assert list(spectrum) == [0, 0, 1.5, 1.5, 1.5]
    assert np.asarray(spectrum).tolist() == list(spectrum)
    assert spectrum[-1] == 1.5
    assert repr(spectrum) == "Spectrum({0: 2, 1.5: 3})"


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: Hard(-1), ValueError, "cutoff must be a number >= 0"),
        (lambda: Hard(math.nan), ValueError, "cutoff"),
        (lambda: Hard("1"), TypeError, "cutoff must be a number"),
        (lambda: Smooth(1, 0), ValueError, "width must be a number > 0"),
        (lambda: Smooth(math.nan, 1), ValueError, "cutoff"),
        (lambda: Softness(1.1), ValueError, r"softness in \[0, 1\]"),
        (lambda: Softness(math.nan), ValueError, "softness"),
        (lambda: Softness(True), TypeError, "s must be a number"),
        (lambda: Softness(0.5, clusters="round"), ValueError, "clusters must be"),
    ],
)
def test_bad_cutoffs_are_named(call, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_rounding_of_a_constraint_that_vanishes_is_zero() -> None:
    """Trivial representations in another basis: every singular value is rounding, and all are one zero."""
    rep = Representation(CyclicGroup(3), [(0, 3)], random_orthogonal(3, 1))
    for method in ("spectral", "svd"):
        P = EquivariantProjector(rep, rep, Softness(0), method=method)
        assert P.spectrum.zeros == P.dimension == 9
