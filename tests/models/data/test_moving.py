"""Data sets whose images were moved once, by motions that are known."""

from __future__ import annotations

import dataclasses
import math
import pickle
from typing import Any

import numpy as np
import pytest
import torch

from equikernels.models.data import load_dataset
from equikernels.models.engine import default_configuration
from equikernels.models.engine.runs import open_dataset
from equikernels.ops import rotate
from tests.models.data import samples

ALL = torch.arange(1797)


def test_images_are_turned_then_shifted_by_what_the_fields_say() -> None:
    plain, moved = load_dataset("digits"), load_dataset("digits", turned=0.7, shifted=1.5)
    rows = torch.tensor([5, 2, 9])
    before, after = plain.fetch(rows), moved.fetch(rows)
    shift = after["shift"]
    expected = rotate(before["image"], after["turn"], translation=shift)
    assert torch.equal(after["image"], expected)
    assert after["label"].equal(before["label"])
    assert after["index"].equal(before["index"])
    # A whole quarter turn and a whole pixel, by indices alone.
    one = torch.zeros(1, 1, 5, 5)
    one[0, 0, 2, 4] = 1
    there = rotate(one, math.pi / 2, translation=torch.tensor([[1.0, 2.0]]))
    assert there[0, 0].argmax() == (0 + 2) * 5 + 2 + 1
    assert moved.fields["turn"].shape == ()
    assert moved.fields["shift"].shape == (2,)


def test_the_motions_have_the_deviations_asked_for_and_stay_within_the_range_of_pixels() -> None:
    batch = load_dataset("digits", turned=0.5, shifted=2.0).fetch(ALL)
    turn, shift = batch["turn"], batch["shift"]
    assert turn.mean().abs() < 5 * 0.5 / math.sqrt(1797)
    assert abs(turn.std() / 0.5 - 1) < 5 / math.sqrt(2 * 1797)
    assert (shift.mean(0).abs() < 5 * 2 / math.sqrt(1797)).all()
    assert ((shift.std(0) / 2 - 1).abs() < 5 / math.sqrt(2 * 1797)).all()
    assert (torch.corrcoef(torch.cat([turn[:, None], shift], 1).mT) - torch.eye(3)).abs().max() < 0.12
    assert float(batch["image"].min()) >= 0
    assert float(batch["image"].max()) <= 1


def test_a_sample_has_its_motion_whatever_is_fetched_with_it() -> None:
    moved = load_dataset("digits", turned=0.5, shifted=1.0, motion_seed=4)
    whole = moved.fetch(ALL[:50])
    part = moved.subset([40, 7]).fetch(torch.tensor([1, 0]))
    for name in ("image", "turn", "shift"):
        assert torch.equal(part[name], whole[name][[7, 40]])
    again = pickle.loads(pickle.dumps(moved))
    assert torch.equal(again.fetch(ALL[:3])["image"], whole["image"][:3])
    assert again.fingerprint == moved.fingerprint
    other = load_dataset("digits", turned=0.5, shifted=1.0, motion_seed=5)
    assert not torch.equal(other.fetch(ALL[:3])["turn"], whole["turn"][:3])
    others = [load_dataset("digits"), load_dataset("digits", turned=0.5)]
    fingerprints = {data.fingerprint for data in (moved, other, *others)}
    assert len(fingerprints) == 4


def test_without_motion_nothing_changes() -> None:
    still = load_dataset("digits", turned=0, shifted=0.0, motion_seed=9)
    assert set(still.fields) == {"image", "label", "index"}
    assert still.fingerprint == load_dataset("digits").fingerprint
    shifted = load_dataset("digits", shifted=1.0).fetch(ALL[:5])
    assert torch.equal(shifted["turn"], torch.zeros(5))


def test_a_run_names_them_among_its_data_options() -> None:
    configuration = default_configuration("autoencoder")
    asked = dataclasses.replace(configuration, data_options=("turned=0.25", "shifted=2", "motion_seed=1"))
    expected = load_dataset("digits", turned=0.25, shifted=2, motion_seed=1)
    assert open_dataset(asked).fingerprint == expected.fingerprint


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"turned": -1.0}, "turned: expected a finite number of radians, not negative, got -1.0"),
        ({"shifted": math.inf}, "shifted: expected a finite number of pixels, not negative, got inf"),
        ({"turned": "far"}, "turned: expected a finite number of radians, not negative, got 'far'"),
        ({"turned": 1.0, "motion_seed": 0.5}, "motion_seed: expected an integer, got 0.5"),
    ],
)
def test_mistakes_name_the_option(options: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        load_dataset("digits", **options)


def test_data_that_cannot_be_moved_are_refused(tmp_path: Any) -> None:
    with pytest.raises(ValueError, match=r"turned, shifted: expected a data set of images \(C, H, W\)"):
        load_dataset(samples.write_npy(tmp_path, np.zeros((3, 4), dtype=np.float32)), turned=1.0)
    path = samples.write_npz(tmp_path, images=np.zeros((3, 4, 4), dtype=np.uint8), turn=np.zeros(3))
    with pytest.raises(ValueError, match="expected data without a field 'turn'"):
        load_dataset(path, turned=1.0)
