"""The trade-off of softness: its cells, what it keeps, its page and its figures; and the page on softness."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from bench import softness_cells
from bench import softness_trade_off as trade_off
from bench.softness_cells import (
    RADII,
    Cell,
    Result,
    all_cells,
    commonest_share,
    complete,
    hard_levels,
    kept_results,
    levels,
    measure,
    near_copies,
    near_elements,
    train_and_measure,
)
from bench.softness_figures import bound_figure, cutoff_figure
from bench.softness_trade_off import sweeps
from equikernels.group import SO2, CyclicGroup, Group
from equikernels.models.soft_equivariance.certified_error import evaluate
from equikernels.models.soft_equivariance.digits import InvariantClassifier, load_split, train_classifier
from equikernels.ops import rotate
from equikernels.project import Certificate, Hard, Smooth, Softness, cutoff_for
from equikernels.project.projector import constraint_spectrum
from equikernels.project.spectrum import Spectrum
from tests.test_documentation import REPOSITORY

RESULTS = REPOSITORY / "docs" / "results" / "softness.md"
GROUPS = [pytest.param(CyclicGroup(4), id="C_4"), pytest.param(SO2(), id="SO(2)")]

TINY: dict[str, Any] = {"seed": 3, "epochs": 1, "hidden": 8, "test_images": 40}


def result(value: float, **changes: Any) -> Result:
    """A result that is `value` everywhere and holds."""
    numbers = dict.fromkeys((f.name for f in dataclasses.fields(Result)), value)
    return Result(**(numbers | {"holds": True} | changes))  # type: ignore[arg-type]


# -- levels and cells ----------------------------------------------------------------------------------------


def test_hard_levels_stand_in_every_gap() -> None:
    spectrum = Spectrum(np.array([0.0, 1.0, 3.0]), np.array([4, 2, 2]))
    assert hard_levels(spectrum) == (0.5, 2.0, math.inf)
    kept = [float(Hard(b).response(spectrum) @ spectrum.multiplicities) for b in hard_levels(spectrum)]
    assert kept == [4, 6, 8]


def test_cells_are_every_level_of_every_knob_and_seed() -> None:
    cells = all_cells([0, 5])
    assert len(set(cells)) == len({cell.name for cell in cells}) == len(cells)
    assert len(cells) == 2 * ((11 + 3 + 8) + (11 + 12 + 8))
    assert {cell.seed for cell in cells[: len(cells) // 2]} == {0}  # a whole table is there after each seed
    assert Cell(SO2(), "tau", 2.0, 0).cutoff == Smooth(0.0, 2.0)
    assert Cell(SO2(), "s", 0.5, 0).cutoff == Softness(0.5)
    assert Cell(SO2(), "b", 0.5, 0).cutoff == Hard(0.5)


@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"epochs": 2}, {"hidden": 9}, {"level": 0.25}, {"knob": "b"}]
)
def test_names_of_cells_tell_them_apart(change: dict[str, Any]) -> None:
    cell = Cell(SO2(), "s", 0.5, 0)
    assert dataclasses.replace(cell, **change).name != cell.name
    assert dataclasses.replace(cell, group=CyclicGroup(4)).name != cell.name


@pytest.mark.parametrize("group", GROUPS)
def test_elements_lie_within_the_radius_and_reach_it(group: Group) -> None:
    lengths = group.length(near_elements(group, seed=1)).double()
    assert float(lengths.max()) == pytest.approx(RADII[group], rel=1e-12)
    assert bool((lengths <= RADII[group] * (1 + 1e-12)).all())
    assert len(lengths) >= 3


def test_near_copies_are_turned_within_the_radius() -> None:
    images = load_split(test_size=40).test_images
    quarters = near_copies(CyclicGroup(4), images, 0).reshape(2, -1, 8, 8)
    squares = images.reshape(-1, 8, 8)
    assert torch.equal(quarters[0], torch.rot90(squares, 1, (1, 2)))
    assert torch.equal(quarters[1], torch.rot90(squares, -1, (1, 2)))
    copies = near_copies(SO2(), images, 0)
    assert copies.shape == (3, 40, 64)
    assert torch.equal(copies, near_copies(SO2(), images, 0))
    # No copy is farther from its image than the farthest turn on a fine grid of the radius, up to the grid.
    farthest = torch.stack([
        (rotate(squares[:, None], torch.full((40,), angle)).reshape(40, 64) - images).norm(dim=-1)
        for angle in torch.linspace(-RADII[SO2()], RADII[SO2()], 31)
    ]).amax(0)  # fmt: skip
    assert bool(((copies - images).norm(dim=-1) <= farthest + 1e-3).all())
    assert float((copies - images).norm(dim=-1).max()) > 0.8 * float(farthest.max())


@pytest.mark.parametrize("group", GROUPS)
def test_unconstrained_ends_of_all_knobs_are_one_network(group: Group) -> None:
    ends = [
        train_and_measure(Cell(group, knob, values[-1], **TINY)) for knob, values in levels(group).items()
    ]
    assert len({dataclasses.replace(end, seconds=0.0) for end in ends}) == 1
    assert ends[0].dimension == 64


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("knob", ["s", "b", "tau"])
def test_a_cell_is_bounded_from_both_sides(group: Group, knob: str) -> None:
    middle = levels(group)[knob][1]
    cell = train_and_measure(Cell(group, knob, middle, **TINY))
    assert cell.holds
    # With one generator the certificate is the error itself at the end of the radius, which is sampled,
    # as long as no part that is kept turns by more than half a turn.
    assert cell.measured_layer == pytest.approx(cell.certified_layer, rel=1e-9)
    assert 0 < cell.measured_network < cell.certified_network
    assert 0 < cell.worst_ratio <= 1
    # Known in advance: the largest response times the error of its part, which for C_4 is sigma itself.
    spectrum = constraint_spectrum(InvariantClassifier(group, 0).representation)
    errors = 2 * np.sin(spectrum.values * RADII[group] / 2) if isinstance(group, SO2) else spectrum.values
    response = np.asarray(Cell(group, knob, middle, 0).cutoff.response(spectrum))
    assert cell.prior == pytest.approx(float((response * errors).max()), rel=1e-9)
    if knob == "b":
        assert cell.certified_layer <= cell.prior
        assert cutoff_for(cell.prior, RADII[group], InvariantClassifier(group, 0).representation) == Hard(
            middle
        )


@pytest.mark.parametrize("group", GROUPS)
def test_invariant_cells_vouch_for_everything(group: Group) -> None:
    cell = train_and_measure(Cell(group, "s", 0.0, **TINY))
    assert max(cell.prior, cell.certified_layer, cell.measured_layer, cell.measured_network) < 1e-9
    assert cell.vouched == 1
    assert cell.worst_ratio == 0


def test_vouched_predictions_stay() -> None:
    """The share that is vouched for, against predictions under many turns."""
    split = load_split(0, 100)
    model = InvariantClassifier(SO2(), Smooth(0.0, 0.4), hidden=16)
    train_classifier(model, split.train_images, split.train_labels, epochs=3)
    found = measure(model, split, seed=0)
    model = model.double()
    # By the definition: no change of the logits of the certified length turns the first one into the second.
    radius = RADII[SO2()]
    outer = np.linalg.norm(model.second.weight.detach().numpy(), 2)
    gain = outer * model.first.certificate().bound(radius=radius, norm="operator")
    images = split.test_images.double()
    ordered = np.sort(model(images).detach().numpy(), axis=1)
    worst = np.array([1.0, -1.0]) / np.sqrt(2)  # towards the second, of length 1
    after = ordered[:, -2:] + gain * images.norm(dim=-1).numpy()[:, None] * worst
    assert found.vouched == pytest.approx(float((after[:, 1] > after[:, 0]).mean()), abs=1e-12)
    assert 0 < found.vouched < 1
    angles = torch.linspace(-radius, radius, 31, dtype=torch.float64)
    turned = images @ model.representation(angles, dtype=torch.float64).mT
    digits = model(turned).argmax(-1)
    assert found.vouched <= float((digits == digits[15]).all(0).double().mean())


@pytest.mark.parametrize("broken", ["logits", "layer", "prior"])
def test_an_exceeded_bound_is_noticed(broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    true_errors, true_error, true_bound = softness_cells.measured_errors, Certificate.error, Certificate.bound

    def larger_errors(*args: Any) -> Any:
        errors, logits = true_errors(*args)
        return 1e3 * errors, logits

    def larger_error(self: Certificate, *args: Any) -> Any:
        return 1.01 * true_error(self, *args)

    def smaller_prior(self: Certificate, **options: Any) -> Any:
        factor = 0.1 if options.get("kind") == "prior" else 1.0
        return factor * true_bound(self, **options)

    if broken == "logits":
        monkeypatch.setattr(softness_cells, "measured_errors", larger_errors)
    elif broken == "layer":
        monkeypatch.setattr(Certificate, "error", larger_error)
    else:
        monkeypatch.setattr(Certificate, "bound", smaller_prior)
    assert not train_and_measure(Cell(SO2(), "s", 0.5, **TINY)).holds


def test_the_demo_names_what_it_cannot_list() -> None:
    model = InvariantClassifier(SO2(), Hard(1.5), hidden=2)
    with pytest.raises(ValueError, match=r"^model must have a Softness as its cut-off, got Hard"):
        evaluate(model, load_split(test_size=40), model_seed=0)


# -- keeping -------------------------------------------------------------------------------------------------


def counting(done: list[Cell]) -> Callable[[Cell], Result]:
    def train(cell: Cell) -> Result:
        done.append(cell)
        return result(cell.level, seconds=0.1)

    return train


CELLS = [Cell(CyclicGroup(4), "s", level, seed) for level in (0.0, 1.0) for seed in (0, 1)]


def test_an_interrupted_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    path, done = tmp_path / "made" / "cells.jsonl", []
    first = complete(CELLS[:2], path, counting(done))
    again = complete(CELLS, path, counting(done))
    assert done == CELLS
    assert {cell: again[cell] for cell in CELLS[:2]} == first
    assert list(again) == CELLS
    assert len(path.read_text().splitlines()) == len(CELLS)
    assert kept_results(path) == {cell.name: again[cell] for cell in CELLS}


def test_a_torn_last_line_is_done_again(tmp_path: Path) -> None:
    path, done = tmp_path / "cells.jsonl", []
    whole = complete(CELLS, path, counting([]))
    path.write_text(path.read_text()[:-20])
    assert complete(CELLS, path, counting(done)) == whole
    assert done == CELLS[-1:]
    assert [json.loads(line)["cell"] for line in path.read_text().splitlines()] == [c.name for c in CELLS]


@pytest.mark.parametrize("line", ["nonsense", "{}", '{"cell": "a", "result": {"upright": 1}}', "3"])
def test_other_broken_lines_are_told(line: str, tmp_path: Path) -> None:
    path = tmp_path / "cells.jsonl"
    complete(CELLS[:1], path, counting([]))
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(ValueError, match=r"^cells.jsonl, line 2 is no result"):
        kept_results(path)


# -- sweeps, findings, page ----------------------------------------------------------------------------------


def table_of(found: Callable[[Cell], Result]) -> dict[Cell, Result]:
    cells = [Cell(CyclicGroup(4), "s", k / 4, seed) for seed in (0, 1) for k in (4, 0, 1, 2, 3)]
    return {cell: found(cell) for cell in cells}


def risen(cell: Cell) -> Result:
    """Upright rises and is near its best from 0.5, near is best at 0.25, turned falls, the bound grows."""
    s = cell.level
    return result(
        s, upright=0.9 + 0.08 * min(1.0, 2 * s) + 0.005 * s, near=0.8 - (s - 0.25) ** 2,
        turned=0.8 - 0.6 * s, vouched=1 - s, certified_layer=s + 0.02 * cell.seed, measured_layer=s,
    )  # fmt: skip


def test_sweeps_have_levels_by_seeds() -> None:
    (sweep,) = sweeps(table_of(lambda cell: result(cell.level + 10 * cell.seed)))
    assert (sweep.group, sweep.knob, sweep.levels) == ("C_4", "s", (0.0, 0.25, 0.5, 0.75, 1.0))
    np.testing.assert_array_equal(sweep.values["upright"], np.array(sweep.levels)[:, None] + [0, 10])
    np.testing.assert_array_equal(sweep.mean("near"), np.array(sweep.levels) + 5)


def test_findings_are_those_of_the_table() -> None:
    (sweep,) = sweeps(table_of(risen))
    assert trade_off.findings(sweep) == [
        "C_4", "`Softness(s)`", "s = 0.5: 98.2 % at bound 0.51", "s = 0.25: 80.0 % at bound 0.26",
        "s = 0.5: 80.0 % became 50.0 %", "up to s = 0.5: 98.2 % upright",
    ]  # fmt: skip
    assert trade_off.loosest_within(sweep, 0.51) == 1  # one seed of the next level lies above
    assert trade_off.loosest_within(sweep, 0.52) == 2
    assert trade_off.loosest_within(sweep, 0.0) == 0
    assert "| C_4 | 0.75 | s = 0.5 | 0.51 | 98.2 | 73.8 | 50.0 |" in trade_off.equal_bounds([sweep])


def test_commonest_share() -> None:
    images = load_split(test_size=40).test_images[None, :8]
    assert commonest_share(lambda x: torch.eye(10)[[0, 0, 0, 1, 2, 3, 4, 5]][None], images) == 3 / 8  # type: ignore[arg-type]
    assert commonest_share(lambda x: x, images.new_ones(2, 4, 10)) == 1  # type: ignore[arg-type]


def test_levels_are_found_on_short_tables() -> None:
    assert trade_off.first_near_best(np.array([0.5, 0.97, 0.96, 0.98, 0.975])) == 1
    assert trade_off.first_near_best(np.array([1.0, 0.5])) == 0
    assert trade_off.half_lost(np.array([0.8, 0.7, 0.5, 0.2])) == 2
    assert trade_off.half_lost(np.array([0.2, 0.1, 0.3])) is None
    assert trade_off.is_monotone(np.array([0.0, 0.5, 0.5, 2.0]))
    assert not trade_off.is_monotone(np.array([0.0, 0.5, 0.4]))


def test_verdicts_can_fail() -> None:
    def judged(change: Callable[[Cell], Result]) -> list[bool]:
        return list(trade_off.verdicts(sweeps(table_of(change))).values())

    def invariant_first(cell: Cell) -> Result:
        return result(cell.level)

    assert judged(invariant_first) == [True, True, True]
    assert judged(lambda c: result(c.level, holds=(c.level, c.seed) != (0.5, 1))) == [False, True, True]
    assert judged(lambda c: result(c.level, prior=-c.level)) == [True, False, True]
    assert judged(lambda c: result(c.level, measured_layer=c.level + 1e-3 * c.seed)) == [True, True, False]


def test_page_shows_means_spreads_and_verdicts() -> None:
    found = sweeps(table_of(risen))
    page = trade_off.make_page(found, "today", " --seeds 0 1")
    assert "python -m bench.softness_trade_off --seeds 0 1`" in page
    assert "Conditions: today." in page
    row = "| 0.5 | 0.5 | 0.50 | 0.51 ± 0.01 | 0.50 ± 0.00 | 0.50 ± 0.00 | 0.50 ± 0.00 | 0.50 |"
    assert row + " 50.0 ± 0.0 | 98.2 ± 0.0 | 73.8 ± 0.0 | 50.0 ± 0.0 | 50.0 ± 0.0 |" in page
    assert page.count(": holds") == 2
    assert page.count("**fails**") == 1  # the bound of one seed is 0.02 at s = 0
    assert trade_off.spread(np.array([1.0, 2.0]), 2) == "1.50 ± 0.71"
    assert (trade_off.spread(np.array([0.25]), 1), trade_off.spread(np.array([4e-16]), 2)) == ("0.2", "0.00")


def test_the_script_writes_everything_and_fails_where_a_bound_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [
        "--page",
        tmp_path / "page.md",
        "--figures",
        tmp_path / "figures",
        "--cells",
        tmp_path / "c.jsonl",
    ]
    arguments = [*map(str, options), "--seeds", "4", "2"]

    def free_or_strict(cell: Cell) -> Result:
        return result(0.0 if cell.level == levels(cell.group)[cell.knob][0] else 1.0)

    complete(all_cells([4, 2]), tmp_path / "c.jsonl", free_or_strict)
    threads = torch.get_num_threads()
    try:
        assert trade_off.main(arguments) == 0
        assert capsys.readouterr().out == ""  # every cell was there
        names = {path.name for path in (tmp_path / "figures").iterdir()}
        assert names == {"softness_bound.png", "softness_cutoffs.png"}
        assert "seeds 2, 4; 106 trainings" in (tmp_path / "page.md").read_text()
        for name in ("bound_figure", "cutoff_figure"):  # drawn once, which is slow enough
            monkeypatch.setattr(trade_off, name, lambda *_: Figure(figsize=(1, 1)))
        cells = tmp_path / "c.jsonl"
        cells.write_text(cells.read_text().replace('"holds": true', '"holds": false', 1))
        assert trade_off.main(arguments) == 1
        assert "fails: measured error <= certified error" in capsys.readouterr().err
        cells.write_text("nonsense\n")
        assert trade_off.main(arguments) == 1
        assert "line 1 is no result" in capsys.readouterr().err
    finally:
        torch.set_num_threads(threads)


def test_figures_name_groups_and_knobs() -> None:
    found = sweeps(table_of(risen))
    figure = bound_figure({(s.group, s.knob): (s.levels, s.values) for s in found})
    assert figure.axes[0].get_title() == "C_4: upright"
    assert len(figure.axes) == 3
    titles = [axes.get_title() for axes in cutoff_figure().axes]
    assert titles[1] == "hard cut-off b = 2.5: 24 of 64 free"


# -- what is written -----------------------------------------------------------------------------------------


def committed(group: str, knob: str) -> list[dict[str, float]]:
    """The rows of one table of the committed page: the means, by the names of their columns."""
    title = f"## {group}: {trade_off.KNOB_NAMES[knob]}"
    lines = RESULTS.read_text(encoding="utf-8").partition(title)[2].partition("\n## ")[0].splitlines()
    head, _, *rows = [line.strip("| ").split(" | ") for line in lines if line.startswith("| ")]
    return [{name: float(cell.split(" ± ")[0]) for name, cell in zip(head, row, strict=True)} for row in rows]


def test_committed_results_are_this_scripts() -> None:
    page = RESULTS.read_text(encoding="utf-8")
    assert trade_off.METHOD in page
    assert page.count(": holds") == 3
    assert "fails" not in page
    for group in RADII:
        for knob, values in levels(group).items():
            shown = [row[knob] for row in committed(repr(group), knob)]
            assert shown == [float(trade_off.level_text(value)) for value in values]
    assert re.search(r"Conditions: \d{4}-\d\d-\d\d; Python ", page)
    assert len(re.search(r"seeds ((?:\d+, )*\d+);", page)[1].split(", ")) >= 3  # type: ignore[index]


@pytest.mark.parametrize("group", ["C_4", "SO(2)"])
def test_rules_for_upright_and_for_any_turn_follow_from_the_table(group: str) -> None:
    rows = {row["s"]: row for row in committed(group, "s")}
    assert max(row["upright"] for row in rows.values()) - rows[0.75]["upright"] <= 1
    # A sixteenth costs at most two points of turned accuracy, and buys upright accuracy.
    sixteenth = rows[0.0625]
    assert rows[0]["turned"] - sixteenth["turned"] <= 2
    assert sixteenth["upright"] - rows[0]["upright"] >= 2
    if group == "SO(2)":
        assert max(row["upright"] for row in rows.values()) - rows[0.5]["upright"] <= 1
        assert sixteenth["upright"] - rows[0]["upright"] > 0.5 * (rows[1]["upright"] - rows[0]["upright"])
    assert all(row["turned"] < rows[0]["turned"] - 10 for s, row in rows.items() if s >= 0.25)
    # Predictions are provably kept at 0, of half of the images nowhere else, and of none from an eighth on.
    assert rows[0]["vouched"] == 100
    assert all(row["vouched"] < 50 for s, row in rows.items() if s > 0)
    assert all(row["vouched"] == 0 for s, row in rows.items() if s >= 0.125)


def test_rule_for_small_turns_follows_from_the_table() -> None:
    rows = {row["s"]: row for row in committed("SO(2)", "s")}
    best = max(rows, key=lambda s: rows[s]["near"])
    assert 0.125 <= best <= 0.25
    assert min(rows[s]["near"] for s in (0.125, 0.25)) > max(rows[s]["near"] for s in (0, 1)) + 3
    assert min(rows[s]["near"] for s in (0.125, 0.25)) > max(rows[s]["near"] for s in rows if s > 0.25)


def test_what_is_said_of_the_three_cutoffs_follows_from_the_table() -> None:
    for group in ("C_4", "SO(2)"):
        assert all(row["layer, certified"] <= row["prior"] for row in committed(group, "b"))
    # Weakened directions grow back: what is certified may exceed what was known relative to the raw weight.
    assert any(row["layer, certified"] > row["prior"] for row in committed("SO(2)", "tau"))
    assert any(row["layer, certified"] > row["prior"] for row in committed("SO(2)", "s"))
    for group, sign in (("SO(2)", 1), ("C_4", -1)):
        smooth, soft = committed(group, "tau"), committed(group, "s")
        for at in (0.6, 0.7, 0.8):
            turned = [
                np.interp(at, [r["layer, certified"] for r in rows], [r["turned"] for r in rows])
                for rows in (smooth, soft)
            ]
            assert sign * (turned[0] - turned[1]) > 3


def test_quarter_turns_of_unconstrained_networks_get_one_answer() -> None:
    """The digits leave their outer columns dark: bright ones decide for a network that never saw any."""
    page = RESULTS.read_text(encoding="utf-8")
    found = re.search(r"brightness of (\S+) in their outer columns and (\S+) in their outer rows", page)
    assert found is not None
    columns, rows = map(float, found.groups())
    assert columns < 0.02 < 0.2 < rows
    table = committed("C_4", "s")
    assert table[0]["commonest"] < 25
    assert table[-1]["commonest"] > 95
    images = load_split().train_images
    assert trade_off.brightness_of_edges(images) == pytest.approx((columns, rows), abs=6e-4)
