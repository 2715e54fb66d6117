"""The isotypic decomposition of any compact or finite group, from operators alone."""

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import block_diag, expm

from equikernels.group import SO3, CubeGroup, DihedralGroup, GridTranslations, SymmetricGroup
from equikernels.group.averaging import averaged
from equikernels.group.intertwiners import intertwiner_space
from equikernels.group.isotypic import IsotypicBlock, alignment, isotypic_blocks

TURN = np.array([[0.0, -1.0], [1.0, 0.0]])
# Left multiplication by the quaternions i and j on (1, i, j, k).
QI = np.array([[0.0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 0, -1], [0, 0, 1, 0]])
QJ = np.array([[0.0, 0, -1, 0], [0, 0, 0, 1], [1, 0, 0, 0], [0, -1, 0, 0]])
SU2 = [QI / 2, QJ / 2, QI @ QJ / 2]

COPIES_AGREE = 1e-11
"""Rounding of a few hundred products of matrices with entries up to ten."""


def cycle(n: int) -> np.ndarray:
    return np.roll(np.eye(n), 1, axis=0)


def hidden(operators: list[np.ndarray], seed: int) -> list[np.ndarray]:
    """The operators in a random orthonormal basis."""
    q = np.linalg.qr(np.random.default_rng(seed).standard_normal(operators[0].shape))[0]
    return [q @ a @ q.T for a in operators]


def kinds(blocks: list[IsotypicBlock]) -> list[tuple[int, int, int]]:
    return [(block.dim, block.copies, block.commutant) for block in blocks]


def check_blocks(blocks: list[IsotypicBlock], operators: list[np.ndarray]) -> None:
    """One orthonormal basis, in which operators are block diagonal and equal on all copies of a block."""
    basis = np.concatenate([block.basis for block in blocks], axis=1)
    np.testing.assert_allclose(basis.T @ basis, np.eye(len(operators[0])), atol=COPIES_AGREE)
    for a in operators:
        forms = [block.form(a) for block in blocks for _ in range(block.copies)]
        np.testing.assert_allclose(basis.T @ a @ basis, block_diag(*forms), atol=COPIES_AGREE)


# -- known decompositions ----------------------------------------------------------------------

FINITE = [
    ("C_1", [np.eye(3)], [(1, 3, 1)]),
    ("C_2", [cycle(2)], [(1, 1, 1), (1, 1, 1)]),
    ("C_2, only -1", [-np.eye(4)], [(1, 4, 1)]),
    ("C_3", [cycle(3)], [(1, 1, 1), (2, 1, 2)]),
    ("C_7", [cycle(7)], [(1, 1, 1), (2, 1, 2), (2, 1, 2), (2, 1, 2)]),
    ("C_101", [cycle(101)], [(1, 1, 1)] + 50 * [(2, 1, 2)]),
    ("3 C_3", [np.kron(np.eye(3), cycle(3))], [(1, 3, 1), (2, 3, 2)]),
    ("Q_8", [QI, QJ], [(4, 1, 4)]),
    ("5 Q_8", [np.kron(np.eye(5), QI), np.kron(np.eye(5), QJ)], [(4, 5, 4)]),
    ("D_4", list(DihedralGroup(4).regular().discrete), 4 * [(1, 1, 1)] + [(2, 2, 1)]),
    ("S_4", list(SymmetricGroup(4).defining().discrete), [(1, 1, 1), (3, 1, 1)]),
    (
        "S_4, regular",
        list(SymmetricGroup(4).regular().discrete),
        [(1, 1, 1), (1, 1, 1), (2, 2, 1), (3, 3, 1), (3, 3, 1)],
    ),
    ("cube", list(CubeGroup().regular().discrete), [(1, 1, 1), (1, 1, 1), (2, 2, 1), (3, 3, 1), (3, 3, 1)]),
    ("grid", list(GridTranslations(3, 4).regular().discrete), [(1, 1, 1), (1, 1, 1)] + 5 * [(2, 1, 2)]),
]


@pytest.mark.parametrize(("discrete", "expected"), [c[1:] for c in FINITE], ids=[c[0] for c in FINITE])
def test_finite_groups(discrete: list[np.ndarray], expected: list[tuple[int, int, int]]) -> None:
    for operators in (discrete, hidden(discrete, 1)):
        blocks = isotypic_blocks([], operators)
        assert kinds(blocks) == expected
        check_blocks(blocks, operators)


def test_a_sign_is_told_from_the_trivial_representation() -> None:
    # A walk by words of one parity would take the two for one.
    sign = list(SymmetricGroup(4).sign().discrete)
    blocks = isotypic_blocks([], [block_diag(s, np.eye(1), s) for s in sign])
    assert kinds(blocks) == [(1, 1, 1), (1, 2, 1)]
    assert float(blocks[0].form(np.diag([0.0, 1, 0]))[0, 0]) == pytest.approx(1, abs=1e-12)


LIE = [
    ("SO(2)", [block_diag(TURN, 2 * TURN, 2 * TURN, 0)], [(1, 1, 1), (2, 1, 2), (2, 2, 2)]),
    ("torus line", [block_diag(TURN, np.sqrt(2) * TURN)], [(2, 1, 2), (2, 1, 2)]),
    ("SU(2)", SU2, [(4, 1, 4)]),
    ("6 SU(2)", [np.kron(np.eye(6), x) for x in SU2], [(4, 6, 4)]),
    ("trivial", [np.zeros((3, 3))], [(1, 3, 1)]),
]


@pytest.mark.parametrize(("lie", "expected"), [c[1:] for c in LIE], ids=[c[0] for c in LIE])
def test_lie_groups(lie: list[np.ndarray], expected: list[tuple[int, int, int]]) -> None:
    for operators in (lie, hidden(lie, 2)):
        blocks = isotypic_blocks(operators)
        assert kinds(blocks) == expected
        check_blocks(blocks, operators)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e4])
def test_the_scale_of_the_generators_does_not_matter(scale: float) -> None:
    lie = hidden([scale * np.kron(np.eye(2), x) for x in SU2], 3)
    assert kinds(isotypic_blocks(lie)) == [(4, 2, 4)]


def test_lie_and_discrete_generators_together() -> None:
    # O(2) on two planes of frequency 1, the trivial line and det; the flip commutes with nothing else.
    lie = [block_diag(TURN, TURN, 0, 0)]
    flip = [block_diag(np.diag([1.0, -1]), np.diag([1.0, -1]), 1, -1)]
    operators = hidden(lie + flip, 4)
    blocks = isotypic_blocks(operators[:1], operators[1:])
    assert kinds(blocks) == [(1, 1, 1), (1, 1, 1), (2, 2, 1)]
    check_blocks(blocks, operators)


@pytest.mark.parametrize("power", [4, 5])
def test_tensor_powers_of_vectors(power: int) -> None:
    vector = SO3().defining()
    rep = vector
    for _ in range(power - 1):
        rep = rep @ vector
    counts: dict[int, int] = {1: 1}
    for _ in range(power - 1):  # l times 1 is l - 1, l, l + 1, and 0 times 1 is 1
        terms = [(k, m) for degree, m in counts.items() for k in range(abs(degree - 1), degree + 2)]
        counts = {k: sum(m for other, m in terms if other == k) for k, _ in terms}
    operators = hidden(list(rep.generators), 5)
    blocks = isotypic_blocks(operators)
    assert kinds(blocks) == [(2 * k + 1, counts[k], 1) for k in sorted(counts)]
    check_blocks(blocks, operators)


# -- laws ----------------------------------------------------------------------------------------


@given(st.data())
def test_schurs_lemma(data: st.DataObject) -> None:
    """Random sums over C_5 x Q_8: maps between found irreps have dimension 1, 2, 4, between others none."""
    signs = [np.eye(1), -np.eye(1)]
    irreps = [
        *((a, b, np.eye(1)) for a in signs for b in signs),
        (QI, QJ, np.eye(4)),
        *((np.eye(2), np.eye(2), expm(2 * np.pi * k / 5 * TURN)) for k in (1, 2)),
    ]
    chosen = data.draw(st.lists(st.sampled_from(range(len(irreps))), min_size=1, max_size=6))
    operators = [block_diag(*parts) for parts in zip(*(irreps[i] for i in chosen), strict=True)]
    operators = hidden(operators, data.draw(st.integers(0, 2**32 - 1)))
    blocks = isotypic_blocks([], operators)
    commutants = [1, 1, 1, 1, 4, 2, 2]
    expected = sorted((len(irreps[i][0]), chosen.count(i), commutants[i]) for i in set(chosen))
    assert sorted(kinds(blocks)) == expected
    for a in blocks:
        for b in blocks:
            q = np.linalg.qr(np.random.default_rng(0).standard_normal((b.dim, b.dim)))[0]
            forms = [(a.form(g), q.T @ b.form(g) @ q) for g in operators]
            space = intertwiner_space([], forms)
            assert len(space) == (a.commutant if a is b else 0)
            t = alignment(([], [s for s, _ in forms]), ([], [g for _, g in forms]))
            assert (t is not None) == (a is b)
            if t is not None:
                np.testing.assert_allclose(t.T @ t, np.eye(a.dim), atol=1e-12)
                for source, target in forms:
                    np.testing.assert_allclose(target @ t, t @ source, atol=COPIES_AGREE)


def test_equal_traces_do_not_make_irreps_equivalent() -> None:
    # C_5 x C_5 on planes of frequencies (1, 1) and (1, -1).
    turn = expm(2 * np.pi / 5 * TURN)
    assert alignment(([], [turn, turn]), ([], [turn, turn.T])) is None
    blocks = isotypic_blocks([], hidden([block_diag(turn, turn), block_diag(turn, turn.T)], 0))
    assert kinds(blocks) == [(2, 1, 2), (2, 1, 2)]


def test_averages_are_those_over_all_elements() -> None:
    rep = SymmetricGroup(4).regular()
    start = np.random.default_rng(0).standard_normal((2, 24, 24))
    everything = rep(SymmetricGroup(4).elements()).numpy()
    expected = np.stack([(everything @ m @ everything.transpose(0, 2, 1)).mean(0) for m in start])
    found = averaged([], list(rep.discrete), start, np.random.default_rng(1))
    np.testing.assert_allclose(found, expected, atol=1e-11)


def test_averages_are_those_over_a_lie_group() -> None:
    rep = SO3().defining() @ SO3().defining()
    start = np.random.default_rng(0).standard_normal((1, 9, 9))
    rotations, weights = SO3().quadrature(4)
    rho = rep(rotations).numpy()
    expected = np.einsum("k,kab,bc,kdc->ad", weights.numpy(), rho, start[0], rho, optimize=True)
    found = averaged(list(rep.generators), [], start, np.random.default_rng(1))
    np.testing.assert_allclose(found[0], expected, atol=1e-11)


def test_seeds_change_bases_but_no_blocks() -> None:
    operators = hidden(list(CubeGroup().regular().discrete), 0)
    first, second = (isotypic_blocks([], operators, seed=seed) for seed in (0, 7))
    assert kinds(first) == kinds(second)
    for a, b in zip(first, second, strict=True):
        np.testing.assert_allclose(a.basis @ a.basis.T, b.basis @ b.basis.T, atol=1e-11)
    assert np.abs(first[-1].basis - second[-1].basis).max() > 0.01


PROGRAM = """
import sys
import numpy as np
from scipy.linalg import block_diag
from equikernels.group import SO3, isotypic_blocks
rep = SO3().defining()
rep = rep @ rep @ rep @ rep
q = np.linalg.qr(np.random.default_rng(0).standard_normal((81, 81)))[0]
blocks = isotypic_blocks([q @ x @ q.T for x in rep.generators])
np.save(sys.argv[1], np.concatenate([block.basis for block in blocks], axis=1))
"""


def test_threads_do_not_change_bases(tmp_path) -> None:
    running = []
    for threads in ("1", "2"):
        environment = {**os.environ, "OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads}
        command = [sys.executable, "-c", PROGRAM, str(tmp_path / f"{threads}.npy")]
        running.append(subprocess.Popen(command, env=environment))
    assert [process.wait() for process in running] == [0, 0]
    bases = [np.load(tmp_path / f"{threads}.npy") for threads in ("1", "2")]
    np.testing.assert_allclose(bases[0], bases[1], atol=1e-9)


def test_rounding_does_not_change_bases() -> None:
    """What another order of summation would do to the operators."""
    rep = SO3().defining() @ SO3().defining() @ SO3().defining()
    operators = hidden(list(rep.generators), 6)
    noise = 1e-15 * np.random.default_rng(0).standard_normal((3, 27, 27))
    moved = [a + n - n.T for a, n in zip(operators, noise, strict=True)]
    for a, b in zip(isotypic_blocks(operators), isotypic_blocks(moved), strict=True):
        np.testing.assert_allclose(a.basis, b.basis, atol=1e-9)


# -- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lie", "discrete", "message"),
    [
        ([], [], "at least one operator"),
        ([TURN], [np.eye(3)], r"discrete\[0\] must be a square matrix, of one size"),
        ([TURN[:1]], [], r"lie\[0\] must be a square matrix"),
        ([np.zeros((0, 0))], [], r"lie\[0\] must be a square matrix"),
        ([np.full((2, 2), np.nan)], [], r"lie\[0\] must be finite"),
        ([np.eye(2)], [], r"lie\[0\] must be skew, but \|A \+ A\^T\| is 2.0e\+00"),
        ([], [np.eye(2), 2 * TURN], r"discrete\[1\] must be orthogonal, but \|R R\^T - I\| is 3.0e\+00"),
    ],
)
def test_matrices_that_are_no_operators_are_refused(lie, discrete, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        isotypic_blocks(lie, discrete)


def perturbed(size: float) -> list[np.ndarray]:
    skew = np.random.default_rng(0).standard_normal((2, 8, 8))
    skew -= skew.transpose(0, 2, 1)
    return [expm(size * x) @ g for x, g in zip(skew, DihedralGroup(4).regular().discrete, strict=True)]


def test_rounded_operators_are_decomposed_and_inexact_ones_refused() -> None:
    assert kinds(isotypic_blocks([], perturbed(1e-11))) == 4 * [(1, 1, 1)] + [(2, 2, 1)]
    with pytest.raises(ValueError, match="averaging over the group did not end"):
        isotypic_blocks([], perturbed(2e-9))
