"""The table of MNIST by softness: end to end on tiny images, and what it concludes."""

from __future__ import annotations

import dataclasses
import gzip
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bench.experiments import soft_mnist
from bench.experiments.soft_mnist import (
    by_level,
    cell,
    configurations,
    findings,
    first_layer_errors,
    make_experiment,
    network_errors,
    ratio,
)
from equikernels.group import CyclicGroup
from equikernels.models.data import load_dataset
from equikernels.models.engine import TrainingOptions, open_run, train
from equikernels.models.engine.results import Cell, Result
from equikernels.models.soft_equivariance import SoftGridClassifier
from equikernels.models.soft_equivariance.tasks import SoftGridOptions


def write_idx(path: Path, values: np.ndarray) -> None:
    header = bytes([0, 0, 8, values.ndim]) + b"".join(int(n).to_bytes(4, "big") for n in values.shape)
    with gzip.open(path, "wb") as file:
        file.write(header + values.astype(np.uint8).tobytes())


@pytest.fixture
def digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder like MNIST's with 8 x 8 digits: 150 for training, 60 for tests."""
    batch = load_dataset("digits").fetch(torch.arange(210))
    folder = tmp_path / "data" / "mnist"
    folder.mkdir(parents=True)
    pixels, labels = (255 * batch["image"][:, 0]).numpy(), batch["label"].numpy()
    for name, part in (("train", slice(150)), ("t10k", slice(150, 210))):
        write_idx(folder / f"{name}-images-idx3-ubyte.gz", pixels[part])
        write_idx(folder / f"{name}-labels-idx1-ubyte.gz", labels[part])
    monkeypatch.setenv("EQUIKERNELS_DATA", str(tmp_path / "data"))
    return folder


def tiny() -> Any:
    """The experiment with two levels, few steps and small images."""
    base = dataclasses.replace(
        configurations()["cpu"],
        model=SoftGridOptions(size=12, shrink=1, channels=(2, 3), classes=10),
        limit=140,
        training=TrainingOptions(
            epochs=1, batch_size=64, device="cpu", monitor="combined_accuracy", maximize=True
        ),
    )
    cells = soft_mnist.cells(base, (0.0, 0.5, 1.0), (0, 1))
    return dataclasses.replace(make_experiment(), cells={"cpu": cells})


def test_the_command_makes_page_record_and_figure(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(soft_mnist, "make_experiment", tiny)
    assert soft_mnist.main([], tmp_path) == 0
    page = (tmp_path / "docs" / "results" / "soft_mnist.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith(("| C_4", "| SO(2)"))]
    assert len(rows) == 8
    assert "16 of 16 runs" in page
    for claim in (
        "C_4: cAcc is best at an intermediate softness: ",
        "SO(2): soft layers are above the residual pathway prior at equal softness: ",
        "No measured error exceeds its bound: confirmed.",
        "not comparable.",
    ):
        assert claim in page
    picture = tmp_path / "docs" / "figures" / "soft_mnist_cpu.png"
    assert "(../figures/soft_mnist_cpu.png)" in page
    assert 5_000 < picture.stat().st_size < 200_000
    # A second call does nothing again, and draws from the record.
    picture.unlink()
    monkeypatch.setattr(soft_mnist, "measure", None)
    assert soft_mnist.main([], tmp_path) == 0
    assert picture.exists()
    assert (tmp_path / "docs" / "results" / "soft_mnist.md").read_text() == page
    record = (tmp_path / "docs" / "results" / "soft_mnist.jsonl").read_text().splitlines()
    assert len(record) == 16
    # The test images are measured, all of them and no others.
    assert all(
        math.isclose(60 * number % 1, 0, abs_tol=1e-6) or math.isclose(60 * number % 1, 1, abs_tol=1e-6)
        for number in [
            float(entry) for line in record for entry in [line.split('"accuracy": ')[1].split(",")[0]]
        ]
    )


def test_data_that_are_not_there_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("EQUIKERNELS_DATA", raising=False)
    assert soft_mnist.main([], tmp_path) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert "the environment variable EQUIKERNELS_DATA is not set" in said[0]
    assert not (tmp_path / "docs" / "figures").exists()


def test_the_budgets() -> None:
    cells = make_experiment().cells
    assert {c.configuration.seed for c in cells["cpu"]} == {0, 1}
    assert {c.configuration.seed for c in cells["full"]} == set(range(5))
    levels = {c.configuration.model.softness for c in cells["cpu"]}
    assert levels == {0, 0.25, 0.5, 0.75, 1}
    assert {0.7, 0.8, 0.9} < {c.configuration.model.softness for c in cells["full"]}
    assert all(c.configuration.limit is None for c in cells["full"])
    assert len(set(cells["cpu"])) == len(cells["cpu"]) == 2 * (5 + 3) * 2


# -- what is measured ----------------------------------------------------------------------------------------


def images() -> torch.Tensor:
    return torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(3)).double()


@pytest.mark.parametrize("softness", [0.0, 0.5])
def test_changes_of_the_logits_under_quarter_turns(softness: float) -> None:
    torch.manual_seed(0)
    model = SoftGridClassifier(8, CyclicGroup(4), softness, 3, channels=(2, 3))
    bound = model.certificate(images()).bound
    assert bound is not None
    with torch.no_grad():
        found = network_errors(model, images())
        logits = [model(images().rot90(k, (-2, -1))) for k in range(4)]
    errors = torch.stack([(other - logits[0]).norm(dim=1) for other in logits[1:]]).amax(0)
    limits = bound.relative * images().flatten(1).norm(dim=1) + bound.absolute
    lengths = logits[0].norm(dim=1)
    assert found["measured"] == pytest.approx(float((errors / lengths).median()), abs=1e-12)
    assert found["certified"] == pytest.approx(float((limits / lengths).median()), abs=1e-12)
    if softness:
        assert found["worst_ratio"] == pytest.approx(float((errors / limits).max()))
        assert 0 < found["worst_ratio"] <= 1
    else:
        assert found["worst_ratio"] == 0


@pytest.mark.parametrize("layer", ["soft", "prior"])
def test_errors_of_the_first_layer_within_a_radius(layer: Any) -> None:
    from equikernels.group import SO2

    torch.manual_seed(0)
    model = SoftGridClassifier(8, SO2(), 0.5, 3, layer=layer, channels=(2, 3))
    with torch.no_grad():
        narrow, wide = (first_layer_errors(model, images(), math.radians(angle)) for angle in (5, 30))
    assert 0 < narrow["measured"] < wide["measured"] < wide["certified"] <= 2 + 1e-6
    assert 0 < wide["worst_ratio"] <= 1
    assert wide["worst_ratio"] == pytest.approx(wide["measured"] / wide["certified"])


def test_a_broken_bound_would_be_seen() -> None:
    assert ratio(torch.tensor([1.0, 3.0]), torch.tensor([2.0, 2.0])) == 1.5
    assert ratio(torch.tensor([0.1]), torch.tensor([0.0])) == math.inf
    assert ratio(torch.tensor([1e-15]), torch.tensor([0.0])) == 0
    assert ratio(torch.tensor([math.nan]), torch.tensor([0.0])) == math.inf
    assert math.isnan(ratio(torch.tensor([math.nan, 1.0]), torch.tensor([2.0, 2.0])))


# -- conclusions ---------------------------------------------------------------------------------------------


def results(values: dict[tuple[str, float], tuple[float, float]], worst: float = 0.5) -> dict[Cell, Result]:
    """Results of C_4 by kind of layers and softness, cAcc for two seeds."""
    base = configurations()["cpu"]
    return {
        cell("C4", layer, softness, seed, base): Result(
            "cpu", "", "", {"combined_accuracy": value, "worst_ratio": worst}, "", 1.0, "2026-01-01", {}
        )
        for (layer, softness), pair in values.items()
        for seed, value in enumerate(pair)
    }


ENDS = {("soft", 0.0): (0.7, 0.72), ("soft", 1.0): (0.6, 0.62)}


@pytest.mark.parametrize(
    ("middle", "prior", "verdicts"),
    [
        ((0.73, 0.74), (0.72, 0.73), ("softness: confirmed", "equal softness: confirmed")),
        ((0.75, 0.71), (0.76, 0.72), ("not confirmed in every seed", "equal softness: not confirmed.")),
        ((0.69, 0.71), (0.68, 0.72), ("softness: not confirmed.", "equal softness: not confirmed at every")),
        # Above one end in every seed, above the other on average alone, or not even so.
        ((0.69, 0.75), (0.69, 0.74), ("not confirmed in every seed", "softness: not confirmed at every")),
        ((0.66, 0.68), (0.7, 0.7), ("softness: not confirmed.", "equal softness: not confirmed.")),
    ],
)  # fmt: skip
def test_verdicts_follow_from_the_numbers(
    middle: tuple[float, float], prior: tuple[float, float], verdicts: tuple[str, str]
) -> None:
    text = findings(results({**ENDS, ("soft", 0.5): middle, ("prior", 0.5): prior}))
    assert all(verdict in text for verdict in verdicts), text
    margin = 100 * (sum(middle) - 1.42) / 2
    assert f"{margin:+.2f} ± " in text
    assert "trains on a part of the images" in text


@pytest.mark.parametrize("seed", [0, 1])
def test_what_is_no_number_confirms_nothing(seed: int) -> None:
    def lost(pair: tuple[float, float]) -> tuple[float, float]:
        return (math.nan, pair[1]) if seed == 0 else (pair[0], math.nan)

    middle, prior = (0.75, 0.76), (0.73, 0.74)
    text = findings(results({**ENDS, ("soft", 0.5): middle, ("prior", 0.5): lost(prior)}))
    assert "equal softness: not confirmed at every" in text
    ends = {("soft", 0.0): ENDS["soft", 0.0], ("soft", 1.0): lost(ENDS["soft", 1.0])}
    assert "intermediate softness: not confirmed" in findings(results({**ends, ("soft", 0.5): middle}))
    # A level without a number is not the best of those that have one.
    levels = {("soft", 0.25): lost((0.9, 0.9)), ("soft", 0.5): middle}
    text = findings(results({**ENDS, **levels}))
    assert "intermediate softness: confirmed.** The best of 1 levels is s = 0.5" in text
    assert "intermediate" not in findings(results({**ENDS, ("soft", 0.25): lost((0.9, 0.9))}))
    found = results({**ENDS, ("soft", 0.5): middle})
    spoiled = list(found)[seed]
    numbers = {**found[spoiled].numbers, "worst_ratio": math.nan}
    found[spoiled] = dataclasses.replace(found[spoiled], numbers=numbers)
    assert "bound: NOT CONFIRMED.**" in findings(found)


def test_the_best_level_and_every_level_of_the_prior_count() -> None:
    levels = {("soft", 0.25): (0.71, 0.73), ("soft", 0.5): (0.8, 0.82), ("soft", 0.75): (0.5, 0.5)}
    prior = {("prior", 0.25): (0.7, 0.72), ("prior", 0.5): (0.81, 0.83), ("prior", 0.75): (0.4, 0.4)}
    text = findings(results({**ENDS, **levels, **prior}))
    assert "The best of 3 levels is s = 0.5" in text
    assert "+10.00 ± 0.00 points against s = 0, +20.00 ± 0.00 points against s = 1" in text
    assert "equal softness: not confirmed at every level and seed" in text
    assert "+1.00 ± 0.00 points at s = 0.25, -1.00 ± 0.00 points at s = 0.5, +10.00 ± 0.00" in text


def test_a_bound_that_is_just_reached_is_kept() -> None:
    assert "bound: confirmed.** The largest ratio in 4 runs is 1.000." in findings(results(ENDS, worst=1.0))
    assert "bound: NOT CONFIRMED.**" in findings(results(ENDS, worst=1.0001))
    first = next(iter(results(ENDS)))
    mixed = results(ENDS) | {first: results(ENDS, worst=2.0)[first]}
    assert "NOT CONFIRMED.** The largest ratio in 4 runs is 2.000." in findings(mixed)


def test_a_table_that_is_not_finished_says_less() -> None:
    text = findings(results({("soft", 0.5): (0.7, 0.8)}, worst=1.2))
    assert "intermediate" not in text
    assert "NOT CONFIRMED" in text


def test_the_prior_has_the_ends_of_the_soft_layers() -> None:
    found = results({**ENDS, ("soft", 0.5): (0.1, 0.2), ("prior", 0.5): (0.3, 0.4)})
    levels = by_level(found, "C4", "prior", "combined_accuracy")
    assert levels == {0.0: {0: 0.7, 1: 0.72}, 0.5: {0: 0.3, 1: 0.4}, 1.0: {0: 0.6, 1: 0.62}}


def test_every_column_of_turned_images_has_its_own_angle(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The task is asked once for the angle of training, and once more for every other column."""
    one = next(c for c in tiny().cells["cpu"] if c.configuration.model.group == "SO2")
    train(one.configuration, tmp_path / "run")

    def evaluate(task: Any, model: Any, batches: Any) -> dict[str, float]:
        assert len(batches.dataset) == 60
        return {"accuracy": 1.0, "turned_accuracy": task.configuration.angle}

    monkeypatch.setattr(soft_mnist.SoftGridTask, "evaluate", evaluate)
    numbers = soft_mnist.measure(open_run(tmp_path / "run"))
    assert (numbers["turned_accuracy_15"], numbers["turned_accuracy_45"]) == (15.0, 45.0)
    assert numbers["turned_accuracy"] == 30.0
