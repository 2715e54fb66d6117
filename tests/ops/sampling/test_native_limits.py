"""The C++ kernels at the limits: infinities, enormous numbers, largest and empty images, wrong numbers."""

from __future__ import annotations

import pytest
import torch

from equikernels.ops import _native
from equikernels.ops.sampling import native
from tests.ops.sampling.samples import SMALL, every_combination, random_case, value_tolerance
from tests.ops.sampling.test_native import no_directions, random_directions, run


@every_combination
def test_a_map_that_is_not_finite_makes_its_sample_nan(dims: int, mode: str, padding: str) -> None:
    z, matrix, grad = random_case(SMALL[dims], torch.float32)
    z, matrix, grad = (torch.cat([x, x]) for x in (z, matrix, grad))
    expected = run(z, matrix, grad, no_directions(matrix), mode, padding)
    bad = {0: torch.nan, 2: torch.inf, 3: -torch.inf}
    for sample, value in bad.items():
        matrix[sample].view(-1)[sample] = value
    for k in (0, 1, 9):
        results = run(z, matrix, grad, random_directions(matrix, k), mode, padding)
        for x, plain in zip(results, expected, strict=True):
            assert x[list(bad)].isnan().all()
            if k == 0:
                assert torch.equal(x[1], plain[1])


ENORMOUS = (3e38, -3e38, 1e30, 2.0**63, -(2.0**63), 2.0**31, -(2.0**31), 2.0**24, 1e10, -5e5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@every_combination
def test_enormous_maps(dims: int, mode: str, padding: str, dtype: torch.dtype) -> None:
    shape = (len(ENORMOUS), 2, *SMALL[dims][2:])
    z, matrix, grad = random_case(shape, dtype)
    z = z.abs() + 1
    largest = torch.tensor(ENORMOUS, dtype=dtype) * (1.0 if dtype == torch.float32 else 1e269)
    for entries in ([dims], [0], [0, 1], list(range(dims + 1))):
        matrix = torch.eye(dims, dims + 1, dtype=dtype).repeat(len(ENORMOUS), 1, 1)
        matrix[:, :, entries] = largest[:, None, None]
        out, z_grad, matrix_grad = run(z, matrix, grad, no_directions(matrix), mode, padding)
        assert all(x.isfinite().all() for x in (out, z_grad, matrix_grad))
        if entries == [dims]:
            # Every place is far out.
            if padding == "zeros":
                assert not any(x.any() for x in (out, z_grad, matrix_grad))
            if padding == "border":
                pixels = z.flatten(2)
                corner = torch.where((largest > 0)[:, None, None], pixels[..., -1:], pixels[..., :1])
                rtol = 64 * torch.finfo(dtype).eps
                torch.testing.assert_close(out.flatten(2), corner.expand_as(pixels), rtol=rtol, atol=0)
        if mode == "nearest" and padding != "zeros":
            assert set(out.flatten().tolist()) <= set(z.flatten().tolist())
        if mode == "bilinear" and padding != "zeros":
            eps = 16 * torch.finfo(dtype).eps
            assert out.min() >= z.min() * (1 - eps)
            assert out.max() <= z.max() * (1 + eps)


@every_combination
def test_nothing_outside_is_read(dims: int, mode: str, padding: str) -> None:
    """An infinity at the edge stays with the pixels that read it, also in gradients."""
    shape = (1, 2, 9, 37) if dims == 2 else (1, 2, 5, 6, 19)
    z, matrix, grad = random_case(shape, torch.float32)
    matrix = torch.eye(dims, dims + 1).repeat(1, 1, 1)
    # Half the image comes from beyond the last column.
    matrix[:, 0, dims] = shape[-1] // 2 + 0.25
    z[..., 0] = torch.inf
    out, z_grad, matrix_grad = run(z, matrix, grad, no_directions(matrix), mode, padding)
    if padding != "reflection":
        assert out.isfinite().all()
        assert matrix_grad.isfinite().all()
    assert z_grad.isfinite().all()
    # The same for the gradient: what an infinite one adds to.
    grad[..., -1] = torch.inf
    assert native.adjoint(grad, matrix, no_directions(matrix), mode, "zeros").isfinite().all()


def test_largest_images() -> None:
    for shape in ((1, 1, 4096, 4096), (1, 2, 4096, 3), (1, 1, 1, 4096), (1, 1, 3, 5, 4096)):
        z, matrix, _ = random_case(shape, torch.float32, gentle=True)
        exact = native.apply(
            z.double(), matrix.double(), no_directions(matrix.double()), "bilinear", "border"
        )
        ours = native.apply(z, matrix, no_directions(matrix), "bilinear", "border")
        assert (ours - exact).abs().max() < value_tolerance(shape, torch.float32, matrix, "bilinear")


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((1, 2**23, 1), "at most 4194304 pixels a side, got 1 x 8388608 x 1"),
        ((1, 1, 2**23), "at most 4194304 pixels a side, got 1 x 1 x 8388608"),
        ((1, 2**16, 2**16), "fewer than 2147483648 pixels, got 1 x 65536 x 65536"),
        ((2**11, 2**11, 2**11), "fewer than 2147483648 pixels, got 2048 x 2048 x 2048"),
        ((2**22, 2**22, 2**22), "fewer than 2147483648 pixels, got 4194304 x 4194304 x 4194304"),
    ],
    ids=str,
)
def test_images_beyond_the_largest_are_refused(sizes: tuple[int, ...], message: str) -> None:
    # Without the memory: the addresses are not looked at before the sizes.
    dims, none = 2 if sizes[0] == 1 else 3, (0,) * 5
    with pytest.raises(ValueError, match=f"^z: expected {message}$"):
        _native.sample_apply(0, dims, 2, 0, 1, (1, 1, *sizes), 0, none, 0, (0,) * 3, 0, (0,) * 4, 0, 0)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ((4, 2, 2, 0), "storage: expected 0 to 3, got 4"),
        ((0, 1, 2, 0), "dims: expected 2 or 3, got 1"),
        ((0, 3, 4, 0), "taps: expected 1, 2, or in two dimensions 4, got 4"),
        ((0, 2, 3, 0), "taps: expected 1, 2, or in two dimensions 4, got 3"),
        ((0, 2, 2, 3), "padding: expected 0 to 2, got 3"),
    ],
    ids=str,
)
def test_wrong_numbers_are_refused(wrong: tuple[int, ...], message: str) -> None:
    none = (0,) * 5
    with pytest.raises(ValueError, match=f"^{message}$"):
        _native.sample_apply(*wrong, 1, (1, 1, 1, 2, 2), 0, none, 0, (0,) * 3, 0, (0,) * 4, 0, 0)


@pytest.mark.parametrize(
    "shape", [(0, 2, 3, 4), (2, 0, 3, 4), (2, 2, 0, 4), (2, 2, 3, 0), (2, 2, 0, 3, 4)], ids=str
)
def test_empty(shape: tuple[int, ...]) -> None:
    matrix = torch.ones(shape[0], len(shape) - 2, len(shape) - 1)
    out, z_grad, matrix_grad = run(
        torch.zeros(shape), matrix, torch.zeros(shape), random_directions(matrix, 1), "bilinear", "border"
    )
    assert out.shape == z_grad.shape == shape
    assert torch.equal(matrix_grad, torch.zeros_like(matrix))
