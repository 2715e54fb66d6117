"""The C++ kernels against the reference: values and gradients, every dtype and layout."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from equikernels.ops import affine_sample
from tests.ops.sampling.samples import (
    DTYPES,
    SHAPES,
    SMALL,
    compute_dtype,
    contributors,
    coordinate_error,
    distance_to_jumps,
    every_combination,
    matrix_tolerance,
    random_case,
    value_tolerance,
)


def gradients(
    z: Tensor, matrix: Tensor, grad: Tensor, mode: str, padding: str, backend: str
) -> tuple[Tensor, Tensor, Tensor]:
    z, matrix = z.detach().requires_grad_(), matrix.detach().requires_grad_()
    out = affine_sample(z, matrix, mode=mode, padding=padding, backend=backend)
    return (out.detach(), *torch.autograd.grad(out, (z, matrix), grad))


@every_combination
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_values_and_gradients(dims: int, mode: str, padding: str, dtype: torch.dtype) -> None:
    for seed, shape in enumerate(SHAPES[dims]):
        z, matrix, grad = random_case(shape, dtype, seed)
        # Two roundings of a coordinate may choose other taps: no gradient is sent there, and only "nearest"
        # has other values.
        jumps = distance_to_jumps(matrix, shape, mode) < 2 * coordinate_error(matrix, shape, dtype)
        assert jumps.float().mean() < 0.05
        grad = torch.where(jumps[:, None], 0, grad)
        ours, expected = (
            gradients(z, matrix, grad, mode, padding, backend) for backend in ("cpp", "reference")
        )
        assert [x.dtype for x in ours] == [dtype, dtype, compute_dtype(dtype)]
        assert all(x.is_contiguous() for x in ours)
        atol = value_tolerance(shape, dtype, matrix, mode)
        seen = ~jumps[:, None].expand(shape) if mode == "nearest" else torch.ones(shape, dtype=torch.bool)
        torch.testing.assert_close(ours[0][seen], expected[0][seen], rtol=0, atol=atol)
        reads = contributors(matrix, shape, mode, padding)
        torch.testing.assert_close(ours[1], expected[1], rtol=0, atol=reads * atol)
        atol = matrix_tolerance(shape, dtype, matrix, mode)
        torch.testing.assert_close(ours[2], expected[2], rtol=0, atol=atol)


def layouts(z: Tensor) -> dict[str, Tensor]:
    wide = torch.empty(*z.shape[:-1], 2 * z.shape[-1], dtype=z.dtype)[..., ::2]
    channels_last = torch.channels_last if z.dim() == 4 else torch.channels_last_3d
    return {
        "channels last": z.contiguous(memory_format=channels_last),
        "transposed": z.mT.contiguous().mT,
        "every second column": wide.copy_(z),
        "slices innermost": z.movedim(2, -1).contiguous().movedim(-1, 2),
        "sliced": torch.cat([z, z], 1)[:, : z.shape[1]],
        "negated lazily": torch.complex(torch.zeros_like(z), -z).conj().imag,
    }


@every_combination
@pytest.mark.parametrize("layout", list(layouts(torch.zeros(1, 1, 1, 1))))
def test_layouts(dims: int, mode: str, padding: str, layout: str) -> None:
    for shape in ((3, 4, 9, 14), (1, 2, 70, 17)) if dims == 2 else ((2, 3, 5, 9, 14),):
        z, matrix, grad = random_case(shape, torch.float32)
        expected = gradients(z, matrix, grad, mode, padding, "cpp")
        data, upstream = layouts(z)[layout], layouts(grad)[layout]
        assert torch.equal(data, z)
        maps = matrix.mT.contiguous().mT
        for ours, plain in zip(gradients(data, maps, upstream, mode, padding, "cpp"), expected, strict=True):
            assert torch.equal(ours, plain)
            assert ours.is_contiguous()


@every_combination
def test_expanded(dims: int, mode: str, padding: str) -> None:
    """What sum().backward() sends, one picture shared by a batch and its channels, one map for all."""
    shape = (3, *SMALL[dims][1:])
    z, matrix, _ = random_case(shape, torch.float32)
    z, matrix, ones = z[:1, :1].expand(shape), matrix[:1].expand(3, -1, -1), torch.ones(()).expand(shape)
    expected = gradients(z.clone(), matrix.clone(), ones.clone(), mode, padding, "cpp")
    for ours, plain in zip(gradients(z, matrix, ones, mode, padding, "cpp"), expected, strict=True):
        assert torch.equal(ours, plain)
