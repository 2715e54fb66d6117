"""The part of the demonstration, with hardly any training: what it does, not what it finds."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from matplotlib.figure import Figure
from torch.nn.functional import interpolate

from equikernels.models.data import SampleDraws, load_dataset
from equikernels.models.data.transforms import pad_to
from equikernels.models.spatial_vae import miniature
from equikernels.ops import rotate


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(miniature, "EPOCHS", 2)
    monkeypatch.setattr(miniature, "EVERY", 1)
    monkeypatch.setattr(miniature, "BATCH", 500)
    monkeypatch.setattr(miniature, "HIDDEN", 4)


def test_it_tells_claims_pictures_and_steps_and_repeats_itself(short: None) -> None:
    steps: list[str] = []
    found = miniature.run(3, steps.append)
    models = len(miniature.MODELS)
    assert len(steps) == models * 2 + 1
    assert models * 4 + 1 == miniature.STEPS
    assert [claim.holds in (True, False) for claim in found.claims] == [True] * 3
    assert [picture.name for picture in found.pictures] == [
        "upright", "poses", "manifold",
    ]  # fmt: skip
    assert {len(row) for row in found.rows} == {len(found.headings)}
    gap = float(found.rows[0][1]) - float(found.rows[1][1])
    assert float(found.claims[0].measured.split()[0]) == pytest.approx(gap, abs=0.11)
    assert found.claims[0].holds == (gap > 0)
    state = torch.get_rng_state()
    again = miniature.run(3, steps.append)
    assert again.rows == found.rows
    assert torch.equal(torch.get_rng_state(), state)


def test_verdicts_are_those_of_the_numbers(short: None, monkeypatch: pytest.MonkeyPatch) -> None:
    for spatial, angle, shift, expected in (
        (-5.0, 0.6, 0.4, [True, True, False]),
        (-7.0, 0.4, 0.6, [False, False, True]),
    ):
        agreement = {"theta_correlation": angle, "shift_correlation": shift}
        monkeypatch.setattr(miniature, "bound", lambda m, d, s, v=spatial: v if m.rotation else -6.0)
        monkeypatch.setattr(miniature, "pose_agreement", lambda *_, found=agreement: found)
        monkeypatch.setattr(miniature, "_pictures", lambda *_: [])
        found = miniature.run(0, lambda _: None)
        assert [claim.holds for claim in found.claims] == expected
        assert [claim.measured for claim in found.claims] == [
            f"{spatial + 6:+.1f} nats per image", f"{angle:.2f}", f"{shift:.2f}",
        ]  # fmt: skip
        assert list(found.rows) == [
            ("spatial", f"{spatial:.1f}", f"{angle:.2f}", f"{shift:.2f}"), ("fixed pose", "-6.0", "-", "-"),
        ]  # fmt: skip
    # What just reaches the mark, and what is no number, does not exceed it.
    for spatial, mark in ((-6.0, miniature.FOLLOWS), (math.nan, math.nan)):
        agreement = {"theta_correlation": mark, "shift_correlation": mark}
        monkeypatch.setattr(miniature, "bound", lambda m, d, s, v=spatial: v if m.rotation else -6.0)
        monkeypatch.setattr(miniature, "pose_agreement", lambda *_, found=agreement: found)
        assert [claim.holds for claim in miniature.run(0, lambda _: None).claims] == [False] * 3


def test_all_is_measured_on_test_digits(short: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is compared, and what is drawn: one of every digit, by the model with a pose."""
    train, test = miniature.moved_digits(2)
    assert (len(train.images), len(test.images)) == (1438, 359)
    seen: dict[str, Any] = {}

    def bound(model: Any, digits: miniature.MovedDigits, seed: int) -> float:
        assert torch.equal(digits.images, test.images)
        return float(seed)

    def agreement(parts: Any, turn: Any, shift: Any) -> dict[str, float]:
        seen["motions"], seen["inferred"] = (turn, shift), parts
        return {"theta_correlation": 0.0, "shift_correlation": 0.0}

    def reconstructions(model: Any, images: Any) -> Figure:
        seen["model"], seen["images"] = model, images
        return Figure()

    monkeypatch.setattr(miniature, "bound", bound)
    monkeypatch.setattr(miniature, "pose_agreement", agreement)
    monkeypatch.setattr(miniature, "reconstructions", reconstructions)
    monkeypatch.setattr(miniature, "pose_scatter", lambda *found: (seen.update(scatter=found), Figure())[1])
    monkeypatch.setattr(miniature, "manifold", lambda models: (seen.update(models=models), Figure())[1])
    miniature.run(2, lambda _: None)
    assert torch.equal(seen["motions"][0], test.turn)
    assert torch.equal(seen["motions"][1], test.shift)
    model = seen["models"]["spatial"]
    assert seen["model"] is model
    assert (model.rotation, seen["models"]["fixed pose"].rotation) == (True, False)
    with torch.no_grad():
        expected = model.parts(model.encode(test.images).mean)
    for inferred in (seen["inferred"], seen["scatter"][0]):
        torch.testing.assert_close(inferred.theta, expected.theta)
    rows = [int((test.images == image).flatten(1).all(1).nonzero()[0]) for image in seen["images"]]
    assert test.label[rows].tolist() == list(range(10))


def test_digits_are_moved_by_the_motions_that_are_given() -> None:
    train, test = miniature.moved_digits(1)
    assert not set(train.numbers.tolist()) & set(test.numbers.tolist())
    assert len(train.images) + len(test.images) == 1797
    plain = load_dataset("digits").fetch(test.numbers[:5])["image"]
    large = interpolate(plain, (14, 14), mode="bilinear")
    expected = rotate(pad_to(large, 16), test.turn[:5], translation=test.shift[:5])
    torch.testing.assert_close(test.images[:5], expected)
    assert abs(train.turn.std() / (math.pi / 4) - 1) < 0.1


def test_the_bound_is_the_mean_over_samples_of_the_latents() -> None:
    _, test = miniature.moved_digits(1)
    part = miniature.MovedDigits(*(field[:6] for field in test))
    torch.manual_seed(0)
    model = miniature.SpatialVAE(16, 2, hidden=4)
    noise = SampleDraws(2, -1, part.numbers).normal("evaluation", (miniature.SAMPLES, 5))
    with torch.no_grad():
        each = [float(model.loss(part.images, noise[:, k])["loss"]) for k in range(miniature.SAMPLES)]
    assert miniature.bound(model, part, 2) == pytest.approx(-sum(each) / len(each), rel=1e-5)
