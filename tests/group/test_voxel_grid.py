"""The rotations of the cube; the voxels of a cube under them, and under spectral turns about z."""

import functools
import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from equikernels.group import O2, SO2, CyclicGroup, DihedralGroup, pixel_grid
from equikernels.group.cube import CubeGroup
from equikernels.group.grids.voxel import VoxelRepresentation, voxel_grid
from equikernels.group.words import canonical_word, word_lengths

cube_elements = st.integers(0, 23)

# rot90 carries its first axis to its second. About x up goes to depth, so depth goes to down, the rows;
# about y depth goes to right, the columns; about z down goes to right.
PLANES = {1: (-3, -2), 2: (-3, -1), 3: (-2, -1)}


def turned(volume: torch.Tensor, g: int) -> torch.Tensor:
    """A volume turned by quarter turns of torch, the last letter of a word first."""
    for letter in reversed(canonical_word(CubeGroup(), g)):
        volume = torch.rot90(volume, 1 if letter > 0 else -1, PLANES[abs(letter)])
    return volume


# -- the cube ------------------------------------------------------------------------------------


def turn(axis: int) -> np.ndarray:
    """The turn by +90 degrees about an axis: the next axis to the one after, that one to minus the next."""
    matrix = np.zeros((3, 3), dtype=int)
    matrix[axis, axis] = 1
    first, second = (axis + 1) % 3, (axis + 2) % 3
    matrix[second, first], matrix[first, second] = 1, -1
    return matrix


def test_cube_holds_every_rotation_once() -> None:
    matrices = CubeGroup().matrices
    assert matrices.dtype == np.int64
    assert not matrices.flags.writeable
    signed = []
    for permutation in itertools.permutations(range(3)):
        for signs in itertools.product((1, -1), repeat=3):
            matrix = np.eye(3, dtype=int)[list(permutation)] * np.array(signs)
            if round(np.linalg.det(matrix)) == 1:
                signed.append(matrix.tobytes())
    assert sorted(m.tobytes() for m in matrices) == sorted(signed)
    np.testing.assert_array_equal(matrices[0], np.eye(3))


def test_cube_order_is_as_documented() -> None:
    G = CubeGroup()
    x, y, z = (turn(axis) for axis in range(3))
    np.testing.assert_array_equal(G.matrices[list(G.discrete_elements)], [x, y, z])
    for c, t in enumerate((np.eye(3), x, x @ x, x.T, y, y.T)):
        for j in range(4):
            np.testing.assert_array_equal(G.matrices[4 * c + j], t @ np.linalg.matrix_power(z, j))


@given(cube_elements, cube_elements)
def test_cube_composes_as_matrices_do(g: int, h: int) -> None:
    G = CubeGroup()
    np.testing.assert_array_equal(G.matrices[int(G.compose(g, h))], G.matrices[g] @ G.matrices[h])
    np.testing.assert_array_equal(G.matrices[int(G.inverse(g))], G.matrices[g].T)
    np.testing.assert_array_equal(G.defining()(g), G.matrices[g])


def test_cube_characters() -> None:
    """Orthonormal characters with the dimensions 1, 1, 2, 3, 3: all irreps, each absolutely irreducible."""
    G = CubeGroup()
    irreps = G.irreps()
    assert [rep.dim for rep in irreps] == [1, 1, 2, 3, 3]
    characters = np.stack([rep(G.elements()).diagonal(dim1=1, dim2=2).sum(-1) for rep in irreps])
    np.testing.assert_allclose(characters @ characters.T / 24, np.eye(5), atol=1e-14)
    # The columns: identity, half turn, quarter turn about z; a third of a turn about (1, 1, 1).
    third = int(G.from_matrix([[0, 0, 1], [1, 0, 0], [0, 1, 0]]))
    expected = [[1, 1, 1, 1], [1, 1, -1, 1], [2, 2, 0, -1], [3, -1, 1, 0], [3, -1, -1, 0]]
    np.testing.assert_allclose(characters[:, [0, 2, 1, third]], expected, atol=1e-14)


def test_cube_second_irrep_is_the_sign_of_the_diagonals() -> None:
    G = CubeGroup()
    diagonals = [(1, 1, 1), (1, 1, -1), (1, -1, 1), (-1, 1, 1)]
    for g, matrix in enumerate(G.matrices):
        images = [tuple(matrix @ d) for d in diagonals]
        order = [next(i for i, d in enumerate(diagonals) if abs(np.dot(d, v)) == 3) for v in images]
        inversions = sum(a > b for a, b in itertools.combinations(order, 2))
        assert float(G.irrep("A2")(g)) == (-1) ** inversions
        torch.testing.assert_close(G.irrep("T2")(g), (-1) ** inversions * G.irrep("T1")(g))


def test_cube_generators_and_their_inverses_are_a_conjugacy_class() -> None:
    G = CubeGroup()
    letters = {int(letter) for s in G.discrete_elements for letter in (s, G.inverse(s))}
    assert set(G.conjugates()) == letters
    assert word_lengths(G).max() == G.diameter


@pytest.mark.parametrize("label", ["A1", "A2", "E", "T1", "T2"])
def test_cube_restrictions(label: str) -> None:
    G = CubeGroup()
    rep = G.irrep(label)
    assert rep.restrict(G).irreps == rep.irreps
    assert torch.equal(rep.restrict(G)(17), rep(17))
    for n in (1, 2, 4):
        restricted = rep.restrict(CyclicGroup(n))
        for j in range(n):
            np.testing.assert_allclose(restricted(j), rep(j * 4 // n), atol=1e-14)


def test_cube_elements_from_matrices() -> None:
    G = CubeGroup()
    np.testing.assert_array_equal(G.from_matrix(G.matrices), np.arange(24))
    noisy = torch.as_tensor(G.matrices.copy()).double() + 1e-8
    np.testing.assert_array_equal(G.from_matrix(noisy.reshape(4, 6, 3, 3)), np.arange(24).reshape(4, 6))


# -- voxels ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
def test_cube_permutes_voxels_as_torch_turns_volumes(n: int) -> None:
    rep = voxel_grid(n, CubeGroup())
    volume = torch.randn(n, n, n, dtype=torch.float64)
    for g in range(24):
        image = (rep(g) @ volume.reshape(-1)).reshape(n, n, n)
        assert torch.equal(image, turned(volume, g))
    assert rep.method == "permutation"
    assert max(rep.defects().values()) == 0.0


@given(st.integers(1, 4), cube_elements, cube_elements)
def test_cube_on_voxels_is_a_homomorphism(n: int, g: int, h: int) -> None:
    rep = voxel_grid((n, n, n), CubeGroup())
    assert torch.equal(rep(g) @ rep(h), rep(CubeGroup().compose(g, h)))


@pytest.mark.parametrize("n", [3, 4])
def test_a_bright_voxel_moves_as_the_matrix_says(n: int) -> None:
    """x right, y up, z depth about the centre: the definition, with no index map in between."""
    rep = voxel_grid(n, CubeGroup())
    centre = (n - 1) / 2
    for g, matrix in enumerate(CubeGroup().matrices):
        for depth, row, column in [(0, 0, 0), (1, 0, n - 1), (0, 2, 1)]:
            x, y, z = matrix @ np.array([column - centre, centre - row, depth - centre])
            volume = torch.zeros(n, n, n, dtype=torch.float64)
            volume[depth, row, column] = 1
            image = (rep(g) @ volume.reshape(-1)).reshape(n, n, n)
            assert image[round(z + centre), round(centre - y), round(x + centre)] == 1
            assert image.sum() == 1


def test_normal_form_of_voxels() -> None:
    """Multiplicities are inner products of characters: a permutation's character counts its fixed voxels."""
    G = CubeGroup()
    rep = voxel_grid(3, G)
    character = rep(G.elements()).diagonal(dim1=1, dim2=2).sum(-1)
    expected = {}
    for irrep in G.irreps():
        own = irrep(G.elements()).diagonal(dim1=1, dim2=2).sum(-1)
        expected[irrep.irreps[0][0]] = round(float((own * character).mean()))
    assert dict(rep.irreps) == {label: m for label, m in expected.items() if m}
    blocks = torch.block_diag(*(G.irrep(label)(22) for label, m in rep.irreps for _ in range(m)))
    basis = rep.change_of_basis
    np.testing.assert_allclose(basis @ blocks.numpy() @ basis.T, rep(22), atol=1e-13)


@pytest.mark.parametrize("n", [1, 2, 4])
@pytest.mark.parametrize("side", [2, 3])
def test_turns_about_z_are_those_of_the_cube(n: int, side: int) -> None:
    rep = voxel_grid(side, CyclicGroup(n))
    whole = voxel_grid(side, CubeGroup())
    restricted = whole.restrict(CyclicGroup(n))
    for j in range(n):
        assert torch.equal(rep(j), whole(j * 4 // n))
        np.testing.assert_allclose(restricted(j), rep(j), atol=1e-13)


@functools.cache
def spectral(n: int) -> VoxelRepresentation:
    return voxel_grid(n, SO2())


@settings(max_examples=40)
@given(st.integers(1, 4), st.floats(-7, 7), st.floats(-7, 7))
def test_spectral_turns_keep_the_group_law_and_act_slice_by_slice(n: int, a: float, b: float) -> None:
    rep = spectral(n)
    torch.testing.assert_close(rep(a) @ rep(b), rep(a + b), atol=1e-12, rtol=0)
    volume = torch.randn(n, n * n, dtype=torch.float64)
    slices = volume @ pixel_grid(n, SO2())(a).mT
    torch.testing.assert_close(rep(a) @ volume.reshape(-1), slices.reshape(-1), atol=1e-12, rtol=0)


@pytest.mark.parametrize(("n", "defect"), [(3, 0.0), (4, 0.0), (5, 0.0), (6, 2 / 6)])
def test_spectral_quarter_turn(n: int, defect: float) -> None:
    """Exact but for sizes 2 modulo 4, where every slice has the one mode that cannot turn."""
    assert voxel_grid(n, SO2()).defects()["quarter_turn"] == pytest.approx(defect, abs=1e-12)
    assert voxel_grid(n, CyclicGroup(8)).defects()["quarter_turn"] == pytest.approx(defect, abs=1e-12)
    assert "quarter_turn" not in voxel_grid(n, CyclicGroup(6)).defects()


@pytest.mark.parametrize("n", [3, 6, 8])
def test_cyclic_groups_turn_spectrally(n: int) -> None:
    rep = voxel_grid(3, CyclicGroup(n))
    assert rep.method == "spectral"
    for j in range(n):
        np.testing.assert_allclose(rep(j), voxel_grid(3, SO2())(2 * math.pi * j / n), atol=1e-12)
    labels = [label for label, _ in rep.irreps]
    assert labels == sorted(set(labels))


@pytest.mark.parametrize("n", [3, 4, 5])
@pytest.mark.parametrize("group", [CubeGroup(), CyclicGroup(4), SO2()], ids=repr)
def test_ball_keeps_a_representation(n: int, group) -> None:
    rep = voxel_grid(n, group, mask="ball")
    axis = np.arange(n) - (n - 1) / 2
    inside = axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2 <= n**2 / 4
    assert rep.dim == inside.sum() < n**3
    defects = rep.defects()
    quarter_turn = defects.pop("quarter_turn")
    assert max(defects.values()) < 1e-12
    values = torch.randn(rep.dim, dtype=torch.float64)
    volume = rep.grid.fill(values)
    assert torch.equal(volume != 0, torch.as_tensor(inside))
    if group == SO2():
        # A slice with an odd number of eigenvalues -1 of the exact turn has one mode that cannot turn.
        exact = voxel_grid(n, CyclicGroup(4), mask="ball")(1)
        slices = np.split(np.arange(rep.dim), np.cumsum(inside.sum(axis=(1, 2)))[:-1])
        minus = [np.linalg.eigvals(exact.numpy()[np.ix_(s, s)]) for s in slices]
        odd = sum(int((np.abs(values + 1) < 1e-9).sum()) % 2 for values in minus)
        assert rep.obstructed_modes == odd
        assert quarter_turn == pytest.approx(2 * math.sqrt(odd / rep.dim), abs=1e-12)
        return
    assert quarter_turn == 0
    image = rep.grid.fill(rep(1) @ values)
    assert torch.equal(image, torch.rot90(volume, 1, (-2, -1)))


def test_slices_of_a_mask_turn_one_by_one_and_empty_ones_are_left_out() -> None:
    mask = torch.zeros(4, 4, 4, dtype=torch.bool)
    mask[1] = True
    mask[3, 1:3, 1:3] = True
    rep = voxel_grid(4, SO2(), mask=mask)
    whole, corner = pixel_grid(4, SO2()), pixel_grid(4, SO2(), mask=mask[3])
    np.testing.assert_allclose(rep(0.4), torch.block_diag(whole(0.4), corner(0.4)), atol=1e-12)


def test_voxel_representations_are_told_apart() -> None:
    reps = [
        voxel_grid(3, CubeGroup()),
        voxel_grid(3, CubeGroup(), mask="ball"),
        voxel_grid(3, CyclicGroup(4)),
        voxel_grid(3, CyclicGroup(4), method="spectral"),
        voxel_grid(3, SO2()),
    ]
    assert len(set(reps)) == len(reps)
    assert voxel_grid((3, 3, 3), CubeGroup()) == reps[0]
    assert repr(reps[1]) == "permutation voxels 3x3x3, masked of Cube"


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: CubeGroup().check(-1), ValueError, r"lie in 0 \.\. 23"),
        (lambda: CubeGroup().check(1.5), TypeError, "integers"),
        (lambda: CubeGroup().irrep("T3"), ValueError, "A1, A2, E, T1, T2"),
        (lambda: CubeGroup().irrep(1), ValueError, "A1, A2, E, T1, T2"),
        (lambda: CubeGroup().exp(0.1), ValueError, "no Lie algebra"),
        (lambda: CubeGroup().log(1), ValueError, "no Lie algebra"),
        (lambda: CubeGroup().defining().restrict(CyclicGroup(3)), ValueError, "turns about z"),
        (lambda: CubeGroup().defining().restrict(DihedralGroup(4)), ValueError, "turns about z"),
        (lambda: CubeGroup().from_matrix(np.eye(2)), ValueError, r"\(\.\.\., 3, 3\)"),
        (lambda: CubeGroup().from_matrix(-np.eye(3)), ValueError, "carries the cube"),
        (lambda: CubeGroup().from_matrix(np.full((3, 3), np.nan)), ValueError, "carries the cube"),
        (lambda: voxel_grid(0, CubeGroup()), ValueError, "N >= 1"),
        (lambda: voxel_grid(True, CubeGroup()), ValueError, "N >= 1"),
        (lambda: voxel_grid((3, 3), CubeGroup()), ValueError, "only cubes"),
        (lambda: voxel_grid((3, 3, 4), CubeGroup()), ValueError, "only cubes"),
        (lambda: voxel_grid(2.5, CubeGroup()), TypeError, "size"),
        (lambda: voxel_grid(3, O2()), ValueError, r"CubeGroup\(\), SO3\(\), or SO2\(\) or CyclicGroup"),
        (lambda: voxel_grid(3, DihedralGroup(4)), ValueError, r"got D_4"),
        (lambda: voxel_grid(3, CubeGroup(), method="bilinear"), ValueError, "method must be"),
        (lambda: voxel_grid(3, CubeGroup(), method="spectral"), ValueError, 'method="permutation"'),
        (lambda: voxel_grid(3, CyclicGroup(3), method="permutation"), ValueError, 'use method="spectral"'),
        (lambda: voxel_grid(3, SO2(), method="permutation"), ValueError, 'use method="spectral"'),
        (lambda: voxel_grid(3, CubeGroup(), mask="disc"), ValueError, '"ball"'),
        (lambda: voxel_grid(3, CubeGroup(), mask=torch.ones(3, 3, 3)), ValueError, "must be boolean"),
        (lambda: voxel_grid(3, CubeGroup(), mask=np.zeros((3, 3, 3), bool)), ValueError, "at least one"),
        (
            lambda: voxel_grid(3, CubeGroup(), mask=np.arange(27).reshape(3, 3, 3) < 9),
            ValueError,
            "symmetric under the rotations",
        ),
        (lambda: voxel_grid(3, CubeGroup()).defects(torch.zeros(3, 3, 3)), ValueError, "pixel grids"),
    ],
)
def test_bad_values_are_named(call, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
