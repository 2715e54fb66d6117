"""Inferred poses in the terms of motions of images, judged against the decoder itself."""

from __future__ import annotations

import math

import pytest
import torch

from equikernels.metrics import circular_correlation
from equikernels.models.spatial_vae.model import Parts
from equikernels.models.spatial_vae.pose_agreement import as_motion, pose_agreement
from equikernels.ops import rotate
from tests.models.spatial_vae.samples import float64, normal, small


def test_a_pose_moves_the_drawn_image_by_the_motion_it_is_said_to_be() -> None:
    model = small(41, hidden=5)
    z = normal(3, 2)
    theta = float64([0.7, -1.2, 0.0])
    shift = float64([[2.0, -3.5], [-4.0, 1.0], [3.0, 2.0]])
    still, moved = model.decode(z), model.decode(z, theta, shift)
    angle, vector = as_motion(Parts(theta, shift, z))
    assert angle is not None
    assert vector is not None
    # Away from what came from outside the frame.
    middle = (slice(None), slice(None), slice(14, 27), slice(14, 27))
    error = (moved - rotate(still, angle, translation=vector))[middle].abs().max()
    # Linear interpolation errs by at most an eighth of the second derivative in each direction; the factor
    # is for differences of pixels in its place.
    bends = sum(still.diff(n=2, dim=dim).abs().max() for dim in (2, 3))
    assert error < 1.5 * bends / 8
    for wrong in (rotate(still, -angle, translation=vector), rotate(still, angle, translation=-vector)):
        assert (moved - wrong)[middle].abs().max() > 10 * error


def test_a_pose_without_angle_or_without_shift() -> None:
    z = normal(2, 2)
    angle, vector = as_motion(Parts(float64([1.0, 2.0]), None, z))
    assert angle is not None
    assert angle.tolist() == [-1.0, -2.0]
    assert vector is None
    angle, vector = as_motion(Parts(None, float64([[1.0, 2.0]]), z))
    assert angle is None
    assert vector is not None
    assert vector.tolist() == [[-1.0, 2.0]]
    assert as_motion(Parts(None, None, z)) == (None, None)


def test_agreement_is_that_of_each_part_of_the_motion() -> None:
    generator = torch.Generator().manual_seed(0)
    turn = torch.randn(200, generator=generator, dtype=torch.float64) / 2
    shift = torch.randn(200, 2, generator=generator, dtype=torch.float64)
    noise = torch.randn(200, generator=generator, dtype=torch.float64)
    inferred = -turn + 0.4 + 0.3 * noise
    # Shifts that are true in the image, as Delta in the frame of the content.
    right, up = shift[:, 0] + 5, -shift[:, 1]
    cosine, sine = inferred.cos(), inferred.sin()
    delta = -torch.stack([cosine * right - sine * up, sine * right + cosine * up], dim=1)
    found = pose_agreement(Parts(inferred, delta, shift), turn, shift)
    assert found["theta_correlation"] == pytest.approx(float(circular_correlation(-inferred, turn)))
    assert 0.5 < found["theta_correlation"] < 0.95
    assert found["shift_correlation"] == pytest.approx(1)
    reversed_ = pose_agreement(Parts(-inferred, -shift, shift), turn, shift)
    assert reversed_["theta_correlation"] == pytest.approx(-found["theta_correlation"])
    # The direction that agrees and the one that is opposed cancel.
    half = torch.stack([-shift[:, 0], -shift[:, 1]], dim=1)
    assert pose_agreement(Parts(None, half, shift), turn, shift)["shift_correlation"] == pytest.approx(0)
    turned = math.pi * (2 * torch.rand(200, generator=generator, dtype=torch.float64) - 1)
    uniform = pose_agreement(Parts(-turned, None, shift), turned, shift, uniform=True)
    expected = float(circular_correlation(turned, turned, uniform=True))
    assert uniform == {"theta_correlation": pytest.approx(expected)}


def test_images_without_a_motion_have_no_agreement() -> None:
    parts = Parts(normal(5), normal(5, 2), normal(5, 2))
    assert pose_agreement(parts, torch.zeros(5), torch.zeros(5, 2)) == {}
    assert list(pose_agreement(parts, torch.zeros(5), normal(5, 2))) == ["shift_correlation"]
    # Nor have images that all were moved alike.
    assert pose_agreement(parts, torch.full((5,), 0.3), torch.ones(5, 2)) == {}
    assert list(pose_agreement(parts, normal(5), torch.ones(5, 2))) == ["theta_correlation"]
