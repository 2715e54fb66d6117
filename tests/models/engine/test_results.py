"""Tables of runs: done once, gone on with, and never mixed."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import shutil
import statistics
from pathlib import Path
from typing import Any

import pytest

from equikernels.models.engine import ConfigurationError, RunError, Stopped, open_run, results
from equikernels.models.engine.locking import locked
from equikernels.models.engine.results import (
    Cell,
    Column,
    Experiment,
    Finished,
    Result,
    complete,
    experiment_main,
    finished_cells,
    make_page,
    read_record,
    run_folder,
)
from equikernels.models.engine.toml import to_toml
from tests.models.engine.children import Child
from tests.models.engine.samples import configured


def cell(row: str, seed: int, **model: Any) -> Cell:
    return Cell(row, dataclasses.replace(configured(model, epochs=1, batch_size=500), seed=seed))


CELLS = [cell("narrow", 0, hidden=2), cell("narrow", 1, hidden=2), cell("wide", 0, hidden=9)]
EXPERIMENT = Experiment(
    name="widths",
    title="Digits by width",
    introduction="How many hidden units it takes.",
    command="python -m bench.widths",
    cells={"cpu": CELLS, "full": [cell("wide", 0, hidden=30)]},
    columns=[Column("loss", "loss", ".3f"), Column("accuracy (%)", "accuracy", ".1%")],
)


def places(folder: Path) -> dict[str, Path]:
    return {
        "page": folder / "docs" / "widths.md",
        "record": folder / "docs" / "widths.jsonl",
        "runs": folder / "runs",
    }


def test_a_table_has_the_runs_their_spread_and_their_conditions(tmp_path: Path) -> None:
    found = complete(EXPERIMENT, "cpu", **places(tmp_path))
    assert list(found) == CELLS
    page = (tmp_path / "docs" / "widths.md").read_text()
    losses = [found[c].numbers["loss"] for c in CELLS]
    mean, spread = statistics.fmean(losses[:2]), statistics.stdev(losses[:2])
    assert re.search(
        rf"^\| narrow \| {mean:.3f} ± {spread:.3f} \| [\d.]+% ± [\d.]+% \| 2 \| [\d.]+ s \|$", page, re.M
    )
    assert re.search(rf"^\| wide \| {losses[2]:.3f} \| [\d.]+% \| 1 \| [\d.]+ s \|$", page, re.M)
    assert "`python -m bench.widths --budget cpu`" in page
    assert "3 of 3 runs" in page
    assert "seeds 0, 1, means ± standard deviations" in page
    assert "On cpu (" in page
    assert "processes: 1" in page
    assert "Budget full" not in page
    # The full table comes beside it, never into it.
    complete(EXPERIMENT, "full", **places(tmp_path))
    both = (tmp_path / "docs" / "widths.md").read_text()
    assert both.startswith(page.rstrip("\n"))
    cpu, full = both.split("## Budget full")
    assert cpu.count("| wide |") == full.count("| wide |") == 1
    assert "| narrow |" not in full


def test_findings_follow_the_table_of_the_cells_that_finished(tmp_path: Path) -> None:
    def findings(found: Any) -> str:
        assert all(result.configuration for result in found.values())
        return f"{len(found)} cells of {', '.join(sorted({c.row for c in found}))}.\n"

    bad = cell("bad", 0, poisoned=tuple(range(1797)))
    experiment = dataclasses.replace(
        EXPERIMENT, cells={"cpu": [bad, CELLS[2]], "full": [CELLS[0]]}, findings=findings
    )
    found = complete(experiment, "cpu", **places(tmp_path))
    page = (tmp_path / "docs" / "widths.md").read_text()
    assert page.endswith("\n\n1 cells of wide.\n")
    complete(experiment, "full", **places(tmp_path))
    page = (tmp_path / "docs" / "widths.md").read_text()
    cpu, full = page.split("## Budget full")
    assert cpu.endswith("\n\n1 cells of wide.\n\n")
    assert full.endswith("\n\n1 cells of narrow.\n")
    kept = read_record(tmp_path / "docs" / "widths.jsonl")
    only_bad = {key: result for key, result in kept.items() if result == found[bad]}
    assert "cells of" not in make_page(experiment, only_bad)


def test_the_folder_of_a_run_is_known_before_and_after(tmp_path: Path) -> None:
    folders = {run_folder(EXPERIMENT, "cpu", c, tmp_path / "runs") for c in CELLS}
    assert len(folders) == 3
    complete(dataclasses.replace(EXPERIMENT, cells={"cpu": CELLS[:1]}), "cpu", **places(tmp_path))
    assert open_run(run_folder(EXPERIMENT, "cpu", CELLS[0], tmp_path / "runs")).configuration == (
        CELLS[0].configuration
    )


def test_the_command_line_says_which_budget_and_where(tmp_path: Path) -> None:
    runs = tmp_path / "elsewhere"
    arguments = ["--budget", "full", "--runs", str(runs)]
    assert experiment_main(lambda: EXPERIMENT, arguments, tmp_path) == 0
    (cell,) = EXPERIMENT.cells["full"]
    assert (run_folder(EXPERIMENT, "full", cell, runs) / "run.toml").is_file()
    assert [key[0] for key in read_record(tmp_path / "docs" / "results" / "widths.jsonl")] == ["full"]
    assert not (tmp_path / "build").exists()


def test_an_interrupted_table_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained = []
    real = results.train

    def train(configuration: Any, folder: Path) -> dict[str, Any]:
        if len(trained) == 2:
            raise Stopped("stopped by SIGINT", 130)
        trained.append(configuration)
        return real(configuration, folder)

    monkeypatch.setattr(results, "train", train)
    with pytest.raises(Stopped):
        complete(EXPERIMENT, "cpu", **places(tmp_path))
    assert "2 of 3 runs" in (tmp_path / "docs" / "widths.md").read_text()
    record = tmp_path / "docs" / "widths.jsonl"
    with record.open("a") as file:
        file.write('{"budget": "cpu", "row"')  # killed while it wrote
    monkeypatch.setattr(results, "train", lambda c, folder: (trained.append(c), real(c, folder))[1])
    complete(EXPERIMENT, "cpu", **places(tmp_path))
    assert trained == [c.configuration for c in CELLS]
    assert "3 of 3 runs" in (tmp_path / "docs" / "widths.md").read_text()
    assert len(record.read_text().splitlines()) == 3
    # Nothing is left, and the page is the same again.
    page = (tmp_path / "docs" / "widths.md").read_text()
    complete(EXPERIMENT, "cpu", **places(tmp_path))
    assert len(trained) == 3
    assert (tmp_path / "docs" / "widths.md").read_text() == page
    record.write_text("{}\n")
    with pytest.raises(RunError, match=r"widths.jsonl, line 1: no result"):
        read_record(record)


def test_a_run_that_was_interrupted_goes_on_in_its_folder(tmp_path: Path) -> None:
    complete(EXPERIMENT, "full", **places(tmp_path))
    (folder,) = (tmp_path / "runs" / "widths" / "full").iterdir()
    found = json.loads((folder / "metrics.json").read_text())
    (folder / "metrics.json").write_text(json.dumps({**found, "status": "interrupted"}))
    (tmp_path / "docs" / "widths.jsonl").unlink()
    (result,) = complete(EXPERIMENT, "full", **places(tmp_path)).values()
    assert result.numbers["loss"] == found["best"]["loss"]
    assert result.seconds > found["seconds"] > 0
    assert result.processor_seconds > found["processor_seconds"] > 0
    # What is kept is what the run itself has counted, all of it.
    counted = json.loads((folder / "metrics.json").read_text())
    assert result.seconds == counted["seconds"]
    assert result.processor_seconds == counted["processor_seconds"]
    assert result.conditions == counted["conditions"]
    assert result.numbers.keys() == counted["best"].keys() - {"epoch", "step"}


def test_a_changed_cell_is_done_again(tmp_path: Path) -> None:
    complete(EXPERIMENT, "full", **places(tmp_path))
    changed = dataclasses.replace(EXPERIMENT, cells={"full": [cell("wide", 0, hidden=31)]})
    (result,) = complete(changed, "full", **places(tmp_path)).values()
    assert "hidden = 31" in result.configuration
    assert len(list((tmp_path / "runs" / "widths" / "full").iterdir())) == 2


def test_a_run_that_diverges_is_told_in_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = cell("bad", 0, poisoned=tuple(range(1797)))
    experiment = dataclasses.replace(EXPERIMENT, cells={"cpu": [bad, CELLS[2]]})
    assert experiment_main(lambda: experiment, [], tmp_path) == 1
    page = (tmp_path / "docs" / "results" / "widths.md").read_text()
    assert re.search(r"^\| bad \| - \| - \| 1 \|", page, re.M)
    assert "- bad: failed, step 1: the loss is not finite for the training samples" in page
    assert "| wide | " in page
    assert make_page(experiment, {}) == "# Digits by width\n\nHow many hidden units it takes.\n"
    # One line says which, where its run is and where its reason; again, when nothing is left to do.
    record = tmp_path / "docs" / "results" / "widths.jsonl"
    folder = run_folder(experiment, "cpu", bad, tmp_path / "build" / "runs")
    assert (folder / "run.toml").is_file()
    line = (
        f"python -m bench.widths: 1 of 2 runs failed, for reasons that {record} has: 'bad' with seed 0 in "
        f"{folder}\n"
    )
    assert capsys.readouterr().err == line
    assert experiment_main(lambda: experiment, [], tmp_path) == 1
    assert capsys.readouterr().err == line


def test_a_second_command_in_the_same_folder_ends_with_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From another process, while the first trains; afterwards it has nothing left to do."""
    real = results.train
    seen = []

    def second() -> tuple[int, str]:
        output = tmp_path / f"output {len(seen)}"
        child = Child(lambda: experiment_main(lambda: EXPERIMENT, ["--budget", "full"], tmp_path), output)
        return child.wait(), output.read_text()

    def train(configuration: Any, folder: Path) -> dict[str, Any]:
        seen.append(second())
        return real(configuration, folder)

    monkeypatch.setattr(results, "train", train)
    assert experiment_main(lambda: EXPERIMENT, ["--budget", "full"], tmp_path) == 0
    folder = tmp_path / "build" / "runs" / "widths"
    assert seen == [
        (2, f"python -m bench.widths: {folder}: another command is at work there: wait until it ends\n")
    ]
    record = tmp_path / "docs" / "results" / "widths.jsonl"
    assert len(record.read_text().splitlines()) == 1
    assert second() == (0, "")
    # A command that ended by an error has left nothing locked.
    bad = dataclasses.replace(EXPERIMENT, cells={"cpu": [Cell("absent", _absent())]})
    for _ in range(2):
        with pytest.raises(ConfigurationError, match="data: absent: expected a file or folder"):
            complete(bad, "cpu", **places(tmp_path))


def test_other_processes_of_one_launch_are_not_locked_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = places(tmp_path)
    with locked(where["runs"] / "widths"):
        with pytest.raises(ConfigurationError, match=r"runs.widths: another command is at work there"):
            complete(EXPERIMENT, "full", **where)
        monkeypatch.setenv("RANK", "1")
        assert len(complete(EXPERIMENT, "full", **where)) == 1


def _absent() -> Any:
    return dataclasses.replace(CELLS[0].configuration, data="absent")


def test_mistakes_of_an_experiment_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    experiment = dataclasses.replace(EXPERIMENT, cells={"cpu": [Cell("absent", _absent())]})
    assert experiment_main(lambda: experiment, ["--budget", "cpu"], tmp_path) == 2
    assert capsys.readouterr().err == (
        "python -m bench.widths: data: absent: expected a file or folder, got nothing of that name\n"
    )
    with pytest.raises(SystemExit):
        experiment_main(lambda: experiment, ["--budget", "full"], tmp_path)


def test_a_record_outlives_new_options_and_lost_tasks(tmp_path: Path) -> None:
    """A line from before an option came counts as one with the option's default."""
    further = Cell("further", CELLS[1].configuration, after=CELLS[0])
    experiment = dataclasses.replace(EXPERIMENT, cells={"cpu": [*CELLS, further]})
    found = complete(experiment, "cpu", **places(tmp_path))
    record = places(tmp_path)["record"]
    known = list(read_record(record))
    assert finished_cells(experiment, "cpu", read_record(record)) == found
    lines = [json.loads(line) for line in record.read_text().splitlines()]
    for line in lines:
        times = 1 + (line["row"] == "further")
        assert line["configuration"].count("validation_options = []\n") == times
        for option in ("# validation_options = []\n", "validation_options = []\n"):
            line["configuration"] = line["configuration"].replace(option, "")
    lost = {**lines[0], "configuration": 'task = "forgotten"\n'}
    record.write_text("".join(json.dumps(line) + "\n" for line in [*lines, lost]))
    assert list(read_record(record)) == [*known, ("cpu", "narrow", 'task = "forgotten"\n')]


def test_a_cell_starts_from_the_best_weights_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = []
    real = results.train
    monkeypatch.setattr(results, "train", lambda c, folder: (begun.append((c, folder)), real(c, folder))[1])
    first = CELLS[0]
    second = Cell("further", cell("further", 5, hidden=2).configuration, after=first)
    experiment = dataclasses.replace(EXPERIMENT, cells={"cpu": [first, second]})
    complete(experiment, "cpu", **places(tmp_path))
    folder = run_folder(experiment, "cpu", first, tmp_path / "runs")
    assert [path for _, path in begun] == [
        folder,
        run_folder(experiment, "cpu", second, tmp_path / "runs"),
    ]
    assert begun[1][0].training.initial == str(folder)
    assert begun[1][0].seed == 5
    # Where the runs lie changes nothing; from which run it starts does.
    assert str(tmp_path) not in second.text
    other = dataclasses.replace(second, after=CELLS[1])
    assert other.text != second.text
    # The first run is made again where only the second is missing.
    shutil.rmtree(tmp_path / "runs")
    record = tmp_path / "docs" / "widths.jsonl"
    record.write_text(record.read_text().splitlines(keepends=True)[0])
    begun.clear()
    complete(experiment, "cpu", **places(tmp_path))
    assert len(begun) == 2
    assert len(record.read_text().splitlines()) == 2
    with pytest.raises(ValueError, match=r"after, training\.initial: expected at most one, got both"):
        Cell("both", begun[1][0], after=first)


def test_a_cell_whose_first_run_fails_fails_too(tmp_path: Path) -> None:
    bad = cell("bad", 0, poisoned=tuple(range(1797)))
    second = Cell("further", CELLS[0].configuration, after=bad)
    experiment = dataclasses.replace(EXPERIMENT, cells={"cpu": [second]})
    (result,) = complete(experiment, "cpu", **places(tmp_path)).values()
    assert "the loss is not finite" in result.failure
    assert result.seconds == 0


def kept(cell: Cell, budget: Any = "cpu", **changes: Any) -> Result:
    """A result by hand."""
    base = Result(budget, cell.row, cell.text, {"loss": 0.5}, "", 1.0, "2026-01-01", {})
    return dataclasses.replace(base, **changes)


def test_a_page_sums_times_and_names_every_day_and_device() -> None:
    """Of four cells one is missing and one failed: it counts among the runs and times, not in the means."""
    cells = [*CELLS, cell("wide", 1, hidden=9)]
    fast = {"device": "cpu", "machine": "x", "processes": 1, "threads": 2, "versions": {"torch": "9"}}
    done = [
        kept(cells[0], seconds=100.0, processor_seconds=30.0, date="2026-01-03", conditions=fast),
        kept(
            cells[1], seconds=6000.0, processor_seconds=69.0, numbers={}, failure="step 3: lost",
            conditions={**fast, "device": "cuda:0"},
        ),
        kept(cells[2], seconds=1100.0, processor_seconds=9000.0, date="2026-01-02", conditions=fast),
    ]  # fmt: skip
    experiment = dataclasses.replace(EXPERIMENT, cells={"cpu": cells})
    page = make_page(experiment, {result.key: result for result in done})
    assert (
        "3 of 4 runs, 2.5 h of processor time in 2.0 h together, 2026-01-01 to 2026-01-03; seeds 0, 1" in page
    )
    assert "On cpu (x), processes: 1, threads: 2; torch 9. On cuda:0 (x), processes: 1" in page
    assert page.count("On cpu (x)") == 1
    assert "| narrow | 0.500 | - | 2 | 99.0 s |" in page
    assert "| wide | 0.500 | - | 1 | 2.5 h |" in page
    assert "- narrow: failed, step 3: lost." in page
    few = dataclasses.replace(EXPERIMENT, cells={"cpu": cells[2:3]})
    page = make_page(few, {done[2].key: dataclasses.replace(done[2], processor_seconds=5940.0)})
    assert "1 of 1 runs, 99.0 min of processor time in 18.3 min together, 2026-01-02; seed 0." in page


def test_the_first_run_of_a_row_is_that_of_the_first_cell_left() -> None:
    found = Finished(EXPERIMENT, "cpu", {c: kept(c) for c in CELLS}, Path("runs"))
    assert found.first() == {"narrow": CELLS[0], "wide": CELLS[2]}
    assert dataclasses.replace(found, results={c: kept(c) for c in CELLS[1:]}).first()["narrow"] == CELLS[1]


def test_a_record_keeps_the_last_of_equal_runs_and_both_budgets(tmp_path: Path) -> None:
    """One configuration in both budgets are two runs, in folders of their own."""
    lines = [kept(CELLS[0]), kept(CELLS[0], numbers={"loss": 0.25}), kept(CELLS[0], budget="full")]
    path = tmp_path / "record.jsonl"
    path.write_text("".join(json.dumps(dataclasses.asdict(line)) + "\n" for line in lines))
    assert list(read_record(path).values()) == lines[1:]
    both = {run_folder(EXPERIMENT, budget, CELLS[0], tmp_path) for budget in ("cpu", "full")}  # type: ignore[arg-type]
    assert len(both) == 2
    # A row of another name is another run, whatever else is the same.
    renamed = dataclasses.replace(CELLS[0], row="other")
    assert run_folder(EXPERIMENT, "cpu", renamed, tmp_path) not in both


def test_numbers_that_are_not_finite_are_printed() -> None:
    found = [
        Result("cpu", "row", to_toml(c.configuration), {"loss": math.inf}, "", 1.0, "2026-01-01", {})
        for c in CELLS[:2]
    ]
    kept = {(r.budget, CELLS[0].row, r.configuration): r for r in found}
    assert "inf ± nan" in make_page(EXPERIMENT, kept)
