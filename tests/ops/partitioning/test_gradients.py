"""The first derivatives against what they must be: compositions, formulas, and flipping one channel."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from equikernels.ops import partition, partition_rotate, rotate
from tests.ops.partitioning.samples import (
    BACKENDS,
    DTYPES,
    ESTIMATORS,
    SHAPES,
    Case,
    composed,
    differentiable,
    random_case,
    results,
    straight_through,
)

EXACT = {"rtol": 1e-11, "atol": 1e-11}
KINDS = ("mixed", "all on", "all off")
SMALL = tuple(shape for shape in SHAPES if shape[-2] < 100)


def case_of(shape: tuple[int, ...], kind: str, per_sample: bool) -> Case:
    case = random_case(shape, torch.float64, per_sample)
    if kind == "mixed":
        return case
    return case._replace(logits=case.logits.abs() if kind == "all on" else -case.logits.abs())


def sensitivities(case: Case, estimator: str) -> Tensor:
    """The gradient of the mask (N, C), as written in the documentation, for losses of weights g_i and g_v."""
    y = rotate(case.z, case.theta, backend="reference")
    m = (case.logits > 0).to(case.z.dtype).expand(case.z.shape[:2])[:, :, None, None]
    z, target, count = case.z, case.target, case.z.numel()
    if estimator == "ste":
        loss_v, loss_i = 2 * (m * y - m * target) * y, 2 * ((1 - m) * z - (1 - m) * target) * z
    else:
        loss_v, loss_i = (y - target).square(), (z - target).square()
    terms = case.grad * (y - z) + (case.grad_v * loss_v - case.grad_i * loss_i) / count
    return terms.sum((2, 3))


def of_logits(case: Case, mask_grad: Tensor) -> Tensor:
    soft = torch.sigmoid(case.logits)
    return (mask_grad if case.logits.dim() == 2 else mask_grad.sum(0)) * soft * (1 - soft)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("per_sample", [False, True], ids=["shared", "per sample"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_straight_through_is_the_textbook_composition(
    shape: tuple[int, ...], kind: str, per_sample: bool, backend: str
) -> None:
    case = case_of(shape, kind, per_sample)
    inputs = differentiable(case.inputs)
    expected = composed(*inputs, case.target)
    grads = torch.autograd.grad(expected, inputs, case.weights)
    ours = results(case, backend)
    scale = {"rtol": 1e-11, "atol": 1e-11 * max(1.0, float(grads[1].abs().max()))}
    torch.testing.assert_close(ours, (*(x.detach() for x in expected), *grads), **scale)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("per_sample", [False, True], ids=["shared", "per sample"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_formulas(shape: tuple[int, ...], estimator: str, kind: str, per_sample: bool, backend: str) -> None:
    case = case_of(shape, kind, per_sample)
    ours = results(case, backend, estimator=estimator)
    expected = of_logits(case, sensitivities(case, estimator))
    torch.testing.assert_close(ours[5], expected, rtol=1e-10, atol=1e-10)
    # The estimators differ in nothing else.
    other = results(case, backend, estimator="ste")
    for a, b in zip(ours[:5], other[:5], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-11 * max(1.0, float(b.abs().max())))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("per_sample", [False, True], ids=["shared", "per sample"])
def test_counterfactual_is_what_changing_sides_would_change(per_sample: bool, backend: str) -> None:
    case = random_case((2, 5, 6, 7), torch.float64, per_sample)

    def loss(logits: Tensor) -> float:
        _, loss_i, loss_v = partition_rotate(case.z, case.theta, logits, target=case.target, backend=backend)
        return float(1.3 * loss_i + 0.6 * loss_v)

    logits = case.logits.clone().requires_grad_()
    _, loss_i, loss_v = partition_rotate(
        case.z, case.theta, logits, target=case.target, estimator="counterfactual", backend=backend
    )
    (grad,) = torch.autograd.grad(1.3 * loss_i + 0.6 * loss_v, logits)
    soft = torch.sigmoid(case.logits)
    for index in torch.cartesian_prod(*(torch.arange(size) for size in case.logits.shape)).view(
        -1, case.logits.dim()
    ):
        flipped = case.logits.clone()
        at = tuple(index)
        flipped[at] *= -1
        # From copied to turned, whichever of the two the channel is now.
        change = (loss(flipped) - loss(case.logits)) * (1 if case.logits[at] < 0 else -1)
        expected = change * float(soft[at] * (1 - soft[at]))
        assert float(grad[at]) == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("per_sample", [False, True], ids=["shared", "per sample"])
@pytest.mark.parametrize("size", [(), (7,), (4, 5), (2, 3, 4)], ids=str)
def test_partition(size: tuple[int, ...], per_sample: bool, backend: str) -> None:
    generator = torch.Generator().manual_seed(0)
    z, grad_v, grad_i = (
        torch.randn((3, 4, *size), generator=generator, dtype=torch.float64) for _ in range(3)
    )
    logits = torch.randn((3, 4) if per_sample else (1, 4), generator=generator, dtype=torch.float64)
    inputs = differentiable((z, logits), (True, True))
    mask = straight_through(inputs[1]).reshape(-1, 4, *(1,) * len(size))
    expected = torch.autograd.grad(
        (mask * inputs[0], (1 - mask) * inputs[0]), inputs, (grad_v, grad_i), retain_graph=True
    )
    parts = partition(*inputs, backend=backend)
    torch.testing.assert_close(torch.autograd.grad(parts, inputs, (grad_v, grad_i)), expected, **EXACT)
    # One part alone.
    for side, grad in ((0, grad_v), (1, grad_i)):
        whole = (mask * inputs[0], (1 - mask) * inputs[0])[side]
        expected = torch.autograd.grad(whole, inputs, grad, retain_graph=True)
        part = partition(*inputs, backend=backend)[side]
        torch.testing.assert_close(torch.autograd.grad(part, inputs, grad), expected, **EXACT)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("used", [(0,), (1,), (2,), (1, 2), (0, 2)], ids=str)
def test_any_subset_of_results(used: tuple[int, ...], estimator: str, backend: str) -> None:
    case = random_case((2, 5, 6, 7), torch.float64)
    dropped = {name: torch.zeros_like(getattr(case, name)) for name in ("grad", "grad_i", "grad_v")}
    for index in used:
        dropped.pop(("grad", "grad_i", "grad_v")[index])
    expected = results(case._replace(**dropped), backend, estimator=estimator)[3:]
    inputs = differentiable(case.inputs)
    out = partition_rotate(*inputs, target=case.target, estimator=estimator, backend=backend)
    grads = torch.autograd.grad(
        [out[k] for k in used], inputs, [case.weights[k] for k in used], allow_unused=True
    )
    for ours, plain in zip(grads, expected, strict=True):
        # A gradient that nothing reaches may be absent.
        torch.testing.assert_close(torch.zeros_like(plain) if ours is None else ours, plain, **EXACT)


SUBSETS = [tuple(bool(bits >> k & 1) for k in range(3)) for bits in range(8)]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("needs", SUBSETS, ids=lambda needs: "".join("ztl"[k] for k in range(3) if needs[k]))
@pytest.mark.parametrize("estimator", [None, *ESTIMATORS])
def test_any_subset_of_inputs(estimator: str | None, needs: tuple[bool, ...], backend: str) -> None:
    case = random_case((3, 6, 7, 5), torch.float64, per_sample=True)
    options = {} if estimator is None else {"target": case.target, "estimator": estimator}

    def gradients(needs: tuple[bool, ...]) -> list[Tensor | None]:
        inputs = differentiable(case.inputs, needs)
        out = partition_rotate(*inputs, **options, backend=backend)
        outputs, grads = ([out], [case.grad]) if estimator is None else (out, case.weights)
        assert outputs[0].requires_grad == any(needs)
        # The angle does not reach the loss of the copied channels.
        pairs = [(x, grad) for x, grad in zip(outputs, grads, strict=True) if x.requires_grad]
        if pairs:
            torch.autograd.backward(*zip(*pairs, strict=True))
        return [x.grad for x in inputs]

    for ours, expected, needed in zip(gradients(needs), gradients((True,) * 3), needs, strict=True):
        assert (ours is not None) == needed
        if needed:
            torch.testing.assert_close(ours, expected, rtol=1e-11, atol=1e-10)
    for one in ((needs[0], needs[2]),):
        z, logits = differentiable((case.z, case.logits), one)
        z_v, z_i = partition(z, logits, backend=backend)
        assert z_v.requires_grad == any(one)
        if any(one):
            ((z_v * case.grad).sum() + z_i.sum()).backward()
        if one[0]:
            varies = (case.logits > 0)[:, :, None, None]
            assert torch.equal(z.grad, torch.where(varies, case.grad, 1.0))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_target_is_a_constant(estimator: str, backend: str) -> None:
    case = random_case((2, 4, 5, 6), torch.float64)
    target = case.target.clone().requires_grad_()
    out = partition_rotate(*case.inputs, target=target, estimator=estimator, backend=backend)
    assert not any(x.requires_grad for x in out)
    z = case.z.clone().requires_grad_()
    out = partition_rotate(z, *case.inputs[1:], target=target, estimator=estimator, backend=backend)
    (grad,) = torch.autograd.grad(out, target, case.weights, allow_unused=True)
    assert grad is None

    def loss(target: Tensor) -> Tensor:
        out = partition_rotate(*case.inputs, target=target, estimator=estimator, backend=backend)
        return out[1] + out[2]

    assert not torch.func.grad(loss)(case.target).any()


@pytest.mark.parametrize("backend", BACKENDS)
def test_target_that_is_the_output_of_the_same_latents(backend: str) -> None:
    """One tensor in two places: only the gradient of the first counts."""
    case = random_case((2, 4, 5, 6), torch.float64)
    z = case.z.clone().requires_grad_()
    out = partition_rotate(z, *case.inputs[1:], target=z, backend=backend)
    (grad,) = torch.autograd.grad(out, z, case.weights)
    expected = results(case._replace(target=case.z), backend)[3]
    torch.testing.assert_close(grad, expected, **EXACT)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("angle_dtype", DTYPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_gradient_dtypes(dtype: torch.dtype, angle_dtype: torch.dtype, backend: str) -> None:
    case = random_case((2, 3, 4, 5), dtype)
    case = case._replace(theta=case.theta.to(angle_dtype))
    ours = results(case, backend)
    assert [x.dtype for x in ours[3:]] == [dtype, angle_dtype, case.logits.dtype]


@pytest.mark.parametrize("backend", BACKENDS)
def test_scalar_angle_collects_the_gradient_of_the_batch(backend: str) -> None:
    case = random_case((3, 4, 6, 5), torch.float64)
    one = case.theta[0]
    ours = results(case._replace(theta=one), backend)
    many = results(case._replace(theta=one.repeat(3)), backend)
    assert torch.equal(ours[0], many[0])
    torch.testing.assert_close(ours[4], many[4].sum())


def test_images_are_not_kept_for_their_own_gradient() -> None:
    z = torch.randn(2, 3, 4, 5, requires_grad=True)
    kept: list[Tensor] = []

    def pack(x: Tensor) -> Tensor:
        kept.append(x)
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        partition_rotate(z, torch.zeros(2), torch.zeros(3), backend="cpp")
        partition(z, torch.zeros(3), backend="cpp")
    assert not [x for x in kept if x.dim() > 2]


def test_autocast_leaves_dtypes_alone() -> None:
    case = random_case((2, 3, 6, 5), torch.float32)
    expected = results(case, "cpp")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for ours, plain in zip(results(case, "cpp"), expected, strict=True):
            assert torch.equal(ours, plain)
        z_v, _ = partition(case.z, case.logits)
        assert z_v.dtype == torch.float32
        assert partition_rotate(case.z.bfloat16(), *case.inputs[1:]).dtype == torch.bfloat16


@pytest.mark.parametrize("backend", BACKENDS)
def test_deterministic_algorithms_are_allowed(backend: str) -> None:
    case = random_case((2, 3, 6, 5), torch.float32)
    expected = results(case, "cpp")
    torch.use_deterministic_algorithms(True)
    try:
        ours = results(case, backend)
    finally:
        torch.use_deterministic_algorithms(False)
    if backend == "cpp":
        assert all(torch.equal(a, b) for a, b in zip(ours, expected, strict=True))
