"""The C++ kernels against the reference: values and gradients, every dtype, layout and instruction set."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from equikernels.ops import _native, rotate
from tests.ops.rotation.samples import (
    DTYPES,
    SHAPES,
    compute_epsilon,
    random_case,
    smooth_images,
    value_tolerance,
)


def gradients(z: Tensor, theta: Tensor, grad: Tensor, backend: str) -> tuple[Tensor, Tensor, Tensor]:
    z, theta = z.detach().requires_grad_(), theta.detach().requires_grad_()
    out = rotate(z, theta, backend=backend)
    return (out.detach(), *torch.autograd.grad(out, (z, theta), grad))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_values_and_gradients(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    z, theta, grad = random_case(shape, dtype)
    ours, expected = (gradients(z, theta, grad, backend) for backend in ("cpp", "reference"))
    assert [x.dtype for x in ours] == [dtype, dtype, theta.dtype]
    atol = value_tolerance(dtype, shape, 2)
    torch.testing.assert_close(ours[0], expected[0], rtol=0, atol=atol)
    # The columns of a rotation sum to at most 4: each input pixel is a tap of the few outputs around it.
    torch.testing.assert_close(ours[1], expected[1], rtol=0, atol=4 * atol)
    if dtype == torch.float64:
        scale = gradient_scale(z, grad)
        torch.testing.assert_close(ours[2], expected[2], rtol=0, atol=64 * torch.finfo(dtype).eps * scale)


def gradient_scale(z: Tensor, grad: Tensor) -> float:
    """Bound of the angle gradient: pixels times radius times slope, also the size of its rounding errors."""
    radius = max(z.shape[-2:])
    slope = 4 * float(z.abs().max() * grad.abs().max())
    return z[0].numel() * radius * slope * radius


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("shape", [(4, 1, 28, 28), (3, 4, 64, 64), (2, 5, 140, 140)], ids=str)
def test_angle_gradient(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    """Against the float64 reference on the same numbers; smooth, because a tap that changes is a jump."""
    z = smooth_images(shape, dtype)
    theta = torch.linspace(-3, 3, shape[0])
    grad = smooth_images(shape, torch.float64).roll(3, -1).to(dtype)
    _, _, ours = gradients(z, theta, grad, "cpp")
    _, _, expected = gradients(z.double(), theta.double(), grad.double(), "reference")
    # A few roundings of coordinates of this extent, and storage only where the data was rounded before.
    rtol = 64 * compute_epsilon(dtype) * max(shape[-2:])
    torch.testing.assert_close(ours.double(), expected, rtol=rtol, atol=rtol * float(expected.abs().max()))


def layouts(z: Tensor) -> dict[str, Tensor]:
    wide = torch.empty(*z.shape[:3], 2 * z.shape[3], dtype=z.dtype)[..., ::2]
    return {
        "channels_last": z.contiguous(memory_format=torch.channels_last),
        "transposed": z.mT.contiguous().mT,
        "every second column": wide.copy_(z),
        "flipped batch": z.flip(0).contiguous()[torch.arange(z.shape[0]).flip(0)],
        "sliced": torch.cat([z, z], 1)[:, : z.shape[1]],
        "negated lazily": torch.complex(torch.zeros_like(z), -z).conj().imag,
    }


@pytest.mark.parametrize("layout", list(layouts(torch.zeros(1, 1, 1, 1))))
@pytest.mark.parametrize("shape", [(3, 4, 9, 14), (2, 1, 11, 8), (1, 6, 150, 17)], ids=str)
def test_layouts(shape: tuple[int, ...], layout: str) -> None:
    z, theta, grad = random_case(shape, torch.float32)
    expected = gradients(z, theta, grad, "cpp")
    images, grads = layouts(z)[layout], layouts(grad)[layout]
    assert torch.equal(images, z)
    for ours, plain in zip(gradients(images, theta, grads, "cpp"), expected, strict=True):
        assert torch.equal(ours, plain)
        assert ours.is_contiguous()


@pytest.mark.parametrize("shape", [(3, 4, 9, 14), (2, 1, 11, 8), (1, 6, 150, 17)], ids=str)
def test_expanded(shape: tuple[int, ...]) -> None:
    """What sum().backward() sends, and one image shared by a batch and by its channels."""
    z, theta, _ = random_case(shape, torch.float32)
    one = z[:1, :1].expand(shape)
    ones = torch.ones(()).expand(shape)
    expected = gradients(one.contiguous(), theta, ones.contiguous(), "cpp")
    for ours, plain in zip(gradients(one, theta, ones, "cpp"), expected, strict=True):
        assert torch.equal(ours, plain)
    assert torch.equal(rotate(z, theta[:1].expand(shape[0])), rotate(z, theta[:1].repeat(shape[0])))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_every_half_precision_number_survives(dtype: torch.dtype) -> None:
    bits = torch.arange(2**16, dtype=torch.int32).to(torch.int16)
    numbers = bits.view(dtype)
    numbers = numbers[numbers.isfinite()]
    z = torch.cat([numbers, numbers.new_zeros(2**16 - len(numbers))]).view(64, 1, 32, 32)
    assert torch.equal(rotate(z, 0.0, backend="cpp"), z)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_results_are_rounded_as_torch_does(dtype: torch.dtype) -> None:
    # Halfway between two pixels: means of neighbours, over the whole range down to subnormal numbers.
    generator = torch.Generator().manual_seed(0)
    magnitude = 2.0 ** (torch.rand(64, 1, 2, 64, generator=generator) * 40 - 26)
    z = (magnitude * torch.randn(64, 1, 2, 64, generator=generator)).to(dtype)
    wide = torch.zeros(64, 1, 2, 66, dtype=dtype)
    wide[..., 1:65] = z
    turned = rotate(wide, 0.0, backend="cpp")
    assert torch.equal(turned, wide)
    ours = rotate(wide, 0.7, backend="cpp")
    exact = rotate(wide.float(), 0.7, backend="cpp")
    assert torch.equal(ours, exact.to(dtype))


RUN_WITH_ISA = """
import sys
import numpy as np
import torch
from equikernels.ops import _native, rotate
from tests.ops.rotation.samples import DTYPES, SHAPES, random_case
assert _native.selected_isa() == sys.argv[1], _native.selected_isa()
results = {}
for dtype in DTYPES:
    for shape in SHAPES:
        z, theta, grad = random_case(shape, dtype)
        z.requires_grad_(), theta.requires_grad_()
        out = rotate(z, theta, backend="cpp")
        grads = torch.autograd.grad(out, (z, theta), grad)
        for name, x in zip(("out", "z", "theta"), (out, *grads)):
            results[f"{name}/{dtype}/{shape}"] = x.detach().double().numpy()
np.savez(sys.argv[2], **results)
"""


def run_with_isa(isa: str, path: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"EQUIKERNELS_ISA": isa, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.run(
        [sys.executable, "-c", RUN_WITH_ISA, isa, str(path)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture(scope="module")
def baseline(tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    path = tmp_path_factory.mktemp("isa") / "baseline.npz"
    done = run_with_isa("baseline", path)
    assert done.returncode == 0, done.stderr
    return dict(np.load(path))


@pytest.mark.parametrize("isa", ["avx2", "avx512"])
def test_instruction_sets_agree(isa: str, baseline: dict[str, np.ndarray], tmp_path: Path) -> None:
    if isa not in _native.supported_isas():
        pytest.skip(f"this CPU has no {isa}")
    done = run_with_isa(isa, tmp_path / "result.npz")
    assert done.returncode == 0, done.stderr
    results = np.load(tmp_path / "result.npz")
    assert set(results.files) == set(baseline)
    for dtype in DTYPES:
        for shape in SHAPES:
            z, _, grad = random_case(shape, dtype)
            values = value_tolerance(dtype, shape, 2)
            tolerances = {"out": values, "z": 4 * values}
            if dtype == torch.float64:
                tolerances["theta"] = 64 * torch.finfo(dtype).eps * gradient_scale(z, grad)
            for name, atol in tolerances.items():
                key = f"{name}/{dtype}/{shape}"
                np.testing.assert_allclose(results[key], baseline[key], rtol=0, atol=atol, err_msg=key)


@pytest.mark.parametrize("isa", ["neon", "AVX2"])
def test_unknown_instruction_set_is_an_error(isa: str, tmp_path: Path) -> None:
    done = run_with_isa(isa, tmp_path / "never.npz")
    assert done.returncode != 0
    assert f"EQUIKERNELS_ISA={isa} is unknown: expected baseline, avx2 or avx512" in done.stderr
