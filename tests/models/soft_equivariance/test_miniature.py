"""The digits under turns: what is reported, what is claimed, and when a claim fails."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
import torch
from matplotlib.figure import Figure

from equikernels.models.engine.miniature import Miniature
from equikernels.models.soft_equivariance import certified_error as certified
from equikernels.models.soft_equivariance import digits, figures, miniature

TINY = miniature.Settings(softness=(0.0, 0.5), epochs=1, hidden=8, seeds=2, test_images=40, random_angles=2)
ONE = dataclasses.replace(TINY, seeds=1)

Honest = tuple[list[certified.DigitResult], figures.RepeatedTurns]


@pytest.fixture(scope="module")
def steps() -> list[str]:
    return []


@pytest.fixture(scope="module")
def found(steps: list[str]) -> Miniature:
    state = torch.get_rng_state()
    done = miniature.run(4, steps.append, TINY)
    assert torch.equal(torch.get_rng_state(), state)
    return done


def test_every_step_is_reported(found: Miniature, steps: list[str]) -> None:
    assert len(steps) == TINY.steps == 2 * 2 * 2 * (1 + 1) + 1 + 4
    assert steps[:2] == ["training C_4, softness 0, seed 4", "training C_4, softness 0.5, seed 4"]
    assert steps[4] == "certifying C_4, softness 0"
    assert steps[-1] == "drawing twelve_turns"
    assert miniature.STEPS == 3 * 2 * 5 * (40 + 1) + 1 + 4


def test_it_gives_claims_a_table_and_four_figures(found: Miniature) -> None:
    assert [claim.verdict for claim in found.claims] == ["holds"] * 4 + ["observed"] * 3
    checks = 2 * 2 * 40 * (4 + 14)  # seeds, levels, images, turns of C_4 and of SO(2)
    assert found.claims[0].measured.endswith(f"over {checks} checks")
    assert [row[:2] for row in found.rows] == list(itertools.product(("C_4", "SO(2)"), ("0", "0.5")))
    assert all("±" in row[5] for row in found.rows)
    assert found.note.startswith("8 hidden units, 1 epochs, 2 training seeds, 40 test images")
    assert "by 14 angles of SO(2)" in found.note
    assert [picture.name for picture in found.pictures] == list(figures.CAPTIONS)
    assert all(isinstance(picture.figure, Figure) for picture in found.pictures)
    assert len({picture.figure for picture in found.pictures}) == 4


def test_equal_seeds_give_equal_numbers(found: Miniature) -> None:
    again = miniature.run(4, lambda _: None, TINY)
    assert again.rows == found.rows
    assert again.claims == found.claims
    other = miniature.run(5, lambda _: None, TINY)
    assert other.rows != found.rows


def test_one_seed_has_no_spread() -> None:
    done = miniature.run(0, lambda _: None, ONE)
    assert not any("±" in cell for row in done.rows for cell in row)


# -- verdicts ----------------------------------------------------------------------------------------------


def test_a_false_certificate_fails_its_claim(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = certified.error_certificate

    def false(model: digits.InvariantClassifier, elements: torch.Tensor) -> certified.ErrorCertificate:
        certificate = honest(model, elements)
        return certified.ErrorCertificate(certificate.gains / 100, certificate.supremum)

    monkeypatch.setattr(certified, "error_certificate", false)
    verdicts = [claim.verdict for claim in miniature.run(0, lambda _: None, ONE).claims]
    assert verdicts == ["FAILS", *["holds"] * 3, *["observed"] * 3]


@pytest.fixture(scope="module")
def honest() -> Honest:
    split = digits.load_split(0, 40)
    models = [
        digits.InvariantClassifier(group, s, hidden=4) for group in miniature.GROUPS for s in (0.0, 1.0)
    ]
    results = [certified.evaluate(model, split, model_seed=0, random_angles=1) for model in models]
    return results, figures.turn_repeatedly(split.test_images)


def words(results: list[certified.DigitResult], turns: figures.RepeatedTurns) -> list[str]:
    return [claim.verdict for claim in miniature.claims(results, turns)]


def test_each_verdict_fails_by_itself(honest: Honest) -> None:
    results, turns = honest
    observed = ["observed"] * 3
    assert words(results, turns) == ["holds"] * 4 + observed
    exceeded = [results[0], dataclasses.replace(results[1], holds=False), *results[2:]]
    assert words(exceeded, turns) == ["FAILS", "holds", "holds", "holds", *observed]
    uncovered = [*results[:3], dataclasses.replace(results[3], covered=False)]
    assert words(uncovered, turns) == ["holds", "FAILS", "holds", "holds", *observed]
    inexact = [*results[:2], dataclasses.replace(results[2], exact=False), results[3]]
    assert words(inexact, turns) == ["holds", "holds", "FAILS", "holds", *observed]
    blurred = dataclasses.replace(turns, spectral=turns.bilinear)
    assert words(results, blurred) == ["holds", "holds", "holds", "FAILS", *observed]


def test_growth_is_observed_not_claimed(honest: Honest) -> None:
    results, turns = honest
    falling = [dataclasses.replace(r, measured_relative=1 - r.softness) for r in results]
    said = [claim.claim for claim in miniature.claims(falling, turns)[-2:]]
    assert said == [f"{name}: measured error is not monotone in softness" for name in ("C_4", "SO(2)")]
    said = [claim.claim for claim in miniature.claims(results, turns)[-2:]]
    assert said == [f"{name}: measured error grows with softness" for name in ("C_4", "SO(2)")]


def test_table_shows_mean_spread_and_worst_ratio(honest: Honest) -> None:
    base = honest[0][1]
    pair = [
        dataclasses.replace(base, seed=seed, accuracy_upright=upright, tightness=ratio)
        for seed, upright, ratio in ((0, 0.90, 0.25), (1, 0.94, 0.5))
    ]
    (row,) = miniature.table_rows(figures.curves(pair), pair)
    assert row[:2] == ("C_4", "1")
    assert row[4] == "0.50"
    assert row[6] == "92.0 ± 2.8"  # standard deviation 0.04 / sqrt(2)
    (strict, *_) = miniature.table_rows(figures.curves(honest[0][:1]), honest[0][:1])
    assert strict[2:5] == ("0.00", "0.00", "exact")


def test_measured_numbers_are_the_worst_that_were_found(honest: Honest) -> None:
    """Of softness 0 alone, certified or measured; of every image that is turned."""
    results, turns = honest
    by_hand = [
        dataclasses.replace(r, certified_max=1e-8, measured_max=5e-7 if r.group == "C_4" else 2e-9)
        if r.softness == 0
        else dataclasses.replace(r, certified_max=3.0, measured_max=2.0, tightness=tightness)
        for r, tightness in zip(results, (None, 0.25, None, 0.75), strict=True)
    ]
    found = [claim.measured for claim in miniature.claims(by_hand, turns)]
    assert found[0] == f"worst ratio 0.75 over {sum(r.checks for r in results)} checks"
    assert found[1] == "certificates of 4 models"
    assert found[2] == "largest change of the logits 5e-07, certified or measured"
    other = [dataclasses.replace(r, certified_max=4e-6) if r.softness == 0 else r for r in by_hand]
    assert "logits 4e-06," in miniature.claims(other, turns)[2].measured
    # One image that does not return is enough, and where it was on the way does not matter.
    spectral = turns.spectral.clone()
    spectral[3] = 0
    assert words(results, dataclasses.replace(turns, spectral=spectral))[3] == "holds"
    spectral[-1, 7] *= 1.5
    claim = miniature.claims(results, dataclasses.replace(turns, spectral=spectral))[3]
    assert (claim.verdict, claim.measured) == ("FAILS", "largest relative error 5e-01")


def test_every_cell_of_the_table_is_its_own_number(honest: Honest) -> None:
    pair = [
        dataclasses.replace(
            honest[0][1], seed=seed, certified_relative=4 + seed, measured_relative=2 + seed, tightness=ratio,
            unchanged_predictions=0.25, accuracy_upright=0.75, accuracy_rotated=0.5,
        )
        for seed, ratio in ((0, 0.25), (1, 0.125))
    ]  # fmt: skip
    (row,) = miniature.table_rows(figures.curves(pair), pair)
    assert row == (
        "C_4", "1", "4.50 ± 0.71", "2.50 ± 0.71", "0.25", "25.0 ± 0.0", "75.0 ± 0.0", "50.0 ± 0.0",
    )  # fmt: skip
