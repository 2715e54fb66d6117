"""`rot90` with a turn per sample against a Python loop over the samples, and against a plain copy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from bench.devices import DEVICES, measure
from bench.gates import OURS
from equikernels.ops import rot90

SIZES = ((64, 64, 7, 7), (64, 4, 32, 32), (32, 3, 256, 256))

Turn = Callable[[Tensor, Tensor], Tensor]


def loop_over_samples(z: Tensor, k: Tensor) -> Tensor:
    """What users write today."""
    return torch.stack(
        [torch.rot90(image, turns, (-2, -1)) for image, turns in zip(z, k.tolist(), strict=True)]
    )


class Copy(torch.autograd.Function):
    """A plain copy forwards and another one backwards: the least that moving every value can cost."""

    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        return z.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad.clone()


def clone(z: Tensor, k: Tensor) -> Tensor:
    copied: Tensor = Copy.apply(z) if z.requires_grad else z.clone()
    return copied


PROVIDERS: dict[str, Turn] = {OURS: rot90, "loop over samples": loop_over_samples, "clone": clone}


def forward(turn: Turn, shape: tuple[int, ...], device: str) -> Callable[[], object]:
    z, k = torch.randn(shape, device=device), torch.randint(4, (shape[0],), device=device)
    return lambda: turn(z, k)


def forward_backward(turn: Turn, shape: tuple[int, ...], device: str) -> Callable[[], object]:
    z, grad = torch.randn(shape, device=device, requires_grad=True), torch.randn(shape, device=device)
    k = torch.randint(4, (shape[0],), device=device)
    return lambda: torch.autograd.grad(turn(z, k), z, grad)


MODES = {"forward": forward, "forward+backward": forward_backward}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("size", SIZES, ids=lambda size: "x".join(map(str, size)))
@pytest.mark.parametrize("mode", MODES)
def test_rot90(benchmark, mode: str, size: tuple[int, ...], provider: str, device: str) -> None:  # type: ignore[no-untyped-def]
    torch.manual_seed(0)
    call = MODES[mode](PROVIDERS[provider], size, device)
    call()
    name = "x".join(map(str, size))
    measure(benchmark, call, device, operation="rot90", provider=provider, mode=mode, size=name)


def test_the_loop_computes_the_same() -> None:
    z, k = torch.rand(5, 2, 17, 17), torch.tensor([0, 3, 2, 1, -1])
    assert torch.equal(loop_over_samples(z, k), rot90(z, k))
