"""Projections of every kind: one generator and several, permutations, grids, real and complex types."""

from __future__ import annotations

import torch

from equikernels.group import SO2, SO3, CubeGroup, CyclicGroup, DihedralGroup, Representation, pixel_grid
from equikernels.ops.linear import BlockProjection
from equikernels.project import Cutoff, EquivariantProjector, Hard, Smooth, Softness

REPRESENTATIONS = {
    "vectors": (SO2().irrep(1), SO2().irrep(1)),
    "mixed frequencies": (
        2 * SO2().irrep(1) + SO2().trivial() + SO2().irrep(3),
        SO2().irrep(3) + SO2().irrep(2),
    ),
    "spectral grid": (pixel_grid(6, SO2()), pixel_grid(5, SO2())),
    "grid to vectors": (pixel_grid(4, SO2()), SO2().irrep(1) + SO2().trivial()),
    "C_8 regular": (CyclicGroup(8).regular(), CyclicGroup(8).regular()),
    "C_4 grid": (pixel_grid(4, CyclicGroup(4)), pixel_grid(4, CyclicGroup(4))),
    "D_4 grid": (pixel_grid(3, DihedralGroup(4)), DihedralGroup(4).regular()),
    "SO(3)": (2 * SO3().irrep(1) + SO3().trivial(), SO3().irrep(2) + SO3().irrep(1)),
    "cube": (CubeGroup().defining() + CubeGroup().trivial(), 2 * CubeGroup().defining()),
}

CUTOFFS: dict[str, Cutoff] = {
    "strict": Softness(0),
    "soft": Softness(0.4),
    "hard": Hard(1.3),
    "smooth": Smooth(0.5, 1.0),
}


def projector(representations: str, cutoff: str) -> EquivariantProjector:
    rep_in, rep_out = REPRESENTATIONS[representations]
    return EquivariantProjector(rep_in, rep_out, CUTOFFS[cutoff])


def block_projection(representations: str, cutoff: str) -> BlockProjection:
    found = projector(representations, cutoff).block_projection
    assert found is not None
    return found


def draw(
    rep_in: Representation, rep_out: Representation, channels_in: int = 2, channels_out: int = 3
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Features (2, 3, columns), a weight and a bias; float64."""
    generator = torch.Generator().manual_seed(0)
    rows, columns = channels_out * rep_out.dim, channels_in * rep_in.dim

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    return normal(2, 3, columns), normal(rows, columns), normal(rows)
