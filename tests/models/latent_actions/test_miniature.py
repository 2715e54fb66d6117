"""The paper in small: its steps, its claims from its numbers, the same again for the same seed."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from equikernels.group import SO2
from equikernels.models.data import SampleDraws, load_dataset
from equikernels.models.engine.miniature import Miniature
from equikernels.models.latent_actions import LatentActionModel, convolutional_autoencoder, miniature


def shrunken(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"EPOCHS": 2, "REPORTED": 1, "TRAINED": 64, "TESTED": 20, "WIDTHS": (4, 6)}.items():
        monkeypatch.setattr(miniature, name, value)


def test_it_reports_every_step_and_repeats_itself(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    per_model = miniature.EPOCHS // miniature.REPORTED
    assert miniature.EPOCHS % miniature.REPORTED == 0
    assert 4 * per_model + 1 == miniature.STEPS
    shrunken(monkeypatch)
    before = torch.get_rng_state()
    found: list[Miniature] = []
    for _ in range(2):
        said: list[str] = []
        found.append(miniature.run(3, said.append))
        assert len(said) == 4 * 2 + 1
    assert torch.equal(torch.get_rng_state(), before)
    first, second = found
    assert list(first.rows) == list(second.rows)
    assert [claim.measured for claim in first.claims] == [claim.measured for claim in second.claims]
    assert any(claim.holds is not None for claim in first.claims)
    assert all(len(row) == len(first.headings) for row in first.rows)
    assert [row[0] for row in first.rows] == ["learned", "manual", "none"]
    assert [row[-1] for row in first.rows][1:] == ["0.50", "1.00"]
    for picture in first.pictures:
        picture.figure.savefig(tmp_path / f"{picture.name}.png")
        assert (tmp_path / f"{picture.name}.png").stat().st_size > 2000
    assert first.claims[-1].holds  # the identity holds for any weights
    other = miniature.run(4, lambda _: None)
    assert list(other.rows) != list(first.rows)


def test_claims_follow_from_the_numbers() -> None:
    model = LatentActionModel(*convolutional_autoencoder(), SO2(), 64, partition=[True] * 32 + [False] * 32)
    good = {"psnr": 20.0, "rmse": 0.1, "still": 0.3}
    found = {"learned": good, "manual": {**good, "psnr": 21.0}, "none": {**good, "psnr": 19.0}}
    claims = miniature._claims(found, model)
    assert [claim.holds for claim in claims] == [True, True, None, None]
    assert [claim.measured for claim in claims[:3]] == [
        "RMSE 0.100 against 0.300",
        "PSNR 20.00 dB against 19.00 dB",
        "PSNR 20.00 dB against 21.00 dB, one seed",
    ]
    # What is equal is neither nearer nor better, and what is no number is nothing.
    for psnr, rmse in ((19.0, 0.3), (math.nan, math.nan)):
        same = {**found, "learned": {"psnr": psnr, "rmse": rmse, "still": 0.3}}
        assert [claim.holds for claim in miniature._claims(same, model)][:2] == [False, False]
    model.logits.neg_()
    worse = {**found, "learned": {"psnr": 18.0, "rmse": 0.31, "still": 0.3}}
    assert [claim.holds for claim in miniature._claims(worse, model)] == [False, False, None, None]
    # 40 of 64 by a coin: three times in a hundred.
    mixed = [True] * 20 + [False] * 32 + [True] * 12
    guessed = LatentActionModel(*convolutional_autoencoder(), SO2(), 64, partition=mixed)
    claim = miniature._claims(found, guessed)[3]
    assert claim.measured == "40 of 64 channels on the right side, by chance p = 0.03, one seed"


def test_the_sum_of_losses_may_be_off_by_rounding_alone() -> None:
    """With 1 for every difference of latents, whose mean square the two losses have to add up to."""
    x = torch.ones(2, 1, 4, 4)

    class Told:
        def __init__(self, off: float) -> None:
            self.off = off

        def encode(self, images: Tensor) -> Tensor:
            return images

        def act(self, z: Tensor, g: Tensor) -> Tensor:
            return z + g

        def loss(self, x: Tensor, gx: Tensor, g: Tensor) -> dict[str, Tensor]:
            return {"invariant": torch.tensor(0.25), "varying": torch.tensor(0.75 + self.off)}

    def claim(off: float, gx: Tensor = x) -> bool | None:
        model: Any = Told(off)
        return miniature._sum_of_losses(model, (x, gx, torch.ones(1))).holds

    assert claim(0.0)
    assert claim(5e-6)
    assert claim(-1e-4) is False
    assert claim(1e-4) is False
    # It is the transformed image that the moved latent of the other is compared with.
    assert claim(0.0, gx=x - 0.5) is False


def test_numbers_are_of_test_digits_from_0_to_1(monkeypatch: pytest.MonkeyPatch) -> None:
    """By root mean squares of every image; the second time in the note of the whole."""
    shrunken(monkeypatch)
    torch.manual_seed(0)
    networks = convolutional_autoencoder(1, (4, 6))
    model = LatentActionModel(*networks, SO2(), 6, partition=[True] * 2 + [False] * 4).eval()
    digits = load_dataset("digits").split({"train": 0.8, "test": 0.2}, seed=0)
    found = miniature._measure({"one": model}, digits["test"], 3)["one"]
    batch = digits["test"].fetch(torch.arange(20))
    x, gx, g = miniature._pair(batch, SampleDraws(3, -1, range(20)), miniature.DIGITS)
    with torch.no_grad():
        answer = model.transform(x, g)

    def rmse(a: Tensor, b: Tensor) -> float:
        return float(np.mean(np.sqrt((((a - b) / 2).numpy() ** 2).reshape(len(a), -1).mean(1))))

    assert found["still"] == pytest.approx(rmse(x, gx), rel=1e-4)
    assert found["rmse"] == pytest.approx(rmse(answer, gx), rel=1e-4)
    assert found["share"] == pytest.approx(2 / 6)
    assert f"RMSE {found['still']:.4f}." in miniature.run(3, lambda _: None).note


def test_lines_of_the_mask_have_the_colour_of_what_their_channel_sees() -> None:
    torch.manual_seed(0)
    networks = convolutional_autoencoder(2, (4, 6), groups=2)
    model = LatentActionModel(*networks, SO2(), 6, partition="learned", threshold=0.7)
    logits = np.random.default_rng(0).normal(size=(5, 6))
    (axes,) = miniature._mask_figure(miniature.Learned(model, logits)).axes
    *lines, threshold = axes.get_lines()
    for channel, line in enumerate(lines):
        assert line.get_color() == (miniature.BLUE if channel < 3 else miniature.ORANGE)
        np.testing.assert_array_equal(line.get_ydata(), logits[:, channel])
        assert list(np.asarray(line.get_xdata())) == [1, 2, 3, 4, 5]
    assert [lines[0].get_label(), lines[3].get_label()] == ["sees the object", "sees the background"]
    # A channel varies where the sigmoid of its logit exceeds the threshold.
    assert 1 / (1 + math.exp(-float(np.asarray(threshold.get_ydata())[0]))) == pytest.approx(0.7)
