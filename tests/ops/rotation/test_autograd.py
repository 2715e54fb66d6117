"""Derivatives of every kind in eager mode: reverse, double, forward, transforms, subsets of inputs."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.autograd.forward_ad as forward_ad
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from equikernels.ops import rotate
from equikernels.ops.rotation import autograd
from tests.ops.rotation.samples import random_case

BACKENDS = ("reference", "cpp")

# One with four channels, one with a single channel, one cut into several tiles, one odd and tiny.
CHECKED = ((3, 2, 5, 6), (2, 1, 4, 7), (2, 5, 3, 3), (1, 1, 1, 1), (1, 1, 129, 2))


def rotation(backend: str) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda z, theta: rotate(z, theta, backend=backend)


def inputs(shape: tuple[int, ...], seed: int = 0) -> tuple[Tensor, Tensor]:
    z, theta, _ = random_case(shape, torch.float64, seed)
    return z.requires_grad_(), theta.requires_grad_()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", CHECKED, ids=str)
def test_gradcheck(shape: tuple[int, ...], backend: str) -> None:
    assert gradcheck(
        rotation(backend),
        inputs(shape),
        check_forward_ad=backend == "cpp" or shape[-2] < 100,
        fast_mode=shape[-2] > 100,
        check_undefined_grad=True,
    )


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", CHECKED[:4], ids=str)
def test_gradgradcheck(shape: tuple[int, ...], backend: str) -> None:
    assert gradgradcheck(rotation(backend), inputs(shape), check_fwd_over_rev=True, check_rev_over_rev=True)


@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_batched_gradients() -> None:
    """torch.autograd.grad(is_grads_batched=True), which uses an older vmap than torch.func."""
    assert gradcheck(
        rotation("cpp"),
        inputs((2, 3, 4, 3)),
        check_forward_ad=True,
        check_batched_grad=True,
        check_batched_forward_grad=True,
    )


@pytest.mark.parametrize("order", [0, 1, 2, 3])
@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (2, 1, 5, 3)], ids=str)
def test_the_four_functions(shape: tuple[int, ...], order: int) -> None:
    """Each is the derivative of the one before, for several orders of the angle's derivative."""
    z, theta = inputs(shape)
    grad = inputs(shape, seed=1)[0]
    options = {"check_forward_ad": True, "check_undefined_grad": True}
    assert gradcheck(lambda z, t: autograd.rotate_apply(z, t, order, "cpp"), (z, theta), **options)
    assert gradcheck(lambda g, t: autograd.rotate_adjoint(g, t, order, "cpp"), (grad, theta), **options)
    assert gradcheck(
        lambda g, z, t: autograd.rotate_angle_grad(g, z, t, order, "cpp"), (grad, z, theta), **options
    )
    assert gradcheck(
        lambda g, z, t: autograd.rotate_backward(g, z, t, order, "cpp"), (grad, z, theta), **options
    )


@pytest.mark.parametrize("shape", [(2, 3, 6, 5), (2, 1, 5, 7), (1, 2, 130, 3)], ids=str)
def test_third_derivative_matches_the_reference(shape: tuple[int, ...]) -> None:
    z, theta = inputs(shape)
    weight = inputs(shape, seed=1)[0].detach()

    def third(backend: str) -> Tensor:
        value = (rotate(z, theta, backend=backend) * weight).sum()
        for _ in range(3):
            (derivative,) = torch.autograd.grad(value, theta, create_graph=True)
            value = derivative.sum()
        return derivative.detach()

    expected = third("reference")
    torch.testing.assert_close(third("cpp"), expected, rtol=1e-9, atol=1e-9 * float(expected.abs().max()))


def test_equivariance_penalty_trains_through_the_gradient() -> None:
    """The gradient of a gradient's norm, by both inputs, against the reference."""
    z, theta = inputs((2, 3, 8, 8))

    def penalty(backend: str) -> tuple[Tensor, ...]:
        loss = rotate(z, theta, backend=backend).pow(3).sum()
        slopes = torch.autograd.grad(loss, (z, theta), create_graph=True)
        return torch.autograd.grad(sum(slope.pow(2).sum() for slope in slopes), (z, theta))

    for ours, expected in zip(penalty("cpp"), penalty("reference"), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-10, atol=1e-10 * float(expected.abs().max()))


@pytest.mark.parametrize("needs", [(True, True), (True, False), (False, True), (False, False)], ids=str)
@pytest.mark.parametrize("shape", [(2, 4, 6, 7), (2, 1, 6, 7), (1, 4, 140, 9)], ids=str)
def test_any_subset_of_inputs(shape: tuple[int, ...], needs: tuple[bool, bool]) -> None:
    z, theta, grad = random_case(shape, torch.float32)
    both = (z.clone().requires_grad_(), theta.clone().requires_grad_())
    rotate(*both).backward(grad)
    some = (z.clone().requires_grad_(needs[0]), theta.clone().requires_grad_(needs[1]))
    out = rotate(*some)
    assert out.requires_grad == any(needs)
    if any(needs):
        out.backward(grad)
    for x, reference, needed in zip(some, both, needs, strict=True):
        assert (x.grad is not None) == needed
        if needed:
            torch.testing.assert_close(x.grad, reference.grad, rtol=1e-4, atol=1e-4)


def test_images_are_not_kept_for_their_own_gradient() -> None:
    z = torch.randn(2, 3, 4, 5, requires_grad=True)
    kept: list[Tensor] = []

    def pack(x: Tensor) -> Tensor:
        kept.append(x)
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        rotate(z, torch.zeros(2))
    assert [tuple(x.shape) for x in kept] == [(2,)]


@pytest.mark.parametrize(
    "angle_dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16], ids=str
)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_gradient_dtypes(dtype: torch.dtype, angle_dtype: torch.dtype) -> None:
    z, theta, _ = random_case((2, 3, 4, 5), dtype)
    z.requires_grad_()
    theta = theta.to(angle_dtype).requires_grad_()
    out = rotate(z, theta)
    out.backward(torch.ones_like(out))
    assert (out.dtype, z.grad.dtype, theta.grad.dtype) == (dtype, dtype, angle_dtype)


def test_scalar_angle_collects_the_gradient_of_the_batch() -> None:
    z, theta, grad = random_case((3, 2, 6, 5), torch.float64)
    one = theta[0].clone().requires_grad_()
    rotate(z, one).backward(grad)
    many = theta[:1].repeat(3).requires_grad_()
    rotate(z, many).backward(grad)
    torch.testing.assert_close(one.grad, many.grad.sum())


def test_autocast_leaves_dtypes_alone() -> None:
    z, theta, _ = random_case((2, 3, 6, 5), torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(rotate(z, theta), rotate(z, theta, backend="cpp"))
        assert rotate(z, theta).dtype == torch.float32
        assert rotate(z.bfloat16(), theta).dtype == torch.bfloat16
        out = rotate(z.requires_grad_(), theta)
    out.sum().backward()
    assert z.grad.dtype == torch.float32


def test_deterministic_algorithms_are_allowed() -> None:
    z, theta = inputs((2, 3, 6, 5))
    torch.use_deterministic_algorithms(True)
    try:
        rotate(z, theta).sum().backward()
    finally:
        torch.use_deterministic_algorithms(False)
    assert z.grad is not None


# --- torch.func ---------------------------------------------------------------------------------


def loss(z: Tensor, theta: Tensor, backend: str = "cpp") -> Tensor:
    return rotate(z, theta, backend=backend).pow(3).sum()


def reference_loss(z: Tensor, theta: Tensor) -> Tensor:
    return loss(z, theta, "reference")


@pytest.mark.parametrize("argument", [0, 1, (0, 1)], ids=str)
@pytest.mark.parametrize("shape", [(2, 3, 5, 4), (3, 1, 4, 6)], ids=str)
def test_func_grad(shape: tuple[int, ...], argument: int | tuple[int, int]) -> None:
    z, theta, _ = random_case(shape, torch.float64)
    ours = torch.func.grad(loss, argument)(z, theta)
    torch.testing.assert_close(ours, torch.func.grad(reference_loss, argument)(z, theta))


@pytest.mark.parametrize("in_dims", [(0, 0), (1, None), (None, 0), (2, 1), (None, None)], ids=str)
def test_vmap(in_dims: tuple[int | None, int | None]) -> None:
    z, theta = torch.randn(4, 4, 4, 5, 3), torch.randn(4, 4)
    z = z if in_dims[0] is not None else z[0]
    theta = theta if in_dims[1] is not None else theta[0]
    if in_dims == (None, None):
        many = torch.vmap(lambda _, a, b: rotate(a, b), in_dims=(0, None, None))(torch.zeros(4), z, theta)
    else:
        many = torch.vmap(rotate, in_dims=in_dims)(z, theta)
    for k in range(4):
        one_z = z if in_dims[0] is None else z.select(in_dims[0], k)
        one_theta = theta if in_dims[1] is None else theta.select(in_dims[1], k)
        torch.testing.assert_close(many[k], rotate(one_z, one_theta), rtol=0, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
def test_vmap_of_grad_of_vmap(channels: int) -> None:
    z, theta = torch.randn(3, 2, 2, channels, 5, 4).double(), torch.randn(3, 2, 2).double()

    def total(f: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
        return lambda a, b: torch.vmap(f)(a, b).sum()

    ours = torch.vmap(torch.func.grad(total(loss), (0, 1)))(z, theta)
    expected = torch.vmap(torch.func.grad(total(reference_loss), (0, 1)))(z, theta)
    torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize("argument", [0, 1])
@pytest.mark.parametrize(
    "hessian",
    [
        torch.func.hessian,
        lambda f, argument: torch.func.jacrev(torch.func.jacrev(f, argument), argument),
        lambda f, argument: torch.func.jacfwd(torch.func.jacfwd(f, argument), argument),
        lambda f, argument: torch.func.jacrev(torch.func.jacfwd(f, argument), argument),
    ],
    ids=["forward over reverse", "reverse twice", "forward twice", "reverse over forward"],
)
def test_hessians(hessian: Callable[..., Callable[..., Tensor]], argument: int) -> None:
    z, theta, _ = random_case((2, 2, 3, 4), torch.float64)
    expected = torch.func.hessian(reference_loss, argument)(z, theta)
    torch.testing.assert_close(hessian(loss, argument)(z, theta), expected)


def test_jvp_of_either_input_alone() -> None:
    z, theta, z_dot = random_case((2, 3, 5, 4), torch.float64)
    theta_dot = torch.tensor([0.7, -1.3], dtype=torch.float64)
    for f in (lambda t: rotate(z, t), lambda t: rotate(z, t, backend="reference")):
        _, along_theta = torch.func.jvp(f, (theta,), (theta_dot,))
        (along_z, both) = (
            torch.func.jvp(lambda x: rotate(x, theta), (z,), (z_dot,))[1],
            torch.func.jvp(rotate, (z, theta), (z_dot, theta_dot))[1],
        )
        torch.testing.assert_close(along_z, rotate(z_dot, theta))
        torch.testing.assert_close(along_theta + along_z, both)


def test_forward_mode_dual_numbers_without_transforms() -> None:
    z, theta, z_dot = random_case((2, 3, 5, 4), torch.float64)
    with forward_ad.dual_level():
        out = forward_ad.unpack_dual(rotate(forward_ad.make_dual(z, z_dot), theta))
    torch.testing.assert_close(out.tangent, rotate(z_dot, theta))


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize("vectorize", [False, True])
def test_functional_jacobian(vectorize: bool) -> None:
    z, theta, _ = random_case((2, 2, 3, 4), torch.float64)
    ours = torch.autograd.functional.jacobian(rotate, (z, theta), vectorize=vectorize)
    expected = torch.autograd.functional.jacobian(rotation("reference"), (z, theta))
    torch.testing.assert_close(ours, expected)
