"""What the partition tests share: inputs of every kind, the operations as loops and as users compose them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from equikernels.ops import partition, partition_rotate, rotate
from equikernels.ops.arguments import compute_dtype

BACKENDS = ("reference", "cpp")
DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
ESTIMATORS = ("ste", "counterfactual")
SHAPES = ((3, 5, 7, 9), (2, 4, 8, 8), (1, 9, 5, 4), (2, 3, 1, 1), (2, 8, 3, 17), (1, 3, 140, 33))


class Case(NamedTuple):
    """Inputs with values in [-2, 2], and weights of the three results that make all of them matter."""

    z: Tensor
    theta: Tensor
    logits: Tensor
    target: Tensor
    grad: Tensor
    grad_i: Tensor
    grad_v: Tensor

    @property
    def inputs(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.z, self.theta, self.logits

    @property
    def weights(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.grad, self.grad_i, self.grad_v


def random_case(shape: tuple[int, ...], dtype: torch.dtype, per_sample: bool = False, seed: int = 0) -> Case:
    """The first channel varies and the last does not, where there are two."""
    generator = torch.Generator().manual_seed(seed)
    z, target, grad = (
        (torch.rand(shape, generator=generator, dtype=torch.float64) * 4 - 2).to(dtype) for _ in range(3)
    )
    computed = compute_dtype(dtype)
    theta = torch.rand(shape[0], generator=generator, dtype=torch.float64) * 20 - 10
    logits = torch.randn((shape[0], shape[1]) if per_sample else shape[1:2], generator=generator).double()
    logits[..., :1] = logits[..., :1].abs() + 0.1
    if shape[1] > 1:
        logits[..., -1:] = -logits[..., -1:].abs() - 0.1
    half = 0.5 * z.numel()
    weights = (torch.tensor(factor * half, dtype=computed) for factor in (1.0, 0.7))
    return Case(z, theta.to(computed), logits.to(computed), target, grad, *weights)


def differentiable(tensors: tuple[Tensor, ...], needs: tuple[bool, ...] = (True, True, True)) -> list[Tensor]:
    return [x.detach().clone().requires_grad_(need) for x, need in zip(tensors, needs, strict=True)]


def results(case: Case, backend: str, create_graph: bool = False, **options: object) -> tuple[Tensor, ...]:
    """out, loss_i, loss_v and the gradients of z, theta and logits."""
    inputs = differentiable(case.inputs)
    out = partition_rotate(*inputs, target=case.target, backend=backend, **options)
    grads = torch.autograd.grad(out, inputs, case.weights, create_graph=create_graph)
    return tuple(x.detach() for x in (*out, *grads))


def looped(case: Case, threshold: float = 0.5) -> tuple[Tensor, Tensor, Tensor]:
    """One channel of one sample at a time."""
    z, theta, logits, target = case[:4]
    out = torch.empty_like(z)
    losses = {True: 0.0, False: 0.0}
    for n in range(z.shape[0]):
        for c in range(z.shape[1]):
            logit = logits[n, c] if logits.dim() == 2 else logits[c]
            varies = bool(torch.sigmoid(logit) > threshold)
            out[n, c] = rotate(z[n, c][None, None], theta[n], backend="reference") if varies else z[n, c]
            losses[varies] += float((out[n, c].double() - target[n, c].double()).square().sum())
    return out, *(torch.tensor(losses[side] / z.numel(), dtype=theta.dtype) for side in (False, True))


def straight_through(logits: Tensor, threshold: float = 0.5) -> Tensor:
    """The mask (1, C, 1, 1) or (N, C, 1, 1) as users write it."""
    soft = torch.sigmoid(logits if logits.dim() == 2 else logits[None])[:, :, None, None]
    return (soft > threshold).to(soft.dtype) + soft - soft.detach()


def composed(
    z: Tensor, theta: Tensor, logits: Tensor, target: Tensor, threshold: float = 0.5
) -> tuple[Tensor, Tensor, Tensor]:
    """The textbook composition, which autograd differentiates as the straight-through estimator."""
    mask = straight_through(logits, threshold)
    turned, copied = rotate(mask * z, theta, backend="reference"), (1 - mask) * z
    stopped = mask.detach()
    return (
        turned + copied,
        F.mse_loss(copied, (1 - stopped) * target.detach()),
        F.mse_loss(turned, stopped * target.detach()),
    )


def call_of(what: str | None) -> Callable[..., object]:
    """A call of (z, theta, logits, target): partition, or partition_rotate with an estimator or no losses."""
    if what == "partition":
        return lambda z, theta, logits, target, **options: partition(z, logits, **options)
    if what is None:
        return lambda z, theta, logits, target, **options: partition_rotate(z, theta, logits, **options)

    def with_losses(z: Tensor, theta: Tensor, logits: Tensor, target: Tensor, **options: object) -> object:
        return partition_rotate(z, theta, logits, target=target, estimator=what, **options)

    return with_losses


WHAT = ("partition", None, *ESTIMATORS)
