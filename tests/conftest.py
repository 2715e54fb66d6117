"""What every test shares: the real data sets, and how hard hypothesis searches."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path

import hypothesis
import pytest

REPOSITORY = Path(__file__).resolve().parent.parent

hypothesis.settings.register_profile("dev", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, max_examples=200, print_blob=True)
# By hand: pytest tests/properties --hypothesis-profile=deep
hypothesis.settings.register_profile("deep", deadline=None, max_examples=10_000)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "dev")


def data_root() -> Path:
    """The real data sets: EQUIKERNELS_DATA, or the sibling folder ``shared/data`` of the repository."""
    named = os.environ.get("EQUIKERNELS_DATA")
    return Path(named) if named else REPOSITORY.parent / "shared" / "data"


@pytest.fixture(scope="session")
def needs_data() -> Path:
    """The folder of real data sets; a test that asks for it is skipped where there is none."""
    root = data_root()
    if not root.is_dir():
        pytest.skip(f"no real data: {root} is not a folder (set EQUIKERNELS_DATA)")
    return root


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("needs_data") and not data_root().is_dir():
        pytest.skip(f"no real data: {data_root()} is not a folder (set EQUIKERNELS_DATA)")


def reads_data(item: pytest.Item) -> bool:
    """Whether a test asked for the real data, by the fixture or by the marker."""
    by_fixture = "needs_data" in getattr(item, "fixturenames", ())
    return by_fixture or item.get_closest_marker("needs_data") is not None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Under CI a test of the real data may not be skipped where the data is: it would look like a pass."""
    report = yield
    skipped = report.skipped and not hasattr(report, "wasxfail")
    if skipped and os.environ.get("CI") and reads_data(item) and data_root().is_dir():
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        report.outcome = "failed"
        report.longrepr = f"skipped although {data_root()} is present: {reason}"
    return report
