"""Every way of decomposing a constraint is the same operator: the dense singular value decomposition's."""

import copy
import math
import pickle

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
    GridTranslations,
    Lorentz,
    PermutationRepresentation,
    Representation,
    SpecialOrthogonal,
    SymmetricGroup,
    pixel_grid,
    voxel_grid,
)
from equikernels.project import (
    BlockSmooth,
    EquivariantProjector,
    Hard,
    InvariantProjector,
    LearnableSmooth,
    ReleasedSmooth,
    Smooth,
    Softness,
    SweepProjector,
    constraint_spectrum,
)
from equikernels.testing.strategies import cutoffs, random_orthogonal, random_weight, seeds

VECTOR = SO3().defining()

PAIRS = [
    (SO3().irrep(2) + VECTOR, VECTOR + SO3().trivial(), "isotypic"),
    (O3().irrep("1o") + O3().irrep("1e"), O3().irrep("2e") + O3().irrep("0o"), "isotypic"),
    (DihedralGroup(5).irrep(1) + DihedralGroup(5).irrep(2), DihedralGroup(5).regular(), "isotypic"),
    (DihedralGroup(3).regular(), DihedralGroup(3).regular(), "averaging"),
    (CubeGroup().irrep("T1"), CubeGroup().irrep("E") + CubeGroup().irrep("A2"), "isotypic"),
    (voxel_grid(2, CubeGroup()), voxel_grid(2, CubeGroup()), "averaging"),
    (SymmetricGroup(4).defining(), SymmetricGroup(4).irrep((2, 2)), "isotypic"),
    (GridTranslations(3, 4).regular(), GridTranslations(3, 4).regular(), "translations"),
    (GridTranslations(1, 5).regular(), GridTranslations(1, 5).trivial() * 2, "translations"),
    (GridTranslations(4, 2).trivial(), GridTranslations(4, 2).regular(), "translations"),
    (pixel_grid(4, CyclicGroup(4)), pixel_grid(3, CyclicGroup(4)), "averaging"),
    (pixel_grid(3, DihedralGroup(4)), pixel_grid((3, 3), DihedralGroup(4)), "averaging"),
    (pixel_grid(3, SO2()), SO2().irrep(1), "schur"),
    (SpecialOrthogonal(4).defining(), SpecialOrthogonal(4).defining(), "isotypic"),
]


def in_another_basis(rep: Representation, seed: int) -> Representation:
    """The same representation turned, which hides every structure but its irreps."""
    return Representation(rep.group, rep.irreps, random_orthogonal(rep.dim, seed) @ rep.change_of_basis)


@pytest.mark.parametrize(("inn", "out", "route"), PAIRS, ids=lambda value: repr(value))
@pytest.mark.parametrize("generators", ["closed", "given"])
@pytest.mark.parametrize(
    "cutoff",
    [Softness(0), Hard(1.6), Smooth(0.5, 0.7), Softness(0.4), Softness(0.4, "up"), ReleasedSmooth(1.2, 0.8)],
    ids=repr,
)
def test_every_route_is_the_dense_decomposition(
    inn: Representation, out: Representation, route: str, generators: str, cutoff: object
) -> None:
    fast = EquivariantProjector(inn, out, cutoff, generators=generators)
    if generators == "closed":
        assert fast.route == route
    dense = EquivariantProjector(inn, out, cutoff, generators=generators, method="svd")
    np.testing.assert_allclose(fast.spectrum, dense.spectrum, atol=1e-9)
    w = random_weight(2 * out.dim, 3 * inn.dim, 0)
    torch.testing.assert_close(fast(w), dense(w), atol=1e-9, rtol=0)
    assert fast.dimension == pytest.approx(dense.dimension, abs=1e-6)
    basis = fast.basis().flatten(1)
    torch.testing.assert_close(
        basis @ basis.mT, torch.eye(len(basis), dtype=torch.float64), atol=1e-9, rtol=0
    )
    assert len(basis) == len(dense.basis())
    # The span is the same, not the vectors.
    span = dense.basis().flatten(1)
    torch.testing.assert_close(basis.mT @ basis, span.mT @ span, atol=1e-8, rtol=0)


@pytest.mark.parametrize(("inn", "out", "route"), PAIRS, ids=lambda value: repr(value))
def test_energies_are_those_of_the_dense_decomposition(
    inn: Representation, out: Representation, route: str
) -> None:
    w = random_weight(2 * out.dim, 3 * inn.dim, 1).reshape(2, out.dim, 3, inn.dim).transpose(1, 2)
    fast = EquivariantProjector(inn, out, Hard(math.inf))._applied.engine.energies(w)
    dense = EquivariantProjector(inn, out, Hard(math.inf), method="svd")._applied.engine.energies(w)
    np.testing.assert_allclose(fast, dense, atol=1e-9)
    assert fast.sum() == pytest.approx(float(w.square().sum()))


@given(st.data())
def test_closed_projectors_commute_with_the_group(data: st.DataObject) -> None:
    inn, out, _ = data.draw(
        st.sampled_from([*PAIRS, (O2().irrep(1) + O2().irrep(3), pixel_grid(3, O2()), "")])
    )
    seed = data.draw(seeds)
    if data.draw(st.booleans()):
        inn, out = in_another_basis(inn, seed), in_another_basis(out, seed + 1)
    projector = EquivariantProjector(inn, out, data.draw(cutoffs))
    g = inn.group.sample(1, generator=torch.Generator().manual_seed(seed % 2**31))
    left, right = (rep(g, dtype=torch.float64)[0] for rep in (out, inn))
    w = random_weight(out.dim, inn.dim, seed)
    torch.testing.assert_close(
        projector(left @ w @ right.mT), left @ projector(w) @ right.mT, atol=1e-9, rtol=0
    )


@given(st.data())
def test_projectors_do_not_depend_on_the_basis(data: st.DataObject) -> None:
    inn, out, _ = data.draw(st.sampled_from(PAIRS))
    cutoff, seed = data.draw(cutoffs), data.draw(seeds)
    q_in, q_out = (random_orthogonal(rep.dim, seed + k) for k, rep in enumerate((inn, out)))
    turned = (
        Representation(rep.group, rep.irreps, q @ rep.change_of_basis)
        for rep, q in ((inn, q_in), (out, q_out))
    )
    w = random_weight(out.dim, inn.dim, seed)
    moved = EquivariantProjector(*turned, cutoff)(torch.tensor(q_out) @ w @ torch.tensor(q_in.T))
    expected = torch.tensor(q_out) @ EquivariantProjector(inn, out, cutoff)(w) @ torch.tensor(q_in.T)
    torch.testing.assert_close(moved, expected, atol=1e-9, rtol=0)


@pytest.mark.parametrize(("inn", "out", "route"), PAIRS, ids=lambda value: repr(value))
def test_strict_projection_is_the_average_over_the_group(
    inn: Representation, out: Representation, route: str
) -> None:
    w = random_weight(out.dim, inn.dim, 3)
    elements, weights = inn.group.quadrature() if inn.group.order else inn.group.quadrature(8)
    left, right = (rep(elements, dtype=torch.float64) for rep in (out, inn))
    average = torch.einsum("g,gij,jk,glk->il", weights, left, w, right)
    torch.testing.assert_close(EquivariantProjector(inn, out, Softness(0))(w), average, atol=1e-9, rtol=0)
    torch.testing.assert_close(EquivariantProjector(inn, out, Hard(1e9))(w), w, atol=1e-9, rtol=0)


def test_casimir_spectra() -> None:
    tensors = VECTOR @ VECTOR

    def squares(inn: Representation, out: Representation) -> dict[int, int]:
        found = constraint_spectrum(inn, out)
        np.testing.assert_allclose(found.values**2, np.round(found.values**2), atol=1e-9)
        return dict(
            zip(np.round(found.values**2).astype(int).tolist(), found.multiplicities.tolist(), strict=True)
        )

    assert squares(VECTOR, VECTOR) == {0: 1, 2: 3, 6: 5}
    assert squares(VECTOR, tensors) == {0: 1, 2: 9, 6: 10, 12: 7}
    assert squares(tensors, tensors) == {0: 3, 2: 18, 6: 30, 12: 21, 20: 9}


def test_flips_of_o2_are_averaged_over_their_circle() -> None:
    # K = k^2 + 2 on the plane of frequency k; on what turns fix, 0 or the 4 of a sign that flips.
    spectrum = constraint_spectrum(O2().irrep(1), O2().irrep(1))  # trivial + det + frequency 2
    np.testing.assert_allclose(spectrum.values**2, [0, 4, 6], atol=1e-12)
    assert spectrum.multiplicities.tolist() == [1, 1, 2]
    with pytest.raises(ValueError, match="a whole circle"):
        EquivariantProjector(O2().irrep(1), O2().irrep(1), Softness(0), method="svd")


@pytest.mark.parametrize("method", ["spectral", "auto"])
def test_given_operators_are_split_into_irreps(method: str) -> None:
    inn, out = (
        in_another_basis(rep, k) for k, rep in enumerate((2 * VECTOR + SO3().irrep(2), VECTOR @ VECTOR))
    )
    for cutoff in (Softness(0.3), Hard(2.0)):
        split = EquivariantProjector.from_operators(
            inn.constraints, out.constraints, cutoff, method="spectral"
        )
        assert split.route == "isotypic"
        w = random_weight(out.dim, inn.dim, 5)
        torch.testing.assert_close(split(w), EquivariantProjector(inn, out, cutoff)(w), atol=1e-9, rtol=0)


# -- operators that are no orthogonal representation -------------------------------------------------------


def test_lorentz_tensors_are_projected_by_small_problems() -> None:
    vector = Lorentz().defining()
    tensors = vector @ vector
    for cutoff in (Softness(0), Softness(0.5), Hard(1.0)):
        fast = EquivariantProjector(vector, tensors, cutoff, method="spectral")
        dense = EquivariantProjector(vector, tensors, cutoff, method="svd")
        w = random_weight(16, 4, 0)
        torch.testing.assert_close(fast(w), dense(w), atol=1e-9, rtol=0)
    kept = InvariantProjector(tensors, Softness(0)).basis()
    metric = torch.diag(torch.tensor([1.0, -1, -1, -1], dtype=torch.float64)).flatten() / 2
    assert abs(float(kept.squeeze() @ metric)) == pytest.approx(1)
    with pytest.raises(ValueError, match="no bound holds"):
        EquivariantProjector(vector, vector, Softness(0)).certificate(random_weight(4, 4, 0))


@pytest.mark.parametrize("cutoff", [Hard(0.5), Hard(1.3), Smooth(0.3, 0.4)], ids=repr)
@pytest.mark.parametrize(
    ("inn", "out"),
    [
        (pixel_grid(4, CyclicGroup(8), method="bilinear"), pixel_grid(3, CyclicGroup(8), method="bilinear")),
        (Lorentz().defining(), Lorentz().defining()),
        (VECTOR @ VECTOR, VECTOR),
    ],
    ids=repr,
)
def test_iteration_agrees_with_the_dense_decomposition(
    inn: Representation, out: Representation, cutoff: object
) -> None:
    iterative = EquivariantProjector(inn, out, cutoff, method="iterative")
    dense = EquivariantProjector(inn, out, cutoff, method="svd")
    w = random_weight(2 * out.dim, 2 * inn.dim, 0)
    torch.testing.assert_close(iterative(w), dense(w), atol=1e-7, rtol=0)
    half = iterative(w.float())
    assert half.dtype == torch.float32
    torch.testing.assert_close(half.double(), dense(w), atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match="no dimension"):
        _ = iterative.dimension


def test_iteration_has_the_projector_for_its_gradient() -> None:
    rep = Lorentz().defining()
    projector = EquivariantProjector(rep, rep, Hard(1.0), method="iterative")
    w = random_weight(4, 4, 0).requires_grad_()
    assert torch.autograd.gradcheck(projector, (w,))
    assert torch.autograd.gradgradcheck(projector, (w,))
    with pytest.raises(ValueError, match="singular values"):
        EquivariantProjector(rep, rep, Softness(0.5), method="iterative")


def test_iteration_says_when_it_does_not_settle(monkeypatch: pytest.MonkeyPatch) -> None:
    import equikernels.project.engines.iterative as iterative

    monkeypatch.setattr(iterative, "LARGEST_STEPS", 10)
    rep = pixel_grid(5, CyclicGroup(16), method="bilinear")
    with pytest.raises(ValueError, match="did not settle in 10 steps"):
        EquivariantProjector(rep, rep, Hard(0.5), method="iterative")(random_weight(25, 25, 0))


# -- other cut-offs ----------------------------------------------------------------------------------------


def test_learnable_cutoffs_have_gradients() -> None:
    for inn, out, _ in PAIRS:
        cutoff = LearnableSmooth(0.9, 0.6)
        w = random_weight(out.dim, inn.dim, 0).requires_grad_()
        fixed = EquivariantProjector(inn, out, Smooth(0.9, 0.6))(w)
        projector = EquivariantProjector(inn, out, cutoff)
        torch.testing.assert_close(projector(w), fixed, atol=1e-12, rtol=0)

        def energy(
            b: torch.Tensor, t: torch.Tensor, w: torch.Tensor = w, p: object = projector
        ) -> torch.Tensor:
            return torch.func.functional_call(_Holder(p), {"cutoff.cutoff": b, "cutoff.log_width": t}, (w,))

        start = (cutoff.cutoff.detach().requires_grad_(), cutoff.log_width.detach().requires_grad_())
        assert torch.autograd.gradcheck(energy, start)


class _Holder(torch.nn.Module):
    """A projector in a module, so that its cut-off's parameters can be replaced."""

    def __init__(self, projector: EquivariantProjector) -> None:
        super().__init__()
        self.cutoff, self.projector = projector.cutoff, projector

    def forward(self, w: torch.Tensor) -> torch.Tensor:
        return self.projector(w).square().sum()


def test_smooth_border_at_a_softness() -> None:
    rep = pixel_grid(4, CyclicGroup(4))
    spectrum = constraint_spectrum(rep, rep)  # 0: 64, sqrt 2: 128, 2: 64
    assert Smooth.at_softness(spectrum, 0.0, 0.1).cutoff == 0
    assert Smooth.at_softness(spectrum, 0.5, 0.1).cutoff == pytest.approx(math.sqrt(2))
    assert Smooth.at_softness(spectrum, 1.0, 0.1).cutoff == pytest.approx(2)


def test_published_block_rules() -> None:
    rep = SO2().irrep(1) + SO2().irrep(2)
    w = random_weight(4, 4, 0)
    assert EquivariantProjector(rep, rep, Hard(1.5), method="schur").dimension == 4
    strict = EquivariantProjector(rep, rep, Softness(0))(w)
    torch.testing.assert_close(EquivariantProjector(rep, rep, BlockSmooth(0.0), method="schur")(w), strict)
    soft = EquivariantProjector(rep, rep, BlockSmooth(0.5, kappa=2.0), method="schur")(w)
    blocks = soft.reshape(2, 2, 2, 2).transpose(1, 2)
    plain = w.reshape(2, 2, 2, 2).transpose(1, 2)
    exact = strict.reshape(2, 2, 2, 2).transpose(1, 2)
    torch.testing.assert_close(blocks[0, 0], 0.5 * plain[0, 0] + 0.5 * exact[0, 0])
    torch.testing.assert_close(blocks[0, 1], math.exp(-2 / 0.5) * plain[0, 1])
    with pytest.raises(ValueError, match='use method="schur"'):
        EquivariantProjector(rep, rep, BlockSmooth(0.5))
    with pytest.raises(ValueError, match="SweepProjector"):
        EquivariantProjector(VECTOR, VECTOR, Hard(1.0), method="schur")


def test_sweeps_only_approximate() -> None:
    exact = EquivariantProjector(VECTOR, VECTOR, Softness(0))
    basis = torch.eye(9, dtype=torch.float64).reshape(9, 3, 3)
    for sweeps, published in ((1, 0.25), (2, 3.1e-2), (5, 6.1e-5)):
        swept = SweepProjector(VECTOR, VECTOR, Softness(0), sweeps)
        error = torch.linalg.matrix_norm((swept(basis) - exact(basis)).flatten(1), ord=2)
        assert float(error) == pytest.approx(published, rel=0.02)
    with pytest.raises(ValueError, match="sweeps must be"):
        SweepProjector(VECTOR, VECTOR, Softness(0), 0)


def test_projectors_of_equal_representations_and_cutoffs_share_their_tables() -> None:
    def build(cutoff: object) -> EquivariantProjector:
        return EquivariantProjector(pixel_grid(5, SO2()), pixel_grid(5, SO2()), cutoff)

    first, second, other = build(Softness(0.2)), build(Softness(0.2)), build(Hard(1.0))
    assert first._applied is second._applied
    assert first._applied is not other._applied
    assert first._applied.engine is other._applied.engine
    learnable = LearnableSmooth(1.0, 1.0)
    assert build(learnable)._applied is not build(learnable)._applied
    clone = pickle.loads(pickle.dumps(first))
    assert clone._applied is first._applied
    assert copy.deepcopy(first) is first


def test_permutations_of_tall_channels_keep_gradients() -> None:
    rep = pixel_grid(3, DihedralGroup(4))
    assert isinstance(rep, PermutationRepresentation)
    projector = EquivariantProjector(rep, rep, Softness(0.5))
    w = random_weight(2 * 9, 3 * 9, 0).requires_grad_()
    assert torch.autograd.gradcheck(projector, (w,))
    (gradient,) = torch.autograd.grad(projector(w).square().sum() / 2, w)
    torch.testing.assert_close(gradient, projector(projector(w)).detach(), atol=1e-12, rtol=0)
