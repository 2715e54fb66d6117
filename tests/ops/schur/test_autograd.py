"""Derivatives of every kind in eager mode: reverse, double, forward, transforms."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.autograd.forward_ad as forward_ad
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from equikernels.ops import SchurBlocks, schur_blocks, schur_project, schur_scale
from tests.ops.schur.samples import BACKENDS, eigenvalues, slab, spaced, weights

Sides = tuple[SchurBlocks, SchurBlocks]
Call = Callable[..., Tensor]

SIDES: dict[str, Sides] = {
    "neighbours": (schur_blocks(eigenvalues((2, 1))), schur_blocks(eigenvalues((1, 2), 1))),
    "at a distance": (schur_blocks(spaced("0++--", 2), 2), slab(1, 1)),
}
STRICT = {"rtol": 1e-12, "atol": 1e-12}


def arguments(sides: Sides, leading: tuple[int, ...] = (2,)) -> tuple[Tensor, Tensor, Tensor]:
    out, inn = sides
    tables = weights(2, len(out.sizes), len(inn.sizes), seed=5)
    return weights(*leading, out.size, inn.size, seed=4), tables[0], tables[1]


def scaling(sides: Sides, backend: str = "cpp") -> Call:
    return lambda w, same, opposite: schur_scale(w, same, opposite, *sides, backend=backend)


def smoothing(sides: Sides, backend: str = "cpp") -> Call:
    return lambda w, cutoff, width: schur_project(w, *sides, cutoff, width, backend=backend)


def response(sides: Sides) -> tuple[Tensor, Tensor, Tensor]:
    """Arguments of the smooth response: a cut-off that some distances are below and some above."""
    return (
        arguments(sides)[0],
        torch.tensor(0.7, dtype=torch.float64),
        torch.tensor(1.3, dtype=torch.float64),
    )


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("sides", SIDES.values(), ids=SIDES)
@pytest.mark.parametrize("make", [(scaling, arguments), (smoothing, response)], ids=["scale", "project"])
def test_gradcheck(
    make: tuple[Callable[..., Call], Callable[..., tuple[Tensor, ...]]], sides: Sides, backend: str
) -> None:
    call, given = make[0](sides, backend), make[1](sides)
    for x in given:
        x.requires_grad_()
    assert gradcheck(call, given, check_forward_ad=True, check_undefined_grad=True)
    # Through something that is not linear, or some second derivatives are zero whatever they are.
    cubed = lambda *x: call(*x) ** 3  # noqa: E731
    assert gradgradcheck(cubed, given, check_fwd_over_rev=True, check_rev_over_rev=True)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("width", [None, 0.5])
def test_gradcheck_with_numbers(width: float | None, backend: str) -> None:
    sides = SIDES["at a distance"]
    w = arguments(sides)[0].requires_grad_()
    call = lambda w: schur_project(w, *sides, 0.8, width, backend=backend)  # noqa: E731
    assert gradcheck(call, w, check_forward_ad=True, check_undefined_grad=True)
    assert gradgradcheck(lambda w: call(w) ** 3, w, check_fwd_over_rev=True)


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize("make", [(scaling, arguments), (smoothing, response)], ids=["scale", "project"])
def test_batched_gradients(make: tuple[Callable[..., Call], Callable[..., tuple[Tensor, ...]]]) -> None:
    """torch.autograd.grad(is_grads_batched=True), which uses an older vmap than torch.func."""
    sides = SIDES["neighbours"]
    given = tuple(x.requires_grad_() for x in make[1](sides))
    assert gradcheck(
        make[0](sides), given, check_forward_ad=True, check_batched_grad=True, check_batched_forward_grad=True
    )


@pytest.mark.parametrize("needs", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 0, 1), (0, 1, 1)], ids=str)
def test_any_subset_of_gradients(needs: tuple[int, int, int]) -> None:
    sides = SIDES["neighbours"]
    first, second = [], []
    for backend in BACKENDS:
        given = [x.requires_grad_(bool(need)) for x, need in zip(arguments(sides), needs, strict=True)]
        wanted = [x for x in given if x.requires_grad]
        first += [
            torch.autograd.grad(scaling(sides, backend)(*given).pow(3).sum(), wanted, create_graph=True)
        ]
        second += [torch.autograd.grad(sum(x.square().sum() for x in first[-1]), wanted)]
    for pair in (first, second):
        for x, y in zip(*pair, strict=True):
            torch.testing.assert_close(x, y, **STRICT)


def test_weights_are_kept_only_for_tables() -> None:
    sides = SIDES["neighbours"]
    w, same, opposite = arguments(sides, (7,))
    kept: list[tuple[int, ...]] = []

    def pack(x: Tensor) -> Tensor:
        kept.append(tuple(x.shape))
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        schur_project(w.requires_grad_(), *sides, 0.5)
        scaling(sides)(w, same, opposite)
        assert not any(7 in shape for shape in kept)
        scaling(sides)(w, same.requires_grad_(), opposite)
        assert any(7 in shape for shape in kept)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_dtypes_of_gradients(dtype: torch.dtype) -> None:
    sides = SIDES["neighbours"]
    w, same, opposite = arguments(sides, (3, 4))
    given = [x.requires_grad_() for x in (w.to(dtype), same.to(torch.float32), opposite)]
    grads = torch.autograd.grad(scaling(sides)(*given).sum(), given)
    assert [x.dtype for x in grads] == [dtype, torch.float32, torch.float64]
    exact = [x.detach().double().requires_grad_() for x in given]
    expected = torch.autograd.grad(scaling(sides, "reference")(*exact).sum(), exact)
    for x, y in zip(grads, expected, strict=True):
        torch.testing.assert_close(x.double(), y, rtol=4 * torch.finfo(dtype).eps, atol=1e-6)


def test_the_gradient_has_the_layout_of_the_weight() -> None:
    """A step of training copies nothing: the gradient of a view comes back as that view."""
    out, inn = slab(9, 1), slab(8, 2)
    weight = weights(3 * out.size, 4 * inn.size).requires_grad_()
    view = weight.view(3, out.size, 4, inn.size).transpose(1, 2)
    projected = schur_project(view, out, inn, 1.0)
    assert projected.stride() == view.stride()
    upstream = torch.randn_like(projected)
    (grad,) = torch.autograd.grad(projected, view, upstream)
    assert grad.stride() == view.stride()
    torch.testing.assert_close(grad, schur_project(upstream, out, inn, 1.0, backend="reference"), **STRICT)


def test_third_derivative() -> None:
    sides = SIDES["neighbours"]

    def third(backend: str) -> Tensor:
        w, cutoff, width = (x.requires_grad_() for x in response(sides))
        value = smoothing(sides, backend)(w, cutoff, width).pow(4).sum()
        for _ in range(3):
            (derivative,) = torch.autograd.grad(value, width, create_graph=True)
            value = derivative.sum()
        return value.detach()

    torch.testing.assert_close(third("cpp"), third("reference"), **STRICT)
    assert third("cpp").abs() > 0


def test_a_learned_cutoff_moves_the_right_way() -> None:
    """More is kept the larger the cut-off: hand-made derivative of one entry."""
    values = torch.tensor([0.0]), torch.tensor([3.0])
    cutoff, width = torch.tensor(1.0, requires_grad=True), torch.tensor(2.0, requires_grad=True)
    kept = schur_project(torch.ones(1, 1), *values, cutoff, width)
    kept.sum().backward()
    factor = torch.exp(torch.tensor(-1.0))
    torch.testing.assert_close(kept.item(), factor.item())
    torch.testing.assert_close(cutoff.grad, factor / 2)
    torch.testing.assert_close(width.grad, factor * (3 - 1) / 4)


@pytest.mark.parametrize("backend", BACKENDS)
def test_infinite_cutoff_in_a_tensor(backend: str) -> None:
    sides = SIDES["neighbours"]
    w, _, width = response(sides)
    cutoff = torch.tensor(torch.inf, requires_grad=True)
    kept = schur_project(w, *sides, cutoff, width.requires_grad_(), backend=backend)
    assert torch.equal(kept, w)
    assert [float(x) for x in torch.autograd.grad(kept.sum(), (cutoff, width))] == [0, 0]


def test_autocast_leaves_dtypes_alone() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        sides = SIDES["neighbours"]
        assert schur_project(arguments(sides)[0].float(), *sides, 1.0).dtype == torch.float32


# --- torch.func ---------------------------------------------------------------------------------


def loss(call: Call) -> Call:
    return lambda *x: (call(x[0].sin(), *x[1:]).pow(3) * torch.arange(1, 4)[:, None].to(x[0])).sum()


@pytest.mark.parametrize("make", [(scaling, arguments), (smoothing, response)], ids=["scale", "project"])
@pytest.mark.parametrize(
    "hessian",
    [
        torch.func.hessian,
        lambda f, argnums: torch.func.jacrev(torch.func.jacrev(f, argnums), argnums),
        lambda f, argnums: torch.func.jacfwd(torch.func.jacfwd(f, argnums), argnums),
        lambda f, argnums: torch.func.jacrev(torch.func.jacfwd(f, argnums), argnums),
    ],
    ids=["forward over reverse", "reverse twice", "forward twice", "reverse over forward"],
)
def test_hessians(
    hessian: Callable[..., Call], make: tuple[Callable[..., Call], Callable[..., tuple[Tensor, ...]]]
) -> None:
    sides = SIDES["neighbours"]
    given = make[1](sides)
    ours = hessian(loss(make[0](sides)), argnums=(0, 1, 2))(*given)
    expected = torch.autograd.functional.hessian(loss(make[0](sides, "reference")), given)
    for i in range(3):
        for j in range(3):
            torch.testing.assert_close(ours[i][j], expected[i][j], **STRICT)
            assert ours[i][j].abs().max() > 0


@pytest.mark.parametrize(
    "in_dims", [(0, None, None), (0, 0, 0), (None, 0, 0), (1, None, 0), (2, 1, None)], ids=str
)
def test_vmap(in_dims: tuple[int | None, ...]) -> None:
    sides = SIDES["neighbours"]
    given = [
        torch.stack([x, 2 * x, x.flip(0)], dim or 0) for x, dim in zip(arguments(sides), in_dims, strict=True)
    ]
    given = [x if dim is not None else x[0] for x, dim in zip(given, in_dims, strict=True)]
    many = torch.vmap(scaling(sides), in_dims=in_dims)(*given)
    for n in range(3):
        one = [x if dim is None else x.select(dim, n) for x, dim in zip(given, in_dims, strict=True)]
        torch.testing.assert_close(many[n], scaling(sides, "reference")(*one), **STRICT)
    # Gradients of each, for all at once.
    grads = torch.vmap(torch.func.grad(loss(scaling(sides)), (0, 1, 2)), in_dims=in_dims)(*given)
    expected = torch.vmap(torch.func.grad(loss(scaling(sides, "reference")), (0, 1, 2)), in_dims=in_dims)(
        *given
    )
    for x, y in zip(grads, expected, strict=True):
        torch.testing.assert_close(x, y, **STRICT)


def test_vmap_over_weights_and_cutoffs() -> None:
    sides = SIDES["at a distance"]
    w = arguments(sides, (4, 2))[0]
    numbers = torch.vmap(lambda x: schur_project(x, *sides, 0.8))(w)
    assert torch.equal(numbers, schur_project(w, *sides, 0.8))
    cutoffs = torch.linspace(0, 2, 4, dtype=torch.float64)
    many = torch.vmap(lambda c: schur_project(w, *sides, c, 0.5))(cutoffs)
    for n, cutoff in enumerate(cutoffs.tolist()):
        torch.testing.assert_close(many[n], schur_project(w, *sides, cutoff, 0.5), **STRICT)


def test_forward_mode_dual_numbers_without_transforms() -> None:
    sides = SIDES["neighbours"]
    w = arguments(sides)[0]
    with forward_ad.dual_level():
        out = forward_ad.unpack_dual(schur_project(forward_ad.make_dual(w, w.flip(0)), *sides, 0.8))
    assert torch.equal(out.tangent, schur_project(w.flip(0), *sides, 0.8))
