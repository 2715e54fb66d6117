"""The Triton kernels of the rotation, see tests/ops/conftest.py for where they run."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from equikernels.ops import backends, rotate, triton_support
from equikernels.ops.rotation import autograd
from equikernels.ops.rotation.reference import rotate_reference
from tests.ops.frames import FramedMemory
from tests.ops.rotation.samples import compute_epsilon, random_case, smooth_images, value_tolerance

pytest.importorskip("triton")

from equikernels.ops.rotation import triton_geometry
from equikernels.ops.rotation import triton_kernels as kernels

# Odd and not square, several tiles, one pixel, one column, nothing.
SHAPES = ((3, 3, 7, 9), (1, 1, 21, 18), (2, 5, 1, 1), (3, 2, 3, 1), (0, 3, 4, 5), (2, 0, 4, 5), (2, 3, 0, 5))
EXACT_TURNS = tuple(k * math.pi / 4 for k in range(8))


@pytest.fixture(autouse=True)
def one_program_for_all_channels(monkeypatch: pytest.MonkeyPatch) -> None:
    """What large batches get: fewer programs to interpret, and a loop over channels to test."""
    monkeypatch.setattr(triton_geometry, "_PROGRAMS", 1)


def gradients(z: Tensor, theta: Tensor, grad: Tensor, backend: str) -> tuple[Tensor, Tensor, Tensor]:
    z, theta = z.detach().requires_grad_(), theta.detach().requires_grad_()
    out = rotate(z, theta, backend=backend)
    return (out.detach(), *torch.autograd.grad(out, (z, theta), grad))


def on_cpu(values: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(value.cpu() for value in values)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_values_and_gradients(shape: tuple[int, ...], dtype: torch.dtype, device: str) -> None:
    z, theta, grad = random_case(shape, dtype)
    ours = on_cpu(gradients(z.to(device), theta.to(device), grad.to(device), "triton"))
    expected = gradients(z, theta, grad, "reference")
    assert [x.dtype for x in ours] == [dtype, dtype, theta.dtype]
    assert all(x.is_contiguous() for x in ours)
    atol = value_tolerance(dtype, shape, 2)
    torch.testing.assert_close(ours[0], expected[0], rtol=0, atol=atol)
    # The columns of a rotation sum to at most 4: each input pixel is a tap of the few outputs around it.
    torch.testing.assert_close(ours[1], expected[1], rtol=0, atol=4 * atol)
    if dtype == torch.float64:
        # Pixels times radius times slope, also the size of the rounding errors.
        scale = z[0:1].numel() * max(shape[-2:], default=1) ** 2 * 16
        atol = 64 * torch.finfo(dtype).eps * scale
        torch.testing.assert_close(ours[2], expected[2], rtol=0, atol=atol)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_angle_gradient(dtype: torch.dtype, device: str) -> None:
    """Against the float64 reference on the same numbers; smooth, because a tap that changes is a jump."""
    shape = (2, 2, 28, 28)
    z = smooth_images(shape, dtype)
    theta = torch.linspace(-3, 3, shape[0])
    grad = smooth_images(shape, torch.float64).roll(3, -1).to(dtype)
    ours = gradients(z.to(device), theta.to(device), grad.to(device), "triton")[2].cpu()
    expected = gradients(z.double(), theta.double(), grad.double(), "reference")[2]
    rtol = 64 * compute_epsilon(dtype) * max(shape[-2:])
    torch.testing.assert_close(ours.double(), expected, rtol=rtol, atol=rtol * float(expected.abs().max()))


def reference_derivative(z: Tensor, theta: Tensor, order: int) -> Tensor:
    """A_k z, by forward mode through the reference, k times."""
    if order == 0:
        return rotate_reference(z, theta)
    one = torch.ones_like(theta)
    return torch.func.jvp(lambda t: reference_derivative(z, t, order - 1), (theta,), (one,))[1]


@pytest.mark.parametrize("order", range(5))
def test_derivatives_by_the_angle(order: int, device: str) -> None:
    z, theta, grad = random_case((2, 3, 6, 5), torch.float64)
    there = (grad.to(device), z.to(device), theta.to(device))
    expected, transpose = torch.func.vjp(lambda x: reference_derivative(x, theta, order), z)
    slopes = (grad * reference_derivative(z, theta, order + 1)).sum((1, 2, 3))
    # Terms are no larger than 2 (2 r)^k at radius r < 4, and each is rounded a few times.
    tolerance = {"rtol": 0, "atol": 256 * torch.finfo(torch.float64).eps * 8 ** (order + 1)}
    torch.testing.assert_close(kernels.apply(*there[1:], order).cpu(), expected, **tolerance)
    (adjoint,) = transpose(grad)
    torch.testing.assert_close(kernels.adjoint(there[0], there[2], order).cpu(), adjoint, **tolerance)
    tolerance["atol"] *= z[0].numel()
    torch.testing.assert_close(kernels.angle_grad(*there, order).cpu(), slopes, **tolerance)
    both = kernels.backward(*there, order)
    assert torch.equal(both[0], kernels.adjoint(there[0], there[2], order))
    assert torch.equal(both[1], kernels.angle_grad(*there, order))


@pytest.mark.parametrize("order", [0, 1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_adjoint_is_exact_where_pixels_meet_cell_borders(dtype: torch.dtype, order: int, device: str) -> None:
    """<g, A z> = <A^T g, z> also for the multiples of 45 degrees, where a last bit decides about the cell."""
    shape = (len(EXACT_TURNS), 1, 9, 9)
    z, _, grad = random_case(shape, dtype)
    theta = torch.tensor(EXACT_TURNS, dtype=dtype)
    forward = kernels.apply(z.to(device), theta.to(device), order).cpu()
    adjoint = kernels.adjoint(grad.to(device), theta.to(device), order).cpu()
    left = (grad.double() * forward.double()).sum((1, 2, 3))
    right = (adjoint.double() * z.double()).sum((1, 2, 3))
    # The same products in another order: 324 of them, none above 4 (2 r)^k, rounded a few times.
    atol = 8 * compute_epsilon(dtype) * 324 * 4 * 12**order
    torch.testing.assert_close(left, right, rtol=0, atol=atol)


@pytest.mark.parametrize("size", [5, 8])
def test_quarter_turns_are_rot90(size: int, device: str) -> None:
    z, _, _ = random_case((4, 2, size, size), torch.float64)
    theta = torch.arange(4, dtype=torch.float64) * (math.pi / 2)
    turned = rotate(z.to(device), theta.to(device), backend="triton").cpu()
    expected = torch.stack([torch.rot90(image, k, (-2, -1)) for k, image in enumerate(z)])
    torch.testing.assert_close(
        turned, expected, rtol=0, atol=4 * value_tolerance(torch.float64, tuple(z.shape), 2)
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_angle_zero_is_exact(dtype: torch.dtype, device: str) -> None:
    z = random_case((1, 3, 6, 11), dtype)[0].to(device)
    assert torch.equal(rotate(z, 0.0, backend="triton"), z)


def rotation(z: Tensor, theta: Tensor) -> Tensor:
    return rotate(z, theta, backend="triton")


def test_gradcheck(device: str) -> None:
    z, theta, _ = (x.to(device).requires_grad_() for x in random_case((1, 2, 2, 3), torch.float64))
    assert gradcheck(rotation, (z, theta), check_forward_ad=True, nondet_tol=0.0)
    assert gradgradcheck(rotation, (z, theta), fast_mode=True)


def test_the_four_functions_are_each_others_derivatives(device: str) -> None:
    order = 1
    z, theta, grad = (x.to(device).requires_grad_() for x in random_case((1, 1, 3, 2), torch.float64))
    fast = {"fast_mode": True, "check_forward_ad": True}
    assert gradcheck(lambda z, t: autograd.rotate_apply(z, t, order, "triton"), (z, theta), **fast)
    assert gradcheck(lambda g, t: autograd.rotate_adjoint(g, t, order, "triton"), (grad, theta), **fast)
    backward = autograd.rotate_backward
    assert gradcheck(lambda g, z, t: backward(g, z, t, order, "triton"), (grad, z, theta), **fast)


LAYOUTS = {
    "channels_last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "transposed": lambda x: x.mT.contiguous().mT,
    "every second column": lambda x: torch.stack([x, x], -1).flatten(3)[..., ::2],
    "sliced": lambda x: torch.cat([x, x], 1)[:, : x.shape[1]],
    "negated lazily": lambda x: torch.complex(torch.zeros_like(x), -x).conj().imag,
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout: str, device: str) -> None:
    z, theta, grad = (x.to(device) for x in random_case((2, 3, 6, 7), torch.float32))
    images, grads = LAYOUTS[layout](z), LAYOUTS[layout](grad)
    assert torch.equal(images, z)
    expected = gradients(z, theta, grad, "triton")
    for ours, plain in zip(gradients(images, theta, grads, "triton"), expected, strict=True):
        assert torch.equal(ours, plain)
        assert ours.is_contiguous()


def test_expanded(device: str) -> None:
    """What sum().backward() sends, one image shared by a batch and by its channels, one angle for all."""
    z, theta, _ = (x.to(device) for x in random_case((3, 2, 6, 5), torch.float32))
    one, ones = z[:1, :1].expand(z.shape), torch.ones((), device=device).expand(z.shape)
    angle = theta[:1].expand(3)
    expected = gradients(one.contiguous(), angle.contiguous(), ones.contiguous(), "triton")
    for ours, plain in zip(gradients(one, angle, ones, "triton"), expected, strict=True):
        assert torch.equal(ours, plain)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf], ids=str)
def test_angle_that_is_not_finite(value: float, device: str) -> None:
    z = torch.zeros(3, 3, 6, 5, device=device)
    theta = torch.tensor([0.3, value, 0.1], device=device)
    out, z_grad, theta_grad = gradients(z, theta, torch.ones_like(z), "triton")
    for result in (out, z_grad, theta_grad):
        assert result[1].isnan().all()
        assert result[[0, 2]].isfinite().all()


@pytest.mark.parametrize("angle", [1e30, -3e38, 2.0**31])
def test_huge_angles(angle: float, device: str) -> None:
    z, _, grad = random_case((1, 2, 9, 16), torch.float32)
    theta = torch.full((1,), angle)
    ours = on_cpu(gradients(z.to(device), theta.to(device), grad.to(device), "triton"))
    reduced = torch.atan2(theta.double().sin(), theta.double().cos())
    atol = 2 * value_tolerance(torch.float32, tuple(z.shape), 2)
    torch.testing.assert_close(ours[0], rotate(z, reduced, backend="reference"), rtol=0, atol=atol)
    assert all(x.isfinite().all() for x in ours)


def test_infinite_pixels_stay_where_they_are_seen(device: str) -> None:
    """A zero weight is one too, inside the image: 0 times infinity is NaN, as in the reference."""
    z = torch.zeros(2, 1, 9, 9)
    z[:, :, 0, 0] = torch.inf
    theta = torch.tensor([0.3, 1.0])
    ours = on_cpu(gradients(z.to(device), theta.to(device), z.to(device), "triton"))
    expected = gradients(z, theta, z, "reference")
    for x, y in zip(ours[:2], expected[:2], strict=True):
        assert torch.equal(x.isfinite(), y.isfinite())


def test_bits_do_not_change(monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    z, theta, grad = (x.to(device) for x in random_case((1, 3, 18, 5), torch.float32))
    first = gradients(z, theta, grad, "triton")
    for ours, again in zip(gradients(z, theta, grad, "triton"), first, strict=True):
        assert torch.equal(ours, again)
    # With other programs only sums over programs may be rounded differently.
    monkeypatch.setattr(triton_geometry, "_PROGRAMS", 512)
    cut = gradients(z, theta, grad, "triton")
    assert torch.equal(cut[0], first[0])
    assert torch.equal(cut[1], first[1])
    torch.testing.assert_close(cut[2], first[2], rtol=1e-5, atol=1e-5 * float(first[2].abs().max()))


def test_offsets_of_64_bits(monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    z, theta, grad = (x.to(device) for x in random_case((2, 3, 7, 6), torch.float32))
    expected = gradients(z, theta, grad, "triton")
    monkeypatch.setattr(triton_geometry, "needs_wide_offsets", lambda *images, dims: True)
    for ours, narrow in zip(gradients(z, theta, grad, "triton"), expected, strict=True):
        assert torch.equal(ours, narrow)


def test_images_too_large_for_the_window_raise(device: str) -> None:
    z = torch.zeros(1, 1, 1, 1, device=device).expand(1, 1, 2, 2**16 + 1)
    with pytest.raises(ValueError, match=r"^z: expected at most 65536 rows and columns, got 2 x 65537"):
        rotate(z, 0.1, backend="triton")


def test_results_are_framed(frames: FramedMemory, device: str) -> None:
    gradients(*(x.to(device) for x in random_case((1, 2, 4, 5), torch.float32)), "triton")
    # Output, gradient of the images, partial sums of the angle's.
    assert len(frames.buffers) == 3


def test_chosen_for_gpus_and_by_name_for_the_interpreter(device: str) -> None:
    assert backends.choose("rotate", device, "triton") == "triton"
    assert (backends.choose("rotate", device) == "triton") == (device == "cuda")
    assert (device == "cpu") == triton_support.INTERPRETED
