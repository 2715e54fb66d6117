"""Building a projector of a pixel grid: the spectral form against a dense singular value decomposition.

Every round builds the grid's representation and the projector anew. A grid of n x n pixels has n^4 weights:
the dense peer decomposes a 4096 x 4096 problem at 8x8, is timed once at 7x7 and 8x8, and not at all beyond.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from equikernels.group import SO2, CyclicGroup, pixel_grid
from equikernels.project import EquivariantProjector, Hard

GROUPS = {"SO(2)": SO2(), "C_4": CyclicGroup(4)}
COMPARED = (4, 5, 6)
COMPARED_ONCE = (7, 8)
ALONE = (14, 28)


def build(group: str, side: int, method: str) -> EquivariantProjector:
    grid = pixel_grid(side, GROUPS[group])
    return EquivariantProjector(grid, grid, Hard(0.5), method=method)


def label(benchmark: Any, group: str, side: int, provider: str) -> None:
    benchmark.extra_info.update(
        operation="projector construction", provider=provider, size=f"{group} {side}x{side}", mode="construct"
    )


@pytest.mark.parametrize("side", [*COMPARED, *COMPARED_ONCE, *ALONE])
@pytest.mark.parametrize("group", GROUPS)
def test_spectral(benchmark: Any, group: str, side: int) -> None:
    label(benchmark, group, side, "equikernels")
    if side >= 14:
        benchmark.pedantic(build, args=(group, side, "spectral"), rounds=5, warmup_rounds=1)
    else:
        benchmark(build, group, side, "spectral")


@pytest.mark.parametrize("side", [*COMPARED, *COMPARED_ONCE])
@pytest.mark.parametrize("group", GROUPS)
def test_dense_svd(benchmark: Any, group: str, side: int) -> None:
    label(benchmark, group, side, "dense SVD")
    rounds = 1 if side in COMPARED_ONCE else 5
    dense = benchmark.pedantic(build, args=(group, side, "svd"), rounds=rounds)
    weight = torch.linspace(-1, 1, side**4, dtype=torch.float64).sin().reshape(side**2, side**2)
    torch.testing.assert_close(build(group, side, "spectral")(weight), dense(weight), rtol=0, atol=1e-9)
