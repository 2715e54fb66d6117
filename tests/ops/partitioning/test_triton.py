"""The Triton kernels of the partition against plain torch, see tests/ops/conftest.py for where they run.

First the launchers, then the public functions with backend="triton".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import product

import pytest
import torch
from torch import Tensor

from equikernels.ops import partition
from equikernels.ops.arguments import compute_dtype
from equikernels.ops.rotation.reference import rotate_reference
from tests.ops.frames import FramedMemory
from tests.ops.partitioning import samples
from tests.ops.partitioning.test_agreement import compare
from tests.ops.rotation.samples import compute_epsilon, random_case, value_tolerance

pytest.importorskip("triton")

from equikernels.ops.partitioning import triton_kernels as kernels
from equikernels.ops.rotation import triton_geometry

# Odd and not square, several tiles, one pixel, one column.
SHAPES = ((3, 5, 7, 6), (1, 3, 20, 17), (2, 1, 1, 1), (2, 3, 3, 1))
EMPTY = ((0, 3, 4, 5), (2, 0, 4, 5), (2, 3, 0, 5))
DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
ESTIMATORS = ("ste", "counterfactual")


@pytest.fixture(autouse=True)
def one_program_for_all_channels(monkeypatch: pytest.MonkeyPatch) -> None:
    """What large batches get: fewer programs to interpret, and a loop over channels to test."""
    monkeypatch.setattr(triton_geometry, "_PROGRAMS", 1)


def case(shape: tuple[int, ...], dtype: torch.dtype) -> dict[str, Tensor]:
    z, theta, grad = random_case(shape, dtype)
    target = random_case(shape, dtype, seed=1)[0]
    generator = torch.Generator().manual_seed(2)
    mask = torch.randint(2, shape[:2], generator=generator).to(theta.dtype)
    weights = torch.randn(2, shape[0], generator=generator, dtype=torch.float64).to(theta.dtype)
    return {
        "z": z, "theta": theta, "mask": mask, "target": target,
        "grad": grad, "grad_i": weights[0], "grad_v": weights[1],
    }  # fmt: skip


def call(launch: Callable[..., object], device: str, *values: object) -> list[Tensor]:
    results = launch(*(x.to(device) if isinstance(x, Tensor) else x for x in values))
    results = [results] if isinstance(results, Tensor) else list(results)
    assert all(x.is_contiguous() for x in results)
    return [x.cpu() for x in results]


# --- the specification, in float64 ----------------------------------------------------------------


def wide(mask: Tensor) -> Tensor:
    return mask.double()[:, :, None, None]


def turned(z: Tensor, theta: Tensor) -> Tensor:
    return rotate_reference(z.double(), theta.double())


def expected_forward(given: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    m, z, target = wide(given["mask"]), given["z"].double(), given["target"].double()
    y = turned(z, given["theta"])
    loss_i, loss_v = (
        (weight * distance.square()).sum((1, 2, 3))
        for weight, distance in ((1 - m, z - target), (m, y - target))
    )
    return m * y + (1 - m) * z, loss_i, loss_v


def expected_backward(given: dict[str, Tensor], estimator: str) -> tuple[Tensor, ...]:
    """Gradients of z and theta by autograd, that of the mask by the formula of the estimator."""
    z, theta = given["z"].double().requires_grad_(), given["theta"].double().requires_grad_()
    m, grad, target = wide(given["mask"]), given["grad"].double(), given["target"].double()
    g_i, g_v = (given[name].double() for name in ("grad_i", "grad_v"))
    out, loss_i, loss_v = expected_forward(given | {"z": z, "theta": theta})
    objective = (grad * out).sum() + (g_i * loss_i).sum() + (g_v * loss_v).sum()
    gradients = torch.autograd.grad(objective, (z, theta))
    y, z = turned(z, theta).detach(), z.detach()
    per_i, per_v = (g[:, None, None, None] for g in (g_i, g_v))
    if estimator == "ste":
        of_losses = 2 * per_v * (m * y - m * target) * y - 2 * per_i * ((1 - m) * z - (1 - m) * target) * z
    else:
        of_losses = per_v * (y - target) ** 2 - per_i * (z - target) ** 2
    return *gradients, (grad * (y - z) + of_losses).sum((2, 3))


def tolerances(shape: tuple[int, ...], dtype: torch.dtype) -> dict[str, float]:
    """Values lie in [-2, 2]; what is stored is rounded to the data's dtype, but sums take y before that.

    A term of a sum over pixels has factors no larger than 4 and weights of losses below 4: an error of a
    value changes it by at most 2 * 4 * 4 + 4 times as much.
    """
    value = value_tolerance(dtype, shape, 2)
    pixels = shape[2] * shape[3]
    term = 64 * value_tolerance(compute_dtype(dtype), shape, 2)
    return {
        "value": value,
        # Four taps, of gradients g + 2 g_v (y - target), which are at most 4 * 16 times as large as a value.
        "z": 4 * 64 * value,
        "mask": pixels * term,
        "loss": pixels * shape[1] * term,
    }


# --- values and gradients -------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_forward(shape: tuple[int, ...], dtype: torch.dtype, device: str) -> None:
    given = case(shape, dtype)
    z, theta, mask, target = (given[name] for name in ("z", "theta", "mask", "target"))
    out, loss_i, loss_v = call(kernels.consistency, device, z, theta, mask, target)
    assert [x.dtype for x in (out, loss_i, loss_v)] == [dtype, theta.dtype, theta.dtype]
    assert torch.equal(call(kernels.masked_rotate, device, z, theta, mask)[0], out)
    assert torch.equal(out[mask == 0], z[mask == 0])
    bounds = tolerances(shape, dtype)
    expected = expected_forward(given)
    torch.testing.assert_close(out.double(), expected[0], rtol=0, atol=bounds["value"])
    torch.testing.assert_close(loss_i.double(), expected[1], rtol=0, atol=bounds["loss"])
    torch.testing.assert_close(loss_v.double(), expected[2], rtol=0, atol=bounds["loss"])


def backward_arguments(given: dict[str, Tensor], estimator: str) -> list[object]:
    return [
        *(given[name] for name in ("grad", "grad_i", "grad_v", "z", "theta", "mask", "target")),
        estimator,
    ]


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_backward(shape: tuple[int, ...], dtype: torch.dtype, estimator: str, device: str) -> None:
    given = case(shape, dtype)
    ours = call(kernels.consistency_backward, device, *backward_arguments(given, estimator))
    assert [x.dtype for x in ours] == [dtype, given["theta"].dtype, given["theta"].dtype]
    z_grad, theta_grad, mask_grad = (x.double() for x in ours)
    expected = expected_backward(given, estimator)
    bounds = tolerances(shape, dtype)
    torch.testing.assert_close(z_grad, expected[0], rtol=0, atol=bounds["z"])
    torch.testing.assert_close(mask_grad, expected[2], rtol=0, atol=bounds["mask"])
    if dtype == torch.float64:
        # In lower precision a tap that changes is a jump. A slope is at most 4 * 2 radii.
        atol = bounds["loss"] * 8 * max(shape[2:])
        torch.testing.assert_close(theta_grad, expected[1], rtol=0, atol=atol)


@pytest.mark.parametrize("dtype", DTYPES[1:], ids=str)
def test_losses_are_of_what_is_not_yet_rounded(dtype: torch.dtype, device: str) -> None:
    """With the result as the target there is left of the loss what the rounding of the result has taken."""
    given = case(SHAPES[0], dtype)
    z, theta, mask = given["z"], given["theta"], torch.ones_like(given["mask"])
    target = call(kernels.masked_rotate, device, z, theta, mask)[0]
    loss_v = call(kernels.consistency, device, z, theta, mask, target)[2]
    weights = torch.zeros_like(theta), torch.ones_like(theta)
    # What the loss would lose if its channels changed sides.
    gains = call(
        kernels.consistency_backward,
        device,
        torch.zeros_like(z),
        *weights,
        z,
        theta,
        mask,
        target,
        "counterfactual",
    )[2]
    expected = (turned(z, theta) - target.double()).flatten(1).norm(dim=1)
    # Norms differ by no more than the norm of the difference.
    atol = math.sqrt(z[0].numel()) * value_tolerance(compute_dtype(dtype), SHAPES[0], 2)
    assert dtype == torch.float32 or (expected > 2 * atol).all()
    for sums in (loss_v, gains.sum(1)):
        torch.testing.assert_close(sums.double().sqrt(), expected, rtol=0, atol=atol)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16], ids=str)
def test_backward_without_losses(dtype: torch.dtype, device: str) -> None:
    shape = SHAPES[0]
    given = case(shape, dtype)
    arguments = [given[name] for name in ("grad", "z", "theta", "mask")]
    z_grad, theta_grad, mask_grad = (
        x.double() for x in call(kernels.masked_rotate_backward, device, *arguments)
    )
    nothing = torch.zeros_like(given["theta"])
    expected = expected_backward(given | {"grad_i": nothing, "grad_v": nothing}, "ste")
    bounds = tolerances(shape, dtype)
    torch.testing.assert_close(z_grad, expected[0], rtol=0, atol=4 * bounds["value"])
    torch.testing.assert_close(mask_grad, expected[2], rtol=0, atol=bounds["mask"])
    if dtype == torch.float64:
        atol = bounds["loss"] * 8 * max(shape[2:])
        torch.testing.assert_close(theta_grad, expected[1], rtol=0, atol=atol)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(3, 5), (3, 5, 7), (2, 1, 33, 40), (2, 2, 3, 4, 5)], ids=str)
def test_split(shape: tuple[int, ...], dtype: torch.dtype, device: str) -> None:
    given = case((*shape[:2], math.prod(shape[2:]), 1), dtype)
    z, mask = given["z"].view(shape), given["mask"]
    grad_v, grad_i = given["grad"].view(shape), given["target"].view(shape)
    varies = (mask == 1).view(*shape[:2], *(1,) * (len(shape) - 2)).expand(shape)
    z_v, z_i = call(kernels.split, device, z, mask)
    assert torch.equal(z_v, torch.where(varies, z, 0))
    assert torch.equal(z_i, torch.where(varies, 0, z))
    z_grad, mask_grad = call(kernels.split_backward, device, grad_v, grad_i, z, mask)
    assert torch.equal(z_grad, torch.where(varies, grad_v, grad_i))
    expected = (
        ((grad_v.double() - grad_i.double()) * z.double()).flatten(2).sum(2)
        if len(shape) > 2
        else ((grad_v.double() - grad_i.double()) * z.double())
    )
    # Products below 8 of two rounded factors, each exact to half a unit.
    atol = 2 * compute_epsilon(dtype) * 8 * math.prod(shape[2:])
    torch.testing.assert_close(mask_grad.double(), expected, rtol=0, atol=atol)
    assert mask_grad.dtype == mask.dtype


def test_derivatives_agree_with_differences(device: str) -> None:
    """The gradients of z and theta are those of the forward kernel itself, in float64."""
    given = case((1, 3, 4, 3), torch.float64)
    z_grad, theta_grad, _ = call(kernels.consistency_backward, device, *backward_arguments(given, "ste"))
    direction = random_case((1, 3, 4, 3), torch.float64, seed=3)[0]
    step = 1e-6

    def objective(sign: int) -> Tensor:
        z, theta = given["z"] + sign * step * direction, given["theta"] + sign * step
        out, loss_i, loss_v = call(kernels.consistency, device, z, theta, given["mask"], given["target"])
        return (given["grad"] * out).sum() + (given["grad_i"] * loss_i + given["grad_v"] * loss_v).sum()

    slope = (objective(1) - objective(-1)) / (2 * step)
    # Errors: step^2 times third derivatives, below 1e4 here, and rounding of sums below 1e3 over the step.
    torch.testing.assert_close(slope, (z_grad * direction).sum() + theta_grad.sum(), rtol=0, atol=1e-6)


# --- what is not needed ---------------------------------------------------------------------------


def subsets(count: int) -> Iterator[tuple[bool, ...]]:
    return product((False, True), repeat=count)


BACKWARD = ("masked_rotate", "ste", "counterfactual", "split")


def gradients(what: str, given: dict[str, Tensor], device: str, *needs: bool) -> list[Tensor]:
    if what == "split":
        arguments = [given[name] for name in ("grad", "target", "z", "mask")]
        return call(kernels.split_backward, device, *arguments, *needs)
    if what == "masked_rotate":
        arguments = [given[name] for name in ("grad", "z", "theta", "mask")]
        return call(kernels.masked_rotate_backward, device, *arguments, *needs)
    return call(kernels.consistency_backward, device, *backward_arguments(given, what), *needs)


@pytest.mark.parametrize("what", BACKWARD)
def test_subsets_of_the_gradients(what: str, device: str) -> None:
    """Each is the same whichever others are asked for, up to how a compiler fuses products and sums."""
    given = case((1, 3, 5, 4), torch.float64)
    given["mask"] = torch.tensor([[1.0, 0.0, 1.0]], dtype=torch.float64)
    everything = gradients(what, given, device)
    for needs in subsets(len(everything)):
        for need, found, expected in zip(
            needs, gradients(what, given, device, *needs), everything, strict=True
        ):
            assert found.dtype == expected.dtype
            if need:
                torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-11)
            else:
                assert found.shape == (0,), needs


class Unused:
    """Stands in for a kernel that must not be started."""

    def __getitem__(self, grid: object) -> Callable[..., None]:
        raise AssertionError("this kernel computes what is not needed")


def test_kernels_that_are_not_needed_are_not_started(monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    given = case((1, 2, 4, 3), torch.float32)
    with monkeypatch.context() as without_adjoint:
        without_adjoint.setattr(kernels, "partition_adjoint_kernel", Unused())
        for what in ("masked_rotate", "ste"):
            gradients(what, given, device, False, True, True)
    monkeypatch.setattr(kernels, "partition_gradients_kernel", Unused())
    gradients("masked_rotate", given, device, True, False, False)
    with pytest.raises(AssertionError, match="not needed"):
        gradients("ste", given, device, True, False, False)


@pytest.mark.parametrize("shape", EMPTY, ids=str)
def test_empty_and_not_needed(shape: tuple[int, ...], device: str) -> None:
    given = case(shape, torch.float32)
    for what in BACKWARD:
        count = len(gradients(what, given, device))
        assert [tuple(x.shape) for x in gradients(what, given, device, *(False,) * count)] == [(0,)] * count


# --- what is not seen, not defined, not there -----------------------------------------------------


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_channels_that_are_not_selected_do_not_leak(estimator: str, device: str) -> None:
    given = case((1, 2, 5, 4), torch.float32)
    given["mask"] = torch.tensor([[1.0, 0.0]])
    z = given["z"].clone()
    z[:, 1, 2, 2] = torch.inf
    z[:, 1, 3, 1] = torch.nan
    out, _, loss_v = call(kernels.consistency, device, z, given["theta"], given["mask"], given["target"])
    assert torch.equal(out[:, 1].nan_to_num(), z[:, 1].nan_to_num())
    assert out[:, 0].isfinite().all()
    assert loss_v.isfinite().all()
    z_grad, theta_grad, _ = call(
        kernels.masked_rotate_backward, device, given["grad"], z, given["theta"], given["mask"]
    )
    assert z_grad.isfinite().all()
    assert theta_grad.isfinite().all()
    z_v, z_i = call(kernels.split, device, z, given["mask"])
    assert torch.equal(z_v[:, 1], torch.zeros(1, 5, 4))
    assert torch.equal(z_i[:, 0], torch.zeros(1, 5, 4))
    arguments = backward_arguments(given | {"z": z}, estimator)
    theta_grad = call(kernels.consistency_backward, device, *arguments)[1]
    assert theta_grad.isfinite().all()


def test_mask_that_is_not_a_number_makes_its_channel_nan(device: str) -> None:
    given = case((2, 3, 4, 5), torch.float32)
    given["mask"][1, 2] = torch.nan
    out, loss_i, loss_v = call(
        kernels.consistency, device, *(given[x] for x in ("z", "theta", "mask", "target"))
    )
    z_v, z_i = call(kernels.split, device, given["z"], given["mask"])
    arguments = backward_arguments(given, "ste")
    z_grad, theta_grad, _ = call(kernels.consistency_backward, device, *arguments)
    passed = call(kernels.split_backward, device, given["grad"], given["grad"], given["z"], given["mask"])[0]
    for result in (out, z_v, z_i, z_grad, passed):
        assert result[1, 2].isnan().all()
        assert result.isnan().sum() == result[1, 2].numel()
    for result in (loss_i, loss_v, theta_grad):
        assert result.isnan().tolist() == [False, True]


@pytest.mark.parametrize("angle", [math.nan, math.inf], ids=str)
def test_angle_that_is_not_finite_makes_channels_that_vary_nan(angle: float, device: str) -> None:
    given = case((2, 2, 4, 5), torch.float32)
    given["mask"] = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    given["theta"][1] = angle
    out = call(kernels.masked_rotate, device, given["z"], given["theta"], given["mask"])[0]
    z_grad, theta_grad, _ = call(
        kernels.masked_rotate_backward, device, *(given[x] for x in ("grad", "z", "theta", "mask"))
    )
    for result in (out, z_grad):
        assert result[1, 0].isnan().all()
        assert result.isnan().sum() == result[1, 0].numel()
    assert theta_grad.isnan().tolist() == [False, True]


@pytest.mark.parametrize("shape", EMPTY, ids=str)
def test_empty(shape: tuple[int, ...], device: str) -> None:
    given = case(shape, torch.float32)
    out, loss_i, loss_v = call(
        kernels.consistency, device, *(given[x] for x in ("z", "theta", "mask", "target"))
    )
    assert out.shape == shape
    z_grad, theta_grad, mask_grad = call(
        kernels.consistency_backward, device, *backward_arguments(given, "ste")
    )
    assert z_grad.shape == shape
    for sums in (loss_i, loss_v, theta_grad):
        assert torch.equal(sums, torch.zeros(shape[0]))
    assert torch.equal(mask_grad, torch.zeros(shape[:2]))
    z_v, z_i = call(kernels.split, device, given["z"], given["mask"])
    assert z_v.shape == z_i.shape == shape
    passed = call(kernels.split_backward, device, given["grad"], given["grad"], given["z"], given["mask"])
    assert torch.equal(passed[1], torch.zeros(shape[:2]))


# --- layouts, programs, bits ----------------------------------------------------------------------


def every_result(given: dict[str, Tensor], device: str) -> list[Tensor]:
    return [
        *call(kernels.consistency, device, *(given[x] for x in ("z", "theta", "mask", "target"))),
        *call(kernels.consistency_backward, device, *backward_arguments(given, "ste")),
        *call(kernels.split, device, given["z"], given["mask"]),
        *call(kernels.split_backward, device, given["grad"], given["target"], given["z"], given["mask"]),
    ]


@pytest.mark.parametrize(
    "layout",
    [
        lambda x: x.contiguous(memory_format=torch.channels_last),
        lambda x: torch.stack([x.mT, x.mT], -1).flatten(3)[..., ::2].mT,
    ],
    ids=["channels_last", "every second row"],
)
def test_layouts(layout: Callable[[Tensor], Tensor], device: str) -> None:
    given = case((2, 3, 5, 6), torch.float32)
    by_dimensions = {1: lambda x: x.repeat_interleave(2)[::2], 2: lambda x: x.mT.contiguous().mT, 4: layout}
    strided = {name: by_dimensions[x.dim()](x) for name, x in given.items()}
    for ours, plain in zip(every_result(strided, device), every_result(given, device), strict=True):
        assert torch.equal(ours, plain)


def test_expanded(device: str) -> None:
    """One mask for all samples, and what sum().backward() sends."""
    given = case((2, 3, 5, 6), torch.float32)
    shared = given | {
        "mask": given["mask"][:1].expand(2, 3),
        "grad": torch.ones(()).expand(2, 3, 5, 6),
        "grad_i": torch.ones(()).expand(2),
        "grad_v": torch.ones(()).expand(2),
    }
    plain = {name: x.contiguous() for name, x in shared.items()}
    for ours, expected in zip(every_result(shared, device), every_result(plain, device), strict=True):
        assert torch.equal(ours, expected)


def test_bits_do_not_change(device: str) -> None:
    given = case((1, 3, 18, 5), torch.float32)
    for ours, again in zip(every_result(given, device), every_result(given, device), strict=True):
        assert torch.equal(ours, again)


def test_programs_and_offsets_do_not_matter(monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    """Whatever is no sum over programs has the same bits."""
    given = case((1, 3, 7, 6), torch.float32)
    expected = every_result(given, device)
    monkeypatch.setattr(triton_geometry, "_PROGRAMS", 512)
    monkeypatch.setattr(triton_geometry, "needs_wide_offsets", lambda *images, dims: True)
    for number, (ours, plain) in enumerate(zip(every_result(given, device), expected, strict=True)):
        if number in (1, 2, 4):
            scale = float(plain.abs().max())
            torch.testing.assert_close(ours, plain, rtol=0, atol=1e-5 * scale)
        else:
            assert torch.equal(ours, plain)


def test_results_are_framed(frames: FramedMemory, device: str) -> None:
    given = case((1, 1, 3, 2), torch.float32)
    every_result(given, device)
    # consistency 2, its backward 4, split 2, its backward 2.
    assert len(frames.buffers) == 10


# --- the public functions -------------------------------------------------------------------------

CLOSE = {"rtol": 1e-9, "atol": 1e-9}


def on(device: str, given: samples.Case) -> samples.Case:
    return samples.Case(*(x.to(device) for x in given))


@pytest.mark.parametrize("per_sample", [False, True], ids=["shared", "per sample"])
@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_partition_rotate(dtype: torch.dtype, estimator: str, per_sample: bool, device: str) -> None:
    given = samples.random_case((2, 4, 5, 3), dtype, per_sample)
    there = samples.results(on(device, given), "triton", estimator=estimator)
    expected = samples.results(given, "reference", estimator=estimator)
    compare(tuple(x.cpu() for x in there), expected, given)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("size", [(), (3, 7), (2, 3, 2)], ids=str)
def test_partition(size: tuple[int, ...], dtype: torch.dtype, device: str) -> None:
    generator = torch.Generator().manual_seed(0)
    # Multiples of 1/4, whose sums of products are exact.
    values = [(torch.randint(-8, 9, (2, 5, *size), generator=generator) / 4).to(dtype) for _ in range(3)]
    results = []
    for where, backend in ((device, "triton"), ("cpu", "reference")):
        z, grad_v, grad_i = (x.to(where) for x in values)
        logits = torch.linspace(-1, 1, 5, device=where)
        inputs = samples.differentiable((z, logits), (True, True))
        parts = partition(*inputs, threshold=0.4, backend=backend)
        results.append([x.cpu() for x in (*parts, *torch.autograd.grad(parts, inputs, (grad_v, grad_i)))])
    for ours, expected in zip(results[0][:3], results[1][:3], strict=True):
        assert ours.dtype == dtype
        assert torch.equal(ours, expected)
    # The sums times the slope of the sigmoid, and summed over two samples.
    torch.testing.assert_close(results[0][3], results[1][3], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("what", samples.WHAT)
def test_one_call_for_the_gradients_that_are_asked_for(
    what: str | None, monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    """Gradients of sums, whose upstream gradients are expanded, of every subset of the inputs."""
    name = {"partition": "split", None: "masked_rotate"}.get(what, "consistency") + "_backward"
    launch = getattr(kernels, name)
    asked: list[tuple[bool, ...]] = []

    def record(*arguments: object) -> object:
        asked.append(arguments[4:6] if what == "partition" else arguments[-3:])
        return launch(*arguments)

    monkeypatch.setattr(kernels, name, record)
    function, given = samples.call_of(what), samples.random_case((2, 3, 4, 3), torch.float64)
    for needs in subsets(3):
        if not any(needs) or (what == "partition" and needs[1]):
            continue
        grads = []
        for backend, here in (("triton", on(device, given)), ("reference", given)):
            inputs = samples.differentiable(here.inputs, needs)
            out = function(*inputs, here.target, backend=backend)
            total = sum(x.sum() for x in ((out,) if isinstance(out, Tensor) else out))
            wanted = [x for x, need in zip(inputs, needs, strict=True) if need]
            grads.append([x.cpu() for x in torch.autograd.grad(total, wanted)])
        torch.testing.assert_close(*grads, **CLOSE)
        assert asked == [needs[::2] if what == "partition" else needs]
        asked.clear()


@pytest.mark.parametrize("what", samples.WHAT)
def test_second_derivatives(what: str | None, device: str) -> None:
    """Gradients that are to be differentiated are composed: they and theirs are the reference's."""
    function, given = samples.call_of(what), samples.random_case((2, 2, 3, 2), torch.float64)
    found = []
    for backend, here in (("triton", on(device, given)), ("reference", given)):
        inputs = samples.differentiable(here.inputs)
        wanted = inputs[::2] if what == "partition" else inputs
        out = function(*inputs, here.target, backend=backend)
        total = sum(x.sin().sum() for x in ((out,) if isinstance(out, Tensor) else out))
        slopes = torch.autograd.grad(total, wanted, create_graph=True)
        seconds = torch.autograd.grad(sum(x.square().sum() for x in slopes), wanted)
        found.append([x.detach().cpu() for x in (*slopes, *seconds)])
    torch.testing.assert_close(*found, **CLOSE)


@pytest.mark.parametrize("angle", [math.nan, -math.inf], ids=str)
@pytest.mark.parametrize("estimator", [None, *ESTIMATORS])
def test_what_is_not_finite_is_as_in_the_reference(estimator: str | None, angle: float, device: str) -> None:
    """Two samples with an angle that is not finite, of which one turns nothing, and one with a NaN mask."""
    given = samples.random_case((3, 3, 4, 3), torch.float64, per_sample=True)
    given.theta[:2] = angle
    given.logits[0] = -given.logits[0].abs() - 0.1
    given.logits[2, 1] = math.nan
    function = samples.call_of(estimator)
    found, composed = [], []
    for backend, here in (("triton", on(device, given)), ("reference", given)):
        inputs = samples.differentiable(here.inputs)
        out = function(*inputs, here.target, backend=backend)
        outputs, weights = ((out,), (here.grad,)) if isinstance(out, Tensor) else (out, here.weights)
        first = torch.autograd.grad(outputs, inputs, weights, retain_graph=True)
        found.append([x.detach().cpu() for x in (*outputs, *first)])
        composed.append(
            [x.detach().cpu() for x in torch.autograd.grad(outputs, inputs[:2], weights, create_graph=True)]
        )
    torch.testing.assert_close(*found, **CLOSE, equal_nan=True)
    torch.testing.assert_close(*composed, **CLOSE, equal_nan=True)
    theta_grad = found[0][-2]
    assert theta_grad[0] == 0
    assert theta_grad[1:].isnan().all()


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_gradient_of_an_undefined_mask(estimator: str, device: str) -> None:
    """The launchers see it before the derivative of the sigmoid, which is NaN too, hides it."""
    given = case((1, 2, 3, 2), torch.float64)
    given["mask"][0, 1] = math.nan
    found = gradients(estimator, given, device)[2]
    expected = expected_backward(given, estimator)[2]
    assert expected[0, 1].isnan() == (estimator == "ste")
    torch.testing.assert_close(found, expected, **CLOSE, equal_nan=True)
