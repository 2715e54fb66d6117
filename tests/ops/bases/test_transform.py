"""Orbit transforms of tensors: every shape, dtype, layout, backend and instruction set, and derivatives."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import gradcheck, gradgradcheck
from torch.fx.experimental.proxy_tensor import make_fx

from equikernels.ops import _native, backends
from equikernels.ops.bases import OrbitTransform, native, orbit_transform
from equikernels.ops.bases.transform import apply_transforms
from tests.ops.bases.samples import BACKENDS, transform_of

TOLERANCE = {torch.float64: 1e-14, torch.float32: 1e-6, torch.bfloat16: 2**-8, torch.float16: 2**-10}
SIZES: dict[str, tuple[tuple[int, ...], int]] = {
    "one": ((1,), 1),
    "permutation": ((1,), 9),
    "small": ((4, 2, 1), 3),
    # More results than are computed side by side, and every remainder of them.
    "all sizes": (tuple(range(1, 17)), 1),
    "large": ((64, 37), 2),
}


SELECTED = "(every_size and cpp and float and not bfloat16 and not float16) or two_transforms"


@pytest.fixture(params=[0, native.PANEL], ids=["row by row", "panels"])
def panel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows go through either kernel, whatever their length."""
    monkeypatch.setattr(native, "PANEL", request.param)


def check(x: Tensor, transform: OrbitTransform, backend: str, dim: int) -> None:
    matrix = torch.tensor(transform.matrix())
    for inverse in (False, True):
        ours = orbit_transform(x, transform, inverse=inverse, dim=dim, backend=backend)
        t = matrix.mT if inverse else matrix
        expected = x.double() @ t if dim == -1 else t.mT @ x.double()
        assert ours.dtype == x.dtype
        assert ours.is_contiguous()
        scale = float(x.double().abs().max()) if x.numel() else 0.0
        torch.testing.assert_close(
            ours.double(), expected, rtol=TOLERANCE[x.dtype], atol=TOLERANCE[x.dtype] * 4 * scale
        )


@pytest.mark.usefixtures("panel")
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", SIZES)
def test_every_size(name: str, backend: str, dtype: torch.dtype) -> None:
    """Around one, two and three vectors of lanes, whole panels of them, and one lane more."""
    transform = transform_of(*SIZES[name])
    for count in (1, 3, 4, 17, 48, 97):
        check(torch.randn(count, transform.dim).to(dtype), transform, backend, -1)
        check(torch.randn(transform.dim, count).to(dtype), transform, backend, -2)


@pytest.mark.parametrize("isa", ["baseline", "avx2", "avx512"])
def test_every_instruction_set(isa: str) -> None:
    """The sizes above again, in a process for each: the set is chosen once per process."""
    if isa not in _native.supported_isas():
        pytest.skip(f"this CPU has no {isa}")
    environment = os.environ | {"EQUIKERNELS_ISA": isa, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", SELECTED, __file__]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" in done.stdout


@pytest.mark.usefixtures("panel")
@pytest.mark.parametrize("dim", [-1, -2])
@pytest.mark.parametrize("backend", BACKENDS)
def test_strides(backend: str, dim: int) -> None:
    transform = transform_of((4, 3, 1), 2)
    shape = (3, 5, 16) if dim == -1 else (3, 16, 5)
    x = torch.randn(shape, dtype=torch.float64)
    for strided in (
        x.mT.contiguous().mT,
        x.transpose(0, 1).contiguous().transpose(0, 1),
        torch.stack([x, x], -1)[..., 1],
        torch.nn.functional.pad(x, (3, 1, 2, 2))[:, 2:-2, 3:-1],
        x[:1].expand(4, -1, -1),
        x[..., :1].expand(-1, -1, x.shape[-1]),
        torch.complex(torch.zeros_like(x), -x).conj().imag,
        x.flip(0)[None],
        x[0],
    ):
        check(strided, transform, backend, dim)


@pytest.mark.parametrize("backend", BACKENDS)
def test_vectors_alone_and_none(backend: str) -> None:
    transform = transform_of((4, 2), 2)
    check(torch.randn(12), transform, backend, -1)
    check(torch.randn(0, 12), transform, backend, -1)
    check(torch.randn(2, 0, 12), transform, backend, -1)
    check(torch.randn(12, 0), transform, backend, -2)
    check(torch.randn(0, 12, 3), transform, backend, -2)


def test_two_transforms_at_once() -> None:
    first, second = transform_of((5, 3), 3, seed=1), transform_of((20, 4), 1, seed=2)
    t = torch.tensor(first.matrix() @ second.matrix())
    x = torch.randn(7, 24, 55, dtype=torch.float64)
    torch.testing.assert_close(apply_transforms(x, (first, second), -2), t.mT @ x, rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(apply_transforms(x.mT, (first, second)), x.mT @ t, rtol=1e-13, atol=1e-13)


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads", "panel")
@pytest.mark.parametrize("dim", [-1, -2])
def test_threads_change_no_bit(dim: int) -> None:
    transforms = transform_of((8, 3, 1), 8), transform_of((32,), 3, seed=1)
    x = torch.randn(6, 96, 96)
    results = []
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        results.append([apply_transforms(x, t, dim) for t in (transforms, transforms[:1])])
    for result in results[1:]:
        assert all(map(torch.equal, result, results[0]))


# --- derivatives ----------------------------------------------------------------------------------

TRANSFORM = transform_of((3, 2, 1), 2)


def double(shape: tuple[int, ...]) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("inverse", [False, True])
@pytest.mark.parametrize("dim", [-1, -2])
@pytest.mark.parametrize("backend", [None, "torch"])
def test_gradcheck(backend: str | None, dim: int, inverse: bool) -> None:
    x = double((2, 12) if dim == -1 else (12, 2))
    function = lambda x: orbit_transform(x, TRANSFORM, inverse=inverse, dim=dim, backend=backend)  # noqa: E731
    assert gradcheck(function, x, check_forward_ad=True, check_batched_grad=True)
    # Through something that is not linear, or second derivatives are zero whatever they are.
    assert gradgradcheck(lambda x: function(x) ** 3, x, check_batched_grad=True)


def test_gradients_of_half_precision_have_its_dtype() -> None:
    x = torch.randn(3, 12, dtype=torch.bfloat16, requires_grad=True)
    grad = torch.randn(3, 12, dtype=torch.bfloat16)
    (ours,) = torch.autograd.grad(orbit_transform(x, TRANSFORM), x, grad)
    assert ours.dtype == torch.bfloat16
    assert torch.equal(ours, orbit_transform(grad, TRANSFORM, inverse=True))


@pytest.mark.parametrize("dim", [-1, -2])
def test_transforms_of_functions(dim: int) -> None:
    x = torch.randn(4, 12, 12, dtype=torch.float64)
    tangent, plain = torch.randn_like(x), lambda x: orbit_transform(x, TRANSFORM, dim=dim)
    close: Callable[..., None] = lambda a, b: torch.testing.assert_close(a, b, rtol=1e-13, atol=1e-13)  # noqa: E731
    close(torch.func.vmap(plain)(x), plain(x))
    close(torch.func.vmap(plain, in_dims=2)(x.movedim(0, 2)), plain(x))
    close(torch.func.grad(lambda x: (plain(x) ** 2).sum())(x), 2 * x)
    out, moved = torch.func.jvp(plain, (x,), (tangent,))
    close(out, plain(x))
    close(moved, plain(tangent))
    close(torch.func.jacrev(plain)(x[0]), torch.func.jacfwd(plain)(x[0]))


# --- compilation ----------------------------------------------------------------------------------


class Turn(torch.nn.Module):
    def __init__(self, transform: OrbitTransform) -> None:
        super().__init__()
        self.transform = transform

    def forward(self, x: Tensor) -> Tensor:
        return orbit_transform(x, self.transform)


@pytest.mark.parametrize("fresh", [True, False], ids=["first use", "used before"])
def test_compile_export_and_tracers(fresh: bool) -> None:
    torch._dynamo.reset()
    x = torch.randn(5, 12, dtype=torch.float64, requires_grad=True)
    expected = x @ torch.tensor(TRANSFORM.matrix())

    def module() -> Turn:
        turn = Turn(transform_of((3, 2, 1), 2))
        return turn if fresh else (turn(x), turn)[1]

    def check(ours: Tensor) -> None:
        torch.testing.assert_close(ours, expected, rtol=1e-14, atol=1e-14)

    turn = module()
    out = torch.compile(turn, fullgraph=True, backend="aot_eager")(x)
    check(out)
    torch.testing.assert_close(torch.autograd.grad(out.sum(), x), torch.autograd.grad(expected.sum(), x))
    check(turn(x))
    for strict in (False, True):
        turn = module()
        check(torch.export.export(turn, (x,), strict=strict).module()(x))
        check(turn(x))
    turn = module()
    check(make_fx(turn)(x.detach())(x))
    check(turn(x))
    turn = module()
    with FakeTensorMode():
        assert turn(torch.empty(5, 12, dtype=torch.float64)).shape == (5, 12)
    # What the tracer made has no values: nothing of it may be left.
    check(turn(x))


def test_inference_mode_first_and_training_after() -> None:
    transform, x = transform_of((3, 2, 1), 2), torch.randn(5, 12, requires_grad=True)
    with torch.inference_mode():
        expected = orbit_transform(x, transform, backend="torch")
    out = orbit_transform(x, transform, backend="torch")
    assert torch.equal(out, expected)
    assert torch.autograd.grad(out.sum(), x)[0].shape == x.shape


# --- bad input ------------------------------------------------------------------------------------


def test_bad_input() -> None:
    with pytest.raises(TypeError, match=r"x: expected a floating tensor, got torch\.int64"):
        orbit_transform(torch.zeros(12, dtype=torch.int64), TRANSFORM)
    with pytest.raises(TypeError, match=r"x: expected a floating tensor, got .*list"):
        orbit_transform([0.0] * 12, TRANSFORM)  # type: ignore[arg-type]
    for x, dim in (
        (torch.zeros(11), -1),
        (torch.zeros(()), -1),
        (torch.zeros(12), -2),
        (torch.zeros(11, 12), -2),
    ):
        with pytest.raises(ValueError, match=f"x: expected 12 coordinates in dimension {dim}, got"):
            orbit_transform(x, TRANSFORM, dim=dim)
    with pytest.raises(ValueError, match="dim: expected -1 or -2, got 0"):
        orbit_transform(torch.zeros(12, 12), TRANSFORM, dim=0)
    with pytest.raises(backends.BackendError, match="backend: 'triton'"):
        orbit_transform(torch.zeros(12), TRANSFORM, backend="triton")
    with pytest.raises(backends.BackendError, match="'cpp' runs eagerly only"):
        torch.func.vmap(lambda x: orbit_transform(x, TRANSFORM, backend="cpp"))(torch.zeros(2, 12))


def test_the_environment_chooses_the_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "transform", None)
    monkeypatch.setenv("EQUIKERNELS_BACKEND", "torch")
    x = torch.randn(3, 12, dtype=torch.float64)
    expected = x.numpy() @ TRANSFORM.matrix()
    assert np.allclose(orbit_transform(x, TRANSFORM).numpy(), expected, rtol=0, atol=1e-14)
