"""The Triton kernels of averages, see tests/ops/conftest.py for where they run."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from equikernels.ops import group_average
from equikernels.ops.averaging import group_correlate
from tests.ops.averaging.samples import MAPS, case, plain_sum
from tests.ops.frames import FramedMemory

pytest.importorskip("triton")

from equikernels.ops.averaging import triton_kernels as kernels


def both(w: Tensor, weights: Tensor, maps: object, device: str) -> tuple[Tensor, Tensor]:
    """Average and correlation with itself, on the device."""
    blocks = w.to(device)
    average = group_average(blocks, maps, weights.to(device), backend="triton")
    assert average.stride() == torch.empty_like(blocks).stride()
    return average.cpu(), group_correlate(blocks * 0.5, blocks, maps, backend="triton").cpu()


def check(w: Tensor, weights: Tensor, maps: object, device: str) -> None:
    average, overlaps = both(w, weights, maps, device)
    expected = group_average(w, maps, weights, backend="reference")
    half = torch.finfo(w.dtype).eps
    torch.testing.assert_close(average, expected, rtol=4 * half, atol=64 * half)
    expected = group_correlate(w * 0.5, w, maps, backend="reference")
    torch.testing.assert_close(overlaps, expected, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("name", ["C_4 3x3", "D_4 4x4", "S_3", "D_4 trivial on rows", "not faithful"])
def test_groups(name: str, device: str) -> None:
    check(*case(name, (2, 3), torch.float64), device)


def test_many_programs(device: str) -> None:
    """29 blocks of entries, the last one not full, of one sample."""
    check(*case("D_4 7x7", (2, 3), torch.float64), device)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_dtypes(dtype: torch.dtype, device: str) -> None:
    check(*case("C_4 4x4", (2, 3), dtype), device)


def test_layouts(device: str) -> None:
    w, weights, maps = case("S_3", (2, 5, 3), torch.float64)
    for strided in (
        w.permute(1, 3, 2, 4, 0).contiguous().permute(4, 0, 2, 1, 3),
        w.transpose(2, 3).contiguous().transpose(2, 3),
        w.mT.contiguous().mT,
        torch.stack([w, w], -1).flatten(-2)[..., ::2],
        w[:1, :1].expand(w.shape),
        w[:, :, 0],
        w[0, 0, 0],
        w[:0],
    ):
        check(strided, weights, maps, device)


def test_more_leading_dimensions_than_a_kernel_takes(device: str) -> None:
    w, weights, maps = case("S_3", (2, 3, 2, 2), torch.float64)
    wide = torch.zeros(2, 4, 3, 3, *maps.shape, dtype=torch.float64)
    wide[:, :3, :2, :2] = w
    check(wide[:, :3, :2, :2], weights, maps, device)


def test_samples_with_their_own_weights(device: str) -> None:
    name = "C_4 3x3"
    w, _, maps = case(name, (3, 2), torch.float64)
    weights = torch.randn(3, 4, dtype=torch.float64)
    prepared = maps.on(torch.device(device))
    ours = kernels.average(w.to(device), weights.to(device), *prepared).cpu()
    expected = torch.stack([plain_sum(x, c, MAPS[name]) for x, c in zip(w, weights, strict=True)])
    torch.testing.assert_close(ours, expected)
    overlaps = kernels.correlate(w.to(device), w.to(device), *prepared).cpu()
    one_by_one = torch.stack([group_correlate(x, x, maps, backend="reference") for x in w])
    torch.testing.assert_close(overlaps, one_by_one)


def test_offsets_of_64_bits(monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    monkeypatch.setattr(kernels, "_is_wide", lambda *numbers: True)
    check(*case("D_4 4x4", (2,), torch.float64), device)


def test_gradients(device: str) -> None:
    w, weights, maps = case("S_3", (), torch.float64)
    w, weights = w.to(device).requires_grad_(), weights.to(device).requires_grad_()
    function = lambda w, c: group_average(w, maps, c, backend="triton")  # noqa: E731
    assert gradcheck(function, (w, weights), check_forward_ad=True, fast_mode=True)


def test_results_are_framed(frames: FramedMemory, device: str) -> None:
    w, weights, maps = case("S_3", (2,), torch.float32)
    both(w, weights, maps, device)
    assert len(frames.buffers) == 2
