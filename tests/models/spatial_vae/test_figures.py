"""Figures: what each picture in them is, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from equikernels.models.spatial_vae.figures import (
    between,
    interpolation,
    manifold,
    pose_scatter,
    reconstructions,
)
from equikernels.models.spatial_vae.model import Parts
from equikernels.models.spatial_vae.pose_agreement import as_motion
from tests.models.spatial_vae.samples import float64, pictures, small


def shown(figure: Figure, place: int) -> np.ndarray:
    (image,) = figure.axes[place].images
    return np.asarray(image.get_array())


def grey(images: torch.Tensor) -> np.ndarray:
    return images.detach().mean(1).numpy()


def test_the_manifold_is_the_grid_of_quantiles_with_the_second_number_upwards() -> None:
    model = small(8)
    figure = manifold({"one": model, "two": small(8, rotation=False)}, count=3)
    assert [axes.get_title() for axes in figure.axes] == ["one", "two"]
    quantile = 0.9674215661017010  # of 5/6
    places = [-quantile, 0.0, quantile]
    tiles = shown(figure, 0)
    assert tiles.shape == (24, 24)
    for row, second in enumerate(reversed(places)):
        for column, first in enumerate(places):
            expected = grey(model.decode(float64([[first, second]])))[0]
            tile = tiles[8 * row : 8 * row + 8, 8 * column : 8 * column + 8]
            np.testing.assert_allclose(tile, expected, atol=1e-12)
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == ["\N{MINUS SIGN}1.0", "0.0", "1.0"]
    ticks = figure.axes[0].get_yticks()
    assert ticks[0] > ticks[-1]  # rows count downwards
    with pytest.raises(ValueError, match="expected two numbers of content, three has 3"):
        manifold({"three": small(8, latent_dim=3)})
    with pytest.raises(ValueError, match="count: expected at least 1, got 0"):
        manifold({"one": model}, count=0)


def test_reconstructions_have_the_pose_and_then_none() -> None:
    model, images = small(8), pictures(4)
    figure = reconstructions(model, images)
    theta, shift, z = model.parts(model.encode(images).mean)
    rows = (images, model.decode(z, theta, shift), model.decode(z))
    assert len(figure.axes) == 12
    for row, expected in enumerate(rows):
        for column in range(4):
            np.testing.assert_allclose(shown(figure, 4 * row + column), grey(expected)[column], atol=1e-12)
    assert not np.allclose(shown(figure, 4), shown(figure, 8))
    fixed = small(8, rotation=False, translation=False)
    assert len(reconstructions(fixed, images).axes) == 8


def test_colours_are_shown_and_images_beyond_0_and_1_scaled() -> None:
    images = pictures(2, channels=3)
    figure = reconstructions(small(8, channels=3), images)
    np.testing.assert_allclose(shown(figure, 0), images[0].permute(1, 2, 0).numpy())
    wide = 4 * pictures(2) - 2
    low, high = wide.min(), wide.max()
    figure = reconstructions(small(8, likelihood="gaussian"), wide)
    np.testing.assert_allclose(shown(figure, 1), grey((wide - low) / (high - low))[1])


def test_the_way_goes_from_one_image_to_the_other() -> None:
    model, images = small(8), pictures(2)
    figure = interpolation(model, images[0], images[1], steps=5)
    theta, shift, z = model.parts(model.encode(images).mean)
    np.testing.assert_allclose(shown(figure, 0), grey(images)[0])
    np.testing.assert_allclose(shown(figure, 4), grey(images)[1])
    assert [len(axes.images) for axes in figure.axes[:5]] == [1, 0, 0, 0, 1]
    ends = grey(model.decode(z, theta, shift))
    np.testing.assert_allclose(shown(figure, 5), ends[0], atol=1e-12)
    np.testing.assert_allclose(shown(figure, 9), ends[1], atol=1e-12)
    np.testing.assert_allclose(shown(figure, 12), grey(model.decode(z.mean(0, keepdim=True)))[0], atol=1e-12)
    with pytest.raises(ValueError, match="steps: expected at least 2, got 1"):
        interpolation(model, images[0], images[1], steps=1)


def test_angles_go_the_shorter_way_and_the_rest_straight() -> None:
    ends = Parts(
        float64([0.1, 2 * math.pi - 0.1]), float64([[0.0, 1.0], [4.0, 3.0]]), float64([[1.0], [3.0]])
    )
    theta, shift, z = between(ends, 3)
    assert theta is not None
    assert shift is not None
    torch.testing.assert_close(theta, float64([0.1, 0.0, -0.1]))
    torch.testing.assert_close(shift, float64([[0.0, 1.0], [2.0, 2.0], [4.0, 3.0]]))
    torch.testing.assert_close(z, float64([[1.0], [2.0], [3.0]]))


def test_poses_are_drawn_as_motions_beside_the_true_ones() -> None:
    turn, shift = float64([0.1, -0.3, 3.0]), float64([[1.0, 2.0], [0.5, -1.0], [0.0, 3.0]])
    parts = Parts(float64([-0.1, 0.3, -3.0 - 2 * math.pi]), float64([[1.0, 2.0]]).expand(3, 2), shift)
    figure = pose_scatter(parts, turn, shift)
    x, y = figure.axes[0].lines[1].get_data()
    # A whole turn more is the same angle.
    np.testing.assert_allclose(x, np.rad2deg(turn.numpy()))
    np.testing.assert_allclose(y, np.rad2deg(turn.numpy()))
    vector = as_motion(parts)[1]
    assert vector is not None
    for axis in range(2):
        x, y = figure.axes[1 + axis].lines[1].get_data()
        np.testing.assert_allclose(x, shift[:, axis])
        np.testing.assert_allclose(y, vector[:, axis])
    with pytest.raises(ValueError, match="parts: expected an angle and a shift, got None"):
        pose_scatter(Parts(None, shift, shift), turn, shift)
