"""The paper in small: its steps, its claims from its numbers, the same again for the same seed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from equikernels.group import SO2
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
    verdicts = [claim.holds for claim in miniature._claims(found, model)]
    assert verdicts == [True, True, None, None]
    model.logits.neg_()
    worse = {**found, "learned": {"psnr": 18.0, "rmse": 0.31, "still": 0.3}}
    assert [claim.holds for claim in miniature._claims(worse, model)] == [False, False, None, None]
    # 40 of 64 by a coin: three times in a hundred.
    mixed = [True] * 20 + [False] * 32 + [True] * 12
    guessed = LatentActionModel(*convolutional_autoencoder(), SO2(), 64, partition=mixed)
    claim = miniature._claims(found, guessed)[3]
    assert claim.measured == "40 of 64 channels on the right side, by chance p = 0.03, one seed"
