"""Scenes made by rule: their parts add up, the object can turn, every scene belongs to its number."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from equikernels.models.data import load_dataset
from equikernels.ops import rotate


def scenes(count: int = 60, **options: Any) -> dict[str, Tensor]:
    return load_dataset("scenes", count=count, **options).fetch(torch.arange(count))


@pytest.mark.parametrize("size", [8, 16, 33])
def test_an_object_lies_over_a_background(size: int) -> None:
    batch = scenes(size=size)
    image, parts = batch["image"], [batch[name] for name in ("object", "coverage", "background")]
    assert all(values.shape == (60, 1, size, size) for values in (image, *parts))
    assert all(float(values.min()) >= 0 and float(values.max()) <= 1 for values in (image, *parts))
    shape, coverage, background = parts
    torch.testing.assert_close(image, shape + (1 - coverage) * background)
    assert not shape[coverage == 0].any()
    assert torch.equal(image[coverage == 0], background[coverage == 0])
    covered = coverage.mean((1, 2, 3))
    assert float(covered.min()) > 0.1
    assert float(covered.max()) < 0.5
    # Brighter than what it lies on.
    assert float(shape.sum() / coverage.sum()) > float(background.mean()) + 0.2


def test_a_turn_loses_nothing_of_the_object() -> None:
    batch = scenes(size=32)
    place = (torch.arange(32) - 15.5).square()
    outside = (place[:, None] + place[None, :]).sqrt() > 16
    assert not batch["coverage"][..., outside].any()
    turned = rotate(batch["coverage"], 0.7)
    torch.testing.assert_close(turned.sum((1, 2, 3)), batch["coverage"].sum((1, 2, 3)), rtol=0.02, atol=0)
    # No object is a disc, and none looks the same from another side.
    half = batch["object"].flip(-1, -2)
    assert float((batch["object"] - half).flatten(1).norm(dim=1).min()) > 0.5


def test_a_scene_depends_on_its_number_and_the_seed() -> None:
    few, many, other = scenes(5), scenes(50), scenes(5, seed=1)
    for name in ("image", "object", "coverage", "background"):
        assert torch.equal(few[name], many[name][:5])
        assert not torch.equal(few[name], other[name])
        assert len({tuple(values.flatten().tolist()) for values in many[name]}) == 50
    prints = {load_dataset("scenes", count=9, **o).fingerprint for o in ({}, {"seed": 1}, {"size": 8})}
    assert len(prints) == 3


@pytest.mark.parametrize(("option", "value"), [("count", 0), ("size", 7), ("seed", -1), ("size", 9.0)])
def test_wrong_options_are_named(option: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"^{option}: expected an integer >= \d, got {value}"):
        load_dataset("scenes", **{option: value})
