"""The Triton kernels of affine sampling against plain torch: values, derivatives, awkward matrices."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from equikernels.ops import triton_support
from equikernels.ops.backends import BackendError
from tests.ops.sampling.triton_oracle import (
    LARGEST,
    awkward_matrices,
    derivative,
    gradients,
    random_directions,
    random_images,
    random_matrices,
    sample,
    tolerance,
)

triton_kernels = pytest.importorskip("equikernels.ops.sampling.triton_kernels")
triton_adjoint = pytest.importorskip("equikernels.ops.sampling.triton_adjoint")

COMBINATIONS = list(itertools.product(("bilinear", "nearest"), ("zeros", "border")))
SHAPES = ((3, 3, 5, 7), (2, 1, 6, 3), (2, 3, 1, 1), (2, 1, 3, 4, 3), (1, 3, 2, 1, 3))


def on(device: str, dtype: torch.dtype, *tensors: Tensor) -> list[Tensor]:
    return [x.to(device, dtype) for x in tensors]


def assert_near(ours: Tensor, expected: Tensor, atol: float) -> None:
    torch.testing.assert_close(ours.cpu().double(), expected, rtol=0, atol=atol)


# --- agreement ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [*((shape, torch.float64) for shape in SHAPES), *((shape, torch.float32) for shape in SHAPES[1::2])],
    ids=str,
)
@pytest.mark.parametrize(("mode", "padding"), COMBINATIONS)
def test_values_and_gradients(
    shape: tuple[int, ...], dtype: torch.dtype, mode: str, padding: str, device: str
) -> None:
    matrix = random_matrices(shape)
    check(shape, matrix, random_directions(0, matrix), mode, padding, dtype, device)


@pytest.mark.parametrize(
    ("shape", "order", "dtype"),
    [
        ((2, 3, 5, 7), 1, torch.float64),
        ((2, 3, 5, 7), 2, torch.float64),
        ((2, 1, 6, 3), 1, torch.float32),
        ((1, 2, 3, 4, 3), 1, torch.float64),
        ((1, 2, 3, 4, 3), 2, torch.float64),
        ((1, 2, 3, 4, 3), 3, torch.float64),
        ((1, 1, 2, 1, 3), 2, torch.float32),
    ],
    ids=str,
)
@pytest.mark.parametrize("padding", ["zeros", "border"])
def test_directional_derivatives(
    shape: tuple[int, ...], order: int, dtype: torch.dtype, padding: str, device: str
) -> None:
    matrix = random_matrices(shape, 1)
    check(shape, matrix, random_directions(order, matrix), "bilinear", padding, dtype, device)


def check(
    shape: tuple[int, ...],
    matrix: Tensor,
    directions: Tensor,
    mode: str,
    padding: str,
    dtype: torch.dtype,
    device: str,
) -> None:
    z, grad = random_images(shape)
    expected = derivative(z, matrix, directions, mode, padding)
    expected_z, expected_matrix = gradients(grad, z, matrix, directions, mode, padding)
    if min(shape[2:]) > 1:
        assert bool(expected.flatten(1).any(1).all()), "every sample must look into its image"
    z, grad, matrix_, directions_ = on(device, dtype, z, grad, matrix, directions)
    out = triton_kernels.apply(z, matrix_, directions_, mode, padding)
    z_grad, m_grad = triton_kernels.backward(grad, z, matrix_, directions_, mode, padding)
    assert [x.dtype for x in (out, z_grad, m_grad)] == [dtype] * 3
    assert out.is_contiguous()
    assert z_grad.is_contiguous()
    atol = tolerance(matrix, directions, shape[2:], dtype)
    assert_near(out, expected, atol)
    # An input place adds up no more than all the output.
    pixels = math.prod(shape[2:])
    assert_near(z_grad, expected_z, pixels * atol)
    # One order more, along an entry of the matrix: a direction as long as the image, or 1 for a translation.
    one_more = torch.cat([directions, torch.ones_like(matrix)[None]])
    atol = shape[1] * pixels * LARGEST * tolerance(matrix, one_more, shape[2:], dtype)
    assert_near(m_grad, expected_matrix, atol)


def test_many_blocks_and_groups_of_channels(device: str) -> None:
    shape = (1, 5, 17, 16)
    assert math.prod(shape[2:]) > 2 * triton_kernels.BLOCK
    assert shape[1] > triton_kernels.CHANNELS
    matrix = random_matrices(shape)
    check(shape, matrix, random_directions(0, matrix), "bilinear", "zeros", torch.float64, device)


def test_nearest_rounds_half_to_even(device: str) -> None:
    z, _ = random_images((4, 1, 4, 5))
    shifts = torch.tensor([[0.5, -0.5], [1.5, 2.5], [-1.5, 0.5], [-0.5, -2.5]], dtype=torch.float64)
    matrix = torch.cat([torch.eye(2, dtype=torch.float64).expand(4, 2, 2), shifts[:, :, None]], 2)
    none = random_directions(0, matrix)
    for padding in ("zeros", "border"):
        ours = triton_kernels.apply(*on(device, torch.float64, z, matrix, none), "nearest", padding)
        assert torch.equal(ours.cpu(), sample(z, matrix, "nearest", padding))


# --- awkward matrices -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sizes", "order", "mode", "padding"),
    [
        ((2, 3), 0, "bilinear", "zeros"),
        ((2, 3), 0, "bilinear", "border"),
        ((2, 3), 2, "bilinear", "zeros"),
        ((2, 3), 1, "bilinear", "border"),
        ((2, 3), 0, "nearest", "zeros"),
        ((2, 3), 0, "nearest", "border"),
        ((1, 2, 2), 0, "bilinear", "border"),
        ((2, 1, 2), 2, "bilinear", "zeros"),
    ],
    ids=str,
)
def test_adjoint_is_the_transpose(
    sizes: tuple[int, ...], order: int, mode: str, padding: str, device: str
) -> None:
    """Entry by entry: the channels are all images of a single one."""
    pixels = math.prod(sizes)
    # Every second matrix with either padding, and fewer where programs take longer.
    step = 2 if order == 0 and len(sizes) == 2 else 3
    matrix = awkward_matrices(len(sizes))[int(padding == "border") :: step]
    basis = torch.eye(pixels).view(1, pixels, *sizes).expand(len(matrix), -1, *sizes)
    arguments = on(device, torch.float32, basis, matrix, random_directions(order, matrix))
    forward = triton_kernels.apply(*arguments, mode, padding).flatten(2)
    transposed = triton_kernels.adjoint(*arguments, mode, padding).flatten(2)
    assert bool(forward.isfinite().all())
    # The same coordinates and weights, multiplied in another order; border taps that coincide are added up.
    # A weight is a product of differences, each at most 2, with direction coordinates bounded by `speed`.
    speed = float(arguments[2].abs().sum(-1).max()) * max(sizes) if order else 0.0
    atol = 16 * torch.finfo(torch.float32).eps * (2 * speed) ** order
    torch.testing.assert_close(transposed.mT, forward, rtol=0, atol=atol)
    if not order and padding == "border":
        # Every output is a mean of inputs: the weights of its taps sum to 1.
        torch.testing.assert_close(forward.sum(1), torch.ones_like(forward.sum(1)), rtol=0, atol=atol)


@pytest.mark.parametrize(("mode", "padding"), COMBINATIONS)
@pytest.mark.parametrize("dims", [2, 3])
def test_enormous_matrices_read_outside(dims: int, mode: str, padding: str, device: str) -> None:
    """Even sizes, so that every coordinate of every place is far outside: nothing, or a corner."""
    sizes = (2, 4, 2)[:dims]
    z, grad = random_images((3, 2, *sizes))
    matrix = torch.eye(dims, dims + 1).expand(3, -1, -1) * torch.tensor([1e9, 1e30, 3e38])[:, None, None]
    z_, grad_, matrix_ = on(device, torch.float32, z, grad, matrix)
    none = matrix_.new_zeros(0, *matrix_.shape)
    out = triton_kernels.apply(z_, matrix_, none, mode, padding).cpu().double()
    z_grad, m_grad = triton_kernels.backward(grad_, z_, matrix_, none, mode, padding)
    assert not m_grad.any()
    if padding == "zeros":
        assert not out.any()
        assert not z_grad.any()
        return
    corner = z
    for axis, size in enumerate(sizes, 2):
        index = torch.arange(size)
        corner = corner.index_select(axis, torch.where(index < size // 2, 0, size - 1))
    assert torch.equal(out, corner)
    torch.testing.assert_close(z_grad.cpu().double().sum(), grad.sum(), rtol=0, atol=grad.numel() * 1e-6)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dims", [2, 3])
def test_not_finite_matrices(dims: int, bad: float, device: str) -> None:
    z, grad = random_images((3, 1, *(3, 4, 2)[:dims]))
    for row, column in ((0, 0), (dims - 1, dims)):
        matrix = torch.eye(dims, dims + 1).repeat(3, 1, 1)
        matrix[1, row, column] = bad
        z_, grad_, matrix_ = on(device, torch.float32, z, grad, matrix)
        none = matrix_.new_zeros(0, *matrix_.shape)
        for mode, directions in (("bilinear", none), ("nearest", none), ("nearest", matrix_[None] * 0 + 1)):
            results = (
                triton_kernels.apply(z_, matrix_, directions, mode, "zeros"),
                *triton_kernels.backward(grad_, z_, matrix_, directions, mode, "zeros"),
            )
            for result in results:
                assert bool(result[1].isnan().all())
                assert bool(result[::2].isfinite().all())


def test_pixels_outside_are_never_read(device: str) -> None:
    z, grad = random_images((1, 1, 4, 5))
    matrix = torch.tensor([[[1.0, 0, 1.25], [0, 1, 0]]])
    z[..., 0], grad[..., -2:] = torch.inf, torch.nan
    z_, grad_, matrix_ = on(device, torch.float32, z, grad, matrix)
    none = matrix_.new_zeros(0, *matrix_.shape)
    # Output column j reads input columns j + 1 and j + 2.
    out = triton_kernels.apply(z_, matrix_, none, "bilinear", "zeros")
    assert bool(out.isfinite().all())
    z_grad = triton_kernels.adjoint(grad_, matrix_, none, "bilinear", "zeros")
    assert bool(z_grad[..., :4].isfinite().all())
    assert bool(z_grad[..., 4].isnan().all())


@pytest.mark.parametrize(("sizes", "scale"), [((10, 12), 1.0), ((10, 12), 0.5), ((4, 5, 6), 2.0)], ids=str)
def test_the_adjoint_visits_few_places(
    sizes: tuple[int, ...], scale: float, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No more than the rows and columns of the box around a turned square of side 2 / scale."""
    if not triton_support.INTERPRETED:
        pytest.skip("counts what the interpreter calls")
    dims, visits = len(sizes), 0
    weights_of = triton_adjoint.weights_of

    def counting(*arguments: Any) -> Any:
        nonlocal visits
        visits += 1
        return weights_of(*arguments)

    monkeypatch.setattr(triton_adjoint, "weights_of", counting)
    grad, _ = random_images((1, 1, *sizes))
    assert math.prod(sizes) <= triton_kernels.BLOCK
    turn = torch.linalg.qr(torch.randn(dims, dims, generator=torch.Generator().manual_seed(2)))[0]
    matrix = torch.cat([scale * turn, 0.3 * torch.ones(dims, 1)], 1)[None]
    none = matrix.new_zeros(0, *matrix.shape)
    triton_kernels.adjoint(grad.float(), matrix, none, "bilinear", "zeros")
    most = (2 * math.sqrt(dims) / scale + 1) ** dims
    assert 0 < visits / dims <= most < math.prod(sizes)


# --- launchers ------------------------------------------------------------------------------------


def everything(z: Tensor, grad: Tensor, matrix: Tensor, directions: Tensor) -> list[Tensor]:
    options = ("bilinear", "border")
    out = triton_kernels.apply(z, matrix, directions, *options)
    return [out, *triton_kernels.backward(grad, z, matrix, directions, *options)]


LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "channels_last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "transposed": lambda x: x.mT.contiguous().mT,
    "every second column": lambda x: x.repeat_interleave(2, -1)[..., ::2],
    "sliced": lambda x: torch.cat([x, x], 1)[:, : x.shape[1]],
    "negated lazily": lambda x: torch.complex(torch.zeros_like(x), -x).conj().imag,
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout: str, device: str) -> None:
    shape = (2, 3, 4, 5)
    matrix = random_matrices(shape)
    z, grad, matrix, directions = on(
        device, torch.float32, *random_images(shape), matrix, random_directions(1, matrix)
    )
    expected = everything(z, grad, matrix, directions)
    images, upstream = LAYOUTS[layout](z), LAYOUTS[layout](grad)
    assert torch.equal(images, z)
    maps, moves = matrix.mT.contiguous().mT, directions.flip(0).flip(0).mT.contiguous().mT
    for ours, plain in zip(everything(images, upstream, maps, moves), expected, strict=True):
        assert torch.equal(ours, plain)


def test_expanded(device: str) -> None:
    shape = (2, 3, 4, 5)
    matrix = random_matrices((1, *shape[1:]))
    matrix, directions = on(device, torch.float32, matrix, random_directions(1, matrix))
    z = torch.rand(1, 1, 4, 5, device=device).expand(shape)
    ones = torch.ones((), device=device).expand(shape)
    matrix, directions = matrix.expand(2, 2, 3), directions.expand(1, 2, 2, 3)
    expected = everything(*(x.contiguous() for x in (z, ones, matrix, directions)))
    for ours, plain in zip(everything(z, ones, matrix, directions), expected, strict=True):
        assert torch.equal(ours, plain)


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (1, 1, 2, 3, 2)], ids=str)
def test_wide_offsets(shape: tuple[int, ...], device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = random_matrices(shape)
    arguments = on(device, torch.float32, *random_images(shape), matrix, random_directions(1, matrix))
    expected = everything(*arguments)
    monkeypatch.setattr(triton_support, "needs_wide_offsets", lambda *tensors, dims: True)
    for ours, plain in zip(everything(*arguments), expected, strict=True):
        assert torch.equal(ours, plain)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (1, 1, 2, 3, 2)], ids=str)
def test_half_precision_is_storage_only(shape: tuple[int, ...], dtype: torch.dtype, device: str) -> None:
    matrix = random_matrices(shape)
    z, grad = on(device, dtype, *random_images(shape))
    matrix, directions = on(device, torch.float32, matrix, random_directions(1, matrix))
    ours = everything(z, grad, matrix, directions)
    out, z_grad, m_grad = everything(z.float(), grad.float(), matrix, directions)
    for half, full in zip(ours, (out.to(dtype), z_grad.to(dtype), m_grad), strict=True):
        assert half.dtype == full.dtype
        assert torch.equal(half, full)


def test_results_repeat_and_samples_do_not_see_each_other(device: str) -> None:
    shape = (3, 3, 6, 5)
    matrix = random_matrices(shape)
    arguments = on(device, torch.float32, *random_images(shape), matrix, random_directions(1, matrix))
    first = everything(*arguments)
    z, grad, matrix, directions = arguments
    for ours, again in zip(first, everything(*arguments), strict=True):
        assert torch.equal(ours, again)
    for ours, alone in zip(
        first, everything(z[1:2], grad[1:2], matrix[1:2], directions[:, 1:2]), strict=True
    ):
        assert torch.equal(ours[1:2], alone)


@pytest.mark.parametrize("shape", [(0, 3, 4, 5), (2, 0, 4, 5), (2, 3, 0, 5), (2, 1, 3, 4, 0)], ids=str)
def test_empty(shape: tuple[int, ...], device: str) -> None:
    dims = len(shape) - 2
    z = torch.zeros(shape, device=device)
    matrix = torch.ones(shape[0], dims, dims + 1, device=device)
    for order in (0, 1, dims + 1):
        out, z_grad, m_grad = everything(z, z, matrix, matrix.expand(order, *matrix.shape))
        assert out.shape == z_grad.shape == shape
        assert torch.equal(m_grad, torch.zeros_like(matrix))


@pytest.mark.parametrize("dims", [2, 3])
def test_orders_that_vanish_start_no_kernel(dims: int, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("apply_kernel", "adjoint_kernel", "matrix_grad_kernel"):
        monkeypatch.setattr(triton_kernels, name, None)
    z = torch.ones(2, 1, *(3,) * dims, device=device, dtype=torch.float16)
    matrix = torch.eye(dims, dims + 1, device=device).repeat(2, 1, 1)
    matrix[1, 0, 0] = torch.nan
    for mode, order in (("bilinear", dims + 1), ("nearest", 1)):
        directions = torch.ones(order, *matrix.shape, device=device)
        results: tuple[Any, ...] = (
            triton_kernels.apply(z, matrix, directions, mode, "zeros"),
            triton_kernels.adjoint(z, matrix, directions, mode, "zeros"),
            triton_kernels.matrix_grad(z, z, matrix, directions[1:], mode, "zeros"),
        )
        assert [x.shape for x in results] == [z.shape, z.shape, matrix.shape]
        assert [x.dtype for x in results] == [torch.float16, torch.float16, torch.float32]
        for result in results:
            assert result.is_contiguous()
            assert not result[0].any()
            assert bool(result[1].isnan().all())


@pytest.mark.parametrize(("mode", "padding"), [("bicubic", "zeros"), ("bilinear", "reflection")])
def test_what_has_no_kernel_is_refused(mode: str, padding: str) -> None:
    z, matrix = torch.zeros(1, 1, 2, 2), torch.zeros(1, 2, 3)
    none = torch.zeros(0, 1, 2, 3)
    calls = (
        lambda: triton_kernels.apply(z, matrix, none, mode, padding),
        lambda: triton_kernels.adjoint(z, matrix, none, mode, padding),
        lambda: triton_kernels.matrix_grad(z, z, matrix, none, mode, padding),
        lambda: triton_kernels.backward(z, z, matrix, none, mode, padding),
    )
    for call in calls:
        with pytest.raises(BackendError, match=f"'{mode}'.*'{padding}'.*backend=\"reference\" runs it"):
            call()
