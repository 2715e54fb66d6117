"""Derivatives of `shear_rotate` of every kind, and transforms."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.autograd.forward_ad as forward_ad
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from equikernels.ops import shear_rotate
from tests.ops.fourier.samples import BACKENDS, distance, random_case, rotation_error

CHECKED = ((2, 2, 4, 4), (2, 1, 5, 5), (2, 2, 3, 4), (1, 1, 1, 3), (1, 1, 1, 1))


def rotation(backend: str) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda z, theta: shear_rotate(z, theta, backend=backend)


def inputs(shape: tuple[int, ...], seed: int = 0) -> tuple[Tensor, Tensor]:
    z, theta, _ = random_case(shape, torch.float64, seed)
    return z.requires_grad_(), theta.requires_grad_()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("shape", CHECKED, ids=str)
def test_gradcheck(shape: tuple[int, ...], seed: int, backend: str) -> None:
    assert gradcheck(rotation(backend), inputs(shape, seed), check_forward_ad=True, check_undefined_grad=True)


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize("shape", CHECKED[1:4], ids=str)
def test_second_and_batched_derivatives(shape: tuple[int, ...]) -> None:
    assert gradgradcheck(rotation("torch"), inputs(shape), check_fwd_over_rev=True, check_rev_over_rev=True)
    assert gradcheck(rotation("torch"), inputs(shape), check_batched_grad=True)


@pytest.mark.parametrize("side", [-1, 1])
@pytest.mark.parametrize("degrees", [45.0, 135.0, -45.0, -135.0, 90.0, -90.0, 0.0, 180.0])
@pytest.mark.parametrize("size", [(6, 6), (4, 7)], ids=str)
def test_derivative_on_either_side_of_a_switch(size: tuple[int, int], degrees: float, side: int) -> None:
    """Where the exact turn changes the result jumps; the derivative is that of the side the angle is on."""
    z, _, grad = random_case((1, 2, *size), torch.float64)
    step = 1e-4
    theta = torch.tensor([math.radians(degrees) + side * 3 * step], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(shear_rotate(z, theta), theta, grad)

    def value(angle: float) -> float:
        return float((shear_rotate(z, angle) * grad).sum())

    at = theta.item()
    differences = (value(at + step) - value(at - step)) / (2 * step)
    # The third derivative of a phase is at most (pi size)^3, of five shears in a row at most 125 times that.
    third = 125 * (math.pi * max(size)) ** 3 * float(z.norm() * grad.norm())
    assert abs(differences - float(slope)) <= third * step**2 / 6


def test_the_result_jumps_at_a_switch() -> None:
    z, _, _ = random_case((1, 1, 8, 8), torch.float64)
    below, above = (shear_rotate(z, math.pi / 4 + step) for step in (-1e-9, 1e-9))
    assert distance(below, above) > 0.01
    below, above = (shear_rotate(z, 0.5 + step) for step in (-1e-9, 1e-9))
    assert distance(below, above) < 1e-6


@pytest.mark.parametrize("needs", [(True, True), (True, False), (False, True), (False, False)], ids=str)
def test_any_subset_of_inputs(needs: tuple[bool, bool]) -> None:
    z, theta, grad = random_case((2, 3, 6, 6), torch.float64)
    z.requires_grad_(needs[0]), theta.requires_grad_(needs[1])
    out = shear_rotate(z, theta)
    assert out.requires_grad == any(needs)
    if needs[0]:
        (z_grad,) = torch.autograd.grad(out, z, grad)
        assert distance(z_grad, shear_rotate(grad, -theta)) <= rotation_error(z.dtype, (6, 6))


@pytest.mark.parametrize("angle_dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_gradient_dtypes(dtype: torch.dtype, angle_dtype: torch.dtype) -> None:
    z, theta, _ = random_case((2, 3, 4, 5), dtype)
    z, theta = z.requires_grad_(), theta.to(angle_dtype).requires_grad_()
    out = shear_rotate(z, theta)
    out.sum().backward()
    assert (out.dtype, z.grad.dtype, theta.grad.dtype) == (dtype, dtype, angle_dtype)


@pytest.mark.parametrize("backend", BACKENDS)
def test_autocast_changes_nothing(backend: str) -> None:
    z, theta, _ = random_case((2, 3, 6, 5), torch.float32)
    expected = shear_rotate(z, theta, backend=backend)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(shear_rotate(z, theta, backend=backend), expected)
        assert (z.flatten(1) @ z.flatten(1).mT).dtype == torch.bfloat16  # it is on, and stays on


def loss(z: Tensor, theta: Tensor, backend: str = "torch") -> Tensor:
    return shear_rotate(z, theta, backend=backend).pow(3).sum()


def test_transforms_agree_with_the_reference() -> None:
    z, theta, z_dot = random_case((2, 2, 4, 4), torch.float64)

    def expected(z: Tensor, theta: Tensor) -> Tensor:
        return loss(z, theta, "reference")

    for argument in (0, 1):
        for derivative in (torch.func.grad, torch.func.hessian, torch.func.jacfwd):
            torch.testing.assert_close(
                derivative(loss, argument)(z, theta), derivative(expected, argument)(z, theta)
            )
    primals, tangents = (z, theta), (z_dot, theta.cos())
    torch.testing.assert_close(
        torch.func.jvp(loss, primals, tangents), torch.func.jvp(expected, primals, tangents)
    )
    with forward_ad.dual_level():
        out = forward_ad.unpack_dual(shear_rotate(forward_ad.make_dual(z, z_dot), theta))
    torch.testing.assert_close(out.tangent, shear_rotate(z_dot, theta))


@pytest.mark.parametrize("in_dims", [(0, 0), (1, None), (None, 0), (2, 1)], ids=str)
@pytest.mark.parametrize("size", [(4, 4), (5, 3)], ids=str)
def test_vmap(size: tuple[int, int], in_dims: tuple[int | None, int | None]) -> None:
    z, theta = torch.randn(4, 4, 4, *size, dtype=torch.float64), torch.randn(4, 4, dtype=torch.float64)
    z = z if in_dims[0] is not None else z[0]
    theta = theta if in_dims[1] is not None else theta[0]
    many = torch.vmap(shear_rotate, in_dims=in_dims)(z, theta)
    slopes = torch.vmap(torch.func.grad(loss, (0, 1)), in_dims=in_dims)(z, theta)
    for k in range(4):
        one_z = z if in_dims[0] is None else z.select(in_dims[0], k)
        one_theta = theta if in_dims[1] is None else theta.select(in_dims[1], k)
        torch.testing.assert_close(many[k], shear_rotate(one_z, one_theta))
        expected = torch.func.grad(loss, (0, 1))(one_z, one_theta)
        torch.testing.assert_close((slopes[0][k], slopes[1][k]), expected)
