"""schur_linear: every plan is the linear map with the projected weight."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch.nn import functional

from equikernels.ops import schur_linear
from equikernels.ops.linear import PLANS, Tiles, analyse_weight, count_plans
from equikernels.project import EquivariantProjector, LearnableSmooth
from tests.ops.linear.samples import CUTOFFS, REPRESENTATIONS, block_projection, draw, projector


def coordinates(w: torch.Tensor, name: str, cutoff: str) -> torch.Tensor:
    projection = block_projection(name, cutoff)
    return analyse_weight(w, projection.out.basis, projection.inn.basis)


@pytest.mark.parametrize("cutoff", CUTOFFS)
@pytest.mark.parametrize("name", REPRESENTATIONS)
def test_plans_are_the_projected_linear_map(name: str, cutoff: str) -> None:
    x, w, bias = draw(*REPRESENTATIONS[name])
    expected = functional.linear(x, projector(name, cutoff)(w), bias)
    for parameter in ("raw", "schur"):
        given = w if parameter == "raw" else coordinates(w, name, cutoff)
        for plan in (*PLANS, "auto"):
            y = schur_linear(
                x, given, bias, projection=block_projection(name, cutoff), parameter=parameter, plan=plan
            )
            torch.testing.assert_close(y, expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("cutoff", ["strict", "soft"])
@pytest.mark.parametrize("name", REPRESENTATIONS)
def test_gradients_of_the_raw_weight_are_the_same_in_every_plan(name: str, cutoff: str) -> None:
    inputs = [t.requires_grad_() for t in draw(*REPRESENTATIONS[name])]
    x, w, bias = inputs
    y = functional.linear(x, projector(name, cutoff)(w), bias)
    cotangent = torch.randn(y.shape, dtype=y.dtype, generator=torch.Generator().manual_seed(1))
    expected = torch.autograd.grad(y, inputs, cotangent)
    for plan in PLANS:
        y = schur_linear(x, w, bias, projection=block_projection(name, cutoff), plan=plan)
        found = torch.autograd.grad(y, inputs, cotangent)
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("name", ["mixed frequencies", "C_8 regular", "SO(3)"])
def test_derivatives_of_the_second_order(name: str, plan: str) -> None:
    x, w, _ = draw(*REPRESENTATIONS[name], channels_in=1, channels_out=1)
    x = x[0, :2]
    projection = block_projection(name, "soft" if name != "SO(3)" else "strict")

    def f(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return schur_linear(x, w, projection=projection, plan=plan)

    inputs = x.requires_grad_(), w.requires_grad_()
    assert torch.autograd.gradcheck(f, inputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(f, inputs, fast_mode=True)


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("name", ["spectral grid", "C_8 regular"])
def test_function_transforms(name: str, plan: str) -> None:
    x, w, bias = draw(*REPRESENTATIONS[name])
    projection, dense = block_projection(name, "strict"), projector(name, "strict")

    def f(w: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return schur_linear(x, w, bias, projection=projection, plan=plan)

    def expected(w: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return functional.linear(x, dense(w), bias)

    direction = torch.randn(w.shape, dtype=w.dtype, generator=torch.Generator().manual_seed(2))
    both = torch.stack([w, direction])

    def results(g: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> list[torch.Tensor]:
        gradient = torch.func.grad(lambda w, x: g(w, x).square().sum())
        return [
            gradient(w, x),
            torch.func.jvp(lambda w: g(w, x), (w,), (direction,))[1],
            torch.func.vmap(g, (0, None))(both, x),
            torch.func.vmap(gradient, (0, 0))(both, x),
        ]

    torch.testing.assert_close(results(f), results(expected))


@pytest.mark.parametrize("plan", PLANS)
def test_compiles_whole(plan: str) -> None:
    x, w, bias = draw(*REPRESENTATIONS["C_8 regular"])
    projection = block_projection("C_8 regular", "strict")

    def f(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return schur_linear(x, w, bias, projection=projection, plan=plan)

    f(x, w)
    torch._dynamo.reset()
    compiled = torch.compile(f, backend="aot_eager", fullgraph=True)
    w.requires_grad_()
    torch.testing.assert_close(compiled(x, w), f(x, w))
    grads = [torch.autograd.grad(g(x, w).square().sum(), w)[0] for g in (compiled, f)]
    torch.testing.assert_close(*grads)


def test_single_precision_and_batches_of_any_shape() -> None:
    x, w, bias = draw(*REPRESENTATIONS["spectral grid"])
    projection = block_projection("spectral grid", "strict")
    for plan in PLANS:
        expected = schur_linear(x, w, bias, projection=projection, plan=plan)
        single = schur_linear(x.float(), w.float(), bias.float(), projection=projection, plan=plan)
        torch.testing.assert_close(single.double(), expected, rtol=1e-4, atol=1e-4)
        one = schur_linear(x[0, 0], w, bias, projection=projection, plan=plan)
        torch.testing.assert_close(one, expected[0, 0])
        assert schur_linear(x[:0], w, bias, projection=projection, plan=plan).shape == (
            0,
            *expected.shape[1:],
        )
        spread = x.transpose(0, 1).contiguous().transpose(0, 1)
        torch.testing.assert_close(schur_linear(spread, w, bias, projection=projection, plan=plan), expected)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("parameter", ["raw", "schur"])
def test_weights_that_are_not_finite_show(parameter: str, plan: str, value: float) -> None:
    """Every entry, of those too that the cut-off removes."""
    x, w, bias = draw(*REPRESENTATIONS["C_8 regular"], channels_in=1, channels_out=1)
    projection = block_projection("C_8 regular", "strict")
    given = w if parameter == "raw" else coordinates(w, "C_8 regular", "strict")
    for row, column in ((0, 0), (0, 5), (7, 1), (3, 4)):
        broken = given.clone()
        broken[row, column] = value
        y = schur_linear(x, broken, bias, projection=projection, parameter=parameter, plan=plan)
        assert not bool(torch.isfinite(y).all())


def test_strict_maps_multiply_what_commutes_alone() -> None:
    """C_8 has two real and three complex irreps; between vectors of SO(3) are multiples of one matrix."""
    fields = 64
    regular = Tiles(block_projection("C_8 regular", "strict"), fields, fields)
    assert regular.multiplications == fields**2 * (1 + 3 * 4 + 1)
    assert sorted(regular.shapes) == [(fields, fields)] * 2 + [(2 * fields, 2 * fields)] * 3
    vectors = Tiles(block_projection("SO(3)", "strict"), 1, 1)  # 2 x [1] + [0] to [2] + [1]
    assert vectors.multiplications == 3 * 1 * 2
    assert [tile.repeats for tile in vectors.tiles] == [3]


def test_a_hard_cutoff_leaves_a_band() -> None:
    """On sorted frequencies |a - b| < cut-off: products of neighbouring types are joined."""
    projection = block_projection("spectral grid", "hard")
    tiles = Tiles(projection, 2, 3)
    assert tiles.multiplications < 0.6 * projection.out.dim * projection.inn.dim * 6
    rows = [rows for _, rows, _ in tiles.parts]
    assert len(rows) == len({run.start for run in rows})  # one product for each output frequency
    assert max(columns.stop - columns.start for _, _, columns in tiles.parts) > max(
        run.stop - run.start for run in tiles.inn.runs
    )


def test_the_plan_is_the_smallest_count() -> None:
    projection = block_projection("spectral grid", "strict")
    tiles = Tiles(projection, 16, 16)
    small = count_plans(projection, 16, 16, 4, training=True, tiles=tiles)
    assert small.multiplications["schur"] < small.multiplications["weights"]
    assert small.name == min(small.multiplications, key=small.multiplications.__getitem__)
    frozen = count_plans(projection, 16, 16, 4, training=False)
    assert frozen.name == "weights"
    assert set(frozen.multiplications) == {"weights", "schur"}
    assert frozen.multiplications["weights"] == 4 * 16 * 16 * projection.out.dim * projection.inn.dim
    assert "million multiplications" in str(small)


def test_a_trained_cutoff_has_gradients_and_no_list_of_weights() -> None:
    rep = REPRESENTATIONS["mixed frequencies"][0]
    cutoff = LearnableSmooth(0.7, 0.4)
    dense = EquivariantProjector(rep, rep, cutoff)
    projection = dense.block_projection
    assert projection is not None
    x, w, _ = draw(rep, rep)
    parameters = list(cutoff.parameters())
    expected = torch.autograd.grad(functional.linear(x, dense(w)).square().sum(), parameters)
    for plan in ("weights", "schur"):
        y = schur_linear(x, w, projection=projection, plan=plan)
        torch.testing.assert_close(torch.autograd.grad(y.square().sum(), parameters), expected)
    with pytest.raises(ValueError, match="constant factors"):
        schur_linear(x, w, projection=projection, plan="structured")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"w": torch.zeros(7, 16)}, r"w: expected \(C_out \* 8, C_in \* 8\)"),
        ({"w": torch.zeros(0, 16)}, "w: expected"),
        ({"x": torch.zeros(3, 8)}, r"x: expected \(\.\.\., 16\)"),
        ({"bias": torch.zeros(8)}, r"bias: expected \(24,\)"),
        ({"plan": "fast"}, "plan: expected auto, weights"),
        ({"parameter": "fourier"}, "parameter: expected"),
    ],
)
def test_bad_input_is_named(change: dict[str, object], message: str) -> None:
    x, w, bias = draw(*REPRESENTATIONS["C_8 regular"])
    arguments = {"x": x, "w": w, "bias": bias} | change
    with pytest.raises(ValueError, match=message):
        schur_linear(**arguments, projection=block_projection("C_8 regular", "strict"))


def test_types_must_hold_every_coordinate_once() -> None:
    from equikernels.ops.linear import Side

    basis = block_projection("C_8 regular", "strict").out.basis
    with pytest.raises(ValueError, match="every one of the 8 coordinates once"):
        Side(basis, (np.array([[0, 1, 2, 3, 4, 5, 6]]),))


@pytest.mark.parametrize("plan", PLANS)
def test_memory_may_lie_as_it_likes(plan: str) -> None:
    x, w, bias = draw(*REPRESENTATIONS["spectral grid"])
    projection = block_projection("spectral grid", "strict")
    expected = schur_linear(x, w, bias, projection=projection, plan=plan)
    for spread in (w.mT.contiguous().mT, torch.stack([w, w], dim=-1)[..., 0]):
        y = schur_linear(x, spread, bias, projection=projection, plan=plan, parameter="raw")
        torch.testing.assert_close(y, expected)
    inner = coordinates(w, "spectral grid", "strict").mT.contiguous().mT.requires_grad_()
    y = schur_linear(x, inner, bias, projection=projection, plan=plan, parameter="schur")
    torch.testing.assert_close(y, expected)
    # What sum().backward() sends has strides of zero.
    y.sum().backward()
    assert inner.grad is not None


@pytest.mark.gpu
@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("name", REPRESENTATIONS)
def test_a_gpu_computes_the_same(name: str, plan: str) -> None:
    x, w, bias = draw(*REPRESENTATIONS[name])
    projection = block_projection(name, "strict")
    expected = schur_linear(x, w, bias, projection=projection, plan=plan)
    inputs = [t.cuda().requires_grad_() for t in (x, w, bias)]
    y = schur_linear(*inputs, projection=projection, plan=plan)
    torch.testing.assert_close(y.cpu(), expected, rtol=1e-9, atol=1e-9)
    found = torch.autograd.grad(y.square().sum(), inputs)
    here = [t.requires_grad_() for t in (x, w, bias)]
    again = schur_linear(*here, projection=projection, plan=plan)
    wanted = torch.autograd.grad(again.square().sum(), here)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one.cpu(), other, rtol=1e-9, atol=1e-9)
