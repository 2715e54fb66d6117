"""The experiment on a body with two domains: what it measures, what it concludes, and all of it, tiny."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bench.experiments import two_domains
from bench.experiments.two_domains import EXPERIMENT, PLAIN, SPATIAL, Answers, correlations, numbers_of
from equikernels.models.data import load_dataset
from equikernels.models.engine import OptimizerOptions, TrainingOptions
from equikernels.models.engine.results import Cell, Finished, Result, finished_cells, read_record
from equikernels.models.engine.toml import to_toml

TINY = two_domains.Size(
    images=60,
    pixels=8,
    spatial={"hidden": 4, "encoder_hidden": 8, "z_delay": 1},
    plain={"hidden": 8},
    training=TrainingOptions(epochs=1, batch_size=30, device="cpu"),
    optimizer=OptimizerOptions(learning_rate=1e-3),
)


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# -- numbers -------------------------------------------------------------------------------------------------


def test_correlations_are_pearsons() -> None:
    z, conformation = drawn(50, 3), drawn(50, seed=1)
    z[:, 1] = -2 * conformation + 0.3 * z[:, 1] + 5
    expected = [np.corrcoef(z[:, k], conformation)[0, 1] for k in range(3)]
    np.testing.assert_allclose(correlations(z, conformation), expected, atol=1e-6)
    assert correlations(torch.ones(5, 1), drawn(5)).tolist() == [0.0]


def test_numbers_of_answers() -> None:
    """Against the formulas written out."""
    true, z, conformation = drawn(200) * 2, drawn(200, 2), drawn(200, seed=1)
    theta = true + 0.5 * drawn(200, seed=2) + 1
    found = numbers_of(Answers(z, theta, conformation, true), latent=1)
    assert found["conformation"] == pytest.approx(abs(np.corrcoef(z[:, 1], conformation)[0, 1]), abs=1e-6)
    for name, factor in (("rotation", 1), ("rotation up to half turns", 2)):
        a, b = factor * theta.numpy().astype(float), factor * true.numpy().astype(float)
        mean_a, mean_b = (math.atan2(np.sin(v).mean(), np.cos(v).mean()) for v in (a, b))
        scale = 2 * math.sqrt((np.sin(a - mean_a) ** 2).mean() * (np.sin(b - mean_b) ** 2).mean())
        expected = (abs(np.exp(1j * (a - b)).mean()) - abs(np.exp(1j * (a + b)).mean())) / scale
        assert found[name] == pytest.approx(expected)
    assert set(numbers_of(Answers(z, None, conformation, true), 0)) == {"conformation"}


def test_half_turns_are_told_apart_from_turns_that_are_wrong() -> None:
    true = torch.linspace(-3, 3, 400)
    flipped = true + math.pi * (torch.arange(400) % 2)
    found = numbers_of(Answers(drawn(400, 1), flipped, drawn(400), true), 0)
    assert abs(found["rotation"]) < 0.1
    assert found["rotation up to half turns"] > 0.9


def test_the_latent_is_chosen_on_training_images_and_judged_on_new_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its strength, whatever its sign: there the second follows the conformation, on others the first."""
    from equikernels.models.engine import open_run, train

    monkeypatch.setattr(two_domains, "TEST_COUNT", 40)
    cell = next(c for c in two_domains.make_cells(TINY) if c.row == PLAIN[2])
    train(cell.configuration, tmp_path / "run")
    counts = []

    def said(model: Any, dataset: Any) -> Answers:
        counts.append(len(dataset))
        conformation, noise = drawn(len(dataset)), drawn(len(dataset), seed=1)
        trained = len(dataset) == 48
        followed = -conformation if trained else conformation
        z = torch.stack([noise, followed] if trained else [followed, noise], dim=1)
        return Answers(z, None, conformation, noise)

    monkeypatch.setattr(two_domains, "answers", said)
    judged = two_domains.judge(open_run(tmp_path / "run"))
    # A fifth of the 60 images is kept for validation.
    assert counts == [48, 40]
    assert judged.latent == 1
    assert numbers_of(judged.answers, judged.latent)["conformation"] < 0.5


def test_test_images_are_new_images_of_the_same_kind() -> None:
    cell = EXPERIMENT.cells["cpu"][0]
    options = dict(option.split("=") for option in two_domains.unseen(cell.configuration).data_options)
    trained = dict(option.split("=") for option in cell.configuration.data_options)
    assert options.pop("seed") != trained.pop("seed", "0")
    assert options.pop("count") == str(two_domains.TEST_COUNT)
    trained.pop("count")
    assert options == trained


def test_budgets_have_the_papers_models() -> None:
    for budget, pixels in (("cpu", "28"), ("full", "40")):
        cells = EXPERIMENT.cells[budget]
        assert [cell.row for cell in cells] == [row for row in (SPATIAL, *PLAIN.values()) for _ in range(2)]
        assert {cell.configuration.seed for cell in cells} == {0, 1}
        assert all(f"size={pixels}" in cell.configuration.data_options for cell in cells)
        model = cells[0].configuration.model
        assert (model.theta_prior, model.theta_mean_penalty) == (math.pi, False)
        assert (model.latent_dim, model.likelihood, model.z_delay > 0) == (1, "gaussian", True)
        assert [c.configuration.model.latent_dim for c in cells[2::2]] == [1, 2, 4]
        assert all(c.configuration.model.decoder == "plain" for c in cells[2:])
    full = EXPERIMENT.cells["full"][0].configuration
    assert (full.training.epochs, full.optimizer.learning_rate, full.model.hidden) == (500, 1e-4, 500)


# -- findings ------------------------------------------------------------------------------------------------


def kept(row: str, seed: int, **numbers: float) -> tuple[Cell, Result]:
    cells = [c for c in EXPERIMENT.cells["cpu"] if c.row == row and c.configuration.seed == seed]
    (cell,) = cells
    return cell, Result("cpu", row, to_toml(cell.configuration), numbers, "", 1.0, "2026-01-01", {})


def spatial(seed: int, conformation: float, rotation: float, half: float | None = None) -> Any:
    numbers = {"conformation": conformation, "rotation": rotation}
    return kept(SPATIAL, seed, **numbers, **{"rotation up to half turns": rotation if half is None else half})


def verdicts(*results: tuple[Cell, Result]) -> list[str]:
    lines = two_domains.findings(dict(results)).splitlines()
    return [line.split(" | ")[2].rstrip(" |").strip("*") for line in lines[2:6]]


def test_verdicts_follow_from_every_seed() -> None:
    plain = [kept(PLAIN[1], 0, conformation=0.02), kept(PLAIN[4], 1, conformation=0.14)]
    good = [spatial(0, 0.97, 0.90), spatial(1, 0.90, 0.87)]
    assert verdicts(*good, *plain) == ["confirmed"] * 4
    assert verdicts(good[0], spatial(1, 0.89, 0.9), *plain)[0] == "not confirmed"
    assert verdicts(good[0], spatial(1, 0.95, 0.86), *plain)[1] == "not confirmed"
    found = verdicts(*good, *plain, kept(PLAIN[2], 0, conformation=0.15))
    assert found == ["confirmed", "confirmed", "not confirmed", "confirmed"]
    found = verdicts(*good, *plain, kept(PLAIN[2], 0, conformation=0.93))
    assert found[2:] == ["not confirmed", "not confirmed"]
    assert verdicts(*good) == ["confirmed", "confirmed", "no run yet", "no run yet"]
    assert verdicts(*plain) == ["no run yet", "no run yet", "confirmed", "no run yet"]


def test_verdicts_at_their_borders_and_without_numbers() -> None:
    published, margin = two_domains.PUBLISHED, two_domains.MARGIN
    plain = [kept(PLAIN[1], 0, conformation=0.02), kept(PLAIN[4], 1, conformation=0.14)]
    for name, place in (("conformation", 0), ("rotation", 1)):
        for change, verdict in ((1e-6, "confirmed"), (-1e-6, "not confirmed")):
            last = {"conformation": 0.97, "rotation": 0.95, name: published[name] - margin + change}
            assert verdicts(spatial(0, 0.97, 0.95), spatial(1, **last), *plain)[place] == verdict
        for seeds in ((0, 1), (1, 0)):
            lost = {"conformation": 0.97, "rotation": 0.95, name: math.nan}
            found = verdicts(spatial(seeds[0], 0.97, 0.95), spatial(seeds[1], **lost), *plain)
            assert found[place] == "not confirmed"
    good = [spatial(0, 0.97, 0.9), spatial(1, 0.97, 0.9)]
    for change, verdict in ((-1e-6, "confirmed"), (1e-6, "not confirmed")):
        most = kept(PLAIN[2], 0, conformation=published["ordinary"] + margin + change)
        assert verdicts(*good, *plain, most)[2] == verdict
    # One ordinary VAE that is no number leaves nothing to be better than.
    for others in (
        [plain[0], kept(PLAIN[2], 0, conformation=math.nan)],
        [kept(PLAIN[2], 0, conformation=math.nan), plain[0]],
    ):
        assert verdicts(*good, *others)[2:] == ["not confirmed", "not confirmed"]
    assert verdicts(*good, kept(PLAIN[2], 0, conformation=0.97))[3] == "not confirmed"


def test_confused_ends_are_told() -> None:
    text = two_domains.findings(dict([spatial(0, 0.5, 0.1, 0.95), spatial(1, 0.5, 0.9, 0.95)]))
    assert text.count("confuses its ends") == 1
    assert "rotation 0.10, up to half turns 0.95" in text
    assert "0.50, 0.50" in text
    assert "confuses" not in two_domains.findings(dict([spatial(0, 0.5, 0.7, 0.89)]))
    assert "confuses" in two_domains.findings(dict([spatial(0, 0.5, 0.7, 0.91)]))


# -- all of it -----------------------------------------------------------------------------------------------


def test_the_command_makes_page_record_and_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(two_domains, "TEST_COUNT", 40)
    tiny = dataclasses.replace(EXPERIMENT, cells={"cpu": two_domains.make_cells(TINY, seeds=[0])})
    assert two_domains.main([], tmp_path, tiny) == 0
    page = (tmp_path / "docs" / "results" / "two_domains.md").read_text()
    assert "4 of 4 runs" in page
    assert "| published | here, every run | verdict |" in page
    record = (tmp_path / "docs" / "results" / "two_domains.jsonl").read_text()
    assert len(record.splitlines()) == 4
    for name in ("correlations", "latents", "content"):
        picture = tmp_path / "docs" / "figures" / f"two_domains_{name}.png"
        assert f"../figures/{picture.name}" in page
        assert 1000 < picture.stat().st_size < 200_000
        picture.unlink()
    # Again: nothing is trained, the figures are drawn anew.
    capsys.readouterr()
    assert two_domains.main([], tmp_path, tiny) == 0
    assert "epoch" not in capsys.readouterr().out
    assert (tmp_path / "docs" / "figures" / "two_domains_content.png").exists()
    assert (tmp_path / "docs" / "results" / "two_domains.jsonl").read_text() == record
    # Without the runs there is a table, but no figure of what a model says.
    (tmp_path / "build").rename(tmp_path / "away")
    assert two_domains.main([], tmp_path, tiny) == 1
    assert f"expected the run of {SPATIAL!r}" in capsys.readouterr().err
    # Where a kind has no run, what needs it is left out.
    finished = Finished(tiny, "cpu", {}, tmp_path / "away" / "runs")
    found = finished_cells(tiny, "cpu", read_record(tmp_path / "docs" / "results" / "two_domains.jsonl"))
    for row, names in ((SPATIAL, {"correlations"}), (PLAIN[1], {"correlations", "content"})):
        fewer = {cell: result for cell, result in found.items() if cell.row != row}
        assert two_domains.figures(dataclasses.replace(finished, results=fewer)).keys() == names


def test_the_numbers_are_those_of_the_test_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from equikernels.models.engine import open_run, train

    monkeypatch.setattr(two_domains, "TEST_COUNT", 50)
    cell = two_domains.make_cells(TINY)[0]
    train(cell.configuration, tmp_path / "run")
    numbers = two_domains.measure(open_run(tmp_path / "run"))
    dataset = load_dataset("two-domains", count=50, size=8, seed=two_domains.TEST_SEED)
    batch = dataset.fetch(torch.arange(50))
    model = open_run(tmp_path / "run").load_model(dataset)
    with torch.no_grad():
        z = model.encode(batch["image"]).mean[:, 3]  # type: ignore[operator]
    expected = abs(np.corrcoef(z, batch["conformation"])[0, 1])
    assert numbers["conformation"] == pytest.approx(expected, abs=1e-5)
    assert numbers["elbo"] < 0
