"""Derivatives of every kind and order in eager mode, with the mask held fixed where differences are taken."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.autograd.forward_ad as forward_ad
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from equikernels.ops import partition, partition_rotate
from tests.ops.partitioning.samples import (
    BACKENDS,
    ESTIMATORS,
    Case,
    composed,
    random_case,
    straight_through,
)

CHECKED = ((2, 3, 3, 2), (1, 2, 1, 3))
Function = Callable[..., Tensor | tuple[Tensor, ...]]


def images_and_angles(case: Case) -> tuple[Tensor, Tensor]:
    return case.z.clone().requires_grad_(), case.theta.clone().requires_grad_()


def of_images_and_angles(case: Case, estimator: str | None, backend: str) -> Function:
    options = {} if estimator is None else {"target": case.target, "estimator": estimator}
    return lambda z, theta: partition_rotate(z, theta, case.logits, **options, backend=backend)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("estimator", [None, *ESTIMATORS])
@pytest.mark.parametrize("per_sample", [False, True], ids=["shared", "per sample"])
@pytest.mark.parametrize("shape", CHECKED, ids=str)
def test_gradcheck(shape: tuple[int, ...], per_sample: bool, estimator: str | None, backend: str) -> None:
    case = random_case(shape, torch.float64, per_sample)
    function, inputs = of_images_and_angles(case, estimator, backend), images_and_angles(case)
    assert gradcheck(function, inputs, check_forward_ad=True, check_undefined_grad=backend == "cpp")
    if backend == "cpp":
        assert gradgradcheck(function, inputs, check_fwd_over_rev=True, check_rev_over_rev=True)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("size", [(), (3,), (2, 3)], ids=str)
def test_gradcheck_of_partition(size: tuple[int, ...], backend: str) -> None:
    z = torch.randn(2, 3, *size, dtype=torch.float64, requires_grad=True)
    logits = torch.tensor([0.3, -0.7, 0.0], dtype=torch.float64)

    def function(z: Tensor) -> tuple[Tensor, Tensor]:
        return partition(z, logits, backend=backend)

    assert gradcheck(function, z, check_forward_ad=True, check_undefined_grad=backend == "cpp")
    assert gradgradcheck(function, z, check_fwd_over_rev=True)


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize("estimator", [None, *ESTIMATORS])
def test_batched_gradients(estimator: str | None) -> None:
    """torch.autograd.grad(is_grads_batched=True), which uses an older vmap than torch.func."""
    case = random_case((2, 3, 4, 3), torch.float64)
    options = {} if estimator is None else {"target": case.target, "estimator": estimator}
    inputs = [x.clone().requires_grad_() for x in case.inputs]
    for function in (
        lambda z, theta, logits: partition_rotate(z, theta, logits, **options, backend="cpp"),
        lambda z, theta, logits: partition(z, logits, backend="cpp"),
    ):
        out = function(*inputs)
        outputs = (out,) if isinstance(out, Tensor) else out
        grads = [torch.randn(4, *x.shape, dtype=x.dtype) for x in outputs]
        together = torch.autograd.grad(
            outputs, inputs, grads, is_grads_batched=True, retain_graph=True, allow_unused=True
        )
        for k in range(4):
            one = torch.autograd.grad(
                outputs, inputs, [g[k] for g in grads], retain_graph=True, allow_unused=True
            )
            for ours, expected in zip(together, one, strict=True):
                assert (ours is None) == (expected is None)
                if expected is not None:
                    torch.testing.assert_close(ours[k], expected, rtol=1e-12, atol=1e-12)


# --- with the mask: against the textbook composition, in every mode --------------------------------


def scalar(out: Tensor | tuple[Tensor, ...], case: Case) -> Tensor:
    """One number, not linear in any result."""
    if isinstance(out, Tensor):
        return (out * case.grad).sin().sum()
    return (out[0] * case.grad).sin().sum() + case.grad_i * out[1].square() + case.grad_v * out[2].exp()


def functions(case: Case, kind: str, backend: str) -> tuple[Function, Function]:
    """Ours and the textbook's, of (z, theta, logits)."""
    if kind == "losses":
        return (
            lambda *inputs: scalar(partition_rotate(*inputs, target=case.target, backend=backend), case),
            lambda *inputs: scalar(composed(*inputs, case.target), case),
        )
    if kind == "out":
        return (
            lambda *inputs: scalar(partition_rotate(*inputs, backend=backend), case),
            lambda *inputs: scalar(composed(*inputs, case.target)[0], case),
        )

    def sides(z_v: Tensor, z_i: Tensor) -> Tensor:
        return scalar(z_v.square() + z_i * z_v.exp() + 0.3 * z_i.pow(3), case)

    def textbook(z: Tensor, theta: Tensor, logits: Tensor) -> Tensor:
        mask = straight_through(logits)
        return sides(mask * z, (1 - mask) * z)

    return lambda z, theta, logits: sides(*partition(z, logits, backend=backend)), textbook


WHAT = ("losses", "out", "partition")
CLOSE = {"rtol": 1e-9, "atol": 1e-9}
ARGUMENTS = (0, 1, 2)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("what", WHAT)
@pytest.mark.parametrize("per_sample", [False, True], ids=["shared", "per sample"])
def test_func_grad(per_sample: bool, what: str, backend: str) -> None:
    case = random_case((2, 4, 5, 3), torch.float64, per_sample)
    ours, textbook = functions(case, what, backend)
    expected = torch.func.grad(textbook, ARGUMENTS)(*case.inputs)
    torch.testing.assert_close(torch.func.grad(ours, ARGUMENTS)(*case.inputs), expected, **CLOSE)
    for argument in ARGUMENTS:
        grad = torch.func.grad(ours, argument)(*case.inputs)
        torch.testing.assert_close(grad, expected[argument], **CLOSE)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("what", WHAT)
def test_gradient_of_a_gradient(what: str, backend: str) -> None:
    case = random_case((2, 4, 5, 3), torch.float64)
    ours, textbook = functions(case, what, backend)

    def penalty(function: Function) -> tuple[Tensor, ...]:
        inputs = [x.clone().requires_grad_() for x in case.inputs]
        slopes = torch.autograd.grad(function(*inputs), inputs, create_graph=True, allow_unused=True)
        norm = sum(slope.pow(2).sum() for slope in slopes if slope is not None)
        return torch.autograd.grad(norm, inputs, allow_unused=True)

    for a, b in zip(penalty(ours), penalty(textbook), strict=True):
        if b is None:
            assert a is None
        else:
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9 * float(b.abs().max()))


HESSIANS = {
    "forward over reverse": torch.func.hessian,
    "reverse twice": lambda f, n: torch.func.jacrev(torch.func.jacrev(f, n), n),
    "forward twice": lambda f, n: torch.func.jacfwd(torch.func.jacfwd(f, n), n),
    "reverse over forward": lambda f, n: torch.func.jacrev(torch.func.jacfwd(f, n), n),
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("what", WHAT)
@pytest.mark.parametrize("kind", HESSIANS)
def test_hessians(kind: str, what: str, backend: str) -> None:
    case = random_case((2, 3, 3, 2), torch.float64)
    arguments = (0, 2) if what == "partition" else ARGUMENTS
    ours, textbook = functions(case, what, backend)
    expected = torch.func.jacrev(torch.func.jacrev(textbook, arguments), arguments)(*case.inputs)
    result = HESSIANS[kind](ours, arguments)(*case.inputs)
    for row, expected_row in zip(result, expected, strict=True):
        for block, expected_block in zip(row, expected_row, strict=True):
            atol = 1e-9 * max(1.0, float(expected_block.abs().max()))
            torch.testing.assert_close(block, expected_block, rtol=1e-9, atol=atol)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("what", WHAT)
def test_jvp(what: str, backend: str) -> None:
    case = random_case((2, 4, 5, 3), torch.float64)
    tangents = random_case((2, 4, 5, 3), torch.float64, seed=1).inputs
    ours, textbook = functions(case, what, backend)
    for chosen in ((0,), (1,), (2,), (0, 1), (1, 2), (0, 1, 2)):

        def along(function: Function, chosen: tuple[int, ...] = chosen) -> Tensor:
            def of_chosen(*given: Tensor) -> Tensor:
                inputs = list(case.inputs)
                for k, x in zip(chosen, given, strict=True):
                    inputs[k] = x
                return function(*inputs)

            pairs = [(case.inputs[k], tangents[k]) for k in chosen]
            return torch.func.jvp(of_chosen, *map(tuple, zip(*pairs, strict=True)))[1]

        torch.testing.assert_close(along(ours), along(textbook), **CLOSE)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("what", WHAT)
def test_dual_numbers_without_transforms(what: str, backend: str) -> None:
    case = random_case((2, 4, 5, 3), torch.float64)
    tangents = random_case((2, 4, 5, 3), torch.float64, seed=1).inputs
    results = []
    for function in functions(case, what, backend):
        with forward_ad.dual_level():
            duals = [forward_ad.make_dual(x, t) for x, t in zip(case.inputs, tangents, strict=True)]
            results.append(forward_ad.unpack_dual(function(*duals)).tangent)
    torch.testing.assert_close(*results, **CLOSE)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize(
    "in_dims", [(0, 0, 0), (1, None, None), (None, 0, None), (None, None, 0), (2, 1, 1)], ids=str
)
def test_vmap(in_dims: tuple[int | None, ...], estimator: str, backend: str) -> None:
    shape = (4, 3, 5, 2, 3)
    cases = [random_case(shape[1:], torch.float64, seed=seed) for seed in range(4)]

    def function(z: Tensor, theta: Tensor, logits: Tensor, target: Tensor) -> tuple[Tensor, ...]:
        options = {"target": target, "estimator": estimator, "backend": backend}
        return (
            *partition(z, logits, backend=backend),
            partition_rotate(z, theta, logits, backend=backend),
            *partition_rotate(z, theta, logits, **options),
        )

    def gradient(*inputs: Tensor) -> tuple[Tensor, ...]:
        return torch.func.grad(lambda *x: sum(r.pow(3).sum() for r in function(*x, inputs[3])), ARGUMENTS)(
            *inputs[:3]
        )

    stacks, dims = [], (*in_dims, 0)
    for k, dim in enumerate(dims):
        one = [case[k] for case in cases]
        stacks.append(one[0] if dim is None else torch.stack(one, min(dim, one[0].dim())))
    for each in (function, gradient):
        many = torch.vmap(
            each,
            in_dims=tuple(d if d is None else min(d, s.dim() - 1) for d, s in zip(dims, stacks, strict=True)),
        )(*stacks)
        for index in range(4):
            inputs = [cases[0 if dim is None else index][k] for k, dim in enumerate(dims)]
            for ours, expected in zip(many, each(*inputs), strict=True):
                torch.testing.assert_close(ours[index], expected, **CLOSE)


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize("vectorize", [False, True])
def test_functional_jacobian(vectorize: bool) -> None:
    case = random_case((2, 3, 3, 2), torch.float64)

    def jacobian(backend: str, vectorize: bool) -> tuple[tuple[Tensor, ...], ...]:
        return torch.autograd.functional.jacobian(
            lambda *inputs: partition_rotate(*inputs, target=case.target, backend=backend),
            case.inputs,
            vectorize=vectorize,
        )

    ours, expected = jacobian("cpp", vectorize), jacobian("reference", False)
    torch.testing.assert_close(ours, expected, **CLOSE)


# --- the counterfactual estimator -----------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
def test_counterfactual_in_forward_mode_raises(backend: str) -> None:
    case = random_case((2, 3, 4, 3), torch.float64)

    def losses(logits: Tensor, target: Tensor | None = case.target) -> Tensor | tuple[Tensor, ...]:
        return partition_rotate(
            *case.inputs[:2], logits, target=target, estimator="counterfactual", backend=backend
        )

    message = "the counterfactual estimator exists for reverse mode only"
    with pytest.raises(NotImplementedError, match=message):
        torch.func.jvp(losses, (case.logits,), (case.logits,))
    with pytest.raises(NotImplementedError, match=message):
        torch.func.jacfwd(losses)(case.logits)
    with forward_ad.dual_level(), pytest.raises(NotImplementedError, match=message):
        losses(forward_ad.make_dual(case.logits, case.logits))
    # Neither without losses nor along other inputs is anything estimated.
    torch.func.jvp(lambda logits: losses(logits, None), (case.logits,), (case.logits,))
    torch.func.jvp(lambda z: losses(case.logits)[0] * z, (case.z,), (case.z,))


def relaxed(case: Case, z: Tensor, theta: Tensor, logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The estimator as a loss of its own: linear between the two sides of every channel."""
    mask = straight_through(logits)
    turned, _, _ = composed(z, theta, torch.full_like(logits, 9.0), case.target)
    return (
        mask * turned + (1 - mask) * z,
        ((1 - mask) * (z - case.target).square()).mean(),
        (mask * (turned - case.target).square()).mean(),
    )


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", ["forward over reverse", "reverse twice"])
def test_counterfactual_second_derivatives(kind: str, backend: str) -> None:
    case = random_case((2, 3, 3, 2), torch.float64)

    def ours(*inputs: Tensor) -> Tensor:
        out = partition_rotate(*inputs, target=case.target, estimator="counterfactual", backend=backend)
        return scalar(out, case)

    expected = torch.func.jacrev(
        torch.func.jacrev(lambda *inputs: scalar(relaxed(case, *inputs), case), ARGUMENTS), ARGUMENTS
    )(*case.inputs)
    result = HESSIANS[kind](ours, ARGUMENTS)(*case.inputs)
    for row, expected_row in zip(result, expected, strict=True):
        for block, expected_block in zip(row, expected_row, strict=True):
            atol = 1e-9 * max(1.0, float(expected_block.abs().max()))
            torch.testing.assert_close(block, expected_block, rtol=1e-9, atol=atol)
