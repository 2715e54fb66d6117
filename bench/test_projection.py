"""Projecting the weight of a layer, 16 x 16 channels of 14 x 14 grids, beside a copy and plain PyTorch.

The peer of finite groups moves the blocks by one index map for each element of the group and adds up.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from bench.devices import DEVICES, measure
from bench.gates import OURS
from equikernels.group import CyclicGroup, DihedralGroup, Group, PermutationRepresentation, pixel_grid
from equikernels.project import EquivariantProjector, Softness

SIDE = 14
CHANNELS = 16
FINITE: dict[str, Group] = {"C_4": CyclicGroup(4), "D_4": DihedralGroup(4)}

Projection = Callable[[Tensor], Tensor]


def grid(group: str) -> PermutationRepresentation:
    rep = pixel_grid(SIDE, FINITE[group])
    assert isinstance(rep, PermutationRepresentation)
    return rep


def ours(rep: PermutationRepresentation) -> Projection:
    return EquivariantProjector(rep, rep, Softness(0))


def clone(rep: PermutationRepresentation) -> Projection:
    """A plain copy: the least that reading and writing every value can cost."""
    return torch.clone


def index_select_per_element(rep: PermutationRepresentation) -> Projection:
    """One pass for each element. Entries first, channels last, so that an index moves a row of numbers."""
    sources, n = torch.tensor(rep.sources), rep.dim
    indices = [(maps[:, None] * n + maps).flatten() for maps in sources]

    def project(w: Tensor) -> Tensor:
        rows, columns = len(w) // n, w.shape[1] // n
        blocks = w.view(rows, n, columns, n).permute(1, 3, 0, 2).reshape(n * n, rows * columns)
        total = torch.zeros_like(blocks)
        for index in indices:
            total += blocks.index_select(0, index.to(w.device))
        return (total / len(indices)).view(n, n, rows, columns).permute(2, 0, 3, 1).reshape(w.shape)

    return project


PROVIDERS: dict[str, Callable[[PermutationRepresentation], Projection]] = {
    OURS: ours,
    "index_select per element": index_select_per_element,
    "clone": clone,
}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("group", FINITE)
def test_finite(benchmark, group: str, provider: str, device: str) -> None:  # type: ignore[no-untyped-def]
    torch.manual_seed(0)
    rep = grid(group)
    w = torch.randn(CHANNELS * rep.dim, CHANNELS * rep.dim, device=device)
    project = PROVIDERS[provider](rep)

    def call() -> Tensor:
        return project(w)

    call()
    size = f"{group} {SIDE}x{SIDE}, {CHANNELS}x{CHANNELS} channels"
    measure(benchmark, call, device, operation="projection", provider=provider, mode="forward", size=size)


@pytest.mark.parametrize("group", FINITE)
def test_the_peer_computes_the_same(group: str) -> None:
    rep = grid(group)
    w = torch.randn(2 * rep.dim, 3 * rep.dim, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(ours(rep)(w), index_select_per_element(rep)(w), rtol=0, atol=1e-5)
