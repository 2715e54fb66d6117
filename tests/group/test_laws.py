"""What every group and every representation must satisfy, over all kinds of groups."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from equikernels.group import (
    O2,
    SO2,
    SO3,
    CubeGroup,
    CyclicGroup,
    DihedralGroup,
    DirectProduct,
    GridTranslations,
    Group,
    MatrixGroup,
    Orthogonal,
    Representation,
    SpecialOrthogonal,
    SymmetricGroup,
    intertwiners,
    kronecker,
    pixel_grid,
    representation_from_operators,
)
from equikernels.group.intertwiners import intertwiner_space
from equikernels.testing.strategies import (
    all_groups,
    finite_groups,
    group_elements,
    labels,
    random_orthogonal,
    representations,
    seeds,
)

DEGREES = {SpecialOrthogonal: 4, Orthogonal: 4}
"""Quadratures exact for products of two irreps: of degree up to 2 for these, elsewhere of
frequency up to 5 (10), the highest that are drawn."""

measured_groups = all_groups.filter(lambda group: group.lie_dim == 0 or not isinstance(group, MatrixGroup))
"""Groups with a quadrature."""

lie_groups = all_groups.filter(lambda group: group.lie_dim > 0)
ROUNDING = 1e-10
"""Sums of at most a few thousand terms of order one in float64."""


def operators(rep: Representation) -> tuple[list[np.ndarray], list[np.ndarray]]:
    return list(rep.generators), list(rep.discrete)


def intertwiner_count(a: Representation, b: Representation) -> int:
    """The dimension of the T with T a(g) = b(g) T."""
    pairs = [list(zip(x, y, strict=True)) for x, y in zip(operators(a), operators(b), strict=True)]
    return len(intertwiner_space(pairs[0], pairs[1]))


def quadrature(group: Group) -> tuple[Any, torch.Tensor]:
    return group.quadrature(DEGREES.get(type(group), 10) if group.order is None else None)


# -- groups ------------------------------------------------------------------------------------


@given(st.data())
def test_elements_obey_the_laws_of_a_group(data: st.DataObject) -> None:
    """Seen through the defining representation, which tells elements apart."""
    group = data.draw(all_groups)
    f, g, h = (data.draw(group_elements(group)) for _ in range(3))
    rho = group.defining()
    left, right = group.compose(group.compose(f, g), h), group.compose(f, group.compose(g, h))
    torch.testing.assert_close(rho(left), rho(right), atol=ROUNDING, rtol=0)
    for unit in (group.compose(g, group.inverse(g)), group.compose(group.inverse(g), g)):
        torch.testing.assert_close(rho(unit), rho(group.identity), atol=ROUNDING, rtol=0)
    for same in (
        group.compose(g, group.identity),
        group.compose(group.identity, g),
        group.inverse(group.inverse(g)),
    ):
        torch.testing.assert_close(rho(same), rho(g), atol=ROUNDING, rtol=0)


@given(lie_groups, st.data())
def test_exp_inverts_log(group: Group, data: st.DataObject) -> None:
    coordinates = st.lists(st.floats(-4, 4), min_size=group.lie_dim, max_size=group.lie_dim)
    a = torch.tensor(data.draw(coordinates), dtype=torch.float64)
    g = group.exp(a)
    rho = group.defining()
    torch.testing.assert_close(rho(group.exp(group.log(g))), rho(g), atol=ROUNDING, rtol=0)
    assert float(group.log(g).norm()) <= float(a.norm()) + ROUNDING
    # Of groups given by matrices the radius is not known.
    if not isinstance(group, MatrixGroup) and a.norm() < group.injectivity_radius - 1e-3:
        torch.testing.assert_close(group.log(g), a, atol=ROUNDING, rtol=0)
    torch.testing.assert_close(rho(group.exp(-a)), rho(group.inverse(g)), atol=ROUNDING, rtol=0)


@given(lie_groups)
def test_structure_constants_obey_jacobi(group: Group) -> None:
    c = group.structure_constants
    np.testing.assert_allclose(c, -c.transpose(1, 0, 2), atol=ROUNDING)
    jacobi = np.einsum("ijl,lkm->ijkm", c, c)
    np.testing.assert_allclose(
        jacobi + jacobi.transpose(1, 2, 0, 3) + jacobi.transpose(2, 0, 1, 3), 0, atol=ROUNDING
    )


@given(st.data())
def test_the_haar_measure_is_invariant(data: st.DataObject) -> None:
    """Products of two matrix entries have the same mean over g, h g, g h and g^-1."""
    group = data.draw(measured_groups)
    rep = group.irrep(data.draw(labels(group)))
    h = data.draw(group_elements(group))
    seed = data.draw(seeds)
    weight = torch.randn(
        2, rep.dim, rep.dim, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    )
    elements, weights = quadrature(group)

    def mean(moved: Any) -> torch.Tensor:
        entries = torch.einsum("sij,gij->gs", weight, rep(moved, dtype=torch.float64))
        return (weights * entries.prod(-1)).sum()

    expected = mean(elements)
    for moved in (group.compose(h, elements), group.compose(elements, h), group.inverse(elements)):
        torch.testing.assert_close(mean(moved), expected, atol=1e-9, rtol=1e-9)


@given(finite_groups, st.data())
def test_words_of_products_are_no_longer_than_both(group: Group, data: st.DataObject) -> None:
    g, h = data.draw(group_elements(group)), data.draw(group_elements(group))
    size = group.word_length
    assert size(group.compose(g, h)) <= size(g) + size(h) <= 2 * group.diameter
    assert size(group.inverse(g)) == size(g)
    assert bool((size(group.elements()) <= group.diameter).all())
    assert sum(size(group.elements()) == 0) == 1


# -- representations ---------------------------------------------------------------------------


@given(st.data())
def test_representations_are_orthogonal_homomorphisms(data: st.DataObject) -> None:
    group = data.draw(all_groups)
    rep = data.draw(representations(group))
    g, h = data.draw(group_elements(group)), data.draw(group_elements(group))
    torch.testing.assert_close(rep(g) @ rep(h), rep(group.compose(g, h)), atol=ROUNDING, rtol=0)
    torch.testing.assert_close(rep(group.inverse(g)), rep(g).mT, atol=ROUNDING, rtol=0)
    eye = torch.eye(rep.dim, dtype=torch.float64)
    torch.testing.assert_close(rep(g) @ rep(g).mT, eye, atol=ROUNDING, rtol=0)


@given(lie_groups, st.data())
def test_generators_are_the_derivatives_and_obey_the_brackets(group: Group, data: st.DataObject) -> None:
    rep = data.draw(representations(group))
    origin = torch.zeros(group.lie_dim, dtype=torch.float64)
    derivative = torch.func.jacfwd(lambda a: rep(group.exp(a)))(origin).permute(2, 0, 1)
    np.testing.assert_allclose(rep.generators, derivative, atol=ROUNDING)
    for i, x in enumerate(rep.generators):
        for j, y in enumerate(rep.generators):
            expected = np.einsum("k,kab->ab", group.structure_constants[i, j], rep.generators)
            np.testing.assert_allclose(x @ y - y @ x, expected, atol=1e-9)


@given(st.data())
def test_discrete_generators_permute_the_algebra(data: st.DataObject) -> None:
    """rho(s) X rho(s)^-1 is the derivative of s exp(t X) s^-1 again: a generator of the same algebra."""
    group = data.draw(lie_groups)
    rep = data.draw(representations(group))
    span = rep.generators.reshape(group.lie_dim, -1)
    for rho in rep.discrete:
        moved = (rho @ rep.generators @ rho.T).reshape(group.lie_dim, -1)
        inside, *_ = np.linalg.lstsq(span.T, moved.T, rcond=None)
        np.testing.assert_allclose(span.T @ inside, moved.T, atol=1e-9)


@given(st.data())
def test_characters_count_intertwiners(data: st.DataObject) -> None:
    """Schur: between different irreps there is no intertwiner, from one to itself there are the 1, 2 or 4
    dimensions of its type; the inner product of the characters is that number."""
    group = data.draw(measured_groups)
    a, b = data.draw(labels(group)), data.draw(labels(group))
    elements, weights = quadrature(group)
    traces = {
        label: group.irrep(label)(elements, dtype=torch.float64).diagonal(dim1=-2, dim2=-1).sum(-1)
        for label in (a, b)
    }
    for left, right in ((a, a), (a, b)):
        product = float((weights * traces[left] * traces[right]).sum())
        count = intertwiner_count(group.irrep(left), group.irrep(right))
        assert abs(product - count) < 1e-9
        assert count in ((1, 2, 4) if left == right else (0,))


@given(finite_groups)
def test_irreps_of_a_finite_group_fill_the_group_algebra(group: Group) -> None:
    total = sum(rep.dim**2 / intertwiner_count(rep, rep) for rep in group.irreps())
    assert total == group.order
    assert dict(group.regular().decompose().irreps) == {
        rep.irreps[0][0]: rep.dim // intertwiner_count(rep, rep) for rep in group.irreps()
    }


@settings(max_examples=60)
@given(st.data())
def test_conjugation_restricts_to_an_equivalent_representation(data: st.DataObject) -> None:
    """rep.restrict(H, f)(h) = rep(f(h)), here with f(h) = k h k^-1: the irreps are the same."""
    group = data.draw(all_groups)
    rep = data.draw(representations(group, 1))
    assume(rep.dim <= 40)
    k, h = data.draw(group_elements(group)), data.draw(group_elements(group))

    def conjugate(h: Any) -> Any:
        return group.compose(group.compose(k, h), group.inverse(k))

    restricted = rep.restrict(group, conjugate)
    assert restricted.irreps == rep.decompose().irreps
    torch.testing.assert_close(restricted(h), rep(conjugate(h)), atol=1e-9, rtol=0)


@settings(max_examples=60)
@given(st.data())
def test_a_factor_of_a_product_restricts(data: st.DataObject) -> None:
    factors = (data.draw(all_groups), data.draw(finite_groups))
    group = DirectProduct(*factors)
    rep = group.irrep(data.draw(labels(group)))
    assume(rep.dim <= 40)
    i = data.draw(st.integers(0, 1))
    restricted = rep.restrict(factors[i], lambda g: group.inject(i, g))
    h = data.draw(group_elements(factors[i]))
    torch.testing.assert_close(restricted(h), rep(group.inject(i, h)), atol=1e-9, rtol=0)


# -- numbers -----------------------------------------------------------------------------------


def computed_anew() -> list[torch.Tensor]:
    """Matrices and decompositions that nothing remembers from before."""
    for cache in (kronecker.components, kronecker.commutant, intertwiners.tensor_embeddings):
        cache.cache_clear()
    torus = DirectProduct(CyclicGroup(5), CyclicGroup(7))
    symmetric = SymmetricGroup(4)
    large = Representation(SO3(), [(3, 4), (5, 3)], random_orthogonal(61, 0))
    recognised = representation_from_operators(SO3(), algebra=list(large.generators))
    about_x = large.restrict(SO2(), lambda t: SO3().exp(t[..., None] * torch.tensor([1.0, 0, 0]).to(t)))
    four = representation_from_operators(symmetric, elements=list(symmetric.regular().discrete))
    product = torus.irrep((1, 2, 1)) @ torus.irrep((2, 3, 0))
    index_maps = [pixel_grid(8, DihedralGroup(4)), CubeGroup().regular(), torus.regular()]
    rotations = SO3().sample(64, torch.Generator().manual_seed(0))
    return [
        large(rotations),
        *(torch.tensor(rep.change_of_basis) for rep in (recognised, about_x, four, product, *index_maps)),
        torus.irrep((1, 2, 1))(torus.elements()),
        pixel_grid(9, O2())((SO2().sample(8, torch.Generator().manual_seed(1)), 1)),
    ]


def test_results_do_not_depend_on_the_number_of_threads() -> None:
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = computed_anew()
        torch.set_num_threads(2)
        two = computed_anew()
    finally:
        torch.set_num_threads(threads)
    for a, b in zip(one, two, strict=True):
        torch.testing.assert_close(a, b, atol=1e-12, rtol=0)


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize(
    "rep",
    [
        DihedralGroup(4).irrep(1) + 2 * DihedralGroup(4).irrep(("1d", 1, 0)),
        DihedralGroup(4).regular(),
        O2().irrep(3) + O2().irrep("det") + O2().trivial(),
        CubeGroup().irrep("E") + CubeGroup().irrep("T2"),
        CubeGroup().regular(),
        CyclicGroup(5).irrep(2) + CyclicGroup(5).trivial(),
        GridTranslations(3, 4).irrep((1, 1)) + GridTranslations(3, 4).irrep((0, 2)),
        GridTranslations(2, 3).regular(),
        SymmetricGroup(3).irrep((2, 1)) + SymmetricGroup(3).irrep((1, 1, 1)),
    ],
    ids=repr,
)
def test_matrices_compile_without_graph_breaks(rep: Representation, backend: str) -> None:
    torch.compiler.reset()
    g = rep.group.sample(3, torch.Generator().manual_seed(0))
    compiled = torch.compile(lambda g: rep(g), backend=backend, fullgraph=True)
    torch.testing.assert_close(compiled(g), rep(g))


@pytest.mark.parametrize("group", [DihedralGroup(4), CubeGroup(), O2()], ids=repr)
def test_elements_out_of_range_are_still_refused_where_they_can_be_seen(group: Group) -> None:
    outside = (0.0, 2) if group.order is None else group.order
    with pytest.raises(ValueError, match=r"lie in 0|must be 0 or 1"):
        group.check(outside)
