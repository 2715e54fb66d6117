"""The figure of filters over softness: what is projected, what turns change, and the command."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bench.softened_filters import (
    LEVELS,
    TITLES,
    main,
    random_filter,
    soften_filter,
    softened_filters_figure,
)

RAW = random_filter(9, 1)


@pytest.mark.parametrize("order", TITLES)
def test_softness_goes_from_no_change_to_the_raw_filter(order: int) -> None:
    found = soften_filter(RAW, order)
    assert found.filters.shape == found.changes.shape == (len(LEVELS), 9, 9)
    assert np.abs(found.changes[0]).max() < 1e-12
    assert np.abs(found.filters[0]).max() > 0.01  # not the zero filter
    np.testing.assert_allclose(found.filters[-1], RAW.numpy(), atol=1e-12)
    for pictures in (found.filters, found.changes):
        norms = np.linalg.norm(pictures, axis=(1, 2))
        assert (np.diff(norms) > 1e-6).all()
    np.testing.assert_allclose(found.relative, np.linalg.norm(found.changes, axis=(1, 2)), atol=1e-12)


def test_quarter_turns_are_those_of_arrays() -> None:
    found = soften_filter(RAW, 4, (0.0, 0.5, 1.0))
    turned = np.stack([np.rot90(found.filters, k, (1, 2)) for k in (1, 2, 3)])
    np.testing.assert_allclose(
        found.filters[0], np.mean([RAW.rot90(k) for k in range(4)], axis=0), atol=1e-12
    )
    expected = np.sqrt(((turned - found.filters) ** 2).mean(axis=0))
    np.testing.assert_allclose(found.changes, expected, atol=1e-12)


def test_filters_are_smooth_and_of_one_seed() -> None:
    assert float(RAW.norm()) == pytest.approx(1)
    assert torch.equal(RAW, random_filter(9, 1))
    assert not torch.equal(RAW, random_filter(9, 2))
    large = random_filter(120, 0)
    # What smoothing by 1 2 1 makes of independent neighbours: (1 2 + 2 1) / (1 + 4 + 1), and 1 / 6 two apart.
    assert float((large[1:] * large[:-1]).sum()) == pytest.approx(4 / 6, abs=0.08)
    assert float((large[:, 2:] * large[:, :-2]).sum()) == pytest.approx(1 / 6, abs=0.08)


def test_pictures_share_their_scales() -> None:
    found = {title: soften_filter(RAW, order) for order, title in TITLES.items()}
    figure = softened_filters_figure(found)
    images = [axes.get_images()[0] for part in figure.subfigs for axes in part.axes if axes.get_images()]
    assert len(images) == 2 * len(TITLES) * len(LEVELS)
    assert {image.get_clim()[0] for image in images if image.get_cmap().name == "magma_r"} == {0.0}
    assert len({image.get_clim() for image in images}) == 2
    labels = [axes.get_xlabel() for axes in figure.subfigs[0].axes if axes.get_xlabel()]
    assert labels[0] == "0 % of |w|"
    assert len(labels) == len(LEVELS)


def test_the_command_draws_and_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "drawn.png"
    assert main(["--size", "5", "--seed", "3", "--out", str(out)]) == 0
    assert out.stat().st_size < 200_000
    assert Image.open(out).size[0] > 600
    assert main(["--size", "5", "--out", str(tmp_path / "none" / "drawn.png")]) == 2
    assert "No such file or directory" in capsys.readouterr().err
    for arguments, message in (
        (["--size", "1"], "--size: expected an integer >= 2, got 1"),
        (["--seed", "-1"], "--seed: expected an integer >= 0, got -1"),
    ):
        with pytest.raises(SystemExit):
            main(arguments)
        assert message in capsys.readouterr().err
