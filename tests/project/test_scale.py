"""Large problems: the structure of the group is used, never a dense matrix of its basis."""

import time

import pytest
import torch

from equikernels.group import (
    SO2,
    SO3,
    CyclicGroup,
    DihedralGroup,
    GridTranslations,
    Representation,
    pixel_grid,
)
from equikernels.project import EquivariantProjector, InvariantProjector, Softness
from equikernels.testing.strategies import random_weight


@pytest.mark.parametrize("group", [CyclicGroup(4), DihedralGroup(4), GridTranslations(64, 64)], ids=repr)
def test_64x64_pixels_never_need_their_basis(group: object, monkeypatch: pytest.MonkeyPatch) -> None:
    grid = pixel_grid(64, group)

    def refuse(self: Representation) -> None:
        raise AssertionError("the dense 4096 x 4096 basis was asked for")

    for name in ("change_of_basis", "_basis", "_normal_form"):
        monkeypatch.setattr(type(grid), name, property(refuse), raising=False)
    projector = EquivariantProjector(grid, grid, Softness(0))
    # Orbits of pairs of pixels: none is fixed but by the identity (by Burnside for the flips).
    fixed = {CyclicGroup(4): 0, DihedralGroup(4): 2 * 64**2}
    order = group.order
    assert projector.dimension == (4096**2 + fixed.get(group, 0)) // order
    w = torch.randn(4096, 4096, generator=torch.Generator().manual_seed(0))
    kept = projector(w)
    for s in group.discrete_elements:
        moved = moved_pixels(group, s, torch.arange(4096).reshape(64, 64)).flatten()
        assert float((kept[moved][:, moved] - kept).abs().max()) < 1e-5
    invariant = InvariantProjector(grid, Softness(0.3))
    vectors = torch.randn(3, 4096, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    overlap = (invariant(vectors) * vectors.flip(0)).sum()
    torch.testing.assert_close(overlap, (vectors * invariant(vectors.flip(0))).sum())


def moved_pixels(group: object, s: object, source: torch.Tensor) -> torch.Tensor:
    """Which pixel each one shows after the element acted on the picture `source`."""
    if isinstance(group, GridTranslations):
        return source.roll((int(s[0]), int(s[1])), (0, 1))
    return source.rot90() if s == 1 else source.flip(1)


def test_so3_from_300_to_300_dimensions_takes_seconds() -> None:
    rep = Representation(SO3(), [(degree, 3) for degree in range(10)])
    assert rep.dim == 300
    start = time.process_time()
    projector = EquivariantProjector(rep, rep, Softness(0.1))
    w = random_weight(300, 300, 0)
    kept = projector(w)
    assert time.process_time() - start < 30
    assert EquivariantProjector(rep, rep, Softness(0)).dimension == 9 * 10
    g = SO3().sample(1, generator=torch.Generator().manual_seed(0))
    rho = rep(g)[0]
    torch.testing.assert_close(projector(rho @ w @ rho.T), rho @ kept @ rho.T, atol=1e-9, rtol=0)


def test_28x28_spectral_grid_takes_seconds() -> None:
    start = time.process_time()
    grid = pixel_grid(28, SO2())
    projector = EquivariantProjector(grid, grid, Softness(0.5))
    assert projector.spectrum.zeros > 784
    assert time.process_time() - start < 30
