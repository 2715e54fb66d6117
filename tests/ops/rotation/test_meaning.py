"""What `rotate` means: the convention, what it equals elsewhere, what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.ndimage
import torch
import torch.nn.functional as F
from torch import Tensor

from equikernels.ops import rotate
from tests.ops.rotation.samples import DTYPES, SHAPES, random_case, value_tolerance

BACKENDS = ("reference", "cpp")


def grid_sample_rotate(z: Tensor, theta: Tensor) -> Tensor:
    height, width = z.shape[-2:]
    cosine, sine, zero = theta.cos(), theta.sin(), torch.zeros_like(theta)
    rows = [[cosine, -sine * (height / width), zero], [sine * (width / height), cosine, zero]]
    matrix = torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)
    grid = F.affine_grid(matrix, list(z.shape), align_corners=False)
    return F.grid_sample(z, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_equals_grid_sample(shape: tuple[int, ...], dtype: torch.dtype, backend: str) -> None:
    z, theta, _ = random_case(shape, dtype)
    # grid_sample divides coordinates by the size and multiplies them again, hence the factor two.
    torch.testing.assert_close(
        rotate(z, theta, backend=backend),
        grid_sample_rotate(z, theta),
        rtol=0,
        atol=2 * value_tolerance(dtype, shape, 2),
    )


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("size", [1, 2, 5, 8, 33])
def test_quarter_turns_are_rot90(size: int, dtype: torch.dtype, backend: str) -> None:
    z, _, _ = random_case((9, 3, size, size), dtype)
    turns = torch.arange(-4, 5, dtype=torch.float64)
    expected = torch.stack([torch.rot90(image, int(k), (-2, -1)) for image, k in zip(z, turns, strict=True)])
    torch.testing.assert_close(
        rotate(z, turns * (torch.pi / 2), backend=backend),
        expected,
        rtol=0,
        # The angle itself is rounded: up to 2 pi of it, times the radius.
        atol=4 * value_tolerance(dtype, tuple(z.shape), 2),
    )


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_angle_zero_is_exact(dtype: torch.dtype, backend: str) -> None:
    z, _, _ = random_case((2, 3, 6, 11), dtype)
    assert torch.equal(rotate(z, 0.0, backend=backend), z)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("angle", [0.0, 0.4, -2.9, 7.0])
@pytest.mark.parametrize("size", [(8, 8), (5, 12), (13, 4)], ids=str)
def test_equals_scipy(size: tuple[int, int], angle: float, backend: str) -> None:
    z, _, _ = random_case((1, 1, *size), torch.float64)
    cosine, sine = np.cos(angle), np.sin(angle)
    # scipy maps output (row, column) to input (row, column); `rotate` is stated for (x, y).
    matrix = np.array([[cosine, sine], [-sine, cosine]])
    centre = (np.array(size) - 1) / 2
    expected = scipy.ndimage.affine_transform(
        # A border of zeros, because scipy's "constant" does not interpolate between the image and the
        # outside.
        np.pad(z[0, 0].numpy(), 1),
        matrix,
        offset=centre + 1 - matrix @ centre,
        output_shape=size,
        order=1,
        mode="constant",
    )
    np.testing.assert_allclose(rotate(z, angle, backend=backend)[0, 0].numpy(), expected, rtol=0, atol=1e-12)


def test_counter_clockwise_as_displayed() -> None:
    z = torch.zeros(1, 1, 9, 9)
    z[0, 0, 4, 7] = 1  # to the right of the centre
    turned = rotate(z, torch.pi / 2)
    assert turned[0, 0, 1, 4] == pytest.approx(1, abs=1e-5)  # above the centre: row 0 is on top


@pytest.mark.parametrize("backend", BACKENDS)
def test_one_angle_for_all(backend: str) -> None:
    z, _, _ = random_case((3, 2, 6, 7), torch.float32)
    expected = rotate(z, torch.full((3,), 0.5), backend=backend)
    for theta in (0.5, torch.tensor(0.5), np.float32(0.5), torch.tensor(0.5, dtype=torch.float64)):
        assert torch.equal(rotate(z, theta, backend=backend), expected)
    assert torch.equal(rotate(z, 0, backend=backend), z)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")], ids=str)
@pytest.mark.parametrize("channels", [1, 4, 5])
def test_angle_that_is_not_finite(channels: int, value: float, backend: str) -> None:
    z = torch.zeros(3, channels, 6, 5, requires_grad=True)
    theta = torch.tensor([0.3, value, 0.1], requires_grad=True)
    out = rotate(z, theta, backend=backend)
    assert out[1].isnan().all()
    assert not out[[0, 2]].isnan().any()
    z_grad, theta_grad = torch.autograd.grad(out, (z, theta), torch.ones_like(out))
    assert z_grad[1].isnan().all()
    assert theta_grad[1].isnan()
    assert z_grad[[0, 2]].isfinite().all()
    assert theta_grad[[0, 2]].isfinite().all()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("angle", [1e30, -3e38, 2.0**31, 2.0**63])
@pytest.mark.parametrize("shape", [(2, 1, 9, 16), (2, 4, 40, 40), (1, 2, 200, 129)], ids=str)
def test_huge_angles(shape: tuple[int, ...], angle: float, backend: str) -> None:
    z, _, grad = random_case(shape, torch.float32)
    z.requires_grad_()
    theta = torch.full((shape[0],), angle, requires_grad=True)
    out = rotate(z, theta, backend=backend)
    # The same angle, reduced in float64 from the float32 number it is.
    reduced = torch.atan2(theta.detach().double().sin(), theta.detach().double().cos())
    expected = rotate(z.detach(), reduced, backend=backend)
    torch.testing.assert_close(out, expected, rtol=0, atol=2 * value_tolerance(torch.float32, shape, 2))
    for each in torch.autograd.grad(out, (z, theta), grad):
        assert each.isfinite().all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_infinite_pixels_stay_where_they_are_seen(backend: str) -> None:
    z = torch.zeros(2, 4, 16, 16)
    z[:, :, 0, 0] = torch.inf
    out = rotate(z, torch.tensor([0.3, 1.0]), backend=backend)
    assert out.isfinite()[:, :, 4:12, 4:12].all()
    assert torch.equal(out.isfinite(), rotate(z, torch.tensor([0.3, 1.0]), backend="reference").isfinite())


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", [(0, 3, 4, 5), (2, 0, 4, 5), (2, 3, 0, 5), (2, 3, 4, 0)], ids=str)
def test_empty(shape: tuple[int, ...], backend: str) -> None:
    z = torch.randn(shape, requires_grad=True)
    theta = torch.randn(shape[0], requires_grad=True)
    out = rotate(z, theta, backend=backend)
    assert out.shape == shape
    z_grad, theta_grad = torch.autograd.grad(out.sum(), (z, theta))
    assert z_grad.shape == shape
    assert torch.equal(theta_grad, torch.zeros(shape[0]))


def test_meta_tensors_have_the_right_shape() -> None:
    out = rotate(torch.empty(2, 3, 4, 5, device="meta"), torch.empty(2, device="meta"))
    assert out.shape == (2, 3, 4, 5)
    assert out.is_meta


IMAGES = torch.zeros(2, 3, 4, 5)
ANGLES = torch.zeros(2)


@pytest.mark.parametrize(
    ("z", "theta", "options", "error", "message"),
    [
        (IMAGES[0], ANGLES, {}, ValueError, r"^z: expected 4 dimensions .* got 3: \(3, 4, 5\)"),
        (IMAGES.long(), ANGLES, {}, TypeError, "^z: expected float32.*got torch.int64"),
        (IMAGES.bool(), ANGLES, {}, TypeError, "^z: expected float32.*got torch.bool"),
        (IMAGES.cfloat(), ANGLES, {}, TypeError, "^z: expected float32.*got torch.complex64"),
        (IMAGES.to_sparse(), ANGLES, {}, TypeError, "^z: expected a dense tensor"),
        (IMAGES.numpy(), ANGLES, {}, TypeError, "^z: expected a tensor, got ndarray"),
        (IMAGES, torch.zeros(3), {}, ValueError, r"^theta: expected shape \(2,\).*got \(3,\)"),
        (IMAGES, torch.zeros(2, 1), {}, ValueError, r"^theta: expected shape \(2,\).*got \(2, 1\)"),
        (IMAGES, torch.zeros(1), {}, ValueError, r"^theta: expected shape \(2,\).*got \(1,\)"),
        (IMAGES, torch.zeros(2).long(), {}, TypeError, "^theta: expected a floating dtype, got torch.int64"),
        (IMAGES, "pi", {}, TypeError, "^theta: expected a tensor or a number, got str"),
        (IMAGES, True, {}, TypeError, "^theta: expected a tensor or a number, got bool"),
        (IMAGES, torch.zeros(2, device="meta"), {}, ValueError, "^theta: expected on cpu, where"),
        (IMAGES, ANGLES, {"mode": "trilinear"}, ValueError, "^mode: expected one of nearest, bilinear, bic"),
        (
            IMAGES,
            ANGLES,
            {"padding": "circular"},
            ValueError,
            "^padding: expected one of zeros, border, refl",
        ),
        (
            IMAGES,
            ANGLES,
            {"translation": ANGLES[:, None]},
            ValueError,
            r"^translation: expected shape \(2, 2\)",
        ),
        (
            IMAGES,
            ANGLES,
            {"translation": ANGLES.long()},
            TypeError,
            "^translation: expected a floating dtype",
        ),
        (IMAGES, ANGLES, {"translation": (1, 2, 3)}, TypeError, "^translation: .* tensor or 2 numbers, got"),
        (IMAGES, ANGLES, {"translation": ("1", 2)}, TypeError, "^translation: .* tensor or 2 numbers, got"),
        (IMAGES, ANGLES, {"translation": 1.0}, TypeError, "^translation: .* tensor or 2 numbers, got 1.0"),
        (IMAGES, ANGLES, {"translation": ANGLES.to("meta")}, ValueError, "^translation: expected on cpu"),
        (IMAGES, ANGLES, {"scale": torch.ones(3)}, ValueError, r"^scale: expected shape \(2,\).*got \(3,\)"),
        (IMAGES, ANGLES, {"scale": torch.ones(2, 2)}, ValueError, r"^scale: expected shape \(2,\).*got"),
        (IMAGES, ANGLES, {"scale": "2"}, TypeError, "^scale: expected a tensor or a number, got str"),
        (IMAGES, ANGLES, {"scale": torch.ones(2).int()}, TypeError, "^scale: expected a floating dtype"),
        (IMAGES, ANGLES, {"scale": torch.ones(2, device="meta")}, ValueError, "^scale: expected on cpu"),
        (IMAGES, ANGLES, {"backend": "fortran"}, ValueError, "^backend: 'fortran' is unknown"),
        (IMAGES, ANGLES, {"backend": "triton"}, ValueError, "^backend: 'triton' cannot run rotate on cpu"),
    ],
)
def test_errors(
    z: Tensor, theta: Tensor, options: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        rotate(z, theta, **options)
