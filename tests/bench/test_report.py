"""The report maker on a small record whose every number can be worked out by hand."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from bench import record, report, rows
from bench.gates import OURS, RatioGate, TimeGate
from bench.rows import Row

PEER = "plain torch"


def row(provider: str, p50: float, **changes: Any) -> Row:
    base = Row(
        run="run-1",
        date="2026-01-01T00:00:00",
        commit="abc",
        device_type="cpu",
        device="A Processor",
        threads=2,
        python="3.11.7",
        torch="2.13.0",
        operation="rotate",
        provider=provider,
        mode="forward",
        size="small",
        p20_ms=p50 / 2,
        p50_ms=p50,
        p80_ms=p50 * 2,
        peak_mb=None,
    )
    return dataclasses.replace(base, **changes)


# Ratios 2 and 8 in the newest run: geometric mean 4. The older run would give 100.
RECORD = [
    row(OURS, 1.0, run="run-0", date="2025-01-01T00:00:00"),
    row(PEER, 100.0, run="run-0", date="2025-01-01T00:00:00"),
    row(OURS, 1.0),
    row(PEER, 2.0),
    row(OURS, 0.5, size="large"),
    row(PEER, 4.0, size="large"),
    row(OURS, 7.0, size="only ours"),
]


def gate(**changes: Any) -> RatioGate:
    return dataclasses.replace(RatioGate("rotate", "forward", peer=PEER, mean=4.0), **changes)


@pytest.mark.parametrize(
    ("asked", "verdict"),
    [
        pytest.param(gate(), "reached", id="mean at the gate"),
        pytest.param(gate(mean=4.01), "**missed**", id="mean below the gate"),
        pytest.param(gate(lowest=2.0), "reached", id="lowest at the gate"),
        pytest.param(gate(lowest=2.5), "**missed**", id="lowest below the gate"),
        pytest.param(gate(size="large", mean=8.0), "reached", id="one size"),
        pytest.param(gate(size="only ours"), "not measured", id="no peer at this size"),
        pytest.param(gate(device_type="cuda"), "not measured", id="another device"),
        pytest.param(gate(mode="forward+backward"), "not measured", id="another mode"),
        pytest.param(TimeGate("rotate", "forward", "only ours", 7.0), "reached", id="time at the gate"),
        pytest.param(TimeGate("rotate", "forward", "only ours", 6.9), "**missed**", id="time above the gate"),
        pytest.param(TimeGate("rotate", "forward", "no such size", 1.0), "not measured", id="time unknown"),
    ],
)
def test_verdict(asked: RatioGate | TimeGate, verdict: str) -> None:
    assert report.judge(asked, report.newest(RECORD))[2] == verdict


def test_ratio_is_never_taken_across_runs() -> None:
    # The newest run of this operation holds only our side; the peer's time of the older run must not be used.
    newer = [*RECORD, row(OURS, 1.0, run="run-2", date="2026-02-01T00:00:00")]
    assert report.judge(gate(), report.newest(newer))[2] == "not measured"
    assert report.ratios(newer, PEER) == {"small": 2.0, "large": 8.0}


def test_another_operations_run_leaves_a_result_standing() -> None:
    newer = [*RECORD, row(OURS, 1.0, run="run-2", date="2026-02-01T00:00:00", operation="rot90")]
    assert report.judge(gate(), report.newest(newer))[2] == "reached"


def test_page_shows_times_ratios_means_and_conditions() -> None:
    page = report.make_report(RECORD, (gate(),))
    assert "| small | 1 (0.5 to 2) | 2 (1 to 4) | 2.00x |" in page
    assert "| large | 0.5 (0.25 to 1) | 4 (2 to 8) | 8.00x |" in page
    assert "| only ours | 7 (3.5 to 14) |  |  |" in page
    assert "| geometric mean |  |  | 4.00x |" in page
    assert "A Processor, 2 threads; Python 3.11.7, PyTorch 2.13.0" in page
    assert "run-0" not in page


def test_page_says_when_no_gpu_was_measured() -> None:
    assert "not measured on a GPU yet" in report.make_report(RECORD, ())
    assert "not measured on a GPU yet" in report.make_report([], ())
    with_gpu = [*RECORD, row(OURS, 1.0, device_type="cuda", device="A GPU", peak_mb=12.5)]
    page = report.make_report(with_gpu, ())
    assert "not measured on a GPU yet" not in page
    assert "A GPU; Python" in page
    assert "12.5 MB" in page


def test_record_is_read_back_as_written(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    rows.append(RECORD[:2], path)
    rows.append([row(OURS, 0.25, peak_mb=3.5, size="a, b")], path)
    assert rows.read(path) == [*RECORD[:2], row(OURS, 0.25, peak_mb=3.5, size="a, b")]
    assert path.read_text().count("provider") == 1
    with pytest.raises(ValueError, match=r"run run-1 is already recorded"):
        rows.append([row(PEER, 1.0)], path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("a,b\n1,2\n", "expected the columns", id="columns"),
        pytest.param(",".join(rows.COLUMNS) + "\n1,2\n", r"csv:2: expected 16 cells, got 2", id="cells"),
        pytest.param(",".join(rows.COLUMNS) + "\n" + "x," * 15 + "x\n", r"results.csv:2: .*'x'", id="number"),
    ],
)
def test_damaged_record_is_one_line_naming_the_place(
    text: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "results.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        rows.read(path)
    assert report.main(["--results", str(path), "--page", str(tmp_path / "page.md")]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def benchmark_json(**labels: Any) -> dict[str, Any]:
    machine = {"cpu": "A Processor", "gpu": None, "threads": 2, "python": "3.11.7", "torch": "2.13.0"}
    return {
        "datetime": "2026-01-01T00:00:00.123456+00:00",
        "commit_info": {"id": "0123456789abcdef", "dirty": True},
        "machine_info": {record.PROVENANCE: machine},
        "benchmarks": [
            {
                "fullname": "bench/test_it.py::test_it",
                "extra_info": {"operation": "rotate", "provider": OURS, "size": "small", "mode": "forward"}
                | labels,
                "stats": {"data": [0.001, 0.002, 0.003, 0.004, 0.005, 0.006]},
            }
        ],
    }


def test_benchmark_file_becomes_rows_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, results = tmp_path / "benchmark.json", tmp_path / "results.csv"
    source.write_text(json.dumps(benchmark_json(peak_mb=1.5)))
    command = [str(source), "--results", str(results)]
    assert record.main(command) == 0
    (measured,) = rows.read(results)
    assert (measured.p20_ms, measured.p50_ms, measured.p80_ms) == (2.0, 3.5, 5.0)
    assert (measured.commit, measured.date) == ("0123456789ab+", "2026-01-01T00:00:00")
    assert (measured.device, measured.device_type, measured.peak_mb) == ("A Processor", "cpu", 1.5)
    assert record.main(command) == 1
    assert "already recorded" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        pytest.param({"provider": ""}, "lacks provider", id="missing"),
        pytest.param({"mode": "backward"}, "extra_info\\['mode'\\] must be one of", id="mode"),
        pytest.param({"device": "tpu"}, "extra_info\\['device'\\] must be", id="device"),
    ],
)
def test_unlabelled_benchmark_is_refused(labels: dict[str, Any], message: str, tmp_path: Path) -> None:
    source = tmp_path / "benchmark.json"
    source.write_text(json.dumps(benchmark_json(**labels)))
    with pytest.raises(ValueError, match=message):
        record.rows_of(source)
