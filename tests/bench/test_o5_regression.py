"""The experiment of the regression under O(5): a tiny one from end to end, and what is concluded."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from bench.experiments import o5_regression
from bench.experiments.o5_findings import best_soft, error_curves, findings
from equikernels.models.engine.results import Cell, Experiment, Result
from equikernels.models.engine.toml import to_toml
from equikernels.models.soft_equivariance.tasks import RegressionOptions

TINY = RegressionOptions(channels=1, blocks=1, width=4, layers=1)


def tiny() -> Experiment:
    cells = o5_regression.cells((0.0, 1.0), (0.0, 0.3, 1.0), (0, 1), TINY, 100, 1)
    return dataclasses.replace(o5_regression.make(), cells={"cpu": cells})


def test_the_command_makes_the_page_the_record_and_the_figure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(o5_regression, "TEST_SAMPLES", 60)
    assert o5_regression.main(["--budget", "cpu"], tmp_path, tiny) == 0
    page = (tmp_path / "docs" / "results" / "o5_regression.md").read_text()
    assert "16 of 16 runs" in page
    assert "| sigma 1, softness 0.3 | " in page
    assert page.count("softness 0 does not change under O(5), to rounding: **confirmed**") == 2
    (figure,) = (tmp_path / "docs" / "figures").iterdir()
    assert figure.name == "o5_regression_cpu.png"
    assert 1000 < figure.stat().st_size < 200_000
    assert f"](../figures/{figure.name})" in page
    lines = (tmp_path / "docs" / "results" / "o5_regression.jsonl").read_text().splitlines()
    numbers = json.loads(lines[0])["numbers"]
    assert numbers["rmse"] != numbers["validation_rmse"]


def test_the_cells_are_what_the_page_says() -> None:
    cells = o5_regression.make().cells
    assert (len(cells["cpu"]), len(cells["full"])) == (2 * 5 * 2, 5 * 8 * 5)
    assert len({*cells["cpu"], *cells["full"]}) == 20 + 200
    for cell in [*cells["cpu"], *cells["full"]]:
        run, (sigma, row) = cell.configuration, cell.row.split(", ")
        assert float(run.data_options[1].removeprefix("sigma=")) == float(sigma.removeprefix("sigma "))
        assert run.data_options[1] == run.validation_options[1]
        assert run.data_options[2] != run.validation_options[2]
        assert (run.model.network == "mlp") == (row == "mlp")
        assert row == "mlp" or run.model.softness == float(row.removeprefix("softness "))


def table(sigma: float, errors: Mapping[str, float]) -> dict[Cell, Result]:
    """Cells with a test RMSE by row; the second seed's is larger by 0.01."""
    found = {}
    for row, error in errors.items():
        for seed in (0, 1):
            run = o5_regression.run_of(TINY, sigma, seed, 100, 1)
            cell = Cell(f"sigma {sigma:g}, {row}", run)
            change = 1e-6 if row == "softness 0" else 0.1
            numbers = {
                "rmse": error + 0.01 * seed, "turned_rmse": error, "invariance_error": change,
                "validation_rmse": error + (1 if row == "softness 0.3" else 0),
            }  # fmt: skip
            found[cell] = Result("cpu", cell.row, to_toml(run), numbers, "", 1.0, "2026-01-01", {})
    return found


def test_claims_follow_from_the_numbers() -> None:
    errors = {"mlp": 0.5, "softness 0": 0.1, "softness 0.1": 0.2, "softness 0.3": 0.05, "softness 1": 0.3}
    text = findings(table(0.0, errors) | table(1.0, errors))
    # Softness 0.3 is best on test samples and worst in validation: it must not be chosen.
    strict, soft = "softness 0 (0.105 ± 0.007)", "softness 0.1 (0.205 ± 0.007)"
    assert f"- sigma 0: {strict} is better than {soft}: **confirmed**." in text
    assert "- sigma 0: softness 0 (0.105 ± 0.007) is better than mlp (0.505 ± 0.007): **confirmed**." in text
    assert f"- sigma 1: {soft} is better than {strict}: **not confirmed: the opposite**." in text
    assert f"- sigma 1: {soft} is better than softness 1 (0.305 ± 0.007): **confirmed**." in text
    assert text.count("to rounding: **confirmed** (1e-06 in units of the target).") == 2
    partial = findings(table(1.0, {"mlp": 0.5, "softness 0": 0.1}))
    assert "- sigma 1: the rows that the claims need are not finished." in partial
    assert best_soft({"softness 0": {}, "softness 1": {}}) is None


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ((9e-4, 9e-4), "confirmed"),
        ((1e-6, 1e-3), "not confirmed"),
        ((1e-3, 1e-6), "not confirmed"),
        ((1e-6, math.nan), "not confirmed"),
        ((math.nan, 1e-6), "not confirmed"),
    ],
)
def test_strict_is_invariant_where_the_worst_seed_is(changes: tuple[float, float], verdict: str) -> None:
    found = table(1.0, {"softness 0": 0.1})
    changed = {
        cell: dataclasses.replace(result, numbers={**result.numbers, "invariance_error": change})
        for (cell, result), change in zip(found.items(), changes, strict=True)
    }
    assert f"does not change under O(5), to rounding: **{verdict}**" in findings(changed)


def test_a_row_that_is_no_number_is_neither_chosen_nor_confirmed() -> None:
    errors = {"mlp": 0.5, "softness 0": 0.6, "softness 0.1": 0.2, "softness 0.2": 0.1, "softness 1": 0.3}
    found = table(1.0, errors)

    def spoiled(row: str, number: str) -> str:
        last = [cell for cell in found if cell.row == f"sigma 1, {row}"][-1]
        numbers = {**found[last].numbers, number: math.nan}
        return findings(found | {last: dataclasses.replace(found[last], numbers=numbers)})

    assert "- sigma 1: softness 0.2 (0.105 ± 0.007) is better than" in findings(found)
    assert "- sigma 1: softness 0.1 (0.205 ± 0.007) is better than" in spoiled(
        "softness 0.2", "validation_rmse"
    )
    text = spoiled("mlp", "rmse")
    assert "is better than mlp (nan): **not confirmed: not a finite number**." in text
    assert text.count("**confirmed**") == 2 + 1  # against the other two rows, and the invariance of strict
    runs = {0: {"validation_rmse": math.nan}}
    assert best_soft({"softness 0.1": runs, "softness 0.2": {0: {"validation_rmse": 1.0}}}) == "softness 0.2"
    assert best_soft({"softness 0.1": runs}) is None


def test_seeds_that_one_row_lacks_are_left_out_of_the_other() -> None:
    """Of softness 0.1 only the first seed ended, so that it alone is compared, and decides nothing."""
    errors = {"mlp": 0.5, "softness 0": 0.6, "softness 0.1": 0.2, "softness 1": 0.3}
    found = table(1.0, errors)
    last = [cell for cell in found if cell.row == "sigma 1, softness 0.1"][-1]
    text = findings({cell: result for cell, result in found.items() if cell is not last})
    assert "softness 0.1 (0.200) is better than mlp (0.500): **not decided by one seed**." in text


def test_curves_are_drawn_without_what_failed() -> None:
    found = table(1.0, {"mlp": 0.7, "softness 0": 0.6, "softness 0.3": 0.5, "softness 1": 0.8})
    seed = next(cell for cell in found if cell.row == "sigma 1, softness 0.3")
    fewer = {cell: result for cell, result in found.items() if cell is not seed and "mlp" not in cell.row}
    top, _ = error_curves(fewer).axes
    assert {line.get_label() for line in top.get_lines()} == {"upright", "turned"}
    upright = next(line for line in top.get_lines() if line.get_label() == "upright")
    # Both seeds of the outer levels, the second of the one between.
    assert list(np.asarray(upright.get_ydata())) == pytest.approx([0.605, 0.51, 0.805])
