"""Figures: which picture is in which panel, by latents that are turned and put together by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from torch import Tensor

from equikernels.group import CyclicGroup
from equikernels.models.latent_actions import LatentActionModel, convolutional_autoencoder
from equikernels.models.latent_actions.figures import (
    ORANGE,
    Examples,
    draw_all,
    part_sizes,
    picture,
    show_image,
    swapped_parts,
    transformed_images,
)

VARIES = torch.tensor([True, False, True, False, False])
TURNS = torch.tensor([1, 2, 3])


@pytest.fixture(scope="module")
def model() -> LatentActionModel:
    torch.manual_seed(0)
    networks = convolutional_autoencoder(1, (4, 5))
    return LatentActionModel(*networks, CyclicGroup(4), 5, partition=VARIES).eval()


def images(count: int = 3, seed: int = 0) -> Tensor:
    return 2 * torch.rand(count, 1, 16, 16, generator=torch.Generator().manual_seed(seed)) - 1


def shown(figure: Figure, place: int) -> np.ndarray:
    (image,) = figure.axes[place].images
    return np.asarray(image.get_array())


def grey(values: Tensor) -> np.ndarray:
    """Images from -1 to 1 as they must be shown."""
    return np.clip((values.detach()[:, 0].numpy() + 1) / 2, 0, 1)


@torch.no_grad()
def latents(model: LatentActionModel, x: Tensor) -> tuple[Tensor, Tensor]:
    z = model.encoder(x)
    varies = VARIES[:, None, None]
    return z * varies, z * ~varies


def test_the_third_row_is_what_the_model_makes_of_turned_latents(model: LatentActionModel) -> None:
    x, gx = images(), images(seed=1)
    figure = transformed_images(model, Examples(x, gx, TURNS))
    moving, still = latents(model, x)
    with torch.no_grad():
        turned = torch.stack([z.rot90(int(k), (-2, -1)) for z, k in zip(moving, TURNS, strict=True)])
        answers = model.decoder(turned + still)
    assert len(figure.axes) == 9
    for row, expected in enumerate((x, gx, answers)):
        for column in range(3):
            np.testing.assert_allclose(shown(figure, 3 * row + column), grey(expected)[column], atol=1e-5)
    names = [figure.axes[3 * row].get_ylabel() for row in range(3)]
    assert [name[:5] for name in names] == ["image", "truth", "model"]


def test_rows_give_what_varies_and_columns_what_stays(model: LatentActionModel) -> None:
    x = images()
    figure = swapped_parts(model, x)
    moving, still = latents(model, x)
    assert len(figure.axes) == 16
    assert not figure.axes[0].images
    for k in range(3):
        np.testing.assert_allclose(shown(figure, k + 1), grey(x)[k], atol=1e-6)
        np.testing.assert_allclose(shown(figure, 4 * (k + 1)), grey(x)[k], atol=1e-6)
    for row in range(3):
        for column in range(3):
            place = 4 * (row + 1) + column + 1
            with torch.no_grad():
                expected = model.decoder((moving[row] + still[column])[None])
            np.testing.assert_allclose(shown(figure, place), grey(expected)[0], atol=1e-5)
            framed = to_hex(figure.axes[place].spines["left"].get_edgecolor()).upper() == ORANGE
            assert framed == (row == column)
    assert "z_i" in figure.get_supxlabel()
    assert "z_v" in figure.get_supylabel()


def test_sizes_are_norms_over_the_channels_of_each_part(model: LatentActionModel) -> None:
    x = images(2)
    figure = part_sizes(model, x)
    parts = latents(model, x)
    norms = [np.sqrt((part.numpy() ** 2).sum(1)) for part in parts]
    largest = max(norm.max() for norm in norms)
    for column in range(2):
        np.testing.assert_allclose(shown(figure, column), grey(x)[column], atol=1e-6)
        for row, norm in enumerate(norms, 1):
            np.testing.assert_allclose(shown(figure, 2 * row + column), norm[column], rtol=1e-4, atol=1e-5)
            (image,) = figure.axes[2 * row + column].images
            assert image.get_clim() == pytest.approx((0, largest))
    labels = [figure.axes[2 * row].get_ylabel() for row in range(3)]
    assert ["z_v" in label for label in labels] == [False, True, False]
    assert ["z_i" in label for label in labels] == [False, False, True]


def test_a_run_draws_the_first_few(model: LatentActionModel) -> None:
    x = images(9)
    figures = draw_all(model, Examples(x, -x, torch.ones(9, dtype=torch.int64)))
    assert {name: len(figure.axes) for name, figure in figures.items()} == {
        "transformed": 3 * 6, "swapped": 7 * 7, "parts": 3 * 6 + 1,
    }  # fmt: skip
    np.testing.assert_allclose(shown(figures["transformed"], 6), grey(-x)[0], atol=1e-6)


def test_pictures_of_colours_layers_and_volumes() -> None:
    colours = images(3)[:, 0]
    np.testing.assert_allclose(picture(colours), (colours.permute(1, 2, 0).numpy() + 1) / 2, atol=1e-6)
    layers = images(2)[:, 0]
    np.testing.assert_allclose(picture(layers), (layers.numpy().max(0) + 1) / 2, atol=1e-6)
    volume = torch.full((1, 3, 4, 5), -1.0)
    volume[0, 2, 1, 4] = 0.5
    expected = np.zeros((4, 5))
    expected[1, 4] = 0.75
    np.testing.assert_allclose(picture(volume), expected)
    axes = Figure().subplots()
    show_image(axes, torch.tensor([[[-3.0, 3.0]]]))
    assert np.asarray(axes.images[0].get_array()).tolist() == [[0.0, 1.0]]
    assert axes.images[0].get_clim() == (0, 1)
