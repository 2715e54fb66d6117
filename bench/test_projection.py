"""Projecting the weight of a layer, 16 x 16 channels of 14 x 14 grids, beside a copy and plain PyTorch.

The peer of finite groups moves the blocks by one index map for each element of the group and adds up; that of
rotations changes the basis of all blocks by dense products, on both sides, there and back.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from bench.devices import DEVICES, measure
from bench.gates import OURS
from equikernels.group import SO2, CyclicGroup, DihedralGroup, Group, PermutationRepresentation, pixel_grid
from equikernels.ops.bases import Basis
from equikernels.ops.linear import BlockProjection, Side, project_weight
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


def rotations(kind: str) -> BlockProjection:
    """The projection of the grid under SO(2), with its basis as it is or as if it had no structure."""
    rep = pixel_grid(SIDE, SO2())
    projection = EquivariantProjector(rep, rep, Softness(0.1)).block_projection
    assert projection is not None
    if kind == "SO(2)":
        return projection
    side = Side(Basis(projection.inn.basis.matrix), projection.inn.types)
    return dataclasses.replace(projection, out=side, inn=side)


def four_dense_products(projection: BlockProjection) -> Projection:
    """As one would write it; the factors are the same kernel on both sides."""
    u = torch.tensor(projection.inn.basis.matrix, dtype=torch.float32)
    n = len(u)

    def project(w: Tensor) -> Tensor:
        basis = u.to(w.device)
        rows, columns = len(w) // n, w.shape[1] // n
        blocks = w.view(rows, n, columns, n).transpose(1, 2)
        coordinates = projection.scale(basis.T @ blocks @ basis)
        return (basis @ coordinates @ basis.T).transpose(1, 2).reshape(w.shape)

    return project


ROTATIONS: dict[str, Callable[[BlockProjection], Projection]] = {
    OURS: lambda projection: lambda w: project_weight(w, projection),
    "four dense products": four_dense_products,
    "clone": lambda projection: torch.clone,
}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("provider", ROTATIONS)
@pytest.mark.parametrize("kind", ["SO(2)", "SO(2) in a dense basis"])
def test_rotations(benchmark, kind: str, provider: str, device: str) -> None:  # type: ignore[no-untyped-def]
    torch.manual_seed(0)
    projection = rotations(kind)
    n = projection.inn.dim
    w = torch.randn(CHANNELS * n, CHANNELS * n, device=device)
    project = ROTATIONS[provider](projection)

    def call() -> Tensor:
        with torch.no_grad():
            return project(w)

    call()
    size = f"{kind} {SIDE}x{SIDE}, {CHANNELS}x{CHANNELS} channels"
    measure(benchmark, call, device, operation="projection", provider=provider, mode="forward", size=size)


@pytest.mark.parametrize("kind", ["SO(2)", "dense"])
def test_the_dense_peer_computes_the_same(kind: str) -> None:
    projection = rotations(kind)
    n = projection.inn.dim
    w = torch.randn(2 * n, 3 * n, generator=torch.Generator().manual_seed(0))
    expected = four_dense_products(projection)(w)
    torch.testing.assert_close(project_weight(w, projection), expected, rtol=0, atol=1e-5)


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
