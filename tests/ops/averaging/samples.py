"""What the tests of averages share: groups of every kind by their index maps, blocks, and the plain sum."""

from __future__ import annotations

import torch
from torch import Tensor

from equikernels.group import (
    CubeGroup,
    CyclicGroup,
    DihedralGroup,
    PermutationRepresentation,
    SymmetricGroup,
    pixel_grid,
    voxel_grid,
)
from equikernels.ops.averaging import IndexMaps

BACKENDS = ("reference", "cpp")


def sources(rep: PermutationRepresentation) -> Tensor:
    return torch.tensor(rep.sources)


def trivial(order: int, places: int) -> Tensor:
    return torch.arange(places).expand(order, places)


def named_maps() -> dict[str, tuple[Tensor, Tensor]]:
    """Rows and columns, with and without fixed points, alike and not, faithful and not."""
    c4, d4, cube, s3 = CyclicGroup(4), DihedralGroup(4), CubeGroup(), SymmetricGroup(3)
    grids = {f"{g!r} {n}x{n}": sources(pixel_grid(n, g)) for g in (c4, d4) for n in (3, 4, 7)}
    square = {name: (maps, maps) for name, maps in grids.items()}
    three = s3.elements().argsort(dim=1)
    turns, eight = sources(c4.regular()), sources(d4.regular())
    twice = torch.cat([eight, eight[[3, 1, 7, 0, 2, 6, 5, 4]]])
    return square | {
        "C_4 grids of two sizes": (sources(pixel_grid(5, c4)), sources(pixel_grid(2, c4))),
        "C_4 grid to regular": (turns, sources(pixel_grid(3, c4))),
        "D_4 regular": (eight, eight),
        "D_4 trivial on rows": (trivial(8, 1), sources(pixel_grid(4, d4))),
        "D_4 trivial on columns": (sources(pixel_grid(4, d4)), trivial(8, 3)),
        "trivial on both": (trivial(1, 3), trivial(1, 2)),
        "cube": (sources(voxel_grid(3, cube)), sources(voxel_grid(2, cube))),
        "S_3": (three, torch.cat([three, three + 3], dim=1)),
        "C_40": (sources(CyclicGroup(40).regular()),) * 2,
        # Every action comes from two elements, in no order.
        "not faithful": (twice, twice),
        "nobody acts": (trivial(6, 4), trivial(6, 3)),
    }


MAPS = named_maps()


def plain_sum(w: Tensor, weights: Tensor, maps: tuple[Tensor, Tensor]) -> Tensor:
    """The definition, entry by entry, in float64."""
    total = torch.zeros(w.shape, dtype=torch.float64)
    for weight, out, inn in zip(weights.double(), *maps, strict=True):
        total += weight * w.double()[..., out[:, None], inn[None, :]]
    return total


def case(
    name: str, lead: tuple[int, ...], dtype: torch.dtype, seed: int = 0
) -> tuple[Tensor, Tensor, IndexMaps]:
    """Blocks, weights and maps; all weights differ, also of elements that are inverse to each other."""
    maps = IndexMaps(*MAPS[name])
    generator = torch.Generator().manual_seed(seed)
    w = torch.randn(*lead, *maps.shape, generator=generator, dtype=torch.float64)
    weights = torch.randn(maps.order, generator=generator, dtype=torch.float64)
    return w.to(dtype), weights, maps
