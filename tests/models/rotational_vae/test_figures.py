"""Figures: which photograph is in which panel, the decibels under it, and means and ranges of errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from torch import Tensor

from equikernels.group import CyclicGroup
from equikernels.models.rotational_vae import RotationalVAE
from equikernels.models.rotational_vae.figures import element_errors, latent_turns


def small_vae(seed: int) -> RotationalVAE:
    from diffusers import AutoencoderKL

    torch.manual_seed(seed)
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(4, 4),
        norm_num_groups=2,
        mid_block_add_attention=False,
    )
    return RotationalVAE(vae, CyclicGroup(4)).eval()


def shown(figure: Figure, place: int) -> np.ndarray:
    (image,) = figure.axes[place].images
    return np.asarray(image.get_array())


@torch.no_grad()
def journey(model: Any, image: Tensor, turns: int) -> list[Tensor]:
    """The four pictures of one photograph, by the VAE alone; pixels from 0 to 1."""
    z = model.vae.encode(2 * image - 1).latent_dist.mode()
    plain = model.vae.decode(z).sample
    turned = model.vae.decode(z.rot90(turns, (-2, -1))).sample
    seen = [2 * image - 1, plain, turned, turned.rot90(-turns, (-2, -1))]
    return [((picture + 1) / 2).clamp(0, 1) for picture in seen]


def test_every_row_is_a_photograph_its_reconstruction_and_its_turned_latents() -> None:
    models = {"one": small_vae(0), "other": small_vae(1)}
    images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    figure = latent_turns(models, images, 1)
    assert len(figure.axes) == 16
    titles = [axes.get_title() for axes in figure.axes[:4]]
    assert titles == [
        "original", "reconstruction", "decoded from the\nlatent, turned 90°", "the same, turned back",
    ]  # fmt: skip
    for number, (name, model) in enumerate(models.items()):
        for row in range(2):
            first = 4 * (2 * number + row)
            pictures = journey(model, images[row : row + 1], 1)
            for column, expected in enumerate(pictures):
                np.testing.assert_allclose(
                    shown(figure, first + column), expected[0].permute(1, 2, 0).numpy(), atol=1e-5
                )
            assert figure.axes[first].get_ylabel() == name
            assert figure.axes[first].get_xlabel() == ""
            # What is turned is judged by what it is when turned back.
            for column, back in ((1, pictures[1]), (2, pictures[3]), (3, pictures[3])):
                decibels = -10 * np.log10(((back[0] - images[row]).numpy() ** 2).mean())
                assert figure.axes[first + column].get_xlabel() == f"{decibels:.1f} dB"
    assert latent_turns(models, images, 3).axes[2].get_title().endswith("turned 270°")
    with pytest.raises(ValueError, match="models, images: expected some, got 0 and 2"):
        latent_turns({}, images, 1)


def test_errors_are_means_with_the_range_of_repetitions() -> None:
    errors = {
        "untuned": {"0": [1.0, 3.0], "90": [10.0, 14.0], "180flip": [5.0, 5.0]},
        "tuned": {"0": [2.0], "90": [8.0], "180flip": [4.0]},
    }
    figure = element_errors(errors, "an error")
    (axes,) = figure.axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("what latents are moved by", "an error")
    ticks = [label.get_text() for label in axes.get_xticklabels()]
    assert ticks == ["as it is", "turned 90°", "flipped,\nturned 180°"]
    drawn = {line.get_label(): line for line in axes.get_lines()}
    assert list(np.asarray(drawn["untuned"].get_ydata())) == [2.0, 12.0, 5.0]
    assert list(np.asarray(drawn["tuned"].get_ydata())) == [2.0, 8.0, 4.0]
    for label, side in (("untuned", -1), ("tuned", 1)):
        offsets = np.asarray(drawn[label].get_xdata()) - np.arange(3)
        assert (side * offsets > 0).all()
        assert (abs(offsets) < 0.5).all()
    ranges = [[tuple(segment[:, 1]) for segment in lines.get_segments()] for lines in axes.collections]
    assert ranges == [[(1.0, 3.0), (10.0, 14.0), (5.0, 5.0)], [(2.0, 2.0), (8.0, 8.0), (4.0, 4.0)]]
    assert axes.get_yscale() == "linear"
    assert element_errors(errors, "an error", logarithmic=True).axes[0].get_yscale() == "log"
