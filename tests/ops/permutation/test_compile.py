"""The traced operator: registration, torch.compile, export, fake tensors, and what must raise."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.autograd.forward_ad as forward_ad
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

from equikernels.ops import dihedral_rotate, rot90
from tests.ops.permutation.samples import BACKENDS, FORMATS, OPERATIONS, random_values

OPERATOR = torch.ops.equikernels.permute.default
KINDS = {"turns": 2, "square": 2, "cube": 3}


@pytest.fixture(autouse=True)
def fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.complex64, torch.int32], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_opcheck(kind: str, dtype: torch.dtype) -> None:
    g = torch.tensor([1, 3])
    z = torch.randint(9, (2, 3, *(4,) * KINDS[kind])).to(dtype)
    for needs_grad in (False, True):
        if needs_grad and not (dtype.is_floating_point or dtype.is_complex):
            continue
        for layout in (torch.contiguous_format, FORMATS[z.dim()]):
            images = z.contiguous(memory_format=layout).requires_grad_(needs_grad)
            torch.library.opcheck(OPERATOR, (images, g, kind, False, False, "cpp"))
            torch.library.opcheck(OPERATOR, (images, g, kind, True, False, "cpp"))
    torch.library.opcheck(OPERATOR, (z[:0], g[:0], kind, False, False, "cpp"))
    if kind != "cube":
        torch.library.opcheck(OPERATOR, (z[..., :3], g, kind, False, True, "cpp"))


@pytest.mark.parametrize("dynamic", [None, True, False], ids=lambda value: f"dynamic={value}")
@pytest.mark.parametrize("operation", OPERATIONS)
def test_forward_and_backward_with_changing_shapes(operation: str, dynamic: bool | None) -> None:
    function, count, axes = OPERATIONS[operation]
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager", dynamic=dynamic)
    for batch, channels, size in ((2, 3, 5), (4, 3, 6), (7, 2, 9)):
        z = torch.randn(batch, channels, *(size,) * axes, requires_grad=True)
        g, grad = torch.randint(count, (batch,)), torch.randn_like(z)
        out, expected = compiled(z, g), function(z, g, backend="cpp")
        assert torch.equal(out, expected)
        assert torch.equal(*(torch.autograd.grad(x, z, grad)[0] for x in (out, expected)))


@pytest.mark.parametrize("backend", BACKENDS)
def test_integer_turns_of_images_that_are_not_square(backend: str) -> None:
    compiled = torch.compile(rot90, fullgraph=True, backend="aot_eager")
    z = torch.randn(2, 3, 4, 6, requires_grad=True)
    for k in (1, 2, -1, 7, 0):
        out = compiled(z, k, backend=backend)
        assert torch.equal(out, torch.rot90(z, k, (-2, -1)))
        grad = torch.randn_like(out)
        assert torch.equal(torch.autograd.grad(out, z, grad)[0], torch.rot90(grad, -k, (-2, -1)))


def test_tensor_of_turns_of_images_that_are_not_square_raises() -> None:
    z, k = torch.randn(2, 3, 4, 6), torch.tensor([1, 3])
    with pytest.raises(Exception, match="expected an integer for images that are not square"):
        torch.compile(rot90, fullgraph=True, backend="aot_eager")(z, k)


def test_inside_a_larger_function() -> None:
    def step(z: Tensor, g: Tensor) -> Tensor:
        return dihedral_rotate(dihedral_rotate(z * 2, g).exp(), 5).pow(2).mean()

    z, g = torch.randn(3, 4, 8, 8, dtype=torch.float64, requires_grad=True), torch.tensor([1, 6, 3])
    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    ours = torch.autograd.grad(compiled(z, g), z)
    torch.testing.assert_close(ours, torch.autograd.grad(step(z, g), z), rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.bool, torch.int16], ids=str)
def test_integers(dtype: torch.dtype) -> None:
    z, k = random_values((4, 2, 5, 5), dtype), torch.arange(4)
    compiled = torch.compile(rot90, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(z, k), rot90(z, k))


@pytest.mark.parametrize("operation", OPERATIONS)
def test_reference_backend_compiles_too(operation: str) -> None:
    function, count, axes = OPERATIONS[operation]
    z, g = torch.randn(count, 2, *(4,) * axes), torch.arange(count)
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(z, g, backend="reference"), function(z, g))


@pytest.mark.parametrize("backend", BACKENDS)
def test_elements_out_of_range_raise_at_run_time(backend: str) -> None:
    compiled = torch.compile(dihedral_rotate, fullgraph=True, backend="aot_eager")
    z = torch.randn(2, 1, 4, 4)
    for wrong in (8, -1):
        with pytest.raises((ValueError, IndexError), match=r"expected elements 0 .. 7|out of range"):
            compiled(z, torch.tensor([0, wrong]), backend=backend)


def test_vmap_inside_compile() -> None:
    z, k = torch.randn(4, 2, 3, 5, 5), torch.randint(4, (4, 2))
    compiled = torch.compile(torch.vmap(rot90), fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(z, k), torch.vmap(rot90)(z, k))


class Turn(torch.nn.Module):
    def forward(self, z: Tensor, k: Tensor) -> Tensor:
        return rot90(z, k)


@pytest.mark.parametrize("strict", [False, True])
def test_export(strict: bool) -> None:
    batch = torch.export.Dim("batch", min=2, max=64)
    example = (torch.randn(3, 2, 6, 6), torch.tensor([1, 2, 3]))
    program = torch.export.export(Turn(), example, dynamic_shapes=({0: batch}, {0: batch}), strict=strict)
    assert OPERATOR in [node.target for node in program.graph.nodes if node.op == "call_function"]
    z, k = torch.randn(5, 2, 6, 6), torch.randint(-9, 9, (5,))
    assert torch.equal(program.module()(z, k), rot90(z, k))


def test_fake_tensors_and_make_fx() -> None:
    with FakeTensorMode():
        z = torch.empty(2, 3, 4, 4, requires_grad=True)
        out = rot90(z, torch.zeros(2, dtype=torch.int64))
        assert out.shape == (2, 3, 4, 4)
        assert torch.autograd.grad(out.sum(), z)[0].shape == z.shape
        assert rot90(torch.empty(2, 3, 4, 6), 1).shape == (2, 3, 6, 4)
    z, k = torch.randn(2, 3, 4, 4), torch.tensor([1, 2])
    graph = make_fx(lambda z, k: rot90(z, k))(z, k)
    assert torch.equal(graph(z * 2, k), rot90(z * 2, k))


# --- forward mode: an error, never zeros ---------------------------------------------------------


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_dual_numbers_handed_to_a_compiled_function_raise(backend: str) -> None:
    z, k = torch.randn(2, 3, 4, 4), torch.tensor([1, 2])
    compiled = torch.compile(rot90, fullgraph=True, backend=backend)
    with (
        forward_ad.dual_level(),
        pytest.raises(NotImplementedError, match="forward-mode differentiation is not supported"),
    ):
        compiled(forward_ad.make_dual(z, z), k)


def test_jvp_inside_a_compiled_function_raises() -> None:
    z, k = torch.randn(2, 3, 4, 4), torch.tensor([1, 2])

    def derivative(z: Tensor) -> Tensor:
        return torch.func.jvp(lambda x: rot90(x, k), (z,), (z,))[1]

    with pytest.raises(Exception, match="forward-mode differentiation is not supported"):
        torch.compile(derivative, fullgraph=True, backend="aot_eager")(z)


def test_func_grad_inside_a_compiled_function_raises() -> None:
    z, k = torch.randn(2, 3, 4, 4), torch.tensor([1, 2])

    def derivative(z: Tensor) -> Tensor:
        return torch.func.grad(lambda x: rot90(x, k).sum())(z)

    with pytest.raises(Exception, match="autograd"):
        torch.compile(derivative, fullgraph=True, backend="aot_eager")(z)
