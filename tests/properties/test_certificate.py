"""No bound is ever violated: the measured error stays below every certificate."""

import math

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from equikernels.group import (
    SO2,
    CubeGroup,
    CyclicGroup,
    GridTranslations,
    Representation,
    SymmetricGroup,
    pixel_grid,
)
from equikernels.project import EquivariantProjector, Hard, InvariantProjector, Smooth, Softness
from equikernels.testing.strategies import (
    certified_groups,
    cutoffs,
    group_elements,
    one_generator_groups,
    random_weight,
    representations,
    seeds,
)

KINDS = ("posterior", "prior")
NORMS = ("frobenius", "operator")
WEIGHTS, ELEMENTS = 2, 5


def measured(w, rep_in, rep_out, g, norm: str) -> float:
    """|rho_out(g)^-1 W rho_in(g) - W| from the definition, with one matrix per channel block."""
    m, n = rep_out.dim, rep_in.dim
    left = torch.block_diag(*[rep_out(g)] * (w.shape[0] // m)).mT
    right = torch.block_diag(*[rep_in(g)] * (w.shape[1] // n))
    return float(torch.linalg.matrix_norm(left @ w @ right - w, ord=2 if norm == "operator" else "fro"))


# 1000 draws of groups, representations and cut-offs, with 2 weights and 5 elements each: 10,000 cases,
# each against both kinds and both norms, at the element, within its radius and over the group.
@settings(max_examples=1000, deadline=None)
@given(st.data())
def test_no_bound_is_violated(data: st.DataObject) -> None:
    group = data.draw(certified_groups)
    rep_in, rep_out = data.draw(representations(group)), data.draw(representations(group))
    P = EquivariantProjector(rep_in, rep_out, data.draw(cutoffs))
    elements = [data.draw(group_elements(group)) for _ in range(ELEMENTS)]
    for _ in range(WEIGHTS):
        raw = random_weight(rep_out.dim * data.draw(st.integers(1, 2)), rep_in.dim, data.draw(seeds))
        certificate = P.certificate(raw)
        w = P(raw)
        slack = 1e-9 * max(1.0, float(raw.norm()))
        for g in elements:
            for norm in NORMS:
                error = measured(w, rep_in, rep_out, g, norm)
                assert certificate.error(g, norm) == pytest.approx(error, abs=slack)
                for kind in KINDS:
                    length = float(group.length(g))
                    at_element = certificate.bound(g, kind=kind, norm=norm)
                    in_radius = certificate.bound(radius=length, kind=kind, norm=norm)
                    supremum = certificate.supremum(kind, norm)
                    assert error <= at_element + slack
                    assert at_element <= in_radius + slack
                    assert in_radius <= supremum + slack
                    assert supremum <= 2 * float(raw.norm()) + slack


@given(st.data())
def test_frobenius_certificate_is_exact_for_one_generator(data: st.DataObject) -> None:
    group = data.draw(one_generator_groups)
    rep_in, rep_out = data.draw(representations(group)), data.draw(representations(group))
    P = EquivariantProjector(rep_in, rep_out, data.draw(cutoffs))
    raw = random_weight(rep_out.dim, rep_in.dim, data.draw(seeds))
    g = data.draw(group_elements(group))
    certificate = P.certificate(raw)
    assert certificate.bound(g) == pytest.approx(measured(P(raw), rep_in, rep_out, g, "frobenius"), abs=1e-9)


@given(st.data())
def test_posterior_is_below_prior_and_below_duhamel(data: st.DataObject) -> None:
    group = data.draw(one_generator_groups)
    rep_in, rep_out = data.draw(representations(group)), data.draw(representations(group))
    cutoff = data.draw(st.floats(0, 4))
    certificate = EquivariantProjector(rep_in, rep_out, Hard(cutoff)).certificate(
        random_weight(rep_out.dim, rep_in.dim, data.draw(seeds))
    )
    g = data.draw(group_elements(group))
    length = float(group.length(g))
    assert certificate.bound(g) <= certificate.bound(g, kind="prior") + 1e-9
    assert (
        certificate.bound(radius=length)
        <= (certificate.lie_slope + certificate.discrete_slope) * length + 1e-9
    )
    assert certificate.bound(radius=length, kind="prior") <= min(2, cutoff * length) * certificate.norm + 1e-9


def test_the_operator_bound_limits_the_error_of_the_layer() -> None:
    """|f(rho x) - rho f(x)| <= bound |x| for f(x) = W x, on vectors sought to break it."""
    grid = pixel_grid(4, SO2())
    P = EquivariantProjector(grid, grid, Softness(0.4))
    raw = random_weight(16, 16, 3)
    w, certificate = P(raw), P.certificate(raw)
    for theta in torch.linspace(-3, 3, 13, dtype=torch.float64):
        difference = w @ grid(theta) - grid(theta) @ w
        worst = torch.linalg.svd(difference)[2][0]
        error = float((difference @ worst).norm())
        assert error <= certificate.bound(theta, norm="operator") + 1e-9


def test_c4_attains_its_prior_bound() -> None:
    """A weight made of the highest singular value alone: the prior bound is an equality."""
    grid = pixel_grid(4, CyclicGroup(4))
    P = EquivariantProjector(grid, grid, Hard(1.5))
    top = EquivariantProjector(grid, grid, Hard(1.4))
    raw = random_weight(16, 16, 0)
    certificate = P.certificate(P(raw) - top(raw))
    assert certificate.norm > 1
    assert certificate.error(1) == pytest.approx(math.sqrt(2) * certificate.norm, rel=1e-9)
    assert certificate.bound(1, kind="prior") == pytest.approx(certificate.error(1), rel=1e-9)
    assert certificate.bound(2, kind="prior") == pytest.approx(2 * certificate.norm, rel=1e-9)


def test_strict_layers_are_certified_exact() -> None:
    for group in (SO2(), CyclicGroup(4), CyclicGroup(7)):
        grid = pixel_grid(5, group)
        certificate = EquivariantProjector(grid, grid, Softness(0)).certificate(random_weight(25, 50, 1))
        assert certificate.norm > 1
        for kind in KINDS:
            for norm in NORMS:
                assert certificate.supremum(kind, norm) < 1e-9
        assert certificate.relative < 1e-9


@example(0.3, 0.2)
@given(st.floats(0, 3), st.floats(0.05, 2))
def test_smooth_prior_uses_the_raw_norm(b: float, tau: float) -> None:
    rep = SO2().irrep(1) + SO2().irrep(2)
    P = EquivariantProjector(rep, rep, Smooth(b, tau))
    raw = random_weight(4, 4, 5)
    certificate = P.certificate(raw)
    response = Smooth(b, tau).response(P.spectrum)
    largest = float((response * P.spectrum.values).max())
    small = 1e-4
    assert certificate.bound(radius=small, kind="prior") == pytest.approx(
        largest * small * float(raw.norm()), rel=1e-6
    )


def test_paper_eta_of_so2_is_pi_times_the_cutoff() -> None:
    rep = SO2().irrep(1) + SO2().irrep(2)
    certificate = EquivariantProjector(rep, rep, Hard(1.5)).certificate(random_weight(4, 4, 5))
    assert certificate.paper_eta.eta == pytest.approx(1.5 * math.pi)
    assert certificate.paper_eta.eta_sqrt_m == pytest.approx(1.5 * math.pi * 2)
    assert 0 < certificate.relative <= 2


def test_batched_elements_and_rows() -> None:
    grid = pixel_grid(4, SO2())
    certificate = InvariantProjector(grid, Softness(0.5)).certificate(random_weight(3, 32, 2))
    theta = torch.linspace(-1, 1, 6, dtype=torch.float64).reshape(2, 3)
    bound, error = certificate.bound(theta), certificate.error(theta)
    assert bound.shape == error.shape == (2, 3)
    torch.testing.assert_close(bound, error, atol=1e-9, rtol=0)
    assert isinstance(certificate.bound(0.3), float)
    one = InvariantProjector(grid, Softness(0.5)).certificate(random_weight(1, 16, 2)[0])
    assert one.weight.shape == (1, 16)


def test_certificates_of_given_operators_know_radii_only() -> None:
    rep = SO2().irrep(1) + SO2().trivial()
    a = rep.generators[0]
    raw = random_weight(3, 3, 0)
    given_ = EquivariantProjector.from_operators([a], [a], Hard(1.5)).certificate(raw)
    known = EquivariantProjector(rep, rep, Hard(1.5)).certificate(raw)
    assert given_.bound(radius=0.4) == pytest.approx(known.bound(radius=0.4))
    with pytest.raises(ValueError, match="needs a group"):
        given_.bound(0.4)
    with pytest.raises(ValueError, match="needs a group"):
        _ = given_.paper_eta


def test_several_generators_keep_the_linear_bound() -> None:
    """so(3) on vectors by the dense projector: |a| |(C_1 W, C_2 W, C_3 W)| holds for any rotation."""
    e = torch.eye(3, dtype=torch.float64)
    generators = [torch.linalg.cross(e[k].expand(3, 3), e).mT for k in range(3)]
    P = EquivariantProjector.from_operators(generators, generators, Hard(2.0))
    assert P.method == "svd"
    raw = random_weight(3, 3, 1)
    w, certificate = P(raw), P.certificate(raw)
    for seed in range(50):
        a = torch.randn(3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        rho = torch.linalg.matrix_exp(sum(x * g for x, g in zip(a, generators, strict=True)))
        for norm, order in (("frobenius", "fro"), ("operator", 2)):
            error = float(torch.linalg.matrix_norm(rho.mT @ w @ rho - w, ord=order))
            assert error <= certificate.bound(radius=float(a.norm()), norm=norm) + 1e-9


@given(st.data())
def test_certificates_of_the_other_methods_hold(data: st.DataObject) -> None:
    """The dense projector and the published block rule carry valid bounds too."""
    group = data.draw(one_generator_groups)
    rep_in, rep_out = data.draw(representations(group)), data.draw(representations(group))
    method = data.draw(st.sampled_from(["svd", "schur"]))
    cutoff = Hard(data.draw(st.floats(0, 6))) if method == "schur" else data.draw(cutoffs)
    P = EquivariantProjector(rep_in, rep_out, cutoff, method=method)
    raw = random_weight(rep_out.dim, rep_in.dim, data.draw(seeds))
    certificate = P.certificate(raw)
    torch.testing.assert_close(certificate.weight, P(raw))
    slack = 1e-9 * max(1.0, float(raw.norm()))
    for _ in range(3):
        g = data.draw(group_elements(group))
        for norm in NORMS:
            error = measured(P(raw), rep_in, rep_out, g, norm)
            for kind in KINDS:
                assert error <= certificate.bound(g, kind=kind, norm=norm) + slack
                assert error <= certificate.bound(radius=float(group.length(g)), kind=kind, norm=norm) + slack


@given(st.data())
def test_block_rule_is_idempotent_and_keeps_strict_weights(data: st.DataObject) -> None:
    """The published rule is a projection, and a strictly equivariant weight passes it unchanged."""
    group = data.draw(one_generator_groups)
    rep_in, rep_out = data.draw(representations(group)), data.draw(representations(group))
    w = random_weight(rep_out.dim, rep_in.dim, data.draw(seeds))
    P = EquivariantProjector(rep_in, rep_out, Hard(data.draw(st.floats(0, 6))), method="schur")
    torch.testing.assert_close(P(P(w)), P(w), atol=1e-11, rtol=0)
    strict = EquivariantProjector(rep_in, rep_out, Softness(0))
    torch.testing.assert_close(P(strict(w)), strict(w), atol=1e-11, rtol=0)


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_no_bound_is_violated_for_larger_groups(data: st.DataObject) -> None:
    """The rotations of the cube, permutations and translations, by the dense projector."""
    group = data.draw(st.sampled_from([CubeGroup(), SymmetricGroup(3), GridTranslations(3, 2)]))
    irreps = [rep.irreps[0][0] for rep in group.irreps()]
    rep_in, rep_out = (
        Representation(group, [(data.draw(st.sampled_from(irreps)), 1) for _ in range(2)]) for _ in range(2)
    )
    P = EquivariantProjector(rep_in, rep_out, data.draw(cutoffs))
    raw = random_weight(rep_out.dim, rep_in.dim, data.draw(seeds))
    certificate, w = P.certificate(raw), P(raw)
    for g in group.unbind(group.elements()):
        torch.testing.assert_close(
            P(rep_out(g).mT @ raw @ rep_in(g)), rep_out(g).mT @ w @ rep_in(g), atol=1e-9, rtol=0
        )
        for norm in NORMS:
            error = measured(w, rep_in, rep_out, g, norm)
            for kind in KINDS:
                assert error <= certificate.bound(g, kind=kind, norm=norm) + 1e-9 * max(1, float(raw.norm()))
