"""`rotate3d` against affine_grid + grid_sample on volumes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from bench.devices import DEVICES, measure
from bench.gates import OURS
from equikernels.group import SO3
from equikernels.ops import rotate3d

SIZES = ((8, 1, 32, 32, 32), (8, 4, 32, 32, 32), (8, 32, 32, 32, 32), (2, 1, 96, 96, 96))

Rotation = Callable[[Tensor, Tensor], Tensor]


def grid_sample_rotate3d(z: Tensor, matrix: Tensor) -> Tensor:
    """What users write today, for cubes: the inverse rotation, with y down."""
    down = matrix.new_tensor([1.0, -1.0, 1.0])
    inverse = down[:, None] * matrix.mT * down
    affine = torch.cat([inverse, torch.zeros_like(inverse[..., :1])], dim=-1)
    grid = F.affine_grid(affine, list(z.shape), align_corners=False)
    return F.grid_sample(z, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


PROVIDERS: dict[str, Rotation] = {OURS: rotate3d, "affine_grid + grid_sample": grid_sample_rotate3d}


def matrices(batch: int, device: str) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return SO3().sample(batch, generator=generator, dtype=torch.float32).to(device)


def forward(rotation: Rotation, shape: tuple[int, ...], device: str) -> Callable[[], object]:
    z, matrix = torch.randn(shape, device=device), matrices(shape[0], device)
    return lambda: rotation(z, matrix)


def forward_backward(rotation: Rotation, shape: tuple[int, ...], device: str) -> Callable[[], object]:
    z, grad = torch.randn(shape, device=device, requires_grad=True), torch.randn(shape, device=device)
    matrix = matrices(shape[0], device).requires_grad_()
    return lambda: torch.autograd.grad(rotation(z, matrix), (z, matrix), grad)


MODES = {"forward": forward, "forward+backward": forward_backward}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("size", SIZES, ids=lambda size: "x".join(map(str, size)))
@pytest.mark.parametrize("mode", MODES)
def test_rotate3d(benchmark, mode: str, size: tuple[int, ...], provider: str, device: str) -> None:  # type: ignore[no-untyped-def]
    torch.manual_seed(0)
    call = MODES[mode](PROVIDERS[provider], size, device)
    call()
    name = "x".join(map(str, size))
    measure(benchmark, call, device, operation="rotate3d", provider=provider, mode=mode, size=name)


def test_providers_compute_the_same() -> None:
    z, matrix = torch.rand(3, 2, 9, 9, 9), matrices(3, "cpu")
    torch.testing.assert_close(grid_sample_rotate3d(z, matrix), rotate3d(z, matrix), rtol=0, atol=1e-4)
