"""The tests of Triton kernels where no GPU is: each file in a process with Triton's interpreter.

The interpreter is chosen when Triton is first imported, so it needs a process of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from tests.ops.frames import FRAME_BYTES, FramedMemory

FILES = sorted(Path(__file__).parent.glob("*/test_triton.py"))
REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.parent.name)
def test_kernels_under_the_interpreter(path: Path) -> None:
    environment = os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "--tb=short", "-p", "no:cacheprovider", str(path)]
    done = subprocess.run(
        command, env=environment, cwd=REPOSITORY, capture_output=True, text=True, timeout=1800
    )
    if done.returncode:
        pytest.fail(
            f"TRITON_INTERPRET=1 {' '.join(command[1:])}\n{done.stdout}\n{done.stderr}", pytrace=False
        )


def test_every_operation_with_kernels_has_such_a_file() -> None:
    kernels = (REPOSITORY / "equikernels" / "ops").glob("*/triton_kernels.py")
    assert {path.parent.name for path in kernels} == {path.parent.name for path in FILES}


@pytest.mark.parametrize("offset", [-1, 0, 5, 6])
def test_frames_see_what_is_written_beside_a_result(offset: int) -> None:
    memory = FramedMemory()
    result = memory.empty((2, 3), torch.float32, torch.device("cpu"))
    assert result.data_ptr() - memory.buffers[0].data_ptr() == FRAME_BYTES
    torch.as_strided(result, (1,), (1,), result.storage_offset() + offset).fill_(1.0)
    if 0 <= offset < 6:
        memory.check()
    else:
        with pytest.raises(AssertionError, match="written outside"):
            memory.check()
