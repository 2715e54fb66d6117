"""When Triton's backend is there, and that asking does not import it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from equikernels.ops import backends, triton_support
from equikernels.ops.triton_support import needs_wide_offsets, register_triton, tile_extents


@pytest.fixture(autouse=True)
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "_registry", {})
    monkeypatch.setattr(triton_support, "INTERPRETED", False)
    monkeypatch.setattr(triton_support, "find_spec", lambda name: name == "triton" or None)


def test_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    register_triton("fold")
    assert backends.choose("fold", "cuda") == "triton"
    with pytest.raises(backends.BackendError, match="'triton' cannot run fold on cpu"):
        backends.choose("fold", "cpu", "triton")


def test_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    register_triton("fold")
    with pytest.raises(backends.BackendError, match="triton: absent, there is no CUDA device"):
        backends.choose("fold", "cuda")


def test_without_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton_support, "find_spec", lambda name: None)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    register_triton("fold")
    with pytest.raises(backends.BackendError, match="triton: absent, triton is not installed"):
        backends.choose("fold", "cuda")


@pytest.mark.parametrize("devices", [0, 1])
def test_under_the_interpreter(monkeypatch: pytest.MonkeyPatch, devices: int) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: devices)
    monkeypatch.setattr(triton_support, "INTERPRETED", True)
    backends.register(backends.Backend("fold", "reference", ("any",)))
    register_triton("fold")
    assert backends.choose("fold", "cpu") == "reference"
    assert backends.choose("fold", "cpu", "triton") == "triton"
    # Nothing becomes slow silently: not on a GPU either.
    with pytest.raises(backends.BackendError, match="has no kernel for cuda tensors here"):
        backends.choose("fold", "cuda")


def test_the_package_does_not_import_triton() -> None:
    code = "import sys, equikernels.ops; assert 'triton' not in sys.modules, 'imported'"
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120, env=environment)


def test_positions_that_leave_32_bits() -> None:
    def far(*shape: int) -> torch.Tensor:
        return torch.empty(shape, device="meta")

    assert not needs_wide_offsets(far(9, 9, 2**15, 2**16), dims=2)
    assert needs_wide_offsets(far(1, 1, 2**15 + 1, 2**16), dims=2)
    assert needs_wide_offsets(far(1, 1, 2, 2), far(1, 9, 2**15, 2**16).transpose(1, 2), dims=2)
    assert needs_wide_offsets(far(2, 9, 2**15, 2**16), dims=3)


@pytest.mark.parametrize(
    "sizes", [(1, 1), (7, 7), (3, 500), (500, 3), (5, 1, 9), (64, 64, 64), (0, 4)], ids=str
)
@pytest.mark.parametrize("values", [1, 128, 1024])
def test_tiles(sizes: tuple[int, ...], values: int) -> None:
    tile = tile_extents(sizes, values)
    area = 1
    for extent, size in zip(tile, sizes, strict=True):
        area *= extent
        assert extent & (extent - 1) == 0
        assert extent < 2 * max(size, 1)
    assert area <= values
    # No axis could be longer.
    assert area * 2 > values or all(extent >= size for extent, size in zip(tile, sizes, strict=True))
