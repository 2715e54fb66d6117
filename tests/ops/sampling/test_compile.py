"""The traced operators: registration, torch.compile, export, fake tensors, and what must raise."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.autograd.forward_ad as forward_ad
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

from equikernels.ops import affine_sample
from tests.ops.sampling.samples import COMBINATIONS, SMALL, every_combination, generic_case, random_case

SHAPES = ((2, 3, 5, 5), (4, 3, 6, 5), (7, 2, 9, 8), (3, 1, 8, 12))


@pytest.fixture(autouse=True)
def fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def operator(name: str) -> torch._ops.OpOverload:
    return getattr(torch.ops.equikernels, f"sample_{name}").default


@pytest.mark.parametrize("needs_grad", [True, False])
@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("name", ["apply", "adjoint", "matrix_grad", "backward"])
def test_opcheck(name: str, order: int, needs_grad: bool) -> None:
    for dims, mode, padding, dtype, layout in (
        (2, "bilinear", "zeros", torch.float32, torch.channels_last),
        (2, "bicubic", "reflection", torch.float64, torch.contiguous_format),
        (3, "bilinear", "border", torch.bfloat16, torch.channels_last_3d),
    ):
        z, matrix, grad = random_case(SMALL[dims], dtype)
        z, grad = (x.contiguous(memory_format=layout).requires_grad_(needs_grad) for x in (z, grad))
        matrix.requires_grad_(needs_grad)
        directions = torch.rand(order, *matrix.shape, dtype=matrix.dtype).requires_grad_(needs_grad)
        data = {"apply": (z,), "adjoint": (grad,)}.get(name, (grad, z))
        torch.library.opcheck(operator(name), (*data, matrix, directions, mode, padding, "cpp"))
    empty = [x.detach()[:0] for x in (*data, matrix)]
    torch.library.opcheck(operator(name), (*empty, directions.detach()[:, :0], "nearest", "zeros", "cpp"))


def check_compiled(compiled: object, z: Tensor, matrix: Tensor, grad: Tensor, **options: str) -> None:
    z.requires_grad_(), matrix.requires_grad_()
    out, expected = compiled(z, matrix, **options), affine_sample(z, matrix, **options)
    assert torch.equal(out, expected)
    grads, expected_grads = (torch.autograd.grad(x, (z, matrix), grad) for x in (out, expected))
    for ours, plain in zip(grads, expected_grads, strict=True):
        assert torch.equal(ours, plain)


@every_combination
def test_forward_and_backward(dims: int, mode: str, padding: str) -> None:
    compiled = torch.compile(affine_sample, fullgraph=True, backend="aot_eager")
    check_compiled(compiled, *random_case(SMALL[dims], torch.float32), mode=mode, padding=padding)


@pytest.mark.parametrize("dynamic", [None, True, False], ids=lambda value: f"dynamic={value}")
def test_changing_shapes(dynamic: bool | None) -> None:
    compiled = torch.compile(affine_sample, fullgraph=True, backend="aot_eager", dynamic=dynamic)
    for shape in SHAPES:
        check_compiled(compiled, *random_case(shape, torch.float32), backend="cpp")


@pytest.mark.parametrize("needs", [(True, False), (False, True), (False, False)], ids=str)
def test_any_subset_of_inputs(needs: tuple[bool, bool]) -> None:
    z, matrix, grad = random_case((2, 3, 6, 5), torch.float32)
    z.requires_grad_(needs[0]), matrix.requires_grad_(needs[1])
    out = torch.compile(affine_sample, fullgraph=True, backend="aot_eager")(z, matrix)
    needed = [x for x, need in zip((z, matrix), needs, strict=True) if need]
    assert out.requires_grad == bool(needed)
    if needed:
        ours = torch.autograd.grad(out, needed, grad)
        torch.testing.assert_close(ours, torch.autograd.grad(affine_sample(z, matrix), needed, grad))


def test_inside_a_larger_function() -> None:
    def step(z: Tensor, matrix: Tensor) -> Tensor:
        once = affine_sample(z * 2, matrix, mode="bicubic", padding="reflection", backend="cpp")
        return affine_sample(once + 1, -matrix, mode="nearest", padding="border", backend="cpp").pow(2).mean()

    z, matrix, _ = random_case((3, 4, 8, 8), torch.float64)
    z.requires_grad_(), matrix.requires_grad_()
    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    ours = torch.autograd.grad(compiled(z, matrix), (z, matrix))
    torch.testing.assert_close(ours, torch.autograd.grad(step(z, matrix), (z, matrix)))


@pytest.mark.parametrize("dims", [2, 3])
def test_reference_backend_compiles_too(dims: int) -> None:
    z, matrix, _ = generic_case(SMALL[dims], torch.float64, "bilinear")
    compiled = torch.compile(affine_sample, fullgraph=True, backend="aot_eager")
    ours = compiled(z, matrix, padding="reflection", backend="reference")
    torch.testing.assert_close(ours, affine_sample(z, matrix, padding="reflection"))


def test_vmap_inside_compile() -> None:
    z, matrix = torch.randn(4, 2, 3, 5, 5), torch.randn(4, 2, 2, 3)
    compiled = torch.compile(torch.vmap(affine_sample), fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(z, matrix), torch.vmap(affine_sample)(z, matrix))


class Sampling(torch.nn.Module):
    def __init__(self, mode: str, padding: str) -> None:
        super().__init__()
        self.mode, self.padding = mode, padding

    def forward(self, z: Tensor, matrix: Tensor) -> Tensor:
        return affine_sample(z, matrix, mode=self.mode, padding=self.padding)


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize(("dims", "mode", "padding"), [COMBINATIONS[2], COMBINATIONS[-3]], ids=str)
def test_export(dims: int, mode: str, padding: str, strict: bool) -> None:
    batch = torch.export.Dim("batch", min=2, max=64)
    z, matrix, _ = random_case((5, *SMALL[dims][1:]), torch.float32)
    module = Sampling(mode, padding)
    shapes = ({0: batch}, {0: batch})
    program = torch.export.export(module, (z[:3], matrix[:3]), dynamic_shapes=shapes, strict=strict)
    targets = [node.target for node in program.graph.nodes if node.op == "call_function"]
    assert operator("apply") in targets
    assert torch.equal(program.module()(z, matrix), module(z, matrix))


def test_fake_tensors_and_make_fx() -> None:
    with FakeTensorMode():
        z = torch.empty(2, 3, 4, 5, requires_grad=True)
        out = affine_sample(z, torch.empty(2, 2, 3))
        assert out.shape == (2, 3, 4, 5)
        assert torch.autograd.grad(out.sum(), z)[0].shape == z.shape
    z, matrix, _ = random_case((2, 3, 4, 5), torch.float32)
    graph = make_fx(lambda z, matrix: affine_sample(z, matrix))(z, matrix)
    assert torch.equal(graph(z * 2, matrix), affine_sample(z * 2, matrix))


# --- forward mode: an error, never zeros ----------------------------------------------------------


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize("which", [0, 1])
def test_dual_numbers_handed_to_a_compiled_function_raise(which: int, backend: str) -> None:
    compiled = torch.compile(affine_sample, fullgraph=True, backend=backend)
    inputs = list(random_case((2, 3, 5, 4), torch.float32)[:2])
    with forward_ad.dual_level():
        inputs[which] = forward_ad.make_dual(inputs[which], inputs[which].clone())
        with pytest.raises(NotImplementedError, match="forward-mode differentiation is not supported"):
            compiled(*inputs)


def test_jvp_inside_a_compiled_function_raises() -> None:
    z, matrix, _ = random_case((2, 3, 5, 4), torch.float32)

    def derivative(z: Tensor, matrix: Tensor) -> Tensor:
        return torch.func.jvp(affine_sample, (z, matrix), (z, matrix))[1]

    with pytest.raises(Exception, match="forward-mode differentiation is not supported"):
        torch.compile(derivative, fullgraph=True, backend="aot_eager")(z, matrix)


def test_func_grad_inside_a_compiled_function_raises() -> None:
    z, matrix, _ = random_case((2, 3, 5, 4), torch.float32)

    def derivative(z: Tensor, matrix: Tensor) -> Tensor:
        return torch.func.grad(lambda x: affine_sample(x, matrix).sum())(z)

    with pytest.raises(Exception, match="autograd"):
        torch.compile(derivative, fullgraph=True, backend="aot_eager")(z, matrix)


def test_inductor() -> None:
    """The real compiler, once: it takes seconds."""
    compiled = torch.compile(
        lambda z, matrix: affine_sample(z * 2, matrix, mode="bicubic", padding="border") + 1, fullgraph=True
    )
    z, matrix, grad = random_case((2, 3, 5, 6), torch.float32)
    z.requires_grad_(), matrix.requires_grad_()
    out, expected = (
        compiled(z, matrix), affine_sample(z * 2, matrix, mode="bicubic", padding="border") + 1
    )  # fmt: skip
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(
        torch.autograd.grad(out, (z, matrix), grad), torch.autograd.grad(expected, (z, matrix), grad)
    )
