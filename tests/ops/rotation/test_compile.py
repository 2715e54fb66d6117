"""The traced operators: registration, torch.compile, export, fake tensors, and what must raise."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.autograd.forward_ad as forward_ad
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

from equikernels.ops import rotate
from tests.ops.rotation.samples import random_case

SHAPES = ((2, 3, 5, 5), (4, 3, 6, 5), (7, 2, 9, 8), (3, 1, 8, 12))


@pytest.fixture(autouse=True)
def fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def operator(name: str) -> torch._ops.OpOverload:
    return getattr(torch.ops.equikernels, f"rotate_{name}").default


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("needs_grad", [True, False])
@pytest.mark.parametrize("name", ["apply", "adjoint", "angle_grad", "backward"])
def test_opcheck(name: str, needs_grad: bool, dtype: torch.dtype) -> None:
    z, theta, grad = (x.requires_grad_(needs_grad) for x in random_case((2, 3, 4, 5), dtype))
    tensors = {"apply": (z, theta), "adjoint": (grad, theta)}.get(name, (grad, z, theta))
    for layout in (torch.contiguous_format, torch.channels_last):
        images = [
            x.detach().contiguous(memory_format=layout).requires_grad_(needs_grad) for x in tensors[:-1]
        ]
        torch.library.opcheck(operator(name), (*images, theta, 0, "cpp"))
    torch.library.opcheck(operator(name), (*(x[:0].detach() for x in tensors), 1, "cpp"))


def check_compiled(compiled: object, shape: tuple[int, ...]) -> None:
    z, theta, grad = random_case(shape, torch.float32)
    z.requires_grad_(), theta.requires_grad_()
    out, expected = compiled(z, theta), rotate(z, theta, backend="cpp")
    assert torch.equal(out, expected)
    grads, expected_grads = (torch.autograd.grad(x, (z, theta), grad) for x in (out, expected))
    for ours, plain in zip(grads, expected_grads, strict=True):
        assert torch.equal(ours, plain)


@pytest.mark.parametrize("dynamic", [None, True, False], ids=lambda value: f"dynamic={value}")
def test_forward_and_backward_with_changing_shapes(dynamic: bool | None) -> None:
    compiled = torch.compile(rotate, fullgraph=True, backend="aot_eager", dynamic=dynamic)
    for shape in SHAPES:
        check_compiled(compiled, shape)


def test_inside_a_larger_function() -> None:
    def step(z: Tensor, theta: Tensor) -> Tensor:
        return rotate(rotate(z * 2, theta) + 1, -theta, backend="cpp").pow(2).mean()

    z, theta, _ = random_case((3, 4, 8, 8), torch.float64)
    z.requires_grad_(), theta.requires_grad_()
    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    ours = torch.autograd.grad(compiled(z, theta), (z, theta))
    torch.testing.assert_close(ours, torch.autograd.grad(step(z, theta), (z, theta)))


@pytest.mark.parametrize("needs", [(True, False), (False, True), (False, False)], ids=str)
def test_any_subset_of_inputs(needs: tuple[bool, bool]) -> None:
    z, theta, grad = random_case((2, 3, 6, 5), torch.float32)
    z.requires_grad_(needs[0]), theta.requires_grad_(needs[1])
    out = torch.compile(rotate, fullgraph=True, backend="aot_eager")(z, theta)
    needed = [x for x, need in zip((z, theta), needs, strict=True) if need]
    assert out.requires_grad == bool(needed)
    if needed:
        ours = torch.autograd.grad(out, needed, grad)
        torch.testing.assert_close(ours, torch.autograd.grad(rotate(z, theta), needed, grad))


def test_angle_as_a_number_that_changes() -> None:
    compiled = torch.compile(rotate, fullgraph=True, backend="aot_eager")
    z = torch.randn(2, 3, 5, 5)
    for angle in (0.3, 0.4, -1.5):
        assert torch.equal(compiled(z, angle), rotate(z, angle))


def test_reference_backend_compiles_too() -> None:
    z, theta, _ = random_case((2, 3, 5, 4), torch.float64)
    compiled = torch.compile(rotate, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(z, theta, backend="reference"), rotate(z, theta))


def test_environment_is_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EQUIKERNELS_BACKEND", "reference")
    z, theta, _ = random_case((2, 3, 5, 4), torch.float64)
    ours = torch.compile(rotate, fullgraph=True, backend="aot_eager")(z, theta)
    assert torch.equal(ours, rotate(z, theta, backend="reference"))


def test_vmap_inside_compile() -> None:
    z, theta = torch.randn(4, 2, 3, 5, 5), torch.randn(4, 2)
    compiled = torch.compile(torch.vmap(rotate), fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(z, theta), torch.vmap(rotate)(z, theta))


class Rotation(torch.nn.Module):
    def forward(self, z: Tensor, theta: Tensor) -> Tensor:
        return rotate(z, theta)


@pytest.mark.parametrize("strict", [False, True])
def test_export(strict: bool) -> None:
    batch = torch.export.Dim("batch", min=2, max=64)
    example = (torch.randn(3, 2, 6, 5), torch.randn(3))
    program = torch.export.export(Rotation(), example, dynamic_shapes=({0: batch}, {0: batch}), strict=strict)
    targets = [node.target for node in program.graph.nodes if node.op == "call_function"]
    assert operator("apply") in targets
    z, theta = torch.randn(5, 2, 6, 5), torch.randn(5)
    assert torch.equal(program.module()(z, theta), rotate(z, theta))


def test_fake_tensors_and_make_fx() -> None:
    with FakeTensorMode():
        z = torch.empty(2, 3, 4, 5, requires_grad=True)
        out = rotate(z, torch.empty(2))
        assert out.shape == (2, 3, 4, 5)
        assert torch.autograd.grad(out.sum(), z)[0].shape == z.shape
    z, theta = torch.randn(2, 3, 4, 5), torch.randn(2)
    graph = make_fx(lambda z, theta: rotate(z, theta))(z, theta)
    assert torch.equal(graph(z * 2, theta), rotate(z * 2, theta))


# --- forward mode: an error, never zeros ---------------------------------------------------------


def tangent(rotation: object) -> Tensor | None:
    z, theta, z_dot = random_case((2, 3, 5, 4), torch.float32)
    with forward_ad.dual_level():
        return forward_ad.unpack_dual(rotation(forward_ad.make_dual(z, z_dot), theta)).tangent


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_dual_numbers_handed_to_a_compiled_function_raise(backend: str) -> None:
    with pytest.raises(NotImplementedError, match="forward-mode differentiation is not supported"):
        tangent(torch.compile(rotate, fullgraph=True, backend=backend))


def test_dual_numbers_made_inside_a_compiled_function_raise() -> None:
    z, theta, z_dot = random_case((2, 3, 5, 4), torch.float32)

    def derivative(z: Tensor, theta: Tensor, z_dot: Tensor) -> Tensor | None:
        with forward_ad.dual_level():
            return forward_ad.unpack_dual(rotate(forward_ad.make_dual(z, z_dot), theta)).tangent

    with pytest.raises(Exception, match="forward-mode differentiation is not supported"):
        torch.compile(derivative, fullgraph=True, backend="aot_eager")(z, theta, z_dot)


def test_jvp_inside_a_compiled_function_raises() -> None:
    z, theta, _ = random_case((2, 3, 5, 4), torch.float32)

    def derivative(z: Tensor, theta: Tensor) -> Tensor:
        return torch.func.jvp(rotate, (z, theta), (z, theta))[1]

    with pytest.raises(Exception, match="forward-mode differentiation is not supported"):
        torch.compile(derivative, fullgraph=True, backend="aot_eager")(z, theta)


def test_func_grad_inside_a_compiled_function_raises() -> None:
    z, theta, _ = random_case((2, 3, 5, 4), torch.float32)

    def derivative(z: Tensor, theta: Tensor) -> Tensor:
        return torch.func.grad(lambda x: rotate(x, theta).sum())(z)

    with pytest.raises(Exception, match="autograd"):
        torch.compile(derivative, fullgraph=True, backend="aot_eager")(z, theta)


def test_inductor() -> None:
    """The real compiler, on one pair of shapes only: it takes seconds for each."""
    compiled = torch.compile(lambda z, theta: rotate(z * 2, theta) + 1, fullgraph=True)
    for shape in SHAPES[:2]:
        z, theta, grad = random_case(shape, torch.float32)
        z.requires_grad_(), theta.requires_grad_()
        out, expected = compiled(z, theta), rotate(z * 2, theta) + 1
        torch.testing.assert_close(out, expected)
        torch.testing.assert_close(
            torch.autograd.grad(out, (z, theta), grad), torch.autograd.grad(expected, (z, theta), grad)
        )
