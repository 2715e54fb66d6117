"""Derivatives of every kind in eager mode: reverse, double, forward, transforms."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from equikernels.ops import group_average
from equikernels.ops.averaging import group_correlate
from tests.ops.averaging.samples import BACKENDS, MAPS, case, plain_sum

# Groups with elements that are not their own inverses, orbits with and without stabilizers.
NAMES = ("C_4 3x3", "S_3", "D_4 trivial on rows", "not faithful")


def small(name: str) -> tuple[Tensor, Tensor, object]:
    w, weights, maps = case(name, (2,), torch.float64)
    return w.requires_grad_(), weights.requires_grad_(), maps


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", NAMES)
def test_gradcheck_of_the_average(name: str, backend: str) -> None:
    w, weights, maps = small(name)
    function = lambda w, c: group_average(w, maps, c, backend=backend)  # noqa: E731
    assert gradcheck(function, (w, weights), check_forward_ad=True, check_undefined_grad=True, fast_mode=True)
    cubed = lambda w, c: function(w, c) ** 3  # noqa: E731
    assert gradgradcheck(
        cubed, (w, weights), check_fwd_over_rev=True, check_rev_over_rev=True, fast_mode=True
    )


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", NAMES)
def test_gradcheck_of_the_correlation(name: str, backend: str) -> None:
    w, _, maps = small(name)
    g = case(name, (2,), torch.float64, seed=1)[0].requires_grad_()
    function = lambda g, w: group_correlate(g, w, maps, backend=backend)  # noqa: E731
    assert gradcheck(function, (g, w), check_forward_ad=True, check_undefined_grad=True, fast_mode=True)
    cubed = lambda g, w: function(g, w) ** 3  # noqa: E731
    assert gradgradcheck(cubed, (g, w), check_fwd_over_rev=True, check_rev_over_rev=True, fast_mode=True)


@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_batched_gradients() -> None:
    """torch.autograd.grad(is_grads_batched=True), which uses an older vmap than torch.func."""
    w, weights, maps = small("S_3")
    function = lambda w, c: group_average(w, maps, c, backend="cpp")  # noqa: E731
    checks = {"check_forward_ad": True, "check_batched_grad": True, "check_batched_forward_grad": True}
    assert gradcheck(function, (w, weights), **checks)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_gradients_of_other_dtypes(dtype: torch.dtype) -> None:
    name = "C_4 3x3"
    w, weights, maps = case(name, (2, 3), dtype)
    w.requires_grad_(), weights.requires_grad_()
    grad = torch.randn(w.shape, generator=torch.Generator().manual_seed(2)).to(dtype)
    to_w, to_weights = torch.autograd.grad(group_average(w, maps, weights), (w, weights), grad)
    assert (to_w.dtype, to_weights.dtype) == (dtype, torch.float64)
    moved = [w.detach().double()[..., out[:, None], inn] for out, inn in zip(*MAPS[name], strict=True)]
    expected = torch.stack([(grad.double() * term).sum() for term in moved])
    torch.testing.assert_close(to_weights, expected, rtol=1e-5, atol=1e-5)
    inverse = weights.detach()[maps.inverse]
    torch.testing.assert_close(
        to_w.double(), plain_sum(grad, inverse, MAPS[name]), rtol=4 * torch.finfo(dtype).eps, atol=1e-5
    )


def test_only_what_is_needed_is_kept() -> None:
    w, weights, maps = case("C_4 3x3", (2,), torch.float64)
    kept: list[tuple[int, ...]] = []

    def pack(x: Tensor) -> Tensor:
        if x.is_floating_point():
            kept.append(tuple(x.shape))
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        group_average(w.requires_grad_(), maps, weights)
    assert kept == [(1, 4)]


@pytest.mark.parametrize("backend", BACKENDS)
def test_transforms(backend: str) -> None:
    w, weights, maps = case("S_3", (4,), torch.float64)
    many = torch.randn(5, maps.order, dtype=torch.float64)

    def average(w: Tensor, c: Tensor) -> Tensor:
        return group_average(w, maps, c, backend=backend)

    def loss(w: Tensor, c: Tensor) -> Tensor:
        return average(w, c).pow(3).sum()

    one_by_one = torch.stack([average(w, c) for c in many])
    torch.testing.assert_close(torch.vmap(average, (None, 0))(w, many), one_by_one)
    each = torch.vmap(average, (0, None))(w, weights)
    torch.testing.assert_close(each, average(w, weights))
    both = torch.vmap(torch.vmap(average, (None, 0)), (0, None))(w, many)
    torch.testing.assert_close(both, one_by_one.transpose(0, 1))
    last = torch.vmap(average, (-1, 0), -1)(torch.stack([w] * 5, -1), many)
    torch.testing.assert_close(last, one_by_one.movedim(0, -1))

    leaf, leaf_weights = w.clone().requires_grad_(), weights.clone().requires_grad_()
    expected = torch.autograd.grad(loss(leaf, leaf_weights), (leaf, leaf_weights))
    torch.testing.assert_close(torch.func.grad(loss, (0, 1))(w, weights), expected)
    per_sample = torch.vmap(torch.func.grad(loss, 1), (None, 0))(w, many)
    one = torch.stack([torch.func.grad(loss, 1)(w, c) for c in many])
    torch.testing.assert_close(per_sample, one)
    jacobian = torch.func.jacrev(average, 1)(w, weights)
    torch.testing.assert_close(jacobian, torch.func.jacfwd(average, 1)(w, weights))
    hessian = torch.func.hessian(loss, 1)(w, weights)
    torch.testing.assert_close(hessian, torch.func.jacrev(torch.func.jacrev(loss, 1), 1)(w, weights))
    assert hessian.abs().max() > 0


def test_vmap_of_the_correlation() -> None:
    w, _, maps = case("C_4 3x3", (4, 2), torch.float64)
    g = torch.randn_like(w)
    correlate = lambda g, w: group_correlate(g, w, maps)  # noqa: E731
    one_by_one = torch.stack([correlate(a, b) for a, b in zip(g, w, strict=True)])
    torch.testing.assert_close(torch.vmap(correlate)(g, w), one_by_one)
    torch.testing.assert_close(torch.vmap(correlate)(g, w).sum(0), correlate(g, w))
