"""Building projectors, and the irreps, grids, products, decompositions and words of the group layer.

Every round builds anew, with caches emptied where there are any. A grid of n x n pixels has n^4 weights: the
dense peer of the projector decomposes a 4096 x 4096 problem at 8x8, is timed once at 7x7 and 8x8, and not at
all beyond. The peer of Wigner matrices and Clebsch-Gordan coefficients is e3nn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch

from equikernels.group import (
    SO2,
    SO3,
    CubeGroup,
    CyclicGroup,
    DihedralGroup,
    GridTranslations,
    Group,
    Representation,
    clebsch_gordan,
    intertwiners,
    pixel_grid,
    representation_from_operators,
    voxel_grid,
    words,
)
from equikernels.group.clebsch_gordan import _clebsch_gordan
from equikernels.project import EquivariantProjector, Hard, applied, build
from equikernels.project.engines import problems

GROUPS = {"SO(2)": SO2(), "C_4": CyclicGroup(4)}
COMPARED = (4, 5, 6)
COMPARED_ONCE = (7, 8)
ALONE = (14, 28)


KEPT = (
    build._engine_of_representations,
    applied._shared,
    problems.central_problem,
    problems.central_value,
    problems.character,
    problems.given_problem,
    _clebsch_gordan,
)
"""What is kept of one projector for the next."""


def construct(group: str, side: int, method: str) -> EquivariantProjector:
    for cache in KEPT:
        cache.cache_clear()
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
        benchmark.pedantic(construct, args=(group, side, "spectral"), rounds=5, warmup_rounds=1)
    else:
        benchmark(construct, group, side, "spectral")


@pytest.mark.parametrize("side", [*COMPARED, *COMPARED_ONCE])
@pytest.mark.parametrize("group", GROUPS)
def test_dense_svd(benchmark: Any, group: str, side: int) -> None:
    label(benchmark, group, side, "dense SVD")
    rounds = 1 if side in COMPARED_ONCE else 5
    dense = benchmark.pedantic(construct, args=(group, side, "svd"), rounds=rounds)
    weight = torch.linspace(-1, 1, side**4, dtype=torch.float64).sin().reshape(side**2, side**2)
    torch.testing.assert_close(construct(group, side, "spectral")(weight), dense(weight), rtol=0, atol=1e-9)


LARGE = {
    "C_4 64x64": lambda: pixel_grid(64, CyclicGroup(4)),
    "D_4 64x64": lambda: pixel_grid(64, DihedralGroup(4)),
    "translations 64x64": lambda: pixel_grid(64, GridTranslations(64, 64)),
    "SO(3) 300 dimensions": lambda: Representation(SO3(), [(degree, 3) for degree in range(10)]),
}


@pytest.mark.parametrize("size", LARGE)
def test_large(benchmark: Any, size: str) -> None:
    """No dense peer: it would decompose a problem of 90,000 unknowns, or of 16 million."""
    benchmark.extra_info.update(
        operation="projector construction", provider="equikernels", size=size, mode="construct"
    )

    def fresh() -> EquivariantProjector:
        for cache in KEPT:
            cache.cache_clear()
        rep = LARGE[size]()
        return EquivariantProjector(rep, rep, Hard(0.5))

    benchmark.pedantic(fresh, rounds=3, warmup_rounds=1)


# -- the group layer -----------------------------------------------------------------------------------------

ROTATIONS = 10_000
DEGREES = (2, 4, 8)
COUPLINGS = ((2, 2, 2), (8, 8, 8))


def label_group(benchmark: Any, operation: str, size: str, provider: str = "equikernels") -> None:
    benchmark.extra_info.update(operation=operation, provider=provider, size=size, mode="construct")


def emptied(*caches: Any) -> Callable[[], None]:
    """What runs before every round: the caches are emptied."""

    def empty() -> None:
        for cache in caches:
            cache.cache_clear()

    return empty


@contextmanager
def double() -> Iterator[None]:
    """e3nn computes in the default dtype: here in ours, float64."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def random_rotations() -> torch.Tensor:
    return SO3().sample(ROTATIONS, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("degree", DEGREES)
def test_wigner_matrices(benchmark: Any, degree: int) -> None:
    """Irreps of SO(3) at many rotations, the couplings known."""
    label_group(benchmark, "Wigner matrices", f"l = {degree}, {ROTATIONS} rotations")
    benchmark.pedantic(SO3().irrep(degree), args=(random_rotations(),), rounds=5, warmup_rounds=1)


@pytest.mark.parametrize("degree", DEGREES)
def test_wigner_matrices_of_e3nn(benchmark: Any, degree: int) -> None:
    """e3nn's polar axis is y: its (x, y, z) are our (y, z, x), and its harmonics are ours in order."""
    o3 = pytest.importorskip("e3nn.o3", reason="e3nn is not installed")
    label_group(benchmark, "Wigner matrices", f"l = {degree}, {ROTATIONS} rotations", "e3nn")
    rotations = random_rotations()
    permuted = rotations[:, [1, 2, 0]][:, :, [1, 2, 0]]
    with double():
        matrices = o3.Irrep(degree, 1).D_from_matrix
        theirs = benchmark.pedantic(matrices, args=(permuted,), rounds=5, warmup_rounds=1)
    # e3nn goes by Euler angles, which lose half the digits where the axes nearly align.
    torch.testing.assert_close(theirs, SO3().irrep(degree)(rotations), rtol=0, atol=1e-6)


@pytest.mark.parametrize("degrees", COUPLINGS, ids=str)
def test_clebsch_gordan(benchmark: Any, degrees: tuple[int, int, int]) -> None:
    label_group(benchmark, "Clebsch-Gordan coefficients", "{} x {} to {}".format(*degrees))
    benchmark.pedantic(clebsch_gordan, args=degrees, setup=emptied(_clebsch_gordan), rounds=20)


@pytest.mark.parametrize("degrees", COUPLINGS, ids=str)
def test_clebsch_gordan_of_e3nn(benchmark: Any, degrees: tuple[int, int, int]) -> None:
    o3 = pytest.importorskip("e3nn.o3", reason="e3nn is not installed")
    from e3nn.o3 import _wigner

    label_group(benchmark, "Clebsch-Gordan coefficients", "{} x {} to {}".format(*degrees), "e3nn")
    with double():
        empty = emptied(_wigner._so3_clebsch_gordan)
        theirs = benchmark.pedantic(o3.wigner_3j, args=degrees, setup=empty, rounds=5).numpy()
    # The 3j symbol has norm one where the isometry has 2 l + 1, and its own sign.
    ours = clebsch_gordan(*degrees) / np.sqrt(2 * degrees[2] + 1)
    np.testing.assert_allclose(np.sign((ours * theirs).sum()) * theirs, ours, rtol=0, atol=1e-10)


GRIDS: dict[str, tuple[Callable[..., Representation], int, Group]] = {
    f"{group!r} {side}x{side}": (pixel_grid, side, group)
    for side in (14, 28)
    for group in (CyclicGroup(4), SO2(), DihedralGroup(4))
}
GRIDS["SO(2) 29x29"] = (pixel_grid, 29, SO2())
GRIDS["D_8 29x29"] = (pixel_grid, 29, DihedralGroup(8))
GRIDS["Cube 8x8x8"] = (voxel_grid, 8, CubeGroup())
GRIDS["SO(2) 8x8x8"] = (voxel_grid, 8, SO2())


@pytest.mark.parametrize("size", GRIDS)
def test_grid_normal_form(benchmark: Any, size: str) -> None:
    """A grid's representation with its irreps and change of basis, which permutations find on demand."""
    label_group(benchmark, "grid representation", size)
    make, side, group = GRIDS[size]
    benchmark.pedantic(lambda: make(side, group).change_of_basis, rounds=3, warmup_rounds=1)


PRODUCTS = {
    "SO(3) (0+1+2) x (0+1+2)": (SO3(), "0+1+2"),
    "D_6 regular x regular": (DihedralGroup(6), None),
    "Cube regular x regular": (CubeGroup(), None),
}


@pytest.mark.parametrize("size", PRODUCTS)
def test_tensor_product(benchmark: Any, size: str) -> None:
    label_group(benchmark, "tensor product", size)
    group, irreps = PRODUCTS[size]
    rep = group.regular() if irreps is None else Representation.from_irreps(group, irreps)
    _ = rep.change_of_basis  # a permutation's normal form is no part of the product
    empty = emptied(intertwiners.tensor_embeddings, _clebsch_gordan)
    benchmark.pedantic(rep.__matmul__, args=(rep,), setup=empty, rounds=3)


def test_representation_from_operators(benchmark: Any) -> None:
    """About 500 dimensions of SO(3), in a random basis."""
    hidden = Representation.from_irreps(SO3(), "20x0+20x1+20x2+20x3+20x4")
    q = np.linalg.qr(np.random.default_rng(0).standard_normal((hidden.dim, hidden.dim)))[0]
    algebra = [q @ a @ q.T for a in hidden.generators]
    label_group(benchmark, "representation from operators", f"SO(3), {hidden.dim} dimensions")
    found = benchmark.pedantic(
        representation_from_operators, args=(SO3(),), kwargs={"algebra": algebra}, rounds=2
    )
    assert found.irreps == hidden.irreps


def test_word_lengths(benchmark: Any) -> None:
    """Breadth-first over the whole Cayley graph, compiled beforehand; checked by the closed form."""
    group = CyclicGroup(100_000)
    label_group(benchmark, "word lengths", f"{group!r}")
    empty = emptied(words._search, words._lookup)
    lengths = benchmark.pedantic(words.word_lengths, args=(group,), setup=empty, rounds=3, warmup_rounds=1)
    np.testing.assert_array_equal(lengths, group.word_length(group.elements()))
