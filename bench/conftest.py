"""What every benchmark shares: its labels are checked, and the record learns which machine it ran on."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.record import PROVENANCE, check_labels


def processor_name() -> str:
    """The processor's model: ``platform.processor()`` is empty or only an architecture on Linux."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def pytest_report_header() -> str:
    """Other work on the machine disturbs both sides of a ratio unequally; the reader should know of it."""
    return f"load before the benchmarks: {os.getloadavg()[0]:.2f} on {os.cpu_count()} processors"


def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: dict[str, Any]) -> None:
    machine_info[PROVENANCE] = {
        "cpu": processor_name(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    # The host's name says nothing about the measurement and does not belong in a published file.
    machine_info.pop("node", None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu") is not None:
            item.add_marker(pytest.mark.skip(reason="there is no GPU"))


@pytest.fixture(autouse=True)
def labelled(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a benchmark without labels at once instead of after the whole suite has run."""
    yield
    benchmark = request.node.funcargs.get("benchmark")
    if benchmark is not None and benchmark.stats is not None:
        check_labels(benchmark.extra_info, request.node.nodeid)
