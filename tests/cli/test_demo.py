"""``equikernels demo``: its files, its verdicts, and what it says to mistakes."""

from __future__ import annotations

import dataclasses
import io
import json
import re
import sys
from pathlib import Path

import pytest
import torch

from equikernels.cli import UserError, demo, main
from equikernels.models.soft_equivariance import certified_error as certified
from equikernels.models.soft_equivariance import digits, figures

TINY = demo.Settings(softness=(0.0, 0.5), epochs=1, hidden=8, seeds=2, test_images=40, random_angles=2)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("demo") / "made" / "here"
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    assert demo.run(out, None, 4, TINY) == 0
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)
    return out


def results_in(out: Path) -> dict[str, list[dict[str, object]]]:
    content: dict[str, list[dict[str, object]]] = json.loads((out / "results.json").read_text())
    return content


def test_page_shows_every_file_and_every_number(written: Path) -> None:
    page = (written / "index.html").read_text(encoding="utf-8")
    named = set(re.findall(r'(?:src|href)="([^"]+)"', page))
    assert named == {"trade_off.png", "filters.png", "turns.png", "twelve_turns.png", "results.json"}
    for name in named:
        content = (written / name).read_bytes()
        assert content.startswith(b"\x89PNG") == name.endswith(".png")
        assert len(content) > 1000
    assert {path.name for path in written.iterdir()} == named | {"index.html"}
    assert "equikernels demo --seed 4" in page
    assert torch.__version__ in page
    assert page.count("<td>holds</td>") == 4
    assert "{" not in page.split("</style>")[1]  # nothing left of the template


def test_results_have_one_row_for_each_model(written: Path) -> None:
    rows = results_in(written)["results"]
    cells = [(row["group"], row["softness"], row["seed"]) for row in rows]
    assert sorted(cells) == sorted((g, s, n) for g in ("C_4", "SO(2)") for s in (0.0, 0.5) for n in (4, 5))
    for row in rows:
        assert row["checks"] == 40 * (4 if row["group"] == "C_4" else 14)
        assert row["holds"] is True
        assert row["exact"] == (row["softness"] == 0)


def test_equal_seeds_give_equal_results(written: Path, tmp_path: Path) -> None:
    demo.run(tmp_path, None, 4, TINY)
    assert results_in(tmp_path)["results"] == results_in(written)["results"]
    assert results_in(tmp_path)["verdicts"] == results_in(written)["verdicts"]


def test_output_is_plain_lines_without_a_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    demo.run(tmp_path, None, 0, dataclasses.replace(TINY, seeds=1))
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert "\r" not in printed
    # The folder's name is as long as it is.
    assert max(map(len, printed.replace(str(tmp_path), "").splitlines())) <= 120
    assert re.search(r"^Training, seed 0: \d+\.\d s$", printed, re.MULTILINE)
    assert str(tmp_path / "index.html") in printed
    assert "measured error never exceeds its certificate" in printed
    assert "±" not in printed.split("Verdicts")[0].split("Certified and")[0]  # one seed has no spread


def test_output_is_ascii_where_nothing_else_can_be_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    assert demo.run(tmp_path / "größe", None, 0, TINY) == 0
    stream.seek(0)
    printed = stream.read()
    assert re.search(r"\d \+- \d", printed)
    assert "by 30 degrees return" in printed
    assert "gr??e" in printed


# -- verdicts ----------------------------------------------------------------------------------------------


def test_a_false_certificate_fails_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    honest = certified.error_certificate

    def false(model: digits.InvariantClassifier, elements: torch.Tensor) -> certified.ErrorCertificate:
        certificate = honest(model, elements)
        return certified.ErrorCertificate(certificate.gains / 100, certificate.supremum)

    monkeypatch.setattr(certified, "error_certificate", false)
    assert demo.run(tmp_path, None, 0, dataclasses.replace(TINY, seeds=1)) == 1
    printed = capsys.readouterr().out
    assert re.search(r"never exceeds its certificate.*FAILS", printed)
    assert "1 of these claims failed" in printed
    assert (tmp_path / "index.html").read_text().count("<td>FAILS</td>") == 1


@pytest.fixture(scope="module")
def honest() -> tuple[list[certified.DigitResult], figures.RepeatedTurns]:
    split = digits.load_split(0, 40)
    models = [digits.InvariantClassifier(group, s, hidden=4) for group in demo.GROUPS for s in (0.0, 1.0)]
    results = [certified.evaluate(model, split, model_seed=0, random_angles=1) for model in models]
    return results, figures.turn_repeatedly(split.test_images)


def words(results: list[certified.DigitResult], turns: figures.RepeatedTurns) -> list[str]:
    return [verdict.word for verdict in demo.verdicts(results, turns)]


def test_each_verdict_fails_by_itself(
    honest: tuple[list[certified.DigitResult], figures.RepeatedTurns],
) -> None:
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


def test_growth_is_observed_not_claimed(
    honest: tuple[list[certified.DigitResult], figures.RepeatedTurns],
) -> None:
    results, turns = honest
    falling = [dataclasses.replace(r, measured_relative=1 - r.softness) for r in results]
    claims = [verdict.claim for verdict in demo.verdicts(falling, turns)[-2:]]
    assert claims == [f"{name}: measured error is not monotone in softness" for name in ("C_4", "SO(2)")]
    claims = [verdict.claim for verdict in demo.verdicts(results, turns)[-2:]]
    assert claims == [f"{name}: measured error grows with softness" for name in ("C_4", "SO(2)")]


def test_table_shows_mean_spread_and_worst_ratio(
    honest: tuple[list[certified.DigitResult], figures.RepeatedTurns],
) -> None:
    base = honest[0][1]
    pair = [
        dataclasses.replace(base, seed=seed, accuracy_upright=upright, tightness=ratio)
        for seed, upright, ratio in ((0, 0.90, 0.25), (1, 0.94, 0.5))
    ]
    (row,) = demo.table_rows(figures.curves(pair), pair)
    assert row[:2] == ("C_4", "1")
    assert row[4] == "0.50"
    assert row[6] == "92.0 ± 2.8"  # standard deviation 0.04 / sqrt(2)
    (strict, *_) = demo.table_rows(figures.curves(honest[0][:1]), honest[0][:1])
    assert strict[2:5] == ("0.00", "0.00", "exact")


# -- budget and mistakes -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds"), [(None, None), ("90", 90.0), ("90s", 90.0), ("1.5m", 90.0), (" 2 h ", 7200.0)]
)
def test_budget_is_a_time(text: str | None, seconds: float | None) -> None:
    assert demo.parse_budget(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "-5m", "0", "5 days", "1e3"])
def test_other_budgets_are_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="argument --budget") as caught:
        demo.run(tmp_path, text, 0, TINY)
    assert caught.value.exit_code == 2


def test_budget_decides_how_often_training_is_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "MOST_SEEDS", 3)
    demo.run(tmp_path, "0.001s", 0, TINY)
    assert {row["seed"] for row in results_in(tmp_path)["results"]} == {0}
    assert "more than the budget of 0.001 s" in capsys.readouterr().out
    demo.run(tmp_path, "1h", 0, TINY)
    assert {row["seed"] for row in results_in(tmp_path)["results"]} == {0, 1, 2}
    assert "more than the budget" not in capsys.readouterr().out


@pytest.mark.parametrize("below", ["", "folder"], ids=["the file itself", "a folder below a file"])
def test_a_file_for_a_folder_is_one_line_and_code_2(
    below: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "file"
    file.write_text("precious")
    assert main(["demo", "--out", str(file / below)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "--out" in error
    assert file.read_text() == "precious"


def test_a_folder_that_cannot_be_written_is_told_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(**_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(demo.tempfile, "TemporaryFile", refused)
    monkeypatch.setattr(digits, "load_split", lambda *_: pytest.fail("worked in spite of it"))
    with pytest.raises(UserError, match=r"cannot write to .*: Permission denied") as caught:
        demo.run(tmp_path, None, 0, TINY)
    assert caught.value.exit_code == 2


def test_a_negative_seed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="argument --seed"):
        demo.run(tmp_path, None, -1, TINY)
