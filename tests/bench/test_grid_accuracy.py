"""The measures of grid accuracy on pictures whose turns are known, and the page that they fill."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from bench.accuracy import disc, number, relative_error
from bench.grid_accuracy import Accuracy, make_page, measure, overshoot, ranking
from bench.grid_figures import chosen_modes, grid_modes, spectral_modes_figure
from bench.grid_pictures import (
    FACTOR,
    METHODS,
    Pictures,
    bilinear,
    enlarge,
    fade,
    mnist_digits,
    reduce_blocks,
    smooth_digits,
    spline,
    turned_reference,
)

RNG = np.random.default_rng(0)


def blob_pictures(side: int = 12) -> Pictures:
    """A Gaussian off the centre, on the fine grid."""
    axis = (np.arange(side * FACTOR) - (side * FACTOR - 1) / 2) / FACTOR
    fine = np.exp(-((axis - 1.0) ** 2 + (axis[:, None] + 2.0) ** 2) / 6)
    return Pictures("blobs", "a formula", fine[None])


@pytest.mark.parametrize("name", METHODS)
def test_every_method_turns_counter_clockwise_by_degrees(name: str) -> None:
    images = RNG.random((3, 7, 7))
    np.testing.assert_allclose(METHODS[name](images, 90.0), np.rot90(images, 1, (1, 2)), atol=1e-12)
    # Smooth content turns alike by every method, to their own accuracy.
    smooth = blob_pictures().images
    expected = turned_reference(blob_pictures().fine, 30.0)
    assert relative_error(METHODS[name](smooth, 30.0), expected, disc(12)) < 0.06
    assert relative_error(METHODS[name](smooth, -30.0), expected, disc(12)) > 0.3


def test_our_bilinear_rotation_is_scipys_of_order_one() -> None:
    images = RNG.random((2, 8, 8))
    np.testing.assert_allclose(bilinear(images, 30.0), spline(1)(images, 30.0), atol=1e-12)


def test_reference_commutes_with_reduction_where_turns_are_exact() -> None:
    fine = RNG.random((2, 5 * FACTOR, 5 * FACTOR))
    expected = np.rot90(reduce_blocks(fine), 1, (1, 2))
    np.testing.assert_allclose(turned_reference(fine, 90.0), expected, atol=1e-11)


def test_blocks_are_means() -> None:
    fine = np.zeros((1, 2 * FACTOR, 2 * FACTOR))
    fine[0, :FACTOR, FACTOR:] = 1
    fine[0, -1, 0] = FACTOR**2
    np.testing.assert_array_equal(reduce_blocks(fine), [[[0, 1], [1, 0]]])
    np.testing.assert_allclose(
        reduce_blocks(enlarge(np.ones((1, 4, 4)), 4 * FACTOR))[0, 1:3, 1:3], 1, atol=0.05
    )


def test_errors_are_relative_to_the_region_and_averaged() -> None:
    expected, found = np.ones((2, 4, 4)), np.ones((2, 4, 4))
    found[0, 0, 0] = 5  # a corner: outside the disc
    found[1, 1, 1] = 1 + np.sqrt(12)
    assert disc(4).sum() == 12
    assert relative_error(found, expected, disc(4)) == pytest.approx((0 + 1) / 2)
    assert relative_error(found, expected, np.ones((4, 4), bool)) == pytest.approx((1 + np.sqrt(12 / 16)) / 2)
    assert overshoot(found) == pytest.approx((4 + np.sqrt(12)) / 2)
    assert overshoot(-found) == pytest.approx((5 + 1 + np.sqrt(12)) / 2)
    assert overshoot(np.full((1, 4, 4), 0.5)) == 0


def test_measures_of_a_method_that_does_nothing() -> None:
    """Its round trips are perfect, which is why the reference is there."""
    accuracy = measure(blob_pictures(), lambda images, degrees: images)
    assert accuracy.disc["round trip"] == accuracy.square["twelve turns"] == accuracy.overshoot == 0
    assert accuracy.disc["reference"] > 0.3


def test_measures_of_the_methods_on_a_blob() -> None:
    results = {name: measure(blob_pictures(), method) for name, method in METHODS.items()}
    assert results["spectral"].square["round trip"] < 1e-13
    assert results["spectral"].square["twelve turns"] < 1e-12
    assert results["bilinear"].disc["twelve turns"] > results["bicubic"].disc["twelve turns"] > 1e-4
    assert results["bilinear"].overshoot == 0


def test_page_shows_what_was_measured_best_first() -> None:
    low, high = ({"round trip": e, "twelve turns": 2 * e, "reference": 3 * e} for e in (0.01, 0.1))
    results = {"blobs": {"rough": Accuracy(high, high, 0.0), "fine": Accuracy(low, high, 0.25)}}
    assert ranking(results["blobs"]) == "fine 0.03, rough 0.3"
    page = make_page([blob_pictures()], results, "2026-01-01", "torch 1")
    assert "| fine | 0.01 | 0.1 | 0.02 | 0.2 | 0.03 | 0.3 | 0.25 |" in page
    assert "| rough | 0.1 | 0.1 | 0.2 | 0.2 | 0.3 | 0.3 | 0 |" in page
    assert "best first: fine 0.03, rough 0.3." in page
    assert "Conditions: 2026-01-01; torch 1; float64." in page
    assert "| blobs | 1 of 12 x 12 |" in page
    assert (number(0.0), number(1.23e-15), number(0.1234)) == ("0", "1e-15", "0.12")


def test_committed_page_is_this_scripts() -> None:
    """Its tables have the methods, measures and sets of the code, and nothing of one machine."""
    page = (Path(__file__).resolve().parents[2] / "docs" / "results" / "grid_accuracy.md").read_text("utf-8")
    assert page.count("| spectral |") == page.count("| quintic |") == page.count("best first:") >= 3
    assert re.search(r"Conditions: \d{4}-\d\d-\d\d; equikernels ", page)
    assert not re.search(r"(?<![\w/])/\w+/", page)


def test_fading_keeps_the_middle_and_empties_the_corners() -> None:
    pictures = Pictures("ones", "a constant", np.ones((1, 96, 96)))
    faded = fade(pictures)
    assert faded.name == "ones, faded"
    assert faded.images[0, 6, 6] == 1
    assert faded.fine[0][~disc(96)].max() < 1e-30
    assert np.all(np.diff(faded.images[0, 6, 6:]) <= 0)


def test_data_sets_are_pictures() -> None:
    for pictures in (smooth_digits(), mnist_digits()):
        if pictures is None:  # MNIST is no part of the installation
            continue
        images = pictures.images
        assert images.shape == (200, 28, 28)
        assert images.min() >= 0
        assert 0.9 < images.max() <= 1


# -- the figures -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("side", "obstructed"), [(7, 0), (8, 0), (9, 0), (10, 1)])
def test_modes_are_counted_and_near_their_frequencies(side: int, obstructed: int) -> None:
    modes = grid_modes(side)
    assert sum(m.obstructed for m in modes) == obstructed
    # A plane stands for two dimensions, a mode that does not turn for one.
    assert sum(2 if m.snapped else 1 for m in modes) == side**2
    assert all(abs(abs(m.frequency) - m.snapped) <= 2 + 1e-9 for m in modes)
    chosen = chosen_modes(side, 8)
    assert len(chosen) == 8
    captions = [caption for caption, _ in chosen]
    assert captions.count("obstructed") == obstructed
    assert captions.count("null, paired") == (side % 2 == 0)
    assert [mode.snapped for caption, mode in chosen if not caption] == list(range(captions.count("")))


def test_figure_of_modes_names_frequencies(tmp_path: Path) -> None:
    figure = spectral_modes_figure((5,), columns=6)
    titles = [axes.get_title() for axes in figure.axes]
    assert len(titles) == 6
    assert titles[0] == "0.00 → 0"
    figure.savefig(tmp_path / "modes.png", dpi=30)
