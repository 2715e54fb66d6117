"""`rotate` against what users compose today: affine_grid + grid_sample, the same compiled, and kornia."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from bench.devices import DEVICES, measure
from bench.gates import OURS
from bench.rotate_gate import MODES, SIZES, Rotation, grid_sample_rotate
from equikernels.ops import rotate

# Many channels, and images beyond every cache.
LARGE = (
    (64, 64, 7, 7),
    (64, 16, 14, 14),
    (32, 16, 32, 32),
    (8, 64, 32, 32),
    (32, 3, 256, 256),
    (32, 3, 512, 512),
)
# (mode, padding) beside bilinear and zeros.
VARIANTS = (("bilinear", "border"), ("bilinear", "reflection"), ("nearest", "zeros"), ("bicubic", "zeros"))
VARIANT_SIZE = (32, 4, 64, 64)


def ours() -> Rotation:
    return rotate


def grid_sample() -> Rotation:
    return grid_sample_rotate


def compiled_grid_sample() -> Rotation:
    torch._dynamo.reset()
    return torch.compile(grid_sample_rotate, dynamic=False)


def kornia() -> Rotation:
    transform = pytest.importorskip("kornia").geometry.transform
    # Degrees, and the same centre and sense of rotation.
    return lambda z, theta: transform.rotate(z, torch.rad2deg(theta), align_corners=True)


PROVIDERS: dict[str, Callable[[], Rotation]] = {
    OURS: ours,
    "affine_grid + grid_sample": grid_sample,
    "torch.compile(affine_grid + grid_sample)": compiled_grid_sample,
    "kornia": kornia,
}


def name_of(size: tuple[int, ...]) -> str:
    return "x".join(map(str, size))


def run(benchmark, operation: str, provider: str, rotation: Rotation, mode: str, size, device: str) -> None:  # type: ignore[no-untyped-def]
    torch.manual_seed(0)
    call = MODES[mode](rotation, size, device)
    call()  # compilation is not what is measured
    measure(benchmark, call, device, operation=operation, provider=provider, mode=mode, size=name_of(size))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("size", SIZES, ids=name_of)
@pytest.mark.parametrize("mode", MODES)
def test_rotate(benchmark, mode: str, size: tuple[int, ...], provider: str, device: str) -> None:  # type: ignore[no-untyped-def]
    run(benchmark, "rotate", provider, PROVIDERS[provider](), mode, size, device)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("provider", [OURS, "affine_grid + grid_sample"])
@pytest.mark.parametrize("size", LARGE, ids=name_of)
@pytest.mark.parametrize("mode", MODES)
def test_large(benchmark, mode: str, size: tuple[int, ...], provider: str, device: str) -> None:  # type: ignore[no-untyped-def]
    run(benchmark, "rotate, large", provider, PROVIDERS[provider](), mode, size, device)


@pytest.mark.parametrize("provider", [OURS, "affine_grid + grid_sample"])
@pytest.mark.parametrize(("interpolation", "padding"), VARIANTS)
@pytest.mark.parametrize("mode", MODES)
def test_variants(benchmark, mode: str, interpolation: str, padding: str, provider: str) -> None:  # type: ignore[no-untyped-def]
    def rotation(z: Tensor, theta: Tensor) -> Tensor:
        if provider == OURS:
            return rotate(z, theta, mode=interpolation, padding=padding)
        return grid_sample_rotate(z, theta, interpolation, padding)

    operation = f"rotate, {interpolation}, {padding}"
    run(benchmark, operation, provider, rotation, mode, VARIANT_SIZE, "cpu")


@pytest.mark.parametrize("provider", PROVIDERS)
def test_providers_compute_the_same(provider: str) -> None:
    z, theta = torch.rand(3, 2, 17, 17), torch.tensor([0.3, 2.0, -1.0])
    expected = rotate(z, theta, backend="reference")
    torch.testing.assert_close(PROVIDERS[provider]()(z, theta), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("interpolation", "padding"), VARIANTS)
def test_variants_compute_the_same(interpolation: str, padding: str) -> None:
    z, theta = torch.rand(3, 2, 17, 17), torch.tensor([0.3, 2.0, -1.0])
    ours = rotate(z, theta, mode=interpolation, padding=padding)
    torch.testing.assert_close(grid_sample_rotate(z, theta, interpolation, padding), ours, rtol=0, atol=1e-4)
