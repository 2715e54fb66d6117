"""No bound is violated for any group: finite, Lie, or both at once; found by chance or sought."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

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
    MatrixGroup,
    Orthogonal,
    Representation,
    SpecialOrthogonal,
    SymmetricGroup,
    pixel_grid,
)
from equikernels.project import (
    Cutoff,
    EquivariantProjector,
    Hard,
    Smooth,
    Softness,
    constraint_spectrum,
    cutoff_for,
)
from equikernels.testing.strategies import cutoffs, random_orthogonal, random_weight, seeds

GROUPS: list[tuple[Group, list[Representation]]] = [
    (SO2(), [SO2().irrep(1) + SO2().irrep(2), SO2().irrep(3) + SO2().trivial(), pixel_grid(3, SO2())]),
    (O2(), [O2().irrep(1) + O2().irrep("det"), O2().irrep(2) + O2().trivial(), pixel_grid(3, O2())]),
    (SO3(), [SO3().defining(), SO3().irrep(2) + SO3().trivial(), SO3().irrep(3)]),
    (O3(), [O3().irrep("1o"), O3().irrep("1e") + O3().irrep("0o"), O3().irrep("2e")]),
    (CyclicGroup(8), [CyclicGroup(8).regular(), pixel_grid(3, CyclicGroup(8))]),
    (DihedralGroup(4), [pixel_grid(3, DihedralGroup(4)), DihedralGroup(4).irrep(1)]),
    (DihedralGroup(5), [DihedralGroup(5).regular(), DihedralGroup(5).irrep(2)]),
    (CubeGroup(), [CubeGroup().irrep("T1") + CubeGroup().irrep("E"), CubeGroup().irrep("T2")]),
    (SymmetricGroup(4), [SymmetricGroup(4).defining(), SymmetricGroup(4).irrep((2, 2))]),
    (GridTranslations(3, 4), [GridTranslations(3, 4).regular(), GridTranslations(3, 4).trivial()]),
    (SpecialOrthogonal(4), [SpecialOrthogonal(4).defining(), SpecialOrthogonal(4).irrep((1, 1))]),
    (Orthogonal(3), [Orthogonal(3).defining(), Orthogonal(3).irrep(((2,), 0))]),
    (
        DirectProduct(SO2(), CyclicGroup(3)),
        [DirectProduct(SO2(), CyclicGroup(3)).defining(), DirectProduct(SO2(), CyclicGroup(3)).trivial()],
    ),
    (
        DirectProduct(DihedralGroup(3), CyclicGroup(2)),
        [DirectProduct(DihedralGroup(3), CyclicGroup(2)).defining()],
    ),
]


def errors(w: torch.Tensor, rep_in: Representation, rep_out: Representation, elements: object, order: object):
    """|rho_out(g)^-1 W rho_in(g) - W| at a batch of elements, from the definition."""
    left = torch.kron(torch.eye(w.shape[0] // rep_out.dim), rep_out(elements, torch.float64).mT.contiguous())
    right = torch.kron(torch.eye(w.shape[1] // rep_in.dim), rep_in(elements, torch.float64).contiguous())
    return torch.linalg.matrix_norm(left @ w @ right - w, ord=order)


def check_bounds(
    group: Group, rep_in: Representation, rep_out: Representation, cutoff: Cutoff, generators: str, seed: int
) -> int:
    """Every bound at 10 elements for 2 weights; returns how many cases were tried."""
    projector = EquivariantProjector(rep_in, rep_out, cutoff, generators=generators)
    elements = group.sample(10, generator=torch.Generator().manual_seed(seed % 2**31))
    angle, letters = group.lengths(elements)
    tried = 0
    for k in range(2):
        raw = random_weight(rep_out.dim * (1 + k), rep_in.dim, seed + k)
        certificate, w = projector.certificate(raw), projector(raw)
        slack = 1e-9 * max(1.0, float(raw.norm()))
        for norm, order in (("frobenius", "fro"), ("operator", 2)):
            measured = errors(w, rep_in, rep_out, elements, order)
            torch.testing.assert_close(certificate.error(elements, norm), measured, atol=1e-9, rtol=1e-9)
            for kind in ("posterior", "prior"):
                bounds = certificate.bound(elements, kind=kind, norm=norm)
                assert bool((measured <= bounds + slack).all())
                supremum = certificate.supremum(kind, norm)
                assert supremum <= 2 * float(raw.norm()) + slack
                for length, bound in zip(
                    (angle if group.lie_dim else letters).tolist(), bounds.tolist(), strict=True
                ):
                    within = certificate.bound(radius=length, kind=kind, norm=norm)
                    assert bound <= within + slack
                    assert within <= supremum + slack
        tried += len(bounds)
    return tried


def draw(rng: np.random.Generator) -> tuple[Group, Representation, Representation, Cutoff, str, int]:
    group, known = GROUPS[rng.integers(len(GROUPS))]
    reps = []
    for _ in range(2):
        rep = known[rng.integers(len(known))]
        if rng.random() < 0.5:
            q = random_orthogonal(rep.dim, int(rng.integers(2**31)))
            rep = Representation(group, rep.irreps, q @ rep.change_of_basis)
        reps.append(rep)
    cutoff: Cutoff = [
        Hard(float(rng.uniform(0, 5))),
        Smooth(float(rng.uniform(0, 3)), float(rng.uniform(0.01, 3))),
        Softness(float(rng.uniform()), ("fraction", "down", "up")[rng.integers(3)]),
    ][rng.integers(3)]
    return group, reps[0], reps[1], cutoff, ("closed", "given")[rng.integers(2)], int(rng.integers(2**31))


@given(st.data())
def test_no_bound_is_violated_for_any_group(data: st.DataObject) -> None:
    group, known = data.draw(st.sampled_from(GROUPS))
    rep_in, rep_out = data.draw(st.sampled_from(known)), data.draw(st.sampled_from(known))
    generators = data.draw(st.sampled_from(["closed", "given"]))
    check_bounds(group, rep_in, rep_out, data.draw(cutoffs), generators, data.draw(seeds))


@pytest.mark.slow
def test_no_bound_is_violated_in_100000_cases() -> None:
    """A case is a weight and an element; each is held against both kinds of bound in both norms."""
    rng, cases = np.random.default_rng(0), 0
    while cases < 100_000:
        cases += check_bounds(*draw(rng))


@pytest.mark.parametrize(("group", "known"), GROUPS, ids=[repr(group) for group, _ in GROUPS])
def test_weights_sought_against_the_bound_do_not_break_it(group: Group, known: list[Representation]) -> None:
    """Of all kept weights the one that an element moves most: the first singular vector of the error map."""
    rep_in, rep_out = known[0], known[-1]
    spectrum = constraint_spectrum(rep_in, rep_out)
    tightest = 0.0
    for cutoff in (
        Hard(float(spectrum.values[len(spectrum.values) // 2]) + 1e-6),
        Softness(0.5, "up"),
        Hard(math.inf),
    ):
        projector = EquivariantProjector(rep_in, rep_out, cutoff)
        basis = projector.basis()
        elements = group.unbind(group.sample(12, generator=torch.Generator().manual_seed(1)))
        for g in [*group.discrete_elements, *elements]:
            left, right = rep_out(g, dtype=torch.float64).mT, rep_in(g, dtype=torch.float64)
            moved = (left @ basis @ right - basis).flatten(1)
            worst = torch.linalg.svd(moved.mT, full_matrices=False)[2][0]
            w = torch.einsum("k,kij->ij", worst, basis)
            certificate = projector.certificate(w)
            error = certificate.error(g)
            for kind in ("posterior", "prior"):
                assert error <= certificate.bound(g, kind=kind) + 1e-9
            if certificate.bound(g) > 1e-6:
                tightest = max(tightest, float(error / certificate.bound(g)))
    # A bound that is never nearly met would be one that a mistake could hide in.
    assert tightest > 0.7


def test_lengths_have_two_parts_where_a_group_is_lie_and_discrete() -> None:
    angle, flip = O2().lengths((torch.tensor([0.5, -4.0]), torch.tensor([1, 0])))
    torch.testing.assert_close(angle, torch.tensor([0.5, 2 * math.pi - 4.0]))
    assert flip.tolist() == [1, 0]
    turn = SO3().exp([0.0, 0.3, 0.0])
    for sign in (1, -1):
        angle, inversion = O3().lengths(sign * turn)
        assert float(angle) == pytest.approx(0.3)
        assert float(inversion) == (1 - sign) / 2
    assert O3().diameters == (math.pi, 1.0)


def test_cutoffs_guarantee_the_bound_they_were_asked_for() -> None:
    for group, known in GROUPS:
        for bound in (0.0, 0.2, 0.7, 1.5, 2.0):
            radius = 2.0 if group.lie_dim == 0 else 0.4
            cutoff = cutoff_for(bound, radius, known[0], known[-1])
            projector = EquivariantProjector(known[0], known[-1], cutoff)
            raw = random_weight(known[-1].dim, known[0].dim, 0)
            certificate = projector.certificate(raw)
            assert certificate.bound(radius=radius, kind="prior") <= bound * certificate.norm + 1e-9
            higher = projector.spectrum.values[projector.spectrum.values >= cutoff.cutoff]
            if higher.size:
                more = EquivariantProjector(known[0], known[-1], Hard(float(higher[0]) + 1e-6)).certificate(
                    raw
                )
                assert more.bound(radius=radius, kind="prior") > bound * more.norm
    assert cutoff_for(0.5, 0.25) == Hard(2.0)
    assert cutoff_for(2.0, 0.25) == Hard(math.inf)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((-0.1, 1.0), ValueError, "bound must be a number >= 0"),
        ((0.1, 0.0), ValueError, "radius must be a finite number > 0"),
        ((0.1, math.inf), ValueError, "radius must be a finite number > 0"),
        (("0.1", 1.0), TypeError, "bound must be a number"),
        ((0.1, 1.0, None, SO2().irrep(1)), ValueError, "rep_in must be given"),
        ((0.1, 1.0, SO2().irrep(1), CyclicGroup(4).irrep(1)), ValueError, "rep_out to C_4"),
    ],
)
def test_bad_wishes_are_named(arguments: tuple, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        cutoff_for(*arguments)


def test_nothing_known_in_advance_still_bounds_the_identity() -> None:
    rep = SO3().defining()
    certificate = EquivariantProjector(rep, rep, Hard(math.inf), method="iterative").certificate(
        random_weight(3, 3, 0)
    )
    assert certificate.bound(SO3().identity, kind="prior") == 0
    assert certificate.bound(SO3().exp([0.1, 0.0, 0.0]), kind="prior") == 2 * certificate.norm


@pytest.mark.parametrize("softness", [0.0, 0.5])
def test_groups_without_a_known_length_have_a_supremum(softness: float) -> None:
    """O(2) given by its matrices: no element is split into an angle and a flip, but nothing exceeds 2 |W|."""
    group = MatrixGroup(algebra=[[[0.0, -1.0], [1.0, 0.0]]], elements=[[[-1.0, 0.0], [0.0, 1.0]]])
    plane = group.defining()
    certificate = EquivariantProjector(plane, plane, Softness(softness)).certificate(random_weight(2, 2, 0))
    assert certificate.norm > 0.1
    assert certificate.supremum() == pytest.approx(0 if softness == 0 else 2 * certificate.norm)
    assert certificate.supremum() <= certificate.supremum("prior")
    worst = certificate.error(group.sample(50, generator=torch.Generator().manual_seed(0)))
    assert float(worst.max()) <= certificate.supremum() + 1e-9
    assert "supremum" in repr(certificate)
    with pytest.raises(ValueError, match="no known split"):
        certificate.bound(group.identity)
