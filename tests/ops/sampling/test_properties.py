"""Properties that hold for every shape and map, searched by hypothesis."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from equikernels.ops import affine_sample
from tests.ops.sampling.samples import (
    COMBINATIONS,
    coordinate_error,
    distance_to_jumps,
    random_case,
    value_tolerance,
)

combinations = st.sampled_from(COMBINATIONS)
seeds = st.integers(0, 2**31)
any_numbers = st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=12, max_size=12)


def draw_shape(data: st.DataObject, dims: int) -> tuple[int, ...]:
    longest = {2: 40, 3: 12}[dims]
    sizes = st.lists(st.integers(1, longest), min_size=dims, max_size=dims)
    return data.draw(st.integers(0, 3)), data.draw(st.integers(0, 5)), *data.draw(sizes)


def gradients(z: Tensor, matrix: Tensor, grad: Tensor, **options: str) -> tuple[Tensor, ...]:
    z, matrix = z.detach().requires_grad_(), matrix.detach().requires_grad_()
    out = affine_sample(z, matrix, **options)
    return out.detach(), *torch.autograd.grad(out, (z, matrix), grad)


@given(combinations, seeds, st.data())
def test_kernels_agree_with_the_reference(
    combination: tuple[int, str, str], seed: int, data: st.DataObject
) -> None:
    dims, mode, padding = combination
    shape = draw_shape(data, dims)
    z, matrix, _ = random_case(shape, torch.float64, seed)
    ours, expected = (
        affine_sample(z, matrix, mode=mode, padding=padding, backend=backend)
        for backend in ("cpp", "reference")
    )
    if mode == "nearest":
        seen = distance_to_jumps(matrix, shape, mode) > 2 * coordinate_error(matrix, shape, torch.float64)
        ours, expected = (torch.where(seen[:, None], x, 0) for x in (ours, expected))
    atol = value_tolerance(shape, torch.float64, matrix, mode)
    torch.testing.assert_close(ours, expected, rtol=0, atol=atol)


@given(combinations, seeds, any_numbers, st.sampled_from([torch.float32, torch.float16]), st.data())
def test_any_finite_map_is_safe(
    combination: tuple[int, str, str],
    seed: int,
    numbers: list[float],
    dtype: torch.dtype,
    data: st.DataObject,
) -> None:
    """Only pixels of the image are read: no value beyond them, whatever the coordinates."""
    dims, mode, padding = combination
    shape = draw_shape(data, dims)
    z, matrix, grad = random_case(shape, dtype, seed)
    matrix[:1] = torch.tensor(numbers[: dims * (dims + 1)]).view(dims, dims + 1)
    out, z_grad, _ = gradients(z, matrix, grad, mode=mode, padding=padding, backend="cpp")
    overflows = ~(matrix.abs() < 1e30).flatten(1).all(1)
    if padding == "zeros":
        assert out.isfinite().all()
    assert out[~overflows].isfinite().all()
    assert z_grad[~overflows].isfinite().all()
    seen = out[~out.isnan()]
    if len(seen):
        # The largest sum of absolute weights of the cubic kernel along an axis is 1.375.
        overshoot = 1.375**dims if mode == "bicubic" else 1.0
        assert seen.abs().max() <= overshoot * z.abs().max() * (1 + 4 * torch.finfo(dtype).eps)


@given(combinations, seeds, st.floats(-3, 3), st.data())
def test_linear_in_the_data(
    combination: tuple[int, str, str], seed: int, factor: float, data: st.DataObject
) -> None:
    dims, mode, padding = combination
    z, matrix, other = random_case(draw_shape(data, dims), torch.float64, seed)
    together, first, second = (
        affine_sample(x, matrix, mode=mode, padding=padding) for x in (z + factor * other, z, other)
    )
    # Sums of up to 16 terms of at most 8, and weights that add up to 1.9.
    atol = 32 * 16 * torch.finfo(torch.float64).eps
    torch.testing.assert_close(together, first + factor * second, rtol=0, atol=atol)
