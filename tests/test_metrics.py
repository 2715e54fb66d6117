"""Metrics against plain statements of their definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import entropy

from equikernels import metrics
from equikernels.group import SO2
from equikernels.metrics import circular_correlation, equivariance_error

VECTORS = SO2().irrep(1)


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_equivariance_error_in_plain_loops() -> None:
    x, weight = drawn(3, 5, 2), drawn(2, 2, seed=1)
    angles = torch.tensor([0.4, 2.0], dtype=torch.float64)

    def f(v: torch.Tensor) -> torch.Tensor:
        return v @ weight.T

    expected = np.zeros((2, 3))
    for i, angle in enumerate(angles.tolist()):
        g = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        for j in range(3):
            rows = [g @ weight.numpy() @ v - weight.numpy() @ g @ v for v in x[j].numpy()]
            expected[i, j] = np.linalg.norm(rows)
    absolute = equivariance_error(f, x, VECTORS, VECTORS, angles, relative=False, reduction=None)
    assert np.allclose(absolute, expected, atol=1e-12)
    expected = expected / np.linalg.norm(x.numpy().reshape(3, -1), axis=1)
    assert np.allclose(equivariance_error(f, x, VECTORS, VECTORS, angles, reduction=None), expected)
    assert float(equivariance_error(f, x, VECTORS, VECTORS, angles)) == pytest.approx(expected.mean())
    largest = equivariance_error(f, x, VECTORS, VECTORS, iter(angles), reduction="max")
    assert float(largest) == pytest.approx(expected.max())


def test_equivariance_error_with_functions_and_many_channels() -> None:
    x = drawn(2, 1, 4, 4)

    def turn(k: int, images: torch.Tensor) -> torch.Tensor:
        return images.rot90(k, (-2, -1))

    assert equivariance_error(torch.relu, x, turn, turn, [0, 1, 2]) == 0
    assert equivariance_error(lambda z: z.cumsum(-1), x, turn, turn, [1]) > 0.1
    doubled = torch.cat([VECTORS(0.7, dtype=torch.float64)] * 2)
    v = drawn(3, 4)
    moved = metrics.apply_action(VECTORS, 0.7, v)
    assert torch.allclose(moved[:, 2:], v[:, 2:] @ doubled[:2].T, atol=1e-14)


def test_equivariance_error_of_zero_samples() -> None:
    x = torch.zeros(1, 2)
    assert equivariance_error(lambda v: v, x, VECTORS, VECTORS, [1.0]) == 0
    assert equivariance_error(lambda v: v + 1, x, VECTORS, VECTORS, [1.0]) == math.inf


def test_wrong_arguments() -> None:
    x = torch.ones(2, 2)
    with pytest.raises(ValueError, match='reduction: expected "mean", "max" or None, got \'sum\''):
        equivariance_error(torch.relu, x, VECTORS, VECTORS, [0.1], reduction="sum")
    with pytest.raises(ValueError, match="elements: expected at least one, got none"):
        equivariance_error(torch.relu, x, VECTORS, VECTORS, [])
    with pytest.raises(ValueError, match=r"x: expected samples .* got shape \(0, 2\)"):
        equivariance_error(torch.relu, x[:0], VECTORS, VECTORS, [0.1])
    with pytest.raises(ValueError, match="the last dimension must be a multiple of 2, got"):
        equivariance_error(torch.relu, torch.ones(2, 3), VECTORS, VECTORS, [0.1])
    with pytest.raises(ValueError, match=r"prediction, target: expected equal shapes, got \(2, 2\) and \(3,"):
        metrics.rmse(x, torch.ones(3, 2))
    with pytest.raises(ValueError, match=r"prediction: expected .* T >= 1 steps, got \(2, 0, 2\)"):
        metrics.average_displacement_error(torch.ones(2, 0, 2), torch.ones(2, 0, 2))
    with pytest.raises(ValueError, match="data_range: expected a number > 0, got 0"):
        metrics.psnr(x, x, 0)
    with pytest.raises(ValueError, match=r"a: expected angles \(N,\) with N >= 2"):
        circular_correlation(torch.zeros(1), torch.zeros(1))
    for shape, window in (((1, 1, 8, 12), 11), ((1, 1, 12, 12, 8), 11), ((1, 1, 4, 4), 5), ((12, 12), 11)):
        with pytest.raises(ValueError, match=rf"prediction: expected .* sides >= {window}, got"):
            metrics.ssim(torch.zeros(shape), torch.zeros(shape), window=window)
    with pytest.raises(ValueError, match="window: expected an odd number of pixels, got 4"):
        metrics.ssim(torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 8, 8), window=4)
    with pytest.raises(ValueError, match="moved_accuracy: expected a number >= 0, got -1"):
        metrics.combined_accuracy(1, -1)


def test_displacement_errors_are_means_over_time() -> None:
    prediction, target = drawn(3, 7, 2), drawn(3, 7, 2, seed=1)
    distances = [[math.dist(prediction[i, t], target[i, t]) for t in range(7)] for i in range(3)]
    assert float(metrics.average_displacement_error(prediction, target)) == pytest.approx(np.mean(distances))
    last = np.mean([row[-1] for row in distances])
    assert float(metrics.final_displacement_error(prediction, target)) == pytest.approx(last)
    assert float(metrics.trajectory_equivariance_error(prediction, target)) == pytest.approx(
        np.mean(distances)
    )
    # A sum over time would grow with the number of steps.
    twice = metrics.average_displacement_error(prediction.repeat(1, 2, 1), target.repeat(1, 2, 1))
    assert float(twice) == pytest.approx(np.mean(distances))


def test_combinations() -> None:
    # Published: mIoU 73.92 and aIoU 69.70 give cIoU 71.78; 74.78 and 71.61 give 73.18.
    assert metrics.combined_accuracy(73.92, 69.70) == pytest.approx(71.78, abs=0.005)
    assert metrics.combined_accuracy(74.78, 71.61) == pytest.approx(73.18, abs=0.005)
    assert metrics.combined_displacement_error(4.0, 5.0) == 4.5


def test_invariance_error_is_a_divergence_in_nats() -> None:
    a, b = drawn(6, 4), drawn(6, 4, seed=1)
    p, q = (torch.softmax(logits, -1).numpy() for logits in (a, b))
    assert float(metrics.invariance_error(a, b)) == pytest.approx(np.mean(entropy(p, q, axis=1)))
    assert float(metrics.invariance_error(a, a + 3)) == pytest.approx(0, abs=1e-14)


def test_images_against_scikit_image() -> None:
    similarity = pytest.importorskip("skimage.metrics").structural_similarity
    a, b = (torch.sigmoid(drawn(2, 3, 17, 14, seed=seed)) for seed in (0, 1))
    b = 0.7 * a + 0.3 * b
    for data_range in (1.0, 2.0):
        whole = [
            similarity(
                x.numpy(), y.numpy(), data_range=data_range, channel_axis=0,
                gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
            )
            for x, y in zip(a, b, strict=True)
        ]  # fmt: skip
        assert float(metrics.ssim(a, b, data_range)) == pytest.approx(np.mean(whole), abs=1e-10)
        per_image = [
            10 * math.log10(data_range**2 / float((x - y).square().mean())) for x, y in zip(a, b, strict=True)
        ]
        assert float(metrics.psnr(a, b, data_range)) == pytest.approx(np.mean(per_image), rel=1e-12)
    assert float(metrics.rmse(a, b)) == pytest.approx(math.sqrt(np.mean((a - b).numpy() ** 2)))


@pytest.mark.parametrize(("shape", "window"), [((9, 8), 7), ((12, 13), 11), ((9, 8, 7), 5)])
def test_similarity_in_smaller_windows_and_of_volumes(shape: tuple[int, ...], window: int) -> None:
    gaussian = pytest.importorskip("scipy.ndimage").gaussian_filter
    a, b = (torch.sigmoid(drawn(2, 3, *shape, seed=seed)) for seed in (0, 1))
    inside = (slice(window // 2, -(window // 2)),) * len(shape)
    whole = []
    for x, y in zip(a.flatten(0, 1).numpy(), b.flatten(0, 1).numpy(), strict=True):

        def mean(values: np.ndarray) -> np.ndarray:
            return gaussian(values, 1.5, radius=window // 2)[inside]

        m, n = mean(x), mean(y)
        luminance = (2 * m * n + 1e-4) / (m**2 + n**2 + 1e-4)
        contrast = (2 * (mean(x * y) - m * n) + 9e-4) / (mean(x**2) - m**2 + mean(y**2) - n**2 + 9e-4)
        whole.append((luminance * contrast).mean())
    assert float(metrics.ssim(a, b, window=window)) == pytest.approx(np.mean(whole), abs=1e-10)


def test_circular_correlation_in_complex_numbers() -> None:
    a = drawn(200)
    b = a + 0.5 * drawn(200, seed=1)
    z, w = np.exp(1j * a.numpy()), np.exp(1j * b.numpy())
    s = np.imag(z / np.mean(z) * abs(np.mean(z)))
    t = np.imag(w / np.mean(w) * abs(np.mean(w)))
    expected = np.sum(s * t) / math.sqrt(np.sum(s**2) * np.sum(t**2))
    assert float(circular_correlation(a, b)) == pytest.approx(expected)
    assert float(circular_correlation(a, b + 2.5)) == pytest.approx(expected)
    assert float(circular_correlation(a, -b)) == pytest.approx(-expected)


def test_circular_correlation_of_uniform_angles() -> None:
    a = torch.arange(360, dtype=torch.float64) * (2 * math.pi / 360) + 0.1 * drawn(360)
    same = float(circular_correlation(a, a + 1.7, uniform=True))
    assert same == pytest.approx(1, abs=0.03)
    assert float(circular_correlation(a, 0.4 - a, uniform=True)) == pytest.approx(-same, abs=0.03)
    scale = 2 * math.sqrt(np.mean(np.sin(_centred(a)) ** 2) * np.mean(np.sin(_centred(a + 1.7)) ** 2))
    difference = 1 - abs(np.mean(np.exp(1j * (2 * a.numpy() + 1.7))))
    assert same == pytest.approx(difference / scale)
    noise = 2 * math.pi * torch.rand(360, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    assert abs(float(circular_correlation(a, noise, uniform=True))) < 0.2


def _centred(angles: torch.Tensor) -> np.ndarray:
    z = np.exp(1j * angles.numpy())
    return np.angle(z / np.mean(z))
