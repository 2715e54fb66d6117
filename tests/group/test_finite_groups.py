"""Words in finite groups; laws and irreps that all of them share; permutations and translations."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from equikernels.group import SO2, CyclicGroup, DihedralGroup, DirectProduct, Group, MatrixGroup
from equikernels.group.cube import CubeGroup
from equikernels.group.symmetric import SymmetricGroup
from equikernels.group.translations import GridTranslations
from equikernels.group.words import (
    breadth_first,
    canonical_word,
    cayley_table,
    element_index,
    word_lengths,
    word_product,
)

small_groups: list[Group] = [
    *(CyclicGroup(n) for n in (1, 2, 3, 4, 7, 12)),
    *(DihedralGroup(n) for n in (1, 2, 3, 4, 7)),
    CubeGroup(),
    *(SymmetricGroup(n) for n in (1, 2, 3, 4)),
    *(GridTranslations(*size) for size in ((1,), (1, 2), (3,), (4, 3), (2, 6))),
]
other_groups: list[Group] = [
    DirectProduct(DihedralGroup(3), CyclicGroup(4)),
    DirectProduct(SymmetricGroup(3), GridTranslations(2)),
    MatrixGroup(elements=CubeGroup().matrices[[1, 4]]),
]
"""Finite groups whose elements are tuples or matrices."""
new_groups = [group for group in small_groups if not isinstance(group, (CyclicGroup, DihedralGroup))]


def key(group: Group, element) -> tuple[int, ...]:
    """One element as a tuple of Python integers: that of its numbers where it is none itself."""
    if group in other_groups:
        element = group.numbers(group.check(element))
    return tuple(torch.as_tensor(element).reshape(-1).tolist())


def shortest_words(group: Group) -> dict[tuple[int, ...], tuple[int, ...]]:
    """Every element's first shortest word, found by writing down all words in order, length by length."""
    generators = range(1, len(group.discrete_elements) + 1)
    letters = [letter for k in generators for letter in (k, -k)]
    found = {key(group, group.identity): ()}
    level = [()]
    while len(found) < group.order:
        level = [(*word, letter) for word in level for letter in letters]
        new = []
        for word in level:
            spelt = key(group, word_product(group, word))
            if spelt not in found:
                found[spelt] = word
                new.append(word)
        # Words that reach nothing new begin no shortest word.
        level = new
    return found


# -- words ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("group", small_groups + other_groups, ids=repr)
def test_canonical_words_are_the_first_shortest_ones(group: Group) -> None:
    expected = shortest_words(group)
    lengths = word_lengths(group)
    for position, g in enumerate(group.unbind(group.elements())):
        word = canonical_word(group, g)
        assert word == expected[key(group, g)]
        assert key(group, word_product(group, word)) == key(group, g)
        assert len(word) == lengths[position] == int(group.word_length(g))
    assert lengths.max() == group.diameter


@pytest.mark.parametrize("group", small_groups, ids=repr)
def test_cayley_table_multiplies_by_letters(group: Group) -> None:
    table = cayley_table(group)
    elements = group.unbind(group.elements())
    letters = [letter for s in group.discrete_elements for letter in (s, group.inverse(s))]
    assert table.shape == (group.order, len(letters))
    for i, k in itertools.product(range(group.order), range(len(letters))):
        assert key(group, elements[table[i, k]]) == key(group, group.compose(elements[i], letters[k]))


@pytest.mark.parametrize("n", [6_000, 100_000])
def test_large_groups_agree_with_their_closed_forms(n: int) -> None:
    """Large enough that the search is compiled."""
    for group in (CyclicGroup(n), DihedralGroup(n // 2)):
        lengths = word_lengths(group)
        np.testing.assert_array_equal(lengths, group.word_length(group.elements()))
        assert not lengths.flags.writeable
    assert canonical_word(CyclicGroup(n), n - 3) == (-1, -1, -1)
    # Both ways round are as long: + comes first.
    assert canonical_word(CyclicGroup(n), n // 2) == (1,) * (n // 2)


def test_compiled_and_plain_search_give_the_same_tree() -> None:
    import numba

    table = cayley_table(CubeGroup())
    for plain, compiled in zip(breadth_first(table, 5), numba.njit(breadth_first)(table, 5), strict=True):
        np.testing.assert_array_equal(plain, compiled)


def test_elements_are_found_in_batches() -> None:
    positions = element_index(CyclicGroup(5), torch.tensor([[1, -1], [7, 0]]))
    np.testing.assert_array_equal(positions, [[1, 4], [2, 0]])


class _HalfGenerated(CyclicGroup):
    """C_n with a generator that does not generate it."""

    @property
    def discrete_elements(self) -> tuple[int, ...]:
        return (2,)


# -- laws that every group obeys -----------------------------------------------------------------


@pytest.mark.parametrize("group", new_groups, ids=repr)
def test_elements_form_a_group(group: Group) -> None:
    elements = group.unbind(group.elements())
    assert len({key(group, g) for g in elements}) == len(elements) == group.order
    assert key(group, elements[0]) == key(group, group.identity)
    for g in elements:
        assert (
            key(group, group.compose(g, group.identity))
            == key(group, group.compose(group.identity, g))
            == key(group, g)
        )
        assert key(group, group.compose(g, group.inverse(g))) == key(group, group.identity)
    a, b, c = (group.sample(200, generator=torch.Generator().manual_seed(seed)) for seed in range(3))
    assert torch.equal(group.compose(group.compose(a, b), c), group.compose(a, group.compose(b, c)))


@pytest.mark.parametrize("group", new_groups, ids=repr)
def test_irreps_are_orthogonal_homomorphisms(group: Group) -> None:
    elements = group.elements()
    for rep in (*group.irreps(), group.trivial(), group.defining(), group.regular()):
        rho = rep(elements)
        assert rho.shape == (group.order, rep.dim, rep.dim)
        for g, matrix in zip(group.unbind(elements), rho, strict=True):
            torch.testing.assert_close(matrix @ rho, rep(group.compose(g, elements)), atol=1e-12, rtol=0)
        torch.testing.assert_close(rho.mT @ rho, torch.eye(rep.dim).double().expand_as(rho))
        assert rep(elements, dtype=torch.float32).dtype == torch.float32
        assert rep.discrete.shape == (len(group.discrete_elements), rep.dim, rep.dim)


@pytest.mark.parametrize("group", new_groups, ids=repr)
def test_no_irrep_is_missing(group: Group) -> None:
    """Characters are orthogonal, and with their norms 1 (real type) or 2 (complex) account for the order."""
    irreps = group.irreps()
    characters = np.stack([rep(group.elements()).diagonal(dim1=1, dim2=2).sum(-1) for rep in irreps])
    gram = characters @ characters.T / group.order
    norms = [2 if isinstance(group, GridTranslations) and rep.dim == 2 else 1 for rep in irreps]
    np.testing.assert_allclose(gram, np.diag(norms), atol=1e-12)
    assert sum(rep.dim**2 / norm for rep, norm in zip(irreps, norms, strict=True)) == group.order
    regular = {rep.irreps[0][0]: rep.dim // norm for rep, norm in zip(irreps, norms, strict=True)}
    assert dict(group.regular().irreps) == regular


@pytest.mark.parametrize("group", new_groups, ids=repr)
def test_standard_representations_are_their_normal_form(group: Group) -> None:
    """Exact matrices (index maps) agree with the irreps and the basis that the representation shows."""
    for rep in (group.defining(), group.regular()):
        for g in group.unbind(group.elements()):
            blocks = torch.block_diag(*(group.irrep(label)(g) for label, m in rep.irreps for _ in range(m)))
            basis = rep.change_of_basis
            np.testing.assert_allclose(basis @ blocks.numpy() @ basis.T, rep(g), atol=1e-12)


@pytest.mark.parametrize("group", new_groups, ids=repr)
def test_regular_representation_multiplies_from_the_left(group: Group) -> None:
    rho = group.regular()(group.elements())
    elements = group.unbind(group.elements())
    for g, matrix in zip(elements, rho, strict=True):
        for h, column in zip(elements, matrix.mT, strict=True):
            expected = element_index(group, group.compose(g, h))
            assert float(column[expected]) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("group", new_groups, ids=repr)
def test_tensor_products_of_irreps_are_kronecker_products(group: Group) -> None:
    g = group.sample(3, generator=torch.Generator().manual_seed(1))
    for left, right in itertools.combinations_with_replacement(group.irreps(), 2):
        expected = torch.einsum("gij,gkl->gikjl", left(g), right(g))
        expected = expected.reshape(-1, left.dim * right.dim, left.dim * right.dim)
        torch.testing.assert_close((left @ right)(g), expected, atol=1e-11, rtol=0)


@pytest.mark.parametrize("group", new_groups, ids=repr)
def test_quadrature_leaves_the_trivial_part(group: Group) -> None:
    elements, weights = group.quadrature()
    for rep in group.irreps():
        mean = torch.einsum("g,gij->ij", weights, rep(elements))
        expected = torch.full_like(mean, float(rep == group.trivial()))
        torch.testing.assert_close(mean, expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("group", new_groups, ids=repr)
def test_conjugates_are_all_conjugates_of_the_generators(group: Group) -> None:
    elements = group.elements()
    found = set()
    for s in group.discrete_elements:
        conjugated = group.compose(group.compose(elements, s), group.inverse(elements))
        found |= {key(group, g) for g in group.unbind(conjugated)}
    conjugates = [key(group, g) for g in group.conjugates()]
    assert len(conjugates) == len(found)
    assert set(conjugates) == found


@pytest.mark.parametrize("group", [CubeGroup(), SymmetricGroup(3), GridTranslations(4, 3)], ids=repr)
def test_samples_hit_every_element_evenly(group: Group) -> None:
    samples = group.sample(1000 * group.order, generator=torch.Generator().manual_seed(0))
    counts = np.bincount(element_index(group, samples), minlength=group.order)
    assert np.abs(counts - 1000).max() < 6 * 32  # six standard deviations


# -- permutations --------------------------------------------------------------------------------


def partition_count(n: int) -> int:
    """Euler's recurrence: n p(n) = sum over k of sigma(k) p(n - k)."""
    if n == 0:
        return 1
    divisors = [sum(d for d in range(1, k + 1) if k % d == 0) for k in range(n + 1)]
    return sum(divisors[k] * partition_count(n - k) for k in range(1, n + 1)) // n


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 6])
def test_young_orthogonal_form_is_complete(n: int) -> None:
    G = SymmetricGroup(n)
    everything = G.elements()
    irreps = G.irreps()
    assert len(irreps) == partition_count(n)
    assert sum(rep.dim**2 for rep in irreps) == math.factorial(n)
    rho = [rep(everything) for rep in irreps]
    characters = torch.stack([r.diagonal(dim1=1, dim2=2).sum(-1) for r in rho])
    np.testing.assert_allclose(characters @ characters.T / G.order, np.eye(len(irreps)), atol=1e-12)
    partner = everything[torch.randperm(G.order, generator=torch.Generator().manual_seed(n))]
    for rep, first in zip(irreps, rho, strict=True):
        product = rep(G.compose(everything, partner))
        torch.testing.assert_close(first @ rep(partner), product, atol=1e-12, rtol=0)
        torch.testing.assert_close(first.mT, rep(G.inverse(everything)), atol=1e-12, rtol=0)
    labels = [rep.irreps[0][0] for rep in irreps]
    assert labels == sorted(labels, key=G.label_order)


@given(st.permutations(range(9)), st.permutations(range(9)))
def test_permutations_compose_as_maps_and_matrices(g: list[int], h: list[int]) -> None:
    """n = 9: beyond the sizes whose elements are listed."""
    G = SymmetricGroup(9)
    assert G.compose(g, h).tolist() == [g[h[i]] for i in range(9)]
    assert G.compose(g, G.inverse(g)).tolist() == list(range(9))
    rho = G.defining()
    for i in range(9):
        assert rho(g)[g[i], i] == 1
    assert torch.equal(rho(g) @ rho(h), rho(G.compose(g, h)))
    inversions = sum(a > b for a, b in itertools.combinations(g, 2))
    assert int(G.word_length(g)) == inversions
    assert float(G.sign()(g)) == (-1) ** inversions
    irrep = G.irrep((7, 2))
    torch.testing.assert_close(irrep(g) @ irrep(h), irrep(G.compose(g, h)), atol=1e-12, rtol=0)


def test_character_table_of_four_things() -> None:
    G = SymmetricGroup(4)
    classes = [(0, 1, 2, 3), (1, 0, 2, 3), (1, 0, 3, 2), (1, 2, 0, 3), (1, 2, 3, 0)]
    table = [[float(rep(g).trace()) for g in classes] for rep in G.irreps()]
    expected = [[1, 1, 1, 1, 1], [3, 1, -1, 0, -1], [2, 0, 2, -1, 0], [3, -1, -1, 0, 1], [1, -1, 1, 1, -1]]
    np.testing.assert_allclose(table, expected, atol=1e-12)


@pytest.mark.parametrize("m", [1, 2, 3, 4, 5])
def test_branching(m: int) -> None:
    G, H = SymmetricGroup(5), SymmetricGroup(m)
    inside = torch.cat([H.elements(), torch.arange(m, 5).expand(H.order, -1)], dim=1)
    for rep in G.irreps():
        torch.testing.assert_close(rep.restrict(H)(H.elements()), rep(inside), atol=1e-12, rtol=0)
    assert G.irrep((3, 2)).restrict(SymmetricGroup(4)).irreps == (((3, 1), 1), ((2, 2), 1))


def test_words_of_forty_thousand_permutations() -> None:
    G = SymmetricGroup(8)
    elements = G.elements()
    np.testing.assert_array_equal(word_lengths(G), G.word_length(elements))
    for g in elements[::5003]:
        assert torch.equal(word_product(G, canonical_word(G, g)), g)


# -- translations --------------------------------------------------------------------------------

translation_groups = st.builds(GridTranslations, st.integers(1, 6), st.integers(1, 6))


@given(translation_groups, st.tuples(st.integers(-20, 20), st.integers(-20, 20)))
def test_translations_roll_images(G: GridTranslations, g: tuple[int, int]) -> None:
    image = torch.randn(G.height, G.width, dtype=torch.float64)
    moved = (G.regular()(g) @ image.reshape(-1)).reshape(G.height, G.width)
    assert torch.equal(moved, torch.roll(image, g, (-2, -1)))


@given(translation_groups, st.tuples(st.integers(-9, 9), st.integers(-9, 9)), st.data())
def test_frequencies_turn_the_plane(G: GridTranslations, k: tuple[int, int], data: st.DataObject) -> None:
    g = data.draw(st.tuples(st.integers(0, G.height - 1), st.integers(0, G.width - 1)))
    opposite = (-k[0], -k[1] + G.width)
    assert G.check_label(k) == G.check_label(opposite)
    first, second = G.check_label(k)
    angle = 2 * math.pi * (first * g[0] / G.height + second * g[1] / G.width)
    c, s = math.cos(angle), math.sin(angle)
    rep = G.irrep(k)
    expected = [[c]] if rep.dim == 1 else [[c, -s], [s, c]]
    np.testing.assert_allclose(rep(g), expected, atol=1e-12)


@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.data())
def test_restrictions_of_translations(h: int, w: int, a: int, b: int, data: st.DataObject) -> None:
    G, H = GridTranslations(h * a, w * b), GridTranslations(h, w)
    rep = data.draw(st.sampled_from(G.irreps()))
    inside = H.elements() * torch.tensor([a, b])
    torch.testing.assert_close(rep.restrict(H)(H.elements()), rep(inside), atol=1e-12, rtol=0)


def test_a_square_of_translations() -> None:
    assert GridTranslations(3) == GridTranslations(3, 3) != GridTranslations(3, 4)
    assert len({GridTranslations(3), GridTranslations(3, 3), GridTranslations(4)}) == 2


# -- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: cayley_table(SO2()), ValueError, "infinite"),
        (lambda: word_lengths(CyclicGroup(1_000_001)), ValueError, "at most 1000000"),
        (lambda: word_lengths(_HalfGenerated(6)), ValueError, "do not generate"),
        (lambda: canonical_word(CyclicGroup(4), [1, 2]), ValueError, "one element"),
        (lambda: canonical_word(CubeGroup(), 24), ValueError, r"lie in 0 \.\. 23"),
        (lambda: word_product(DihedralGroup(4), (1, 3)), ValueError, r"letters .* \+-1 \.\. \+-2, got 3"),
        (lambda: word_product(CyclicGroup(4), (0,)), ValueError, "letters"),
        (lambda: SymmetricGroup(0), ValueError, "n must be an integer >= 1"),
        (lambda: SymmetricGroup(3).check([0, 1, 1]), ValueError, "exactly once"),
        (lambda: SymmetricGroup(3).check([0, 1]), ValueError, r"shape \(\.\.\., 3\)"),
        (lambda: SymmetricGroup(3).check([0.0, 1.0, 2.0]), TypeError, "integer images"),
        (lambda: SymmetricGroup(3).irrep((2, 2)), ValueError, "partition of 3"),
        (lambda: SymmetricGroup(3).irrep((1, 2)), ValueError, "partition of 3"),
        (lambda: SymmetricGroup(3).irrep("standard"), ValueError, "partition of 3"),
        (lambda: SymmetricGroup(9).elements(), ValueError, "n <= 8"),
        (lambda: SymmetricGroup(9).irreps(), ValueError, r"irrep\(partition\)"),
        (lambda: SymmetricGroup(7).regular(), ValueError, "n <= 6"),
        (lambda: SymmetricGroup(3).exp(0.1), ValueError, "no Lie algebra"),
        (lambda: SymmetricGroup(3).log((0, 1, 2)), ValueError, "no Lie algebra"),
        (lambda: SymmetricGroup(3).trivial().restrict(SymmetricGroup(4)), ValueError, "not a subgroup"),
        (lambda: SymmetricGroup(3).trivial().restrict(CyclicGroup(3)), ValueError, "not a subgroup"),
        (lambda: canonical_word(SymmetricGroup(3), SymmetricGroup(3).elements()), ValueError, "one element"),
        (lambda: GridTranslations(0), ValueError, "height must be an integer >= 1"),
        (lambda: GridTranslations(3, 2.5), ValueError, "width must be an integer >= 1"),
        (lambda: GridTranslations(3).check([1, 2, 3]), ValueError, r"shape \(\.\.\., 2\)"),
        (lambda: GridTranslations(3).check([0.5, 1.0]), TypeError, "integers"),
        (lambda: GridTranslations(3).irrep(1), ValueError, "pair of frequencies"),
        (lambda: GridTranslations(3).irrep((0.5, 1)), ValueError, "integer frequency"),
        (lambda: GridTranslations(3).exp(0.1), ValueError, "no Lie algebra"),
        (lambda: GridTranslations(3).log((0, 1)), ValueError, "no Lie algebra"),
        (lambda: GridTranslations(4).trivial().restrict(GridTranslations(3)), ValueError, "not a subgroup"),
    ],
)
def test_bad_values_are_named(call, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
