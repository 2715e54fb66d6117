"""Quadrature, products, restrictions and projectors of SO(n), O(n) and the Lorentz group."""

import math
import time

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from equikernels.group import SO2, Group, Lorentz, Orthogonal, Representation, SpecialOrthogonal
from equikernels.group.classical.tensor_group import _tensor_embeddings
from equikernels.project import constraint_spectrum

L = Lorentz()
compact_groups = [*map(SpecialOrthogonal, range(2, 7)), *map(Orthogonal, range(2, 7))]


def draw(group: Group, seed: int, count: int = 3) -> torch.Tensor:
    return group.sample(count, generator=torch.Generator().manual_seed(seed))


def some_labels(group: Group) -> list:
    """Labels up to lambda_1 = 3 in low dimensions, of irreps of dimension at most 40."""
    rank = group.identity.shape[-1] // 2
    found = [rep for rep in group.irreps({1: 5, 2: 3, 3: 2}[rank]) if rep.dim <= 40]
    return [rep.irreps[0][0] for rep in found]


def trace(rep: Representation, g: torch.Tensor) -> np.ndarray:
    return rep(g).diagonal(dim1=-2, dim2=-1).sum(-1).numpy()


# -- quadrature --------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "degree"), [(2, 6), (3, 5), (4, 3), (5, 2), (6, 1)])
def test_quadrature_integrates_irreps_to_zero(n: int, degree: int) -> None:
    for group, largest in ((SpecialOrthogonal(n), 36), (Orthogonal(n), 14)):
        g, weights = group.quadrature(degree)
        assert weights.dtype == torch.float64
        assert float(weights.sum()) == pytest.approx(1, abs=1e-13)
        group.check(g)
        for rep in group.irreps(degree):
            if rep.dim < largest and rep != group.trivial():
                mean = torch.tensordot(weights, rep(g), dims=1)
                assert float(mean.abs().max()) < 1e-12


@pytest.mark.parametrize(("n", "degree"), [(2, 6), (3, 4), (4, 4)])
def test_matrix_entries_are_orthogonal(n: int, degree: int) -> None:
    """<D_ij D_kl> = delta_ik delta_jl / d for irreps of real type, 0 between two of them."""
    for group in (SpecialOrthogonal(n), Orthogonal(n)):
        g, weights = group.quadrature(degree)
        labels = [rep.irreps[0][0] for rep in group.irreps(degree // 2)]
        real = [label for label in labels if group.irrep_type(label) == 1 and group.irrep_dim(label) < 10]
        entries = [group.irrep(k)(g).flatten(1) * math.sqrt(group.irrep_dim(k)) for k in real]
        matrix = torch.cat(entries, dim=1)
        gram = matrix.mT @ (weights[:, None] * matrix)
        np.testing.assert_allclose(gram, np.eye(len(gram)), atol=1e-12)


@pytest.mark.parametrize(("n", "degree"), [(2, 6), (3, 6), (4, 4), (5, 2)])
def test_characters_are_orthonormal(n: int, degree: int) -> None:
    """The square of a character counts what commutes: 1 for real type, 2 for complex type."""
    for group in (SpecialOrthogonal(n), Orthogonal(n)):
        g, weights = group.quadrature(degree)
        labels = [rep.irreps[0][0] for rep in group.irreps(degree // 2)]
        characters = np.stack([trace(group.irrep(label), g) for label in labels])
        gram = characters @ (weights.numpy()[:, None] * characters.T)
        np.testing.assert_allclose(gram, np.diag([group.irrep_type(label) for label in labels]), atol=1e-12)
        regular = group.regular(degree // 2)
        counts = {label: group.irrep_dim(label) // group.irrep_type(label) for label in labels}
        assert dict(regular.irreps) == counts


def test_the_regular_representation_counts_like_that_of_the_plane() -> None:
    assert [m for _, m in SpecialOrthogonal(2).regular(3).irreps] == [m for _, m in SO2().regular(3).irreps]
    assert SpecialOrthogonal(4).regular(1).irreps == (((0, 0), 1), ((1, -1), 3), ((1, 0), 4), ((1, 1), 3))


# -- products and restrictions -----------------------------------------------------------------


@given(st.sampled_from([*compact_groups, L]), st.data())
def test_products_of_irreps_decompose(group: Group, data: st.DataObject) -> None:
    labels = [label for label in some_labels(group) if group.irrep_dim(label) <= 10]
    left, right = data.draw(st.sampled_from(labels)), data.draw(st.sampled_from(labels))
    g = group.sample(1, generator=torch.Generator().manual_seed(data.draw(st.integers(0, 99))))[0]
    a, b = group.irrep(left), group.irrep(right)
    both = np.kron(a(g), b(g))
    np.testing.assert_allclose((a @ b)(g), both, atol=1e-11 * max(1, np.abs(both).max()))
    found = group.tensor_embeddings(left, right)
    q = np.concatenate([t for _, t in found], axis=1)
    np.testing.assert_allclose(q.T @ q, np.eye(len(both)), atol=1e-12)
    assert {label for label, _ in found} <= set(group.tensor_candidates(left, right))


def test_known_products() -> None:
    def parts(group: Group, left, right) -> list:
        return [
            label for label, _ in group.tensor_embeddings(group.check_label(left), group.check_label(right))
        ]

    assert parts(SpecialOrthogonal(4), (1, 1), (1, -1)) == [(2, 0)]
    assert parts(SpecialOrthogonal(4), (1, 1), (1, 1)) == [(0, 0), (1, 1), (2, 2)]
    assert parts(SpecialOrthogonal(5), (1, 0), (1, 1)) == [(1, 0), (1, 1), (2, 1)]
    assert parts(SpecialOrthogonal(6), (1, 0, 0), (1, 1, 0)) == [(1, 0, 0), (1, 1, 1), (2, 1, 0)]
    assert parts(SpecialOrthogonal(2), 1, 2) == [(1,), (3,)]
    assert parts(Orthogonal(3), 1, 1) == [((0,), 0), ((1,), 1), ((2,), 0)]
    assert parts(Orthogonal(2), 1, 1) == [((0,), 0), ((0,), 1), ((2,), 0)]
    assert parts(Orthogonal(4), (1, 1), (1, 0)) == [((1, 0), 0), ((1, 0), 1), ((2, 1), 0)]
    assert parts(Orthogonal(5), (1, 1), (1, 0)) == [((1, 0), 0), ((1, 1), 1), ((2, 1), 0)]
    assert parts(L, (1, 1), (1, 1)) == [(0, 0), (0, 0), (1, 1), (2, 0), (2, 0), (2, 2)]


def test_the_only_invariant_of_two_vectors_is_the_metric() -> None:
    V = L.defining()
    product_ = (V @ V).decompose()
    assert dict(product_.irreps)[(0, 0)] == 1
    np.testing.assert_allclose(
        product_.change_of_basis[:, 0].reshape(4, 4), np.diag([0.5, -0.5, -0.5, -0.5]), atol=1e-12
    )
    three = (V @ V @ V @ V).decompose()
    assert dict(three.irreps)[(0, 0)] == 4  # three pairings of metrics, and the volume form


def test_products_are_fast() -> None:
    """Seconds would mean that the generic equations are solved."""
    for n in (4, 5):
        V = SpecialOrthogonal(n).defining()
        V @ (V @ V)
        _tensor_embeddings.cache_clear()
        start = time.perf_counter()
        V @ (V @ V)
        assert time.perf_counter() - start < 1


@pytest.mark.parametrize(
    ("group", "subgroup", "embed"),
    [
        *[
            (SpecialOrthogonal(n), SpecialOrthogonal(k), 0)
            for n, k in ((3, 2), (4, 3), (4, 4), (5, 4), (6, 3))
        ],
        *[(Orthogonal(n), SpecialOrthogonal(k), 0) for n, k in ((3, 3), (4, 4), (4, 3), (6, 6), (5, 4))],
        *[(Orthogonal(n), Orthogonal(k), 0) for n, k in ((3, 2), (4, 3), (4, 4), (5, 4), (6, 5))],
        (L, SpecialOrthogonal(3), 1),
    ],
    ids=repr,
)
def test_restriction_to_subgroups(group: Group, subgroup: Group, embed: int) -> None:
    """Block matrices: the subgroup moves the first axes, in space-time the last three."""
    h = draw(subgroup, 2)
    rest = group.identity.shape[-1] - h.shape[-1] - embed
    g = torch.nn.functional.pad(h, (embed, rest, embed, rest))
    fixed = [0] * embed + list(range(g.shape[-1] - rest, g.shape[-1]))
    g[:, fixed, fixed] = 1
    for label in some_labels(group):
        rep = group.irrep(label)
        np.testing.assert_allclose(rep.restrict(subgroup)(h), rep(g), atol=1e-11)


def test_branching_interlaces() -> None:
    labels = SpecialOrthogonal(5).irrep((2, 1)).restrict(SpecialOrthogonal(4)).irreps
    assert sorted(labels) == [((1, -1), 1), ((1, 0), 1), ((1, 1), 1), ((2, -1), 1), ((2, 0), 1), ((2, 1), 1)]
    assert Orthogonal(4).irrep((1, 1)).restrict(SpecialOrthogonal(4)).irreps == (((1, 1), 1), ((1, -1), 1))


# -- projectors --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "tensor", "expected"),
    [
        (4, False, {0: 1, 4: 6, 8: 9}),
        (5, False, {0: 1, 6: 10, 10: 14}),
        (5, True, {4: 15, 6: 10, 12: 70, 18: 30}),
    ],
)
def test_spectra_of_constraints_are_casimir_eigenvalues(n: int, tensor: bool, expected: dict) -> None:
    V = SpecialOrthogonal(n).defining()
    spectrum = constraint_spectrum(V, V @ V if tensor else V)
    np.testing.assert_allclose(spectrum.values**2, list(expected), atol=1e-10)
    assert spectrum.multiplicities.tolist() == list(expected.values())
