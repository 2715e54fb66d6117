"""`partition_rotate` with its losses, and `partition`, against what users compose in eager torch."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from bench.devices import DEVICES, measure
from bench.gates import OURS
from bench.rotate_gate import grid_sample_rotate
from equikernels.ops import partition, partition_rotate

SIZES = ((64, 64, 7, 7), (64, 64, 8, 8), (64, 4, 32, 32), (32, 16, 32, 32))
EAGER = "eager"
THRESHOLD = 0.5

Results = tuple[Tensor, ...]
# Of latents, angles, logits and target; `partition` takes no angles and no target.
Operation = Callable[[Tensor, Tensor, Tensor, Tensor], Results]


def straight_through(logits: Tensor) -> Tensor:
    soft = torch.sigmoid(logits)
    return (soft > THRESHOLD).to(soft.dtype) + soft - soft.detach()


def eager_partition_rotate(z: Tensor, theta: Tensor, logits: Tensor, target: Tensor) -> Results:
    """The textbook: all channels through grid_sample, and the losses on parts of both latents."""
    mask = straight_through(logits)
    turned, copied = grid_sample_rotate(mask * z, theta), (1 - mask) * z
    stopped = mask.detach()
    loss_i = F.mse_loss(copied, ((1 - stopped) * target).detach())
    loss_v = F.mse_loss(turned, (stopped * target).detach())
    return turned + copied, loss_i, loss_v


def our_partition_rotate(z: Tensor, theta: Tensor, logits: Tensor, target: Tensor) -> Results:
    return partition_rotate(z, theta, logits, threshold=THRESHOLD, target=target)


def eager_partition(z: Tensor, theta: Tensor, logits: Tensor, target: Tensor) -> Results:
    mask = straight_through(logits)
    return mask * z, (1 - mask) * z


def our_partition(z: Tensor, theta: Tensor, logits: Tensor, target: Tensor) -> Results:
    return partition(z, logits, threshold=THRESHOLD)


OPERATIONS: dict[str, dict[str, Operation]] = {
    "partition_rotate": {OURS: our_partition_rotate, EAGER: eager_partition_rotate},
    "partition": {OURS: our_partition, EAGER: eager_partition},
}


def inputs(shape: tuple[int, ...], device: str) -> tuple[Tensor, ...]:
    """Half of the channels vary."""
    logits = torch.linspace(-1, 1, shape[1])[torch.randperm(shape[1])].view(1, -1, 1, 1)
    theta = torch.rand(shape[0]) * 2 * torch.pi
    return tuple(x.to(device) for x in (torch.randn(shape), theta, logits, torch.randn(shape)))


def forward(operation: Operation, shape: tuple[int, ...], device: str) -> Callable[[], object]:
    z, theta, logits, target = inputs(shape, device)
    return lambda: operation(z, theta, logits, target)


def forward_backward(operation: Operation, shape: tuple[int, ...], device: str) -> Callable[[], object]:
    z, theta, logits, target = inputs(shape, device)
    leaves = [x.requires_grad_() for x in (z, theta, logits)]
    grad, one = torch.randn(shape, device=device), torch.ones((), device=device)

    def step() -> object:
        results = operation(z, theta, logits, target)
        grads = [grad if x.dim() else one for x in results]
        # `partition` does not know the angles.
        return torch.autograd.grad(results, leaves, grads, allow_unused=True)

    return step


MODES = {"forward": forward, "forward+backward": forward_backward}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("provider", [OURS, EAGER])
@pytest.mark.parametrize("size", SIZES, ids=lambda size: "x".join(map(str, size)))
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_partition(  # type: ignore[no-untyped-def]
    benchmark, operation: str, mode: str, size: tuple[int, ...], provider: str, device: str
) -> None:
    torch.manual_seed(0)
    call = MODES[mode](OPERATIONS[operation][provider], size, device)
    call()
    name = "x".join(map(str, size))
    measure(benchmark, call, device, operation=operation, provider=provider, mode=mode, size=name)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_providers_compute_the_same(operation: str) -> None:
    """Values and gradients, in float64, where the two differ by rounding only."""
    torch.manual_seed(0)
    given = [x.double() for x in inputs((3, 6, 9, 7), "cpu")]
    leaves = [x.requires_grad_() for x in given[:3]]
    outcomes = []
    for function in OPERATIONS[operation].values():
        results = function(*given)
        grads = [torch.linspace(-1, 1, x.numel(), dtype=x.dtype).view(x.shape) + 2 for x in results]
        slopes = torch.autograd.grad(results, leaves, grads, allow_unused=True)
        outcomes.append([*results, *(x for x in slopes if x is not None)])
    for ours, eager in zip(*outcomes, strict=True):
        torch.testing.assert_close(ours, eager, rtol=1e-10, atol=1e-10)
