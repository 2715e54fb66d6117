"""The C++ kernels against the reference: every dtype, layout, shape and number of threads."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from equikernels.ops import partition, partition_rotate
from tests.ops.partitioning.samples import (
    DTYPES,
    ESTIMATORS,
    SHAPES,
    Case,
    differentiable,
    random_case,
    results,
)
from tests.ops.rotation.samples import compute_epsilon, smooth_images, value_tolerance

KERNEL = "cpp"


def compare(ours: tuple[Tensor, ...], expected: tuple[Tensor, ...], case: Case) -> None:
    """out, both losses, and the gradients of z, theta and logits, by the rounding each can suffer."""
    dtype, shape = case.z.dtype, tuple(case.z.shape)
    assert [x.dtype for x in ours] == [x.dtype for x in expected]
    value, pixels = value_tolerance(dtype, shape, 2), shape[2] * shape[3]
    torch.testing.assert_close(ours[0], expected[0], rtol=0, atol=value)
    # Differences up to 4 whose one side errs.
    losses = 2 * 4 * value + 64 * compute_epsilon(dtype)
    torch.testing.assert_close(ours[1:3], expected[1:3], rtol=0, atol=losses)
    # The gradient of y is up to 2 + 4, of which up to four arrive at one pixel.
    torch.testing.assert_close(ours[3], expected[3], rtol=0, atol=2 * 4 * value_tolerance(dtype, shape, 6))
    if dtype == torch.float64:
        # Pixels times radius times slope times gradient; elsewhere a tap that changes is a jump.
        scale = case.z[:1].numel() * max(shape[-2:]) ** 2 * 4 * 2 * 6
        atol = 64 * torch.finfo(dtype).eps * scale
        torch.testing.assert_close(ours[4], expected[4], rtol=0, atol=atol)
    # Sums over pixels, and over samples for shared logits, of products of y with numbers up to 6; the value
    # of y errs, but is not rounded to the dtype of z.
    error = value_tolerance(case.theta.dtype, shape, 2)
    terms = pixels * (1 if case.logits.dim() == 2 else max(shape[0], 1))
    torch.testing.assert_close(ours[5], expected[5], rtol=0, atol=terms * 2 * 6 * error / 4)


@pytest.mark.parametrize("per_sample", [False, True], ids=["shared", "per sample"])
@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [*SHAPES, (3, 64, 7, 7), (2, 6, 150, 3)], ids=str)
def test_values_and_gradients(
    shape: tuple[int, ...], dtype: torch.dtype, estimator: str, per_sample: bool
) -> None:
    case = random_case(shape, dtype, per_sample)
    ours, expected = (results(case, backend, estimator=estimator) for backend in (KERNEL, "reference"))
    compare(ours, expected, case)
    inputs = [differentiable(case.inputs) for _ in range(2)]
    outs = [
        partition_rotate(*x, backend=backend)
        for x, backend in zip(inputs, (KERNEL, "reference"), strict=True)
    ]
    assert torch.equal(outs[0], ours[0])
    zero = torch.zeros_like(case.grad_i)
    grads = [torch.autograd.grad(out, x, case.grad) for out, x in zip(outs, inputs, strict=True)]
    compare((outs[0], zero, zero, *grads[0]), (outs[1], zero, zero, *grads[1]), case)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("shape", [(4, 2, 28, 28), (3, 5, 32, 32), (2, 5, 140, 140)], ids=str)
def test_angle_gradient(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    """Against the float64 reference on the same numbers; smooth, because a tap that changes is a jump."""
    z = smooth_images(shape, dtype)
    theta = torch.linspace(-3, 3, shape[0])
    moved = smooth_images(shape, torch.float64)
    logits = torch.linspace(2, -1, shape[1])
    half = torch.tensor(0.5 * z.numel())
    case = Case(z, theta, logits, moved.roll(2, -2).to(dtype), moved.roll(3, -1).to(dtype), half, 0.7 * half)
    ours = results(case, KERNEL)[4].double()
    expected = results(Case(*(x.double() for x in case)), "reference")[4]
    rtol = 64 * compute_epsilon(dtype) * max(shape[-2:])
    torch.testing.assert_close(ours, expected, rtol=rtol, atol=rtol * float(expected.abs().max()))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("size", [(), (1,), (7,), (33,), (5, 6), (3, 4, 5), (200, 130)], ids=str)
def test_partition(size: tuple[int, ...], dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    z, grad_v, grad_i = (torch.randn((3, 6, *size), generator=generator).to(dtype) for _ in range(3))
    for logits in (torch.linspace(-1, 1, 6), torch.randn((3, 6), generator=generator)):
        results = []
        for backend in (KERNEL, "reference"):
            inputs = differentiable((z, logits), (True, True))
            parts = partition(*inputs, backend=backend)
            results.append((*parts, *torch.autograd.grad(parts, inputs, (grad_v, grad_i))))
        for ours, expected in zip(results[0][:3], results[1][:3], strict=True):
            assert ours.dtype == dtype
            assert torch.equal(ours, expected)
        pixels = z[0, 0].numel() * 3
        # Exact products of halves, or one rounding each, and the reference's rounding of them.
        largest = float((grad_v.double() - grad_i.double()).abs().max() * z.double().abs().max())
        eps = torch.finfo(dtype).eps + 64 * torch.finfo(logits.dtype).eps
        torch.testing.assert_close(results[0][3], results[1][3], rtol=0, atol=pixels * eps * largest / 4)


def layouts(z: Tensor) -> dict[str, Tensor]:
    wide = torch.empty(*z.shape[:3], 2 * z.shape[3], dtype=z.dtype)[..., ::2]
    return {
        "channels_last": z.contiguous(memory_format=torch.channels_last),
        "transposed": z.mT.contiguous().mT,
        "every second column": wide.copy_(z),
        "batch innermost": z.movedim(0, -1).contiguous().movedim(-1, 0),
        "sliced": torch.cat([z, z], 1)[:, : z.shape[1]],
        "cut from a larger one": torch.nn.functional.pad(z, (1, 2, 3, 1))[..., 3:-1, 1:-2],
        "negated lazily": torch.complex(torch.zeros_like(z), -z).conj().imag,
    }


@pytest.mark.parametrize("layout", list(layouts(torch.zeros(1, 1, 1, 1))))
@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("shape", [(3, 6, 9, 14), (2, 3, 11, 8), (1, 5, 150, 17)], ids=str)
def test_layouts(shape: tuple[int, ...], estimator: str, layout: str) -> None:
    case = random_case(shape, torch.float32)
    strided = case._replace(
        **{name: layouts(getattr(case, name))[layout] for name in ("z", "target", "grad")}
    )
    assert torch.equal(strided.z, case.z)
    expected = results(case, KERNEL, estimator=estimator)
    # The gradient belongs to a leaf, which a view is not.
    inputs = differentiable(case.inputs)
    z = layouts(inputs[0])[layout]
    out = partition_rotate(z, *inputs[1:], target=strided.target, estimator=estimator, backend=KERNEL)
    ours = (*out, *torch.autograd.grad(out, inputs, strided.weights))
    for a, b in zip(ours, expected, strict=True):
        assert torch.equal(a, b)
    assert out[0].is_contiguous()
    parts = partition(strided.z, case.logits, backend=KERNEL)
    for a, b in zip(parts, partition(case.z, case.logits, backend=KERNEL), strict=True):
        assert torch.equal(a, b)
        assert a.is_contiguous()


@pytest.mark.parametrize("shape", [(3, 6, 9, 14), (2, 3, 11, 8), (1, 5, 150, 17)], ids=str)
def test_expanded(shape: tuple[int, ...]) -> None:
    """What sum().backward() sends, one image shared by a batch and by its channels, one angle."""
    case = random_case(shape, torch.float32)
    shared = {
        "z": case.z[:1, :1].expand(shape),
        "target": case.target[:1, :, :1].expand(shape),
        "grad": torch.ones(()).expand(shape),
        "theta": case.theta[:1].expand(shape[0]),
        "logits": case.logits[None].expand(shape[0], -1),
    }
    expected = results(case._replace(**{k: x.contiguous() for k, x in shared.items()}), KERNEL)
    inputs = [shared[name].detach().requires_grad_() for name in ("z", "theta", "logits")]
    out = partition_rotate(*inputs, target=shared["target"], backend=KERNEL)
    grads = torch.autograd.grad(out, inputs, (shared["grad"], case.grad_i, case.grad_v))
    for ours, plain in zip((*out, *grads), expected, strict=True):
        assert torch.equal(ours, plain)


shapes = st.tuples(st.integers(0, 3), st.integers(0, 11), st.integers(0, 20), st.integers(0, 20)) | st.tuples(
    st.integers(1, 2), st.sampled_from([1, 4, 5]), st.integers(1, 140), st.integers(1, 140)
)
seeds = st.integers(0, 2**31)


@given(shapes, seeds, st.booleans(), st.sampled_from(ESTIMATORS))
def test_any_shape(shape: tuple[int, ...], seed: int, per_sample: bool, estimator: str) -> None:
    case = random_case(shape, torch.float64, per_sample, seed)
    ours, expected = (results(case, backend, estimator=estimator) for backend in (KERNEL, "reference"))
    compare(ours, expected, case)


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    "shape", [(9, 7, 12, 11), (1, 5, 300, 257), (64, 16, 7, 7), (1, 1, 513, 130)], ids=str
)
def test_threads_do_not_change_a_bit(shape: tuple[int, ...], dtype: torch.dtype, estimator: str) -> None:
    case = random_case(shape, dtype, per_sample=True)
    many = []
    for count in (1, 2, 3, 1):
        torch.set_num_threads(count)
        z, logits = differentiable((case.z, case.logits), (True, True))
        parts = partition(z, logits, backend=KERNEL)
        grads = torch.autograd.grad(parts, (z, logits), (case.grad, case.target))
        many.append((*results(case, KERNEL, estimator=estimator), *parts, *grads))
    for other in many[1:]:
        assert all(torch.equal(first, second) for first, second in zip(many[0], other, strict=True))


FIRST = """
import torch
from equikernels.ops import partition
z_v, z_i = partition(torch.ones(2, 3, 4), torch.tensor([1.0, -1.0, 1.0]), backend="cpp")
assert z_v.sum() == 16 and z_i.sum() == 8
"""


def test_first_call_of_a_process() -> None:
    """Kernels that need no working memory must not depend on another's having been there before."""
    subprocess.run([sys.executable, "-c", FIRST], check=True, timeout=120)


@pytest.mark.parametrize("shape", [(1, 1, 103, 107), (1, 1, 97, 23), (2, 1, 134, 19)], ids=str)
def test_one_channel_in_several_tiles(shape: tuple[int, ...]) -> None:
    for seed in range(10):
        case = random_case(shape, torch.float64, seed=seed)
        ours, expected = (results(case, backend) for backend in (KERNEL, "reference"))
        compare(ours, expected, case)
