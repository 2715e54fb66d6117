"""Inside torch.compile: values, gradients, changing shapes, transforms, and what must raise."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
import torch.autograd.forward_ad as forward_ad
from torch import Tensor

from equikernels.ops import partition, partition_rotate
from tests.ops.partitioning.samples import WHAT, Case, call_of, differentiable, random_case

SHAPES = ((2, 3, 5, 5), (4, 3, 6, 5), (7, 2, 9, 8), (3, 5, 8, 12))
Call = Callable[..., Tensor | tuple[Tensor, ...]]


@pytest.fixture(autouse=True)
def fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def gradients(
    call: Call, case: Case, needs: tuple[bool, ...] = (True,) * 3, **options: object
) -> list[Tensor]:
    inputs = differentiable(case.inputs, needs)
    out = call(*inputs, case.target, **options)
    outputs = [out] if isinstance(out, Tensor) else list(out)
    weights = [case.grad if x.dim() else case.grad_i for x in outputs]
    assert [x.requires_grad for x in outputs[:1]] == [any(needs)]
    if not any(needs):
        return outputs
    reached = [(x, w) for x, w in zip(outputs, weights, strict=True) if x.requires_grad]
    needed = [x for x in inputs if x.requires_grad]
    roots, roots_grad = zip(*reached, strict=True)
    grads = torch.autograd.grad(roots, needed, roots_grad, allow_unused=True)
    return [*(x.detach() for x in outputs), *grads]


def check_equal(ours: list[Tensor], expected: list[Tensor]) -> None:
    for a, b in zip(ours, expected, strict=True):
        assert (a is None) == (b is None)
        if b is not None:
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dynamic", [None, True], ids=lambda value: f"dynamic={value}")
@pytest.mark.parametrize("what", WHAT)
def test_forward_and_backward_with_changing_shapes(what: str | None, dynamic: bool | None) -> None:
    call = call_of(what)
    compiled = torch.compile(call, fullgraph=True, backend="aot_eager", dynamic=dynamic)
    for shape in SHAPES:
        case = random_case(shape, torch.float32)
        check_equal(gradients(compiled, case), gradients(call, case, backend="cpp"))


@pytest.mark.parametrize(
    "needs", [(True, False, False), (False, True, False), (False, False, True), (False,) * 3]
)
@pytest.mark.parametrize("what", [None, "ste"])
def test_any_subset_of_inputs(what: str | None, needs: tuple[bool, ...]) -> None:
    call = call_of(what)
    case = random_case((2, 3, 6, 5), torch.float32)
    compiled = torch.compile(call, fullgraph=True, backend="aot_eager")
    check_equal(gradients(compiled, case, needs), gradients(call, case, needs))


@pytest.mark.parametrize("what", WHAT)
def test_reference_backend_compiles_too(what: str | None) -> None:
    call = call_of(what)
    case = random_case((2, 3, 5, 4), torch.float64)
    compiled = torch.compile(call, fullgraph=True, backend="aot_eager")
    check_equal(gradients(compiled, case, backend="reference"), gradients(call, case))


def test_inside_a_larger_function() -> None:
    """Logits as a model holds them, and a mask per sample computed from the latents."""

    def step(z: Tensor, theta: Tensor, logits: Tensor) -> Tensor:
        out, loss_i, loss_v = partition_rotate(z.exp(), theta, logits[None, :, None, None], target=z * 2)
        z_v, z_i = partition(out, out.mean((2, 3)))
        return (z_v.square() - z_i).mean() + loss_i + 2 * loss_v

    case = random_case((3, 4, 6, 6), torch.float64)
    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    grads = []
    for function in (compiled, step):
        inputs = differentiable(case.inputs)
        grads.append(torch.autograd.grad(function(*inputs), inputs))
    torch.testing.assert_close(*grads)


def test_vmap_inside_compile() -> None:
    cases = [random_case((2, 3, 5, 5), torch.float32, seed=seed) for seed in range(4)]
    stacks = [torch.stack(each) for each in zip(*(case[:4] for case in cases), strict=True)]

    def together(*inputs: Tensor) -> object:
        return torch.vmap(call_of("ste"))(*inputs)

    compiled = torch.compile(together, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(*stacks), together(*stacks))


# --- an error, never zeros ------------------------------------------------------------------------


@pytest.mark.parametrize("what", WHAT)
def test_second_derivative_of_a_compiled_function_raises(what: str | None) -> None:
    case = random_case((2, 3, 4, 5), torch.float64)
    inputs = differentiable(case.inputs)
    out = torch.compile(call_of(what), fullgraph=True, backend="aot_eager")(*inputs, case.target)
    loss = sum(x.square().sum() for x in ((out,) if isinstance(out, Tensor) else out))
    (slope,) = torch.autograd.grad(loss, inputs[0], create_graph=True)
    with pytest.raises(RuntimeError, match="double backward"):
        torch.autograd.grad(slope.square().sum(), inputs[2])


@pytest.mark.parametrize("what", ["partition", None, "ste"])
@pytest.mark.parametrize("compiler", ["eager", "aot_eager"])
def test_dual_numbers_handed_to_a_compiled_function_raise(compiler: str, what: str | None) -> None:
    case = random_case((2, 3, 4, 5), torch.float32)
    compiled = torch.compile(call_of(what), fullgraph=True, backend=compiler)
    with (
        forward_ad.dual_level(),
        pytest.raises(NotImplementedError, match="forward-mode differentiation is not supported"),
    ):
        compiled(forward_ad.make_dual(case.z, case.z), *case[1:4])


@pytest.mark.parametrize("what", ["partition", None, "ste"])
def test_jvp_and_grad_inside_a_compiled_function_raise(what: str | None) -> None:
    case = random_case((2, 3, 4, 5), torch.float32)

    def value(z: Tensor) -> Tensor:
        out = call_of(what)(z, *case[1:4])
        return out if isinstance(out, Tensor) else out[0]

    def tangent(z: Tensor) -> Tensor:
        return torch.func.jvp(value, (z,), (z,))[1]

    def slope(z: Tensor) -> Tensor:
        return torch.func.grad(lambda x: value(x).sum())(z)

    with pytest.raises(Exception, match="forward-mode differentiation is not supported"):
        torch.compile(tangent, fullgraph=True, backend="aot_eager")(case.z)
    with pytest.raises(Exception, match="autograd"):
        torch.compile(slope, fullgraph=True, backend="aot_eager")(case.z)


def test_inductor() -> None:
    """The real compiler, once: it takes seconds."""
    call = call_of("ste")
    case = random_case(SHAPES[0], torch.float32)
    compiled = torch.compile(call, fullgraph=True)
    check_equal(gradients(compiled, case), gradients(call, case, backend="cpp"))
