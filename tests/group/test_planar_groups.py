"""O(2) and D_n: reflections beside turns."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from equikernels.group import O2, SO2, CyclicGroup, DihedralGroup, PermutationRepresentation, pixel_grid

angles = st.floats(-20, 20, allow_nan=False)
pairs = st.tuples(angles, st.integers(0, 1))
orders = st.integers(1, 12)


def plane(g: tuple[float, int]) -> np.ndarray:
    """R(angle) F^flip as a matrix on (x right, y up), from the definition."""
    c, s = math.cos(g[0]), math.sin(g[0])
    return np.array([[c, -s], [s, c]]) @ (np.diag([-1.0, 1.0]) if g[1] else np.eye(2))


@given(pairs, pairs)
def test_o2_composes_as_matrices_do(g, h) -> None:
    G = O2()
    np.testing.assert_allclose(G.defining()(g), plane(g), atol=1e-12)
    np.testing.assert_allclose(G.defining()(G.compose(g, h)), plane(g) @ plane(h), atol=1e-12)
    np.testing.assert_allclose(G.defining()(G.inverse(g)), plane(g).T, atol=1e-12)


@given(orders, st.data())
def test_dihedral_groups_compose_as_matrices_do(n: int, data: st.DataObject) -> None:
    G = DihedralGroup(n)
    g, h = (data.draw(st.integers(0, 2 * n - 1)) for _ in range(2))

    def matrix(k: int) -> np.ndarray:
        return plane((2 * math.pi * (k % n) / n, k // n))

    np.testing.assert_allclose(G.defining()(g), matrix(g), atol=1e-12)
    if n > 2:  # faithful on the plane
        np.testing.assert_allclose(matrix(int(G.compose(g, h))), matrix(g) @ matrix(h), atol=1e-12)
    assert int(G.compose(g, G.inverse(g))) == 0
    assert int(G.compose(G.compose(g, h), G.inverse(h))) == g


@given(orders)
def test_dihedral_word_length_is_the_breadth_first_distance(n: int) -> None:
    G = DihedralGroup(n)
    letters = [*G.discrete_elements, *(int(G.inverse(s)) for s in G.discrete_elements)]
    distance = {0: 0}
    frontier = [0]
    while frontier:
        reached = []
        for element in frontier:
            for letter in letters:
                following = int(G.compose(element, letter))
                if following not in distance:
                    distance[following] = distance[element] + 1
                    reached.append(following)
        frontier = reached
    assert G.word_length(G.elements()).tolist() == [distance[j] for j in range(2 * n)]
    assert G.diameter == max(distance.values())


@given(orders)
def test_dihedral_irreps_are_complete_and_orthogonal(n: int) -> None:
    """Squares of the dimensions sum to the order, and characters are orthonormal: no irrep is missing."""
    G = DihedralGroup(n)
    irreps = G.irreps()
    assert sum(rep.dim**2 for rep in irreps) == 2 * n
    characters = np.stack([rep(G.elements()).diagonal(dim1=1, dim2=2).sum(-1) for rep in irreps])
    np.testing.assert_allclose(characters @ characters.T / (2 * n), np.eye(len(irreps)), atol=1e-12)
    regular = dict(G.regular().irreps)
    assert regular == {rep.irreps[0][0]: rep.dim for rep in irreps}


@given(orders, st.integers(0, 30), st.booleans(), st.data())
def test_restrictions_of_o2(n: int, k: int, determinant: bool, data: st.DataObject) -> None:
    rep = O2().irrep("det" if determinant else k)
    D = DihedralGroup(n)
    g = data.draw(st.integers(0, 2 * n - 1))
    turn = 2 * math.pi * (g % n) / n
    np.testing.assert_allclose(rep.restrict(D)(g), rep((turn, g // n)), atol=1e-11)
    np.testing.assert_allclose(rep.restrict(CyclicGroup(n))(g % n), rep((turn, 0)), atol=1e-11)
    np.testing.assert_allclose(rep.restrict(SO2())(0.7), rep((0.7, 0)), atol=1e-12)


@given(st.integers(1, 6), st.integers(1, 4), st.data())
def test_restrictions_of_dihedral_groups(m: int, ratio: int, data: st.DataObject) -> None:
    n = m * ratio
    G = DihedralGroup(n)
    rep = data.draw(st.sampled_from(G.irreps()))
    g = data.draw(st.integers(0, 2 * m - 1))
    inside = (g % m) * ratio + n * (g // m)
    np.testing.assert_allclose(rep.restrict(DihedralGroup(m))(g), rep(inside), atol=1e-12)
    np.testing.assert_allclose(rep.restrict(CyclicGroup(m))(g % m), rep((g % m) * ratio), atol=1e-12)


def test_o2_samples_both_components_evenly() -> None:
    angle, flip = O2().sample(20_000, generator=torch.Generator().manual_seed(2))
    assert abs(float(flip.double().mean()) - 0.5) < 6 * 0.5 / math.sqrt(20_000)
    assert torch.exp(1j * angle).mean().abs() < 6 / math.sqrt(20_000)


def test_o2_elements_broadcast_and_differentiate() -> None:
    rep = O2().regular(3)
    angle = torch.randn(4, 1, dtype=torch.float64, requires_grad=True)
    flip = torch.tensor([0, 1])
    rho = rep((angle, flip))
    assert rho.shape == (4, 2, rep.dim, rep.dim)
    rho.square().sum().backward()
    assert angle.grad is not None
    assert rep((torch.zeros(3), flip[:1])).dtype == torch.float32


def test_flip_of_the_plane_is_left_right() -> None:
    """x -> -x with y up, as the left-right flip of an image whose pixels are a field of positions."""
    np.testing.assert_array_equal(O2().defining()((0.0, 1)), [[-1, 0], [0, 1]])
    image = torch.arange(9.0, dtype=torch.float64)
    for group, flip in ((O2(), (0.0, 1)), (DihedralGroup(4), 4), (DihedralGroup(3), 3)):
        flipped = pixel_grid(3, group)(flip) @ image
        torch.testing.assert_close(flipped, image.reshape(3, 3).flip(-1).reshape(-1), atol=1e-12, rtol=0)


@pytest.mark.parametrize("n", [3, 5, 9, 15])
def test_o2_acts_on_odd_grids(n: int) -> None:
    rep = pixel_grid(n, O2())
    assert max(rep.defects().values()) < 1e-12
    np.testing.assert_allclose(rep((0.4, 0)), pixel_grid(n, SO2())(0.4), atol=1e-12)


@pytest.mark.parametrize("size", [4, 6, 8, 14, (3, 5)])
@pytest.mark.parametrize("group", [O2(), DihedralGroup(3), DihedralGroup(8)], ids=repr)
def test_even_grids_refuse_reflections_and_say_why(size, group) -> None:
    with pytest.raises(ValueError, match=r"modes that must turn have one sign under the flip.*odd size"):
        pixel_grid(size, group)


@pytest.mark.parametrize("size", [3, 4, 5, 8])
def test_d4_permutes_every_square(size: int) -> None:
    rep = pixel_grid(size, DihedralGroup(4))
    assert rep.method == "permutation"
    assert max(rep.defects().values()) == 0.0
    image = torch.randn(size * size, dtype=torch.float64)
    for g in range(8):
        expected = image.reshape(size, size)
        expected = torch.rot90(expected.flip(-1) if g >= 4 else expected, g % 4, (-2, -1))
        assert torch.equal(rep(g) @ image, expected.reshape(-1))


def test_d4_grid_multiplicities_follow_the_characters() -> None:
    """Even N: two irreps (N^2 + 2N)/8 times, two (N^2 - 2N)/8 times, the plane N^2/4 times."""
    counts = dict(pixel_grid(8, DihedralGroup(4)).irreps)
    assert counts[("1d", 0, 0)] == counts[("1d", 1, 1)] == 10
    assert counts[("1d", 0, 1)] == counts[("1d", 1, 0)] == 6
    assert counts[1] == 16


@pytest.mark.parametrize("n", [1, 2])
def test_small_dihedral_groups_permute_rectangles(n: int) -> None:
    rep = pixel_grid((3, 4), DihedralGroup(n))
    assert max(rep.defects().values()) == 0.0


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: DihedralGroup(0), ValueError, "n must be an integer >= 1"),
        (lambda: DihedralGroup(4).check(8), ValueError, r"lie in 0 \.\. 7"),
        (lambda: DihedralGroup(4).check(-1), ValueError, r"lie in 0 \.\. 7"),
        (lambda: DihedralGroup(4).check(1.5), TypeError, "integers"),
        (lambda: DihedralGroup(4).irrep(2), ValueError, "two-dimensional label must lie in 1 .. 1"),
        (lambda: DihedralGroup(3).irrep(("1d", 1, 0)), ValueError, "label must be"),
        (lambda: DihedralGroup(4).exp(0.1), ValueError, "no Lie algebra"),
        (lambda: DihedralGroup(6).irrep(1).restrict(DihedralGroup(4)), ValueError, "not a subgroup"),
        (lambda: O2().check(0.5), TypeError, "pairs"),
        (lambda: O2().check((0.5, 2)), ValueError, "flip .* must be 0 or 1"),
        (lambda: O2().check((0.5, 0.5)), TypeError, "flip"),
        (lambda: O2().log((0.5, 1)), ValueError, "no logarithm"),
        (lambda: O2().irrep("sign"), ValueError, '"det"'),
        (lambda: O2().irrep(-1), ValueError, '"det"'),
        (lambda: O2().length((0.5, 1)), ValueError, "no one length"),
        (lambda: O2().regular(), ValueError, "infinite"),
        (lambda: pixel_grid(5, O2(), method="bilinear"), ValueError, "turns only"),
        (
            lambda: PermutationRepresentation(DihedralGroup(3), np.array([1, 2, 0])),
            ValueError,
            "each of the 2 generators",
        ),
    ],
)
def test_bad_values_are_named(call, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
