"""What the two operations mean: values, masks, losses, and what does not leak between channels."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from equikernels.ops import partition, partition_rotate, rotate
from equikernels.ops.arguments import compute_dtype
from tests.ops.partitioning.samples import (
    BACKENDS,
    DTYPES,
    ESTIMATORS,
    SHAPES,
    Case,
    looped,
    random_case,
    results,
)
from tests.ops.rotation.samples import compute_epsilon, value_tolerance

LARGE = 50.0


def loss_tolerance(dtype: torch.dtype, shape: tuple[int, ...]) -> float:
    """Mean squares of differences up to 4, of which one side errs by the tolerance of a value."""
    return 2 * 4 * value_tolerance(dtype, shape, 2) + 64 * compute_epsilon(dtype)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("per_sample", [False, True], ids=["shared", "per sample"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_equals_a_loop_over_channels(
    shape: tuple[int, ...], dtype: torch.dtype, per_sample: bool, backend: str
) -> None:
    case = random_case(shape, dtype, per_sample)
    expected = looped(case)
    ours = partition_rotate(*case.inputs, target=case.target, backend=backend)
    assert [x.dtype for x in ours] == [dtype, case.theta.dtype, case.theta.dtype]
    torch.testing.assert_close(ours[0], expected[0], rtol=0, atol=value_tolerance(dtype, shape, 2))
    torch.testing.assert_close(ours[1:], expected[1:], rtol=0, atol=loss_tolerance(dtype, shape))
    alone = partition_rotate(*case.inputs, backend=backend)
    assert torch.equal(alone, ours[0])
    assert alone.is_contiguous()
    copied = (case.logits <= 0).expand(shape[:2])
    assert torch.equal(ours[0][copied], case.z[copied])
    z_v, z_i = partition(case.z, case.logits, backend=backend)
    assert torch.equal(z_v, torch.where(copied[:, :, None, None], 0, case.z))
    assert torch.equal(z_i, torch.where(copied[:, :, None, None], case.z, 0))
    assert z_v.is_contiguous()
    assert z_i.is_contiguous()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("size", [(), (7,), (4, 5), (2, 3, 4), (2, 1, 3, 2)], ids=str)
def test_partition_of_vectors_images_and_volumes(size: tuple[int, ...], backend: str) -> None:
    z = torch.randn(3, 4, *size)
    logits = torch.tensor([1.0, -1.0, 0.0, 0.1])
    z_v, z_i = partition(z, logits, backend=backend)
    assert z_v.shape == z_i.shape == z.shape
    assert torch.equal(z_v[:, [0, 3]], z[:, [0, 3]])
    assert torch.equal(z_i[:, [1, 2]], z[:, [1, 2]])
    assert not z_v[:, [1, 2]].any()
    assert not z_i[:, [0, 3]].any()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "shape", [(4,), (1, 4), (1, 4, 1, 1), (1, 4, 1), (3, 4), (3, 4, 1, 1), (3, 4, 1, 1, 1)], ids=str
)
def test_shapes_of_logits(shape: tuple[int, ...], backend: str) -> None:
    case = random_case((3, 4, 6, 5), torch.float64, per_sample=shape[0] == 3)
    given = case.logits.reshape(shape).requires_grad_()
    flat = case.logits.clone().requires_grad_()
    ours, expected = (
        partition_rotate(case.z, case.theta, each, target=case.target, backend=backend)
        for each in (given, flat)
    )
    for a, b in zip(ours, expected, strict=True):
        assert torch.equal(a, b)
    (grad,), (expected_grad,) = (
        torch.autograd.grad(out, each, case.weights) for out, each in ((ours, given), (expected, flat))
    )
    assert torch.equal(grad, expected_grad.reshape(shape))
    for a, b in zip(partition(case.z, given), partition(case.z, flat), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_mask_is_strictly_above_the_threshold(dtype: torch.dtype, backend: str) -> None:
    z = torch.ones(1, 6, 2, dtype=dtype)
    logits = torch.tensor([0.0, -0.0, 1e-3, -1e-3, torch.inf, -torch.inf])
    z_v, z_i = partition(z, logits, backend=backend)
    assert z_v[0, :, 0].tolist() == [0, 0, 1, 0, 1, 0]
    assert torch.equal(z_i, 1 - z_v)
    for threshold, expected in ((0, [1, 1, 1, 1, 1, 0]), (1, [0] * 6), (1.0, [0] * 6)):
        assert partition(z, logits, threshold=threshold, backend=backend)[0][0, :, 0].tolist() == expected


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_threshold_is_compared_in_the_dtype_of_the_sigmoid(dtype: torch.dtype, backend: str) -> None:
    """A channel at the threshold, or within its rounding, does not vary; its neighbours by one place do."""
    logits = torch.linspace(-3, 3, 9, dtype=compute_dtype(dtype))
    soft = logits.sigmoid()
    z = torch.ones(2, 9, 3, dtype=dtype)
    for at in soft.double().tolist():
        for threshold in (at, math.nextafter(at, 0), math.nextafter(at, 1)):
            varies = (soft > threshold).to(dtype)
            z_v, z_i = partition(z, logits, threshold=threshold, backend=backend)
            assert torch.equal(z_v[1, :, 2], varies)
            assert torch.equal(z_i[0, :, 0], 1 - varies)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.9])
def test_other_thresholds(threshold: float, backend: str) -> None:
    case = random_case((2, 7, 5, 4), torch.float64)
    logits = torch.linspace(-4, 4, 7, dtype=torch.float64)
    case = case._replace(logits=logits)
    ours = partition_rotate(*case.inputs, target=case.target, threshold=threshold, backend=backend)
    expected = looped(case, threshold)
    assert 0 < int((logits.sigmoid() > threshold).sum()) < 7
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("logits_dtype", DTYPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_logits_of_any_floating_dtype(dtype: torch.dtype, logits_dtype: torch.dtype, backend: str) -> None:
    case = random_case((2, 4, 5, 4), dtype)
    # Without their last bits, so that every dtype holds them.
    rounded = case.logits.bfloat16().to(logits_dtype).to(torch.float16)
    ours = results(case._replace(logits=rounded.to(logits_dtype)), backend)
    expected = results(case._replace(logits=rounded.to(case.logits.dtype)), backend)
    assert ours[5].dtype == logits_dtype
    for a, b in zip(ours[:5], expected[:5], strict=True):
        assert torch.equal(a, b)
    assert torch.equal(ours[5], expected[5].to(logits_dtype))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_losses_sum_to_the_error_of_the_output(estimator: str, dtype: torch.dtype, backend: str) -> None:
    for per_sample in (False, True):
        case = random_case((3, 6, 9, 7), dtype, per_sample)
        out, loss_i, loss_v = partition_rotate(
            *case.inputs, target=case.target, estimator=estimator, backend=backend
        )
        expected = (out.double() - case.target.double()).square().mean()
        # The losses see the output before it is rounded: half a unit in the last place of numbers up to 2,
        # times the slope of the square of differences up to 4.
        rounding = torch.finfo(dtype).eps * 2 * 4
        atol = rounding + 16 * compute_epsilon(dtype) * float(expected)
        torch.testing.assert_close((loss_i + loss_v).double(), expected, rtol=0, atol=atol)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_all_on_is_rotate_and_all_off_a_copy(shape: tuple[int, ...], backend: str) -> None:
    case = random_case(shape, torch.float32)
    z, theta = case.z.clone().requires_grad_(), case.theta.clone().requires_grad_()
    turned = rotate(z, theta, backend=backend)
    expected = torch.autograd.grad(turned, (z, theta), case.grad)
    on, off = (torch.full((shape[1],), value).requires_grad_() for value in (LARGE, -LARGE))
    out = partition_rotate(z, theta, on, backend=backend)
    torch.testing.assert_close(out, turned, rtol=0, atol=value_tolerance(torch.float32, shape, 2))
    grads = torch.autograd.grad(out, (z, theta, on), case.grad)
    atol = 4 * value_tolerance(torch.float32, shape, 2)
    torch.testing.assert_close(grads[0], expected[0], rtol=0, atol=atol)
    scale = case.z[0].numel() * max(shape[-2:]) ** 2
    torch.testing.assert_close(grads[1], expected[1], rtol=0, atol=64 * 16 * 1.2e-7 * scale)
    out = partition_rotate(z, theta, off, backend=backend)
    assert torch.equal(out, z)
    z_grad, theta_grad, _ = torch.autograd.grad(out, (z, theta, off), case.grad)
    assert torch.equal(z_grad, case.grad)
    assert not theta_grad.any()


@pytest.mark.parametrize("backend", BACKENDS)
def test_one_angle_for_all(backend: str) -> None:
    case = random_case((3, 4, 6, 7), torch.float32)
    expected = partition_rotate(case.z, torch.full((3,), 0.5), case.logits, backend=backend)
    for theta in (0.5, torch.tensor(0.5), torch.tensor(0.5, dtype=torch.float64)):
        assert torch.equal(partition_rotate(case.z, theta, case.logits, backend=backend), expected)
    assert torch.equal(partition_rotate(case.z, 0, case.logits, backend=backend), case.z)


# --- what is not finite ---------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("value", [torch.inf, -torch.inf, torch.nan], ids=str)
def test_what_is_not_selected_is_zero(value: float, backend: str) -> None:
    z = torch.full((2, 2, 3), value)
    logits = torch.tensor([1.0, -1.0])
    z_v, z_i = partition(z, logits, backend=backend)
    torch.testing.assert_close(z_v[:, 0], z[:, 0], equal_nan=True)
    torch.testing.assert_close(z_i[:, 1], z[:, 1], equal_nan=True)
    assert not z_v[:, 1].any()
    assert not z_i[:, 0].any()


def compare_others(ours: tuple[Tensor, ...], expected: tuple[Tensor, ...], others: list[int]) -> None:
    """Out and the gradients of z and of the logits, in all channels but one, and the angle's gradient."""
    for index in (0, 3):
        assert torch.equal(ours[index][:, others], expected[index][:, others])
    assert torch.equal(ours[4], expected[4])
    assert torch.equal(ours[5][..., others], expected[5][..., others])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("create_graph", [False, True], ids=["first order", "any order"])
@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("value", [torch.inf, -torch.inf, torch.nan], ids=str)
def test_what_a_copied_channel_holds_stays_in_it(
    value: float, estimator: str, create_graph: bool, backend: str
) -> None:
    options = {"estimator": estimator, "create_graph": create_graph}
    case = random_case((2, 6, 7, 5), torch.float32)
    expected = results(case, backend, **options)
    z = case.z.clone()
    z[:, 5, 3, 2] = value
    ours = results(case._replace(z=z), backend, **options)
    torch.testing.assert_close(ours[0][:, 5], z[:, 5], rtol=0, atol=0, equal_nan=True)
    assert torch.equal(ours[2], expected[2])
    assert not ours[1].isfinite()
    compare_others(ours, expected, list(range(5)))
    target = case.target.clone()
    target[:, 5, 3, 2] = value
    ours = results(case._replace(target=target), backend, **options)
    assert torch.equal(ours[2], expected[2])
    assert not ours[1].isfinite()
    compare_others(ours, expected, list(range(5)))
    # The other way round: what a channel that turns has to be compared with.
    target = case.target.clone()
    target[:, 0, 3, 2] = value
    ours = results(case._replace(target=target), backend, **options)
    assert torch.equal(ours[0], expected[0])
    assert torch.equal(ours[1], expected[1])
    assert not ours[2].isfinite()
    assert torch.equal(ours[3][:, 1:], expected[3][:, 1:])
    assert torch.equal(ours[5][1:], expected[5][1:])


@pytest.mark.parametrize("backend", BACKENDS)
def test_nan_logit_makes_its_channel_nan(backend: str) -> None:
    case = random_case((2, 5, 6, 4), torch.float32)
    logits = case.logits.clone()
    logits[2] = torch.nan
    z_v, z_i = partition(case.z, logits, backend=backend)
    out, loss_i, loss_v = partition_rotate(case.z, case.theta, logits, target=case.target, backend=backend)
    others = [0, 1, 3, 4]
    for x in (z_v, z_i, out):
        assert x[:, 2].isnan().all()
        assert x[:, others].isfinite().all()
    assert torch.equal(out[:, others], partition_rotate(*case.inputs, backend=backend)[:, others])
    assert loss_i.isnan()
    assert loss_v.isnan()
    ours = results(case._replace(logits=logits), backend)
    expected = results(case, backend)
    assert ours[3][:, 2].isnan().all()
    assert torch.equal(ours[3][:, others], expected[3][:, others])
    assert torch.equal(ours[5].isnan(), logits.isnan())
    assert torch.equal(ours[5][others], expected[5][others])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("value", [torch.inf, -torch.inf, torch.nan], ids=str)
@pytest.mark.parametrize("channels", [2, 5, 9])
def test_angle_that_is_not_finite(channels: int, value: float, backend: str) -> None:
    case = random_case((3, channels, 6, 5), torch.float32, per_sample=True)
    expected = results(case, backend)
    theta = case.theta.clone()
    theta[1] = value
    ours = results(case._replace(theta=theta), backend)
    varies = (case.logits > 0)[1]
    assert varies[0]
    assert not varies[-1]
    for index in (0, 3):
        assert ours[index][1, varies].isnan().all()
        assert torch.equal(ours[index][1, ~varies], expected[index][1, ~varies])
        assert torch.equal(ours[index][[0, 2]], expected[index][[0, 2]])
    assert ours[2].isnan()
    assert torch.equal(ours[1], expected[1])
    assert torch.equal(ours[4].isnan(), torch.tensor([False, True, False]))
    assert torch.equal(ours[4][[0, 2]], expected[4][[0, 2]])
    assert torch.equal(ours[5][[0, 2]], expected[5][[0, 2]])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("angle", [1e30, -3e38, 2.0**31, 2.0**63])
@pytest.mark.parametrize("shape", [(2, 4, 9, 16), (2, 5, 40, 40)], ids=str)
def test_huge_angles(shape: tuple[int, ...], angle: float, backend: str) -> None:
    case = random_case(shape, torch.float32)
    huge = torch.full(shape[:1], angle)
    reduced = torch.atan2(huge.double().sin(), huge.double().cos()).float()
    ours, expected = (results(case._replace(theta=theta), backend) for theta in (huge, reduced))
    atol = 2 * value_tolerance(torch.float32, shape, 2)
    torch.testing.assert_close(ours[0], expected[0], rtol=0, atol=atol)
    assert all(x.isfinite().all() for x in ours)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("shape", [(0, 3, 4, 5), (2, 0, 4, 5), (2, 3, 0, 5), (2, 3, 4, 0)], ids=str)
def test_empty(shape: tuple[int, ...], estimator: str, backend: str) -> None:
    for per_sample in (False, True):
        case = random_case(shape, torch.float32, per_sample)
        ours = results(case, backend, estimator=estimator)
        assert ours[0].shape == ours[3].shape == shape
        assert ours[1] == 0
        assert ours[2] == 0
        assert torch.equal(ours[4], torch.zeros(shape[0]))
        assert torch.equal(ours[5], torch.zeros_like(case.logits))
        z, logits = case.z.clone().requires_grad_(), case.logits.clone().requires_grad_()
        z_v, z_i = partition(z, logits, backend=backend)
        assert z_v.shape == z_i.shape == shape
        z_grad, logits_grad = torch.autograd.grad(z_v.sum() + z_i.sum(), (z, logits))
        assert z_grad.shape == shape
        assert torch.equal(logits_grad, torch.zeros_like(logits))


def test_meta_tensors_have_the_right_shape() -> None:
    z, theta, logits = (torch.empty(shape, device="meta") for shape in ((2, 3, 4, 5), (2,), (3,)))
    out, loss_i, loss_v = partition_rotate(z, theta, logits, target=z)
    assert out.shape == z.shape
    assert loss_i.shape == loss_v.shape == ()
    assert [x.shape for x in partition(z, logits)] == [z.shape] * 2


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_without_a_target_there_are_no_losses(estimator: str) -> None:
    case: Case = random_case((2, 4, 5, 5), torch.float32)
    assert isinstance(partition_rotate(*case.inputs, estimator=estimator), Tensor)
