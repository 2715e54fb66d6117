"""What `shear_rotate` means: its definition by explicit matrices, its convention, what it keeps."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from equikernels.ops import backends, rotate, shear_rotate
from tests.ops.fourier.samples import (
    BACKENDS,
    DTYPES,
    SHAPES,
    blobs,
    distance,
    random_case,
    rotation_error,
    rotation_matrix,
    transform_error,
)

DEGREES = (0.0, 13.0, 44.0, 46.0, 89.0, 97.0, 134.0, 136.0, 171.0, -20.0, -44.9, -45.1, -90.0, -130.0, -179.0)


def matrix_of(shape: tuple[int, ...], theta: float, backend: str = "torch") -> Tensor:
    """What the operation does to every image with a single pixel, as columns."""
    height, width = shape[-2:]
    pixels = torch.eye(height * width, dtype=torch.float64).view(-1, 1, height, width)
    return shear_rotate(pixels, theta, backend=backend).flatten(1).T


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("degrees", DEGREES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_equals_the_matrices_of_its_definition(shape: tuple[int, ...], degrees: float, backend: str) -> None:
    expected = torch.tensor(rotation_matrix(*shape[-2:], degrees))
    found = matrix_of(shape, math.radians(degrees), backend)
    assert distance(found, expected) <= rotation_error(torch.float64, shape)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [*SHAPES, (2, 3, 64, 64), (2, 2, 33, 50)], ids=str)
def test_backends_agree(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    z, theta, _ = random_case(shape, dtype)
    found, expected = (shear_rotate(z, theta, backend=backend) for backend in BACKENDS)
    assert found.dtype == expected.dtype == dtype
    # Both round their results once to the dtype of the data.
    assert distance(found, expected) <= 2 * rotation_error(dtype, shape) + 2 * torch.finfo(dtype).eps


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("size", [1, 2, 5, 8, 16])
def test_quarter_turns_are_rot90(size: int, dtype: torch.dtype, backend: str) -> None:
    z, _, _ = random_case((9, 3, size, size), dtype)
    turns = torch.arange(-4, 5)
    expected = torch.stack([torch.rot90(image, int(k), (-2, -1)) for image, k in zip(z, turns, strict=True)])
    found = shear_rotate(z, (turns.double() * (math.pi / 2)).to(dtype), backend=backend)
    # The angle, up to 2 pi, is rounded: at pi / 2 pixels a radian and a pixel, that is one more phase.
    angle = 2 * math.pi * torch.finfo(dtype).eps * math.pi * size
    assert distance(found, expected) <= rotation_error(dtype, (size, size)) + angle


@pytest.mark.parametrize("size", [(5, 8), (6, 3), (1, 7)], ids=str)
def test_half_turns_of_rectangles_are_exact(size: tuple[int, int]) -> None:
    z, _, _ = random_case((2, 3, *size), torch.float64)
    assert distance(shear_rotate(z, math.pi), z.flip(-1, -2)) <= rotation_error(torch.float64, size)
    assert distance(shear_rotate(z, -math.pi), z.flip(-1, -2)) <= rotation_error(torch.float64, size)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_angle_zero_is_exact(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    z, _, _ = random_case(shape, dtype)
    assert torch.equal(shear_rotate(z, 0.0), z)


@pytest.mark.parametrize("degrees", [*DEGREES, 45.0, 135.0, -45.0, -135.0, 90.0, -90.0, 1e6])
@pytest.mark.parametrize("shape", [(8, 8), (7, 7), (6, 9), (9, 4), (2, 2), (1, 6)], ids=str)
def test_inverse_is_the_transpose(shape: tuple[int, int], degrees: float) -> None:
    """At every angle, those where the shears change included, and for even sizes too."""
    matrix, inverse = (matrix_of(shape, sign * math.radians(degrees)) for sign in (1, -1))
    bound = 2 * transform_error(torch.float64, shape)
    assert distance(inverse, matrix.T) <= bound
    assert distance(matrix.T @ matrix, torch.eye(len(matrix))) <= bound * math.sqrt(len(matrix))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("shape", [*SHAPES, (4, 2, 64, 64), (4, 1, 31, 48)], ids=str)
def test_round_trip_costs_rounding_only(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    z, theta, _ = random_case(shape, dtype)
    bound = 2 * transform_error(dtype, shape)
    turned = shear_rotate(z, theta)
    assert distance(shear_rotate(turned, -theta), z) <= bound
    assert abs(float(turned.double().norm() / z.double().norm()) - 1) <= bound


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("size", [(48, 48), (49, 49), (44, 51), (54, 43)], ids=str)
@pytest.mark.parametrize("degrees", [30.0, -40.0, 80.0, 140.0, -100.0, 200.0])
def test_turns_counter_clockwise_as_rotate_does(degrees: float, size: tuple[int, int], backend: str) -> None:
    theta = math.radians(degrees)
    z, expected = blobs(*size, 0.0), blobs(*size, theta)
    # A Gaussian of radius 2 has exp(-16.7) of its amplitude above 0.46 cycles a pixel, where the shears
    # begin to mix frequencies, and exp(-21) beyond 13 pixels, from where rows and columns wrap.
    assert distance(shear_rotate(z, theta, backend=backend), expected) < 1e-6
    assert distance(shear_rotate(z, -theta, backend=backend), expected) > 0.5
    assert distance(rotate(z, theta), expected) < 0.1


def test_composition_holds_for_smooth_content_only() -> None:
    z = blobs(48, 48, 0.0)
    assert distance(shear_rotate(shear_rotate(z, 0.7), 1.3), shear_rotate(z, 2.0)) < 1e-6
    noise, _, _ = random_case((1, 1, 48, 48), torch.float64)
    assert distance(shear_rotate(shear_rotate(noise, 0.7), 1.3), shear_rotate(noise, 2.0)) > 0.1


def test_rows_are_periodic() -> None:
    z = torch.zeros(1, 1, 9, 9, dtype=torch.float64)
    z[..., 0, :] = 1  # a full row: its shifts are itself, and only columns move it
    turned = shear_rotate(z, 0.2)
    assert turned.sum() == pytest.approx(9)
    assert turned[..., -1, :].abs().max() > 0.1


@pytest.mark.parametrize("backend", BACKENDS)
def test_one_angle_for_all(backend: str) -> None:
    z, _, _ = random_case((3, 2, 6, 7), torch.float32)
    expected = shear_rotate(z, torch.full((3,), 0.5), backend=backend)
    for theta in (0.5, torch.tensor(0.5), np.float32(0.5), torch.tensor(0.5, dtype=torch.float64)):
        assert torch.equal(shear_rotate(z, theta, backend=backend), expected)
    assert torch.equal(shear_rotate(z, 0), z)


def test_samples_have_their_own_angles() -> None:
    z, _, _ = random_case((8, 2, 6, 6), torch.float64)
    theta = torch.arange(8, dtype=torch.float64) - 3.7
    together = shear_rotate(z, theta)
    for one, image, angle in zip(together, z, theta, strict=True):
        assert distance(one, shear_rotate(image[None], float(angle))[0]) <= rotation_error(z.dtype, (6, 6))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")], ids=str)
@pytest.mark.parametrize("size", [(6, 6), (6, 5), (1, 1), (2, 2), (1, 2)], ids=str)
def test_angle_that_is_not_finite(size: tuple[int, int], value: float, backend: str) -> None:
    z = torch.zeros(3, 2, *size, requires_grad=True)
    theta = torch.tensor([0.3, value, 0.1], requires_grad=True)
    out = shear_rotate(z, theta, backend=backend)
    assert out[1].isnan().all()
    assert not out[[0, 2]].isnan().any()
    z_grad, theta_grad = torch.autograd.grad(out, (z, theta), torch.ones_like(out))
    assert z_grad[1].isnan().all()
    assert theta_grad[1].isnan()
    assert z_grad[[0, 2]].isfinite().all()
    assert theta_grad[[0, 2]].isfinite().all()


@pytest.mark.parametrize("angle", [1e30, -3e38, 2.0**31, 2.0**63])
@pytest.mark.parametrize("shape", [(2, 1, 9, 16), (2, 2, 24, 24)], ids=str)
def test_huge_angles(shape: tuple[int, ...], angle: float) -> None:
    z, _, grad = random_case(shape, torch.float32)
    z.requires_grad_()
    theta = torch.full((shape[0],), angle, requires_grad=True)
    out = shear_rotate(z, theta)
    exact = theta.detach().double()
    expected = shear_rotate(z.detach().double(), torch.atan2(exact.sin(), exact.cos()))
    assert distance(out, expected) <= rotation_error(torch.float32, shape)
    for each in torch.autograd.grad(out, (z, theta), grad):
        assert each.isfinite().all()
    assert shear_rotate(z.detach().double(), 1e308).isfinite().all()


def test_a_pixel_that_is_not_finite_spoils_its_channel_only() -> None:
    z = torch.zeros(2, 3, 8, 8)
    z[0, 1, 2, 5] = torch.inf
    out = shear_rotate(z, 0.4)
    assert out[0, 1].isnan().all()
    assert out[0, [0, 2]].isfinite().all()
    assert out[1].isfinite().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_narrow_dtypes_are_computed_in_float32(dtype: torch.dtype) -> None:
    z, theta, _ = random_case((3, 2, 8, 8), dtype)
    assert torch.equal(shear_rotate(z, theta), shear_rotate(z.float(), theta).to(dtype))
    assert torch.equal(shear_rotate(z, theta.to(dtype)), shear_rotate(z, theta.to(dtype).float()))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("size", [(6, 6), (5, 8)], ids=str)
def test_any_strides(size: tuple[int, int], backend: str) -> None:
    z, theta, _ = random_case((3, 4, *size), torch.float64)
    expected = shear_rotate(z, theta, backend=backend)
    layouts = (
        z.contiguous(memory_format=torch.channels_last),
        z.mT.contiguous().mT,
        torch.stack([z, z], dim=-1)[..., 0],
    )
    for layout in layouts:
        found = shear_rotate(layout, theta, backend=backend)
        assert found.is_contiguous()
        assert distance(found, expected) <= rotation_error(z.dtype, size)
    one = z[:1].expand(3, -1, -1, -1)
    assert distance(shear_rotate(one, theta), shear_rotate(one.clone(), theta)) == 0


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "shape", [(0, 3, 4, 4), (2, 0, 4, 5), (2, 3, 0, 5), (2, 3, 4, 0), (0, 0, 0, 0)], ids=str
)
def test_empty(shape: tuple[int, ...], backend: str) -> None:
    z = torch.randn(shape, requires_grad=True)
    theta = torch.randn(shape[0], requires_grad=True)
    out = shear_rotate(z, theta, backend=backend)
    assert out.shape == shape
    z_grad, theta_grad = torch.autograd.grad(out.sum(), (z, theta))
    assert z_grad.shape == shape
    assert torch.equal(theta_grad, torch.zeros(shape[0]))


def test_meta_tensors_have_the_right_shape() -> None:
    out = shear_rotate(torch.empty(2, 3, 4, 5, device="meta"), torch.empty(2, device="meta"))
    assert out.shape == (2, 3, 4, 5)
    assert out.is_meta


def test_runs_on_every_device_without_being_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EQUIKERNELS_BACKEND", raising=False)
    for operation in ("shear_rotate", "spectral_rotate"):
        assert [record.name for record in backends.registered(operation)] == ["torch", "reference"]
        assert {backends.choose(operation, device) for device in ("cpu", "cuda", "meta")} == {"torch"}
    # Kernels that are expected on a GPU are expected still.
    with pytest.raises(backends.BackendError, match="torch: not implemented"):
        backends.choose("rotate", "cuda", "torch")


IMAGES = torch.zeros(2, 3, 4, 5)
ANGLES = torch.zeros(2)


@pytest.mark.parametrize(
    ("z", "theta", "backend", "error", "message"),
    [
        (IMAGES[0], ANGLES, None, ValueError, r"^z: expected 4 dimensions .* got 3: \(3, 4, 5\)"),
        (IMAGES.long(), ANGLES, None, TypeError, "^z: expected float32.*got torch.int64"),
        (IMAGES.cfloat(), ANGLES, None, TypeError, "^z: expected float32.*got torch.complex64"),
        (IMAGES.to_sparse(), ANGLES, None, TypeError, "^z: expected a dense tensor"),
        (IMAGES.numpy(), ANGLES, None, TypeError, "^z: expected a tensor, got ndarray"),
        (IMAGES, torch.zeros(3), None, ValueError, r"^theta: expected shape \(2,\).*got \(3,\)"),
        (IMAGES, torch.zeros(2, 1), None, ValueError, r"^theta: expected shape \(2,\).*got \(2, 1\)"),
        (
            IMAGES,
            torch.zeros(2).long(),
            None,
            TypeError,
            "^theta: expected a floating dtype, got torch.int64",
        ),
        (IMAGES, "pi", None, TypeError, "^theta: expected a tensor or a number, got str"),
        (IMAGES, True, None, TypeError, "^theta: expected a tensor or a number, got bool"),
        (
            IMAGES,
            torch.zeros(2, device="meta"),
            None,
            ValueError,
            "^theta: expected on cpu, where",
        ),
        (IMAGES, ANGLES, "fortran", ValueError, "^backend: 'fortran' is unknown"),
        (IMAGES, ANGLES, "cpp", ValueError, "^backend: 'cpp' cannot run shear_rotate on cpu"),
    ],
)
def test_errors(z: Tensor, theta: Tensor, backend: str | None, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        shear_rotate(z, theta, backend=backend)
