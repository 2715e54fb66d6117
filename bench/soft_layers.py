"""The layers that the benchmarks of soft layers compare: a textbook one, plain ones, ours."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from equikernels.group import SO2, CyclicGroup, Representation, pixel_grid
from equikernels.nn import SoftLinear
from equikernels.project import Hard
from equikernels.project.normal_form import normal_form_of_representation

CUTOFF = Hard(2.5)

GRID = pixel_grid(14, SO2())
VECTORS = SO2().irrep(1)

# Representation, channels in and out, batch.
SIZES: dict[str, tuple[Representation, int, int, int]] = {
    "14x14 grid 16 to 16, batch 1": (GRID, 16, 16, 1),
    "14x14 grid 16 to 16, batch 64": (GRID, 16, 16, 64),
    "2-vectors 512 to 2048, batch 64": (VECTORS, 512, 2048, 64),
}

REGULAR = CyclicGroup(8).regular()
FIELDS = 64
STACK = 4


class TextbookSoftLinear(nn.Module):
    """The projection of the paper's appendix in plain PyTorch, carried out at every forward pass.

    The weight goes into dense Schur bases, every 2 x 2 block is gathered, its part that commutes and the rest
    are multiplied by masks, and the result goes back.
    """

    keep: Tensor
    commuting: Tensor
    basis: Tensor

    def __init__(self, rep: Representation, channels_in: int, channels_out: int, cutoff: Hard) -> None:
        super().__init__()
        n = rep.dim
        self.channels = channels_out, channels_in
        self.weight = nn.Parameter(torch.empty(channels_out * n, channels_in * n))
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)
        form = normal_form_of_representation(rep)
        self.planes = len(form.planes)
        self.register_buffer("basis", torch.tensor(form.basis, dtype=torch.float32))
        frequency = np.concatenate([form.planes.imag, form.planes.imag, form.axes.imag])
        near = np.abs(frequency[:, None] - frequency[None])
        far = frequency[:, None] + frequency[None]
        self.register_buffer("commuting", torch.tensor(near < cutoff.cutoff))
        self.register_buffer("keep", torch.tensor(far < cutoff.cutoff))

    def projected(self) -> Tensor:
        (c_out, c_in), p = self.channels, self.planes
        n = len(self.basis)
        blocks = self.weight.view(c_out, n, c_in, n).transpose(1, 2)
        blocks = self.basis.mT @ blocks @ self.basis
        index = torch.arange(n, device=blocks.device)
        partner = torch.cat([index[p : 2 * p], index[:p], index[2 * p :]])
        sign = torch.ones(n, device=blocks.device)
        sign[p : 2 * p] = -1
        plane = index < 2 * p
        both = plane[:, None] & plane[None]
        crossed = blocks[..., partner, :][..., partner] * (sign[:, None] * sign[None])
        mean = torch.where(both, (blocks + crossed) / 2, blocks)
        kept = torch.where(self.commuting, mean, 0.0) + torch.where(self.keep & both, blocks - mean, 0.0)
        back = self.basis @ kept @ self.basis.mT
        return back.transpose(1, 2).reshape(self.weight.shape)

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.projected())


def plain(rep: Representation, channels_in: int, channels_out: int) -> nn.Linear:
    return nn.Linear(channels_in * rep.dim, channels_out * rep.dim, bias=False)


def soft(rep: Representation, channels_in: int, channels_out: int, parameter: str = "raw") -> SoftLinear:
    return SoftLinear(rep, rep, CUTOFF, channels_in, channels_out, bias=False, parameter=parameter)


class PlainWithProducts(nn.Module):
    """A plain layer and the matrix products of a projection: four dense ones forwards, four backwards."""

    basis: Tensor

    def __init__(self, rep: Representation, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(plain(rep, channels_in, channels_out).weight.detach().clone())
        self.register_buffer("basis", torch.tensor(rep.change_of_basis, dtype=torch.float32))

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, _Products.apply(self.weight, self.basis))  # type: ignore[no-untyped-call]


def four_products(w: Tensor, u: Tensor) -> Tensor:
    """U U^T W U U^T block by block, with dense products on the weight as it lies in memory."""
    n = len(u)
    a = torch.mm(w.view(-1, n), u).view(-1, n, w.shape[1])
    a = torch.matmul(u, torch.matmul(u.mT, a))
    return torch.mm(a.view(-1, n), u.mT).view(w.shape)


class _Products(torch.autograd.Function):
    @staticmethod
    def forward(ctx, w: Tensor, u: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        ctx.save_for_backward(u)
        return four_products(w, u)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:  # type: ignore[no-untyped-def, override]
        return four_products(grad, *ctx.saved_tensors), None


def training_step(layer: nn.Module, batch: int, width: int) -> Callable[[], None]:
    """Forward, backward and a step of gradient descent, so that every projection is a new one."""
    device = next(layer.parameters()).device
    x = torch.randn(batch, width, device=device, requires_grad=True)
    optimizer = torch.optim.SGD(layer.parameters(), lr=1e-6)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        x.grad = None
        y = layer(x)
        y.backward(torch.ones_like(y))
        optimizer.step()

    return step
