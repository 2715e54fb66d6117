"""Derivatives beyond the plain ones: against finite differences, second ones, forward mode, transforms."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad, gradcheck, gradgradcheck

from equikernels.ops import coordinate_mlp, coordinate_mlp_log_likelihood
from tests.ops.coordinate_decoder.samples import Case, assert_same, make_case, spread

TINY = {"batch": 2, "size": (3, 2), "units": 3, "bilinear": True}
FORMS = ("values", "log_likelihood")


def function(case: Case, form: str, **options: object):  # type: ignore[no-untyped-def]
    """The result as a function of the tensors in ``case.leaves``, in their order."""

    def call(theta: Tensor, shift: Tensor, z: Tensor, x: Tensor, *parameters: Tensor) -> Tensor:
        named = dict(zip(case.weights.named_tensors, parameters, strict=True))
        weights = case.weights._replace(
            coordinate=named["weights.coordinate"],
            latent=named["weights.latent"],
            bias=named["weights.bias"],
            hidden=tuple(named[f"weights.hidden[{k}]"] for k in range(len(case.weights.hidden))),
            hidden_bias=tuple(named[f"weights.hidden_bias[{k}]"] for k in range(len(case.weights.hidden))),
            output=named["weights.output"],
            output_bias=named["weights.output_bias"],
            bilinear=named["weights.bilinear"],
        )
        if form == "values":
            return coordinate_mlp(case.coordinates, theta, shift, z, weights, **options)
        return coordinate_mlp_log_likelihood(case.coordinates, theta, shift, z, weights, x, **options)

    return call


def leaves(case: Case) -> tuple[Tensor, ...]:
    return tuple(case.leaves.values())


@pytest.mark.parametrize("backend", ["reference", "torch"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("inputs", [2, 5])
def test_gradcheck(inputs: int, form: str, backend: str) -> None:
    case = make_case(**TINY, inputs=inputs)
    assert gradcheck(function(case, form, backend=backend), leaves(case), fast_mode=inputs == 5)


@pytest.mark.parametrize("form", FORMS)
def test_the_reference_has_second_derivatives(form: str) -> None:
    case = make_case(**TINY)
    assert gradgradcheck(function(case, form, backend="reference"), leaves(case), fast_mode=True)


@pytest.mark.parametrize("form", FORMS)
def test_second_derivatives_of_the_tiles_are_refused(form: str) -> None:
    case = make_case(**TINY)
    out = function(case, form)(*leaves(case))
    for cotangent in (torch.ones_like(out), spread(out)):
        first = torch.autograd.grad(out, case.theta, cotangent, create_graph=True)[0]
        with pytest.raises(NotImplementedError, match='no second derivatives, use backend="reference"'):
            torch.autograd.grad(first.sum(), case.theta)


@pytest.mark.parametrize("form", FORMS)
def test_forward_mode_is_refused(form: str) -> None:
    case = make_case(**TINY)
    with forward_ad.dual_level():
        case.z = forward_ad.make_dual(case.z.detach(), torch.ones_like(case.z))
        with pytest.raises(NotImplementedError, match="no forward-mode differentiation"):
            getattr(case, form)()


@pytest.mark.parametrize("form", FORMS)
def test_func_grad(form: str) -> None:
    case = make_case(**TINY)
    call, given = function(case, form), leaves(case)

    def weighted(*tensors: Tensor) -> Tensor:
        out = call(*tensors)
        return (spread(out) * out).sum()

    found = torch.func.grad(weighted, argnums=tuple(range(len(given))))(*given)
    out = call(*given)
    expected = torch.autograd.grad(out, given, spread(out), materialize_grads=True)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("form", FORMS)
def test_vmap_is_refused(form: str) -> None:
    case = make_case(**TINY)
    call, given = function(case, form), leaves(case)
    with pytest.raises(NotImplementedError, match=r"torch\.vmap .* are not supported"):
        torch.func.vmap(lambda z: call(given[0], given[1], z, *given[3:]))(torch.zeros(2, 2, 2).double())
    with pytest.raises(NotImplementedError, match=r"torch\.vmap .* are not supported"):
        torch.func.jacrev(call)(*given)
    out = call(*given)
    with pytest.raises(NotImplementedError, match=r"batched gradients are not supported"):
        torch.autograd.grad(out, case.z, torch.ones(3, *out.shape).double(), is_grads_batched=True)


@pytest.mark.parametrize("form", FORMS)
def test_backward_twice(form: str) -> None:
    case = make_case(**TINY)
    out = getattr(case, form)()
    first, second = (
        torch.autograd.grad(out, leaves(case), spread(out), retain_graph=True, allow_unused=True)
        for _ in range(2)
    )
    assert all(a is b is None or torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_gradients_accumulate_over_two_calls() -> None:
    case = make_case(**TINY)
    (case.log_likelihood().mean() + case.values().sum()).backward()
    found = {name: leaf.grad for name, leaf in case.leaves.items()}
    expected = case.gradients(
        case.log_likelihood(backend="reference").mean() + case.values(backend="reference").sum(),
        torch.ones((), dtype=torch.float64),
    )
    assert_same(found, expected, rtol=1e-12)


def test_nothing_is_recorded_without_need() -> None:
    case = make_case()
    with torch.no_grad():
        assert not case.values().requires_grad
        assert not case.log_likelihood().requires_grad
    for leaf in leaves(case):
        leaf.requires_grad_(False)
    assert case.log_likelihood().grad_fn is None


@pytest.mark.parametrize("form", FORMS)
def test_inference_mode_on_several_threads(form: str) -> None:
    case = make_case(20, (9, 9), units=20)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with torch.inference_mode():
            found = getattr(case, form)()
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(found, getattr(case, form)(backend="reference").detach())


def test_a_step_of_an_optimizer_between_forward_and_backward_is_noticed() -> None:
    case = make_case()
    out = case.values()
    with torch.no_grad():
        case.weights.output.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()
