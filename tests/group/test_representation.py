"""Representations: normal form, sums, batches, identity."""

import copy
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from equikernels.group import SO2, SO3, CyclicGroup, PermutationRepresentation, Representation, pixel_grid
from equikernels.testing.strategies import group_elements, groups, random_orthogonal, representations


@given(st.data())
def test_homomorphism_orthogonality_and_identity(data: st.DataObject) -> None:
    group = data.draw(groups)
    rep = data.draw(representations(group))
    g, h = data.draw(group_elements(group)), data.draw(group_elements(group))
    eye = torch.eye(rep.dim, dtype=torch.float64)
    torch.testing.assert_close(rep(g) @ rep(h), rep(group.compose(g, h)), atol=1e-11, rtol=0)
    torch.testing.assert_close(rep(g) @ rep(g).mT, eye, atol=1e-11, rtol=0)
    torch.testing.assert_close(rep(group.identity), eye, atol=1e-12, rtol=0)


@given(st.data())
def test_generators_are_derivatives_and_discrete_ones_are_matrices(data: st.DataObject) -> None:
    group = data.draw(groups)
    rep = data.draw(representations(group))
    if group.lie_dim:
        derivative = torch.func.jacfwd(lambda t: rep(group.exp(t[None])))(
            torch.zeros((), dtype=torch.float64)
        )
        np.testing.assert_allclose(rep.generators[0], derivative, atol=1e-11)
    assert rep.generators.shape == (group.lie_dim, rep.dim, rep.dim)
    assert len(rep.discrete) == len(group.discrete_elements)
    for matrix, difference, element in zip(
        rep.discrete, rep.forward_differences, group.discrete_elements, strict=True
    ):
        np.testing.assert_allclose(matrix, rep(element), atol=1e-12)
        np.testing.assert_allclose(difference, rep(element) - torch.eye(rep.dim), atol=1e-12)
    np.testing.assert_array_equal(rep.constraints, np.concatenate([rep.generators, rep.forward_differences]))


@given(st.data())
def test_sums_and_multiples_are_block_diagonal(data: st.DataObject) -> None:
    group = data.draw(groups)
    a, b = data.draw(representations(group)), data.draw(representations(group))
    g = data.draw(group_elements(group))
    expected = torch.block_diag(a(g), b(g), b(g))
    torch.testing.assert_close((a + 2 * b)(g), expected, atol=1e-11, rtol=0)


@given(st.data())
def test_decompose_sorts_irreps_and_keeps_the_matrices(data: st.DataObject) -> None:
    group = data.draw(groups)
    rep = data.draw(representations(group))
    g = data.draw(group_elements(group))
    sorted_form = rep.decompose()
    labels = [group.label_order(label) for label, _ in sorted_form.irreps]
    assert labels == sorted(set(labels))
    torch.testing.assert_close(sorted_form(g), rep(g), atol=1e-11, rtol=0)


@given(st.integers(1, 12), st.lists(st.integers(1, 12), min_size=1, max_size=4), st.randoms())
def test_permutation_normal_form_reproduces_the_permutation(n: int, lengths: list[int], random) -> None:
    """Orbits of every length that divides n, in random order."""
    lengths = [length for length in lengths if n % length == 0] or [1]
    points = list(range(sum(lengths)))
    random.shuffle(points)
    source = np.empty(len(points), dtype=int)
    start = 0
    for length in lengths:
        orbit = points[start : start + length]
        source[orbit] = np.roll(orbit, 1)
        start += length
    rep = PermutationRepresentation(CyclicGroup(n), source)
    normal = Representation(rep.group, rep.irreps, rep.change_of_basis)
    for j in range(n):
        torch.testing.assert_close(normal(j), rep(j), atol=1e-12, rtol=0)
        x = torch.randn(rep.dim, dtype=torch.float64)
        assert torch.equal(rep(j) @ x, x[rep.sources[j].copy()])


def test_batches_dtypes_and_gradients() -> None:
    rep = 2 * SO2().irrep(1) + SO2().irrep(3) + SO2().trivial()
    theta = torch.randn(4, 5, dtype=torch.float32, requires_grad=True)
    rho = rep(theta)
    assert rho.shape == (4, 5, 7, 7)
    assert rho.dtype == torch.float32
    torch.testing.assert_close(rho[2, 3].double(), rep(theta[2, 3].item()), atol=1e-5, rtol=0)
    assert rep(theta, dtype=torch.float64).dtype == torch.float64
    assert rep(0.5).dtype == torch.float64
    assert rep(torch.zeros(0)).shape == (0, 7, 7)
    assert torch.autograd.gradcheck(
        lambda t: rep(t), torch.tensor([0.3, 2.0], dtype=torch.float64, requires_grad=True)
    )
    cyclic = CyclicGroup(6).regular()
    assert cyclic(torch.arange(6).reshape(2, 3)).shape == (2, 3, 6, 6)
    assert cyclic(1, dtype=torch.float16).dtype == torch.float16
    batched = torch.func.vmap(lambda t: rep(t))(theta.detach().flatten())
    torch.testing.assert_close(batched, rep(theta.detach().flatten()))


def test_half_precision_angles_keep_the_turn() -> None:
    """Frequency 40 at 3 radians is 120 radians: far beyond what half precision resolves."""
    theta = torch.tensor(3.0, dtype=torch.float16)
    rho = SO2().irrep(40)(theta)
    assert rho.dtype == torch.float16
    torch.testing.assert_close(rho.double(), SO2().irrep(40)(3.0), atol=2e-3, rtol=0)


def test_representations_are_immutable_hashable_and_copyable() -> None:
    a = 2 * SO2().irrep(1) + SO2().trivial()
    b = Representation.from_irreps(SO2(), "2x1+0")
    assert a == b
    assert hash(a) == hash(b)
    assert a != SO2().trivial() + 2 * SO2().irrep(1)
    assert repr(a) == "2 [1] + [0] of SO(2)"
    with pytest.raises(AttributeError, match="immutable"):
        a.dim = 3
    with pytest.raises(ValueError, match="read-only"):
        a.generators[0, 0, 0] = 1.0
    for other in (copy.deepcopy(a), pickle.loads(pickle.dumps(a))):
        assert other == a
        assert torch.equal(other(0.3), a(0.3))


def test_change_of_basis_belongs_to_the_identity_of_a_representation() -> None:
    q = random_orthogonal(2, 0)
    turned = Representation(SO2(), [(1, 1)], q)
    assert turned != SO2().irrep(1)
    assert turned == Representation(SO2(), [(1, 1)], torch.tensor(q))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (np.array([0, 0, 1]), "permutation"),
        (np.array([1, 0, 2]), "relations of C_3"),
        (np.array([0.0, 1.0]), "integers"),
        (np.eye(3, dtype=int), "integers"),
    ],
)
def test_bad_permutations_are_refused(source: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PermutationRepresentation(CyclicGroup(3), source)


@pytest.mark.parametrize(
    "rep",
    [pixel_grid(4, SO2()), SO2().irrep(1) + SO2().trivial(), SO3().irrep(2) + SO3().defining()],
    ids=repr,
)
def test_matrices_compile_without_graph_breaks(rep: Representation) -> None:
    elements = rep.group.sample(3, generator=torch.Generator().manual_seed(0))
    compiled = torch.compile(lambda g: rep(g), backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(elements), rep(elements))
