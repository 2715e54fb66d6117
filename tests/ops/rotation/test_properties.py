"""Properties that hold for every shape and angle, searched by hypothesis."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from equikernels.ops import rotate
from equikernels.ops.rotation.autograd import rotate_adjoint, rotate_apply
from tests.ops.rotation.samples import random_case, value_tolerance

shapes = st.tuples(st.integers(0, 3), st.integers(0, 9), st.integers(1, 40), st.integers(1, 40)) | st.tuples(
    st.integers(1, 2), st.sampled_from([1, 4]), st.integers(1, 140), st.integers(1, 140)
)
angles = st.floats(-10, 10) | st.sampled_from([k * torch.pi / 4 for k in range(-8, 9)])
huge_angles = st.floats(width=32, allow_nan=False, allow_infinity=False)
seeds = st.integers(0, 2**31)


def case(shape: tuple[int, ...], angle: float, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Float64 images, angles that begin with `angle`, and a second set of images."""
    z, theta, grad = random_case(shape, torch.float64, seed)
    theta[:1] = angle
    return z, theta, grad


@given(shapes, angles, seeds, st.floats(-3, 3))
def test_linear_in_the_images(shape: tuple[int, ...], angle: float, seed: int, factor: float) -> None:
    z, theta, other = case(shape, angle, seed)
    together = rotate(z + factor * other, theta)
    apart = rotate(z, theta) + factor * rotate(other, theta)
    torch.testing.assert_close(together, apart, rtol=0, atol=64 * torch.finfo(torch.float64).eps)


@given(shapes, angles, seeds, st.integers(0, 2))
def test_adjoint(shape: tuple[int, ...], angle: float, seed: int, order: int) -> None:
    """<A_k z, g> = <z, A_k^T g>, summed in float64: rounding grows with the terms and with radius^k."""
    z, theta, grad = case(shape, angle, seed)
    ours = (rotate_apply(z, theta, order, "cpp") * grad).flatten(1).sum(1)
    adjoint = (z * rotate_adjoint(grad, theta, order, "cpp")).flatten(1).sum(1)
    terms = 16 * max(z[0].numel() if len(z) else 0, 1) * (2.0 * max(shape[-2:])) ** order
    torch.testing.assert_close(ours, adjoint, rtol=0, atol=8 * torch.finfo(torch.float64).eps * terms)


@given(shapes, angles, seeds)
def test_agrees_with_the_reference(shape: tuple[int, ...], angle: float, seed: int) -> None:
    z, theta, _ = case(shape, angle, seed)
    atol = value_tolerance(torch.float64, shape, 2)
    torch.testing.assert_close(
        rotate(z, theta, backend="cpp"), rotate(z, theta, backend="reference"), rtol=0, atol=atol
    )


@given(shapes, angles, seeds)
def test_values_stay_within_those_of_the_input_and_zero(
    shape: tuple[int, ...], angle: float, seed: int
) -> None:
    z, theta, _ = case(shape, angle, seed)
    out = rotate(z, theta)
    if out.numel():
        slack = 8 * torch.finfo(torch.float64).eps
        assert out.max() <= max(float(z.max()), 0.0) + slack
        assert out.min() >= min(float(z.min()), 0.0) - slack


@given(shapes, huge_angles, st.sampled_from([torch.float32, torch.float16, torch.bfloat16]))
def test_any_finite_angle_gives_finite_results(
    shape: tuple[int, ...], angle: float, dtype: torch.dtype
) -> None:
    z, theta, grad = random_case(shape, dtype)
    theta[:1] = angle
    z.requires_grad_(), theta.requires_grad_()
    out = rotate(z, theta)
    for x in (out, *torch.autograd.grad(out, (z, theta), grad)):
        assert x.isfinite().all()


@given(shapes, angles, seeds, st.sampled_from([torch.float32, torch.float64, torch.bfloat16]))
def test_threads_do_not_change_a_bit(
    shape: tuple[int, ...], angle: float, seed: int, dtype: torch.dtype
) -> None:
    z, theta, grad = (x.to(dtype) for x in case(shape, angle, seed))
    z.requires_grad_(), theta.requires_grad_()
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2, 3, 1):
            torch.set_num_threads(count)
            out = rotate(z, theta)
            results.append((out.detach(), *torch.autograd.grad(out, (z, theta), grad)))
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        for first, second in zip(results[0], other, strict=True):
            assert torch.equal(first, second)


@pytest.mark.parametrize("shape", [(1, 4, 300, 257), (1, 1, 513, 130), (1, 3, 4096, 2)], ids=str)
def test_threads_do_not_change_a_bit_of_large_images(shape: tuple[int, ...]) -> None:
    z, theta, grad = random_case(shape, torch.float32)
    z.requires_grad_(), theta.requires_grad_()
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            out = rotate(z, theta)
            results.append((out.detach(), *torch.autograd.grad(out, (z, theta), grad)))
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(torch.equal(first, second) for first, second in zip(results[0], other, strict=True))


@given(st.integers(1, 24), seeds)
def test_a_full_turn_in_quarters(size: int, seed: int) -> None:
    z, _, _ = random_case((1, 2, size, size), torch.float64, seed)
    turned = z
    for _ in range(4):
        turned = rotate(turned, torch.pi / 2)
    torch.testing.assert_close(turned, z, rtol=0, atol=8 * value_tolerance(torch.float64, (size, size), 2))
