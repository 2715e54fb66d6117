"""Derivatives of every kind in eager mode: reverse, double, forward, transforms, and where there are none."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.autograd.forward_ad as forward_ad
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from equikernels.ops import cube_rotate, dihedral_rotate, rot90
from tests.ops.permutation.samples import BACKENDS, OPERATIONS

# Elements that are not their own inverses are among them: a gradient in the wrong direction differs.
CASES: dict[str, tuple[tuple[int, ...], list[int]]] = {
    "rot90": ((4, 2, 3, 3), [1, 0, 3, 2]),
    "rot90, not square": ((2, 2, 2, 3), [1, 3]),
    "dihedral_rotate": ((4, 1, 3, 3), [1, 5, 6, 3]),
    "cube_rotate": ((4, 1, 2, 2, 2), [5, 1, 23, 10]),
}


def case(name: str, dtype: torch.dtype = torch.float64) -> tuple[Callable[..., Tensor], Tensor, Tensor]:
    shape, elements = CASES[name]
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(shape, generator=generator, dtype=dtype)
    return OPERATIONS[name.partition(",")[0]][0], z, torch.tensor(elements)


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128], ids=str)
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", CASES)
def test_gradcheck(name: str, backend: str, dtype: torch.dtype) -> None:
    function, z, g = case(name, dtype)
    z.requires_grad_()
    assert gradcheck(
        lambda z: function(z, g, backend=backend), z, check_forward_ad=True, check_undefined_grad=True
    )
    # Through something that is not linear, or second derivatives are zero whatever they are.
    cubed = lambda z: function(z, g, backend=backend) ** 3  # noqa: E731
    assert gradgradcheck(cubed, z, check_fwd_over_rev=True, check_rev_over_rev=True)


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize("name", CASES)
def test_batched_gradients(name: str) -> None:
    """torch.autograd.grad(is_grads_batched=True), which uses an older vmap than torch.func."""
    function, z, g = case(name)
    assert gradcheck(
        lambda z: function(z, g, backend="cpp"),
        z.requires_grad_(),
        check_forward_ad=True,
        check_batched_grad=True,
        check_batched_forward_grad=True,
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.complex64], ids=str)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_the_gradient_is_moved_back(operation: str, dtype: torch.dtype) -> None:
    function, count, axes = OPERATIONS[operation]
    z, grad = (torch.randn(count, 3, *(5,) * axes).to(dtype) for _ in range(2))
    z.requires_grad_()
    function(z, torch.arange(count)).backward(grad)
    assert z.grad.dtype == dtype
    # Moving the gradient forwards again gives the upstream gradient, exactly.
    assert torch.equal(function(z.grad, torch.arange(count)), grad)


def test_sum_backward() -> None:
    """An expanded gradient."""
    z = torch.randn(4, 2, 5, 5, requires_grad=True)
    rot90(z, torch.arange(4)).sum().backward()
    assert torch.equal(z.grad, torch.ones_like(z))


def test_third_derivative() -> None:
    function, z, g = case("dihedral_rotate")
    weight = torch.randn_like(z)
    z.requires_grad_()

    def third(backend: str) -> Tensor:
        value = (function(z, g, backend=backend).pow(4) * weight).sum()
        for _ in range(3):
            (derivative,) = torch.autograd.grad(value, z, create_graph=True)
            value = derivative.sum()
        return derivative.detach()

    torch.testing.assert_close(third("cpp"), third("reference"), rtol=1e-14, atol=1e-14)
    assert third("cpp").abs().max() > 0


def test_images_are_not_kept() -> None:
    z = torch.randn(2, 3, 4, 4, requires_grad=True)
    kept: list[Tensor] = []

    def pack(x: Tensor) -> Tensor:
        kept.append(x)
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        rot90(z, torch.zeros(2, dtype=torch.int64))
    assert [tuple(x.shape) for x in kept] == [(2,)]


def test_nothing_is_recorded_where_nothing_is_needed() -> None:
    z = torch.randn(2, 3, 4, 4, requires_grad=True)
    with torch.no_grad():
        assert not rot90(z, 1).requires_grad
    assert not rot90(z.detach(), 1).requires_grad
    assert rot90(z, 1).requires_grad


def test_deterministic_algorithms_are_allowed() -> None:
    z = torch.randn(2, 3, 4, 4, requires_grad=True)
    torch.use_deterministic_algorithms(True)
    try:
        rot90(z, 1).sum().backward()
    finally:
        torch.use_deterministic_algorithms(False)
    assert z.grad is not None


def test_autocast_leaves_dtypes_alone() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert rot90(torch.randn(1, 1, 2, 2), 1).dtype == torch.float32


# --- torch.func ---------------------------------------------------------------------------------


def loss(function: Callable[..., Tensor], g: Tensor, backend: str) -> Callable[[Tensor], Tensor]:
    weight = torch.linspace(1, 2, 10_000, dtype=torch.float64)

    def value(z: Tensor) -> Tensor:
        # Not linear before the operation either, or its tangents have no tangents.
        moved = function(z.exp(), g, backend=backend).pow(3).flatten()
        return (moved * weight[: len(moved)]).sum()

    return value


@pytest.mark.parametrize("name", CASES)
def test_func_grad(name: str) -> None:
    function, z, g = case(name)
    ours, expected = (torch.func.grad(loss(function, g, backend))(z) for backend in ("cpp", "reference"))
    torch.testing.assert_close(ours, expected, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize(
    "hessian",
    [
        torch.func.hessian,
        lambda f: torch.func.jacrev(torch.func.jacrev(f)),
        lambda f: torch.func.jacfwd(torch.func.jacfwd(f)),
        lambda f: torch.func.jacrev(torch.func.jacfwd(f)),
    ],
    ids=["forward over reverse", "reverse twice", "forward twice", "reverse over forward"],
)
@pytest.mark.parametrize("name", CASES)
def test_hessians(name: str, hessian: Callable[..., Callable[..., Tensor]]) -> None:
    function, z, g = case(name)
    ours = hessian(loss(function, g, "cpp"))(z)
    expected = torch.autograd.functional.hessian(loss(function, g, "reference"), z)
    torch.testing.assert_close(ours, expected, rtol=1e-14, atol=1e-14)
    assert ours.abs().max() > 0


@pytest.mark.parametrize("in_dims", [(0, 0), (1, None), (None, 0), (2, 1), (None, None)], ids=str)
@pytest.mark.parametrize("backend", BACKENDS)
def test_vmap(backend: str, in_dims: tuple[int | None, int | None]) -> None:
    z, k = torch.randn(4, 4, 4, 3, 3), torch.randint(4, (4, 4))
    if in_dims[0] == 2:
        z = z.movedim(2, 0).movedim(0, 2)
    z = z if in_dims[0] is not None else z[0]
    k = k if in_dims[1] is not None else k[0]

    def turn(_: Tensor, z: Tensor, k: Tensor) -> Tensor:
        return rot90(z, k, backend=backend)

    many = torch.vmap(turn, in_dims=(0, *in_dims))(torch.zeros(4), z, k)
    for n in range(4):
        one_z = z if in_dims[0] is None else z.select(in_dims[0], n)
        one_k = k if in_dims[1] is None else k.select(in_dims[1], n)
        assert torch.equal(many[n], rot90(one_z, one_k))


def test_vmap_of_grad_of_vmap() -> None:
    z, g = torch.randn(3, 2, 2, 1, 2, 2, 2).double(), torch.randint(24, (3, 2, 2))

    def total(backend: str) -> Callable[[Tensor, Tensor], Tensor]:
        def each(z: Tensor, g: Tensor) -> Tensor:
            return loss(cube_rotate, g, backend)(z)

        return lambda z, g: torch.vmap(each)(z, g).sum()

    ours, expected = (torch.vmap(torch.func.grad(total(backend)))(z, g) for backend in ("cpp", "reference"))
    torch.testing.assert_close(ours, expected, rtol=1e-14, atol=1e-14)


def test_vmap_over_turns_of_images_that_are_not_square() -> None:
    z, k = torch.randn(3, 2, 1, 4, 5), torch.tensor([1, 3])
    moved = torch.vmap(lambda z: rot90(z, k))(z)
    assert torch.equal(moved, torch.stack([rot90(x, k) for x in z]))
    with pytest.raises(ValueError, match=r"^k: expected an integer for images .* inside torch.vmap"):
        torch.vmap(rot90)(z, k.expand(3, 2))


def test_forward_mode_dual_numbers_without_transforms() -> None:
    z, z_dot = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    g = torch.tensor([3, 6])
    with forward_ad.dual_level():
        out = forward_ad.unpack_dual(dihedral_rotate(forward_ad.make_dual(z, z_dot), g))
    assert torch.equal(out.tangent, dihedral_rotate(z_dot, g))


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.uint8], ids=str)
def test_integers_pass_through_every_transform(dtype: torch.dtype) -> None:
    z, k = torch.randint(2, (3, 2, 1, 4, 4)).to(dtype), torch.tensor([1, 2])
    assert torch.equal(torch.vmap(lambda z: rot90(z, k))(z), torch.stack([rot90(x, k) for x in z]))
    weight = torch.randn(2, 1, 4, 4)

    def masked(weight: Tensor) -> Tensor:
        return (weight * rot90(z[0], k)).sum()

    assert torch.equal(torch.func.grad(masked)(weight), rot90(z[0], k).float())
    with forward_ad.dual_level():
        assert torch.equal(rot90(z[0], k), rot90(z[0], k, backend="reference"))

    def both(weight: Tensor, z: Tensor) -> Tensor:
        return (weight * rot90(z, k)).sum()

    assert torch.equal(torch.func.grad(both)(weight, z[0]), rot90(z[0], k).float())
    _, tangent = torch.func.jvp(masked, (weight,), (weight,))
    torch.testing.assert_close(tangent, masked(weight))


def test_tensors_that_a_transform_does_not_know() -> None:
    """What is used inside torch.func.vmap, but not mapped, keeps the gradient of the outer world."""
    z = torch.rand(2, 1, 3, 3, requires_grad=True)
    k = torch.tensor([1, 2])
    out = torch.func.vmap(lambda x: (x * rot90(z, k)).sum())(torch.tensor([1.0, 2.0, 4.0]))
    assert torch.equal(torch.autograd.grad(out.sum(), z)[0], torch.full_like(z, 7))
