"""The operators as tracers see them: registration, export, fake tensors, make_fx, and what must raise."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

from equikernels.ops import partition, partition_rotate
from tests.ops.partitioning.samples import WHAT, Case, call_of, differentiable, random_case


def operator(name: str) -> torch._ops.OpOverload:
    return getattr(torch.ops.equikernels, name).default


def mask_of(case: Case) -> Tensor:
    return (case.logits > 0).to(case.theta.dtype).expand(case.z.shape[:2])


@pytest.mark.parametrize(
    ("batch", "layout", "needs_grad", "dtype"),
    [
        (2, torch.contiguous_format, True, torch.float64),
        (2, torch.channels_last, True, torch.bfloat16),
        (2, torch.channels_last, False, torch.float32),
        (0, torch.contiguous_format, False, torch.float32),
    ],
    ids=str,
)
def test_opcheck(batch: int, layout: torch.memory_format, needs_grad: bool, dtype: torch.dtype) -> None:
    case = random_case((batch, 3, 4, 5), dtype)
    z, target, grad = (x.contiguous(memory_format=layout) for x in (case.z, case.target, case.grad))
    of_sums = torch.linspace(0.5, 1, batch, dtype=case.theta.dtype)
    mask, theta = mask_of(case), case.theta
    leaves = [x.clone().requires_grad_(needs_grad) for x in (z, theta, mask)]
    pixels = leaves[0].detach().flatten(2).requires_grad_(needs_grad)
    check = torch.library.opcheck
    for images in (leaves[0], pixels):
        check(operator("split"), (images, leaves[2], 0.5, "cpp"))
    check(operator("masked_rotate"), (*leaves, "cpp"))
    check(operator("consistency"), (*leaves, target, "ste", "cpp"))
    # These have no derivative, which would be an error to take.
    flat = grad.flatten(2)
    for needs in ((True, True, True), (False, True, False)):
        given = (flat, flat, pixels.detach(), mask, needs[0], needs[2], 0.5, "cpp")
        check(operator("split_backward"), given)
        check(operator("masked_rotate_backward"), (grad, z, theta, mask, *needs, "cpp"))
        given = (grad, of_sums, of_sums, z, theta, mask, target, "counterfactual", *needs, "cpp")
        check(operator("consistency_backward"), given)


class Consistency(torch.nn.Module):
    def forward(self, z: Tensor, theta: Tensor, logits: Tensor, target: Tensor) -> tuple[Tensor, ...]:
        return (*partition(z, logits), *partition_rotate(z, theta, logits, target=target))


@pytest.mark.parametrize("strict", [False, True])
def test_export(strict: bool) -> None:
    batch = torch.export.Dim("batch", min=2, max=64)
    example = random_case((3, 2, 6, 5), torch.float32)[:4]
    shapes = ({0: batch}, {0: batch}, None, {0: batch})
    program = torch.export.export(Consistency(), example, dynamic_shapes=shapes, strict=strict)
    targets = [node.target for node in program.graph.nodes if node.op == "call_function"]
    assert operator("split") in targets
    assert operator("consistency") in targets
    inputs = random_case((5, 2, 6, 5), torch.float32, seed=1)[:4]
    torch.testing.assert_close(program.module()(*inputs), Consistency()(*inputs))


def test_fake_tensors_and_make_fx() -> None:
    with FakeTensorMode():
        z = torch.empty(2, 3, 4, 5, requires_grad=True)
        logits = torch.empty(3, requires_grad=True)
        out = partition_rotate(z, torch.empty(2), logits, target=torch.empty(2, 3, 4, 5))
        assert [x.shape for x in out] == [z.shape, (), ()]
        grads = torch.autograd.grad(sum(x.sum() for x in out), (z, logits))
        assert [x.shape for x in grads] == [z.shape, logits.shape]
        assert [x.shape for x in partition(z, logits)] == [z.shape] * 2
    case = random_case((2, 3, 4, 5), torch.float32)
    graph = make_fx(lambda *inputs: call_of("ste")(*inputs))(*case[:4])
    other = random_case((2, 3, 4, 5), torch.float32, seed=1)
    torch.testing.assert_close(graph(*other[:4]), call_of("ste")(*other[:4]))


# --- an error, never zeros ------------------------------------------------------------------------


@pytest.mark.parametrize("what", WHAT)
def test_second_derivative_in_a_tracer_raises(what: str | None) -> None:
    case = random_case((2, 3, 4, 5), torch.float64)

    def penalty(z: Tensor, theta: Tensor, logits: Tensor) -> Tensor:
        out = call_of(what)(z, theta, logits, case.target)
        loss = sum(x.square().sum() for x in ((out,) if isinstance(out, Tensor) else out))
        (slope,) = torch.autograd.grad(loss, z, create_graph=True)
        return torch.autograd.grad(slope.square().sum(), logits)[0]

    inputs = differentiable(case.inputs)
    assert penalty(*inputs).isfinite().all()
    with pytest.raises(NotImplementedError, match="a second derivative is not supported inside"):
        make_fx(penalty)(*inputs)
