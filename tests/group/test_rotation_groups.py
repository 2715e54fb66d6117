"""SO(3) and O(3): rotations and reflections of space, real Wigner matrices, decomposed products."""

import math

import numpy as np
import pytest
import torch
from e3nn import o3 as peer
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import expm

from equikernels.group import SO2, CyclicGroup, DihedralGroup, Representation
from equikernels.group.clebsch_gordan import clebsch_gordan, product_basis
from equikernels.group.o3 import O3
from equikernels.group.so3 import SO3
from equikernels.group.wigner import wigner_matrix

G = SO3()
TO_HARMONICS = np.eye(3)[[1, 2, 0]]
coordinates = st.tuples(*[st.floats(-4, 4)] * 3).map(lambda a: torch.tensor(a, dtype=torch.float64))
rotations = coordinates.map(G.exp)
orthogonals = st.tuples(rotations, st.sampled_from([1.0, -1.0])).map(lambda pair: pair[0] * pair[1])
degrees = st.integers(0, 12)
cube_turns = [torch.tensor(m, dtype=torch.float64) for m in (np.eye(3), np.diag([1.0, -1, -1]), TO_HARMONICS)]


def defining_generators() -> np.ndarray:
    """L_k v = e_k x v, from the definition."""
    return np.stack([np.cross(np.eye(3)[k], np.eye(3)).T for k in range(3)])


def near(angle: float, n: int = 50) -> torch.Tensor:
    """Coordinates (n, 3) of one length in random directions."""
    a = torch.randn(n, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    return angle * a / a.norm(dim=-1, keepdim=True)


# -- elements ----------------------------------------------------------------------------------


@given(coordinates)
def test_exp_is_the_matrix_exponential(a: torch.Tensor) -> None:
    expected = expm(np.einsum("k,kij->ij", a.numpy(), defining_generators()))
    np.testing.assert_allclose(G.exp(a), expected, atol=1e-14)
    np.testing.assert_allclose(G.defining()(G.exp(a)), expected, atol=1e-14)


@given(rotations, rotations)
def test_elements_compose_and_invert(g: torch.Tensor, h: torch.Tensor) -> None:
    np.testing.assert_allclose(G.compose(g, h), g.numpy() @ h.numpy(), atol=1e-15)
    np.testing.assert_allclose(G.compose(g, G.inverse(g)), np.eye(3), atol=1e-14)
    torch.testing.assert_close(G.exp(G.log(g)), g, atol=1e-14, rtol=0)
    assert abs(float(G.length(g)) - float(G.log(g).norm())) < 1e-14
    cosine = (float(g.trace()) - 1) / 2
    assert abs(math.cos(float(G.length(g))) - cosine) < 1e-13


@pytest.mark.parametrize(
    "angle", [0.0, 1e-150, 1e-12, 1e-9, 1e-4, 2.4e-3, 0.02, 1.0, 3.0, math.pi - 1e-4, math.pi - 1e-9]
)
def test_log_inverts_exp(angle: float) -> None:
    a = near(angle)
    torch.testing.assert_close(G.log(G.exp(a)), a, atol=1e-15, rtol=1e-14)
    torch.testing.assert_close(
        G.length(G.exp(a)), torch.full((50,), angle, dtype=a.dtype), atol=0, rtol=1e-14
    )


def test_log_at_half_turns_is_either_logarithm() -> None:
    g = G.exp(near(math.pi))
    a = G.log(g)
    assert float(a.norm(dim=-1).max()) <= math.pi + 1e-15
    assert float(G.length(g).max()) <= G.diameter
    torch.testing.assert_close(G.exp(a), g, atol=1e-14, rtol=0)
    diagonal = torch.diag(torch.tensor([-1.0, -1.0, 1.0]))
    torch.testing.assert_close(G.log(diagonal).abs(), torch.tensor([0, 0, math.pi]))


@pytest.mark.parametrize("angle", [0.0, 1e-9, 1e-3, 2.0, 3.1])
def test_exp_and_log_differentiate(angle: float) -> None:
    a = near(angle, 2).requires_grad_()
    assert torch.autograd.gradcheck(G.exp, (a,))
    assert torch.autograd.gradgradcheck(G.exp, (a,))
    assert torch.autograd.gradcheck(lambda a: G.log(G.exp(a)), (a,))
    jacobian = torch.autograd.functional.jacobian(lambda a: G.log(G.exp(a)), a.detach()[0])
    torch.testing.assert_close(jacobian, torch.eye(3, dtype=a.dtype), atol=1e-12, rtol=0)


def test_length_has_a_gradient_at_the_identity() -> None:
    g = torch.eye(3, dtype=torch.float64, requires_grad=True)
    G.length(g).backward()
    assert bool(g.grad.isfinite().all())


def test_samples_follow_the_haar_measure() -> None:
    """Matrix entries of inequivalent irreps are orthogonal, with squared norm 1 / (2l + 1)."""
    n = 40_000
    g = G.sample(n, generator=torch.Generator().manual_seed(1))
    entries = torch.cat([G.irrep(k)(g).flatten(1) * math.sqrt(2 * k + 1) for k in range(3)], dim=1)
    moments = entries.mT @ entries / n
    torch.testing.assert_close(moments, torch.eye(35, dtype=g.dtype), atol=0.05, rtol=0)
    assert abs(float((G.length(g) - math.pi / 2 - 2 / math.pi).mean())) < 0.02


def test_o3_samples_both_components_evenly() -> None:
    g = O3().sample(20_000, generator=torch.Generator().manual_seed(2), dtype=torch.float32)
    assert g.dtype == torch.float32
    assert abs(float(torch.linalg.det(g).mean())) < 6 / math.sqrt(20_000)
    assert float(g.mean(0).abs().max()) < 6 / math.sqrt(20_000)


@given(coordinates, st.floats(-4, 4), st.floats(-4, 4))
def test_axis_angle_and_euler_angles(axis: torch.Tensor, s: float, t: float) -> None:
    axis = axis + torch.tensor([5.0, 0, 0])
    g = G.from_axis_angle(axis, s)
    torch.testing.assert_close(g @ axis, axis)
    torch.testing.assert_close(g, G.exp(s * axis / axis.norm()))
    z, y = (lambda t: G.exp([0.0, 0.0, t])), (lambda t: G.exp([0.0, t, 0.0]))
    torch.testing.assert_close(G.from_euler(s, t, 0.3), z(s) @ y(t) @ z(0.3))


# -- irreps ------------------------------------------------------------------------------------


@given(degrees, rotations, rotations)
def test_irreps_are_orthogonal_homomorphisms(k: int, g: torch.Tensor, h: torch.Tensor) -> None:
    rep = G.irrep(k)
    np.testing.assert_allclose(rep(g) @ rep(h), rep(G.compose(g, h)), atol=1e-10)
    np.testing.assert_allclose(rep(g) @ rep(g).mT, np.eye(2 * k + 1), atol=1e-10)
    np.testing.assert_allclose(rep(G.identity), np.eye(2 * k + 1), atol=1e-13)


@given(degrees, coordinates)
def test_irreps_are_exponentials_of_their_generators(k: int, a: torch.Tensor) -> None:
    expected = expm(np.einsum("k,kij->ij", a.numpy(), G.irrep_generators(k)))
    np.testing.assert_allclose(G.irrep(k)(G.exp(a)), expected, atol=1e-10)


@given(degrees, st.floats(0.1, 3.1), st.integers(0, 2**31))
def test_characters(k: int, angle: float, seed: int) -> None:
    axis = torch.randn(3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    trace = float(G.irrep(k)(G.from_axis_angle(axis, angle)).trace())
    assert abs(trace - math.sin((2 * k + 1) * angle / 2) / math.sin(angle / 2)) < 1e-10


@pytest.mark.parametrize("k", range(13))
def test_generators_satisfy_the_brackets_and_the_casimir(k: int) -> None:
    x = G.irrep_generators(k)
    assert x.shape == (3, 2 * k + 1, 2 * k + 1)
    assert np.array_equal(x, -x.transpose(0, 2, 1))
    for i in range(3):
        for j in range(3):
            expected = np.einsum("k,kab->ab", G.structure_constants[i, j], x)
            np.testing.assert_allclose(x[i] @ x[j] - x[j] @ x[i], expected, atol=1e-12)
    np.testing.assert_allclose(-(x @ x).sum(0), k * (k + 1) * np.eye(2 * k + 1), atol=1e-11)


@pytest.mark.parametrize("g", [*cube_turns, G.sample(1, torch.Generator().manual_seed(3))[0]])
def test_degree_one_is_the_matrix_on_y_z_x(g: torch.Tensor) -> None:
    assert torch.equal(G.defining()(g), g)
    assert torch.equal(O3().defining()(-g), -g)
    np.testing.assert_array_equal(G.irrep(1)(g), TO_HARMONICS @ g.numpy() @ TO_HARMONICS.T)


@given(rotations)
def test_degree_two_turns_the_quadratic_harmonics(g: torch.Tensor) -> None:
    def harmonics(v: torch.Tensor) -> torch.Tensor:
        x, y, z = v
        root = math.sqrt(3)
        return torch.stack([root * x * y, root * y * z, z * z - (x * x + y * y) / 2, root * x * z,
                            root / 2 * (x * x - y * y)])  # fmt: skip

    v = torch.tensor([0.3, -0.8, 0.7], dtype=torch.float64)
    np.testing.assert_allclose(harmonics(g @ v), G.irrep(2)(g) @ harmonics(v), atol=1e-13)


@pytest.mark.parametrize("k", range(7))
def test_agrees_with_e3nn(k: int) -> None:
    """e3nn's polar axis is y: its (x, y, z) are our (y, z, x), and its harmonics are ours in order."""
    angles = 6.3 * torch.rand(3, 200, dtype=torch.float64, generator=torch.Generator().manual_seed(k))
    g = G.from_euler(*angles)
    turn = torch.as_tensor(TO_HARMONICS)
    torch.testing.assert_close(turn @ g @ turn.mT, peer.angles_to_matrix(*angles), atol=1e-14, rtol=0)
    # It builds its generators in the default dtype.
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        expected = peer.wigner_D(k, *angles)
    finally:
        torch.set_default_dtype(before)
    torch.testing.assert_close(G.irrep(k)(g), expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("k", [0, 1, 2, 3, 6])
def test_gradients_at_the_identity_and_at_half_turns(k: int) -> None:
    """Where Euler angles have none. The derivative along a generator is the generator of the irrep."""
    for g in cube_turns:
        assert torch.autograd.gradcheck(
            lambda r: wigner_matrix(k, r) * r.sum(), (g.clone().requires_grad_(),)
        )
    a = torch.zeros(3, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda a: G.irrep(k)(G.exp(a)), a)
    np.testing.assert_allclose(jacobian.permute(2, 0, 1), G.irrep_generators(k), atol=1e-13)


def test_gradgradcheck_at_the_identity() -> None:
    a = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda a: G.irrep(3)(G.exp(a)), (a,))


@pytest.mark.parametrize("k", [1, 4, 8, 12])
def test_narrow_types(k: int) -> None:
    g = G.sample(500, generator=torch.Generator().manual_seed(4))
    exact = G.irrep(k)(g)
    single = G.irrep(k)(g.float())
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), exact, atol=4e-7 * (k + 1), rtol=0)
    half = G.irrep(k)(g.bfloat16())
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.double(), exact, atol=2e-2 * (k + 1), rtol=0)
    assert O3().irrep((k, -1))(g.bfloat16()).dtype == torch.bfloat16
    assert G.irrep(k)(g.float(), dtype=torch.float64).dtype == torch.float64
    for dtype in (torch.float16, torch.float32):
        assert G.log(G.exp(torch.ones(3, dtype=dtype))).dtype == dtype
        assert G.sample(2, dtype=dtype).dtype == dtype


@pytest.mark.parametrize("shape", [(), (0,), (4,), (2, 0), (2, 3)])
def test_batches(shape: tuple[int, ...]) -> None:
    count = math.prod(shape)
    g = G.sample(count, generator=torch.Generator().manual_seed(6)).reshape(*shape, 3, 3)
    for group, label in ((G, 3), (O3(), (3, -1))):
        rep = group.irrep(label) + group.trivial()
        assert rep(g).shape == (*shape, 8, 8)
        assert group.batch_shape(g) == shape
        assert len(group.unbind(g)) == count
        for one, matrix in zip(group.unbind(g), rep(g).reshape(-1, 8, 8), strict=True):
            torch.testing.assert_close(rep(one), matrix, atol=1e-14, rtol=0)
        assert group.log(g).shape == (*shape, 3)
        assert group.exp(group.log(g)).shape == g.shape
    assert G.length(g).shape == shape


def test_long_batches_are_cut_without_a_seam() -> None:
    g = G.sample(3000, generator=torch.Generator().manual_seed(7))
    together = G.irrep(6)(g)
    for i in (0, 610, 611, 612, 1500, 2999):
        torch.testing.assert_close(together[i], G.irrep(6)(g[i]), atol=1e-14, rtol=0)


def test_transforms_and_compilation() -> None:
    g = G.sample(5, generator=torch.Generator().manual_seed(8))
    for rep in (2 * G.irrep(2) + G.irrep(0), O3().irrep((2, -1))):
        expected = rep(g)
        torch.testing.assert_close(torch.func.vmap(rep)(g), expected)
        assert torch.func.jacrev(rep)(g[0]).shape == (rep.dim, rep.dim, 3, 3)
        tangent = torch.func.jvp(rep, (g[0],), (g[1],))[1]
        torch.testing.assert_close(tangent, torch.func.jacrev(rep)(g[0]).mul(g[1]).sum((-2, -1)))
    assert torch.func.vmap(lambda a: G.log(G.exp(a)))(near(1.0)).shape == (50, 3)
    traced = torch.compile(lambda a: wigner_matrix(3, G.exp(a)), backend="eager")
    torch.testing.assert_close(traced(near(1.0)), G.irrep(3)(G.exp(near(1.0))))


def test_representations_of_both_groups() -> None:
    assert [rep.dim for rep in G.irreps(3)] == [1, 3, 5, 7]
    assert [rep.dim for rep in O3().irreps(1)] == [1, 1, 3, 3]
    assert G.regular(2).dim == 1 + 9 + 25
    assert O3().regular(1).dim == 2 * (1 + 9)
    assert G.irrep("2o") == G.irrep(2)
    assert O3().irrep("2o") == O3().irrep((2, -1))
    assert Representation(O3(), [((1, -1), 2), ((0, 1), 1)]).decompose().irreps[0][0] == (0, 1)
    for rep in (G.regular(2), G.defining(), O3().regular(1), O3().defining()):
        assert max(rep.defects().values()) < 1e-12


# -- O(3) --------------------------------------------------------------------------------------


@given(degrees, st.sampled_from([1, -1]), orthogonals, orthogonals)
def test_o3_irreps_are_orthogonal_homomorphisms(
    k: int, parity: int, g: torch.Tensor, h: torch.Tensor
) -> None:
    rep = O3().irrep((k, parity))
    np.testing.assert_allclose(rep(g) @ rep(h), rep(O3().compose(g, h)), atol=1e-10)
    np.testing.assert_allclose(rep(g) @ rep(O3().inverse(g)), np.eye(2 * k + 1), atol=1e-10)
    np.testing.assert_allclose(rep.discrete, [parity * np.eye(2 * k + 1)], atol=1e-13)
    np.testing.assert_allclose(rep.restrict(SO3())(torch.linalg.det(g) * g), parity**(g.det() < 0) * rep(g),
                               atol=1e-10)  # fmt: skip
    assert np.array_equal(rep.generators, G.irrep(k).generators)


# -- subgroups ---------------------------------------------------------------------------------


@given(st.integers(0, 6), st.floats(-7, 7), st.integers(1, 9), st.integers(0, 20), st.data())
def test_restriction_to_turns_about_z(k: int, t: float, n: int, j: int, data: st.DataObject) -> None:
    rep = data.draw(st.sampled_from([G.irrep(k), O3().irrep((k, -1)), G.defining()]))
    turn = [0.0, 0.0, t]
    np.testing.assert_allclose(rep.restrict(SO2())(t), rep(G.exp(turn)), atol=1e-12)
    step = G.exp([0.0, 0.0, 2 * math.pi * j / n])
    np.testing.assert_allclose(rep.restrict(CyclicGroup(n))(j), rep(step), atol=1e-12)
    if rep == G.irrep(k):
        assert rep.restrict(SO2()).irreps == tuple((k, 1) for k in range(k + 1))
    assert rep.restrict(rep.group) == Representation(rep.group, rep.irreps, rep.change_of_basis)


# -- Clebsch-Gordan ----------------------------------------------------------------------------


@given(st.integers(0, 6), st.integers(0, 6), rotations)
def test_products_of_irreps_decompose(l1: int, l2: int, g: torch.Tensor) -> None:
    q = product_basis(l1, l2)
    np.testing.assert_allclose(q.T @ q, np.eye(len(q)), atol=1e-10)
    total = Representation(G, [(k, 1) for k in range(abs(l1 - l2), l1 + l2 + 1)], q)
    np.testing.assert_allclose(total(g), np.kron(G.irrep(l1)(g), G.irrep(l2)(g)), atol=1e-10)


@pytest.mark.parametrize(("l1", "l2"), [(12, 12), (12, 5), (1, 11)])
def test_clebsch_gordan_of_high_degrees(l1: int, l2: int) -> None:
    q = product_basis(l1, l2)
    np.testing.assert_allclose(q.T @ q, np.eye(len(q)), atol=1e-10)


def test_clebsch_gordan_signs() -> None:
    """Products of harmonics come out positive; the antisymmetric product is the cross product."""
    np.testing.assert_allclose(clebsch_gordan(1, 1, 0)[:, :, 0], np.eye(3) / math.sqrt(3), atol=1e-15)
    a, b = np.random.default_rng(0).standard_normal((2, 3))
    cross = TO_HARMONICS @ np.cross(a, b) / math.sqrt(2)
    product = np.einsum("abc,a,b->c", clebsch_gordan(1, 1, 1), TO_HARMONICS @ a, TO_HARMONICS @ b)
    np.testing.assert_allclose(product, cross, atol=1e-15)
    for k in range(7):
        np.testing.assert_allclose(clebsch_gordan(0, k, k)[0], np.eye(2 * k + 1), atol=1e-14)
    v = torch.nn.functional.normalize(torch.tensor([0.3, -0.5, 0.7], dtype=torch.float64), dim=0)
    y = [peer.spherical_harmonics(k, v[[1, 2, 0]], normalize=False).numpy() for k in range(7)]
    for l1, l2, l3 in ((1, 1, 2), (2, 2, 2), (2, 3, 5), (3, 3, 6), (1, 3, 2)):
        product = np.einsum("abc,a,b->c", clebsch_gordan(l1, l2, l3), y[l1], y[l2])
        ratio = product @ y[l3] / (y[l3] @ y[l3])
        assert ratio > 0.05
        np.testing.assert_allclose(product, ratio * y[l3], atol=1e-6)


def test_clebsch_gordan_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="read-only"):
        clebsch_gordan(1, 1, 0)[0, 0, 0] = 2.0


# -- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: G.check(np.eye(2)), ValueError, r"shape \(\.\.\., 3, 3\), got \(2, 2\)"),
        (lambda: G.check(0.5), ValueError, r"shape \(\.\.\., 3, 3\)"),
        (lambda: G.check(torch.eye(3, dtype=torch.int64)), TypeError, "floating, got torch.int64"),
        (lambda: G.check(1.1 * torch.eye(3)), ValueError, r"orthogonal, but \|R R\^T - I\| reaches 2.1e-01"),
        (lambda: G.check(torch.full((3, 3), math.nan)), ValueError, "NaN or infinite"),
        (lambda: G.check(torch.stack([torch.eye(3), -torch.eye(3)])), ValueError, r"determinant \+1, got -1"),
        (lambda: G.compose(torch.eye(3), -torch.eye(3)), ValueError, "determinant"),
        (lambda: G.exp(0.1), ValueError, r"a must have shape \(\.\.\., 3\)"),
        (lambda: G.exp([1, 2, 3]), TypeError, "floating"),
        (lambda: G.elements(), ValueError, "infinite"),
        (lambda: G.word_length(torch.eye(3)), ValueError, "no discrete generators"),
        (lambda: G.irrep(-1), ValueError, "degree l >= 0, got -1"),
        (lambda: G.irrep("1x"), ValueError, "degree l >= 0, got '1x'"),
        (lambda: G.irrep(1.0), ValueError, "degree l >= 0"),
        (lambda: G.irreps(), ValueError, "infinitely many"),
        (lambda: G.regular(), ValueError, "infinite"),
        (lambda: G.irrep(1).restrict(DihedralGroup(3)), ValueError, r"from SO\(3\) to D_3 is not known"),
        (lambda: G.irrep(1).restrict(O3()), ValueError, "not known"),
        (lambda: G.from_axis_angle([0.0, 0.0, 0.0], 1.0), ValueError, "axis must not be zero"),
        (lambda: O3().check(torch.ones(3, 3)), ValueError, r"elements of O\(3\) must be orthogonal"),
        (lambda: O3().log(-torch.eye(3)), ValueError, "no logarithm"),
        (lambda: O3().length(torch.eye(3)), ValueError, "no one length"),
        (lambda: O3().diameter, ValueError, "no one length"),
        (lambda: O3().irrep(1), ValueError, r"pair \(l, parity\)"),
        (lambda: O3().irrep((1, 0)), ValueError, r"parity \+1 or -1"),
        (lambda: O3().irrep((-1, 1)), ValueError, "degree l >= 0"),
        (lambda: O3().irrep("1"), ValueError, '"1o" or "0e"'),
        (lambda: O3().irrep((1, 1)).restrict(DihedralGroup(3)), ValueError, "not known"),
        (lambda: O3().regular(), ValueError, "infinite"),
        (lambda: clebsch_gordan(1, 1, 3), ValueError, r"l3 must lie in 0 \.\. 2"),
        (lambda: clebsch_gordan(1, -1, 0), ValueError, "l2 must be an integer degree"),
    ],
)  # fmt: skip
def test_bad_values_are_named(call, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
