"""The traced operators: registration, torch.compile, export, fake tensors, and what must raise."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.autograd.forward_ad as forward_ad
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

from equikernels.ops import schur_blocks, schur_project, schur_scale
from tests.ops.schur.samples import BACKENDS, eigenvalues, slab, weights

OUT, INN = schur_blocks(eigenvalues((2, 1, 2))), slab(9, 1)
PLACES = (OUT.layout.places, INN.layout.places)
MODES = (OUT.modes, INN.modes)
OPERATORS = torch.ops.equikernels


@pytest.fixture(autouse=True)
def fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def given(
    dtype: torch.dtype = torch.float64, leading: tuple[int, ...] = (2, 3)
) -> tuple[Tensor, Tensor, Tensor]:
    tables = weights(2, len(OUT.sizes), len(INN.sizes), seed=1)
    if dtype != torch.float64:
        tables = tables.float()
    return weights(*leading, OUT.size, INN.size).to(dtype), tables[0], tables[1]


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
def test_opcheck(dtype: torch.dtype) -> None:
    w, same, opposite = given(dtype)
    view = w.transpose(1, 2).reshape(2 * OUT.size, -1).view(2, OUT.size, 3, INN.size).transpose(1, 2)
    for x in (w, view, w.mT.contiguous().mT, w[:0]):
        for needs in (False, True):
            x = x.detach().requires_grad_(needs)
            numbers = (0.8, 0.5, 0.0, 0.0, "cpp")
            torch.library.opcheck(OPERATORS.schur_project.default, (x, *PLACES, *MODES, *numbers))
            tables = [t[None].clone().requires_grad_(needs) for t in (same, opposite)]
            torch.library.opcheck(OPERATORS.schur_scale.default, (x[None], *tables, *PLACES, "cpp"))
            counts = (len(OUT.sizes), len(INN.sizes), "cpp")
            pair = (x[None], (2 * x[None]).detach().requires_grad_(needs))
            torch.library.opcheck(OPERATORS.schur_inner.default, (*pair, *PLACES, *counts))


@pytest.mark.parametrize(
    ("dynamic", "backend"), [(None, "cpp"), (True, "cpp"), (False, "cpp"), (None, "reference")], ids=str
)
def test_numbers_with_changing_shapes(dynamic: bool | None, backend: str) -> None:
    def project(w: Tensor, cutoff: float, width: float | None) -> Tensor:
        return schur_project(w * 2, OUT, INN, cutoff, width, backend=backend) ** 2

    compiled = torch.compile(project, fullgraph=True, backend="aot_eager", dynamic=dynamic)
    for leading, cutoff, width in (
        ((2, 3), 0.5, None),
        ((4, 5), 0.7, None),
        ((7, 1), 0.7, 1.0),
        ((2, 2), torch.inf, 0.3),
    ):
        w = weights(*leading, OUT.size, INN.size).requires_grad_()
        ours, expected = compiled(w, cutoff, width), project(w, cutoff, width)
        assert torch.equal(ours, expected)
        assert torch.equal(*(torch.autograd.grad(x.sum(), w)[0] for x in (ours, expected)))


@pytest.mark.parametrize("backend", BACKENDS)
def test_tensors(backend: str) -> None:
    def both(w: Tensor, same: Tensor, opposite: Tensor, cutoff: Tensor, width: Tensor) -> Tensor:
        scaled = schur_scale(w, same, opposite, OUT, INN, backend=backend)
        return schur_project(scaled, OUT, INN, cutoff, width, backend=backend).pow(3)

    compiled = torch.compile(both, fullgraph=True, backend="aot_eager")
    for leading in ((2, 3), (4, 3)):
        numbers = torch.tensor(0.5), torch.tensor(0.8)
        arguments = [x.detach().requires_grad_() for x in (*given(torch.float32, leading), *numbers)]
        ours, expected = compiled(*arguments), both(*arguments)
        torch.testing.assert_close(ours, expected)
        gradients = [torch.autograd.grad(x.sum(), arguments) for x in (ours, expected)]
        torch.testing.assert_close(*gradients)


def test_views_of_a_weight() -> None:
    def layer(weight: Tensor, x: Tensor) -> Tensor:
        blocks = weight.view(2, OUT.size, 3, INN.size).transpose(1, 2)
        soft = schur_project(blocks, OUT, INN, 0.5, 0.5).transpose(1, 2).reshape(weight.shape)
        return torch.nn.functional.linear(x, soft)

    weight = weights(2 * OUT.size, 3 * INN.size).requires_grad_()
    x = weights(4, 3 * INN.size, seed=1)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    ours, expected = compiled(weight, x), layer(weight, x)
    assert torch.equal(ours, expected)
    assert torch.equal(*(torch.autograd.grad(y.pow(2).sum(), weight)[0] for y in (ours, expected)))


def test_vmap_inside_compile() -> None:
    w, same, opposite = given()

    def scale(w: Tensor, same: Tensor) -> Tensor:
        return schur_scale(w, same, opposite, OUT, INN)

    pair = w, torch.stack([same, -same])
    compiled = torch.compile(torch.vmap(scale), fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(*pair), torch.vmap(scale)(*pair))


class Projected(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.sides = OUT, INN

    def forward(self, w: Tensor, cutoff: Tensor) -> Tensor:
        return schur_project(w, *self.sides, 0.5) + schur_project(w, *self.sides, cutoff, 0.5)


@pytest.mark.parametrize("strict", [False, True])
def test_export(strict: bool) -> None:
    batch = torch.export.Dim("batch", min=2, max=64)
    example = weights(3, 2, OUT.size, INN.size), torch.tensor(0.5)
    program = torch.export.export(Projected(), example, dynamic_shapes=({0: batch}, {}), strict=strict)
    called = {node.target for node in program.graph.nodes if node.op == "call_function"}
    assert {OPERATORS.schur_project.default, OPERATORS.schur_scale.default} <= called
    w, cutoff = weights(5, 2, OUT.size, INN.size, seed=1), torch.tensor(0.9)
    assert torch.equal(program.module()(w, cutoff), Projected()(w, cutoff))


def test_fake_tensors_and_make_fx() -> None:
    # The constants are real tensors.
    with FakeTensorMode(allow_non_fake_inputs=True):
        w = torch.empty(2, OUT.size, INN.size, requires_grad=True)
        out = schur_project(w, OUT, INN, 0.5)
        assert out.shape == w.shape
        assert torch.autograd.grad(out.sum(), w)[0].shape == w.shape
    w = weights(2, OUT.size, INN.size)
    graph = make_fx(lambda w: schur_project(w, OUT, INN, 0.5))(w)
    assert torch.equal(graph(w * 2), schur_project(w * 2, OUT, INN, 0.5))


# --- forward mode: an error, never zeros ---------------------------------------------------------


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_dual_numbers_handed_to_a_compiled_function_raise(backend: str) -> None:
    compiled = torch.compile(lambda w: schur_project(w, OUT, INN, 0.5), fullgraph=True, backend=backend)
    w = weights(OUT.size, INN.size)
    with (
        forward_ad.dual_level(),
        pytest.raises(
            NotImplementedError, match="schur_project: forward-mode differentiation is not supported"
        ),
    ):
        compiled(forward_ad.make_dual(w, w))


def test_func_grad_inside_a_compiled_function_raises() -> None:
    def derivative(w: Tensor) -> Tensor:
        return torch.func.grad(lambda w: schur_project(w, OUT, INN, 0.5).sum())(w)

    with pytest.raises(Exception, match="autograd"):
        torch.compile(derivative, fullgraph=True, backend="aot_eager")(weights(OUT.size, INN.size))
