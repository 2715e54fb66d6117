"""`rotate` against what users compose today: affine_grid + grid_sample, the same compiled, and kornia."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from bench.gates import OURS
from bench.rotate_gate import MODES, SIZES, Rotation, grid_sample_rotate
from equikernels.ops import rotate


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


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("size", SIZES, ids=lambda size: "x".join(map(str, size)))
@pytest.mark.parametrize("mode", MODES)
def test_rotate(benchmark, mode: str, size: tuple[int, ...], provider: str) -> None:  # type: ignore[no-untyped-def]
    name = "x".join(map(str, size))
    benchmark.group = f"rotate {mode} {name}"
    benchmark.extra_info.update({"operation": "rotate", "provider": provider, "size": name, "mode": mode})
    torch.manual_seed(0)
    call = MODES[mode](PROVIDERS[provider](), size)
    call()  # compilation is not what is measured
    benchmark(call)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_providers_compute_the_same(provider: str) -> None:
    z, theta = torch.rand(3, 2, 17, 17), torch.tensor([0.3, 2.0, -1.0])
    expected = rotate(z, theta, backend="reference")
    torch.testing.assert_close(PROVIDERS[provider]()(z, theta), expected, rtol=0, atol=1e-4)
