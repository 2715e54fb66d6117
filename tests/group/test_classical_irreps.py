"""Irreps of SO(n), O(n) and the Lorentz group: laws, dimensions, characters, bases."""

import math
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from equikernels.group import SO2, SO3, Group, Lorentz, Orthogonal, Representation, SpecialOrthogonal
from equikernels.group.classical.algebra import MatrixAlgebra
from equikernels.group.classical.tensor_irreps import tensor_embedding
from equikernels.group.intertwiners import intertwiner_space
from equikernels.testing import assert_representation

L = Lorentz()
ETA = torch.diag(torch.tensor([1.0, -1, -1, -1], dtype=torch.float64))


def draw(group: Group, seed: int, count: int = 3) -> torch.Tensor:
    return group.sample(count, generator=torch.Generator().manual_seed(seed))


def some_labels(group: Group) -> list:
    """Labels up to lambda_1 = 3 in low dimensions, of irreps of dimension at most 40."""
    rank = group.identity.shape[-1] // 2
    found = [rep for rep in group.irreps({1: 5, 2: 3, 3: 2}[rank]) if rep.dim <= 40]
    return [rep.irreps[0][0] for rep in found]


compact_groups = [*map(SpecialOrthogonal, range(2, 7)), *map(Orthogonal, range(2, 7))]
compact_irreps = [(group, label) for group in compact_groups for label in some_labels(group)]
every_irrep = compact_irreps + [(L, label) for label in some_labels(L)]
small_irreps = [(group, label) for group, label in every_irrep if group.irrep_dim(label) <= 10]


def weyl_character(weight: tuple[int, ...], n: int, angles: np.ndarray) -> float:
    """Weyl's quotient of determinants for the irrep of O(n) on rotations by `angles` in coordinate planes."""
    rho = np.array([n / 2 - i for i in range(1, n // 2 + 1)])
    shifted = np.array(weight) + rho
    wave = np.sin if n % 2 else np.cos
    ratio = np.linalg.det(wave(np.outer(shifted, angles))) / np.linalg.det(wave(np.outer(rho, angles)))
    return 2 * ratio if n % 2 == 0 and weight[-1] else ratio


def spin_character(spin: float, angle: complex) -> complex:
    return np.sin((2 * spin + 1) * angle / 2) / np.sin(angle / 2)


def torus(n: int, angles: np.ndarray) -> torch.Tensor:
    a = torch.zeros(n * (n - 1) // 2, dtype=torch.float64)
    for k, angle in enumerate(angles):
        a[MatrixAlgebra(n).planes.index((2 * k, 2 * k + 1))] = angle
    return SpecialOrthogonal(n).exp(a)


def trace(rep: Representation, g: torch.Tensor) -> np.ndarray:
    return rep(g).diagonal(dim1=-2, dim2=-1).sum(-1).numpy()


# -- laws --------------------------------------------------------------------------------------


@pytest.mark.parametrize("group", compact_groups, ids=repr)
def test_irreps_are_orthogonal_representations(group: Group) -> None:
    for label in some_labels(group):
        assert_representation(group.irrep(label), elements=4, atol=1e-11)


@given(st.sampled_from([label for group, label in every_irrep if group == L]), st.integers(0, 2**31))
def test_irreps_of_the_lorentz_group_are_homomorphisms(label: tuple[int, int], seed: int) -> None:
    rep = L.irrep(label)
    g, h = 0.7 * torch.as_tensor(np.random.default_rng(seed).standard_normal((2, 6)))
    a, b = rep(L.exp(g)), rep(L.exp(h))
    size = float(a.abs().max() * b.abs().max())
    np.testing.assert_allclose(a @ b, rep(L.compose(L.exp(g), L.exp(h))), atol=1e-12 * size)
    exponential = torch.linalg.matrix_exp(torch.tensordot(g, torch.tensor(rep.generators), 1))
    np.testing.assert_allclose(a, exponential, atol=1e-11 * size)
    np.testing.assert_allclose(a.mT, rep(L.exp(g).mT), atol=1e-12 * size)
    dual = L.dual_matrix(label)
    np.testing.assert_allclose(dual @ dual.T, np.eye(rep.dim), atol=1e-12)
    np.testing.assert_allclose(rep(L.inverse(L.exp(g))).mT, dual @ a.numpy() @ dual.T, atol=1e-11 * size)


@pytest.mark.parametrize(("group", "label"), every_irrep, ids=repr)
def test_generators_satisfy_brackets_symmetry_and_the_casimir(group: Group, label) -> None:
    x = group.irrep_generators(label)
    assert x.shape == (group.lie_dim, group.irrep_dim(label), group.irrep_dim(label))
    signs = np.repeat([1.0, -1.0], 3) if group == L else np.ones(group.lie_dim)
    np.testing.assert_array_equal(x.transpose(0, 2, 1), -signs[:, None, None] * x)
    product_ = np.einsum("iab,jbc->ijac", x, x, optimize=True)
    expected = np.einsum("ijk,kab->ijab", group.structure_constants, x, optimize=True)
    np.testing.assert_allclose(product_ - product_.transpose(1, 0, 2, 3), expected, atol=1e-12)
    n, weight = group.identity.shape[-1], group.weight(label)
    value = sum(entry * (entry + n - 2 * i) for i, entry in enumerate(weight, start=1))
    casimir = -np.einsum("k,kab,kbc->ac", signs, x, x, optimize=True)
    np.testing.assert_allclose(casimir, value * np.eye(len(casimir)), atol=1e-11)


@pytest.mark.parametrize(("group", "label"), small_irreps, ids=repr)
def test_irreps_are_irreducible_and_of_the_type_they_say(group: Group, label) -> None:
    x = [*group.irrep_generators(label)]
    if isinstance(group, Orthogonal):
        x.append(group.irrep(label).discrete[0])
    commutant = intertwiner_space([(a, a) for a in x], [])
    assert len(commutant) == group.irrep_type(label)
    # A symmetric matrix that commutes is a multiple of the identity: nothing is reducible.
    symmetric = [t + t.T for t in commutant]
    assert all(np.allclose(t, t[0, 0] * np.eye(len(t)), atol=1e-10) for t in symmetric)


# -- dimensions and characters -----------------------------------------------------------------


def test_dimensions_against_the_literature() -> None:
    for a, b in ((1, 0), (1, 1), (1, -1), (2, 0), (2, 1), (3, -2)):
        assert SpecialOrthogonal(4).irrep((a, b)).dim == (a + b + 1) * (a - b + 1)
    five = {(1, 0): 5, (1, 1): 10, (2, 0): 14, (2, 1): 35, (2, 2): 35, (3, 0): 30, (3, 1): 81}
    six = {(1, 0, 0): 6, (1, 1, 0): 15, (1, 1, 1): 20, (2, 0, 0): 20, (2, 1, 0): 64, (2, 2, 0): 84}
    assert {k: SpecialOrthogonal(5).irrep(k).dim for k in five} == five
    assert {k: SpecialOrthogonal(6).irrep(k).dim for k in six} == six
    eight = {(1, 1, 1, 1): 35, (1, 1, 1, -1): 35, (1, 1, 1, 0): 56, (2, 0, 0, 0): 35}
    assert {k: SpecialOrthogonal(8).irrep(k).dim for k in eight} == eight
    assert {k: L.irrep(k).dim for k in ((1, 0), (1, 1), (2, 0), (2, 1), (2, 2))} == {
        (1, 0): 4, (1, 1): 6, (2, 0): 9, (2, 1): 16, (2, 2): 10}  # fmt: skip
    assert [SpecialOrthogonal(2).irrep(k).dim for k in range(4)] == [1, 2, 2, 2]
    for n in range(3, 8):  # symmetric traceless and antisymmetric tensors
        assert Orthogonal(n).irrep(2).dim == n * (n + 1) // 2 - 1
        for degree in range(1, n // 2 + 1):
            label = (1,) * degree + (0,) * (n // 2 - degree)
            assert Orthogonal(n).irrep(label).dim == math.comb(n, degree)


@pytest.mark.parametrize("n", range(2, 7))
def test_characters_are_those_of_weyl(n: int) -> None:
    angles = np.array([0.7, 1.9, 2.6])[: n // 2]
    for weight, twist in some_labels(Orthogonal(n)):
        expected = weyl_character(weight, n, angles)
        assert trace(Orthogonal(n).irrep((weight, twist)), torus(n, angles)) == pytest.approx(
            expected, abs=1e-10
        )
        if n % 4:
            assert trace(SpecialOrthogonal(n).irrep(weight), torus(n, angles)) == pytest.approx(expected)


@pytest.mark.parametrize("label", some_labels(SpecialOrthogonal(4)), ids=repr)
def test_characters_of_so4_are_products_of_two_spins(label: tuple[int, int]) -> None:
    """This tells (1, 1) from (1, -1), and which is which."""
    s, t = 0.7, 1.9
    a, b = label
    expected = spin_character((a + b) / 2, s + t) * spin_character((a - b) / 2, s - t)
    assert trace(SpecialOrthogonal(4).irrep(label), torus(4, [s, t])) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("label", some_labels(L), ids=repr)
def test_characters_of_the_lorentz_group(label: tuple[int, int]) -> None:
    a, b = label
    turn = 0.7 + 1.1j  # the angle about z, and i times the rapidity along it
    complex_one = spin_character((a + b) / 2, turn) * spin_character((a - b) / 2, np.conj(turn))
    g = L.exp([0.0, 0, 0.7, 0, 0, 1.1])
    expected = complex_one.real * (2 if b else 1)
    assert trace(L.irrep(label), g) == pytest.approx(expected, rel=1e-11)


def test_the_low_dimensional_groups_agree_with_the_groups_written_by_hand() -> None:
    g = draw(SpecialOrthogonal(3), 0, 20)
    for k in range(7):
        np.testing.assert_allclose(
            trace(SpecialOrthogonal(3).irrep(k), g), trace(SO3().irrep(k), g), atol=1e-11
        )
    turns = draw(SpecialOrthogonal(2), 1, 20)
    angles = SpecialOrthogonal(2).log(turns)[:, 0]
    for k in range(7):
        np.testing.assert_allclose(trace(SpecialOrthogonal(2).irrep(k), turns), trace(SO2().irrep(k), angles),
                                   atol=1e-12)  # fmt: skip
    np.testing.assert_array_equal(SpecialOrthogonal(2).irrep(1)(turns), turns)


def test_reflections_act_on_tensors_and_by_the_determinant() -> None:
    for n in range(2, 7):
        group = Orthogonal(n)
        g = draw(group, n, 10)
        sign, t = torch.linalg.det(g).numpy(), trace(group.defining(), g)
        square = trace(group.defining(), g @ g)
        zero = (0,) * (n // 2)
        np.testing.assert_allclose(trace(group.irrep((zero, 1)), g), sign, atol=1e-12)
        np.testing.assert_allclose(trace(group.irrep(2), g), (t**2 + square) / 2 - 1, atol=1e-12)
        if n > 2:
            label = (1,) * 2 + (0,) * (n // 2 - 2) if n > 3 else ((1,), 1)  # in space the axial vector
            np.testing.assert_allclose(trace(group.irrep(label), g), (t**2 - square) / 2, atol=1e-12)
        if n % 2:
            np.testing.assert_allclose(
                group.irrep(((1, *zero[1:]), 1))(g), g.numpy() * sign[:, None, None], atol=1e-12
            )
        np.testing.assert_array_equal(group.defining().discrete[0], np.diag([-1.0] + [1.0] * (n - 1)))


def test_the_antisymmetric_irrep_of_the_lorentz_group_is_the_field_tensor() -> None:
    g = draw(L, 3, 5)
    field = torch.randn(4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    field = field - field.mT
    rows, columns = np.triu_indices(4, 1)
    moved = (g @ field @ g.mT)[:, rows, columns]
    np.testing.assert_allclose(L.irrep((1, 1))(g) @ field[rows, columns], moved, rtol=1e-10, atol=1e-10)
    # What the boost mixes are electric and magnetic parts; |E|^2 - |B|^2 and E . B are kept.
    dual = L.dual_matrix((1, 1))
    np.testing.assert_allclose(dual, np.diag([-1.0, -1, -1, 1, 1, 1]), atol=1e-15)
    np.testing.assert_array_equal(L.dual_matrix((1, 0)), ETA)


# -- bases and what is refused -----------------------------------------------------------------


def test_bases_are_those_of_the_tensors() -> None:
    """The pivots of the projector: V itself, then antisymmetric tensors in lexicographic order."""
    for group in (SpecialOrthogonal(5), Orthogonal(4), L):
        g = draw(group, 1, 2)
        np.testing.assert_array_equal(group.defining()(g), g)
        assert np.array_equal(group.defining().change_of_basis, np.eye(len(g[0])))
    e = tensor_embedding(MatrixAlgebra(5), (1, 1))
    for k, (i, j) in enumerate((i, j) for i, j in product(range(5), repeat=2) if i < j):
        expected = np.zeros((5, 5))
        expected[i, j], expected[j, i] = math.sqrt(0.5), -math.sqrt(0.5)
        np.testing.assert_allclose(e[:, :, k], expected, atol=1e-15)
    with pytest.raises(ValueError, match="read-only"):
        e[0, 0, 0] = 1


@pytest.mark.parametrize("label", [(1, 0), (2, 1), (2, -2)])
def test_narrow_types(label: tuple[int, int]) -> None:
    group = SpecialOrthogonal(4)
    g = draw(group, 4, 50)
    rep, exact = group.irrep(label), group.irrep(label)(g)
    assert rep(g.float()).dtype == torch.float32
    torch.testing.assert_close(rep(g.float()).double(), exact, atol=5e-6, rtol=0)
    assert rep(g.bfloat16()).dtype == torch.bfloat16
    torch.testing.assert_close(rep(g.bfloat16()).double(), exact, atol=0.1, rtol=0)
    assert rep(g.float(), dtype=torch.float64).dtype == torch.float64


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: SpecialOrthogonal(5).irrep((1,)), "2 integers"),
        (
            lambda: SpecialOrthogonal(5).irrep((1, 2)),
            r"lambda_m >= 0 for SpecialOrthogonal\(5\), got \(1, 2\)",
        ),
        (lambda: SpecialOrthogonal(5).irrep((1, -1)), "lambda_m >= 0"),
        (lambda: SpecialOrthogonal(6).irrep((1, 1, -1)), "lambda_m >= 0"),
        (lambda: SpecialOrthogonal(4).irrep((1, -2)), r"\|lambda_m\| >= 0"),
        (lambda: SpecialOrthogonal(4).irrep((1.0, 0)), "integers"),
        (lambda: SpecialOrthogonal(4).irrep(True), "integers"),
        (lambda: SpecialOrthogonal(4).irreps(), "infinitely many"),
        (lambda: SpecialOrthogonal(4).irreps(-1), "max_label must be an integer >= 0"),
        (lambda: SpecialOrthogonal(4).regular(), "infinite"),
        (lambda: SpecialOrthogonal(4).irrep(1).restrict(SpecialOrthogonal(5)), "not known"),
        (lambda: SpecialOrthogonal(9).irrep((3, 3, 2, 1)).generators, r"too large.*more than 4000"),
        (lambda: SpecialOrthogonal(2).irrep(61).generators, r"too large.*more than 60"),
        (lambda: Orthogonal(4).irrep(((1, 1), 1)), "must have j = 0"),
        (lambda: Orthogonal(4).irrep(((1, 0), 2)), r"j in \(0, 1\)"),
        (lambda: Orthogonal(4).irrep((1, -1)), "lambda_m >= 0"),
        (lambda: Orthogonal(4).irrep(1).restrict(SO3()), "not known"),
        (lambda: L.irrep((1, -1)), "lambda_m >= 0"),
        (lambda: L.irrep(1).restrict(SpecialOrthogonal(4)), "not known"),
    ],
)
def test_bad_labels_are_named(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_labels_have_one_normal_form() -> None:
    assert SpecialOrthogonal(5).irrep(2) == SpecialOrthogonal(5).irrep([2, 0])
    assert Orthogonal(5).irrep(2) == Orthogonal(5).irrep((2, 0)) == Orthogonal(5).irrep(((2, 0), 0))
    assert Orthogonal(3).irrep((2,)) == Orthogonal(3).irrep(((2,), 0))
    assert Representation.from_irreps(L, "2x1+0").dim == 9
