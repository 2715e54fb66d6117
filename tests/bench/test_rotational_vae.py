"""The experiment on tuned VAEs, shrunken to seconds, and what it says about given numbers."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from bench.experiments import rotational_vae
from bench.experiments.rotational_vae import Settings, main, make_experiment
from bench.experiments.rotational_vae_findings import CLASSES, ROWS, TRAINED, findings
from equikernels.models.data import load_dataset
from equikernels.models.engine import default_configuration, open_run, train
from equikernels.models.engine.results import Cell

SMALL = Settings(
    data="$EQUIKERNELS_DATA/pictures",
    data_options=(),
    model={"channels": (2, 2), "latent_channels": 2, "norm_groups": 1, "attention": False, "crop": 8},
    base_epochs=1,
    tuned_epochs=1,
)


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "data" / "pictures"
    folder.mkdir(parents=True)
    values = np.random.default_rng(0).integers(0, 256, (4, 12, 12, 3), dtype=np.uint8)
    for number, picture in enumerate(values):
        Image.fromarray(picture).save(folder / f"{number}.png")
    monkeypatch.setenv("EQUIKERNELS_DATA", str(tmp_path / "data"))
    return folder


def test_the_command_makes_the_page_and_the_figures_and_goes_on(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rotational_vae, "SEEDS", (0,))
    monkeypatch.setattr(rotational_vae, "LEVELS", (0.0, 1.0))
    monkeypatch.setattr("bench.experiments.rotational_vae_findings.LEVELS", (0.0, 1.0))
    assert main([], tmp_path, SMALL) == 0
    page = (tmp_path / "docs" / "results" / "rotational_vae.md").read_text()
    for row in (ROWS.untuned, ROWS.control, *TRAINED):
        assert f"| {row} |" in page
    assert "equivariant to rounding" in page
    assert "NOT equivariant to rounding" not in page
    assert "nan" not in page
    for name in ("errors", "turns"):
        assert f"../figures/rotational_vae_{name}.png" in page
        assert (tmp_path / "docs" / "figures" / f"rotational_vae_{name}.png").stat().st_size < 200_000
    record = tmp_path / "docs" / "results" / "rotational_vae.jsonl"
    rows = [json.loads(line) for line in record.read_text().splitlines()]
    assert len(rows) == 5
    # The control and the tuned ones start from the untuned one, and end elsewhere.
    assert len({row["numbers"]["psnr_0"] for row in rows}) == 5
    assert main([], tmp_path, SMALL) == 0
    assert len(record.read_text().splitlines()) == 5


def test_without_the_data_there_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("EQUIKERNELS_DATA", raising=False)
    assert main(["--budget", "cpu"], tmp_path) == 2
    assert capsys.readouterr().err == (
        "python -m bench.experiments.rotational_vae: data: $EQUIKERNELS_DATA/photos/kodak: the environment "
        "variable EQUIKERNELS_DATA is not set\n"
    )


def test_every_row_of_a_seed_starts_from_its_untuned_run_and_the_test_chooses_nothing() -> None:
    for cell in make_experiment().cells["cpu"]:
        training = cell.configuration.training
        assert training.validate_epochs == training.epochs
        if cell.row == ROWS.untuned:
            assert cell.after is None
        else:
            assert cell.after is not None
            assert cell.after.row == ROWS.untuned
            assert cell.after.configuration.seed == cell.configuration.seed
    paper = {c.row: c.configuration for c in make_experiment().cells["full"]}[ROWS.half]
    assert (paper.optimizer.algorithm, paper.optimizer.learning_rate) == ("adamw", 5e-5)
    assert (paper.training.batch_size, paper.training.epochs) == (3, 5)
    assert (paper.model.mode, paper.model.group, paper.model.crop) == ("dual", "C_2", 256)


def test_block_means_turn_by_themselves() -> None:
    images = torch.arange(16.0).reshape(1, 1, 4, 4)
    means = rotational_vae._block_means(images, 2)
    assert means[0, 0, 0].tolist() == means[0, 0, 1].tolist() == [2.5, 2.5, 4.5, 4.5]
    turned = rotational_vae._block_means(images.rot90(1, (-2, -1)), 2)
    assert torch.equal(turned, means.rot90(1, (-2, -1)))


def test_numbers_are_those_of_the_photographs_kept_from_training(pictures: Path, tmp_path: Path) -> None:
    """Against formulas on the one of the four that no training saw, for a vae that is not tuned further."""
    cell = make_experiment(SMALL).cells["cpu"][0]
    configuration = dataclasses.replace(
        cell.configuration, training=dataclasses.replace(cell.configuration.training, epochs=1)
    )
    train(configuration, tmp_path / "run")
    run = open_run(tmp_path / "run")
    found = rotational_vae.measure_run(run)
    dataset = load_dataset(pictures)
    shares = {"train": 0.75, "valid": 0.25}
    image = dataset.split(shares, configuration.split_seed)["valid"].fetch(torch.arange(1))["image"]
    model: Any = run.load_model(dataset)
    errors = []
    for turns in (0, 2, 1, 3):
        with torch.no_grad():
            z = model.encode(2 * image - 1)
            back = model.decode(z.rot90(turns, (-2, -1))).rot90(-turns, (-2, -1))
        pixels = ((back + 1) / 2).clamp(0, 1)
        errors.append(float(-10 * torch.log10((pixels - image).square().mean())))
    assert found["psnr_as it is"] == pytest.approx(errors[0], abs=1e-4)
    assert found["psnr_half turn"] == found["psnr_180"] == pytest.approx(errors[1], abs=1e-4)
    assert found["psnr_quarter turns"] == pytest.approx((errors[2] + errors[3]) / 2, abs=1e-4)
    flips = [found[f"round_trip_mse_{name}"] for name in ("0flip", "90flip", "180flip", "270flip")]
    assert found["round_trip_mse_flips"] == pytest.approx(sum(flips) / 4)
    blocks = image.unflatten(-1, (6, 2)).unflatten(-3, (6, 2)).mean((-3, -1))
    means = blocks.repeat_interleave(2, -1).repeat_interleave(2, -2)
    expected = float(-10 * torch.log10((means - image).square().mean()))
    assert found["psnr_block means"] == pytest.approx(expected, abs=1e-4)


def numbers(mse: dict[str, float], psnr: float = 24.0) -> dict[str, float]:
    found = {f"round_trip_mse_unit_{kind}": mse[kind] for kind in CLASSES}
    return found | {"psnr_as it is": psnr, "psnr_block means": 20.0}


def said(rows: dict[str, list[dict[str, float]]]) -> str:
    """The findings for the numbers of every row, seed after seed."""
    results: dict[Any, Any] = {}
    for row, seeds in rows.items():
        for seed, found in enumerate(seeds):
            configuration = dataclasses.replace(default_configuration("rvae"), seed=seed)
            results[Cell(row, configuration)] = SimpleNamespace(numbers=found)
    return findings(results)


def mse(upright: float, half: float, quarter: float, flips: float) -> dict[str, float]:
    return dict(zip(CLASSES, (upright, half, quarter, flips), strict=True))


def test_verdicts_follow_from_the_numbers_of_every_seed() -> None:
    untuned = [numbers(mse(1, 4, 3, 2), 24.5), numbers(mse(1, 2, 3, 2), 24.1)]
    control = [numbers(mse(1, 4, 3, 2), 25.0), numbers(mse(1, 2, 3, 2), 25.0)]
    tuned = [numbers(mse(1, 2, 3, 2), 24.5), numbers(mse(1, 0.5, 3, 2), 25.1)]
    rows = {ROWS.untuned: untuned, ROWS.control: control, ROWS.half: tuned}
    text = said(rows)
    assert (
        "24.30 (24.10 to 24.50) dB (24 dB: reached); means over the pixels of a latent are at 20.00" in text
    )
    assert "multiplies it by 3.00 (2.00 to 4.00): **confirmed**. That it grows at all: **confirmed**." in text
    blurred = {ROWS.untuned: [numbers(mse(1, 1.9, 3, 2), 24.5), numbers(mse(1, 1.1, 3, 2), 24.1)]}
    assert "by 1.50 (1.10 to 1.90): **not confirmed**. That it grows at all: **confirmed**." in said(blurred)
    assert "after a half turn falls by a factor of 3.00 (2.00 to 4.00): **confirmed**" in text
    assert "PSNR differs from the control's by -0.20 (-0.50 to +0.10) dB" in text
    worse = dict(rows)
    worse[ROWS.half] = [tuned[0], numbers(mse(1, 2.5, 3, 2))]
    assert "factor of 1.40 (0.80 to 2.00): **not confirmed**, the runs disagree" in said(worse)
    worse[ROWS.untuned] = [numbers(mse(1, 0.9, 3, 2), 23.9)]
    text = said(worse)
    assert "23.90 dB (24 dB: not reached)" in text
    assert "multiplies it by 0.90: **not confirmed**. That it grows at all: **not confirmed**." in text
    rows[ROWS.quarter] = rows[ROWS.flips] = [numbers(mse(1, 1, 1, 1)), numbers(mse(1, 1, 1, 1))]
    text = said(rows)
    line = f"| {ROWS.quarter} | {ROWS.control} | 1.00 (1.00 to 1.00) | **3.00 (2.00 to 4.00)** | **3.00"
    assert line in text


def test_verdicts_at_their_borders() -> None:
    def untuned(*ratios: float, psnr: tuple[float, ...] = (24.0, 24.0)) -> str:
        seeds = [numbers(mse(0.5, 0.5 * r, 1, 1), p) for r, p in zip(ratios, psnr, strict=True)]
        return said({ROWS.untuned: seeds})

    assert "(2.00 to 2.00): **confirmed**. That it grows at all: **confirmed**." in untuned(2.0, 2.0)
    assert (
        "(1.00 to 2.00): **not confirmed**, the runs disagree. That it grows at all: **not confirmed**, "
        in (untuned(2.0, 1.0))
    )
    one = said({ROWS.untuned: [numbers(mse(1, 3, 1, 1))]})
    assert "multiplies it by 3.00: **confirmed**, in one run." in one
    # What one seed reaches is not reached, and no more is what is no number.
    assert "24 dB: reached" in untuned(2.0, 2.0)
    for psnr in ((25.0, 23.9), (23.9, 25.0), (25.0, math.nan), (math.nan, 25.0)):
        assert "24 dB: not reached" in untuned(2.0, 2.0, psnr=psnr)
    text = untuned(2.0, math.nan)
    assert "**not confirmed**, the runs disagree. That it grows at all: **not confirmed**, the runs" in text


def test_rows_are_compared_with_the_control_where_both_have_a_seed() -> None:
    """Against the control, not against the untuned run, whose error is ten times as large."""
    control = [numbers(mse(1, 4, 3, 2)), numbers(mse(1, 2, 3, 2))]
    rows = {ROWS.untuned: [numbers(mse(1, 40, 30, 20))] * 2, ROWS.control: control}
    text = said({**rows, ROWS.half: [numbers(mse(1, 2, 1, 1))]})
    assert "after a half turn falls by a factor of 2.00: **confirmed**, in one run." in text
    same = said({**rows, ROWS.half: [numbers(mse(1, 4, 1, 1)), numbers(mse(1, 2, 1, 1))]})
    assert "factor of 1.00 (1.00 to 1.00): **not confirmed**." in same
    lost = said({**rows, ROWS.half: [numbers(mse(1, 2, 1, 1)), numbers(mse(1, math.nan, 1, 1))]})
    assert "**not confirmed**, the runs disagree." in lost
    # Elements that a row was not trained by are in the table and in no claim.
    assert "after quarter turns" not in text
    assert ROWS.quarter not in text


def test_softness_is_told_from_its_numbers() -> None:
    soft = {f"softness {s:g} {n}": 0.5 for s in (0.0, 0.25, 0.5, 0.75, 1.0) for n in ("encoder", "psnr")}
    soft |= {f"softness {s:g} decoder": 0.5 for s in (0.0, 0.25, 0.5, 0.75, 1.0)}
    exact = soft | {"softness 0 encoder": 1e-15, "softness 0 decoder": 2e-15}
    base = numbers(mse(1, 4, 3, 2))
    assert "NOT equivariant to rounding (0.5)" in said({ROWS.untuned: [base | soft]})
    text = said({ROWS.untuned: [base | exact]})
    assert "is equivariant to rounding (2e-15)" in text
    assert "| 0 | 1e-15 | 2e-15 | 0.50 |" in text
    assert "Exact by construction" not in said({ROWS.untuned: [base]})
    for name in ("encoder", "decoder"):
        for value in (1e-10, math.nan):
            late = exact | {f"softness 0 {name}": value}
            text = said({ROWS.untuned: [base | exact, base | late]})
            assert f"is NOT equivariant to rounding ({value:.1g})" in text


def test_classes_have_every_element_once() -> None:
    members = [element for members in CLASSES.values() for element in members]
    assert len(members) == len(set(members)) == 8
    assert dataclasses.is_dataclass(ROWS)
    assert torch.equal(rotational_vae.ALL.elements(), torch.arange(8))
