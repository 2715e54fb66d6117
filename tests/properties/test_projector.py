"""What every projector must satisfy, over random groups, representations, operators and cut-offs."""

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given
from hypothesis import strategies as st

from equikernels.group import Representation
from equikernels.project import EquivariantProjector, Hard, InvariantProjector, Smooth, Softness
from equikernels.testing.strategies import (
    all_groups,
    cutoffs,
    group_elements,
    one_generator_groups,
    random_orthogonal,
    random_weight,
    representations,
    seeds,
)


@st.composite
def normal_matrices(draw: st.DrawFn, n: int) -> np.ndarray:
    """Normal matrices with repeated eigenvalues of every kind: real, complex pairs, zero, -2."""
    blocks, size = [], 0
    while size < n:
        kind = draw(st.sampled_from(["real", "pair", "skew", "unit"])) if size + 2 <= n else "real"
        a, b = draw(st.integers(-2, 2)), draw(st.integers(1, 3))
        if kind == "real":
            blocks.append(np.array([[float(a)]]))
        elif kind == "skew":
            blocks.append(np.array([[0.0, -b], [b, 0.0]]))
        elif kind == "pair":
            blocks.append(np.array([[a, -b], [b, a]], dtype=float))
        else:
            phi = 2 * np.pi * draw(st.integers(0, 6)) / 7
            blocks.append(np.array([[np.cos(phi) - 1, -np.sin(phi)], [np.sin(phi), np.cos(phi) - 1]]))
        size += blocks[-1].shape[0]
    q = random_orthogonal(n, draw(seeds))
    return q @ scipy.linalg.block_diag(*blocks) @ q.T


@given(st.data())
def test_spectral_equals_svd_on_random_normal_operators(data: st.DataObject) -> None:
    m, n = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 6))
    a, b = data.draw(normal_matrices(n)), data.draw(normal_matrices(m))
    cutoff = data.draw(cutoffs)
    fast = EquivariantProjector.from_operators([a], [b], cutoff, method="spectral")
    slow = EquivariantProjector.from_operators([a], [b], cutoff, method="svd")
    np.testing.assert_allclose(fast.spectrum, slow.spectrum, atol=1e-9)
    w = random_weight(2 * m, 3 * n, data.draw(seeds))
    torch.testing.assert_close(fast(w), slow(w), atol=1e-9, rtol=0)
    assert fast.dimension == pytest.approx(slow.dimension, abs=1e-6)


@given(st.data())
def test_spectral_equals_svd_on_representations(data: st.DataObject) -> None:
    group = data.draw(one_generator_groups)
    rep_in, rep_out = data.draw(representations(group)), data.draw(representations(group))
    cutoff = data.draw(cutoffs)
    fast = EquivariantProjector(rep_in, rep_out, cutoff)
    slow = EquivariantProjector(rep_in, rep_out, cutoff, method="svd")
    assert fast.method == "spectral"
    np.testing.assert_allclose(fast.spectrum, slow.spectrum, atol=1e-9)
    w = random_weight(rep_out.dim, rep_in.dim, data.draw(seeds))
    torch.testing.assert_close(fast(w), slow(w), atol=1e-9, rtol=0)


@given(st.data())
def test_self_adjoint_contracting_and_commuting_with_the_group(data: st.DataObject) -> None:
    group = data.draw(all_groups)
    rep_in, rep_out = data.draw(representations(group)), data.draw(representations(group))
    P = EquivariantProjector(rep_in, rep_out, data.draw(cutoffs))
    v = random_weight(rep_out.dim, rep_in.dim, data.draw(seeds))
    w = random_weight(rep_out.dim, rep_in.dim, data.draw(seeds))
    assert float((P(v) * w).sum()) == pytest.approx(float((v * P(w)).sum()), abs=1e-10)
    assert float(P(w).norm()) <= float(w.norm()) + 1e-12
    g = data.draw(group_elements(group))
    left, right = rep_out(g, torch.float64).mT, rep_in(g, torch.float64)
    torch.testing.assert_close(P(left @ w @ right), left @ P(w) @ right, atol=1e-10, rtol=0)


@given(st.data())
def test_true_projections_are_idempotent_with_an_orthonormal_basis(data: st.DataObject) -> None:
    group = data.draw(one_generator_groups)
    rep_in, rep_out = data.draw(representations(group, 1)), data.draw(representations(group, 1))
    cutoff = data.draw(
        st.one_of(st.floats(0, 6).map(Hard), st.floats(0, 1).map(lambda s: Softness(s, "down")))
    )
    for method in ("spectral", "svd"):
        P = EquivariantProjector(rep_in, rep_out, cutoff, method=method)
        assert P.is_projection
        w = random_weight(rep_out.dim, rep_in.dim, data.draw(seeds))
        torch.testing.assert_close(P(P(w)), P(w), atol=1e-11, rtol=0)
        basis = P.basis().flatten(1)
        assert basis.shape == (P.dimension, rep_out.dim * rep_in.dim)
        torch.testing.assert_close(
            basis @ basis.mT, torch.eye(len(basis), dtype=torch.float64), atol=1e-11, rtol=0
        )
        expected = (basis.mT @ (basis @ w.flatten())).reshape(w.shape)
        torch.testing.assert_close(P(w), expected, atol=1e-10, rtol=0)


@given(st.data())
def test_hard_projections_are_nested_and_end_at_the_identity(data: st.DataObject) -> None:
    group = data.draw(all_groups)
    rep_in, rep_out = data.draw(representations(group)), data.draw(representations(group))
    low, high = sorted((data.draw(st.floats(0, 6)), data.draw(st.floats(0, 6))))
    w = random_weight(rep_out.dim, rep_in.dim, data.draw(seeds))
    inner = EquivariantProjector(rep_in, rep_out, Hard(low))
    outer = EquivariantProjector(rep_in, rep_out, Hard(high))
    torch.testing.assert_close(outer(inner(w)), inner(w), atol=1e-11, rtol=0)
    for whole in (Hard(float("inf")), Softness(1), Smooth(100.0, 0.1)):
        torch.testing.assert_close(EquivariantProjector(rep_in, rep_out, whole)(w), w, atol=1e-11, rtol=0)


@given(st.data())
def test_a_change_of_basis_carries_the_projector_along(data: st.DataObject) -> None:
    group = data.draw(all_groups)
    rep_in, rep_out = data.draw(representations(group)), data.draw(representations(group))
    cutoff = data.draw(cutoffs)
    q_in = random_orthogonal(rep_in.dim, data.draw(seeds))
    q_out = random_orthogonal(rep_out.dim, data.draw(seeds))
    turned_in = Representation(group, rep_in.irreps, q_in @ rep_in.change_of_basis)
    turned_out = Representation(group, rep_out.irreps, q_out @ rep_out.change_of_basis)
    w = random_weight(rep_out.dim, rep_in.dim, data.draw(seeds))
    moved = torch.as_tensor(q_out) @ w @ torch.as_tensor(q_in.T)
    expected = (
        torch.as_tensor(q_out) @ EquivariantProjector(rep_in, rep_out, cutoff)(w) @ torch.as_tensor(q_in.T)
    )
    torch.testing.assert_close(
        EquivariantProjector(turned_in, turned_out, cutoff)(moved), expected, atol=1e-10, rtol=0
    )


@given(st.data())
def test_invariant_projector_is_the_trivial_case(data: st.DataObject) -> None:
    group = data.draw(one_generator_groups)
    rep = data.draw(representations(group))
    cutoff = data.draw(cutoffs)
    w = random_weight(4, 2 * rep.dim, data.draw(seeds))
    general = EquivariantProjector(rep, group.trivial(), cutoff)
    special = InvariantProjector(rep, cutoff)
    torch.testing.assert_close(special(w), general(w))
    torch.testing.assert_close(special(w[0]), general(w)[0])
    torch.testing.assert_close(special(w.reshape(2, 2, -1)), general(w).reshape(2, 2, -1))
    # The left singular vectors of A, as the definition says.
    u, sigma, _ = np.linalg.svd(rep.constraints[0])
    if isinstance(cutoff, Hard) and np.abs(sigma - cutoff.cutoff).min() > 1e-6:
        kept = u[:, sigma < cutoff.cutoff]
        np.testing.assert_allclose(
            special(w[:, : rep.dim]), w[:, : rep.dim].numpy() @ kept @ kept.T, atol=1e-9
        )


@given(st.data())
def test_channels_and_batches_are_projected_block_by_block(data: st.DataObject) -> None:
    group = data.draw(all_groups)
    rep_in, rep_out = data.draw(representations(group)), data.draw(representations(group))
    P = EquivariantProjector(rep_in, rep_out, data.draw(cutoffs))
    m, n = P.shape
    w = torch.randn(5, 2 * m, 3 * n, dtype=torch.float64)
    projected = P(w)
    for i in range(2):
        for j in range(3):
            rows, columns = slice(i * m, (i + 1) * m), slice(j * n, (j + 1) * n)
            torch.testing.assert_close(
                projected[:, rows, columns], P(w[:, rows, columns].contiguous()), atol=1e-11, rtol=0
            )


@given(st.data())
def test_gradient_is_the_projector_and_float32_follows_float64(data: st.DataObject) -> None:
    group = data.draw(all_groups)
    rep_in, rep_out = data.draw(representations(group)), data.draw(representations(group))
    P = EquivariantProjector(rep_in, rep_out, data.draw(cutoffs))
    w = random_weight(rep_out.dim, rep_in.dim, data.draw(seeds)).requires_grad_()
    cotangent = torch.randn_like(w)
    (gradient,) = torch.autograd.grad(P(w), w, cotangent)
    torch.testing.assert_close(gradient, P(cotangent), atol=1e-11, rtol=0)
    single = P(w.detach().float())
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), P(w.detach()), atol=2e-5, rtol=1e-5)


@given(st.data())
def test_softness_is_monotone_and_continuous(data: st.DataObject) -> None:
    group = data.draw(all_groups)
    rep_in, rep_out = data.draw(representations(group)), data.draw(representations(group))
    low, high = sorted((data.draw(st.floats(0, 1)), data.draw(st.floats(0, 1))))
    kind = data.draw(st.sampled_from(["fraction", "down", "up"]))
    inner = EquivariantProjector(rep_in, rep_out, Softness(low, kind))
    outer = EquivariantProjector(rep_in, rep_out, Softness(high, kind))
    w = random_weight(rep_out.dim, rep_in.dim, data.draw(seeds))
    # What more softness adds is a positive operator, with the trace that the counts say.
    assert float((w * (outer(w) - inner(w))).sum()) >= -1e-10
    assert inner.dimension <= outer.dimension + 1e-9
    if kind == "fraction":
        total = rep_in.dim * rep_out.dim
        zeros = inner.spectrum.zeros
        assert inner.dimension == pytest.approx(zeros + (total - zeros) * low, abs=1e-8)
        # The response moves by the count that is added over the size of the cluster it falls into.
        change = (high - low) * (total - zeros) / float(inner.spectrum.multiplicities.min())
        assert float((outer(w) - inner(w)).norm()) <= change * float(w.norm()) + 1e-9
    strict, whole = Softness(0, kind), Softness(1, kind)
    torch.testing.assert_close(EquivariantProjector(rep_in, rep_out, whole)(w), w, atol=1e-10, rtol=0)
    kept = EquivariantProjector(rep_in, rep_out, strict)(w)
    g = data.draw(group_elements(group))
    moved = rep_out(g, torch.float64).mT @ kept @ rep_in(g, torch.float64)
    torch.testing.assert_close(moved, kept, atol=1e-9, rtol=0)
