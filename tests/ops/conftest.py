"""How the tests of Triton kernels run: on a GPU with ``-m gpu``, and always under Triton's interpreter.

A test that takes `device` runs on CUDA tensors in an ordinary process, where it is marked ``gpu``, and on CPU
tensors in a process with TRITON_INTERPRET=1, which ``tests/ops/test_interpreter.py`` starts for every file
called ``test_triton.py``. While developing, start it by hand:

    TRITON_INTERPRET=1 python -m pytest tests/ops/rotation/test_triton.py
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from equikernels.ops import triton_support
from tests.ops.frames import FramedMemory


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "device" in metafunc.fixturenames:
        on_gpu = pytest.param("cuda", marks=pytest.mark.gpu)
        metafunc.parametrize("device", ["cpu" if triton_support.INTERPRETED else on_gpu], indirect=True)


@pytest.fixture
def device(request: pytest.FixtureRequest, frames: FramedMemory) -> str:
    """The device type whose tensors the backend "triton" takes; all its results are framed and checked."""
    name: str = request.param
    if name == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    return name


@pytest.fixture
def frames(monkeypatch: pytest.MonkeyPatch) -> Iterator[FramedMemory]:
    memory = FramedMemory()
    monkeypatch.setattr(triton_support, "empty", memory.empty)
    yield memory
    memory.check()
