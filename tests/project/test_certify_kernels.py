"""The norm of a convolution over all frequencies: never below what images feel, and close to it."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import conv2d, pad

from equikernels.group import CyclicGroup, DihedralGroup, Group
from equikernels.project import convolution_norm
from equikernels.project.certification.actions import turn_exactly
from equikernels.project.certification.frequency import operator_norm
from equikernels.testing.strategies import seeds

TIGHT = 1 / math.cos(math.pi / 16) ** 2 * (1 + 1e-8)
"""How far the bound may exceed the supremum: sixteen points for each degree, on two axes."""


def kernel(shape: tuple[int, ...], seed: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def on_a_grid(k: Tensor, points: int) -> float:
    """The largest singular value at equispaced frequencies, by a zero-padded Fourier transform."""
    f = torch.fft.fft2(k, s=tuple(1 if side == 1 else points for side in k.shape[2:]))
    return float(torch.linalg.matrix_norm(f.permute(2, 3, 0, 1), ord=2).max())


def norm_by_power_iteration(f, adjoint, shape: tuple[int, ...], seed: int, steps: int = 60) -> float:
    """A lower bound of the norm of a linear map, by the worst input that can be found."""
    x = kernel(shape, seed)
    for _ in range(steps):
        x = adjoint(f(x))
        if not bool(x.any()):
            return 0.0
        x = x / x.norm()
    return float(f(x).norm())


def linear_adjoint(f, shape: tuple[int, ...]):
    def adjoint(y: Tensor) -> Tensor:
        x = torch.zeros(shape, dtype=torch.float64, requires_grad=True)
        (gradient,) = torch.autograd.grad(f(x), x, y)
        return gradient

    return adjoint


sides = st.integers(1, 5)
channels = st.integers(1, 3)


@given(channels, channels, sides, sides, seeds)
@settings(max_examples=60)
def test_the_bound_lies_between_fine_grids_and_a_few_percent_above(o, i, h, w, seed) -> None:
    k = kernel((o, i, h, w), seed)
    bound, fine = convolution_norm(k), on_a_grid(k, 61)
    assert fine <= bound
    # 61 points miss the supremum by at most 1 / cos(pi d / 61) per axis, d <= 2.
    assert bound <= fine / math.cos(2 * math.pi / 61) ** 2 * TIGHT


@given(st.integers(2, 6), seeds, st.floats(0, 2 * math.pi))
@settings(max_examples=60)
def test_the_inequality_on_polynomials_that_hide_their_maximum(side, seed, angle) -> None:
    """Kernels whose modulus is largest halfway between the sample points of the grid."""
    d, count = (side - 1) / 2, math.ceil(3 * (side - 1) / 2)
    # cos(d (t - t0)) has modulus 1 at t0; half a grid step away no point sees it.
    waves = np.exp(-1j * np.array([0, side - 1]) * (math.pi / count))
    k = torch.zeros(1, 1, side, 1, dtype=torch.float64)
    k[0, 0, 0, 0], k[0, 0, -1, 0] = 0.5 * waves[0].real, 0.5 * waves[1].real
    noise = 0.1 * kernel((1, 1, side, 1), seed) * math.cos(angle)
    for candidate in (k, k + noise):
        fine = on_a_grid(candidate, 2048)
        assert fine <= convolution_norm(candidate, points=3) * (1 + 1e-12)
    assert d < count / 2


def test_the_factor_is_needed_and_attained() -> None:
    """The Fejer-free case: q(t) = cos(t) sampled at the points that miss its maxima by half a step each."""
    k = torch.tensor([0.5, 0.0, -0.5], dtype=torch.float64).reshape(1, 1, 3, 1)  # modulus |sin t|
    t = 2 * math.pi * torch.arange(6, dtype=torch.float64) / 6
    grid = float(t.sin().abs().max())
    assert grid == pytest.approx(math.cos(math.pi / 6))
    assert convolution_norm(k, points=6) == pytest.approx(1.0, abs=1e-8)
    with pytest.raises(ValueError, match="points must be >= 3"):
        convolution_norm(k, points=2)


@given(st.sampled_from([1, 2, 3]), st.integers(1, 5), st.integers(1, 3), st.integers(0, 3), seeds)
@settings(max_examples=40)
def test_zero_padding_strides_and_dilation_are_covered(groups, side, stride, padding, seed) -> None:
    k = kernel((3 * groups, 2, side, side), seed)
    shape = (1, 2 * groups, 7, 8)
    dilation = 1 + seed % 2
    if 7 + 2 * padding < dilation * (side - 1) + 1:
        return

    def f(x: Tensor) -> Tensor:
        return conv2d(x, k, None, stride, padding, dilation, groups)

    assert norm_by_power_iteration(f, linear_adjoint(f, shape), shape, seed, 20) <= convolution_norm(
        k, groups
    )


@pytest.mark.parametrize("circular", [False, True])
@pytest.mark.parametrize("side", [1, 2, 3, 5])
def test_large_images_attain_it(circular: bool, side: int) -> None:
    k = kernel((4, 3, side, side), side)
    shape = (1, 3, 32, 32)

    def f(x: Tensor) -> Tensor:
        if circular:
            x = pad(x, (0, side - 1, 0, side - 1), mode="circular")
            return conv2d(x, k)
        return conv2d(x, k, padding=side - 1)

    found = norm_by_power_iteration(f, linear_adjoint(f, shape), shape, 1, 200)
    bound = convolution_norm(k)
    # Circular images of 32 pixels feel every 32nd frequency; zero padding confines the worst wave a little.
    assert 0.9 * bound <= found <= bound


planar: st.SearchStrategy[Group] = st.sampled_from(
    [CyclicGroup(2), CyclicGroup(4), DihedralGroup(1), DihedralGroup(2), DihedralGroup(4)]
)


@given(planar, st.sampled_from([1, 3, 4, 5]), st.sampled_from(["zeros", "circular"]), seeds, st.data())
@settings(max_examples=60)
def test_turning_images_by_exact_elements(group, side, mode, seed, data) -> None:
    """|f(gx) - g f(x)| <= |F(g^-1 K - K)| |x| on random images and on the worst ones that can be found."""
    g = data.draw(st.sampled_from(group.elements().tolist()))
    k = kernel((2, 2, side, side), seed)
    size, p = 8, side // 2
    shape = (1, 2, size, size)

    def f(x: Tensor) -> Tensor:
        if mode == "circular" and side % 2:
            return conv2d(pad(x, (p,) * 4, mode="circular"), k)
        return conv2d(x, k, padding=p)

    def error(x: Tensor) -> Tensor:
        return f(turn_exactly(group, g, x)) - turn_exactly(group, g, f(x))

    difference = turn_exactly(group, group.inverse(g), k) - k
    bound = convolution_norm(difference)
    simple = side * float(difference.norm())
    assert bound <= simple * (1 + 1e-8)
    x = kernel(shape, seed + 1)
    worst = norm_by_power_iteration(error, linear_adjoint(error, shape), shape, seed + 2, 40)
    slack = 1e-12 * float(k.norm())
    assert float(error(x).norm()) <= bound * float(x.norm()) + slack
    assert worst <= bound + slack
    assert worst >= 0.5 * bound - slack


@given(st.integers(1, 3), st.integers(1, 3), seeds)
@settings(max_examples=20)
def test_groups_of_channels_are_apart(groups, side, seed) -> None:
    k = kernel((2 * groups, 3, side, side), seed)
    worst = max(convolution_norm(block) for block in k.split(2))
    assert convolution_norm(k, groups) <= worst * (1 + 1e-8)


def test_one_pixel_kernels_and_isotropic_ones_commute_exactly() -> None:
    assert convolution_norm(torch.zeros(2, 2, 3, 3)) == 0.0
    k = kernel((3, 2, 1, 1), 0)
    assert convolution_norm(turn_exactly(CyclicGroup(4), 1, k) - k) == 0.0
    assert convolution_norm(k) == pytest.approx(float(torch.linalg.matrix_norm(k[..., 0, 0], ord=2)))


@given(st.integers(1, 6), st.integers(1, 6), seeds, st.sampled_from([1e-150, 1e-12, 1.0, 1e12]))
def test_operator_norms(m, n, seed, scale) -> None:
    w = scale * kernel((2, m, n), seed)
    exact = torch.linalg.matrix_norm(w, ord=2)
    found = operator_norm(w)
    assert bool((found >= exact * (1 - 1e-14)).all())
    assert bool((found <= exact * (1 + 1e-8)).all())
