"""What sampling means: torch's and scipy's conventions, what padding stands for, what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.ndimage
import torch
import torch.nn.functional as F
from torch import Tensor

from equikernels.ops import affine_sample
from tests.ops.sampling.samples import (
    DTYPES,
    SHAPES,
    SMALL,
    contributors,
    coordinates,
    every_backend,
    every_combination,
    generic_case,
    matrix_tolerance,
    random_case,
    value_tolerance,
)


def identity(dims: int, batch: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.eye(dims, dims + 1, dtype=dtype).repeat(batch, 1, 1)


def grid_sample(z: Tensor, matrix: Tensor, mode: str, padding: str) -> Tensor:
    """The same by torch, whose coordinates run from -1 to 1 over every axis."""
    sizes = torch.tensor(z.shape[:1:-1], dtype=matrix.dtype)
    linear = matrix[:, :, :-1] * (sizes / sizes[:, None])
    theta = torch.cat([linear, 2 * matrix[:, :, -1:] / sizes[:, None]], -1)
    grid = F.affine_grid(theta, list(z.shape), align_corners=False)
    return F.grid_sample(z, grid, mode=mode, padding_mode=padding, align_corners=False)


@every_combination
@every_backend
def test_equals_affine_grid_and_grid_sample(dims: int, mode: str, padding: str, backend: str) -> None:
    """Values and both gradients; torch divides coordinates by sizes and multiplies again: twice the error."""
    for seed, shape in enumerate(SHAPES[dims]):
        z, matrix, grad = generic_case(shape, torch.float64, mode, seed)
        z.requires_grad_(), matrix.requires_grad_()
        out = affine_sample(z, matrix, mode=mode, padding=padding, backend=backend)
        expected = grid_sample(z, matrix, mode, padding)
        fixed = matrix.detach()
        atol = 2 * value_tolerance(shape, torch.float64, fixed, mode)
        torch.testing.assert_close(out, expected, rtol=0, atol=atol)
        ours, theirs = (torch.autograd.grad(x, (z, matrix), grad) for x in (out, expected))
        reads = contributors(fixed, shape, mode, padding)
        torch.testing.assert_close(ours[0], theirs[0], rtol=0, atol=reads * atol)
        atol = 2 * matrix_tolerance(shape, torch.float64, fixed, mode)
        torch.testing.assert_close(ours[1], theirs[1], rtol=0, atol=atol)


SCIPY = {"zeros": "grid-constant", "border": "nearest", "reflection": "reflect"}


@every_backend
@pytest.mark.parametrize("padding", list(SCIPY))
@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
@pytest.mark.parametrize("shape", [(2, 1, 6, 9), (2, 1, 4, 7, 5)], ids=str)
def test_equals_scipy(shape: tuple[int, ...], mode: str, padding: str, backend: str) -> None:
    z, matrix, _ = generic_case(shape, torch.float64, mode)
    ours = affine_sample(z, matrix, mode=mode, padding=padding, backend=backend)
    centre = (np.array(shape[2:]) - 1) / 2
    for n in range(shape[0]):
        # scipy counts (row, column) from the first pixel.
        linear = matrix[n, :, :-1].flip(0, 1).numpy()
        offset = matrix[n, :, -1].flip(0).numpy() + centre - linear @ centre
        expected = scipy.ndimage.affine_transform(
            z[n, 0].numpy(), linear, offset, order=("nearest", "bilinear").index(mode), mode=SCIPY[padding]
        )
        atol = value_tolerance(shape, torch.float64, matrix, mode)
        np.testing.assert_allclose(ours[n, 0].numpy(), expected, rtol=0, atol=atol)


NUMPY = {"zeros": "constant", "border": "edge", "reflection": "symmetric"}


@every_combination
@every_backend
def test_padding_is_a_larger_image(dims: int, mode: str, padding: str, backend: str) -> None:
    shape = SMALL[dims]
    z, matrix, _ = random_case(shape, torch.float64)
    extent = int(coordinates(matrix, shape).abs().max()) + 4
    around = [(0, 0), (0, 0)] + [(extent, extent)] * dims
    larger = torch.from_numpy(np.pad(z.numpy(), around, mode=NUMPY[padding]))
    inner = (..., *(slice(extent, -extent),) * dims)
    expected = affine_sample(larger, matrix, mode=mode, padding="zeros", backend=backend)[inner]
    ours = affine_sample(z, matrix, mode=mode, padding=padding, backend=backend)
    atol = value_tolerance(tuple(larger.shape), torch.float64, matrix, mode)
    torch.testing.assert_close(ours, expected, rtol=0, atol=atol)


@every_combination
@every_backend
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_identity_is_exact(dims: int, mode: str, padding: str, backend: str, dtype: torch.dtype) -> None:
    z, _, _ = random_case(SMALL[dims], dtype)
    out = affine_sample(z, identity(dims, len(z)), mode=mode, padding=padding, backend=backend)
    assert torch.equal(out, z)


@every_backend
@pytest.mark.parametrize("dims", [2, 3])
def test_entries_are_right_down_and_deep(dims: int, backend: str) -> None:
    z, _, _ = random_case(SMALL[dims], torch.float32)
    for axis in range(dims):
        matrix = identity(dims, 1)[0]
        matrix[axis, dims] = 1  # asks one further along the axis
        for mode in ("nearest", "bilinear"):
            out = affine_sample(z, matrix, mode=mode, padding="border", backend=backend)
            along = -1 - axis
            size = z.shape[along]
            assert torch.equal(out.narrow(along, 0, size - 1), z.narrow(along, 1, size - 1))
            assert torch.equal(out.select(along, -1), z.select(along, -1))


@every_backend
def test_nearest_ties_go_to_the_even_pixel(backend: str) -> None:
    row = torch.arange(6.0).expand(1, 1, 2, 6)
    half = torch.tensor([[1, 0, 0.5], [0, 1, 0]])
    out = affine_sample(row, half, mode="nearest", padding="border", backend=backend)
    assert out[0, 0, 0].tolist() == [0, 2, 2, 4, 4, 5]


@every_backend
@pytest.mark.parametrize("dims", [2, 3])
def test_one_map_for_all(dims: int, backend: str) -> None:
    z, matrix, _ = random_case((3, *SMALL[dims][1:]), torch.float32)
    expected = affine_sample(z, matrix[:1].repeat(3, 1, 1), backend=backend)
    for one in (matrix[0], matrix[:1].expand(3, -1, -1), matrix[0].double()):
        assert torch.equal(affine_sample(z, one, backend=backend), expected)


# --- maps that are not finite or enormous ---------------------------------------------------------


@every_combination
@every_backend
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")], ids=str)
def test_map_that_is_not_finite(dims: int, mode: str, padding: str, backend: str, value: float) -> None:
    for row, column in ((0, 0), (dims - 1, dims)):
        shape = (3, *SMALL[dims][1:])
        _, matrix, grad = random_case(shape, torch.float32)
        matrix[1, row, column] = value
        z = torch.zeros(shape, requires_grad=True)
        matrix.requires_grad_()
        out = affine_sample(z, matrix, mode=mode, padding=padding, backend=backend)
        for x in (out, *torch.autograd.grad(out, (z, matrix), grad)):
            assert x[1].isnan().all()
            assert x[[0, 2]].isfinite().all()


@every_combination
@every_backend
@pytest.mark.parametrize("value", [1e6, -1e9, 2.0**31, -(2.0**31), 2.0**63, 1e30, -3e38], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16], ids=str)
def test_enormous_translations(
    dims: int, mode: str, padding: str, backend: str, value: float, dtype: torch.dtype
) -> None:
    shape = SMALL[dims]
    z, _, grad = random_case(shape, dtype)
    matrix = identity(dims, shape[0])
    matrix[:, 0, dims] = value
    z.requires_grad_(), matrix.requires_grad_()
    out = affine_sample(z, matrix, mode=mode, padding=padding, backend=backend)
    z_grad, matrix_grad = torch.autograd.grad(out, (z, matrix), grad)
    assert z_grad.isfinite().all()
    assert matrix_grad.isfinite().all()
    if padding == "zeros":
        assert not out.any()
        assert not z_grad.any()
        assert not matrix_grad.any()
    elif padding == "border":
        last = z[..., -1:] if value > 0 else z[..., :1]
        # The weights of the taps, all of the same pixel, sum to 1 up to rounding.
        torch.testing.assert_close(out, last.expand(shape), rtol=4 * torch.finfo(dtype).eps, atol=0)
    else:
        overshoot = 1.0 if mode != "bicubic" else 1.375
        assert out.abs().max() <= overshoot * z.abs().max() * (1 + 4 * torch.finfo(dtype).eps)


@every_combination
@every_backend
@pytest.mark.parametrize("value", [1e30, -3e38, 1.7e308], ids=str)
def test_coordinates_beyond_all_numbers(
    dims: int, mode: str, padding: str, backend: str, value: float
) -> None:
    """Sums of finite entries that overflow, to infinities of both signs and to NaN."""
    shape = SMALL[dims]
    z, _, grad = random_case(shape, torch.float64 if value > 1e300 else torch.float32)
    matrix = torch.full((shape[0], dims, dims + 1), value, dtype=z.dtype)
    matrix[:, :, 0] *= -1
    z.requires_grad_(), matrix.requires_grad_()
    out = affine_sample(z, matrix, mode=mode, padding=padding, backend=backend)
    grads = torch.autograd.grad(out, (z, matrix), grad)
    seen = out.detach()[~out.isnan()]
    if len(seen):
        assert seen.abs().max() <= 1.375**dims * z.abs().max()
    if padding == "zeros":
        # Only the very centre of an axis may still meet the image.
        outside = ~((coordinates(matrix.detach(), shape).abs() < 100).all(0))[:, None].expand(shape)
        assert not out[outside].any()
        assert all(x.isfinite().all() for x in grads)


def places_of_pixel(matrix: Tensor, shape: tuple[int, ...], pixel: int, mode: str, padding: str) -> Tensor:
    """Which places (N, *sizes) have the pixel (pixel, ..., pixel) among their taps."""
    taps = {"nearest": (0,), "bilinear": (0, 1), "bicubic": (-1, 0, 1, 2)}[mode]
    first = coordinates(matrix, shape)
    first = (first.round() if mode == "nearest" else first.floor()).long()
    touched = torch.ones(first.shape[1:], dtype=torch.bool)
    for axis, size in enumerate(shape[:1:-1]):
        room = int(first.abs().max()) + 4
        # Pixel k has the number k + 1, what lies outside of zeros has none.
        stands_for = torch.from_numpy(np.pad(np.arange(size) + 1, room, mode=NUMPY[padding]))
        touched &= torch.stack([stands_for[first[axis] + tap + room] == pixel + 1 for tap in taps]).any(0)
    return touched


@every_combination
@every_backend
@pytest.mark.parametrize("pixel", [0, 2])
@pytest.mark.parametrize("value", [torch.inf, torch.nan], ids=str)
def test_infinite_pixels_stay_where_they_are_taps(
    dims: int, mode: str, padding: str, backend: str, pixel: int, value: float
) -> None:
    shape = (8, *SMALL[dims][1:])
    z, matrix, _ = generic_case(shape, torch.float32, mode, gentle=True)
    z[(..., *(pixel,) * dims)] = value
    out = affine_sample(z, matrix, mode=mode, padding=padding, backend=backend)
    touched = places_of_pixel(matrix, shape, pixel, mode, padding)[:, None].expand(shape)
    assert touched.any()
    assert not touched.all()
    assert torch.equal(out.isfinite(), ~touched)


@every_combination
@every_backend
def test_infinite_gradients_reach_their_taps_only(dims: int, mode: str, padding: str, backend: str) -> None:
    shape = (8, *SMALL[dims][1:])
    z, matrix, _ = generic_case(shape, torch.float32, mode, gentle=True)
    z.requires_grad_()
    out = affine_sample(z, matrix, mode=mode, padding=padding, backend=backend)
    grad = torch.zeros(shape)
    grad[..., 1, 2] = 1
    taps = torch.autograd.grad(out, z, grad, retain_graph=True)[0] != 0
    assert taps.any()
    grad[..., 1, 2] = torch.inf
    assert torch.equal(torch.autograd.grad(out, z, grad)[0].isfinite(), ~taps)


@every_combination
@every_backend
def test_empty(dims: int, mode: str, padding: str, backend: str) -> None:
    for axis in range(2 + dims):
        shape = tuple(0 if a == axis else size for a, size in enumerate(SMALL[dims]))
        z = torch.randn(shape, requires_grad=True)
        matrix = identity(dims, shape[0]).requires_grad_()
        out = affine_sample(z, matrix, mode=mode, padding=padding, backend=backend)
        assert out.shape == shape
        z_grad, matrix_grad = torch.autograd.grad(out.sum(), (z, matrix))
        assert z_grad.shape == shape
        assert torch.equal(matrix_grad, torch.zeros(shape[0], dims, dims + 1))


def test_meta_tensors_have_the_right_shape() -> None:
    out = affine_sample(torch.empty(2, 3, 4, 5, 6, device="meta"), torch.empty(2, 3, 4, device="meta"))
    assert out.shape == (2, 3, 4, 5, 6)
    assert out.is_meta
