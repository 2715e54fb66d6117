"""Softened backbones: their errors by hand, what limits them, and the page and record of the command."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from pathlib import Path

import pytest
import torch
from torch import Tensor

pytest.importorskip("transformers")

from bench.experiments import soft_backbones
from bench.experiments.soft_backbones import BACKBONES, Result, findings, measure, relative_error, turn
from equikernels.nn import SymmetricDownsample
from tests.test_documentation import REPOSITORY


def test_relative_errors_by_hand() -> None:
    x = torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(0)).double()
    mask = torch.zeros(4, 4).double()
    mask[0] = 1

    def top_row(images: Tensor) -> Tensor:
        return images * mask

    found = relative_error(top_row, x, turn)
    expected = [
        float((torch.rot90(top_row(y), k, (-2, -1)) - top_row(torch.rot90(y, k, (-2, -1)))).norm())
        / float(top_row(y).norm())
        for y in x
        for k in (1, 2, 3)
    ]
    assert found == pytest.approx(sum(expected) / 9)
    assert relative_error(lambda y: y.mean((-2, -1)), x, lambda g, y: y) < 1e-12


@pytest.mark.parametrize(
    ("name", "limited"), [("DINOv2 with registers", False), ("ResNet, 32 pixels", True)]
)  # fmt: skip
def test_errors_at_softness_0_agree_with_the_report(name: str, limited: bool) -> None:
    found = measure(name, 0.0, 0)
    assert bool(found.limits) == limited
    assert (found.features > 1e-3) == limited
    assert (found.features < 1e-12) != limited
    free = measure(name, 1.0, 0)
    assert free.features > found.features
    assert free.pooled > 1e-3


def test_symmetric_sampling_keeps_the_weights_and_sizes() -> None:
    torch.manual_seed(0)
    plain, changed = BACKBONES["ResNet, 32 pixels"], BACKBONES["ResNet, 32 pixels, symmetric"]
    models = plain.make(1.0), changed.make(1.0)
    shapes = [[p.shape for p in model.parameters()] for model in models]
    assert shapes[0] == shapes[1]
    images = torch.randn(1, 3, 32, 32)
    maps = [model.eval()(images).maps.shape for model in models]
    assert maps[0] == maps[1]
    # The stem, the shortcut and the first convolution of the second stage.
    assert sum(isinstance(m, SymmetricDownsample) for m in models[1].modules()) == 3


def results() -> list[Result]:
    return [
        Result(name, level, seed, level + (0.1 if limits else 0) + 0.01 * seed * level, 0.1, limits)
        for name, limits in (("ViT", ()), ("ResNet, 32 pixels", ("`a`: off-centre",)))
        for level in soft_backbones.LEVELS
        for seed in (0, 1)
    ]


def test_findings_follow_from_the_numbers() -> None:
    good = [dataclasses.replace(r, pooled=0.0) if not r.limits and r.softness == 0 else r for r in results()]
    assert findings(good).count(": confirmed.") == 3
    assert "ResNet, 32 pixels: softness 0 leaves 9% of the features' error" in findings(good)
    # A pooled error where nothing is known to limit, features that are exact in spite of a limit, a dip.
    assert "is rounding: not confirmed" in findings(results())
    exact = [dataclasses.replace(r, features=0.0) if r.limits and r.softness == 0 else r for r in good]
    assert "softness 0 is not: not confirmed" in findings(exact)
    dip = [dataclasses.replace(r, features=0.01) if r.softness == 0.5 else r for r in good]
    assert "for every backbone: not confirmed" in findings(dip)
    # A step down in one backbone, a level that stays, an error that is no number in either place.
    one = [dataclasses.replace(r, features=0.01) if (r.softness, r.limits) == (0.5, ()) else r for r in good]
    assert "for every backbone: not confirmed" in findings(one)
    flat = [dataclasses.replace(r, features=0.75) if r.softness in (0.5, 0.75) else r for r in good]
    assert "for every backbone: not confirmed" in findings(flat)
    for number in ("features", "pooled"):
        lost = [
            dataclasses.replace(r, **{number: math.nan}) if not r.limits and r.softness == 0 else r
            for r in good
        ]
        assert "is rounding: not confirmed" in findings(lost)
    lost = [dataclasses.replace(r, features=math.nan) if r.limits and r.softness == 0 else r for r in good]
    assert "softness 0 is not: not confirmed" in findings(lost)


def test_means_and_deviations_over_seeds_by_hand() -> None:
    errors = {0: 0.25, 1: 0.75, 2: 0.5}
    found = [Result("ViT", 1.0, seed, error, 1e-12, ()) for seed, error in errors.items()]
    assert soft_backbones.mean_of(found, "ViT", 1.0, "features") == pytest.approx((0.5, 0.25))
    assert soft_backbones.mean_of(found, "ViT", 1.0, "pooled") == (0.0, 0.0)
    assert soft_backbones.mean_of(found[:1], "ViT", 1.0, "features") == (0.25, 0.0)


def test_the_command_writes_page_record_and_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soft_backbones, "BACKBONES", {name: BACKBONES[name] for name in ("ViT", "DINOv2")})
    monkeypatch.setattr(soft_backbones, "LEVELS", (0.0, 1.0))
    monkeypatch.setattr(soft_backbones, "SEEDS", {"cpu": (0, 1)})
    assert soft_backbones.main([], tmp_path) == 0
    page = (tmp_path / "docs" / "results" / "soft_backbones.md").read_text()
    record = (tmp_path / "docs" / "results" / "soft_backbones.jsonl").read_text().splitlines()
    assert len(record) == 2 * 2 * 2
    free = [
        row["features"] for row in map(json.loads, record) if (row["backbone"], row["softness"]) == ("ViT", 1)
    ]
    assert re.search(rf"^\| ViT \| 0 \| {sum(free) / 2:.3g} ± ", page, re.M)
    assert "seeds 0, 1, means ± standard deviations" in page
    picture = tmp_path / "docs" / "figures" / "soft_backbones.png"
    assert "(../figures/soft_backbones.png)" in page
    assert 5_000 < picture.stat().st_size < 200_000


def test_the_page_in_the_repository_is_that_of_its_record() -> None:
    folder = REPOSITORY / "docs" / "results"
    page = (folder / "soft_backbones.md").read_text()
    rows = [json.loads(line) for line in (folder / "soft_backbones.jsonl").read_text().splitlines()]
    found = [Result(**{**row, "limits": tuple(row["limits"])}) for row in rows]
    assert {r.backbone for r in found} == set(BACKBONES)
    assert soft_backbones.table(found, "features") in page
    assert soft_backbones.table(found, "pooled") in page
    assert findings(found) in page
