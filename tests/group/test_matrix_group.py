"""Groups given by matrices, finite and Lie, and their irreps inside tensor powers."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import block_diag

from equikernels.group import (
    O2,
    O3,
    SO2,
    SO3,
    CubeGroup,
    CyclicGroup,
    DihedralGroup,
    Group,
    MatrixGroup,
    SymmetricGroup,
    representation_from_operators,
)
from equikernels.group.matrix_closure import MatrixClosure
from equikernels.group.matrix_irreps import is_complete
from equikernels.project import EquivariantProjector, Hard
from equikernels.testing import assert_representation

TURN = np.array([[0.0, -1.0], [1.0, 0.0]])
# Left multiplication by the quaternions i and j on (1, i, j, k).
QI = np.array([[0.0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 0, -1], [0, 0, 1, 0]])
QJ = np.array([[0.0, 0, -1, 0], [0, 0, 0, 1], [1, 0, 0, 0], [0, -1, 0, 0]])
Q8 = MatrixGroup(elements=[QI, QJ], name="Q_8")
SU2 = MatrixGroup([QI / 2, QJ / 2, QI @ QJ / 2], name="SU(2)")
HIDDEN = np.linalg.qr(np.random.default_rng(0).standard_normal((3, 3)))[0]


def copy_of(group: Group) -> MatrixGroup:
    """A group by the matrices of its defining representation."""
    rep = group.defining()
    return MatrixGroup(rep.generators, rep.discrete, name=f"matrices of {group!r}")


ROTATIONS = copy_of(SO3())
finite_copies = st.one_of(
    st.integers(2, 9).map(DihedralGroup), st.just(CubeGroup()), st.integers(2, 4).map(SymmetricGroup)
).map(copy_of)
copies = st.one_of(finite_copies, st.sampled_from([Q8, SU2, ROTATIONS, copy_of(O3()), copy_of(O2())]))


def drawn(group: MatrixGroup, seed: int, n: int = 3) -> torch.Tensor:
    return group.sample(n, generator=torch.Generator().manual_seed(seed))


# -- elements ------------------------------------------------------------------------------------


@given(copies, st.integers(0, 1000))
def test_group_laws(group: MatrixGroup, seed: int) -> None:
    g, h, k = drawn(group, seed)
    close = {"atol": 1e-12, "rtol": 0}
    left, right = group.compose(group.compose(g, h), k), group.compose(g, group.compose(h, k))
    torch.testing.assert_close(left, right, **close)
    torch.testing.assert_close(group.compose(g, group.inverse(g)), group.identity, **close)
    torch.testing.assert_close(group.compose(g, group.identity), g, **close)
    torch.testing.assert_close(group.defining()(g), g, **close)


@pytest.mark.parametrize(
    "group",
    [*map(DihedralGroup, (1, 2, 3, 8, 30)), *map(CyclicGroup, (1, 2, 7, 100)), CubeGroup()]
    + [SymmetricGroup(n) for n in (2, 3, 5)],
    ids=repr,
)
def test_finite_groups_are_listed_with_their_word_lengths(group: Group) -> None:
    matrices = copy_of(group)
    assert matrices.order == group.order
    assert len(torch.unique(matrices.elements().round(decimals=9), dim=0)) == group.order
    lengths = matrices.word_length(group.defining()(group.elements()))
    torch.testing.assert_close(lengths, group.word_length(group.elements()).long())
    assert matrices.diameter == group.diameter
    torch.testing.assert_close(
        matrices.length(matrices.elements()), matrices.word_length(matrices.elements())
    )
    ours = {tuple(g.flatten().round(decimals=6).add(0.0).tolist()) for g in matrices.conjugates()}
    theirs = group.defining()(torch.stack([torch.as_tensor(g) for g in group.conjugates()]))
    assert ours == {tuple(g.flatten().round(decimals=6).add(0.0).tolist()) for g in theirs}


def test_the_list_of_elements_is_closed() -> None:
    everything = Q8.elements()
    assert torch.equal(everything[0], torch.eye(4, dtype=torch.float64))
    assert Q8.order == 8
    products = Q8.compose(everything[:, None], everything[None])
    assert sorted(set(Q8.word_length(products).flatten().tolist())) == [0, 1, 2]
    assert Q8.word_length(everything).tolist() == [0, 1, 1, 1, 1, 2, 2, 2]
    nodes, weights = Q8.quadrature()
    assert float((weights[:, None, None] * nodes).sum(0).abs().max()) < 1e-15


def test_a_long_cycle_is_listed() -> None:
    angle = 2 * math.pi / 3001
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    closure = MatrixClosure(turn[None])
    assert len(closure.elements) == 3001
    assert closure.distance.max() == 1500


@pytest.mark.parametrize("scale", [1.0, 0.3])
def test_exp_and_log(scale: float) -> None:
    group = MatrixGroup([scale * HIDDEN @ x @ HIDDEN.T for x in SO3().defining().generators])
    a = torch.randn(20, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    a = a / a.norm(dim=-1, keepdim=True) * torch.linspace(0, 3.1, 20, dtype=torch.float64)[:, None] / scale
    g = group.exp(a)
    q = torch.as_tensor(HIDDEN)
    torch.testing.assert_close(g, q @ SO3().exp(scale * a) @ q.T, atol=1e-13, rtol=0)
    torch.testing.assert_close(group.log(g), a, atol=1e-11, rtol=0)
    torch.testing.assert_close(group.length(g), a.norm(dim=-1), atol=1e-11, rtol=0)
    np.testing.assert_allclose(group.structure_constants, scale * SO3().structure_constants, atol=1e-12)
    assert group.diameter == math.inf


def test_logarithms_that_are_not_known_are_refused() -> None:
    # Frequencies 1 and 3: at an angle of 2 the principal logarithm of the second plane is 6 - 2 pi.
    winding = MatrixGroup([block_diag(TURN, 3 * TURN)], name="winding")
    torch.testing.assert_close(winding.log(winding.exp(torch.tensor([1.0]))), torch.tensor([1.0]))
    with pytest.raises(ValueError, match="principal logarithm is not in the algebra of winding"):
        winding.log(winding.exp(torch.tensor([2.0], dtype=torch.float64)))
    with pytest.raises(ValueError, match="determinant -1"):
        ROTATIONS.log(-torch.eye(3))
    mixed = copy_of(O3())
    for ask in (lambda: mixed.length(torch.eye(3)), lambda: mixed.diameter):
        with pytest.raises(ValueError, match="there is no one length"):
            ask()
    with pytest.raises(ValueError, match="Q_8 has no Lie algebra and no log"):
        Q8.log(torch.eye(4))
    with pytest.raises(ValueError, match="Q_8 has no Lie algebra and no exp"):
        Q8.exp(torch.zeros(0))
    with pytest.raises(ValueError, match="injectivity radius of SU"):
        _ = SU2.injectivity_radius


def test_finite_samples_are_uniform() -> None:
    n = 8000
    places = (drawn(Q8, 0, n)[:, None] - Q8.elements()).abs().amax(dim=(2, 3)).argmin(dim=1)
    counts = torch.bincount(places, minlength=8)
    # Five standard deviations of a binomial distribution.
    assert float((counts - n / 8).abs().max()) < 5 * math.sqrt(n / 8)


@pytest.mark.parametrize("group", [ROTATIONS, SU2, copy_of(O3()), copy_of(O2())], ids=repr)
def test_samples_have_the_moments_of_haar_measure(group: MatrixGroup) -> None:
    n = 4000
    g = drawn(group, 1, n)
    defect = (g @ g.mT - torch.eye(group.dim)).abs().max()
    assert float(defect) < 1e-9
    for rep in group.irreps(3)[1:]:
        # Entries have mean zero and at most the variance of a coordinate of a unit vector of one dimension.
        assert float(rep(g).mean(dim=0).abs().max()) < 5 / math.sqrt(n)


def test_samples_reach_every_component() -> None:
    c, s = math.cos(math.pi / 30), math.sin(math.pi / 30)
    group = MatrixGroup([block_diag(TURN, 0, 0)], [block_diag(1, 1, np.array([[c, -s], [s, c]]))])
    n = 6000
    corner = drawn(group, 0, n)[:, 2:, 2:]
    steps = torch.atan2(corner[:, 1, 0], corner[:, 0, 0]) * 30 / math.pi
    torch.testing.assert_close(steps, steps.round(), atol=1e-9, rtol=0)
    counts = torch.bincount(steps.round().long() % 60, minlength=60)
    assert float((counts - n / 60).abs().max()) < 5 * math.sqrt(n / 60)


def test_conjugates_of_generators_that_commute_with_the_algebra() -> None:
    assert [g.tolist() for g in copy_of(O3()).conjugates()] == [(-torch.eye(3)).tolist()]
    assert ROTATIONS.conjugates() == ()
    with pytest.raises(ValueError, match='use generators="given"'):
        copy_of(O2()).conjugates()


# -- irreps ----------------------------------------------------------------------------------------


@given(copies, st.data())
def test_irreps_are_irreps(group: MatrixGroup, data: st.DataObject) -> None:
    irreps = group.irreps() if group.lie_dim == 0 else group.irreps(3)
    rep = data.draw(st.sampled_from(irreps))
    assert_representation(rep, elements=4)
    label = rep.irreps[0][0]
    assert group.check_label(label) == label


@given(finite_copies)
def test_finite_groups_have_all_irreps(group: MatrixGroup) -> None:
    everything = group.elements()
    characters = [rep(everything).diagonal(dim1=-2, dim2=-1).sum(-1) for rep in group.irreps()]
    gram = torch.stack([torch.stack([(a * b).mean() for b in characters]) for a in characters])
    # <chi, chi> is the dimension of the commutant: 1 for the real types of these groups.
    torch.testing.assert_close(gram, torch.eye(len(gram), dtype=torch.float64), atol=1e-10, rtol=0)
    assert sum(rep.dim**2 for rep in group.irreps()) == group.order


def test_irreps_of_the_quaternion_group() -> None:
    irreps = Q8.irreps()
    assert sorted(rep.dim for rep in irreps) == [1, 1, 1, 1, 4]
    assert [Q8.matrix_irrep(rep.irreps[0][0]).commutant for rep in irreps] == [1, 4, 1, 1, 1]
    assert [is_complete(Q8, degree) for degree in range(4)] == [False, False, True, True]
    assert Q8.regular().irreps == (((0, 0), 1), ((1, 0), 1), ((2, 0), 1), ((2, 1), 1), ((2, 2), 1))


def test_irreps_of_the_cube_are_those_of_the_cube() -> None:
    group = copy_of(CubeGroup())
    names = [
        representation_from_operators(CubeGroup(), elements=rep.discrete).irreps[0][0]
        for rep in group.irreps()
    ]
    assert sorted(names) == ["A1", "A2", "E", "T1", "T2"]


@pytest.mark.parametrize("group", [Q8, copy_of(CubeGroup()), copy_of(DihedralGroup(5))], ids=repr)
def test_the_regular_representation_permutes_the_elements(group: MatrixGroup) -> None:
    rep = group.regular()
    everything = group.elements()
    for place, g in enumerate(everything):
        targets = [int((everything - g @ h).abs().amax(dim=(1, 2)).argmin()) for h in everything]
        expected = torch.eye(len(everything), dtype=torch.float64)[targets].T
        torch.testing.assert_close(rep(everything[place]), expected, atol=1e-11, rtol=0)


def test_irreps_of_rotations_have_their_characters() -> None:
    group = MatrixGroup([HIDDEN @ x @ HIDDEN.T for x in SO3().defining().generators])
    q = torch.as_tensor(HIDDEN)
    g = SO3().sample(10, generator=torch.Generator().manual_seed(0))
    irreps = group.irreps(6)
    assert [rep.irreps for rep in irreps] == [(((k, 0), 1),) for k in range(7)]
    for k, rep in enumerate(irreps):
        ours = rep(q @ g @ q.T).diagonal(dim1=-2, dim2=-1).sum(-1)
        theirs = SO3().irrep(k)(g).diagonal(dim1=-2, dim2=-1).sum(-1)
        torch.testing.assert_close(ours, theirs, atol=1e-10, rtol=0)


def test_irreps_of_su2_alternate_between_quaternionic_and_real() -> None:
    irreps = [SU2.matrix_irrep(rep.irreps[0][0]) for rep in SU2.irreps(5)]
    assert [(irrep.dim, irrep.commutant) for irrep in irreps] == [
        (1, 1),
        (4, 4),  # spin 1/2
        (3, 1),
        (8, 4),  # spin 3/2
        (5, 1),
        (12, 4),
    ]


def test_irreps_of_su3() -> None:
    """The fundamental representation, 3, as six real dimensions: 3 x 3 = 6 + 3*, 3 x 3* = 8 + 1, and
    6 x 3 = 10 + 8, 8 x 3 = 15 + 6* + 3. Those unlike their conjugates double and are of complex type."""
    complexes = []
    for a, b in ((0, 1), (0, 2), (1, 2)):
        for entry in (1, 1j):
            x = np.zeros((3, 3), dtype=complex)
            x[a, b], x[b, a] = entry, -np.conj(entry)
            complexes.append(x)
    complexes += [1j * np.diag([1, -1, 0]), 1j * np.diag([1, 1, -2])]
    group = MatrixGroup([np.block([[x.real, -x.imag], [x.imag, x.real]]) for x in complexes])
    irreps = [group.matrix_irrep(rep.irreps[0][0]) for rep in group.irreps(3)]
    assert [(irrep.dim, irrep.commutant) for irrep in irreps[:4]] == [(1, 1), (6, 2), (8, 1), (12, 2)]
    assert sorted((irrep.dim, irrep.commutant) for irrep in irreps[4:]) == [(20, 2), (30, 2)]


def test_irreps_of_o3_come_with_both_parities() -> None:
    group = copy_of(O3())
    found = sorted((rep.dim, round(float(rep(-torch.eye(3))[0, 0]))) for rep in group.irreps(3))
    # Pseudoscalars are a product of three vectors, axial vectors one of two.
    assert found == [(1, -1), (1, 1), (3, -1), (3, 1), (5, -1), (5, 1), (7, -1)]


@given(copies, st.data())
def test_tensor_products(group: MatrixGroup, data: st.DataObject) -> None:
    irreps = group.irreps(2)
    a, b = (data.draw(st.sampled_from(irreps)) for _ in range(2))
    g = drawn(group, 3, 2)
    expected = torch.einsum("nab,ncd->nacbd", a(g), b(g)).reshape(2, a.dim * b.dim, -1)
    torch.testing.assert_close((a @ b)(g), expected, atol=1e-10, rtol=0)
    labels = group.tensor_candidates(a.irreps[0][0], b.irreps[0][0])
    assert {label for label, _ in (a @ b).irreps} <= set(labels)


@pytest.mark.parametrize("scale", [0.0, 1e-3, 1.0, 4.0])
def test_irreps_are_differentiable(scale: float) -> None:
    rep = ROTATIONS.irrep((2, 0))
    a = scale * torch.randn(2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.autograd.gradcheck(lambda x: rep(ROTATIONS.exp(x)), a.requires_grad_(True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_irreps_are_evaluated_in_the_dtype_and_batch_of_the_elements(dtype: torch.dtype) -> None:
    rep = ROTATIONS.irrep((3, 0))
    g = ROTATIONS.sample(6, generator=torch.Generator().manual_seed(0)).reshape(2, 3, 3, 3)
    narrow = rep(g.to(dtype))
    assert narrow.dtype == dtype
    assert narrow.shape == (2, 3, 7, 7)
    # A polynomial of degree three multiplies the rounding of its entries about threefold.
    torch.testing.assert_close(narrow.double(), rep(g), atol=10 * torch.finfo(dtype).eps, rtol=0)


def test_defining_representation_of_a_sum() -> None:
    generators = [block_diag(x, x, 0) for x in SO3().defining().generators]
    rep = MatrixGroup(generators).defining()
    assert rep.irreps == (((0, 0), 1), ((1, 0), 2))
    np.testing.assert_allclose(rep.generators, generators, atol=1e-12)
    assert rep.group.regular(2).irreps == (((0, 0), 1), ((1, 0), 3), ((2, 0), 5))


def test_restriction_is_to_the_group_itself() -> None:
    assert Q8.irrep((1, 0)).restrict(Q8).irreps == (((1, 0), 1),)
    with pytest.raises(ValueError, match=r"restriction from Q_8 to SO\(2\)"):
        Q8.irrep((1, 0)).restrict(SO2())


def test_projectors_and_certificates() -> None:
    rep = ROTATIONS.defining()
    w = torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    ours = EquivariantProjector(rep, rep, Hard(1.5))
    known = SO3().defining()
    theirs = EquivariantProjector(known, known, Hard(1.5))
    torch.testing.assert_close(ours(w), theirs(w), atol=1e-12, rtol=0)
    certificate, reference = ours.certificate(w), theirs.certificate(w)
    g = drawn(ROTATIONS, 0)
    torch.testing.assert_close(certificate.bound(g), reference.bound(g), atol=1e-9, rtol=0)
    # No diameter is known, so the supremum says no more than the triangle inequality.
    assert certificate.supremum() == pytest.approx(2 * certificate.norm, rel=1e-12)
    assert "Certificate" in repr(certificate)


# -- identity and errors -----------------------------------------------------------------------


def test_groups_are_compared_by_content_and_immutable() -> None:
    assert MatrixGroup(elements=[QI, QJ]) == Q8
    assert hash(MatrixGroup(elements=torch.tensor(np.stack([QI, QJ])))) == hash(Q8)
    assert MatrixGroup(elements=[QJ, QI]) != Q8
    assert MatrixGroup(elements=[np.eye(4)]) != MatrixGroup(elements=[np.eye(4), np.eye(4)])
    assert repr(Q8) == "Q_8"
    assert repr(MatrixGroup([TURN], [np.diag([1, -1])])) == "MatrixGroup(2 x 2, 1 + 1 generators)"
    with pytest.raises(AttributeError):
        Q8.name = "other"
    with pytest.raises(ValueError, match="read-only"):
        Q8.discrete[0, 0, 0] = 1
    assert (Q8.lie_dim, SU2.lie_dim, Q8.order, SU2.order) == (0, 3, 8, None)


JX, JY, JZ = SO3().defining().generators


@pytest.mark.parametrize(
    ("algebra", "elements", "error", "message"),
    [
        ([], [], ValueError, "must hold matrices of one shape, got none"),
        ([TURN], [np.eye(3)], ValueError, r"matrices of one shape, got \[\(2, 2\), \(3, 3\)\]"),
        ([np.eye(2)], [], ValueError, r"algebra\[0\] must be skew"),
        ([], [np.diag([1.0, 2.0])], ValueError, r"elements\[0\] must be orthogonal"),
        ([], [TURN[:1]], ValueError, r"elements\[0\] must be a square matrix, got shape \(1, 2\)"),
        ([], [1j * TURN], TypeError, r"elements\[0\] must be real"),
        ([np.full((2, 2), np.inf)], [], ValueError, r"algebra\[0\] must be finite"),
        ([np.zeros((2, 2))], [], ValueError, r"algebra\[0\] must not be zero"),
        ([TURN, 2 * TURN], [], ValueError, "algebra must be linearly independent"),
        ([JX, JY], [], ValueError, r"\[algebra\[1\], algebra\[0\]\] must lie in the span .* is 7\.1e-01"),
        ([JZ], [HIDDEN], ValueError, r"elements\[0\] algebra\[0\] elements\[0\]\^-1 must lie in the span"),
    ],
)
def test_generators_of_no_group_are_refused(algebra, elements, error, message: str) -> None:
    with pytest.raises(error, match=message):
        MatrixGroup(algebra, elements)


def test_elements_and_labels_of_no_group_are_refused() -> None:
    with pytest.raises(ValueError, match=r"must have shape \(..., 4, 4\)"):
        Q8.check(torch.eye(3))
    with pytest.raises(ValueError, match="must be orthogonal"):
        Q8.check(2 * torch.eye(4))
    with pytest.raises(TypeError, match="must be floating"):
        Q8.check(torch.eye(4, dtype=torch.int64))
    with pytest.raises(ValueError, match="g is none of the 8 elements"):
        Q8.word_length(SU2.exp(torch.tensor([0.1, 0.2, 0.3])))
    with pytest.raises(ValueError, match="is infinite: it has no list of elements"):
        SU2.elements()
    with pytest.raises(ValueError, match="no quadrature"):
        SU2.quadrature(2)
    for label in (3, (1,), (1, True), ("a", 0), (-1, 0)):
        with pytest.raises(ValueError, match="label"):
            Q8.check_label(label)
    with pytest.raises(ValueError, match=r"Q_8 has 1 irreps of degree 1, got label \(1, 1\)"):
        Q8.check_label((1, 1))
    with pytest.raises(ValueError, match=r"say irreps\(max_label=...\)"):
        SU2.irreps()
    with pytest.raises(ValueError, match="max_label must be an integer degree >= 0, got -1"):
        SU2.irreps(-1)


def test_infinite_groups_without_an_algebra_are_refused(monkeypatch) -> None:
    monkeypatch.setattr("equikernels.group.matrix_closure.LARGEST_ORDER", 500)
    c, s = math.cos(1.0), math.sin(1.0)
    group = MatrixGroup(elements=[np.array([[c, -s], [s, c]])])
    with pytest.raises(ValueError, match="more than 500 matrices of size 2: an infinite group"):
        _ = group.order
