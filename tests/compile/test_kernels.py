"""Every Triton kernel compiles for real GPUs, without spilling a register and without an atomic."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
OPERATIONS = sorted(path.name.removesuffix("_cases.py") for path in HERE.glob("*_cases.py"))

# A100 and H100.
CAPABILITIES = (80, 90)


@pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")
@pytest.mark.parametrize("capability", CAPABILITIES, ids=lambda capability: f"sm_{capability}")
@pytest.mark.parametrize("operation", OPERATIONS)
def test_compiles_without_spills_and_atomics(operation: str, capability: int) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, str(HERE / "compiling.py"), operation, str(capability)],
        env=environment,
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=600,
    )
    if done.returncode:
        pytest.fail(done.stderr, pytrace=False)
    records = json.loads(done.stdout)
    assert records
    for record in records:
        print(
            f"{record['case']:40} {record['kernel']:28} {record['registers']:4} registers "
            f"{record['shared']:6} bytes shared {record['spills']:4} bytes spilled"
        )
    assert [record for record in records if record["spills"]] == []
    assert [record for record in records if record["atomics"]] == []


def test_every_operation_with_kernels_is_compiled() -> None:
    kernels = (REPOSITORY / "equikernels" / "ops").glob("*/triton_kernels.py")
    assert {path.parent.name for path in kernels} == set(OPERATIONS)
