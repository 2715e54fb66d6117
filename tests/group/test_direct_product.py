"""Direct products: elements, lengths, irreps with the splitting of complex and quaternionic types."""

import itertools
import math
from dataclasses import dataclass
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
    Representation,
    SymmetricGroup,
)
from equikernels.group.finite import FiniteGroup, integer_tensor
from equikernels.group.kronecker import components
from equikernels.testing import assert_representation
from equikernels.testing.strategies import finite_products, random_orthogonal

TORUS = DirectProduct(SO2(), SO2())
NESTED = DirectProduct(DirectProduct(CyclicGroup(3), CyclicGroup(3)), SymmetricGroup(2))
PRODUCTS = [
    DirectProduct(CyclicGroup(3), CyclicGroup(5)),
    DirectProduct(DihedralGroup(3), SymmetricGroup(3)),
    DirectProduct(CubeGroup(), CyclicGroup(4)),
    DirectProduct(GridTranslations(2, 3), CyclicGroup(3)),
    DirectProduct(CyclicGroup(3), CyclicGroup(4), CyclicGroup(5)),
    NESTED,
    TORUS,
    DirectProduct(SO2(), CyclicGroup(6), O2()),
    DirectProduct(SO3(), CyclicGroup(3)),
    DirectProduct(O3(), SO2()),
]
FINITE = [group for group in PRODUCTS if group.order is not None]


def irreps(group: DirectProduct) -> tuple[Representation, ...]:
    return group.irreps() if group.order is not None else group.irreps(2)


def left_multiplications() -> np.ndarray:
    """The matrices (8, 4, 4) of x -> q x for q = 1, i, j, k, -1, -i, -j, -k."""
    i = np.array([[0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 0, -1], [0, 0, 1, 0]])
    j = np.array([[0, 0, -1, 0], [0, 0, 0, 1], [1, 0, 0, 0], [0, -1, 0, 0]])
    units = np.stack([np.eye(4), i, j, i @ j])
    return np.concatenate([units, -units])


@dataclass(frozen=True)
class Quaternions(FiniteGroup):
    """Q_8 = {1, i, j, k, -1, -i, -j, -k}; irreps: signs (a, b) of i and j, and "H" of dimension four."""

    @property
    def order(self) -> int:
        return 8

    def check(self, g: Any) -> Tensor:
        return integer_tensor(g, "elements of Q_8 are integers 0 .. 7")

    def compose(self, g: Any, h: Any) -> Tensor:
        q = left_multiplications()
        # The first column of x -> q x is q itself.
        products = np.einsum("aij,bj->abi", q, q[:, :, 0])
        table = (products[:, :, None] == q[:, :, 0]).all(-1).argmax(-1)
        return torch.as_tensor(table)[self.check(g), self.check(h)]

    def inverse(self, g: Any) -> Tensor:
        return torch.tensor([0, 5, 6, 7, 4, 1, 2, 3])[self.check(g)]

    def word_length(self, g: Any) -> Tensor:
        return torch.tensor([0, 1, 1, 2, 2, 1, 1, 2])[self.check(g)]

    @property
    def diameter(self) -> float:
        return 2.0

    @property
    def discrete_elements(self) -> tuple[Any, ...]:
        return (1, 2)

    def check_label(self, label: Any) -> Any:
        return label

    def label_order(self, label: Any) -> Any:
        return (2,) if label == "H" else label

    def irrep_dim(self, label: Any) -> int:
        return 4 if label == "H" else 1

    def irrep_matrix(self, label: Any, g: Tensor, dtype: torch.dtype) -> Tensor:
        if label == "H":
            return torch.as_tensor(left_multiplications()).to(dtype)[g]
        a, b = ((-1.0) ** power for power in label)
        return torch.tensor([1, a, b, a * b] * 2, dtype=dtype)[g][..., None, None]

    def restrict_irrep(self, label: Any, subgroup: Group) -> Any:
        raise ValueError("not needed")

    def irreps(self) -> tuple[Representation, ...]:
        return tuple(self.irrep(label) for label in [(0, 0), (0, 1), (1, 0), (1, 1), "H"])

    def trivial(self) -> Representation:
        return self.irrep((0, 0))

    def defining(self) -> Representation:
        return self.irrep("H")

    def regular(self) -> Representation:
        raise ValueError("not needed")


# -- elements ----------------------------------------------------------------------------------


@pytest.mark.parametrize("group", PRODUCTS, ids=repr)
def test_elements_compose_part_by_part(group: DirectProduct) -> None:
    generator = torch.Generator().manual_seed(0)
    g, h = group.sample(4, generator), group.sample(4, generator)
    assert group.batch_shape(g) == (4,)
    together = group.compose(g, h)
    for i, factor in enumerate(group.factors):
        torch.testing.assert_close(together[i], factor.compose(g[i], h[i]))
        torch.testing.assert_close(group.inverse(g)[i], factor.inverse(g[i]))
    rep = group.defining()
    for one, matrix in zip(group.unbind(g), rep(g), strict=True):
        torch.testing.assert_close(rep(one), matrix, atol=1e-14, rtol=0)


@pytest.mark.parametrize("group", FINITE, ids=repr)
def test_elements_are_listed_once_with_the_last_factor_fastest(group: DirectProduct) -> None:
    listed = group.unbind(group.elements())
    assert len(listed) == group.order == math.prod(f.order for f in group.factors)
    parts = [factor.unbind(factor.elements()) for factor in group.factors]
    for found, expected in zip(listed, itertools.product(*parts), strict=True):
        torch.testing.assert_close(found, expected)


def test_parts_broadcast_and_keep_their_types() -> None:
    group = DirectProduct(SO3(), O2(), CyclicGroup(5))
    angles = torch.zeros(2, 1, dtype=torch.float32)
    checked = group.check((torch.eye(3), (angles, 1), torch.arange(3)))
    assert group.batch_shape(checked) == (2, 3)
    assert checked[0].shape == (2, 3, 3, 3)
    assert checked[1][0].shape == checked[1][1].shape == checked[2].shape == (2, 3)
    assert group.floating_dtype(checked) == torch.float32
    assert group.floating_dtype((torch.eye(3), (0.0, 1), 2)) == torch.float32
    assert FINITE[0].floating_dtype((1, 2)) is None
    assert len(group.unbind(checked)) == 6
    drawn = group.sample(3, dtype=torch.float32)
    assert drawn[0].dtype == drawn[1][0].dtype == torch.float32
    assert drawn[2].dtype == torch.int64
    assert group.defining()(checked).shape == (2, 3, 7, 7)
    assert group.defining()(checked).dtype == torch.float32
    moved = group.to(checked, "meta")
    assert moved[0].device.type == moved[1][1].device.type == moved[2].device.type == "meta"
    assert group.inject(0, torch.eye(3))[1][0].dtype == torch.float32


def test_irreps_are_differentiable_and_transform() -> None:
    group = DirectProduct(SO2(), SO3())
    rep = group.irrep((2, 1)) + group.defining()
    a = torch.tensor([0.3, 0.1, -0.4, 0.9], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda a: rep(group.exp(a)), (a,))
    jacobian = torch.func.jacfwd(lambda a: rep(group.exp(a)))(torch.zeros(4, dtype=torch.float64))
    np.testing.assert_allclose(jacobian.permute(2, 0, 1), rep.generators, atol=1e-13)
    g = group.sample(3, torch.Generator().manual_seed(1))
    torch.testing.assert_close(torch.func.vmap(rep)(g), rep(g))
    compiled = torch.compile(lambda g: rep(g), backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(g), rep(g))


def test_components_compile_with_a_break_of_the_graph() -> None:
    rep = TORUS.irrep((1, 2, 1))
    g = TORUS.sample(3, torch.Generator().manual_seed(1))
    compiled = torch.compile(lambda g: rep(g), backend="aot_eager")
    torch.testing.assert_close(compiled(g), rep(g))


def test_quadrature_is_a_product_rule() -> None:
    group = DirectProduct(SO2(), CyclicGroup(3), SO3())
    elements, weights = group.quadrature(2)
    assert weights.sum() == pytest.approx(1)
    for rep in irreps(group):
        mean = torch.einsum("g,gij->ij", weights, rep(elements))
        torch.testing.assert_close(
            mean, torch.full_like(mean, float(rep == group.trivial())), atol=1e-12, rtol=0
        )


# -- algebra, words, lengths -------------------------------------------------------------------


def test_algebra_is_the_sum_of_the_factors() -> None:
    group = DirectProduct(SO2(), CyclicGroup(4), SO3())
    assert group.lie_dim == 4
    c = group.structure_constants
    np.testing.assert_array_equal(c[1:, 1:, 1:], SO3().structure_constants)
    assert np.abs(c).sum() == np.abs(SO3().structure_constants).sum()
    a = torch.tensor([[0.5, 0.1, 0.2, -0.3], [1.0, 0.0, 0.0, 2.0]], dtype=torch.float64)
    angle, element, rotation = group.exp(a)
    torch.testing.assert_close(angle, a[:, 0])
    assert element.tolist() == [0, 0]
    torch.testing.assert_close(rotation, SO3().exp(a[:, 1:]))
    torch.testing.assert_close(group.log(group.exp(a)), a)
    assert group.injectivity_radius == math.pi
    assert group.exp(a.float())[2].dtype == torch.float32


@pytest.mark.parametrize("group", FINITE, ids=repr)
def test_word_length_is_the_breadth_first_distance(group: DirectProduct) -> None:
    def key(g: Any) -> str:
        return str([part.tolist() if isinstance(part, Tensor) else key(part) for part in g])

    distance = {key(group.identity): 0}
    frontier = [group.identity]
    while frontier:
        reached = []
        for g in frontier:
            for s in group.discrete_elements:
                for letter in (s, group.inverse(s)):
                    following = group.compose(g, letter)
                    if key(following) not in distance:
                        distance[key(following)] = distance[key(g)] + 1
                        reached.append(following)
        frontier = reached
    elements = group.unbind(group.elements())
    assert group.word_length(group.elements()).tolist() == [distance[key(g)] for g in elements]
    assert torch.equal(group.length(group.elements()), group.word_length(group.elements()))
    assert group.diameter == max(distance.values())


def test_length_of_a_torus_is_euclidean() -> None:
    assert float(TORUS.length((3.0, -2 * math.pi + 0.4))) == pytest.approx(math.hypot(3.0, 0.4))
    assert TORUS.diameter == pytest.approx(math.pi * math.sqrt(2))
    group = DirectProduct(SO2(), SO3())
    g = group.sample(20, torch.Generator().manual_seed(3))
    torch.testing.assert_close(group.length(g), group.log(g).norm(dim=-1))


@pytest.mark.parametrize("group", FINITE, ids=repr)
def test_conjugates_are_closed_under_conjugation(group: DirectProduct) -> None:
    # A faithful representation tells elements apart.
    rep = group.regular() if group.order < 50 else group.defining()
    conjugates = torch.stack([rep(s) for s in group.conjugates()])
    assert len(torch.unique(conjugates.round(decimals=6), dim=0)) == len(conjugates)
    for g in group.unbind(group.sample(5, torch.Generator().manual_seed(0))):
        moved = rep(g) @ conjugates @ rep(g).mT
        gaps = (moved[:, None] - conjugates).abs().amax((-2, -1)).amin(1)
        assert gaps.max() < 1e-10
    for s in group.discrete_elements:
        assert (conjugates - rep(s)).abs().amax((-2, -1)).min() < 1e-12


def test_conjugates_of_infinite_factors() -> None:
    group = DirectProduct(SO2(), O3(), CyclicGroup(2))
    assert len(group.conjugates()) == 2
    with pytest.raises(ValueError, match="a whole circle"):
        DirectProduct(O2(), CyclicGroup(2)).conjugates()


# -- irreps ------------------------------------------------------------------------------------


@pytest.mark.parametrize("group", PRODUCTS, ids=repr)
def test_irreps_are_representations(group: DirectProduct) -> None:
    for rep in irreps(group)[:12]:
        assert_representation(rep, elements=4, atol=1e-12)


def character_norms(group: DirectProduct, reps: tuple[Representation, ...]) -> np.ndarray:
    """<chi_i, chi_j> over the group."""
    elements, weights = group.quadrature(4)
    characters = torch.stack([rep(elements).diagonal(dim1=-2, dim2=-1).sum(-1) for rep in reps])
    return ((characters * weights) @ characters.mT).numpy()


@pytest.mark.parametrize("group", PRODUCTS[:8], ids=repr)
def test_irreps_are_irreducible_different_and_complete(group: DirectProduct) -> None:
    reps = irreps(group)
    norms = character_norms(group, reps)
    types = np.diag(norms).round()
    assert set(types) <= {1.0, 2.0, 4.0}
    np.testing.assert_allclose(norms, np.diag(types), atol=1e-10)
    if group.order is not None:
        assert sum(rep.dim**2 / kind for rep, kind in zip(reps, types, strict=True)) == group.order


def test_complex_types_split_into_the_sum_and_the_difference_of_frequencies() -> None:
    group = DirectProduct(SO2(), SO2())
    assert group.components((2, 3)) == ((2, 3, 0), (2, 3, 1))
    assert group.components((0, 3)) == ((0, 3),)
    found = set()
    for i in (0, 1):
        rep = group.irrep((2, 3, i))
        assert rep.dim == 2
        signs = rep.generators[0][1, 0] / 2, rep.generators[1][1, 0] / 3
        np.testing.assert_allclose(np.abs(signs), 1, atol=1e-12)
        found.add(round(signs[0] * signs[1]))
    assert found == {1, -1}
    three = DirectProduct(CyclicGroup(3), CyclicGroup(5), CyclicGroup(7))
    assert three.components((1, 1, 2)) == tuple((1, 1, 2, i) for i in range(4))
    assert [three.irrep(label).dim for label in three.components((1, 1, 2))] == [2] * 4


def test_quaternionic_types_repeat() -> None:
    """H kron C is two copies of one irrep of complex type, H kron H four of one of real type."""
    q = Quaternions()
    group = DirectProduct(q, CyclicGroup(3))
    assert [e.shape for e in components(group.factors, ("H", 1))] == [(2, 8, 4)]
    assert group.components(("H", 1)) == (("H", 1, 0),)
    assert group.components(("H", 0)) == (("H", 0),)
    twice = DirectProduct(q, q)
    assert [e.shape for e in components(twice.factors, ("H", "H"))] == [(4, 16, 4)]
    for product in (group, twice):
        reps = product.irreps()
        norms = character_norms(product, reps)
        types = np.diag(norms).round()
        np.testing.assert_allclose(norms, np.diag(types), atol=1e-10)
        assert sum(rep.dim**2 / kind for rep, kind in zip(reps, types, strict=True)) == product.order
    assert character_norms(group, (group.irrep(("H", 1, 0)),)) == pytest.approx(2)
    assert character_norms(group, (group.irrep(("H", 0)),)) == pytest.approx(4)
    outer = twice.outer(q.irrep("H"), q.irrep("H"))
    assert outer.irreps == ((("H", "H", 0), 4),)
    g = twice.elements()
    torch.testing.assert_close(outer(g), torch.func.vmap(torch.kron)(q.irrep("H")(g[0]), q.irrep("H")(g[1])))
    tensor = group.irrep(("H", 1, 0)) @ group.irrep(("H", 1, 0))
    rho = group.irrep(("H", 1, 0))(group.elements())
    torch.testing.assert_close(
        tensor(group.elements()), torch.func.vmap(torch.kron)(rho, rho), atol=1e-12, rtol=0
    )


def test_three_quaternionic_factors() -> None:
    """H kron H kron H has the commutant M_4(H): four copies of one irrep of quaternionic type."""
    q = Quaternions()
    group = DirectProduct(q, q, q)
    assert [e.shape for e in components(group.factors, ("H", "H", "H"))] == [(4, 64, 16)]
    rep = group.irrep(("H", "H", "H", 0))
    trace = rep(group.elements()).diagonal(dim1=-2, dim2=-1).sum(-1)
    assert float(trace.square().mean()) == pytest.approx(4)


def test_copies_are_aligned_and_fill_the_kronecker_product() -> None:
    q = Quaternions()
    for group, labels in ((DirectProduct(q, q), ("H", "H")), (DirectProduct(q, CyclicGroup(5)), ("H", 2))):
        embeddings = np.concatenate(components(group.factors, labels))
        wide = np.concatenate(list(embeddings), axis=1)
        np.testing.assert_allclose(wide.T @ wide, np.eye(wide.shape[1]), atol=1e-13)


def test_embeddings_do_not_depend_on_the_basis_of_the_commutant(monkeypatch: pytest.MonkeyPatch) -> None:
    """LAPACK may return any orthonormal basis of what commutes with an irrep."""
    import equikernels.group.kronecker as module

    q, labels = Quaternions(), ("H", "H")
    expected = components.__wrapped__((q, q), labels)
    given = module.commutant(q, "H")
    turn = random_orthogonal(len(given), 5)
    monkeypatch.setattr(module, "commutant", lambda *_: np.einsum("ab,bij->aij", turn, given))
    for found, known in zip(components.__wrapped__((q, q), labels), expected, strict=True):
        np.testing.assert_allclose(found, known, atol=1e-12)


@given(finite_products, st.data())
def test_products_of_irreps_are_kronecker_products(group: DirectProduct, data: st.DataObject) -> None:
    labels = [rep.irreps[0][0] for rep in group.irreps()]
    left, right = (
        group.irrep(data.draw(st.sampled_from(labels))),
        group.irrep(data.draw(st.sampled_from(labels))),
    )
    g = group.elements()
    expected = torch.func.vmap(torch.kron)(left(g), right(g))
    torch.testing.assert_close((left @ right)(g), expected, atol=1e-11, rtol=0)


def test_products_of_space_rotations_use_the_factors() -> None:
    group = DirectProduct(SO3(), O3())
    left, right = group.irrep((2, (1, -1))), group.irrep((3, (2, 1)))
    g = group.sample(3, torch.Generator().manual_seed(0))
    expected = torch.func.vmap(torch.kron)(left(g), right(g))
    torch.testing.assert_close((left @ right)(g), expected, atol=1e-11, rtol=0)
    assert len((left @ right).irreps) == 5 * 3


# -- representations ---------------------------------------------------------------------------


@pytest.mark.parametrize("group", FINITE, ids=repr)
def test_regular_representation_multiplies_from_the_left(group: DirectProduct) -> None:
    if group.order > 100:
        pytest.skip("a larger group of the same kinds")
    rep = group.regular()
    elements = group.unbind(group.elements())
    faithful = group.defining()
    marks = torch.stack([faithful(h) for h in elements])
    for g in group.unbind(group.sample(4, torch.Generator().manual_seed(0))):
        moved = faithful(g) @ marks
        target = (moved[:, None] - marks).abs().amax((-2, -1)).argmin(1)
        expected = torch.nn.functional.one_hot(target, group.order).mT.double()
        torch.testing.assert_close(rep(g), expected, atol=1e-12, rtol=0)
    assert rep.irreps == rep.decompose().irreps


@given(finite_products)
def test_regular_holds_every_irrep_as_often_as_its_dimension_over_its_type(group: DirectProduct) -> None:
    found = dict(group.regular().irreps)
    for rep in group.irreps():
        trace = rep(group.elements()).diagonal(dim1=-2, dim2=-1).sum(-1)
        kind = round(float(trace.square().mean()))
        assert found[rep.irreps[0][0]] == rep.dim / kind


def test_regular_of_infinite_products() -> None:
    group = DirectProduct(SO2(), SO3())
    assert group.regular(1).dim == 3 * (1 + 9)
    with pytest.raises(ValueError, match="is infinite"):
        group.regular()


def test_outer_products_and_injections() -> None:
    group = DirectProduct(SO2(), CyclicGroup(3), SO3())
    reps = (
        Representation(SO2(), [(1, 1), (0, 1)], random_orthogonal(3, 0)),
        CyclicGroup(3).regular(),
        SO3().defining(),
    )
    outer = group.outer(*reps)
    g = group.sample(5, torch.Generator().manual_seed(2))
    parts = [rep(part) for rep, part in zip(reps, g, strict=True)]
    for k in range(5):
        expected = torch.kron(torch.kron(parts[0][k], parts[1][k]), parts[2][k])
        torch.testing.assert_close(outer(g)[k], expected, atol=1e-12, rtol=0)
    assert_representation(outer, elements=4)
    lone = group.inject(2, g[2])
    torch.testing.assert_close(group.defining()(lone)[:, -3:, -3:], parts[2], atol=1e-13, rtol=0)
    torch.testing.assert_close(group.defining()(lone)[:, :-3, :-3], torch.eye(4).double().expand(5, 4, 4))


@pytest.mark.parametrize("group", PRODUCTS, ids=repr)
def test_defining_is_the_direct_sum(group: DirectProduct) -> None:
    g = group.sample(3, torch.Generator().manual_seed(4))
    parts = [factor.defining()(part) for factor, part in zip(group.factors, g, strict=True)]
    expected = torch.stack([torch.block_diag(*(part[k] for part in parts)) for k in range(3)])
    torch.testing.assert_close(group.defining()(g), expected, atol=1e-12, rtol=0)


def test_products_are_values() -> None:
    assert DirectProduct(SO2(), CyclicGroup(3)) == DirectProduct(SO2(), CyclicGroup(3))
    assert DirectProduct(SO2(), CyclicGroup(3)) != DirectProduct(CyclicGroup(3), SO2())
    assert len({NESTED, DirectProduct(*NESTED.factors)}) == 1
    assert repr(NESTED) == "(C_3 x C_3) x S_2"
    assert NESTED.irrep(((1, 1, 0), (2,))).dim == 2
    assert TORUS.is_compact
    assert NESTED.irrep((((1, 1, 1)), "sign")).irreps == ((((1, 1, 1), (1, 1)), 1),)
    assert NESTED.irrep(((0, 0), (2,))).restrict(NESTED) == NESTED.trivial().restrict(NESTED)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: DirectProduct(SO2()), ValueError, "at least two factors, got 1"),
        (lambda: DirectProduct(SO2(), 3), TypeError, "must be groups, got 3"),
        (lambda: TORUS.check(1.0), TypeError, "tuples of 2 parts, got float"),
        (lambda: TORUS.check((1.0, 2.0, 3.0)), TypeError, "tuples of 2 parts, got 3"),
        (lambda: TORUS.check((torch.zeros(2), torch.zeros(3))), ValueError, "broadcast"),
        (
            lambda: TORUS.irrep((1, 1)),
            ValueError,
            r"must be \(1, 1, 0\) or \(1, 1, 1\) for SO\(2\) x SO\(2\)",
        ),
        (lambda: TORUS.irrep((1, 1, 2)), ValueError, r"must be \(1, 1, 0\) or \(1, 1, 1\)"),
        (lambda: TORUS.irrep((1, 1, True)), ValueError, r"must be \(1, 1, 0\) or \(1, 1, 1\)"),
        (lambda: TORUS.irrep((0, 1, 0)), ValueError, r"must be \(0, 1\) for"),
        (lambda: TORUS.irrep(1), ValueError, "a tuple of 2 labels"),
        (lambda: TORUS.irrep((1, -1)), ValueError, "frequency k >= 0"),
        (lambda: TORUS.components((1,)), ValueError, "an irrep of each factor"),
        (lambda: TORUS.exp([0.1]), ValueError, r"shape \(\.\.\., 2\)"),
        (lambda: TORUS.word_length((0.1, 0.2)), ValueError, "no words"),
        (lambda: TORUS.elements(), ValueError, "infinite"),
        (lambda: TORUS.irreps(), ValueError, "infinitely many"),
        (lambda: TORUS.quadrature(), ValueError, "degree must be"),
        (lambda: TORUS.inject(2, 0.1), ValueError, "0 .. 1"),
        (lambda: TORUS.outer(SO2().irrep(1)), ValueError, "one representation of each factor"),
        (lambda: TORUS.irrep((1, 0)).restrict(SO2()), ValueError, "give embedding="),
        (lambda: FINITE[0].exp([0.1]), ValueError, "no Lie algebra"),
        (lambda: FINITE[0].log((0, 0)), ValueError, "no Lie algebra"),
        (lambda: FINITE[0].injectivity_radius, ValueError, "no Lie algebra"),
        (lambda: PRODUCTS[8].length((torch.eye(3), 1)), ValueError, "no one length"),
        (lambda: PRODUCTS[8].diameter, ValueError, "no one length"),
        (lambda: PRODUCTS[8].log((torch.eye(3), 1)), ValueError, "move C_3 have no logarithm"),
        (lambda: DirectProduct(O2(), SO2()).length(((0.0, 1), 0.0)), ValueError, "no one length"),
    ],
)
def test_bad_values_are_named(call, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
