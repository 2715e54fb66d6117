"""The measures of rotations on pictures and volumes whose turns are known, and the page that they fill."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from bench.accuracy import disc, relative_error
from bench.grid_pictures import FACTOR, Pictures, turned_reference
from bench.rotation_accuracy import (
    MEASURES,
    make_page,
    measure,
    measure_volumes,
    ringing,
)
from bench.rotation_figures import twelve_turns_figure
from bench.rotation_methods import (
    METHODS,
    VOLUME_METHODS,
    cropped,
    euler_angles,
    nearest_cube_rotation,
    padded,
    trilinear,
    trilinear_after_cube,
    turns_of_slices,
)
from bench.rotation_volumes import Volumes, ball, blobs, rotations
from equikernels.group import SO3, CubeGroup
from equikernels.ops import cube_rotate

RNG = np.random.default_rng(0)


def blob_pictures(side: int = 12) -> Pictures:
    """A Gaussian off the centre, on the fine grid."""
    axis = (np.arange(side * FACTOR) - (side * FACTOR - 1) / 2) / FACTOR
    fine = np.exp(-((axis - 1.0) ** 2 + (axis[:, None] + 2.0) ** 2) / 3)
    return Pictures("blobs", "a formula", fine[None])


@pytest.mark.parametrize("name", METHODS)
def test_every_method_turns_counter_clockwise_by_degrees(name: str) -> None:
    images = RNG.random((3, 8, 8))
    turned = METHODS[name](images, 90.0)
    np.testing.assert_allclose(turned, np.rot90(images, 1, (1, 2)), atol=1e-12)
    pictures = blob_pictures()
    expected = turned_reference(pictures.fine, 30.0)
    # Nearest moves content by up to half a pixel, here a third of the blob's radius.
    allowed = 0.4 if name == "nearest" else 0.12
    assert relative_error(METHODS[name](pictures.images, 30.0), expected, disc(12)) < allowed
    assert relative_error(METHODS[name](pictures.images, -30.0), expected, disc(12)) > 0.5


@pytest.mark.parametrize(("side", "canvas"), [(28, 32), (32, 36), (20, 22), (21, 25)])
def test_padding_is_a_tenth_or_a_little_more_and_is_undone(side: int, canvas: int) -> None:
    images = RNG.random((2, side, side))
    assert padded(images).shape == (2, canvas, canvas)
    assert padded(images).sum() == pytest.approx(images.sum())
    np.testing.assert_array_equal(cropped(padded(images), side), images)


def test_ringing_is_the_farthest_pixel_of_the_disc_outside_of_the_range() -> None:
    images = np.zeros((2, 4, 4))
    images[:, 1, 1] = 1
    found = images.copy()
    found[0, 2, 2] = -0.25
    found[0, 1, 2] = 1.125
    found[1, 0, 0] = 9  # a corner: outside the disc
    assert ringing(found, images) == pytest.approx(0.125)
    assert ringing(images, images) == 0


def test_measures_of_a_method_that_does_nothing() -> None:
    """What it keeps is perfect, which is why the reference is there."""
    found = measure(blob_pictures(), lambda images, degrees: images)
    assert list(found) == list(MEASURES)
    assert found.pop("reference") > 0.5
    assert set(found.values()) == {0.0}


def test_measures_of_a_method_that_loses_a_part_each_time() -> None:
    found = measure(blob_pictures(), lambda images, degrees: 0.9 * images)
    assert found["round trip"] == pytest.approx(1 - 0.9**2)
    assert found["twelve turns"] == pytest.approx(1 - 0.9**12)
    assert found["composition"] == pytest.approx(0.1)


def test_measures_of_the_methods_on_a_blob() -> None:
    results = {name: measure(blob_pictures(), method) for name, method in METHODS.items()}
    assert results["three shears"]["round trip"] < 1e-14
    assert results["spectral"]["round trip"] < 1e-13
    assert results["spectral"]["composition"] < 1e-13
    assert results["spectral"]["twelve turns"] < 1e-12
    assert results["three shears"]["composition"] > 1e-6
    assert results["bilinear"]["twelve turns"] > results["bicubic"]["twelve turns"] > 1e-4
    assert results["nearest"]["ringing, twelve"] == 0
    assert results["bilinear"]["ringing, once"] < 1e-15
    assert results["bicubic"]["ringing, twelve"] > 1e-4


# -- volumes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", VOLUME_METHODS)
def test_volumes_turn_as_rotations_of_space_do(name: str) -> None:
    volumes = blobs()
    assert volumes.formula is not None
    allowed = 1e-3 if name.startswith("three") else 0.1
    for rotation in rotations()[:3]:
        turned, expected = VOLUME_METHODS[name](volumes.values, rotation), volumes.formula(rotation)
        assert relative_error(turned.numpy(), expected.numpy(), ball(28)) < allowed
        assert relative_error(turned.numpy(), volumes.formula(rotation.mT).numpy(), ball(28)) > 0.3
    small = torch.rand(2, 6, 6, 6, dtype=torch.float64)
    for g, matrix in enumerate(CubeGroup().matrices):
        turned = VOLUME_METHODS[name](small, torch.tensor(matrix, dtype=torch.float64))
        torch.testing.assert_close(turned, cube_rotate(small[:, None], g)[:, 0])


def test_splitting_off_a_rotation_of_the_cube_changes_only_rounding() -> None:
    volume = torch.rand(2, 7, 7, 7, dtype=torch.float64)
    for rotation in rotations():
        torch.testing.assert_close(trilinear_after_cube(volume, rotation), trilinear(volume, rotation))
        exact = torch.tensor(CubeGroup().matrices[nearest_cube_rotation(rotation)], dtype=torch.float64)
        # The largest angle to the nearest of the 24 is 62.8 degrees.
        assert float(SO3().length(rotation @ exact.mT)) <= math.radians(62.8)


def test_angles_about_axes_make_the_rotation_and_its_inverse() -> None:
    for rotation in rotations():
        a, b, c = euler_angles(rotation)
        made = (
            SO3().from_axis_angle([0.0, 0.0, 1.0], a)
            @ SO3().from_axis_angle([0.0, 1.0, 0.0], b)
            @ SO3().from_axis_angle([0.0, 0.0, 1.0], c)
        )
        torch.testing.assert_close(made, rotation)
        assert euler_angles(rotation.mT) == pytest.approx((-c, -b, -a))


def test_turns_of_slices_are_undone_exactly() -> None:
    volume = torch.rand(1, 6, 6, 6, dtype=torch.float64)
    for rotation in rotations():
        torch.testing.assert_close(turns_of_slices(turns_of_slices(volume, rotation), rotation.mT), volume)


def test_measures_of_volumes() -> None:
    values = torch.rand(2, 5, 5, 5, dtype=torch.float64)
    plain = Volumes("noise", "random", values)
    still = measure_volumes(plain, lambda volumes, rotation: volumes, rotations()[:2])
    assert still == {"round trip": 0.0, "composition": 0.0}
    drawn = Volumes("noise", "random", values, lambda rotation: 2 * values)
    halved = measure_volumes(drawn, lambda volumes, rotation: 0.5 * volumes, rotations()[:2])
    assert halved == pytest.approx({"round trip": 0.75, "composition": 0.5, "reference": 0.75})
    # The product of two rotations has an order.
    smooth = measure_volumes(blobs(), turns_of_slices, rotations()[:2])
    assert max(smooth.values()) < 1e-3


# -- the page ------------------------------------------------------------------------------------------------


def test_page_shows_what_was_measured() -> None:
    results = {
        "blobs": {"rough": dict.fromkeys(MEASURES, 0.25), "fine": dict.fromkeys(MEASURES, 1e-15)},
        "noise": {"trilinear": {"round trip": 0.5, "composition": 0.125}},
    }
    volumes = Volumes("noise", "random", torch.zeros(2, 5, 5, 5))
    page = make_page([blob_pictures()], [volumes], results, "2026-01-01", "torch 1")
    assert "| method | " + " | ".join(MEASURES) + " |" in page
    assert "| rough | 0.25 | 0.25 | 0.25 | 0.25 | 0.25 | 0.25 |" in page
    assert "| fine | 1e-15 | 1e-15 |" in page
    assert "| method | round trip | composition |" in page
    assert "| trilinear | 0.5 | 0.12 |" in page
    assert "Conditions: 2026-01-01; torch 1; float64." in page
    assert "A formula; 1 of 12 x 12." in page


def test_committed_page_is_this_scripts() -> None:
    """Its tables have the methods, measures and sets of the code, and nothing of one machine."""
    page = (Path(__file__).resolve().parents[2] / "docs" / "results" / "rotation_accuracy.md").read_text(
        "utf-8"
    )
    heads = page.count("| method | " + " | ".join(MEASURES) + " |")
    assert heads >= 3
    assert all(page.count(f"\n| {name} |") == heads for name in METHODS)
    assert all(page.count(f"\n| {name} |") >= 1 for name in VOLUME_METHODS)
    assert re.search(r"Conditions: \d{4}-\d\d-\d\d; equikernels ", page)
    assert not re.search(r"(?<![\w/.])/\w+/", page)


def test_figure_has_a_column_for_every_method(tmp_path: Path) -> None:
    figure = twelve_turns_figure([(blob_pictures(), 0)])
    assert [axes.get_title() for axes in figure.axes[: 1 + len(METHODS)]] == ["picture", *METHODS]
    assert [axes.get_xlabel() for axes in figure.axes[-1:]] == ["0 %"]
    figure.savefig(tmp_path / "turns.png", dpi=30)
