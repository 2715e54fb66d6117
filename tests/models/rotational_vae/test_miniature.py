"""The miniature with a few steps in place of hundreds."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from equikernels.models.data import load_dataset
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


def test_numbers_are_those_of_their_model_and_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each model's numbers are others, so that none can stand for another's."""
    found = {
        "untuned": {
            "round_trip_mse_unit": [2.0, 6.0], "psnr": [21.0, 11.0], "ssim": [0.51, 0.41],
            "encoder": [0.0, 0.1], "decoder": [0.0, 0.7],
        },
        "further, no turns": {
            "round_trip_mse_unit": [1.0, 5.0], "psnr": [22.0, 12.0], "ssim": [0.52, 0.42],
            "encoder": [0.0, 0.2], "decoder": [0.0, 0.6],
        },
        "tuned": {
            "round_trip_mse_unit": [1.5, 2.0], "psnr": [21.5, 13.0], "ssim": [0.53, 0.43],
            "encoder": [0.0, 0.3], "decoder": [0.0, 0.4],
        },
    }  # fmt: skip
    drawn: dict[str, Any] = {}
    monkeypatch.setattr(miniature, "latent_turns", lambda *found: drawn.update(turns=found))
    monkeypatch.setattr(miniature, "element_errors", lambda *found: drawn.update(errors=found))
    models: Any = {name: object() for name in found}
    held = torch.zeros(2, 3, 8, 8)
    told = miniature._told(models, found, held)
    assert [claim.measured for claim in told.claims] == [
        "mean squared error times 3.00",
        "mean squared error after a half turn falls by a factor of 2.50",
        "its error falls by a factor of 1.50",
        "-0.50 dB against equal further training",
    ]
    assert list(told.rows) == [
        ("untuned", "21.00", "11.00", "0.510", "0.410", "0.100", "0.700"),
        ("further, no turns", "22.00", "12.00", "0.520", "0.420", "0.200", "0.600"),
        ("tuned", "21.50", "13.00", "0.530", "0.430", "0.300", "0.400"),
    ]
    assert drawn["errors"][0] == {
        "untuned": {"0": [21.0], "180": [11.0]},
        "further, no turns": {"0": [22.0], "180": [12.0]},
        "tuned": {"0": [21.5], "180": [13.0]},
    }
    shown, pictures, element = drawn["turns"]
    assert shown == {name: models[name] for name in ("untuned", "tuned")}
    assert pictures is held
    assert element == 1
    assert [picture.name for picture in told.pictures] == ["turns", "errors"]


def test_nothing_sees_the_two_photographs_that_all_is_measured_on(monkeypatch: pytest.MonkeyPatch) -> None:
    images = load_dataset("photographs", size=32).fetch(torch.arange(7))["image"]
    trained: list[Any] = []
    measured: list[Any] = []

    def train(model: Any, seen: Any, seed: int, steps: int, rate: float, weight: float, *_: Any) -> None:
        trained.append((weight, seed, [model_of.setdefault(id(model.vae), len(model_of)), seen]))

    def errors(self: Any, x: Any, elements: Any) -> Any:
        measured.append((x, elements))
        return {"psnr": torch.zeros(2, 2)}

    model_of: dict[int, int] = {}
    monkeypatch.setattr(miniature, "_train", train)
    monkeypatch.setattr(miniature.RotationalVAE, "errors", errors)
    monkeypatch.setattr(miniature, "_told", lambda models, found, held: (models, held))
    models, held = miniature.run(5, lambda step: None)  # type: ignore[misc]
    # The VAE, then a copy of it without turns and one with them, by the same random numbers.
    assert [(weight, seed) for weight, seed, _ in trained] == [(0.0, 5), (0.0, 6), (1.0, 6)]
    assert [number for _, _, (number, _) in trained] == [0, 1, 2]
    assert list(models) == ["untuned", "further, no turns", "tuned"]
    for _, _, (_, seen) in trained:
        assert torch.equal(seen, images[[0, 3, 4, 5, 6]])
    assert torch.equal(held, images[[1, 2]])
    assert len(measured) == 3
    for x, elements in measured:
        assert torch.equal(x, 2 * images[[1, 2]] - 1)
        assert elements == [0, 1]
