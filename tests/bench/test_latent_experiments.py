"""The tables of latent actions: their rows, their verdicts, each command from end to end on small data."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from bench.experiments import latent_mnist, latent_scene, latent_volumes
from bench.experiments.latent_tables import (
    Comparison,
    Trained,
    comparison_table,
    differences,
    spread,
    trained,
    transformation_numbers,
    verdict,
)
from equikernels.models.engine import open_run, train
from equikernels.models.engine.results import Cell, Experiment, Result

MODULES = [latent_mnist, latent_volumes, latent_scene]
ROWS = {"latent_mnist": 21, "latent_volumes": 8, "latent_scene": 16}


def result(cell: Cell, **numbers: float) -> Result:
    return Result("cpu", cell.row, "", numbers, "", 1.0, "2000-01-01", {})


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__.rpartition(".")[2])
def test_every_row_has_every_seed_and_full_is_the_published_recipe(module: ModuleType) -> None:
    experiment: Experiment = module.experiment()
    for budget, seeds in (("cpu", 2), ("full", 5)):
        cells = experiment.cells[budget]  # type: ignore[index]
        assert len(cells) == len(set(cells)) == seeds * ROWS[experiment.name]
        for row in {cell.row for cell in cells}:
            assert sorted(c.configuration.seed for c in cells if c.row == row) == list(range(seeds))
    for cell in experiment.cells["full"]:
        run = cell.configuration
        assert (run.training.epochs, run.training.batch_size, run.limit) == (50, 64, None)
        assert (run.optimizer.algorithm, run.optimizer.learning_rate) == ("adam", 1e-3)
        assert run.model.widths == (32, 64)


def test_rows_differ_in_what_they_are_named_for() -> None:
    by_row = {c.row: c.configuration.model for c in latent_mnist.cells("cpu")}
    assert by_row["blocked, C_4: manual"].partition == "manual"
    assert by_row["blocked, SO(2): none"].pairs.square == 8
    assert by_row["rotated, SO(2): learned, counterfactual"].pairs.square == 0
    ablated = by_row["blocked, C_4: learned, straight-through, varying loss only"]
    assert (ablated.invariant_weight, ablated.varying_weight, ablated.group) == (0.0, 1.0, "c4")
    stopped = by_row["blocked, SO(2): learned, straight-through, bilinear action, stopped target"]
    assert (stopped.target, stopped.method) == ("stopped", "auto")
    scenes = {c.row: c.configuration.model for c in latent_scene.cells("cpu")}
    zero = scenes["layers: learned, counterfactual, tau 0.7, zero"]
    assert (zero.threshold, zero.start, zero.pairs.scene) == (0.7, "zero", "layers")
    assert scenes["one image: none"].pairs.scene == "object"
    rows = {row for module in MODULES for c in module.cells("cpu") for row in [c.row]}
    for module in MODULES:
        for comparison in module.comparisons():
            assert {comparison.better, comparison.worse} < rows


def test_verdicts_follow_from_differences_by_seed() -> None:
    assert verdict([0.1, 0.0]) == "confirmed"
    assert verdict([0.1, -0.1]) == "not confirmed"
    assert verdict([-0.2, -0.1]) == "not confirmed: the opposite, in every seed"
    assert verdict([-0.2, 0.0]) == "not confirmed"
    # What is no number confirms nothing and refutes nothing, wherever it stands.
    for values in ([math.nan, 0.1], [0.1, math.nan], [-0.1, math.nan], [math.nan, -0.1]):
        assert verdict(values) == "not confirmed"
    assert spread([1.0, 2.0], "+.2f") == "+1.50 ± 0.71"
    cells = [c for c in latent_volumes.cells("cpu") if c.row in ("cube: manual", "cube: none")]
    psnr = {
        ("cube: manual", 0): 20.0,
        ("cube: manual", 1): 22.0,
        ("cube: none", 0): 19.0,
        ("cube: none", 1): 23.0,
    }
    results = {c: result(c, psnr=psnr[c.row, c.configuration.seed]) for c in cells}
    comparison = Comparison("manual, against none", "cube: manual", "cube: none")
    assert differences(results, comparison) == [1.0, -1.0]
    table = comparison_table(results, [comparison, Comparison("absent", "cube: none", "so3")])
    assert "| manual, against none | paper | +0.000 ± 1.414 dB | not confirmed |" in table
    assert "absent" not in table


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__.rpartition(".")[2])
def test_findings_say_what_the_numbers_say(module: ModuleType) -> None:
    def found(psnr: Callable[[str], float], **more: float) -> str:
        numbers = {"rmse_still": 0.3, "varying_share": 0.5, "mask_accuracy": 0.5, "last_loss": 0.1,
                   "varying_region": 0.2, "invariant_region": 0.4, **more}  # fmt: skip
        cells = module.cells("cpu")
        return str(module.findings({c: result(c, psnr=psnr(c.row), **numbers) for c in cells}))

    worse = found(lambda row: 20.0 - ("learned" in row), varying_share=1.0)
    assert "opposite, in every seed" in worse
    better = found(lambda row: 20.0 + ("learned" in row), mask_accuracy=1.0, varying_region=0.5)
    assert better.count("| confirmed |") > worse.count("| confirmed |")
    if module is latent_mnist:
        assert "Every mask let all vary." in worse
        assert "No mask let all vary; the largest share is 0.50." in better
        assert "does not diverge here" in better
        row = latent_mnist.row_name("blocked", "so2", f"{latent_mnist.STE}, {latent_mnist.STOPPED}")
        diverged = {c: result(c, last_loss=1e5 if c.row == row else 0.1) for c in latent_mnist.cells("cpu")}
        assert "the published loss diverges" in latent_mnist.stopped_target(diverged)
    if module is latent_scene:
        assert "found in every seed" not in worse
        assert worse.count("does not, in every seed") == 3
        assert "found in every seed: learned" in better
        assert "no better" not in better


def last_losses(free: tuple[float, float], stopped: tuple[float, float]) -> str:
    """What is said of the validation losses of two seeds with bilinear turns by any angle."""
    rows = {
        latent_mnist.row_name("blocked", "so2", latent_mnist.STE): free,
        latent_mnist.row_name("blocked", "so2", f"{latent_mnist.STE}, {latent_mnist.STOPPED}"): stopped,
    }
    cells = [c for c in latent_mnist.cells("cpu") if c.row in rows]
    return latent_mnist.stopped_target(
        {c: result(c, last_loss=rows[c.row][c.configuration.seed]) for c in cells}
    )


@pytest.mark.parametrize(
    ("stopped", "diverges"),
    [
        ((41.0, 50.0), True),
        ((40.0, 50.0), False),
        ((50.0, 21.0), False),
        ((50.0, math.inf), True),
        ((math.nan, 50.0), True),
        ((50.0, math.nan), True),
        ((1.0, math.nan), False),
    ],
)
def test_a_loss_diverges_where_every_seed_exceeds_the_largest_of_the_others(
    stopped: tuple[float, float], diverges: bool
) -> None:
    text = last_losses((2.0, 4.0), stopped)
    assert ("the published loss diverges with" in text) == diverges
    assert ("does not diverge here" in text) != diverges
    # Where all runs of one failed there is nothing to compare.
    row = latent_mnist.row_name("blocked", "so2", latent_mnist.STE)
    only = {c: result(c, last_loss=1.0) for c in latent_mnist.cells("cpu") if c.row == row}
    assert latent_mnist.stopped_target(only) == ""


def test_masks_of_whole_scenes_are_counted() -> None:
    def said(shares: dict[tuple[str, int], float]) -> str:
        found = {
            c: result(c, varying_share=shares[c.row, c.configuration.seed])
            for c in latent_mnist.cells("cpu")
            if (c.row, c.configuration.seed) in shares
        }
        return " ".join(latent_mnist.whole_scene(found))

    turned = latent_mnist.row_name("rotated", "c4", latent_mnist.STE)
    blocked = latent_mnist.row_name("blocked", "c4", latent_mnist.STE)
    assert "1 of 2 masks let all vary." in said({(turned, 0): 1.0, (turned, 1): 0.5})
    # Where a part stays the best mask is another one: these do not count.
    text = said({(turned, 0): 0.75, (turned, 1): 0.5, (blocked, 0): 1.0})
    assert "No mask let all vary; the largest share is 0.75." in text
    assert "rotated, straight-through: 0.62 ± 0.18; blocked, straight-through: 1.00." in text
    assert "mask let all" not in said({(blocked, 0): 1.0})
    assert said({}) == ""


@pytest.mark.parametrize(
    ("correlations", "said"),
    [
        (((0.5, 0.4), (0.2, 0.1)), "what varies lies more on the object."),
        (((0.5, 0.4), (0.1, 0.2)), "what varies does so in 1 of 2 seeds."),
        (((0.3, 0.3), (0.1, 0.2)), "what varies does not, in every seed."),
        (((0.3, 0.2), (math.nan, 0.2)), "what varies does so in 1 of 2 seeds."),
    ],
)
def test_regions_are_told_seed_by_seed(correlations: Any, said: str) -> None:
    cells = [c for c in latent_scene.cells("cpu") if c.row == latent_scene.image_row(latent_scene.STE)]
    found = {
        c: result(c, varying_region=varying, invariant_region=invariant)
        for c, (varying, invariant) in zip(cells, correlations, strict=True)
    }
    assert said in latent_scene.regions(found)


def test_a_mask_is_better_than_a_coin_only_above_a_half_in_every_seed() -> None:
    def group(*accuracies: float) -> str:
        row = latent_scene.layers_row(latent_scene.COUNTERFACTUAL)
        cells = [c for c in latent_scene.cells("cpu") if c.row == row]
        found = {c: result(c, mask_accuracy=a) for c, a in zip(cells, accuracies, strict=True)}
        (line,) = [line for line in latent_scene.found_masks(found).splitlines() if line.startswith("- ")]
        assert "learned, counterfactual, tau 0.5" in line
        return line[2:].partition(":")[0]

    assert group(0.9, 0.5) == "no better"
    assert group(0.9, 0.51) == "better than a coin"
    assert group(1.0, 0.9) == "better than a coin"
    assert group(1.0, 1.0) == "found in every seed"
    assert latent_scene.found_masks({}) == ""


def test_whose_claim_a_comparison_is_and_which_row_must_be_better() -> None:
    """The paper claims its straight-through partition, and not where letting all vary is best."""
    published = {
        (module.__name__.rpartition(".")[2], c.better, c.worse)
        for module in MODULES
        for c in module.comparisons()
        if c.published
    }
    ste = "learned, straight-through"
    mnist = {
        ("latent_mnist", f"{where}: {ste}", f"{where}: {other}")
        for where in ("rotated, C_4", "rotated, SO(2)", "blocked, C_4", "blocked, SO(2)")
        for other in ("manual", "none")
        if not (other == "none" and "rotated" in where)
    } | {
        ("latent_mnist", f"blocked, C_4: {ste}", f"blocked, C_4: {ste}, {losses}")
        for losses in ("neither loss", "invariant loss only", "varying loss only")
    }
    volumes = {("latent_volumes", f"{group}: {ste}", f"{group}: manual") for group in ("cube", "SO(3)")}
    scene = {
        ("latent_scene", f"layers: {ste}, tau 0.5", "layers: none"),
        ("latent_scene", f"one image: {ste}", "one image: manual"),
        ("latent_scene", f"one image: {ste}", "one image: none"),
    }
    assert published == mnist | volumes | scene
    masks = [c for c in latent_scene.comparisons() if c.number == "mask_accuracy"]
    assert len(masks) == 5
    for comparison in masks:
        assert "counterfactual" in comparison.better
        assert comparison.worse == comparison.better.replace("counterfactual", "straight-through")


def test_an_image_that_is_left_as_it_is_is_compared_with_the_turned_one(tmp_path: Path) -> None:
    """By the root mean square of every image, and then the mean over images."""
    found = trained_scene(tmp_path)
    numbers = transformation_numbers(found)
    batch, draws = next(iter(found.batches))
    x, gx, _ = (values.numpy() for values in found.task.pair(batch, draws))
    expected = np.mean([np.sqrt(np.mean((a - b) ** 2)) for a, b in zip(x, gx, strict=True)])
    assert numbers["rmse_still"] == pytest.approx(expected, rel=1e-5)
    assert numbers["rmse_still"] > 0.01


def test_the_first_half_of_the_channels_is_the_objects(tmp_path: Path) -> None:
    """The manual partition is the true one in layers: all right; its complement is all wrong."""
    found = trained_scene(tmp_path)
    assert latent_scene.mask_numbers(found)["mask_accuracy"] == 1
    found.model.logits.neg_()
    assert latent_scene.mask_numbers(found)["mask_accuracy"] == 0


def trained_scene(folder: Path) -> Trained:
    """A run of one step with the manual partition of layers, and its ten test scenes."""
    experiment = small(latent_scene, lambda row: row == "layers: manual")
    (cell,) = experiment.cells["cpu"]
    train(cell.configuration, folder / "run")
    return trained(open_run(folder / "run"), ("count=10", "size=16", "seed=1"))


# -- from end to end -----------------------------------------------------------------------------------------


def write_data(folder: Path) -> None:
    random = np.random.default_rng(0)
    (folder / "mnist").mkdir()
    for part, count in (("train", 24), ("t10k", 12)):
        images = random.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        header = b"\0\0\x08\x03" + b"".join(n.to_bytes(4, "big") for n in images.shape)
        (folder / "mnist" / f"{part}-images-idx3-ubyte").write_bytes(header + images.tobytes())
        labels = b"\0\0\x08\x01" + count.to_bytes(4, "big") + bytes(count)
        (folder / "mnist" / f"{part}-labels-idx1-ubyte").write_bytes(labels)
    (folder / "adrenalmnist3d").mkdir()
    arrays: dict[str, Any] = {}
    for part in ("train", "test"):
        arrays[f"{part}_images"] = random.integers(0, 2, (10, 28, 28, 28), dtype=np.uint8) * 255
        arrays[f"{part}_labels"] = np.zeros((10, 1), dtype=np.uint8)
    np.savez(folder / "adrenalmnist3d" / "adrenalmnist3d.npz", **arrays)


def small(module: ModuleType, chosen: Callable[[str], bool]) -> Experiment:
    """The rows that are chosen, of one seed, with tiny networks and one epoch."""
    experiment: Experiment = module.experiment()
    cells = []
    for cell in experiment.cells["cpu"]:
        run = cell.configuration
        if run.seed or not chosen(cell.row):
            continue
        data = tuple(option.replace("count=2500", "count=24") for option in run.data_options)
        cells.append(Cell(cell.row, dataclasses.replace(
            run, limit=None if run.limit is None else 20, data_options=data,
            model=dataclasses.replace(run.model, widths=(4, 6)),
            training=dataclasses.replace(run.training, epochs=1, device="cpu"),
        )))  # fmt: skip
    return dataclasses.replace(experiment, cells={"cpu": cells})


@pytest.mark.parametrize(
    ("module", "chosen", "figures"),
    [
        (latent_mnist, "blocked, SO(2): ", {"psnr", "transformed", "swapped", "parts"}),
        (latent_volumes, "SO(3)", {"psnr", "transformed"}),
        (latent_scene, ": none", {"masks"}),
        (latent_scene, "one image: learned, straight", {"masks", "transformed", "swapped", "parts"}),
    ],
    ids=["mnist", "volumes", "scene", "scene-learned"],
)
def test_a_command_makes_its_page_and_its_figures(
    module: ModuleType, chosen: str, figures: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    write_data(tmp_path)
    monkeypatch.setenv("EQUIKERNELS_DATA", str(tmp_path))
    monkeypatch.setattr(latent_scene, "TESTED", 10)
    experiment = small(module, lambda row: chosen in row)
    monkeypatch.setattr(module, "experiment", lambda: experiment)
    assert module.main([], tmp_path) == 0
    page = (tmp_path / "docs" / "results" / f"{experiment.name}.md").read_text()
    for cell in experiment.cells["cpu"]:
        assert f"| {cell.row} |" in page
    assert "left as it is" in page or experiment.name == "latent_scene"
    names = {
        path.stem.removeprefix(f"{experiment.name}_") for path in (tmp_path / "docs" / "figures").iterdir()
    }
    assert figures <= names
    # Figures come from the runs: without them the command says so, and the page stays.
    assert module.main(["--runs", str(tmp_path / "elsewhere")], tmp_path) == 1
    assert "no figures: " in capsys.readouterr().err
    assert (tmp_path / "docs" / "results" / f"{experiment.name}.md").read_text() == page


def test_data_that_are_not_there_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("EQUIKERNELS_DATA", raising=False)
    assert latent_mnist.main([], tmp_path) == 2
    error = capsys.readouterr().err
    assert "EQUIKERNELS_DATA is not set" in error
    assert error.count("\n") == 1
