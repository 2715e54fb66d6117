"""The laws of SO(2) and C_n, and their irreps."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from equikernels.group import O2, O3, SO2, SO3, CubeGroup, CyclicGroup, DihedralGroup, Representation

angles = st.floats(-20, 20, allow_nan=False)
orders = st.integers(1, 40)


def gap(a: torch.Tensor, b: torch.Tensor) -> float:
    """Distance of two angles on the circle."""
    return float((torch.exp(1j * a) - torch.exp(1j * b)).abs().max())


@given(angles, angles, angles)
def test_so2_is_a_group(a: float, b: float, c: float) -> None:
    G = SO2()
    assert gap(G.compose(G.compose(a, b), c), G.compose(a, G.compose(b, c))) < 1e-12
    assert gap(G.compose(a, G.inverse(a)), G.identity) < 1e-12
    assert gap(G.compose(a, G.identity), torch.tensor(a, dtype=torch.float64)) < 1e-12


@given(angles)
def test_so2_exp_and_log_are_inverse_and_log_is_shortest(a: float) -> None:
    G = SO2()
    log = G.log(a)
    assert log.shape == (1,)
    assert -math.pi < float(log) <= math.pi
    assert gap(G.exp(log), torch.tensor(a, dtype=torch.float64)) < 1e-12
    assert float(G.length(a)) == pytest.approx(abs(float(log)))
    assert float(G.length(a)) <= G.diameter


def test_so2_samples_are_uniform() -> None:
    theta = SO2().sample(20_000, generator=torch.Generator().manual_seed(1))
    assert theta.dtype == torch.float64
    assert theta.abs().max() <= math.pi
    for k in (1, 2, 3):
        # A mean of n unit vectors has standard deviation 1 / sqrt(n): six of them.
        assert torch.exp(1j * k * theta).mean().abs() < 6 / math.sqrt(20_000)


@given(orders, st.integers(-100, 100), st.integers(-100, 100))
def test_cyclic_group_is_addition_modulo_n(n: int, j: int, k: int) -> None:
    G = CyclicGroup(n)
    assert int(G.compose(j, k)) == (j + k) % n
    assert int(G.compose(j, G.inverse(j))) == int(G.identity)


@given(orders)
def test_word_length_is_the_breadth_first_distance(n: int) -> None:
    distance = {0: 0}
    frontier = [0]
    while frontier:
        reached = []
        for element in frontier:
            for letter in (1, -1):
                following = (element + letter) % n
                if following not in distance:
                    distance[following] = distance[element] + 1
                    reached.append(following)
        frontier = reached
    G = CyclicGroup(n)
    assert G.word_length(G.elements()).tolist() == [distance[j] for j in range(n)]
    assert G.diameter == max(distance.values())


@given(orders)
def test_irreps_of_a_cyclic_group_are_complete(n: int) -> None:
    """Every complex character of C_n appears once: real types count as one, complex types as two."""
    irreps = CyclicGroup(n).irreps()
    assert sum(rep.dim for rep in irreps) == n
    assert [rep.irreps[0][0] for rep in irreps] == list(range(n // 2 + 1))


@pytest.mark.parametrize(
    "group", [SO2(), CyclicGroup(1), CyclicGroup(2), CyclicGroup(5), CyclicGroup(12)], ids=repr
)
def test_standard_representations_have_no_defects(group) -> None:
    standard = [group.trivial(), group.defining(), group.regular(4) if group == SO2() else group.regular()]
    for rep in standard:
        assert max(rep.defects().values()) < 1e-14


def test_irrep_convention_is_counter_clockwise() -> None:
    t = 0.3
    expected = [[math.cos(t), -math.sin(t)], [math.sin(t), math.cos(t)]]
    np.testing.assert_allclose(SO2().irrep(1)(t), expected, atol=1e-15)
    np.testing.assert_allclose(CyclicGroup(8).irrep(1)(1), SO2().irrep(1)(2 * math.pi / 8), atol=1e-15)
    np.testing.assert_array_equal(SO2().irrep(3).generators[0], [[0, -3], [3, 0]])


def test_defining_representation_of_every_order_turns_the_plane() -> None:
    for n in range(1, 9):
        for j in range(n):
            np.testing.assert_allclose(
                CyclicGroup(n).defining()(j), SO2().defining()(2 * math.pi * j / n), atol=1e-14
            )


def test_forward_differences_scaled_by_the_step_tend_to_the_lie_generator() -> None:
    errors = []
    for n in (10, 100, 1000):
        G = CyclicGroup(n)
        difference = G.irrep(2).forward_differences[0] / G.step
        errors.append(np.abs(difference - SO2().irrep(2).generators[0]).max())
    assert errors[1] < errors[0] / 5
    assert errors[2] < errors[1] / 5


@given(st.integers(0, 30), orders, st.integers(0, 60))
def test_restriction_from_so2_gives_the_same_matrices(k: int, n: int, j: int) -> None:
    rep = SO2().irrep(k)
    np.testing.assert_allclose(rep.restrict(CyclicGroup(n))(j), rep(2 * math.pi * j / n), atol=1e-11)


@given(st.integers(1, 12), st.integers(1, 6), st.data())
def test_restriction_between_cyclic_groups(m: int, ratio: int, data: st.DataObject) -> None:
    n = m * ratio
    k = data.draw(st.integers(0, n // 2))
    rep = CyclicGroup(n).irrep(k)
    for j in range(m):
        np.testing.assert_allclose(rep.restrict(CyclicGroup(m))(j), rep(j * ratio), atol=1e-13)


def test_regular_representation_moves_basis_vectors_forward() -> None:
    rho = CyclicGroup(5).regular()(1)
    assert rho[1, 0] == 1
    assert rho[0, 4] == 1
    assert CyclicGroup(6).regular().irreps == ((0, 1), (1, 1), (2, 1), (3, 1))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: CyclicGroup(0), "n must be an integer >= 1"),
        (lambda: CyclicGroup(2.5), "n must be an integer >= 1"),
        (lambda: CyclicGroup(4).irrep(3), "label must lie in 0 .. 2"),
        (lambda: SO2().irrep(-1), "label must be a frequency k >= 0"),
        (lambda: SO2().irrep(1.5), "label must be an integer frequency"),
        (lambda: SO2().elements(), "infinite"),
        (lambda: SO2().regular(), "infinite"),
        (lambda: SO2().irreps(), "infinitely many"),
        (lambda: SO2().word_length(1.0), "no words"),
        (lambda: CyclicGroup(4).exp(0.1), "no Lie algebra"),
        (lambda: CyclicGroup(4).log(1), "no Lie algebra"),
        (lambda: SO2().exp(torch.zeros(3, 2)), r"shape \(\.\.\., 1\)"),
        (lambda: CyclicGroup(6).irrep(1).restrict(CyclicGroup(4)), "not a subgroup"),
        (lambda: SO2().irrep(1) + CyclicGroup(4).irrep(1), "different groups"),
        (lambda: -1 * SO2().irrep(1), "copies must be >= 0"),
        (lambda: Representation(SO2(), [(1, 1)], np.ones((2, 2))), "must be orthogonal"),
        (lambda: Representation(SO2(), [(1, 1)], np.eye(3)), "shape"),
        (lambda: Representation(SO2(), [(1, 1)], np.full((2, 2), np.nan)), "must be orthogonal"),
        (lambda: Representation.from_irreps(SO2(), "2x-1"), "must read like"),
        (lambda: Representation.from_irreps(SO2(), "2xa"), "label must be an integer frequency"),
    ],
)
def test_bad_values_are_named(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    "call",
    [
        lambda: CyclicGroup(4).check(1.5),
        lambda: CyclicGroup(4).check(torch.tensor(1.0)),
        lambda: SO2().check(torch.tensor(1)),
        lambda: SO2().check(1j),
        lambda: CyclicGroup(4).irrep(1)(0.5),
    ],
)
def test_elements_of_the_wrong_kind_are_refused(call) -> None:
    with pytest.raises(TypeError, match="elements of"):
        call()


@pytest.mark.parametrize(
    "group",
    [
        SO2(),
        O2(),
        SO3(),
        O3(),
        CyclicGroup(1),
        CyclicGroup(6),
        DihedralGroup(2),
        DihedralGroup(5),
        CubeGroup(),
    ],
    ids=repr,
)
def test_quadrature_makes_matrix_entries_orthonormal(group) -> None:
    """Schur: the mean of rho_ij(g)^2 is the inverse of the dimension for real types, and the mean of any
    irrep but the trivial one is zero."""
    degree = None if group.order is not None else 6
    irreps = group.irreps() if degree is None else group.irreps(3)
    elements, weights = group.quadrature(degree)
    assert weights.sum() == pytest.approx(1)
    for rep in irreps:
        rho = rep(elements, dtype=torch.float64)
        mean = torch.einsum("g,gij->ij", weights, rho)
        trivial = rep == group.trivial()
        torch.testing.assert_close(mean, torch.full_like(mean, float(trivial)), atol=1e-12, rtol=0)
        square = torch.einsum("g,gij->ij", weights, rho**2)
        torch.testing.assert_close(square, torch.full_like(square, 1 / rep.dim), atol=1e-12, rtol=0)


def test_quadrature_of_infinite_groups_needs_a_degree() -> None:
    for group in (SO2(), O2(), SO3(), O3()):
        assert group.structure_constants.shape == (group.lie_dim,) * 3
        assert group.structure_constants.any() == (group.lie_dim == 3)
        with pytest.raises(ValueError, match="degree must be"):
            group.quadrature()
    assert CyclicGroup(4).structure_constants.shape == (0, 0, 0)
