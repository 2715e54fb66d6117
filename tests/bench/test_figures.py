"""Figures of experiments: which number of which row and seed is drawn where."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from bench.experiments import latent_volumes, o5_regression, two_domains
from bench.experiments.latent_tables import dot_figure
from bench.experiments.o5_findings import error_curves
from bench.experiments.soft_backbones_figure import backbones_figure
from bench.experiments.soft_mnist_figure import softness_figure
from bench.experiments.trajectory_plots import error_bars
from bench.experiments.two_domains import Answers, Judged
from bench.experiments.two_domains_figures import content_figure, correlation_figure, latent_figure
from equikernels.models.data.two_domains import project
from equikernels.models.engine.results import Cell, Result
from equikernels.models.soft_equivariance.tasks import RegressionOptions
from equikernels.models.spatial_vae import SpatialVAE


def result(cell: Cell, **numbers: float) -> Result:
    return Result("cpu", cell.row, "", numbers, "", 1.0, "2000-01-01", {})


def curves(axes: Any) -> dict[Any, tuple[list[float], list[float]]]:
    """Places and values of every curve of a panel, by its label."""
    return {
        line.get_label(): (np.asarray(line.get_xdata()).tolist(), np.asarray(line.get_ydata()).tolist())
        for line in axes.get_lines()
    }


def band(axes: Any, number: int) -> tuple[float, float]:
    """From where to where a band reaches."""
    heights = axes.collections[number].get_paths()[0].vertices[:, 1]
    return float(heights.min()), float(heights.max())


# -- latent actions ------------------------------------------------------------------------------------------


def test_dots_are_runs_and_bars_their_means() -> None:
    names = {"cube: manual": (20.0, 22.0), "cube: none": (25.0, 26.0)}
    found = {
        c: result(c, psnr=names[c.row][c.configuration.seed])
        for c in latent_volumes.cells("cpu")
        if c.row in names
    }
    rows = [("cube: none", "all"), ("cube: absent", "absent"), ("cube: manual", "half")]
    figure = dot_figure(found, {"first": rows, "second": rows[:1]}, "decibels", "psnr", (0.0, 30.0))
    left, right = figure.axes
    assert [axes.get_title() for axes in (left, right)] == ["first", "second"]
    assert [label.get_text() for label in left.get_yticklabels()] == ["all", "absent", "half"]
    drawn = [(np.asarray(x).tolist(), np.asarray(y).tolist()) for x, y in map(_data, left.get_lines())]
    assert drawn == [([25.5], [0]), ([25.0, 26.0], [0, 0]), ([21.0], [2]), ([20.0, 22.0], [2, 2])]
    assert len(right.get_lines()) == 2
    # The first row is above the second.
    assert left.get_ylim()[0] > left.get_ylim()[1]
    assert left.get_xlim() == (0.0, 30.0)
    assert left.get_xlabel() == "decibels"


def _data(line: Any) -> Any:
    return line.get_data()


# -- soft equivariance ---------------------------------------------------------------------------------------


def test_errors_of_the_regression_over_softness() -> None:
    """Numbers are sums of the sigma, the softness, the seed and the kind, so that each is of one place."""
    kinds = {"rmse": 0.1, "turned_rmse": 0.2, "invariance_error": 0.3}
    rows = {"mlp": 9.0, "softness 1": 1.0, "softness 0": 0.0, "softness 0.3": 0.3}
    found = {}
    for sigma in (2.0, 5.0):
        for row, level in rows.items():
            for seed in (0, 1):
                run = o5_regression.run_of(RegressionOptions(), sigma, seed, 100, 1)
                cell = Cell(f"sigma {sigma:g}, {row}", run)
                numbers = {name: 10 * sigma + level + kind + 2 * seed for name, kind in kinds.items()}
                found[cell] = result(cell, **numbers)
    figure = error_curves(found)
    assert len(figure.axes) == 4
    for column, sigma in enumerate((2.0, 5.0)):
        top, bottom = figure.axes[column], figure.axes[2 + column]
        assert top.get_title() == f"sigma = {sigma:g}"
        drawn = curves(top)
        levels = [0.0, 0.3, 1.0]
        for label, kind in (("upright", 0.1), ("turned", 0.2)):
            places, values = drawn[label]
            assert places == levels
            assert values == pytest.approx([10 * sigma + level + kind + 1 for level in levels])
        assert drawn["ordinary network, upright"][1] == pytest.approx([10 * sigma + 9.0 + 0.1 + 1] * 2)
        assert curves(bottom)["change under O(5)"][1] == pytest.approx(
            [10 * sigma + level + 0.3 + 1 for level in levels]
        )
        assert band(top, 0) == pytest.approx((10 * sigma + 0.1, 10 * sigma + 1.0 + 0.1 + 2))
    assert "RMSE" in figure.axes[0].get_ylabel()
    assert "f(g x)" in figure.axes[2].get_ylabel()


def test_backbones_are_in_the_panel_of_their_family() -> None:
    errors = {
        "ViT": [[0.1, 0.3], [0.5, 0.7]],
        "DINOv2": [[0.0, 0.2], [0.4, 0.4]],
        "ResNet, 32 pixels": [[1.0, 2.0], [3.0, 4.0]],
        "SegFormer, 33 pixels": [[5.0, 6.0], [7.0, 8.0]],
    }
    figure = backbones_figure(errors, (0.0, 1.0))
    assert [axes.get_title() for axes in figure.axes] == ["ViT and DINOv2", "ResNet", "SegFormer"]
    drawn = [{label: values[1] for label, values in curves(axes).items()} for axes in figure.axes]
    assert drawn == [
        {"ViT": pytest.approx([0.2, 0.6]), "DINOv2": pytest.approx([0.1, 0.4])},
        {"32 pixels": [1.5, 3.5]},
        {"33 pixels": [5.5, 7.5]},
    ]
    assert band(figure.axes[1], 0) == (1.0, 4.0)


def test_softness_has_a_column_for_each_group_and_a_row_for_each_number() -> None:
    def levels(value: float) -> Mapping[float, Mapping[int, float]]:
        return {0.0: {0: value, 1: value + 0.2}, 0.5: {0: value + 0.1}}

    kinds = ("soft", "prior")
    groups, numbers = ("C4", "SO2"), ("combined_accuracy", "invariance_error")
    values = {
        (group, number): {kind: levels(a + 2 * b + 4 * c) for c, kind in enumerate(kinds)}
        for a, group in enumerate(groups)
        for b, number in enumerate(numbers)
    }
    figure = softness_figure(values)
    assert len(figure.axes) == 4
    labels = {"soft": "soft layers", "prior": "residual pathway prior"}
    for b, scale in enumerate((100, 1)):
        for a in range(2):
            drawn = curves(figure.axes[2 * b + a])
            for c, kind in enumerate(kinds):
                value = a + 2 * b + 4 * c + 0.1
                assert drawn[labels[kind]][0] == [0.0, 0.5]
                assert drawn[labels[kind]][1] == pytest.approx([scale * value] * 2)
    assert ["C_4" in axes.get_title() for axes in figure.axes] == [True, False, False, False]
    assert "SO(2)" in figure.axes[1].get_title()
    assert [figure.axes[place].get_ylabel() for place in (0, 2)] == ["cAcc (%)", "iErr (nats)"]
    del values["SO2", "invariance_error"]["prior"]
    assert list(curves(softness_figure(values).axes[3])) == ["soft layers"]


def test_bars_are_means_of_their_row_and_scene() -> None:
    def runs(base: float) -> dict[int, dict[str, float]]:
        return {
            seed: {
                "combined_ade": base + seed, "combined_fde": base + 10 + seed,
                "equivariance_error": base + 20 + seed, "walking_on_ade": 7.0, "walking_on_fde": 8.0,
            }
            for seed in (0, 1)
        }  # fmt: skip

    scenes = {"ETH": {"plain": runs(1), "strict": runs(2)}, "UNIV": {"plain": runs(3)}}
    figure = error_bars(scenes)
    assert [axes.get_ylabel() for axes in figure.axes] == ["cADE (m)", "cFDE (m)", "eErr (m)"]
    for panel, axes in enumerate(figure.axes):
        bars = [(bar.get_x() + bar.get_width() / 2, bar.get_height()) for bar in axes.patches]
        expected = [(-0.2, 1.5), (0.8, 3.5), (0.2, 2.5)]
        for (x, height), (place, mean) in zip(bars, expected, strict=True):
            assert x == pytest.approx(place)
            assert height == pytest.approx(mean + 10 * panel)
        assert [label.get_text() for label in axes.get_xticklabels()] == ["ETH", "UNIV"]
        rules = [values for label, (_, values) in curves(axes).items() if label == "constant velocity"]
        assert rules == ([[7.0, 7.0]], [[8.0, 8.0]], [])[panel]
    with pytest.raises(ValueError, match="scenes: expected at most 4 rows each, got a, b, c, d, e"):
        error_bars({"ETH": dict.fromkeys("abcde", runs(1))})


# -- two domains ---------------------------------------------------------------------------------------------


def test_correlations_are_at_the_row_of_their_run() -> None:
    cells = two_domains.EXPERIMENT.cells["cpu"]
    found = {
        cells[0]: result(cells[0], conformation=0.9, rotation=0.5, **{"rotation up to half turns": 0.7}),
        cells[1]: result(cells[1], conformation=0.8),
        cells[2]: result(cells[2], conformation=0.1),
    }
    (axes,) = correlation_figure(found).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == [cells[0].row, cells[2].row]
    assert curves(axes) == {
        "conformation": ([0.9, 0.8, 0.1], [0, 0, 1]),
        "rotation": ([0.5], [0]),
        "rotation up to half turns": ([0.7], [0]),
    }
    assert axes.get_ylim()[0] > axes.get_ylim()[1]


@pytest.fixture(scope="module")
def judged() -> Judged:
    """A model with two contents whose second follows the conformation, and whose angle is a third too far."""
    torch.manual_seed(0)
    model = SpatialVAE(8, 2, layers=1, hidden=4, likelihood="gaussian").eval()
    generator = torch.Generator().manual_seed(0)
    conformation = 2 * torch.rand(40, generator=generator) - 1
    angle = 2 * math.pi * torch.rand(40, generator=generator) - math.pi
    z = torch.stack([torch.randn(40, generator=generator), conformation * 3], dim=1)
    return Judged(model, Answers(z, angle + 1 / 3, conformation, angle), 1)


def test_latents_are_drawn_against_what_is_true(judged: Judged) -> None:
    said = judged.answers
    plain = judged._replace(latent=0)
    figure = latent_figure(judged, plain, points=30)
    assert [axes.get_title() for axes in figure.axes] == [
        "spatial-VAE", "ordinary VAE, 1 latent", "spatial-VAE",
    ]  # fmt: skip
    for axes, latent in zip(figure.axes[:2], (1, 0), strict=True):
        (line,) = axes.get_lines()
        np.testing.assert_array_equal(line.get_xdata(), said.conformation[:30])
        np.testing.assert_array_equal(line.get_ydata(), said.z[:30, latent])
        assert (axes.get_xlabel(), axes.get_ylabel()) == ("true conformation", "content latent")
    (line,) = figure.axes[2].get_lines()
    np.testing.assert_allclose(line.get_xdata(), np.degrees(said.true_theta[:30].numpy()), rtol=1e-5)
    # A third of a radian further, on the circle.
    further = (np.degrees(said.true_theta[:30].numpy() + 1 / 3) + 180) % 360 - 180
    np.testing.assert_allclose(line.get_ydata(), further, atol=1e-3)


def test_the_body_is_drawn_along_its_conformation_in_its_own_orientation(judged: Judged) -> None:
    """Above the simulated body, below what the decoder makes of the mean latents of as many parts."""
    said = judged.answers
    figure = content_figure(judged, columns=4)
    assert len(figure.axes) == 8
    order = np.argsort(said.conformation.numpy())
    for column, part in enumerate(np.split(order, 4)):
        level = said.conformation[part[5]]
        assert figure.axes[column].get_title() == f"{float(level):+.2f}"
        truth = project(level[None], torch.zeros(1), torch.zeros(1, 2), 8)[0]
        np.testing.assert_allclose(_shown(figure, column), truth, atol=1e-6)
        z = said.z[torch.from_numpy(part)].mean(0, keepdim=True)
        # An upright body, of true angle 0, is said to have the angle 1/3.
        with torch.no_grad():
            drawn = judged.model.decode(z, torch.tensor([1 / 3]))[0, 0]
        np.testing.assert_allclose(_shown(figure, 4 + column), drawn, atol=1e-5)
    assert [figure.axes[place].get_ylabel() for place in (0, 4)] == ["simulated", "decoded"]
    assert "content latent 2" in figure.get_suptitle()


def _shown(figure: Figure, place: int) -> np.ndarray:
    (image,) = figure.axes[place].images
    return np.asarray(image.get_array())
