"""Restriction along any homomorphism, spaces of linear maps, duals of groups that are not compact."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from equikernels.group import (
    O2,
    O3,
    SO2,
    SO3,
    CubeGroup,
    CyclicGroup,
    DihedralGroup,
    DirectProduct,
    GridTranslations,
    Group,
    Lorentz,
    PermutationRepresentation,
    Representation,
    SymmetricGroup,
)
from equikernels.testing import assert_representation
from equikernels.testing.strategies import (
    all_groups,
    group_elements,
    random_orthogonal,
    representations,
    seeds,
)

X = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)
TILTED = torch.tensor([1.0, -2.0, 2.0], dtype=torch.float64) / 3
TORUS = DirectProduct(SO2(), SO2())
CUBE = CubeGroup()
# The turn by 120 degrees about the diagonal (1, 1, 1): x to y, y to z, z to x.
DIAGONAL_TURN = int(CUBE.from_matrix(np.eye(3)[[2, 0, 1]]))


def about(axis: Tensor) -> Callable[[Tensor], Tensor]:
    """SO(2) as the rotations about an axis."""
    return lambda angle: SO3().exp(angle[..., None] * axis.to(angle))


def powers_in_the_cube(k: Tensor) -> Tensor:
    table = [0, DIAGONAL_TURN, int(CUBE.compose(DIAGONAL_TURN, DIAGONAL_TURN))]
    return torch.tensor(table)[k]


def quarter_turns(k: Tensor) -> Tensor:
    return about(TILTED)(k.double() * (math.pi / 2))


def mirror(axis_angle: float) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """D_1 as the reflection of the plane that R(a) F R(-a) = R(2a) F is."""
    return lambda g: (2 * axis_angle * g.double(), g)


def rotations_as_matrices(g: Tensor) -> Tensor:
    return torch.tensor(CUBE.matrices)[g].double()


CASES: list[Any] = [
    pytest.param(SO3(), SO2(), about(X), id="turns about x"),
    pytest.param(SO3(), SO2(), about(TILTED), id="turns about a tilted axis"),
    pytest.param(O3(), SO2(), about(TILTED), id="turns in O(3)"),
    pytest.param(SO3(), CyclicGroup(4), quarter_turns, id="quarter turns about a tilted axis"),
    pytest.param(CUBE, CyclicGroup(3), powers_in_the_cube, id="turns about the diagonal of the cube"),
    pytest.param(SO3(), CUBE, rotations_as_matrices, id="the cube's rotations"),
    pytest.param(O2(), DihedralGroup(1), mirror(0.7), id="another mirror"),
    pytest.param(
        O2(), SO2(), lambda t: (3 * t, torch.zeros(t.shape, dtype=torch.int64)), id="a triple cover"
    ),
    pytest.param(TORUS, SO2(), lambda t: (t, t), id="the diagonal of a torus"),
    pytest.param(TORUS, SO2(), lambda t: (2 * t, -t), id="a curve on a torus"),
    pytest.param(DirectProduct(SO3(), CyclicGroup(3)), SO3(), lambda g: (g, 0), id="the first factor"),
    pytest.param(SO2(), TORUS, lambda g: g[0] - 2 * g[1], id="a quotient of a torus"),
    pytest.param(
        SymmetricGroup(3), CyclicGroup(2), lambda k: torch.tensor([[0, 1, 2], [1, 0, 2]])[k], id="swap"
    ),
    pytest.param(
        CyclicGroup(2), SymmetricGroup(4), lambda g: SymmetricGroup(4).word_length(g) % 2, id="signs"
    ),
    pytest.param(
        GridTranslations(4, 4), CyclicGroup(4), lambda k: torch.stack([k, k], -1), id="a diagonal shift"
    ),
]


def some_labels(group: Group) -> list[Any]:
    infinite: Any = group
    irreps = group.irreps() if group.order is not None else infinite.irreps(2)
    return [rep.irreps[0][0] for rep in irreps]


@pytest.mark.parametrize(("group", "subgroup", "embedding"), CASES)
def test_restriction_is_composition(group: Group, subgroup: Group, embedding: Callable[[Any], Any]) -> None:
    labels = some_labels(group)
    rep = Representation(group, [(label, 1) for label in labels[-3:]])
    rep = Representation(group, rep.irreps, random_orthogonal(rep.dim, 0))
    restricted = rep.restrict(subgroup, embedding)
    h = subgroup.sample(9, torch.Generator().manual_seed(1))
    torch.testing.assert_close(restricted(h), rep(embedding(h)), atol=1e-10, rtol=0)
    assert restricted.group == subgroup
    assert_representation(restricted, elements=4)


@given(st.integers(0, 4), seeds, st.floats(-7, 7))
def test_every_axis_shows_every_frequency_once(degree: int, seed: int, angle: float) -> None:
    axis = torch.randn(3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    embedding = about(axis / axis.norm())
    rep = SO3().irrep(degree)
    restricted = rep.restrict(SO2(), embedding)
    assert restricted.irreps == tuple((k, 1) for k in range(degree + 1))
    h = torch.tensor(angle, dtype=torch.float64)
    torch.testing.assert_close(restricted(h), rep(embedding(h)), atol=1e-10, rtol=0)


def test_known_restrictions() -> None:
    diagonal = {
        name: CUBE.irrep(name).restrict(CyclicGroup(3), powers_in_the_cube).irreps for name in ("E", "T1")
    }
    assert diagonal == {"E": ((1, 1),), "T1": ((0, 1), (1, 1))}
    assert CUBE.irrep("A2").restrict(CyclicGroup(3), powers_in_the_cube).irreps == ((0, 1),)
    as_rotations = SO3().irrep(2).restrict(CUBE, rotations_as_matrices)
    assert as_rotations.irreps == (("E", 1), ("T2", 1))
    assert TORUS.irrep((1, 1, 0)).restrict(SO2(), lambda t: (t, t)).irreps in (((0, 2),), ((2, 1),))
    both = TORUS.irrep((1, 1, 0)) + TORUS.irrep((1, 1, 1))
    assert both.restrict(SO2(), lambda t: (t, t)).irreps == ((0, 2), (2, 1))
    signs = (
        CyclicGroup(2).irrep(1).restrict(SymmetricGroup(4), lambda g: SymmetricGroup(4).word_length(g) % 2)
    )
    assert signs.irreps == (((1, 1, 1, 1), 1),)


def test_the_standard_embedding_written_out_gives_the_standard_restriction() -> None:
    rep = Representation(SO3(), [(1, 1), (2, 1)], random_orthogonal(8, 3))
    z = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    given, standard = rep.restrict(SO2(), about(z)), rep.restrict(SO2())
    assert given.irreps == standard.decompose().irreps
    h = SO2().sample(5, torch.Generator().manual_seed(0))
    torch.testing.assert_close(given(h), standard(h), atol=1e-12, rtol=0)


def test_restriction_of_nothing_is_nothing() -> None:
    assert Representation(SO3(), []).restrict(SO2(), about(X)).dim == 0


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: SO3().irrep(1).restrict(SO2(), lambda t: about(X)(t**2)),
            ValueError,
            r"embedding is not a homomorphism from SO\(2\) to SO\(3\): .* differs from rho\(f\(g h\)\) by \d",
        ),
        (
            lambda: CyclicGroup(6).irrep(1).restrict(CyclicGroup(4), lambda k: k),
            ValueError,
            "embedding is not a homomorphism from C_4 to C_6",
        ),
        (
            lambda: SO2().irrep(1).restrict(SO2(), lambda t: t / 2),
            ValueError,
            r"embedding is not a homomorphism from SO\(2\) to SO\(2\)",
        ),
        (
            lambda: SO3().irrep(1).restrict(SO2(), lambda t: about(X)(t.detach())),
            ValueError,
            "no derivative at the identity",
        ),
        (
            lambda: SO3().irrep(1).restrict(SO2(), 3),
            TypeError,
            "must be a function of elements or None, got int",
        ),
        (lambda: SO3().irrep(1).restrict(SO2(), lambda t: t), ValueError, r"shape \(\.\.\., 3, 3\)"),
    ],
    ids=["squares", "wrong order", "half turns", "no derivative", "no function", "wrong elements"],
)
def test_what_is_no_homomorphism_is_refused(call, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


# -- linear maps and duals ---------------------------------------------------------------------


@given(st.data())
def test_linear_maps_are_moved_by_both_representations(data: st.DataObject) -> None:
    group = data.draw(all_groups)
    rho, sigma = data.draw(representations(group, 1)), data.draw(representations(group, 1))
    g = data.draw(group_elements(group))
    m = torch.randn(sigma.dim, rho.dim, dtype=torch.float64)
    moved = sigma(g) @ m @ rho(group.inverse(g))
    found = rho.hom(sigma)(g) @ m.mT.reshape(-1)
    torch.testing.assert_close(found, moved.mT.reshape(-1), atol=1e-9, rtol=0)


def test_equivariant_maps_are_the_trivial_part() -> None:
    c3, q = CyclicGroup(3), SO3()
    assert dict(c3.irrep(1).hom(c3.irrep(1)).decompose().irreps)[0] == 2
    assert dict(q.irrep(2).hom(q.irrep(2)).irreps)[0] == 1
    assert 0 not in dict(q.irrep(1).hom(q.irrep(2)).irreps)
    with pytest.raises(ValueError, match="different groups"):
        c3.irrep(1).hom(q.irrep(1))
    assert q.irrep(2).dual() == q.irrep(2)


def dual_pairs(rep: Representation, g: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """rho*(g), and rho(g^-1)^T from its definition."""
    return rep.dual()(g), rep(rep.group.inverse(g)).mT


@given(st.data())
def test_duals_of_boosts(data: st.DataObject) -> None:
    """rho*(g) = rho(g^-1)^T keeps <w, v>: on it and on rho act the two factors of Hom."""
    rep = data.draw(representations(Lorentz(), 1))
    g, h = data.draw(group_elements(Lorentz())), data.draw(group_elements(Lorentz()))
    found, expected = dual_pairs(rep, g)
    size = float(expected.abs().max())
    torch.testing.assert_close(found, expected, atol=1e-10 * size, rtol=0)
    torch.testing.assert_close(rep.dual().dual()(g), rep(g), atol=1e-10 * size, rtol=0)
    larger = size * float(rep.dual()(h).abs().max())
    product = rep.dual()(Lorentz().compose(g, h))
    torch.testing.assert_close(found @ rep.dual()(h), product, atol=1e-9 * larger, rtol=0)


def test_the_dual_of_space_time_lowers_the_index() -> None:
    group, g = Lorentz(), Lorentz().sample(3, torch.Generator().manual_seed(0))
    eta = torch.diag(torch.tensor([1.0, -1, -1, -1], dtype=torch.float64))
    vectors = group.defining()
    assert vectors.dual() != vectors
    torch.testing.assert_close(vectors.dual()(g), eta @ g @ eta, atol=1e-10, rtol=1e-10)
    # A linear map from space-time to itself, moved as g M g^-1, has one invariant: the identity.
    maps = vectors.hom(vectors)
    assert dict(maps.irreps)[(0, 0)] == 1
    eye = torch.eye(4, dtype=torch.float64).reshape(-1)
    torch.testing.assert_close(maps(g) @ eye, eye.expand(3, 16), atol=1e-10, rtol=0)
    m = torch.randn(4, 4, dtype=torch.float64)
    moved = (g @ m @ group.inverse(g)).mT.reshape(3, 16)
    torch.testing.assert_close(maps(g) @ m.mT.reshape(-1), moved, atol=1e-9, rtol=1e-9)


def test_duals_of_products_with_boosts() -> None:
    group = DirectProduct(Lorentz(), SO2())
    assert not group.is_compact
    g = group.sample(3, torch.Generator().manual_seed(0))
    rep = group.defining() + group.irrep(((2, 0), 3)) + group.irrep(((1, 1), 0))
    found, expected = dual_pairs(rep, g)
    torch.testing.assert_close(found, expected, atol=1e-9, rtol=1e-9)
    # The metric reverses the complex structure of (1, 1), so that the two components change places.
    with pytest.raises(ValueError, match="is another component"):
        group.irrep(((1, 1), 2, 0)).dual()


def test_rotations_inside_the_lorentz_group() -> None:
    """Space-time splits into time and space, the antisymmetric tensors into electric and magnetic fields."""

    def without_boost(rotation: Tensor) -> Tensor:
        padded = torch.nn.functional.pad(rotation, (1, 0, 1, 0))
        time = torch.diag(torch.tensor([1.0, 0, 0, 0], dtype=padded.dtype))
        return padded + time

    field = Lorentz().irrep((1, 1))
    assert field.restrict(SO3(), without_boost).irreps == ((1, 2),)
    h = SO3().sample(4, torch.Generator().manual_seed(0))
    vectors = Lorentz().defining().restrict(SO3(), without_boost)
    assert vectors.irreps == ((0, 1), (1, 1))
    torch.testing.assert_close(vectors(h), without_boost(h), atol=1e-10, rtol=0)


# -- index maps of groups whose elements are rows -----------------------------------------------


@pytest.mark.parametrize("group", [SymmetricGroup(3), SymmetricGroup(4), GridTranslations(2, 3)], ids=repr)
def test_permutations_of_groups_whose_elements_are_rows(group: Group) -> None:
    elements = group.unbind(group.elements())
    everything = group.elements()

    def source(s: Any) -> list[int]:
        moved = group.compose(group.inverse(s), everything)
        return [next(i for i, h in enumerate(elements) if torch.equal(h, m)) for m in group.unbind(moved)]

    rep = PermutationRepresentation(group, np.array([source(s) for s in group.discrete_elements]))
    assert dict(rep.irreps) == dict(group.regular().decompose().irreps)
    torch.testing.assert_close(rep(everything), group.regular()(everything), atol=1e-12, rtol=0)
    assert set(rep(everything).unique().tolist()) == {0.0, 1.0}
    assert_representation(rep, elements=5)
