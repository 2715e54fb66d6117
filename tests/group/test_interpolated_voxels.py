"""Rotation of voxels by trilinear interpolation: what is exact, what is accurate, what is no group law."""

import functools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import affine_transform

from equikernels.group import SO2, SO3, CubeGroup, CyclicGroup, pixel_grid
from equikernels.group.grids.voxel import voxel_grid
from equikernels.group.grids.voxel_interpolated import InterpolatedVoxels
from equikernels.project import EquivariantProjector, Hard

ROUNDING = 1e-12
"""Sums of eight products of numbers of order one, at coordinates of order ten."""

seeds = st.integers(0, 2**32 - 1)
sides = st.integers(1, 5)
angles = st.floats(-7, 7)


@functools.cache
def interpolated(n: int, group=None, mask=None) -> InterpolatedVoxels:
    return voxel_grid(n, group or SO3(), method="interpolated", mask=mask)


def rotations(seed: int, count: int = 1) -> torch.Tensor:
    return SO3().sample(count, generator=torch.Generator().manual_seed(seed))


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def blob(n: int, centre=(0.2, 0.1, -0.1), width: float = 0.15) -> torch.Tensor:
    """A Gaussian of `width` at `centre` (x, y, z), in units of the side, on n x n x n voxels."""
    axis = (np.arange(n) - (n - 1) / 2) / n
    x, y, z = axis[None, None, :], -axis[None, :, None], axis[:, None, None]
    square = (x - centre[0]) ** 2 + (y - centre[1]) ** 2 + (z - centre[2]) ** 2
    return torch.tensor(np.exp(-square / (2 * width**2)))


# -- what is exact ---------------------------------------------------------------------------------


@given(sides, st.integers(0, 23), seeds)
def test_rotations_of_the_cube_are_its_permutations(n: int, g: int, seed: int) -> None:
    rotation = torch.tensor(CubeGroup().matrices[g], dtype=torch.float64)
    exact = voxel_grid(n, CubeGroup())(g)
    assert torch.equal(interpolated(n)(rotation), exact)
    volume = normal(seed, n, n, n)
    assert torch.equal(interpolated(n).apply(rotation, volume).reshape(-1), exact @ volume.reshape(-1))


@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.parametrize("order", [4, 8])
def test_quarter_turns_of_cyclic_groups_are_exact(n: int, order: int) -> None:
    rep = interpolated(n, CyclicGroup(order))
    for k in range(-4, 5):
        assert torch.equal(rep(k * order // 4), voxel_grid(n, CyclicGroup(4))(k % 4))
    assert rep.defects()["quarter_turn"] == 0


@given(sides, seeds, angles)
def test_turns_about_z_are_the_bilinear_turn_of_every_slice(n: int, seed: int, angle: float) -> None:
    """Two implementations of one convention: x right, y up, z depth, counter-clockwise."""
    rotation = SO3().exp(torch.tensor([0.0, 0.0, angle], dtype=torch.float64))
    slices = torch.block_diag(*[pixel_grid(n, SO2(), method="bilinear")(angle)] * n)
    torch.testing.assert_close(interpolated(n)(rotation), slices, atol=ROUNDING * n, rtol=0)
    torch.testing.assert_close(interpolated(n, SO2())(angle), slices, atol=ROUNDING * n, rtol=0)
    volume = normal(seed, n, n, n)
    turned = interpolated(n, SO2()).apply(angle, volume)
    torch.testing.assert_close(turned.reshape(-1), slices @ volume.reshape(-1), atol=ROUNDING * n, rtol=0)


@given(sides, seeds)
def test_matrices_are_scipys_trilinear_rotation(n: int, seed: int) -> None:
    """An independent sampler. It pulls back in (depth, row, column), rows against y."""
    rotation = rotations(seed)[0]
    volume = normal(seed, n, n, n)
    to_axes = np.array([[0, 0, 1], [0, -1, 0], [1, 0, 0]])  # (x, y, z) to (depth, row, column)
    pull_back = to_axes @ rotation.numpy().T @ to_axes.T
    centre = np.full(3, (n - 1) / 2)
    expected = affine_transform(
        volume.numpy(), pull_back, centre - pull_back @ centre, order=1, mode="grid-constant"
    )
    found = interpolated(n)(rotation) @ volume.reshape(-1)
    np.testing.assert_allclose(found.reshape(n, n, n), expected, atol=1e-11)


@settings(max_examples=40)
@given(sides, seeds, st.booleans(), st.sampled_from([torch.float64, torch.float32]))
def test_apply_is_the_matrix(n: int, seed: int, masked: bool, dtype: torch.dtype) -> None:
    rep = interpolated(n, mask="ball" if masked else None)
    g = rotations(seed, 6).reshape(2, 3, 3, 3)
    values = normal(seed, 2, 1, rep.dim).to(dtype)
    matrices = rep(g, dtype=dtype)
    assert matrices.shape == (2, 3, rep.dim, rep.dim)
    expected = rep.grid.fill((matrices @ values[..., None])[..., 0])
    found = rep.apply(g, rep.grid.fill(values))
    assert found.dtype == matrices.dtype == dtype
    torch.testing.assert_close(found, expected, atol=1e-12 if dtype == torch.float64 else 1e-4, rtol=0)


def test_masked_matrices_are_parts_of_whole_ones() -> None:
    rotation = rotations(3)[0]
    whole, ball = interpolated(4), interpolated(4, mask="ball")
    kept = torch.tensor(ball.grid.kept)
    assert ball.dim < whole.dim
    assert torch.equal(ball(rotation), whole(rotation)[kept][:, kept])
    np.testing.assert_array_equal(ball.generators, whole.generators[:, kept][:, :, kept])


@given(sides, seeds)
def test_weights_are_averages_and_constants_stay_inside(n: int, seed: int) -> None:
    """Rows are weights of a mean where all eight neighbours exist, and less where some are missing."""
    rotation = rotations(seed)[0]
    matrix = interpolated(n)(rotation)
    assert float(matrix.min()) >= -ROUNDING
    total = matrix.sum(1)
    assert float(total.max()) <= 1 + ROUNDING
    axis = torch.arange(n, dtype=torch.float64) - (n - 1) / 2
    z, down, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    source = torch.stack([x, -down, z], dim=-1).reshape(-1, 3) @ rotation
    inside = (source.abs() <= (n - 1) / 2).all(-1)
    torch.testing.assert_close(total[inside], torch.ones(int(inside.sum())).double(), atol=ROUNDING, rtol=0)
    if n > 1:
        assert bool((total[(source.abs() > (n - 1) / 2 + 1e-9).any(-1)] < 1).all())


# -- derivatives -----------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [2, 3, 4])
def test_generators_are_the_mean_of_the_one_sided_derivatives(n: int) -> None:
    """And what automatic differentiation finds at the identity, for matrices and for `apply`."""
    rep, G = interpolated(n), SO3()
    eye, step = torch.eye(3, dtype=torch.float64), 1e-6
    volume = normal(n, n, n, n)
    derivative = torch.func.jacfwd(lambda a: rep(G.exp(a)))(torch.zeros(3, dtype=torch.float64))
    moved = torch.func.jacfwd(lambda a: rep.apply(G.exp(a), volume))(torch.zeros(3, dtype=torch.float64))
    for k in range(3):
        difference = (rep(G.exp(step * eye[k])) - rep(G.exp(-step * eye[k]))) / (2 * step)
        np.testing.assert_allclose(rep.generators[k], difference, atol=1e-4)
        np.testing.assert_allclose(rep.generators[k], derivative[..., k], atol=ROUNDING)
        expected = rep.generators[k] @ volume.reshape(-1).numpy()
        np.testing.assert_allclose(moved[..., k].reshape(-1), expected, atol=1e-11)
    about_z = interpolated(n, SO2()).generators
    np.testing.assert_array_equal(about_z, rep.generators[2:])
    pixels = pixel_grid(n, SO2(), method="bilinear").generators[0]
    np.testing.assert_allclose(about_z[0], np.kron(np.eye(n), pixels), atol=ROUNDING)
    assert interpolated(n, CyclicGroup(4)).generators.shape == (0, n**3, n**3)


def test_derivatives_at_generic_rotations() -> None:
    """Away from the kinks the surface is smooth: against finite differences, for rotation and volume."""
    rep = interpolated(3)
    a = torch.tensor([0.31, -0.47, 0.83], dtype=torch.float64, requires_grad=True)
    volume = normal(5, 3, 3, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda a, v: rep.apply(SO3().exp(a), v), (a, volume))
    assert torch.autograd.gradcheck(lambda a: rep(SO3().exp(a)), (a,))
    angle = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    turns = interpolated(3, SO2())
    assert torch.autograd.gradcheck(lambda t: turns(t), (angle,))


# -- how good it is --------------------------------------------------------------------------------


@settings(max_examples=10)
@given(seeds)
def test_smooth_volumes_turn_as_functions_do(seed: int) -> None:
    """(rho(R) v)(p) = v(R^-1 p): the blob moves to R c."""
    rotation = rotations(seed)[0]
    centre = np.array([0.2, 0.1, -0.1])
    turned = interpolated(24).apply(rotation, blob(24, centre))
    expected = blob(24, rotation.numpy() @ centre)
    # The error of linear interpolation is below h^2 / 8 sum |second derivatives| = 3 / (8 (24 * 0.15)^2).
    bound = 3 / 8 / (24 * 0.15) ** 2
    axis = (torch.arange(24, dtype=torch.float64) - 11.5) / 24
    inside = axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2 < 0.45**2
    assert float((turned - expected).abs()[inside].max()) <= bound


@pytest.mark.parametrize("group", [SO3(), SO2(), CyclicGroup(12)], ids=repr)
def test_defects_on_smooth_volumes_fall_with_the_square_of_the_spacing(group) -> None:
    """Second order: half the spacing, a quarter of the error. The blob is far from the faces of the cube."""
    coarse, fine = (interpolated(n, group).data_defects(blob(n, (0.1, 0.05, -0.05), 0.1)) for n in (16, 32))
    for name in ("data_norm", "data_round_trip", "data_homomorphism"):
        assert 3 < coarse[name] / fine[name] < 5


@pytest.mark.parametrize("group", [SO3(), SO2(), CyclicGroup(8)], ids=repr)
def test_defects_say_that_it_is_no_representation(group) -> None:
    rep = interpolated(5, group)
    assert not rep.is_orthogonal
    assert rep.method == "interpolated"
    defects = rep.defects(blob(5))
    assert defects["orthogonality"] > 0.1
    assert defects["homomorphism"] > 0.1
    assert defects["quarter_turn"] < 1e-14
    assert "data_round_trip" in defects
    for call in (
        lambda: rep.irreps,
        lambda: rep.change_of_basis,
        lambda: rep.decompose(),
        lambda: rep + rep,
        lambda: voxel_grid(2, SO2()) + interpolated(2, SO2()),
        lambda: 2 * rep,
        lambda: rep @ rep,
        lambda: rep.dual(),
    ):
        with pytest.raises(ValueError, match="not a representation"):
            call()
    with pytest.raises(ValueError, match="build the grid of C_2"):
        rep.restrict(CyclicGroup(2))


def test_generators_close_under_brackets_on_smooth_volumes_only() -> None:
    """[A_x, A_y] = A_z to second order in the spacing, and not at all as matrices."""
    errors = []
    for n in (8, 12):
        x, y, z = interpolated(n).generators
        v = blob(n, (0.1, 0.05, -0.05), 0.1).reshape(-1).numpy()
        bracket = x @ (y @ v) - y @ (x @ v)
        errors.append(np.linalg.norm(bracket - z @ v) / np.linalg.norm(z @ v))
    assert errors[0] > 1.5 * errors[1] > 0  # (12 / 8)^2 = 2.25 in the limit
    x, y, z = interpolated(4).generators
    assert np.linalg.norm(x @ y - y @ x - z) > 0.5 * np.linalg.norm(z)


def test_projectors_work_and_certify_nothing() -> None:
    rep = interpolated(2, CyclicGroup(8))
    projector = EquivariantProjector(rep, rep, Hard(0.5), method="svd")
    weight = normal(0, 8, 8)
    with pytest.raises(ValueError, match="orthogonal"):
        projector.certificate(weight)


def test_data_defects_are_their_definitions() -> None:
    """On the two elements of C_2 there is nothing to lose; on C_3 the largest error is worked out here."""
    volume = normal(1, 4, 4, 4)
    assert max(interpolated(4, CyclicGroup(2)).data_defects(volume).values()) == 0
    rep = interpolated(4, CyclicGroup(3))
    v, (r0, r1, r2) = volume.reshape(-1), (rep(k) for k in range(3))
    size = v.norm()
    report = rep.data_defects(volume)
    norms = [float(abs((r @ v).norm() - size) / size) for r in (r0, r1, r2)]
    trips = [float((back @ r @ v - v).norm() / size) for back, r in ((r0, r0), (r2, r1), (r1, r2))]
    # Pairs (g, h) of neighbours: (0, 1), (1, 2), (2, 0).
    products = [
        float((g @ h @ v - gh @ v).norm() / size) for g, h, gh in ((r0, r1, r1), (r1, r2, r0), (r2, r0, r2))
    ]
    assert report["data_norm"] == pytest.approx(max(norms), abs=ROUNDING)
    assert report["data_round_trip"] == pytest.approx(max(trips), abs=ROUNDING)
    assert report["data_homomorphism"] == pytest.approx(max(products), abs=ROUNDING)


# -- the interface ---------------------------------------------------------------------------------


def test_so3_is_interpolated_by_default_and_told_apart() -> None:
    rep = voxel_grid(3, SO3())
    assert rep.method == "interpolated"
    assert rep == interpolated(3)
    assert hash(rep) == hash(interpolated(3))
    others = [interpolated(3, mask="ball"), interpolated(3, SO2()), interpolated(3, CyclicGroup(4))]
    others += [voxel_grid(3, SO2()), voxel_grid(3, CyclicGroup(4))]
    assert len({rep, *others}) == 6
    assert repr(others[0]) == "interpolated voxels 3x3x3, masked of SO(3)"


def test_many_rotations_of_many_volumes_in_the_volumes_dtype() -> None:
    rep = interpolated(4)
    g = rotations(0, 5)
    volumes = normal(1, 5, 2, 4, 4, 4).to(torch.bfloat16)
    found = rep.apply(g[:, None], volumes)
    assert found.shape == (5, 2, 4, 4, 4)
    assert found.dtype == torch.bfloat16
    expected = torch.stack([rep.apply(r, v.double()) for r, v in zip(g, volumes, strict=True)])
    torch.testing.assert_close(found.double(), expected, atol=2e-2, rtol=2e-2)
    assert rep(g.float()).dtype == torch.float32
    assert rep.apply(g, volumes[0, 0]).shape == (5, 4, 4, 4)


def test_large_grids_have_no_matrices_but_still_rotate() -> None:
    rep = interpolated(40)
    volume = blob(40)
    assert rep.apply(rotations(1)[0], volume).shape == (40, 40, 40)
    for call in (lambda: rep(SO3().identity), lambda: rep.generators, lambda: rep.defects()):
        with pytest.raises(ValueError, match=r"rotate volumes with apply\(g, volume\)"):
            call()
    with pytest.raises(ValueError, match="fewer elements"):
        interpolated(8)(rotations(0, 1000))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: voxel_grid(3, CubeGroup(), method="interpolated"), ValueError, 'method="permutation"'),
        (lambda: voxel_grid(3, SO3(), method="spectral"), ValueError, 'method="interpolated"'),
        (lambda: voxel_grid(3, SO3(), method="permutation"), ValueError, 'method="interpolated"'),
        (lambda: interpolated(3)(torch.eye(2)), ValueError, r"\(\.\.\., 3, 3\)"),
        (lambda: interpolated(3).apply(SO3().identity, torch.zeros(2, 3, 3)), ValueError, "must have shape"),
        (lambda: interpolated(3).apply(SO3().identity, torch.zeros(3, 3, 3).int()), TypeError, "floating"),
        (lambda: interpolated(3).apply(SO3().identity, np.zeros((3, 3, 3))), TypeError, "ndarray"),
        (
            lambda: interpolated(3, mask="ball").apply(SO3().identity, torch.ones(3, 3, 3)),
            ValueError,
            "zero where the mask is false",
        ),
        (lambda: interpolated(3).data_defects(torch.zeros(3, 3, 3)), ValueError, "not zero everywhere"),
        (lambda: interpolated(3).data_defects(torch.full((3, 3, 3), math.nan)), ValueError, "finite"),
    ],
)  # fmt: skip
def test_mistakes_are_named(call, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
