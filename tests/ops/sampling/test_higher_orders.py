"""The family of derivatives: along directions, transposed, and the orders at which they vanish."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from equikernels.ops.sampling import native
from tests.ops.sampling import derivatives
from tests.ops.sampling.samples import (
    SHAPES,
    SMALL,
    contributors,
    every_combination,
    generic_case,
    matrix_tolerance,
    random_case,
    value_tolerance,
)


@every_combination
@pytest.mark.parametrize("order", [0, 1, 2, 3])
def test_derivatives_of_higher_order(dims: int, mode: str, padding: str, order: int) -> None:
    """The four functions along random directions against nested forward mode through the reference."""
    for seed, shape in enumerate((SMALL[dims], SHAPES[dims][3])):
        z, matrix, grad = generic_case(shape, torch.float64, mode, seed)
        generator = torch.Generator().manual_seed(seed)
        directions = torch.rand(order, *matrix.shape, generator=generator, dtype=torch.float64) * 2 - 1
        options = (directions, mode, padding)
        atol = value_tolerance(shape, torch.float64, matrix, mode, order)
        expected = derivatives.apply(z, matrix, *options)
        torch.testing.assert_close(native.apply(z, matrix, *options), expected, rtol=0, atol=atol)
        expected = derivatives.adjoint(grad, matrix, *options)
        ours = native.adjoint(grad, matrix, *options)
        reads = contributors(matrix, shape, mode, padding)
        torch.testing.assert_close(ours, expected, rtol=0, atol=reads * atol)
        expected = derivatives.matrix_grad(grad, z, matrix, *options)
        atol = matrix_tolerance(shape, torch.float64, matrix, mode, order)
        torch.testing.assert_close(native.matrix_grad(grad, z, matrix, *options), expected, rtol=0, atol=atol)
        both = native.backward(grad, z, matrix, *options)
        torch.testing.assert_close(both[0], ours, rtol=0, atol=reads * atol)
        torch.testing.assert_close(both[1], expected, rtol=0, atol=atol)


# A product of polynomials, one for each axis, of degree 0, 1 or 3.
VANISHING = {("nearest", 2): 1, ("nearest", 3): 1, ("bilinear", 2): 3, ("bilinear", 3): 4, ("bicubic", 2): 7}


@every_combination
def test_orders_beyond_the_degree_vanish(dims: int, mode: str, padding: str) -> None:
    shape = SMALL[dims]
    z, matrix, grad = random_case(shape, torch.float64)
    last = VANISHING[mode, dims]
    directions = torch.rand(last, *matrix.shape, dtype=torch.float64) + 0.5
    for k in (last, last - 1):
        options = (directions[:k], mode, padding)
        results = (native.apply(z, matrix, *options), native.adjoint(grad, matrix, *options))
        assert [bool(x.any()) for x in results] == [k < last] * 2
        # The derivative by the matrix is one order further.
        assert bool(native.matrix_grad(grad, z, matrix, *options).any()) == (k + 1 < last)


@every_combination
def test_directions_of_any_strides(dims: int, mode: str, padding: str) -> None:
    z, matrix, grad = random_case(SMALL[dims], torch.float32)
    directions = torch.rand(dims + 1, dims, len(z), 2).permute(3, 2, 1, 0)
    functions: list[Callable[[Tensor], Tensor]] = [
        lambda d: native.apply(z, matrix, d, mode, padding),
        lambda d: native.adjoint(grad, matrix, d, mode, padding),
        lambda d: native.matrix_grad(grad, z, matrix, d, mode, padding),
    ]
    for f in functions:
        assert torch.equal(f(directions), f(directions.contiguous()))
        assert torch.equal(f(directions[:1].expand(2, -1, -1, -1)), f(directions[:1].repeat(2, 1, 1, 1)))


@every_combination
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("order", [0, 1])
def test_adjoint(dims: int, mode: str, padding: str, dtype: torch.dtype, order: int) -> None:
    """<g, F z> = <F^T g, z>, also where taps jump: both take the same taps with the same weights."""
    for seed, shape in enumerate(SHAPES[dims]):
        z, matrix, grad = random_case(shape, dtype, seed)
        directions = torch.rand(order, *matrix.shape).to(matrix.dtype)
        ours = (native.apply(z, matrix, directions, mode, padding).double() * grad.double()).sum()
        theirs = (native.adjoint(grad, matrix, directions, mode, padding).double() * z.double()).sum()
        # Every product <= 4 times the weights and steps, and rounded by what a value and its sum are.
        reads = contributors(matrix, shape, mode, padding)
        unmoved = value_tolerance(shape, dtype, torch.zeros_like(matrix), mode, order)
        assert abs(float(ours - theirs)) <= 2 * z.numel() * (1 + reads) * unmoved
