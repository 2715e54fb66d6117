"""The pixels of an image: exact turns, the spectral group law and what it cannot do, translations."""

import functools
import math

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from equikernels.group import SO2, CyclicGroup, GridTranslations, Representation, pixel_grid
from equikernels.group.grids.geometry import PixelGrid
from equikernels.group.grids.spectral import rotation_generator
from equikernels.testing import assert_representation


def quarter_turn(n: int) -> np.ndarray:
    """The matrix of torch.rot90(k=1) on row-major n x n images."""
    images = torch.eye(n * n, dtype=torch.float64).reshape(-1, n, n)
    return torch.rot90(images, 1, (-2, -1)).reshape(n * n, n * n).T.numpy()


@functools.cache
def spectral(n: int) -> Representation:
    return pixel_grid(n, SO2())


@given(st.integers(1, 11), st.floats(-7, 7), st.floats(-7, 7))
def test_spectral_group_law_at_small_sizes(n: int, a: float, b: float) -> None:
    check_group_law(n, a, b)


@settings(max_examples=40, deadline=None)
@given(st.integers(12, 32), st.floats(-7, 7), st.floats(-7, 7))
def test_spectral_group_law_at_large_sizes(n: int, a: float, b: float) -> None:
    check_group_law(n, a, b)


def check_group_law(n: int, a: float, b: float) -> None:
    rep = spectral(n)
    x = torch.randn(n * n, 2, dtype=torch.float64)
    # Frequencies reach about 2 N, so an angle's rounding is worth that many radians.
    torch.testing.assert_close(rep(a) @ (rep(b) @ x), rep(a + b) @ x, atol=1e-11, rtol=0)
    torch.testing.assert_close(rep(a).mT @ (rep(a) @ x), x, atol=1e-12, rtol=0)
    torch.testing.assert_close(rep(a + 2 * math.pi) @ x, rep(a) @ x, atol=1e-11, rtol=0)


@pytest.mark.parametrize("n", [n for n in range(1, 33) if n % 4 != 2])
def test_quarter_turn_is_exact_except_for_sizes_2_mod_4(n: int) -> None:
    rep = spectral(n)
    assert rep.obstructed_modes == 0
    np.testing.assert_allclose(rep(math.pi / 2), quarter_turn(n), atol=1e-12)
    if n <= 16:
        assert max(rep.defects().values()) < 1e-12


@pytest.mark.parametrize("n", [2, 6, 10, 14, 18, 30])
def test_one_mode_obstructs_the_quarter_turn_for_sizes_2_mod_4(n: int) -> None:
    """rho(90 degrees) - P has rank one: P negates a mode that rho leaves alone."""
    rep = spectral(n)
    difference = rep(math.pi / 2).numpy() - quarter_turn(n)
    singular = np.linalg.svd(difference, compute_uv=False)
    assert singular[0] == pytest.approx(2, abs=1e-11)
    assert singular[1] < 1e-11
    assert rep.obstructed_modes == 1
    if n <= 14:
        assert rep.defects()["quarter_turn"] == pytest.approx(2 / n, abs=1e-12)


def test_14x14_obstruction() -> None:
    """The size of a vision transformer's token grid: 14 = 2 modulo 4.

    A representation of SO(2) that is the exact quarter turn at 90 degrees needs as many modes of
    frequency 2 modulo 4 as pairs allow, and P has an odd number of eigenvalues -1: 49. The mode left
    over is the roughest of the null modes of the generator, it stays fixed, and only it is wrong.
    """
    p = quarter_turn(14)
    assert int((np.abs(np.linalg.eigvals(p) + 1) < 1e-9).sum()) == 49
    rep = pixel_grid(14, SO2())
    values, vectors = np.linalg.eigh((rep(math.pi / 2).numpy() - p + (rep(math.pi / 2).numpy() - p).T) / 2)
    assert values[-1] == pytest.approx(2, abs=1e-11)
    assert np.abs(values[:-1]).max() < 1e-11
    mode = vectors[:, -1]
    np.testing.assert_allclose(p @ mode, -mode, atol=1e-11)
    for theta in (0.1, 1.0, 2.5):
        np.testing.assert_allclose(rep(theta).numpy() @ mode, mode, atol=1e-11)
    flipped = mode.reshape(14, 14)[:, ::-1].ravel()
    np.testing.assert_allclose(flipped, -mode, atol=1e-11)
    exact = pixel_grid(14, CyclicGroup(4))
    np.testing.assert_array_equal(exact(1), p)


@pytest.mark.parametrize("n", [3, 5, 7, 9, 15])
def test_odd_sizes_extend_to_reflections(n: int) -> None:
    """The left-right flip carries rho(theta) to rho(-theta): O(2) acts on odd grids."""
    rep = pixel_grid(n, SO2())
    flip = np.eye(n * n).reshape(n, n, n * n)[:, ::-1].reshape(n * n, n * n)
    for theta in (0.2, 1.1, 3.0):
        np.testing.assert_allclose(flip @ rep(theta).numpy() @ flip, rep(-theta), atol=1e-12)


@pytest.mark.parametrize("n", [*range(2, 17), 20])
def test_no_frequency_sits_on_a_tie(n: int) -> None:
    """Snapping is decided by the mathematics, not by rounding: no frequency is within 1e-6 of a tie.

    The eigenvalues come from the dense generator here, not from the sectors.
    """
    grid = PixelGrid(n, n)
    a = rotation_generator(grid).toarray()
    p = quarter_turn(n)
    np.testing.assert_allclose(a, -a.T, atol=0)
    np.testing.assert_allclose(a @ p, p @ a, atol=1e-12)
    q = [np.linalg.matrix_power(p, k) for k in range(4)]
    for residue in range(4):
        projector = sum((1j ** (-residue * k)) * q[k] for k in range(4)) / 4
        values, vectors = np.linalg.eigh(projector)
        basis = vectors[:, values > 0.5]
        frequencies = np.linalg.eigvalsh(-1j * basis.conj().T @ a @ basis)
        if residue == 2:
            null = np.abs(frequencies) < 1e-9
            assert null.sum() == (n // 2 if n % 2 == 0 else 0)
            frequencies = frequencies[~null]
        distance_to_tie = np.abs((frequencies - residue) % 4 - 2)
        assert distance_to_tie.min(initial=1.0) > 1e-6


@pytest.mark.parametrize("n", [8, 9, 14, 28])
def test_snapping_moves_the_generator_little_where_images_live(n: int) -> None:
    """On smooth content near the centre the snapped generator is the sinc derivative."""
    rep = pixel_grid(n, SO2())
    x, y = rep.grid.coordinates
    width = 0.12 * n
    blob = np.exp(-((x - 0.1 * n) ** 2 + y**2) / (2 * width**2))
    exact = rotation_generator(rep.grid) @ blob
    np.testing.assert_allclose(rep.generators[0] @ blob, exact, atol=0.02 * np.abs(exact).max())


def test_turns_a_blob_counter_clockwise_and_accurately() -> None:
    n, sigma = 28, 1.6
    rep = pixel_grid(n, SO2())
    x, y = rep.grid.coordinates

    def blob(angle: float, radius: float) -> np.ndarray:
        # y runs downwards in pixels: counter-clockwise as displayed means up is positive.
        cx, cy = radius * math.cos(angle), -radius * math.sin(angle)
        return np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * sigma**2))

    for theta in (0.3, 1.0, 2.2):
        rho = rep(theta).numpy()
        for start in np.linspace(0, 2 * math.pi, 7):
            turned = rho @ blob(start, 0.2 * n)
            assert np.abs(turned - blob(start + theta, 0.2 * n)).max() < 1e-3


@given(st.integers(1, 9), st.integers(1, 9), st.floats(-7, 7), st.floats(-7, 7))
@example(3, 5, 1.0, 2.0)
@example(1, 4, 1.0, 2.0)
def test_rectangles_keep_the_group_law_and_the_half_turn(h: int, w: int, a: float, b: float) -> None:
    rep = pixel_grid((h, w), SO2())
    torch.testing.assert_close(rep(a) @ rep(b), rep(a + b), atol=1e-11, rtol=0)
    if h != w and rep.obstructed_modes == 0:
        images = torch.eye(h * w, dtype=torch.float64).reshape(-1, h, w)
        half = torch.rot90(images, 2, (-2, -1)).reshape(h * w, h * w).T
        torch.testing.assert_close(rep(math.pi), half, atol=1e-12, rtol=0)


@pytest.mark.parametrize(("size", "n"), [(5, 4), (6, 4), (7, 2), ((3, 5), 2), ((4, 6), 2), (4, 1)])
def test_permutation_grids_are_index_maps(size, n: int) -> None:
    rep = pixel_grid(size, CyclicGroup(n))
    assert rep.method == "permutation"
    h, w = (size, size) if isinstance(size, int) else size
    image = torch.randn(h * w, dtype=torch.float64)
    for j in range(n):
        expected = torch.rot90(image.reshape(h, w), j * 4 // n, (-2, -1)).reshape(-1)
        assert torch.equal(rep(j) @ image, expected)
    assert max(rep.defects().values()) == 0.0


@pytest.mark.parametrize("n", [3, 5, 6, 8, 36])
def test_cyclic_groups_act_spectrally_elsewhere(n: int) -> None:
    rep = pixel_grid(7, CyclicGroup(n))
    assert rep.method == "spectral"
    assert max(v for k, v in rep.defects().items() if "turn" not in k) < 1e-13
    np.testing.assert_allclose(rep(1), pixel_grid(7, SO2())(2 * math.pi / n), atol=1e-12)


@pytest.mark.parametrize("n", [5, 8])
def test_spectral_and_permutation_agree_for_quarter_turns(n: int) -> None:
    spectral = pixel_grid(n, CyclicGroup(4), method="spectral")
    np.testing.assert_allclose(spectral(1), pixel_grid(n, CyclicGroup(4))(1), atol=1e-12)


@pytest.mark.parametrize("order", [8, 36, 360])
def test_bilinear_matrices_are_no_representation(order: int) -> None:
    """Turning by R the full circle is far from the identity: why no bound holds for them."""
    rep = pixel_grid(12, CyclicGroup(order), method="bilinear")
    assert not rep.is_orthogonal
    defects = rep.defects()
    assert defects["orthogonality"] > 0.1
    assert defects["homomorphism"] > 0.1
    power = np.linalg.matrix_power(rep(1).numpy(), order)
    assert np.linalg.norm(power - np.eye(144)) / 12 > 0.8
    for call in (
        lambda: rep.irreps,
        lambda: rep.change_of_basis,
        lambda: rep + rep,
        lambda: 2 * rep,
        lambda: pixel_grid(12, CyclicGroup(order)) + rep,
    ):
        with pytest.raises(ValueError, match="not a representation"):
            call()


def test_bilinear_columns_are_rotated_images() -> None:
    rep = pixel_grid((5, 6), SO2(), method="bilinear")
    image = torch.randn(30, dtype=torch.float64)
    from scipy.ndimage import affine_transform

    t = 0.7
    c, s = math.cos(t), math.sin(t)
    # scipy pulls back in (row, column): the source of an output pixel is the inverse turn of its offset.
    matrix = np.array([[c, s], [-s, c]])
    centre = np.array([2.0, 2.5])
    expected = affine_transform(
        np.pad(image.reshape(5, 6).numpy(), 2), matrix, centre + 2 - matrix @ (centre + 2), order=1
    )[2:-2, 2:-2]
    np.testing.assert_allclose((rep(t) @ image).reshape(5, 6), expected, atol=1e-12)
    assert rep(torch.tensor([[0.1, 0.2]], dtype=torch.float64)).shape == (1, 2, 30, 30)


def test_bilinear_generator_is_the_central_difference_of_its_matrices() -> None:
    rep = pixel_grid(6, SO2(), method="bilinear")
    h = 1e-6
    np.testing.assert_allclose(rep.generators[0], (rep(h) - rep(-h)).numpy() / (2 * h), atol=1e-5)


@pytest.mark.parametrize("n", [7, 8, 14])
def test_disc_mask_keeps_a_representation(n: int) -> None:
    whole = PixelGrid(n, n)
    x, y = whole.coordinates
    inside = int((x**2 + y**2 <= n**2 / 4).sum())
    for group in (SO2(), CyclicGroup(4)):
        rep = pixel_grid(n, group, mask="disc")
        assert rep.dim == inside
        assert max(v for k, v in rep.defects().items() if "turn" not in k) < 1e-13
    image = torch.zeros(n, n, dtype=torch.float64)
    image.view(-1)[rep.grid.kept.copy()] = torch.randn(inside, dtype=torch.float64)
    turned = rep.grid.fill(rep(1) @ image.view(-1)[rep.grid.kept.copy()])
    assert torch.equal(turned, torch.rot90(image, 1, (-2, -1)))


def test_defects_report_energy_shares_of_data() -> None:
    rep = pixel_grid(16, SO2())
    x, y = rep.grid.coordinates
    smooth = np.exp(-(x**2 + y**2) / 18).reshape(16, 16)
    checkerboard = (np.indices((16, 16)).sum(0) % 2 * 2.0) - 1
    report = rep.defects(np.stack([smooth]))
    assert report["energy_outside_disc"] < 1e-3
    assert report["energy_high_frequency"] < 1e-3
    assert rep.defects(checkerboard)["energy_high_frequency"] == pytest.approx(1)
    corner = np.zeros((16, 16))
    corner[0, 0] = 1
    assert rep.defects(corner)["energy_outside_disc"] == 1


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: pixel_grid(0, SO2()), ValueError, "size"),
        (lambda: pixel_grid((3, -1), SO2()), ValueError, "size"),
        (lambda: pixel_grid(2.5, SO2()), TypeError, "size"),
        (lambda: pixel_grid(4, "SO2"), ValueError, "DihedralGroup\\(n\\) or GridTranslations"),
        (lambda: pixel_grid(4, SO2(), method="nearest"), ValueError, "method must be"),
        (lambda: pixel_grid(4, SO2(), method="permutation"), ValueError, 'use method="spectral"'),
        (lambda: pixel_grid((4, 5), CyclicGroup(4), method="permutation"), ValueError, "4 x 5"),
        (lambda: pixel_grid(4, SO2(), mask="circle"), ValueError, "mask must be"),
        (lambda: pixel_grid(4, SO2(), mask=torch.ones(4, 4)), ValueError, "mask must be boolean"),
        (
            lambda: pixel_grid(4, SO2(), mask=torch.zeros(4, 4, dtype=torch.bool)),
            ValueError,
            "at least one pixel",
        ),
        (
            lambda: pixel_grid(4, CyclicGroup(4), mask=torch.eye(4) > 0),
            ValueError,
            "symmetric under the turn",
        ),
        (lambda: pixel_grid(4, SO2()).defects(torch.zeros(3, 3)), ValueError, "data must have shape"),
        (lambda: pixel_grid(4, SO2()).defects(torch.zeros(4, 4, dtype=torch.int64)), TypeError, "floating"),
        (lambda: pixel_grid(4, SO2()).defects(torch.zeros(0, 4, 4)), ValueError, "empty"),
        (lambda: pixel_grid(4, SO2()).defects(torch.full((4, 4), math.nan)), ValueError, "finite"),
        (lambda: SO2().irrep(1).defects(torch.zeros(4, 4)), ValueError, "no pixels"),
    ],
)
def test_bad_grids_are_named(call, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


@given(st.integers(1, 6), st.integers(1, 6))
def test_translations_shift_pixels_cyclically(height: int, width: int) -> None:
    group = GridTranslations(height, width)
    rho = pixel_grid((height, width), group)
    assert_representation(rho)
    image = torch.arange(float(height * width), dtype=torch.float64).reshape(height, width)
    for shift in [(0, 0), (1, 0), (0, 1), (height - 1, width // 2)]:
        moved = (rho(torch.tensor(shift)) @ image.flatten()).reshape(height, width)
        torch.testing.assert_close(moved, image.roll(shift, (0, 1)), atol=0, rtol=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 4}, r"size must be \(3, 4\) for Translations_3x4, got \(4, 4\)"),
        ({"size": (3, 4), "mask": "disc"}, "mask must be None for translations"),
        ({"size": (3, 4), "method": "spectral"}, 'method must be "auto" or "permutation"'),
    ],
)
def test_translations_that_do_not_fit_are_named(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pixel_grid(group=GridTranslations(3, 4), **arguments)
