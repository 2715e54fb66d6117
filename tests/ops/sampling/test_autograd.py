"""Derivatives of every kind in eager mode: reverse, double, forward, subsets of inputs, dtypes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.autograd.forward_ad as forward_ad
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from equikernels.ops import affine_sample
from equikernels.ops.sampling import autograd
from tests.ops.sampling.samples import SMALL, every_backend, every_combination, generic_case, random_case

TINY = {2: (2, 2, 3, 4), 3: (1, 2, 2, 3, 3)}

# Finite differences move a coordinate by 1e-6 times the extent: taps must not change on the way.
ROOM = 1e-4


def sampling(mode: str, padding: str, backend: str) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda z, matrix: affine_sample(z, matrix, mode=mode, padding=padding, backend=backend)


def inputs(shape: tuple[int, ...], mode: str, seed: int = 0) -> tuple[Tensor, Tensor]:
    z, matrix, _ = generic_case(shape, torch.float64, mode, seed, room=ROOM)
    return z.requires_grad_(), matrix.requires_grad_()


@every_combination
@every_backend
def test_gradcheck(dims: int, mode: str, padding: str, backend: str) -> None:
    f = sampling(mode, padding, backend)
    assert gradcheck(
        f,
        inputs(TINY[dims], mode),
        check_forward_ad=True,
        check_undefined_grad=True,
        fast_mode=backend == "reference",
    )


@every_combination
@every_backend
def test_gradgradcheck(dims: int, mode: str, padding: str, backend: str) -> None:
    f = sampling(mode, padding, backend)
    assert gradgradcheck(
        f,
        inputs((1, 1, *TINY[dims][2:]), mode),
        check_fwd_over_rev=True,
        check_rev_over_rev=True,
        fast_mode=backend == "reference",
    )


@every_combination
@pytest.mark.parametrize("order", [0, 1, 2])
def test_the_four_functions(dims: int, mode: str, padding: str, order: int) -> None:
    """Each with the derivatives it claims, by the directions as well."""
    shape = (2, 1, *TINY[dims][2:])
    z, matrix = inputs(shape, mode)
    grad = inputs(shape, mode, seed=1)[0]
    generator = torch.Generator().manual_seed(2)
    directions = torch.rand(order, *matrix.shape, generator=generator, dtype=torch.float64) - 0.5
    directions.requires_grad_(order > 0)
    options = (mode, padding, "cpp")
    checks = {"check_forward_ad": True, "check_undefined_grad": True, "fast_mode": True}
    for f, tensors in (
        (autograd.sample_apply, (z, matrix, directions)),
        (autograd.sample_adjoint, (grad, matrix, directions)),
        (autograd.sample_matrix_grad, (grad, z, matrix, directions)),
        (autograd.sample_backward, (grad, z, matrix, directions)),
    ):
        assert gradcheck(lambda *t, f=f: f(*t, *options), tensors, **checks)


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@every_combination
def test_batched_gradients(dims: int, mode: str, padding: str) -> None:
    """torch.autograd.grad(is_grads_batched=True), which uses an older vmap than torch.func."""
    assert gradcheck(
        sampling(mode, padding, "cpp"),
        inputs((1, 2, *TINY[dims][2:]), mode),
        check_forward_ad=True,
        check_batched_grad=True,
        check_batched_forward_grad=True,
    )


@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize(("dims", "mode"), [(2, "bicubic"), (3, "bilinear")])
def test_third_derivative_matches_the_reference(dims: int, mode: str, padding: str) -> None:
    z, matrix = inputs(SMALL[dims], mode)
    weight = inputs(SMALL[dims], mode, seed=1)[0].detach()

    def third(backend: str) -> Tensor:
        value = (sampling(mode, padding, backend)(z, matrix) * weight).sum()
        for _ in range(3):
            (derivative,) = torch.autograd.grad(value, matrix, create_graph=True)
            value = derivative.pow(2).sum() / 100
        return value.detach()

    torch.testing.assert_close(third("cpp"), third("reference"), rtol=1e-9, atol=0)


@every_combination
def test_penalty_on_the_gradient(dims: int, mode: str, padding: str) -> None:
    """The gradient of a gradient's norm, by both inputs, against the reference."""
    z, matrix = inputs(SMALL[dims], mode)

    def penalty(backend: str) -> tuple[Tensor, ...]:
        loss = sampling(mode, padding, backend)(z, matrix).pow(3).sum()
        slopes = torch.autograd.grad(loss, (z, matrix), create_graph=True)
        return torch.autograd.grad(sum(slope.pow(2).sum() for slope in slopes), (z, matrix))

    for ours, expected in zip(penalty("cpp"), penalty("reference"), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-10, atol=1e-10 * float(expected.abs().max()))


@every_backend
@pytest.mark.parametrize("dims", [2, 3])
def test_nearest_has_no_derivative_by_the_map(dims: int, backend: str) -> None:
    z, matrix = inputs(SMALL[dims], "nearest")
    out = affine_sample(z, matrix, mode="nearest", padding="border", backend=backend)
    assert not torch.autograd.grad(out.sum(), matrix)[0].any()


@pytest.mark.parametrize("needs", [(True, True), (True, False), (False, True), (False, False)], ids=str)
@every_combination
def test_any_subset_of_inputs(dims: int, mode: str, padding: str, needs: tuple[bool, bool]) -> None:
    z, matrix, grad = random_case(SMALL[dims], torch.float64)
    f = sampling(mode, padding, "cpp")
    both = (z.clone().requires_grad_(), matrix.clone().requires_grad_())
    f(*both).backward(grad)
    some = (z.clone().requires_grad_(needs[0]), matrix.clone().requires_grad_(needs[1]))
    out = f(*some)
    assert out.requires_grad == any(needs)
    if any(needs):
        out.backward(grad)
    for x, reference, needed in zip(some, both, needs, strict=True):
        assert (x.grad is not None) == needed
        if needed:
            scale = float(reference.grad.abs().max())
            torch.testing.assert_close(x.grad, reference.grad, rtol=1e-12, atol=1e-12 * scale)


def test_data_is_not_kept_for_its_own_gradient() -> None:
    z = torch.randn(2, 3, 4, 5, requires_grad=True)
    kept: list[Tensor] = []

    def pack(x: Tensor) -> Tensor:
        kept.append(x)
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        affine_sample(z, torch.zeros(2, 2, 3))
    assert [tuple(x.shape) for x in kept] == [(2, 2, 3), (0, 2, 2, 3)]


@every_backend
@pytest.mark.parametrize("map_dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_gradient_dtypes(dtype: torch.dtype, map_dtype: torch.dtype, backend: str) -> None:
    z, matrix, _ = random_case((2, 3, 4, 5), dtype)
    z.requires_grad_()
    matrix = matrix.to(map_dtype).requires_grad_()
    out = affine_sample(z, matrix, backend=backend)
    out.backward(torch.ones_like(out))
    assert (out.dtype, z.grad.dtype, matrix.grad.dtype) == (dtype, dtype, map_dtype)


@every_backend
def test_one_map_collects_the_gradient_of_the_batch(backend: str) -> None:
    z, matrix, grad = random_case((3, 2, 6, 5), torch.float64)
    one = matrix[0].clone().requires_grad_()
    affine_sample(z, one, backend=backend).backward(grad)
    many = matrix[:1].repeat(3, 1, 1).requires_grad_()
    affine_sample(z, many, backend=backend).backward(grad)
    torch.testing.assert_close(one.grad, many.grad.sum(0))


@every_combination
@every_backend
def test_autocast_leaves_dtypes_alone(dims: int, mode: str, padding: str, backend: str) -> None:
    z, matrix, grad = random_case(SMALL[dims], torch.float32)
    f = sampling(mode, padding, backend)
    expected = f(z, matrix)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(f(z, matrix), expected)
        assert f(z.bfloat16(), matrix).dtype == torch.bfloat16
        out = f(z.requires_grad_(), matrix.requires_grad_())
        grads = torch.autograd.grad(out, (z, matrix), grad, create_graph=True)
        (again,) = torch.autograd.grad(grads[0].pow(2).sum(), matrix)
    assert [x.dtype for x in (*grads, again)] == [torch.float32] * 3


def test_deterministic_algorithms_are_allowed() -> None:
    z, matrix = inputs(SMALL[2], "bicubic")
    torch.use_deterministic_algorithms(True)
    try:
        out = affine_sample(z, matrix, mode="bicubic", padding="reflection", backend="cpp")
        grads = torch.autograd.grad(out.pow(2).sum(), (z, matrix), create_graph=True)
        grads[1].pow(2).sum().backward()
    finally:
        torch.use_deterministic_algorithms(False)
    assert z.grad is not None


@every_combination
def test_forward_mode_of_either_input_alone(dims: int, mode: str, padding: str) -> None:
    z, matrix, z_dot = generic_case(SMALL[dims], torch.float64, mode)
    matrix_dot = random_case(SMALL[dims], torch.float64, seed=5)[1]

    def tangent(z_dot: Tensor | None, matrix_dot: Tensor | None, backend: str) -> Tensor:
        with forward_ad.dual_level():
            x = z if z_dot is None else forward_ad.make_dual(z, z_dot)
            m = matrix if matrix_dot is None else forward_ad.make_dual(matrix, matrix_dot)
            out = forward_ad.unpack_dual(sampling(mode, padding, backend)(x, m)).tangent
            return out.clone()

    for dots in ((z_dot, None), (None, matrix_dot), (z_dot, matrix_dot)):
        torch.testing.assert_close(tangent(*dots, "cpp"), tangent(*dots, "reference"))
