"""Pairs of images: the element moves one to the other, squares stay, draws belong to samples."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from equikernels.group import SO2, SO3, CubeGroup, CyclicGroup, DihedralGroup, Group
from equikernels.models.data import SampleDraws, load_dataset
from equikernels.models.latent_actions import PairOptions, transformed_pair, transformed_scene


def images(count: int, dimensions: int = 2, side: int = 8) -> Tensor:
    return torch.rand((count, 1, *(side,) * dimensions), generator=torch.Generator().manual_seed(0))


def expected(x: Tensor, g: Tensor, group: Group) -> Tensor:
    if isinstance(group, (SO2, SO3)) or (isinstance(group, CyclicGroup) and group.n == 6):
        method = "bilinear" if isinstance(group, SO3) else "bicubic"
        return group.act(x, g, method=method).clamp(0, 1)
    return group.act(x, g)


@pytest.mark.parametrize(
    ("group", "dimensions"),
    [(SO2(), 2), (CyclicGroup(4), 2), (CyclicGroup(6), 2), (SO3(), 3), (CubeGroup(), 3)],
    ids=["SO2", "C4", "C6", "SO3", "Cube"],
)
def test_element_moves_one_image_to_the_other(group: Group, dimensions: int) -> None:
    given = images(40, dimensions)
    x, gx, g = transformed_pair(given, SampleDraws(1, 2, range(40)), group)
    assert torch.equal(x, given)
    torch.testing.assert_close(gx, expected(x, g, group))
    assert float(gx.min()) >= 0
    assert float(gx.max()) <= 1
    alone = transformed_pair(given[7:8], SampleDraws(1, 2, [7]), group)
    assert torch.equal(alone[1][0], gx[7])
    assert torch.equal(alone[2][0], g[7])


def test_angles_cover_the_circle_and_integers_the_group() -> None:
    x, draws = images(400), SampleDraws(0, 0, range(400))
    _, _, theta = transformed_pair(x, draws, SO2())
    assert torch.histc(theta, 8, -math.pi, math.pi).min() > 20
    for identity in (True, False):
        _, _, g = transformed_pair(x, draws, CyclicGroup(4), PairOptions(identity=identity))
        assert sorted(set(g.tolist())) == ([0, 1, 2, 3] if identity else [1, 2, 3])
    volumes = images(400, 3, side=2)
    _, _, g = transformed_pair(volumes, draws, CubeGroup(), PairOptions(identity=False))
    assert sorted(set(g.tolist())) == list(range(1, 24))


@pytest.mark.parametrize("group", [SO2(), CyclicGroup(4)], ids=["SO2", "C4"])
def test_square_stays_while_the_image_turns(group: Group) -> None:
    given, draws = images(30) / 2, SampleDraws(0, 1, range(30))
    plain, turned, g = transformed_pair(given, draws, group)
    x, gx, same = transformed_pair(given, draws, group, PairOptions(square=3, square_probability=0.5))
    assert torch.equal(same, g)
    painted = x != plain
    # Wherever the first image is white, so is the second; everything else is as without squares.
    assert torch.equal(gx, torch.where(painted, 1.0, turned))
    assert torch.equal(x, torch.where(painted, 1.0, plain))
    areas = painted.flatten(1).sum(1)
    assert set(areas.tolist()) == {0, 9}
    assert len(painted.flatten(1)[areas > 0].unique(dim=0)) > 5
    every = transformed_pair(given, draws, group, PairOptions(square=3))[0]
    assert (every != plain).flatten(1).sum(1).eq(9).all()


def test_wrong_pairs_are_one_line() -> None:
    draws = SampleDraws(0, 0, [0, 1])
    with pytest.raises(ValueError, match=r"^group: expected SO2\(\), CyclicGroup"):
        transformed_pair(images(2), draws, DihedralGroup(4))
    with pytest.raises(ValueError, match=r"^square: expected images"):
        transformed_pair(images(2, 3), draws, CubeGroup(), PairOptions(square=2))
    with pytest.raises(ValueError, match=r"^side: expected 1 to \(8, 8\) pixels"):
        transformed_pair(images(2), draws, SO2(), PairOptions(square=9))
    with pytest.raises(ValueError, match=r"^square: expected an integer >= 0"):
        PairOptions(square=-1)
    with pytest.raises(ValueError, match=r"^square_probability: expected a number in \[0, 1\], got 2"):
        PairOptions(square_probability=2)


@pytest.mark.parametrize("group", [SO2(), CyclicGroup(4)], ids=["SO2", "C4"])
def test_an_object_turns_over_its_background(group: Group) -> None:
    batch, draws = load_dataset("scenes", count=20).fetch(torch.arange(20)), SampleDraws(0, 0, range(20))
    x, gx, g = transformed_scene(batch, draws, group, PairOptions(scene="object"))
    torch.testing.assert_close(x, batch["image"])
    shape, coverage = (expected(batch[name], g, group) for name in ("object", "coverage"))
    torch.testing.assert_close(gx, (shape + (1 - coverage) * batch["background"]).clamp(0, 1))
    layers, moved, same = transformed_scene(batch, draws, group, PairOptions(scene="layers"))
    assert torch.equal(same, g)
    assert torch.equal(layers, torch.cat([batch["object"], batch["background"]], 1))
    torch.testing.assert_close(moved, torch.cat([shape, batch["background"]], 1))
    never = transformed_scene(batch, draws, CyclicGroup(4), PairOptions(scene="layers", identity=False))[2]
    assert 0 not in never.tolist()


def test_whole_scenes_and_squares_over_objects_are_refused() -> None:
    batch = load_dataset("scenes", count=2).fetch(torch.arange(2))
    with pytest.raises(ValueError, match="scene: expected object or layers, got whole"):
        transformed_scene(batch, SampleDraws(0, 0, [0, 1]), SO2(), PairOptions())
    with pytest.raises(ValueError, match="square: only whole images get one, got 3 with scene layers"):
        PairOptions(square=3, scene="layers")
