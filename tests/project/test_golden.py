"""Projections against brute force and against answers worked out by hand."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from equikernels.group import O3, SO2, SO3, CyclicGroup, pixel_grid
from equikernels.project import (
    EquivariantProjector,
    Hard,
    InvariantProjector,
    Smooth,
    Softness,
    constraint_spectrum,
)

CASES = json.loads((Path(__file__).parents[1] / "golden" / "projectors.json").read_text())
METHODS = [(case, method) for case in CASES for method in ("spectral", "svd")]


@pytest.mark.parametrize(("case", "method"), METHODS, ids=[f"{c['name']}-{m}" for c, m in METHODS])
def test_golden_projections(case: dict, method: str) -> None:
    operators = (
        [np.array(a) for a in case["operators_in"]],
        [torch.tensor(b, dtype=torch.float64) for b in case["operators_out"]],
    )
    w = torch.tensor(case["W"], dtype=torch.float64)
    for hard in case["hard"]:
        P = EquivariantProjector.from_operators(*operators, Hard(hard["cutoff"]), method=method)
        assert P.method == method
        assert P.dimension == hard["dimension"]
        assert isinstance(P.dimension, int)
        np.testing.assert_allclose(P(w), hard["projected"], atol=1e-9)
        np.testing.assert_allclose(P.spectrum, case["singular_values"], atol=1e-9)
    smooth = case["smooth"]
    P = EquivariantProjector.from_operators(
        *operators, Smooth(smooth["cutoff"], smooth["width"]), method=method
    )
    np.testing.assert_allclose(P(w), smooth["projected"], atol=1e-9)


@pytest.mark.parametrize("case", CASES, ids=[c["name"] for c in CASES])
def test_golden_projections_by_iteration(case: dict) -> None:
    # Singular values are roots here, so those near zero are known to half the digits only.
    w = torch.tensor(case["W"], dtype=torch.float64)
    cutoffs = [(Hard(h["cutoff"]), h["projected"]) for h in case["hard"] if h["cutoff"] > 1e-6]
    cutoffs.append((Smooth(case["smooth"]["cutoff"], case["smooth"]["width"]), case["smooth"]["projected"]))
    operators = [np.array(a) for a in case["operators_in"]], [np.array(b) for b in case["operators_out"]]
    for cutoff, projected in cutoffs:
        P = EquivariantProjector.from_operators(*operators, cutoff, method="iterative")
        np.testing.assert_allclose(P(w), projected, atol=1e-9)


def test_worked_example_from_representations() -> None:
    vector = SO2().irrep(1) + SO2().trivial()
    w = torch.arange(1.0, 10.0, dtype=torch.float64).reshape(3, 3)
    spectrum = constraint_spectrum(vector, vector)
    assert dict(zip(spectrum.values, spectrum.multiplicities, strict=True)) == {0.0: 3, 1.0: 4, 2.0: 2}
    answers = {
        0.5: [[3, -1, 0], [1, 3, 0], [0, 0, 9]],
        1.5: [[3, -1, 3], [1, 3, 6], [7, 8, 9]],
        2.5: [[1, 2, 3], [4, 5, 6], [7, 8, 9]],
    }
    for cutoff, expected in answers.items():
        for method in ("spectral", "svd", "schur"):
            P = EquivariantProjector(vector, vector, Hard(cutoff), method=method)
            np.testing.assert_allclose(P(w), expected, atol=1e-12)


def test_parameter_counts_of_the_strict_layers() -> None:
    so2 = SO2()
    four = so2.irrep(1) + so2.irrep(2)
    assert EquivariantProjector(four, so2.irrep(1) + so2.trivial(), Hard(1e-6)).dimension == 2
    assert EquivariantProjector(four, four, Hard(1e-6)).dimension == 4


def test_block_rule_keeps_other_directions_than_the_singular_values_say() -> None:
    four = SO2().irrep(1) + SO2().irrep(2)
    assert EquivariantProjector(four, four, Hard(1.5), method="spectral").dimension == 8
    assert EquivariantProjector(four, four, Hard(1.5), method="schur").dimension == 4


@pytest.mark.parametrize("method", ["permutation", "spectral"])
def test_c4_spectra_on_pixels(method: str) -> None:
    grid = pixel_grid(4, CyclicGroup(4), method=method)
    root = np.sqrt(2)
    invariant = constraint_spectrum(grid)
    np.testing.assert_allclose(invariant.values, [0, root, 2], atol=1e-12)
    assert invariant.multiplicities.tolist() == [4, 8, 4]
    equivariant = constraint_spectrum(grid, grid)
    np.testing.assert_allclose(equivariant.values, [0, root, 2], atol=1e-12)
    assert equivariant.multiplicities.tolist() == [64, 128, 64]


def test_rank_of_the_14x14_projector_is_exact() -> None:
    grid = pixel_grid(14, CyclicGroup(4))
    assert EquivariantProjector(grid, grid, Hard(1e-6)).dimension == 9604
    assert EquivariantProjector(grid, grid, Softness(0)).dimension == 9604


@pytest.mark.parametrize(
    ("size", "counts"), [(7, [13, 16, 30, 44]), (14, [49, 63, 122, 180]), (16, [64, 83, 159, 235])]
)
def test_released_softness_counts(size: int, counts: list[int]) -> None:
    spectrum = constraint_spectrum(pixel_grid(size, CyclicGroup(4)))
    assert [Softness.released_count(spectrum, s) for s in (0, 0.1, 0.5, 0.9)] == counts
    assert spectrum.zeros == counts[0]


def test_invariant_clusters_of_a_14x14_patch() -> None:
    spectrum = constraint_spectrum(pixel_grid(14, CyclicGroup(4)))
    assert np.cumsum(spectrum.multiplicities).tolist() == [49, 147, 196]


def test_strict_invariant_projection_is_the_average_over_the_group() -> None:
    for group, size in ((CyclicGroup(4), 5), (CyclicGroup(4), 6), (CyclicGroup(5), 5)):
        grid = pixel_grid(size, group)
        w = torch.randn(3, grid.dim, dtype=torch.float64)
        average = torch.stack([w @ grid(g) for g in group.elements()]).mean(0)
        torch.testing.assert_close(InvariantProjector(grid, Softness(0))(w), average, atol=1e-12, rtol=0)


def test_strict_so2_projection_is_the_integral_over_the_circle() -> None:
    grid = pixel_grid(5, SO2())
    w = torch.randn(grid.dim, grid.dim, dtype=torch.float64)
    # Frequencies of Hom(grid, grid) stay below 16: 32 equal angles integrate them exactly.
    assert 2 * max(k for k, _ in grid.irreps) < 32
    angles = torch.arange(32, dtype=torch.float64) * (2 * np.pi / 32)
    average = torch.stack([grid(t).mT @ w @ grid(t) for t in angles]).mean(0)
    P = EquivariantProjector(grid, grid, Softness(0))
    torch.testing.assert_close(P(w), average, atol=1e-12, rtol=0)


def test_spectra_of_so3_are_casimir_eigenvalues() -> None:
    """sigma^2 = l (l + 1) on the spin-l part of the linear maps."""
    vector = SO3().defining()
    tensor = vector @ vector
    expected = {
        (vector, vector): {0: 1, 2: 3, 6: 5},
        (vector, tensor): {0: 1, 2: 9, 6: 10, 12: 7},
        (tensor, tensor): {0: 3, 2: 18, 6: 30, 12: 21, 20: 9},
    }
    for (rep_in, rep_out), squares in expected.items():
        spectrum = constraint_spectrum(rep_in, rep_out)
        np.testing.assert_allclose(spectrum.values**2, list(squares), atol=1e-10)
        assert spectrum.multiplicities.tolist() == list(squares.values())


def test_so3_projectors_from_representations_match_the_brute_force() -> None:
    case = next(case for case in CASES if case["name"] == "so3_vector_to_tensor2")
    vector = SO3().defining()
    w = torch.tensor(case["W"], dtype=torch.float64)
    for hard in case["hard"]:
        P = EquivariantProjector(vector, vector @ vector, Hard(hard["cutoff"]))
        assert P.dimension == hard["dimension"]
        np.testing.assert_allclose(P(w), hard["projected"], atol=1e-9)
    certificate = EquivariantProjector(vector, vector @ vector, Hard(2.0)).certificate(w)
    elements = SO3().sample(20, generator=torch.Generator().manual_seed(0))
    for norm in ("frobenius", "operator"):
        for kind in ("posterior", "prior"):
            assert (
                certificate.error(elements, norm) <= certificate.bound(elements, kind=kind, norm=norm) + 1e-9
            ).all()


def test_parity_halves_the_maps_of_o3() -> None:
    """Vectors to pseudovectors: no map commutes with the inversion, so its constraint is 2 throughout."""
    polar, axial = O3().irrep((1, -1)), O3().irrep((1, 1))
    assert EquivariantProjector(polar, axial, Softness(0)).dimension == 0
    assert EquivariantProjector(polar, polar, Softness(0)).dimension == 1
