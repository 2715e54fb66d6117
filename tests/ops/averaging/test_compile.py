"""The traced operators: registration, torch.compile, export, fake tensors, and what must raise."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.autograd.forward_ad as forward_ad
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

from equikernels.ops import group_average
from equikernels.ops.averaging import IndexMaps, group_correlate
from tests.ops.averaging.samples import BACKENDS, MAPS, case

AVERAGE = torch.ops.equikernels.group_average.default
CORRELATE = torch.ops.equikernels.group_correlate.default


@pytest.fixture(autouse=True)
def fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
def test_opcheck(dtype: torch.dtype) -> None:
    w, weights, maps = case("S_3", (2, 3), dtype)
    weights = weights.to(torch.float64 if dtype == torch.float64 else torch.float32)[None]
    prepared = maps.on(w.device)
    # Layouts, and without blocks.
    others = (
        (w.mT.contiguous().mT[None], w[None, :0], w.transpose(0, 1)[None]) if dtype == torch.float64 else ()
    )
    for blocks in (w[None], *others):
        given, factors = blocks.detach().requires_grad_(), weights.clone().requires_grad_()
        torch.library.opcheck(AVERAGE, (given, factors, *prepared, "cpp"))
        torch.library.opcheck(CORRELATE, (given, given.detach().clone(), *prepared, "cpp"))


@pytest.mark.parametrize("backend", BACKENDS)
def test_forward_and_backward_with_changing_shapes(backend: str) -> None:
    maps = IndexMaps(*MAPS["C_4 3x3"])
    compiled = torch.compile(group_average, fullgraph=True, backend="aot_eager")
    for lead in ((2, 3), (4, 3), (7, 2)):
        w, weights, _ = case("C_4 3x3", lead, torch.float64)
        w.requires_grad_(), weights.requires_grad_()
        grad = torch.randn_like(w)
        out, expected = compiled(w, maps, weights, backend=backend), group_average(w, maps, weights)
        torch.testing.assert_close(out, expected)
        for ours, theirs in zip(
            *(torch.autograd.grad(x, (w, weights), grad) for x in (out, expected)), strict=True
        ):
            torch.testing.assert_close(ours, theirs)


def test_weight_of_a_layer_inside_a_larger_function() -> None:
    maps = IndexMaps(*MAPS["D_4 3x3"])

    def step(w: Tensor, weights: Tensor) -> Tensor:
        blocks = w.view(2, 9, 3, 9).transpose(1, 2)
        projected = group_average(blocks * 2, maps, weights.exp())
        return (
            projected.transpose(1, 2).reshape(w.shape).pow(2).sum() + group_correlate(blocks, blocks, maps)
        ).sum()

    w = torch.randn(18, 27, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(8, dtype=torch.float64, requires_grad=True)
    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    ours = torch.autograd.grad(compiled(w, weights), (w, weights))
    torch.testing.assert_close(ours, torch.autograd.grad(step(w, weights), (w, weights)))


def test_vmap_inside_compile() -> None:
    w, _, maps = case("S_3", (4,), torch.float64)
    many = torch.randn(5, maps.order, dtype=torch.float64)
    batched = torch.vmap(lambda c: group_average(w, maps, c))
    compiled = torch.compile(batched, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(many), batched(many))


class Project(torch.nn.Module):
    def __init__(self, maps: IndexMaps) -> None:
        super().__init__()
        self.maps = maps

    def forward(self, w: Tensor, weights: Tensor) -> Tensor:
        return group_average(w, self.maps, weights)


@pytest.mark.parametrize("strict", [False, True])
def test_export(strict: bool) -> None:
    w, weights, maps = case("S_3", (3, 2), torch.float64)
    shapes = ({0: torch.export.Dim("batch", min=2, max=64)}, None)
    program = torch.export.export(Project(maps), (w, weights), dynamic_shapes=shapes, strict=strict)
    assert AVERAGE in [node.target for node in program.graph.nodes if node.op == "call_function"]
    more = torch.randn(5, 2, *maps.shape, dtype=torch.float64)
    torch.testing.assert_close(program.module()(more, weights), group_average(more, maps, weights))


def test_fake_tensors_and_make_fx() -> None:
    w, weights, maps = case("S_3", (2, 3), torch.float64)
    graph = make_fx(lambda w, c: group_average(w, maps, c))(w, weights)
    assert torch.equal(graph(2 * w, weights), group_average(2 * w, maps, weights))
    with FakeTensorMode(allow_non_fake_inputs=True):
        fake = torch.empty(2, 3, *maps.shape, requires_grad=True)
        factors = torch.empty(maps.order, requires_grad=True)
        out = group_average(fake.mT.contiguous().mT, maps, factors)
        assert out.shape == fake.shape
        assert out.stride() == fake.mT.contiguous().mT.stride()
        assert [x.shape for x in torch.autograd.grad(out.sum(), (fake, factors))] == [
            fake.shape,
            factors.shape,
        ]


def test_what_was_traced_is_not_kept() -> None:
    maps, device = IndexMaps(*MAPS["S_3"]), torch.device("meta")
    with FakeTensorMode(allow_non_fake_inputs=True):
        assert type(maps.on(device)[0]) is not Tensor
    assert type(maps.on(device)[0]) is Tensor
    assert maps.on(device)[0] is maps.on(device)[0]


def test_forward_mode_inside_compile_raises() -> None:
    w, weights, maps = case("S_3", (2,), torch.float64)
    compiled = torch.compile(lambda w: group_average(w, maps, weights), backend="aot_eager")
    compiled(w)
    with (
        forward_ad.dual_level(),
        pytest.raises(Exception, match="forward-mode differentiation is not supported"),
    ):
        compiled(forward_ad.make_dual(w, torch.ones_like(w)))
