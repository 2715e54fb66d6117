"""Figures: which curve, filter, turned digit and path is in which panel."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from torch import nn

from equikernels.models.soft_equivariance.figures import (
    Curve,
    RepeatedTurns,
    filters,
    single_turns,
    trade_off,
    twelve_turns,
)
from equikernels.models.soft_equivariance.trajectory_figures import Turned, draw_predictions


def shown(figure: Figure, place: int) -> np.ndarray:
    (image,) = figure.axes[place].images
    return np.asarray(image.get_array())


def curve(scale: float) -> Curve:
    """Two levels and two seeds; every number another one."""
    base = scale * np.array([[0.1, 0.3], [0.5, 0.6]])
    return Curve([0.0, 1.0], clean=base, rotated=base / 2, certified=3 * base, measured=base / 5)


def test_curves_are_those_of_their_group_and_number() -> None:
    figure = trade_off({"C_4": curve(1.0), "SO(2)": curve(0.5)})
    assert len(figure.axes) == 4
    for column, (scale, title) in enumerate(((1.0, "$C_4$: quarter turns"), (0.5, "SO(2): every angle"))):
        top, bottom = figure.axes[column], figure.axes[2 + column]
        assert top.get_title() == title
        drawn = {
            line.get_label(): np.asarray(line.get_ydata()) for ax in (top, bottom) for line in ax.get_lines()
        }
        means = scale * np.array([0.2, 0.55])
        np.testing.assert_allclose(drawn["upright test images"], 100 * means)
        np.testing.assert_allclose(drawn["rotated test images"], 50 * means)
        np.testing.assert_allclose(drawn["certified, worst turn checked"], 3 * means)
        np.testing.assert_allclose(drawn["measured, worst turn checked"], means / 5)
        # The band of the upright images goes from the lowest to the highest seed.
        heights = top.collections[0].get_paths()[0].vertices[:, 1]
        assert (heights.min(), heights.max()) == pytest.approx((10 * scale, 60 * scale))
    assert figure.axes[0].get_ylabel() == "accuracy (%)"
    assert figure.axes[2].get_ylabel().startswith("change of the logits")
    # No curve leaves its panel.
    assert figure.axes[2].get_ylim()[1] > 3 * 0.6


def test_filters_have_a_row_for_each_softness_and_the_units_of_their_group() -> None:
    random = np.random.default_rng(0)
    learned = {name: random.normal(size=(2, 3, 64)) for name in ("C_4", "SO(2)")}
    figure = filters(learned, (0.0, 0.5))
    assert len(figure.axes) == 12
    place = 0
    for block in learned.values():
        for row in range(2):
            for unit in range(3):
                np.testing.assert_array_equal(shown(figure, place), block[row, unit].reshape(8, 8))
                (image,) = figure.axes[place].images
                largest = abs(block[row, unit]).max()
                assert image.get_clim() == pytest.approx((-largest, largest))
                place += 1
    assert [figure.axes[place].get_ylabel() for place in (0, 3, 6, 9)] == ["s = 0", "s = 0.5"] * 2


def turns() -> RepeatedTurns:
    """Thirteen states of two images; their lengths are 8 and 16."""
    generator = torch.Generator().manual_seed(0)
    states = [torch.rand(13, 2, 64, generator=generator).double() for _ in range(4)]
    spectral, spectral_once, bilinear, bilinear_once = states
    spectral[0, 0] = bilinear[0, 0] = 1.0
    spectral[0, 1] = bilinear[0, 1] = 2.0
    return RepeatedTurns(spectral, spectral_once, bilinear, bilinear_once)


def test_single_turns_are_those_of_one_image_by_both_ways() -> None:
    found = turns()
    figure = single_turns(found, 1, columns=7)
    assert [axes.get_title() for axes in figure.axes[:7]] == [f"{30 * k}°" for k in range(7)]
    for row, states in enumerate((found.spectral_once, found.bilinear_once)):
        for k in range(7):
            np.testing.assert_array_equal(shown(figure, 7 * row + k), states[k, 1].reshape(8, 8))
    assert figure.axes[0].get_ylabel().startswith("spectral")
    assert figure.axes[7].get_ylabel() == "bilinear"


def test_repeated_turns_are_drawn_and_compared_with_single_ones() -> None:
    found = turns()
    figure = twelve_turns(found, 0)
    titles = ["original", "3 turns", "6 turns", "9 turns", "12 turns"]
    assert [axes.get_title() for axes in figure.axes[:5]] == titles
    for row, states in enumerate((found.spectral, found.bilinear)):
        for column, k in enumerate((0, 3, 6, 9, 12)):
            np.testing.assert_array_equal(shown(figure, 5 * row + column), states[k, 0].reshape(8, 8))
    axes = figure.axes[10]
    lengths = np.array([8.0, 16.0])
    for line in axes.get_lines():
        many, once = (
            (found.spectral, found.spectral_once)
            if line.get_label() == "spectral"
            else (found.bilinear, found.bilinear_once)
        )
        errors = np.sqrt(((many - once).numpy() ** 2).sum(-1)) / lengths
        assert list(np.asarray(line.get_xdata())) == list(range(2, 13))
        np.testing.assert_allclose(line.get_ydata(), np.median(errors, axis=1)[2:])
    assert {line.get_label() for line in axes.get_lines()} == {"spectral", "bilinear"}
    assert axes.get_yscale() == "log"


# -- paths ---------------------------------------------------------------------------------------------------


class Drift(nn.Module):
    """Predicts one metre to the right of the last position, whatever came before: not equivariant."""

    def forward(self, observed: torch.Tensor) -> torch.Tensor:
        return observed[:, -1:] + torch.tensor([1.0, 0.0])


def test_turned_input_is_turned_back() -> None:
    observed = torch.tensor([[[0.0, 0.0], [2.0, 5.0]]])
    found = Turned.of(Drift(), observed)
    assert found.upright.tolist() == [[[3.0, 5.0]]]
    # Turned by 90 degrees counter-clockwise it went right; turned back, that is down.
    torch.testing.assert_close(found.turned_back, torch.tensor([[[2.0, 4.0]]]))
    torch.testing.assert_close(
        Turned.of(Drift(), observed, math.pi).turned_back, torch.tensor([[[1.0, 5.0]]])
    )


def test_paths_are_those_of_their_window_model_and_row() -> None:
    generator = torch.Generator().manual_seed(0)
    observed, future, *ahead = (torch.randn(2, 3, 2, generator=generator) for _ in range(6))
    found = {"plain": Turned(ahead[0], ahead[1]), "strict": Turned(ahead[2], ahead[3])}
    figure = draw_predictions(observed, future, found)
    assert len(figure.axes) == 4
    for row, paths in enumerate(((ahead[0], ahead[2]), (ahead[1], ahead[3]))):
        for window in range(2):
            axes = figure.axes[2 * row + window]
            lines = {line.get_label(): np.stack(line.get_data(), -1) for line in axes.get_lines()}
            np.testing.assert_array_equal(lines["observed"], observed[window])
            last = observed[window, -1:]
            np.testing.assert_array_equal(lines["true"], torch.cat([last, future[window]]))
            for name, path in zip(found, paths, strict=True):
                np.testing.assert_array_equal(lines[name], torch.cat([last, path[window]]))
            points = np.concatenate(list(lines.values()))
            (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
            assert right - left == pytest.approx(high - low)
            assert (points > [left, low]).all()
            assert (points < [right, high]).all()
    assert figure.axes[0].get_ylabel().startswith("as observed")
    assert figure.axes[2].get_ylabel().startswith("turned by 90°")
    with pytest.raises(ValueError, match="found: expected at most 3 models, got 4"):
        draw_predictions(observed, future, dict.fromkeys("abcd", found["plain"]))
