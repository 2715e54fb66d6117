"""SO(n), O(n) and the Lorentz group: elements, exponentials, logarithms, Haar measure."""

import math
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import expm

from equikernels.group import SO2, SO3, Group, Lorentz, Orthogonal, SpecialOrthogonal
from equikernels.testing.strategies import random_orthogonal

ETA = np.diag([1.0, -1, -1, -1])
L = Lorentz()
dimensions = st.integers(2, 6)
every_group = st.one_of(dimensions.map(SpecialOrthogonal), dimensions.map(Orthogonal), st.just(L))
seeds = st.integers(0, 2**31)


def draw(group: Group, seed: int, count: int = 3) -> torch.Tensor:
    return group.sample(count, generator=torch.Generator().manual_seed(seed))


def metric(group: Group) -> np.ndarray:
    return ETA if group == L else np.eye(group.lie_dim and group.identity.shape[-1])


def planes_turned(n: int, angles: list[float], seed: int) -> torch.Tensor:
    """A rotation with known plane angles, in random planes."""
    q = random_orthogonal(n, seed)
    log = np.zeros((n, n))
    for k, angle in enumerate(angles):
        log[2 * k + 1, 2 * k], log[2 * k, 2 * k + 1] = angle, -angle
    return torch.as_tensor(q @ expm(log) @ q.T)


# -- the group ---------------------------------------------------------------------------------


@given(every_group, seeds)
def test_samples_are_elements_and_obey_the_group_laws(group: Group, seed: int) -> None:
    g, h, k = draw(group, seed)
    size = float(max(x.abs().max() for x in (g, h, k))) ** 3  # boosts are large
    eta = metric(group)
    np.testing.assert_allclose(g.numpy().T @ eta @ g.numpy(), eta, atol=1e-13 * size)
    product = group.compose(g, h)
    np.testing.assert_allclose(product, g.numpy() @ h.numpy(), atol=1e-13 * size)
    np.testing.assert_allclose(group.compose(product, k), group.compose(g, group.compose(h, k)),
                               atol=1e-12 * size)  # fmt: skip
    np.testing.assert_allclose(group.compose(g, group.inverse(g)), group.identity, atol=1e-12 * size)
    np.testing.assert_allclose(group.inverse(g), np.linalg.inv(g), atol=1e-12 * size)


@given(every_group, seeds)
def test_exp_is_the_matrix_exponential_of_the_basis(group: Group, seed: int) -> None:
    rng = np.random.default_rng(seed)
    a = rng.uniform(-2, 2, group.lie_dim)
    x = group.defining().generators
    np.testing.assert_allclose(group.exp(a), expm(np.tensordot(a, x, 1)), atol=1e-11)
    np.testing.assert_array_equal(x, group.irrep_generators(group.check_label(1)))
    bracket = np.einsum("iab,jbc->ijac", x, x)
    bracket = bracket - bracket.transpose(1, 0, 2, 3)
    np.testing.assert_array_equal(np.einsum("ijk,kab->ijab", group.structure_constants, x), bracket)


@pytest.mark.parametrize("n", range(2, 7))
def test_the_basis_of_rotations_turns_axis_i_towards_axis_j(n: int) -> None:
    t = 0.3
    for k, (i, j) in enumerate(combinations(range(n), 2)):
        a = torch.zeros(n * (n - 1) // 2, dtype=torch.float64)
        a[k] = t
        turned = SpecialOrthogonal(n).exp(a)[:, i]
        expected = math.cos(t) * np.eye(n)[i] + math.sin(t) * np.eye(n)[j]
        np.testing.assert_allclose(turned, expected, atol=1e-15)
        np.testing.assert_array_equal(SpecialOrthogonal(n).exp(a), Orthogonal(n).exp(a))


def test_the_bases_of_two_and_three_dimensions_and_of_boosts() -> None:
    np.testing.assert_array_equal(SpecialOrthogonal(2).defining().generators, [[[0, -1], [1, 0]]])
    x, y, z = SO3().defining().generators
    np.testing.assert_allclose(SpecialOrthogonal(3).defining().generators, [z, -y, x], atol=1e-15)
    np.testing.assert_allclose(L.defining().generators[:3, 1:, 1:], [x, y, z], atol=1e-15)
    boost = L.exp([0.0, 0, 0, 0, 0.7, 0])
    np.testing.assert_allclose(boost[:, 0], [math.cosh(0.7), 0, math.sinh(0.7), 0], atol=1e-15)
    c = L.structure_constants  # J_x J_y J_z K_x K_y K_z
    assert (c[0, 1, 2], c[0, 4, 5], c[3, 4, 2]) == (1, 1, -1)
    assert L.is_compact is False
    assert SpecialOrthogonal(4).is_compact


@pytest.mark.parametrize("group", [SpecialOrthogonal(4), L], ids=repr)
def test_exp_and_irreps_differentiate(group: Group) -> None:
    a = torch.randn(2, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    a[1] = 0
    a.requires_grad_()
    assert torch.autograd.gradcheck(group.exp, (a,))
    rep = group.irrep((2, 1))
    assert torch.autograd.gradcheck(lambda a: rep(group.exp(a)), (a,))
    assert torch.autograd.gradgradcheck(lambda a: group.irrep((1, 1))(group.exp(a)), (a[:1],))
    jacobian = torch.autograd.functional.jacobian(lambda a: rep(group.exp(a)), a.detach()[1])
    np.testing.assert_allclose(jacobian.permute(2, 0, 1), rep.generators, atol=1e-12)


# -- logarithms --------------------------------------------------------------------------------

interesting = st.one_of(
    st.sampled_from([0.0, math.pi, math.pi - 1e-9, math.pi - 1e-5, 1e-9, 1e-5, 1.0, math.pi / 2]),
    st.floats(0, math.pi),
)


@given(st.integers(2, 7), st.data(), seeds)
def test_log_of_rotations_is_a_shortest_one(n: int, data: st.DataObject, seed: int) -> None:
    """At half turns, equal and tiny angles too: the tolerance is the rounding of a few matrix products."""
    group = SpecialOrthogonal(n)
    angles = [data.draw(interesting) for _ in range(n // 2)]
    if data.draw(st.booleans()):
        angles = [angles[0]] * (n // 2)
    g = planes_turned(n, angles, seed)
    a = group.log(g)
    np.testing.assert_allclose(group.exp(a), g, atol=1e-13)
    # Angles are read off sines and cosines: absolute rounding everywhere.
    assert abs(float(a.norm()) - float(np.linalg.norm(angles))) < 1e-12
    assert float(group.length(g)) <= group.diameter
    np.testing.assert_allclose(group.length(g), a.norm(), atol=1e-12)
    np.testing.assert_array_equal(Orthogonal(n).log(g), a)


@given(seeds, st.floats(0, 3.1))
def test_log_inverts_exp_inside_the_injectivity_radius(seed: int, radius: float) -> None:
    for group in (SpecialOrthogonal(2 + seed % 5), L):
        a = torch.as_tensor(np.random.default_rng(seed).standard_normal(group.lie_dim))
        a = radius * a / a.norm()
        np.testing.assert_allclose(group.log(group.exp(a)), a, atol=1e-9)
        assert group.injectivity_radius == math.pi


def test_half_turns_of_every_plane_have_the_length_of_the_diameter() -> None:
    for n in range(2, 7):
        group = SpecialOrthogonal(n)
        g = torch.diag(torch.tensor([-1.0] * (2 * (n // 2)) + [1.0] * (n % 2), dtype=torch.float64))
        assert float(group.length(g)) == pytest.approx(group.diameter, rel=1e-15)
        assert group.diameter == pytest.approx(math.pi * math.sqrt(n // 2))
        lengths = group.length(draw(group, n, 200))
        assert float(lengths.max()) <= group.diameter


@given(
    seeds,
    st.sampled_from([0.0, 1e-9, 1e-4, 1.0, math.pi - 1e-6, math.pi]),
    st.sampled_from([0.0, 1e-9, 2.0]),
    st.floats(0, 1.5),
)
def test_log_of_lorentz_transformations(seed: int, angle: float, rapidity: float, move: float) -> None:
    """A turn about an axis times a boost along it, moved by another boost: every class but the parabolic."""
    rng = np.random.default_rng(seed)
    axis, direction = (v / np.linalg.norm(v) for v in rng.standard_normal((2, 3)))
    canonical = L.exp(np.concatenate([angle * axis, rapidity * axis]))
    boost = L.exp(np.concatenate([np.zeros(3), move * direction]))
    g = L.compose(L.compose(boost, canonical), L.inverse(boost))
    a = L.log(g)
    # Entries reach e^(rapidity + 2 move) < e^5, and a rounding moves the logarithm by as much again.
    np.testing.assert_allclose(L.exp(a), g, atol=1e-8)
    turn, push = a[:3].numpy(), a[3:].numpy()
    np.testing.assert_allclose(push @ push - turn @ turn, rapidity**2 - angle**2, atol=1e-8)
    if move == 0 and angle < 3:
        np.testing.assert_allclose(a, np.concatenate([angle * axis, rapidity * axis]), atol=1e-12)


def test_log_of_parabolic_and_of_many_lorentz_transformations() -> None:
    null = torch.tensor([0.0, 0.8, 0, 0, 0, 0.8], dtype=torch.float64)  # J_y + K_z
    null = torch.stack([null, torch.tensor([0.5, 0, 0, 0, 0.5, 0], dtype=torch.float64)])
    np.testing.assert_allclose(L.exp(L.log(L.exp(null))), L.exp(null), atol=1e-13)
    g = draw(L, 0, 200).reshape(4, 50, 4, 4)
    a = L.log(g)
    assert a.shape == (4, 50, 6)
    size = g.abs().amax((-2, -1))[..., None, None]
    assert float(((L.exp(a) - g) / size**2).abs().max()) < 1e-12
    a = 0.4 * torch.randn(3, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    a[2] = 0
    jacobian = torch.autograd.functional.jacobian(lambda a: L.log(L.exp(a)).sum(0), a)
    np.testing.assert_allclose(jacobian.permute(1, 0, 2), torch.eye(6).expand(3, 6, 6), atol=1e-10)


# -- Haar measure ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "group", [*map(SpecialOrthogonal, range(2, 6)), *map(Orthogonal, range(2, 6))], ids=repr
)
def test_samples_follow_the_haar_measure(group: Group) -> None:
    """E[g_ij g_kl] = delta / n, also after a fixed translation; entries are at most 1, so each mean of 40 000
    has a standard error below 1/200, and six of those are allowed. n = 2 has V x V = 2 (1) + (2): two
    invariants, so its moments are those of (cos, sin)."""
    n, count = group.n, 40_000
    g = draw(group, 3, count)
    for sample in (g, draw(group, 4, 1) @ g):
        entries = sample.flatten(1)
        moments = (entries.mT @ entries / count).reshape(n, n, n, n).numpy()
        expected = np.einsum("ik,jl->ijkl", np.eye(n), np.eye(n)) / n
        if group == SpecialOrthogonal(2):
            j = np.array([[0.0, -1], [1, 0]])
            expected = (np.einsum("ij,kl->ijkl", np.eye(2), np.eye(2)) + np.einsum("ij,kl->ijkl", j, j)) / 2
        assert np.abs(moments - expected).max() < 6 / math.sqrt(count)
        assert float(sample.mean(0).abs().max()) < 6 / math.sqrt(count)
        # The square of the trace counts the irreps of V; its fourth power is at most 2 x (number in V x V).
        complex_type = 2 if group == SpecialOrthogonal(2) else 1
        trace = sample.diagonal(dim1=-2, dim2=-1).sum(-1)
        assert abs(float(trace.square().mean()) - complex_type) < 6 * 3 / math.sqrt(count)
    mean = float(torch.linalg.det(g).mean())
    assert (
        mean == pytest.approx(1) if isinstance(group, SpecialOrthogonal) else abs(mean) < 6 / math.sqrt(count)
    )


def test_lorentz_samples_turn_uniformly_and_boost_normally() -> None:
    count = 40_000
    g = draw(L, 5, count)
    rapidity = torch.acosh(g[:, 0, 0].clamp(min=1))
    assert abs(float(rapidity.square().mean()) - 1) < 6 * math.sqrt(2 / count)
    assert abs(float(rapidity.mean()) - math.sqrt(2 / math.pi)) < 6 / math.sqrt(count)
    direction = g[:, 0, 1:] / torch.sinh(rapidity)[:, None]
    np.testing.assert_allclose(direction.mT @ direction / count, np.eye(3) / 3, atol=6 / math.sqrt(count))
    assert float(direction.mean(0).abs().max()) < 6 / math.sqrt(count)


def test_samples_are_seeded_and_have_the_dtype_asked_for() -> None:
    for group in (SpecialOrthogonal(4), Orthogonal(3), L):
        assert torch.equal(draw(group, 1), draw(group, 1))
        for dtype in (torch.float32, torch.bfloat16):
            assert group.check(group.sample(5, dtype=dtype)).dtype == dtype
        assert group.exp(torch.zeros(group.lie_dim, dtype=torch.float16)).dtype == torch.float16
        assert group.sample(0).shape == (0, *group.identity.shape)


@pytest.mark.parametrize("shape", [(), (0,), (4,), (2, 3)])
def test_batches(shape: tuple[int, ...]) -> None:
    for group in (SpecialOrthogonal(4), L):
        g = draw(group, 6, math.prod(shape)).reshape(*shape, 4, 4)
        assert group.batch_shape(g) == shape
        assert len(group.unbind(g)) == math.prod(shape)
        assert group.log(g).shape == (*shape, 6)
        rep = group.irrep((2, 1)) + group.trivial()
        assert rep(g).shape == (*shape, rep.dim, rep.dim)
        for one, matrix in zip(group.unbind(g), rep(g).reshape(-1, rep.dim, rep.dim), strict=True):
            torch.testing.assert_close(rep(one), matrix, atol=1e-11, rtol=1e-12)


def test_transforms_and_compilation() -> None:
    for group, label in ((SpecialOrthogonal(4), (1, -1)), (Orthogonal(5), ((1, 1), 1)), (L, (1, 1))):
        g, rep = draw(group, 8), group.irrep(label)
        torch.testing.assert_close(torch.func.vmap(rep)(g), rep(g))
        assert torch.func.jacrev(rep)(g[0]).shape == (rep.dim, rep.dim, *g.shape[-2:])
        a = 0.3 * torch.ones(2, group.lie_dim, dtype=torch.float64)
        traced = torch.compile(lambda a, rep=rep, group=group: rep(group.exp(a)), backend="eager")
        torch.testing.assert_close(traced(a), rep(group.exp(a)))


# -- what is refused ---------------------------------------------------------------------------

S4, O4 = SpecialOrthogonal(4), Orthogonal(4)
with_gradient = torch.eye(4, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: SpecialOrthogonal(1), ValueError, "n must be an integer >= 2"),
        (lambda: SpecialOrthogonal(True), TypeError, "got True"),
        (lambda: Orthogonal(3.0), TypeError, "n must be an integer >= 2"),
        (lambda: S4.check(np.eye(3)), ValueError, r"shape \(\.\.\., 4, 4\), got \(3, 3\)"),
        (lambda: S4.check(np.eye(4, dtype=int)), TypeError, "floating"),
        (lambda: S4.check(1.1 * np.eye(4)), ValueError, r"elements of SO\(4\) must be orthogonal"),
        (lambda: S4.check(np.full((4, 4), np.nan)), ValueError, "NaN or infinite"),
        (lambda: S4.check(np.diag([-1.0, 1, 1, 1])), ValueError, r"determinant \+1, got -1; O\(4\)"),
        (lambda: S4.exp([0.0]), ValueError, r"shape \(\.\.\., 6\)"),
        (lambda: S4.log(with_gradient), ValueError, "no derivative: detach"),
        (lambda: S4.length(with_gradient), ValueError, "no derivative: detach"),
        (lambda: torch.func.vmap(S4.log)(torch.eye(4)[None]), ValueError, "cannot be compiled"),
        (lambda: S4.quadrature(), ValueError, "degree must be an integer >= 0, got None"),
        (lambda: S4.word_length(np.eye(4)), ValueError, "no words"),
        (lambda: O4.log(np.diag([-1.0, 1, 1, 1])), ValueError, "determinant -1 have no logarithm"),
        (lambda: O4.length(np.eye(4)), ValueError, "no one length"),
        (lambda: O4.diameter, ValueError, "no one length"),
        (lambda: O4.conjugates(), ValueError, 'generators="given"'),
        (lambda: L.check(np.eye(3)), ValueError, r"shape \(\.\.\., 4, 4\)"),
        (lambda: L.check(2 * np.eye(4)), ValueError, "preserve the metric"),
        (lambda: L.check(np.full((4, 4), np.inf)), ValueError, "NaN or infinite"),
        (lambda: L.check(np.diag([-1.0, -1, 1, 1])), ValueError, "reverses time"),
        (lambda: L.check(np.diag([1.0, -1, 1, 1])), ValueError, r"determinant \+1, got -1"),
        (lambda: L.length(np.eye(4)), ValueError, "not compact"),
        (lambda: L.diameter, ValueError, "not compact"),
        (lambda: L.quadrature(2), ValueError, "no quadrature"),
        (lambda: L.regular(2), ValueError, "not compact"),
    ],
)  # fmt: skip
def test_bad_values_are_named(call, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_equal_groups_are_equal() -> None:
    assert SpecialOrthogonal(np.int64(4)) == S4 != O4
    assert hash(SpecialOrthogonal(4)) == hash(S4)
    assert [repr(group) for group in (S4, O4, L)] == ["SpecialOrthogonal(4)", "Orthogonal(4)", "Lorentz()"]
    assert SpecialOrthogonal(2) != SO2()
