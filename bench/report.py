"""The newest measurements as docs/results/benchmarks.md: ``python -m bench.report``.

An operation is reported from the newest run that holds it on each kind of device, so a run of one suite
leaves the others' results standing. Both sides of a ratio always come from the same run.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterable
from pathlib import Path

from bench import rows
from bench.gates import GATES, OURS, Gate, RatioGate, TimeGate
from bench.rows import Row

PAGE = Path(__file__).resolve().parent.parent / "docs" / "results" / "benchmarks.md"

INTRODUCTION = """# Benchmarks

Made by `make bench` from `bench/results/results.csv`; the gates are declared in `bench/gates.py`. Times are
medians in milliseconds a call, with the 20th and 80th percentile in brackets. A ratio is the peer's median
over ours in the same process and the same run: above 1 we are faster."""

NO_GPU = "not measured on a GPU yet"


def newest(record: list[Row]) -> list[Row]:
    """For each operation and device type, the rows of the newest run that holds it."""
    latest: dict[tuple[str, str], tuple[str, int]] = {}
    position = {run: index for index, run in enumerate(dict.fromkeys(row.run for row in record))}
    for row in record:
        # Runs recorded in one second are told apart by their place in the record, which is only appended to.
        stamp = (row.date, position[row.run])
        key = (row.device_type, row.operation)
        latest[key] = max(latest.get(key, stamp), stamp)
    return [row for row in record if latest[row.device_type, row.operation] == (row.date, position[row.run])]


def ratios(measured: Iterable[Row], peer: str) -> dict[str, float]:
    """Peer's median over ours for each size one run holds for both; rows of one operation and mode."""
    measured = list(measured)
    ours = {(row.run, row.size): row.p50_ms for row in measured if row.provider == OURS}
    return {
        row.size: row.p50_ms / ours[row.run, row.size]
        for row in measured
        if row.provider == peer and (row.run, row.size) in ours
    }


def geometric_mean(values: Iterable[float]) -> float:
    """The mean that does not depend on which side of a ratio is called the peer."""
    values = list(values)
    return math.prod(values) ** (1 / len(values))


def judge(gate: Gate, measured: list[Row]) -> tuple[str, str, str]:
    """What a gate asks, what was measured, and the verdict, each as text."""
    here = [
        row
        for row in measured
        if (row.device_type, row.operation, row.mode) == (gate.device_type, gate.operation, gate.mode)
        and gate.size in (None, row.size)
    ]
    return _judge_time(gate, here) if isinstance(gate, TimeGate) else _judge_ratio(gate, here)


def _judge_time(gate: TimeGate, here: list[Row]) -> tuple[str, str, str]:
    asked = f"at most {gate.milliseconds:g} ms"
    ours = [row.p50_ms for row in here if row.provider == OURS]
    if not ours:
        return asked, "", "not measured"
    return asked, f"{ours[-1]:.3g} ms", _verdict(ours[-1] <= gate.milliseconds)


def _judge_ratio(gate: RatioGate, here: list[Row]) -> tuple[str, str, str]:
    asked = f"{gate.mean:g}x" + (f", none below {gate.lowest:g}x" if gate.lowest is not None else "")
    found = ratios(here, gate.peer)
    if not found:
        return asked, "", "not measured"
    mean, lowest = geometric_mean(found.values()), min(found.values())
    told = _ratio(mean) + (f", lowest {_ratio(lowest)}" if len(found) > 1 else "")
    return asked, told, _verdict(mean >= gate.mean and (gate.lowest is None or lowest >= gate.lowest))


def _verdict(reached: bool) -> str:
    return "reached" if reached else "**missed**"


def make_report(record: list[Row], gates: tuple[Gate, ...] = GATES) -> str:
    """The whole page as Markdown."""
    measured = newest(record)
    parts = [INTRODUCTION, "## Gates", _gate_table(measured, gates)]
    for device_type, title in (("cpu", "CPU"), ("cuda", "GPU")):
        parts.append(f"## {title}")
        here = [row for row in measured if row.device_type == device_type]
        if not here:
            parts.append(NO_GPU if device_type == "cuda" else "not measured yet")
        for operation in dict.fromkeys(row.operation for row in here):
            parts.extend(_operation(operation, [row for row in here if row.operation == operation]))
    return "\n\n".join(parts) + "\n"


def _gate_table(measured: list[Row], gates: tuple[Gate, ...]) -> str:
    lines = []
    for gate in gates:
        asked, told, verdict = judge(gate, measured)
        against = f"vs {gate.peer}" if isinstance(gate, RatioGate) else ""
        lines.append(
            [gate.operation, gate.mode, gate.size or "all", gate.device_type, against, asked, told, verdict]
        )
    return _table(["operation", "mode", "size", "device", "against", "gate", "measured", "verdict"], lines)


def _operation(operation: str, measured: list[Row]) -> list[str]:
    origin = measured[0]
    place = origin.device if origin.device_type == "cuda" else f"{origin.device}, {origin.threads} threads"
    conditions = (
        f"{place}; Python {origin.python}, PyTorch {origin.torch}; {origin.date}, commit "
        f"{origin.commit or 'unknown'}, run {origin.run}."
    )
    parts = [f"### {operation}", conditions]
    for mode in dict.fromkeys(row.mode for row in measured):
        parts.append(_mode_table(mode, [row for row in measured if row.mode == mode]))
    return parts


def _mode_table(mode: str, measured: list[Row]) -> str:
    providers = sorted(dict.fromkeys(row.provider for row in measured), key=lambda name: name != OURS)
    peers = [provider for provider in providers if provider != OURS]
    with_memory = any(row.peak_mb is not None for row in measured)
    cells = {(row.size, row.provider): _time(row, with_memory) for row in measured}
    by_peer = {peer: ratios(measured, peer) for peer in peers}
    head = [mode, *providers, *(f"ratio to {peer}" for peer in peers)]
    lines = [
        [
            size,
            *(cells.get((size, provider), "") for provider in providers),
            *(_ratio(by_peer[peer][size]) if size in by_peer[peer] else "" for peer in peers),
        ]
        for size in dict.fromkeys(row.size for row in measured)
    ]
    if any(by_peer.values()):
        means = [_ratio(geometric_mean(by_peer[peer].values())) if by_peer[peer] else "" for peer in peers]
        lines.append(["geometric mean", *("" for _ in providers), *means])
    return _table(head, lines)


def _time(row: Row, with_memory: bool) -> str:
    p20, p50, p80 = (
        f"{time:.3g}" if time < 1000 else f"{time:.0f}" for time in (row.p20_ms, row.p50_ms, row.p80_ms)
    )
    text = f"{p50} ({p20} to {p80})"
    if with_memory and row.peak_mb is not None:
        text += f", {row.peak_mb:.3g} MB"
    return text


def _ratio(value: float) -> str:
    return f"{value:.2f}x" if value < 100 else f"{value:.0f}x"


def _table(head: list[str], lines: list[list[str]]) -> str:
    marks = ["---"] * len(head)
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, marks, *lines])


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.report", description=__doc__)
    parser.add_argument("--results", type=Path, default=rows.RESULTS, help="default: %(default)s")
    parser.add_argument("--page", type=Path, default=PAGE, help="default: %(default)s")
    options = parser.parse_args(arguments)
    try:
        page = make_report(rows.read(options.results))
        options.page.parent.mkdir(parents=True, exist_ok=True)
        options.page.write_text(page, encoding="utf-8")
    except (OSError, ValueError) as error:
        print(f"bench.report: {error}", file=sys.stderr)
        return 1
    print(page, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
