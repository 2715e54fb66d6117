"""Turn a pytest-benchmark JSON file into rows of the record: ``python -m bench.record FILE``."""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from bench import rows

LABELS = ("operation", "provider", "size", "mode")
MODES = ("forward", "forward+backward", "construct", "evaluation", "training step")
PROVENANCE = "equikernels"  # the key under which bench/conftest.py adds device, threads and versions


def check_labels(labels: dict[str, Any], where: str) -> None:
    """Refuse a benchmark that does not say what it measured.

    Raises:
        ValueError: a label is missing or empty, or the mode is none of ``MODES``.
    """
    missing = [label for label in LABELS if not labels.get(label)]
    if missing:
        raise ValueError(f"{where}: benchmark.extra_info lacks {', '.join(missing)}")
    if labels["mode"] not in MODES:
        raise ValueError(f"{where}: extra_info['mode'] must be one of {MODES}, got {labels['mode']!r}")
    if labels.get("device", "cpu") not in ("cpu", "cuda"):
        raise ValueError(f"{where}: extra_info['device'] must be 'cpu' or 'cuda', got {labels['device']!r}")


def rows_of(path: Path) -> list[rows.Row]:
    """The rows of one pytest-benchmark JSON file, all under one run.

    The run is named by its date and a digest of the file, so the same file is never recorded as two runs.

    Raises:
        ValueError: the file is not such a record, or a benchmark in it is not labelled.
    """
    content = path.read_bytes()
    try:
        report = json.loads(content)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: expected pytest-benchmark's JSON: {error}") from error
    machine = report.get("machine_info", {}).get(PROVENANCE)
    if machine is None:
        raise ValueError(f"{path}: machine_info lacks {PROVENANCE!r}: run the benchmarks through bench/")
    date = report["datetime"][:19]
    run = f"{date.replace('-', '').replace(':', '')}-{hashlib.sha256(content).hexdigest()[:8]}"
    commit = report.get("commit_info") or {}
    revision = (commit.get("id") or "")[:12] + ("+" if commit.get("dirty") else "")
    return [
        _row(benchmark, machine, {"run": run, "date": date, "commit": revision})
        for benchmark in report["benchmarks"]
    ]


def _row(benchmark: dict[str, Any], machine: dict[str, Any], origin: dict[str, str]) -> rows.Row:
    labels = benchmark["extra_info"]
    check_labels(labels, benchmark["fullname"])
    device_type = labels.get("device", "cpu")
    p20, p50, p80 = (float(t) * 1e3 for t in np.percentile(benchmark["stats"]["data"], [20, 50, 80]))
    peak = labels.get("peak_mb")
    return rows.Row(
        **origin,
        device_type=device_type,
        device=machine["gpu"] if device_type == "cuda" else machine["cpu"],
        threads=machine["threads"],
        python=machine["python"],
        torch=machine["torch"],
        operation=labels["operation"],
        provider=labels["provider"],
        mode=labels["mode"],
        size=str(labels["size"]),
        p20_ms=p20,
        p50_ms=p50,
        p80_ms=p80,
        peak_mb=None if peak is None else float(peak),
    )


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.record", description=__doc__)
    parser.add_argument("file", type=Path, help="what pytest --benchmark-json wrote")
    parser.add_argument("--results", type=Path, default=rows.RESULTS, help="default: %(default)s")
    options = parser.parse_args(arguments)
    try:
        new = rows_of(options.file)
        rows.append(new, options.results)
    except (OSError, ValueError) as error:
        print(f"bench.record: {error}", file=sys.stderr)
        return 1
    print(f"{options.results}: {len(new)} rows added")
    return 0


if __name__ == "__main__":
    sys.exit(main())
