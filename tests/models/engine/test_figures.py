"""Figures of an experiment: drawn from a complete table, and small on the disk."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from equikernels.models.engine import RunError, Stopped, results
from equikernels.models.engine.figures import save_figure
from equikernels.models.engine.results import (
    Cell,
    Experiment,
    Finished,
    Result,
    experiment_main,
    run_folder,
)
from tests.models.engine.samples import configured


def cell(row: str, seed: int = 0, **model: Any) -> Cell:
    return Cell(row, dataclasses.replace(configured(model, epochs=1, batch_size=500), seed=seed))


NARROW, WIDE = cell("narrow", hidden=2), cell("wide", hidden=9)
BAD = cell("bad", poisoned=tuple(range(1797)))


def draw(finished: Finished) -> dict[str, Figure]:
    """A figure as wide as there are runs, and one of the first run's own."""
    few, own = Figure(figsize=(len(finished.results), 1)), Figure(figsize=(3, 2))
    hidden = finished.run(next(iter(finished.results))).configuration.model.hidden
    own.subplots().plot([hidden, hidden])
    return {f"{finished.budget}_few": few, "own": own}


EXPERIMENT = Experiment(
    name="widths",
    title="Digits by width",
    introduction="How many hidden units it takes.",
    command="python -m bench.widths",
    cells={"cpu": [BAD, NARROW, WIDE], "full": [NARROW]},
    columns=[],
    figures=draw,
)


def only(*cells: Cell) -> Experiment:
    return dataclasses.replace(EXPERIMENT, cells={"cpu": cells})


def width(path: Path) -> int:
    with Image.open(path) as picture:
        return picture.width


def test_figures_stand_beside_the_pages_by_their_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = []

    def watched(finished: Finished) -> dict[str, Figure]:
        seen.append(finished)
        return draw(finished)

    experiment = dataclasses.replace(EXPERIMENT, figures=watched)
    assert experiment_main(lambda: experiment, ["--budget", "full"], tmp_path) == 0
    folder = tmp_path / "docs" / "figures"
    assert {path.name for path in folder.iterdir()} == {"widths_full_few.png", "widths_own.png"}
    assert seen[0].runs == tmp_path / "build" / "runs"
    # Of the other budget nothing is drawn but what was asked for; the run that diverged is left out.
    assert experiment_main(lambda: experiment, ["--budget", "cpu"], tmp_path) == 1
    assert [finished.budget for finished in seen] == ["full", "cpu"]
    assert list(seen[1].results) == [NARROW, WIDE]
    assert all(result.budget == "cpu" and result.numbers for result in seen[1].results.values())
    assert width(folder / "widths_cpu_few.png") == 2 * width(folder / "widths_full_few.png")
    # Where the page goes the figures go.
    page = tmp_path / "away" / "pages" / "widths.md"
    assert experiment_main(lambda: experiment, ["--page", str(page)], tmp_path) == 1
    assert (tmp_path / "away" / "figures" / "widths_own.png").is_file()
    # Where every run failed there is nothing to draw.
    assert experiment_main(lambda: dataclasses.replace(only(BAD), figures=watched), [], tmp_path) == 1
    assert len(seen) == 3


def test_a_run_that_is_gone_is_told_and_everything_stays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert experiment_main(lambda: only(NARROW, WIDE), [], tmp_path) == 0
    runs, docs = tmp_path / "build" / "runs", tmp_path / "docs"
    gone = run_folder(EXPERIMENT, "cpu", NARROW, runs)
    shutil.rmtree(gone)
    kept = {path: path.read_bytes() for path in docs.rglob("*.*")}
    assert len(kept) == 4
    capsys.readouterr()
    assert experiment_main(lambda: only(NARROW, WIDE), [], tmp_path) == 1
    assert capsys.readouterr().err == (
        f"python -m bench.widths: no figures: {gone}: "
        "expected the run of 'narrow', got no file run.toml there\n"
    )
    assert {path: path.read_bytes() for path in docs.rglob("*.*")} == kept
    # What needs no run of that cell is drawn.
    finished = Finished(EXPERIMENT, "cpu", {}, runs)
    assert finished.run(WIDE).configuration == WIDE.configuration
    with pytest.raises(RunError, match="expected the run of 'narrow'"):
        finished.run(NARROW)


def test_the_first_cell_of_every_row_is_the_first_that_did_not_fail() -> None:
    cells = [NARROW, cell("narrow", 1, hidden=2), WIDE]
    result = Result("cpu", "", "", {}, "", 0.0, "2026-01-01", {})
    whole = Finished(EXPERIMENT, "cpu", dict.fromkeys(cells, result), Path())
    assert whole.first() == {"narrow": NARROW, "wide": WIDE}
    fewer = dataclasses.replace(whole, results=dict.fromkeys(cells[1:2], result))
    assert fewer.first() == {"narrow": cells[1]}


def test_an_unfinished_table_has_no_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = results.train

    def train(configuration: Any, folder: Path) -> dict[str, Any]:
        if configuration == WIDE.configuration:
            raise Stopped("stopped by SIGTERM", 143)
        return real(configuration, folder)

    monkeypatch.setattr(results, "train", train)
    assert experiment_main(lambda: only(NARROW, WIDE), [], tmp_path) == 143
    assert "1 of 2 runs" in (tmp_path / "docs" / "results" / "widths.md").read_text()
    assert not (tmp_path / "docs" / "figures").exists()
    monkeypatch.setattr(results, "train", real)
    assert experiment_main(lambda: only(NARROW, WIDE), [], tmp_path) == 0
    assert (tmp_path / "docs" / "figures" / "widths_own.png").is_file()


def test_a_figure_is_small_and_keeps_its_colours(tmp_path: Path) -> None:
    colours = ["#0072B2", "#D55E00", "#009E73"]
    figure = Figure(figsize=(6, 4))
    axes = figure.subplots()
    axes.imshow(np.random.default_rng(0).random((60, 60, 3)), extent=(0, 1, 0, 1))
    for place, colour in enumerate(colours):
        axes.axhspan(1 + place, 2 + place, color=colour)
    axes.set(ylim=(0, 4))
    path = tmp_path / "figure.png"
    path.write_bytes(b"what was there before")
    save_figure(figure, path)
    assert list(tmp_path.iterdir()) == [path]
    with Image.open(path) as picture:
        assert (picture.format, picture.mode, picture.size) == ("PNG", "P", (660, 440))
        pixels = np.asarray(picture.convert("RGB")).reshape(-1, 3).astype(int)
    for colour in colours:
        wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
        assert abs(pixels - wanted).max(1).min() <= 8
    assert (pixels == 255).all(1).any()
    with pytest.raises(OSError, match="absent"):
        save_figure(figure, tmp_path / "absent" / "figure.png")
