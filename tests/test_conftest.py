"""Tests of real data: skipped where it is absent, never silently skipped by CI where it is present."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SUITE = """
import pytest

def test_fixture(needs_data):
    assert (needs_data / "file").exists()

@pytest.mark.needs_data
def test_marker():
    pass

@pytest.mark.needs_data
def test_gives_up():
    pytest.skip("not today")

@pytest.mark.needs_data
@pytest.mark.xfail(reason="known", strict=True)
def test_expected_failure():
    raise AssertionError

def test_unrelated():
    pytest.skip("no such device")
"""


@pytest.mark.parametrize(
    ("present", "ci", "outcome"),
    [
        pytest.param(True, True, "1 failed, 2 passed, 1 skipped, 1 xfailed", id="data, CI"),
        pytest.param(True, False, "2 passed, 2 skipped, 1 xfailed", id="data, not CI"),
        pytest.param(False, True, "5 skipped", id="no data, CI"),
        pytest.param(False, False, "5 skipped", id="no data, not CI"),
    ],
)
def test_skips_of_data_tests(present: bool, ci: bool, outcome: str, tmp_path: Path) -> None:
    shutil.copy(Path(__file__).with_name("conftest.py"), tmp_path)
    (tmp_path / "test_suite.py").write_text(SUITE)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = needs_data\n")
    data = tmp_path / "data"
    if present:
        data.mkdir()
        (data / "file").touch()
    environment = {name: value for name, value in os.environ.items() if name != "CI"}
    environment |= {"EQUIKERNELS_DATA": str(data)} | ({"CI": "true"} if ci else {})
    finished = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "test_suite.py"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert outcome in finished.stdout.splitlines()[-1], finished.stdout + finished.stderr
    if present and ci:
        assert f"skipped although {data} is present: Skipped: not today" in finished.stdout
