"""Random changes of batches: what they do, and that each sample's is its own."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor

from equikernels.models.data import SampleDraws
from equikernels.models.data.transforms import (
    center_crop,
    pad_to,
    paint_square,
    random_crop,
    random_flip,
    random_rotation,
    random_rotation3d,
    random_shift,
    random_square,
)
from equikernels.ops import rotate, rotate3d

FALSE_ALARM = 1e-6

PLANAR: dict[str, Callable[..., tuple[Tensor, Tensor]]] = {
    "rotation": random_rotation,
    "quarter turns": lambda *args, **options: random_rotation(*args, order=4, **options),
    "turns by 60 degrees": lambda *args, **options: random_rotation(*args, order=6, **options),
    "shift": lambda *args, **options: random_shift(*args, 3.0, **options),
    "normal shift": lambda *args, **options: random_shift(*args, 2.0, distribution="normal", **options),
    "whole shift": lambda *args, **options: random_shift(*args, 3.0, whole=True, **options),
    "flip": random_flip,
    "crop": lambda *args, **options: random_crop(*args, (5, 7), **options),
    "square": lambda *args, **options: random_square(*args, side=3, **options),
}
every_planar = pytest.mark.parametrize("transform", PLANAR.values(), ids=PLANAR)


def images(count: int = 6, channels: int = 2, size: int = 12, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(count, channels, size, size, generator=generator, dtype=dtype)


@every_planar
def test_a_sample_is_changed_alike_in_every_batch(transform: Callable[..., Any]) -> None:
    z, numbers = images(), [5, 9, 2, 7, 100, 0]
    together, drawn = transform(z, SampleDraws(3, 1, numbers))
    for row, number in enumerate(numbers):
        alone, own = transform(z[row : row + 1], SampleDraws(3, 1, [number]))
        assert torch.equal(alone[0], together[row])
        assert torch.equal(own[0], drawn[row])
    again, _ = transform(z, SampleDraws(3, 1, numbers))
    assert torch.equal(again, together)


@every_planar
def test_epochs_and_names_change_what_happens(transform: Callable[..., Any]) -> None:
    z = images(64)
    results = [
        transform(z, SampleDraws(3, 1, range(64)))[1],
        transform(z, SampleDraws(3, 2, range(64)))[1],
        transform(z, SampleDraws(3, 1, range(64)), name="other")[1],
    ]
    assert not torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


@every_planar
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_images_are_left_as_they_were(transform: Callable[..., Any], dtype: torch.dtype) -> None:
    z = images(dtype=dtype)
    before = z.clone()
    changed, _ = transform(z, SampleDraws(3, 1, range(6)))
    assert torch.equal(z, before)
    assert changed.dtype == dtype
    assert changed.device == z.device


# -- turns ---------------------------------------------------------------------------------------------------


def test_rotations_are_those_of_the_angles_that_are_returned() -> None:
    z = images(300, 1, 9)
    turned, angle = random_rotation(z, SampleDraws(0, 0, range(300)))
    assert torch.equal(turned, rotate(z, angle, mode="bicubic"))
    assert stats.kstest(angle.numpy(), "uniform", (-math.pi, 2 * math.pi)).pvalue > FALSE_ALARM
    _, small = random_rotation(z, SampleDraws(0, 0, range(300)), low=-0.5, high=0.25)
    assert stats.kstest(small.numpy(), "uniform", (-0.5, 0.75)).pvalue > FALSE_ALARM


@pytest.mark.parametrize("order", [1, 2, 4])
def test_quarter_turns_are_exact(order: int) -> None:
    z = images(40)
    turned, angle = random_rotation(z, SampleDraws(0, 0, range(40)), order=order)
    turns = (angle / (math.pi / 2)).round().long()
    assert torch.allclose(angle, turns * (math.pi / 2))
    assert set(turns.tolist()) == set(range(0, 4, 4 // order))
    for before, after, k in zip(z, turned, turns.tolist(), strict=True):
        assert torch.equal(after, torch.rot90(before, k, (-2, -1)))


def test_finite_groups() -> None:
    z = images(200, 1, 9)
    turned, angle = random_rotation(z, SampleDraws(0, 0, range(200)), order=6, mode="bilinear")
    steps = angle / (math.pi / 3)
    assert torch.allclose(steps, steps.round(), atol=1e-6)
    assert stats.chisquare(torch.bincount(steps.round().long(), minlength=6).numpy()).pvalue > FALSE_ALARM
    assert torch.equal(turned, rotate(z, angle))


def test_rotations_in_space_are_uniform() -> None:
    z = torch.rand(400, 1, 3, 3, 3)
    turned, R = random_rotation3d(z, SampleDraws(0, 0, range(400)))
    assert torch.allclose(R @ R.mT, torch.eye(3), atol=1e-6)
    assert torch.allclose(torch.linalg.det(R), torch.ones(400))
    assert torch.equal(turned, rotate3d(z, R))
    # Every entry of a uniform rotation is uniform on [-1, 1]; the angle has density (1 - cos) / pi.
    for entry in R.flatten(1).T:
        assert stats.kstest(entry.numpy(), "uniform", (-1, 2)).pvalue > FALSE_ALARM
    cosine = (R.diagonal(dim1=-2, dim2=-1).sum(-1) - 1) / 2
    angle = torch.acos(cosine.double().clamp(-1, 1))
    distribution = (angle - angle.sin()) / math.pi
    assert stats.kstest(distribution.numpy(), "uniform").pvalue > FALSE_ALARM


# -- shifts and flips ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("distribution", ["uniform", "normal"])
def test_whole_shifts_move_pixels(distribution: str) -> None:
    z = images(50)
    moved, shift = random_shift(z, SampleDraws(0, 0, range(50)), 2.9, whole=True, distribution=distribution)
    assert shift.shape == (50, 2)
    for before, after, (right, down) in zip(z, moved, shift.int().tolist(), strict=True):
        expected = torch.zeros_like(before)
        for row in range(12):
            for column in range(12):
                if 0 <= row - down < 12 and 0 <= column - right < 12:
                    expected[:, row, column] = before[:, row - down, column - right]
        assert torch.equal(after, expected)
    if distribution == "uniform":
        assert set(shift.flatten().tolist()) == {-2.0, -1.0, 0.0, 1.0, 2.0}


def test_shifts_are_distributed_as_they_say() -> None:
    z = torch.rand(500, 1, 2, 2)
    _, uniform = random_shift(z, SampleDraws(0, 0, range(500)), 3.0)
    assert stats.kstest(uniform.flatten().numpy(), "uniform", (-3, 6)).pvalue > FALSE_ALARM
    _, normal = random_shift(z, SampleDraws(0, 0, range(500)), 1.4, distribution="normal")
    assert stats.kstest(normal.flatten().numpy(), "norm", (0, 1.4)).pvalue > FALSE_ALARM
    moved, shift = random_shift(z, SampleDraws(0, 0, range(500)), 3.0, mode="bilinear", padding="border")
    assert torch.equal(moved, rotate(z, 0.0, translation=shift, padding="border"))


@pytest.mark.parametrize("axis", [-1, -2])
def test_flips(axis: int) -> None:
    z = images(400, 1, 3)
    flipped, which = random_flip(z, SampleDraws(0, 0, range(400)), axis=axis, probability=0.3)
    assert stats.binomtest(int(which.sum()), 400, 0.3).pvalue > FALSE_ALARM
    assert torch.equal(flipped[which], z[which].flip(axis))
    assert torch.equal(flipped[~which], z[~which])
    assert random_flip(z, SampleDraws(0, 0, range(400)), probability=1)[1].all()
    assert not random_flip(z, SampleDraws(0, 0, range(400)), probability=0)[1].any()


# -- windows and squares -------------------------------------------------------------------------------------


def test_crops_are_windows_at_their_corners() -> None:
    z = images(300)
    crops, corners = random_crop(z, SampleDraws(0, 0, range(300)), (5, 7))
    assert crops.shape == (300, 2, 5, 7)
    for image, crop, (top, left) in zip(z, crops, corners.tolist(), strict=True):
        assert torch.equal(crop, image[:, top : top + 5, left : left + 7])
    cells = corners[:, 0] * 6 + corners[:, 1]
    assert stats.chisquare(torch.bincount(cells, minlength=48).numpy()).pvalue > FALSE_ALARM
    whole, _ = random_crop(z, SampleDraws(0, 0, range(300)), 12)
    assert torch.equal(whole, z)


@pytest.mark.parametrize(("size", "inner"), [(12, 5), (12, 6), (11, 4), (11, 5)])
def test_padding_and_cropping_keep_the_middle(size: int, inner: int) -> None:
    z = images(2, size=size)
    small = center_crop(z, inner)
    start = (size - inner) // 2
    assert torch.equal(small, z[..., start : start + inner, start : start + inner])
    padded = pad_to(small, (size, size + 1), value=-1.0)
    assert padded.shape == (2, 2, size, size + 1)
    left = (size + 1 - inner) // 2
    assert torch.equal(padded[..., start : start + inner, left : left + inner], small)
    assert (padded == -1).sum() == padded.numel() - small.numel()


def test_volumes_get_a_frame_on_every_side() -> None:
    volumes = torch.rand(2, 1, 3, 4, 5)
    padded = pad_to(volumes, 6)
    assert padded.shape == (2, 1, 6, 6, 6)
    assert torch.equal(padded[:, :, 1:4, 1:5, 0:5], volumes)
    assert (padded == 0).sum() >= padded.numel() - volumes.numel()
    assert pad_to(volumes, (3, 4, 8)).shape == (2, 1, 3, 4, 8)
    with pytest.raises(ValueError, match=r"size: expected at least \(3, 4, 5\), got \(6, 6\)"):
        pad_to(volumes, (6, 6))


def test_squares_are_white_and_inside() -> None:
    z = images(200, 3, 12) * 0.5
    blocked, corners = random_square(z, SampleDraws(0, 0, range(200)), side=8)
    assert corners.min() == 0
    assert corners.max() == 4
    for before, after, (top, left) in zip(z, blocked, corners.tolist(), strict=True):
        expected = before.clone()
        expected[:, top : top + 8, left : left + 8] = 1
        assert torch.equal(after, expected)
    cells = corners[:, 0] * 5 + corners[:, 1]
    assert stats.chisquare(torch.bincount(cells, minlength=25).numpy()).pvalue > FALSE_ALARM


def test_a_square_stays_where_the_object_turns() -> None:
    z, draws = images(20, 1), SampleDraws(0, 0, range(20))
    blocked, corners = random_square(z, draws, side=4)
    turned, _ = random_rotation(z, draws)
    both = paint_square(turned, corners, side=4)
    square = torch.zeros_like(z)
    for mask, (top, left) in zip(square, corners.tolist(), strict=True):
        mask[:, top : top + 4, left : left + 4] = 1
    assert torch.equal(both[square == 1], blocked[square == 1])
    assert torch.equal(both[square == 0], turned[square == 0])


def test_some_images_have_no_square() -> None:
    z = images(300, 1, 5)
    blocked, corners = random_square(z, SampleDraws(0, 0, range(300)), side=2, probability=0.25)
    without = (corners == -2).all(dim=1)
    assert stats.binomtest(int(without.sum()), 300, 0.75).pvalue > FALSE_ALARM
    assert torch.equal(blocked[without], z[without])
    assert (blocked[~without] == 1).sum() == 4 * int((~without).sum())


def test_squares_may_leave_the_image() -> None:
    corners = torch.tensor([[-1, -1], [2, 2], [5, 5], [-9, 0]])
    painted = paint_square(torch.zeros(4, 1, 4, 4), corners, side=3)
    assert painted.flatten(1).sum(1).tolist() == [4.0, 4.0, 0.0, 0.0]


DRAWS = SampleDraws(0, 0, range(6))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: random_flip(images(5), DRAWS), "draws: expected those of 5 samples, got 6"),
        (lambda: random_flip(images()[0], DRAWS), r"images: expected 4 or 5 dimensions, got \(2, 12, 12\)"),
        (lambda: random_rotation(images(), DRAWS, order=0), "order: expected a positive integer, got 0"),
        (
            lambda: random_shift(images(), DRAWS, -1.0),
            "spread: expected a finite number of pixels, not negative",
        ),
        (lambda: random_shift(images(), DRAWS, math.nan), "spread: expected a finite number of pixels"),
        (
            lambda: random_shift(images(), DRAWS, 1.0, distribution="cauchy"),
            "distribution: expected 'uniform' or 'normal', got 'cauchy'",
        ),
        (lambda: random_flip(images(), DRAWS, axis=1), "axis: expected -2 .. -1, got 1"),
        (lambda: random_flip(images(), DRAWS, probability=1.5), "probability: expected 0 .. 1, got 1.5"),
        (lambda: random_crop(images(), DRAWS, 13), r"size: expected 1 to \(12, 12\) pixels, got \(13, 13\)"),
        (lambda: center_crop(images(), 0), r"size: expected 1 to \(12, 12\) pixels"),
        (lambda: pad_to(images(), 11), r"size: expected at least \(12, 12\), got \(11, 11\)"),
        (lambda: random_square(images(), DRAWS, side=13), r"side: expected 1 to \(12, 12\) pixels"),
        (
            lambda: paint_square(images(), torch.zeros(6, 3)),
            r"corners: expected shape \(6, 2\), got \(6, 3\)",
        ),
        (
            lambda: paint_square(images(), torch.zeros(6, 2), side=0),
            "side: expected a positive number of pixels",
        ),
        (
            lambda: random_rotation(torch.rand(6, 1, 4, 5), DRAWS, order=4),
            "expected only odd or only even turns of images that are not square",
        ),
    ],
)
def test_wrong_arguments(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
