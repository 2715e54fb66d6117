"""Simulated particle images against sums over the body in space, and their truths."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from equikernels.models.data import DataError, load_dataset, two_domains
from equikernels.models.data.two_domains import simulate_two_domains, write_two_domains
from equikernels.ops import rotate
from tests.models.data.samples import everything

Array = NDArray[np.float64]
NOISELESS = math.inf


def density_sum(conformation: float, theta: float, shift: Array, size: int) -> Array:
    """The density of every voxel, added up along z, in arbitrary units."""
    swing = Rotation.from_rotvec(conformation * math.radians(40) * two_domains.AXIS)
    arm = swing.apply(two_domains.SWINGING[:, :3] - two_domains.HINGE) + two_domains.HINGE
    centres = np.concatenate([two_domains.FIXED[:, :3], arm])
    weights = np.concatenate([two_domains.FIXED[:, 3], two_domains.SWINGING[:, 3]])
    # Clockwise as displayed, with y up, is about -z.
    centres = Rotation.from_rotvec([0, 0, -theta]).apply(centres) * (size / 2) + [*shift, 0]
    radius = two_domains.RADIUS * size / 2
    depth = np.linspace(-size, size, 8 * size)
    image = np.zeros((size, size))
    for row in range(size):
        for column in range(size):
            x, y = column - (size - 1) / 2, (size - 1) / 2 - row
            for centre, weight in zip(centres, weights, strict=True):
                square = (x - centre[0]) ** 2 + (y - centre[1]) ** 2 + (depth - centre[2]) ** 2
                image[row, column] += weight * np.exp(-square / (2 * radius**2)).sum()
    return image


@pytest.mark.parametrize("seed", [0, 1])
def test_images_are_sums_along_the_line_of_sight(seed: int) -> None:
    size = 10
    made = simulate_two_domains(2, size, seed, snr=NOISELESS, shift=1.5)
    rest = density_sum(0.0, 0.0, np.zeros(2), size).std()
    for n in range(2):
        expected = density_sum(made.conformation[n], made.theta[n], made.shift[n], size) / rest
        np.testing.assert_allclose(made.images[n], expected, rtol=1e-4, atol=1e-5)


def test_truths_are_drawn_as_said() -> None:
    made = simulate_two_domains(4000, 4, 3, shift=2.0)
    assert abs(made.conformation).max() <= 1
    assert made.conformation.std() == pytest.approx(1 / math.sqrt(3), rel=0.05)
    assert made.theta.min() < -3.1
    assert made.theta.max() > 3.1
    assert abs(np.exp(1j * made.theta.astype(complex)).mean()) < 0.05
    np.testing.assert_allclose(made.shift.std(axis=0), [2, 2], rtol=0.05)
    assert abs(np.corrcoef(made.conformation, made.theta)[0, 1]) < 0.05


def test_turns_and_movements_of_the_whole_image() -> None:
    body: dict[str, Any] = {"conformation": torch.tensor([0.3]), "size": 33}
    still = two_domains.project(theta=torch.zeros(1), shift=torch.zeros(1, 2), **body)
    moved = two_domains.project(theta=torch.zeros(1), shift=torch.tensor([[3.0, 2.0]]), **body)
    # To the right and up.
    np.testing.assert_allclose(moved[0, :-2, 3:], still[0, 2:, :-3], atol=1e-6)
    turned = two_domains.project(theta=torch.tensor([math.pi / 2]), shift=torch.zeros(1, 2), **body)
    np.testing.assert_allclose(turned[0], torch.rot90(still[0], -1), atol=1e-6)
    oblique = two_domains.project(theta=torch.tensor([0.5]), shift=torch.zeros(1, 2), **body)
    back = rotate(oblique[:, None], torch.tensor([0.5]), mode="bicubic")[0, 0]
    assert float((back - still[0]).abs().max()) < 0.02 * float(still.max())


def test_no_turn_maps_the_body_to_itself() -> None:
    angles = torch.linspace(0, 2 * math.pi, 73)[:-1]
    turned = two_domains.project(torch.zeros(72), angles, torch.zeros(72, 2), 24)
    distance = (turned - turned[:1]).flatten(1).norm(dim=1) / turned[0].norm()
    assert float(distance[3:-2].min()) > 0.3


def test_noise_has_the_ratio_asked_for() -> None:
    clean = simulate_two_domains(300, 24, 5, snr=NOISELESS).images
    for snr in (0.25, 4.0):
        noise = simulate_two_domains(300, 24, 5, snr=snr).images - math.sqrt(snr) * clean
        assert noise.std() == pytest.approx(1, rel=0.01)
        assert abs(np.corrcoef(noise[:, 3, 4], noise[:, 3, 5])[0, 1]) < 0.2
    rest = simulate_two_domains(1, 24, turned=False, shift=0.0, snr=NOISELESS)
    assert rest.theta.tolist() == [0.0]
    assert rest.images.std() == pytest.approx(1, rel=0.1)


def test_an_image_depends_on_its_number_and_the_seed_alone() -> None:
    many, few = simulate_two_domains(1005, 6, 7), simulate_two_domains(3, 6, 7)
    for name in ("images", "conformation", "theta", "shift"):
        np.testing.assert_array_equal(getattr(many, name)[:3], getattr(few, name))
        assert not np.array_equal(getattr(simulate_two_domains(3, 6, 8), name), getattr(few, name))
    # Noise is drawn by parts of a thousand, and no part has that of another.
    noise = many.images - math.sqrt(0.5) * simulate_two_domains(1005, 6, 7, snr=NOISELESS).images
    assert noise[1000:].std() == pytest.approx(1, rel=0.2)
    assert abs(np.corrcoef(noise[1000:].ravel(), noise[:5].ravel())[0, 1]) < 0.4


def test_as_a_data_set() -> None:
    dataset = load_dataset("two-domains", count=5, size=12, seed=2, shift=0.5)
    shapes = {name: field.shape for name, field in dataset.fields.items()}
    assert shapes == {"image": (1, 12, 12), "conformation": (), "theta": (), "shift": (2,), "index": ()}
    made, batch = simulate_two_domains(5, 12, 2, shift=0.5), everything(dataset)
    np.testing.assert_array_equal(batch["image"][:, 0].numpy(), made.images)
    for name in ("conformation", "theta", "shift"):
        np.testing.assert_array_equal(batch[name].numpy(), getattr(made, name))
    assert dataset.fingerprint == load_dataset("two-domains", count=5, size=12, seed=2, shift=0.5).fingerprint
    assert dataset.fingerprint != load_dataset("two-domains", count=5, size=12, seed=3, shift=0.5).fingerprint
    assert load_dataset("two-domains").fields["image"].shape == (1, 40, 40)
    with pytest.raises(ValueError, match="sizes: no option of two-domains data"):
        load_dataset("two-domains", sizes=3)


def test_as_files(tmp_path: Path) -> None:
    made = simulate_two_domains(4, 9, 3)
    stack, truths = write_two_domains(tmp_path / "body.mrcs", made, pixel_size=2.5)
    read, direct = load_dataset(stack, extra=truths), load_dataset("two-domains", count=4, size=9, seed=3)
    assert {k: f.shape for k, f in read.fields.items()} == {k: f.shape for k, f in direct.fields.items()}
    for name, values in everything(direct).items():
        assert torch.equal(everything(read)[name], values)
    with mrcfile.open(stack) as file:
        assert file.voxel_size.x == 2.5
    assert len(load_dataset(write_two_domains(stack, simulate_two_domains(2, 9))[0])) == 2
    with pytest.raises(DataError, match=r"there/a.mrcs: expected a file that can be written"):
        write_two_domains(tmp_path / "there" / "a.mrcs", made)
    with pytest.raises(ValueError, match="pixel_size: expected a number > 0, got 0"):
        write_two_domains(stack, made, pixel_size=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"count": 0}, "count: expected an integer >= 1, got 0"),
        ({"size": 1}, "size: expected an integer >= 2, got 1"),
        ({"size": 8.0}, "size: expected an integer >= 2, got 8.0"),
        ({"snr": 0.0}, "snr: expected a number > 0"),
        ({"snr": math.nan}, "snr: expected a number > 0"),
        ({"shift": -1.0}, "shift: expected a finite number >= 0"),
    ],
)
def test_numbers_that_cannot_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        simulate_two_domains(**{"count": 2, "size": 8, **options})
