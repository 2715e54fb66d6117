"""The miniature with a few steps in place of hundreds."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from equikernels.models.rotational_vae import miniature


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("BASE_STEPS", 4), ("TUNED_STEPS", 4), ("SIZE", 32)):
        monkeypatch.setattr(miniature, name, value)


def test_it_is_whole_and_the_same_again() -> None:
    reported: list[str] = []
    state = torch.get_rng_state()
    first = miniature.run(3, reported.append)
    assert torch.equal(torch.get_rng_state(), state)
    assert len(reported) == miniature.STEPS
    second = miniature.run(3, lambda step: None)
    assert [claim.measured for claim in first.claims] == [claim.measured for claim in second.claims]
    assert first.rows == second.rows
    assert first.rows != miniature.run(4, lambda step: None).rows
    assert {len(row) for row in first.rows} == {len(first.headings)}
    assert [row[0] for row in first.rows] == ["untuned", "further, no turns", "tuned"]
    assert sum(claim.holds is not None for claim in first.claims) == 3


def errors(half: float, decoder: float) -> dict[str, list[float]]:
    return {
        "round_trip_mse_unit": [1.0, half],
        "psnr": [20.0, 19.0],
        "ssim": [0.5, 0.4],
        "encoder": [0.0, 0.1],
        "decoder": [0.0, decoder],
    }


@pytest.mark.parametrize(
    ("untuned", "control", "tuned", "verdicts"),
    [
        (errors(2.0, 0.4), errors(2.0, 0.4), errors(1.0, 0.2), [True, True, True, None]),
        (errors(0.5, 0.4), errors(1.0, 0.1), errors(2.0, 0.2), [False, False, False, None]),
    ],
)
def test_verdicts_follow_the_numbers(
    untuned: Any, control: Any, tuned: Any, verdicts: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(miniature, "latent_turns", lambda *arguments: None)
    found = {"untuned": untuned, "further, no turns": control, "tuned": tuned}
    models: Any = dict.fromkeys(found)
    told = miniature._told(models, found, torch.zeros(1, 3, 8, 8))
    assert [claim.holds for claim in told.claims] == verdicts
