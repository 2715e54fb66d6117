"""Two steps of each task, what it measures, and mistakes in one line."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from equikernels.cli.task_modules import load_tasks
from equikernels.models.data import SampleDraws, load_dataset
from equikernels.models.engine import (
    Batches,
    ConfigurationError,
    RunConfiguration,
    default_configuration,
    task_names,
    train,
)
from equikernels.models.soft_equivariance.tasks import (
    SoftTrajectoriesTask,
    SoftViTTask,
    TrajectoryOptions,
    ViTOptions,
)

SMALL_VIT = ViTOptions(width=16, depth=1, heads=2, feedforward=16)
SMALL_WALKS = TrajectoryOptions(width=16, heads=2, layers=1, feedforward=16)


def configured(task: str, model: Any, **training: Any) -> RunConfiguration[Any]:
    whole = default_configuration(task)
    values = {"epochs": 1, "device": "cpu", "log_steps": 1, **training}
    return dataclasses.replace(whole, model=model, training=dataclasses.replace(whole.training, **values))


def batches_of(dataset: Any, size: int = 7) -> Batches:
    return Batches(dataset, torch.arange(len(dataset)), size, seed=0, epoch=0)


def tracks(folder: Path) -> Path:
    """Three pedestrians on curves, 26 frames each: 21 windows of 10 + 10 steps."""
    lines = [
        f"{10 * t}\t{p}\t{p + 0.4 * t * math.cos(0.05 * t + p):.4f}\t{0.4 * t * math.sin(0.05 * t + p):.4f}"
        for p in range(3)
        for t in range(26)
    ]
    path = folder / "walks.txt"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_they_are_found_by_name() -> None:
    load_tasks()
    assert {"soft-vit", "soft-trajectories"} <= set(task_names())


def test_two_steps_on_digits(tmp_path: Path) -> None:
    digits = load_dataset("digits").subset(80, name="digits")
    metrics = train(configured("soft-vit", SMALL_VIT, batch_size=32), tmp_path / "run", dataset=digits)
    assert (metrics["status"], metrics["steps"]) == ("finished", 2)
    best = metrics["best"]
    assert best["combined_accuracy"] == pytest.approx(math.sqrt(best["accuracy"] * best["turned_accuracy"]))
    assert best["invariance_error"] > 0
    names = ("run.toml", "model.safetensors", "validation.csv")
    assert all((tmp_path / "run" / name).is_file() for name in names)


def test_vit_numbers_over_all_batches() -> None:
    torch.manual_seed(0)
    digits = load_dataset("digits").subset(20)
    task = SoftViTTask(SMALL_VIT)
    model = task.build(digits).eval()
    with torch.no_grad():
        numbers = task.evaluate(model, batches_of(digits))
    batch = digits.fetch(torch.arange(20))
    turns = SampleDraws(0, 0, batch["index"]).integers("turn", 0, 4)
    moved = torch.stack([x.rot90(int(k), (-2, -1)) for x, k in zip(batch["image"], turns, strict=True)])
    p, q = (model(x).double().softmax(1) for x in (batch["image"], moved))
    assert numbers["accuracy"] == float((p.argmax(1) == batch["label"]).double().mean())
    assert numbers["turned_accuracy"] == float((q.argmax(1) == batch["label"]).double().mean())
    expected = float((p * (p / q).log()).sum(1).mean())
    assert numbers["invariance_error"] == pytest.approx(expected, rel=1e-4)
    strict = SoftViTTask(dataclasses.replace(SMALL_VIT, softness=0.0))
    with torch.no_grad():
        unmoved = strict.evaluate(strict.build(digits).eval(), batches_of(digits))["invariance_error"]
    assert abs(unmoved) < 1e-6


def test_two_steps_on_tracks(tmp_path: Path) -> None:
    configuration = dataclasses.replace(
        configured("soft-trajectories", SMALL_WALKS, batch_size=10), data=str(tracks(tmp_path))
    )
    metrics = train(configuration, tmp_path / "run")
    assert (metrics["status"], metrics["steps"]) == ("finished", 2)
    best = metrics["best"]
    assert best["combined_ade"] == pytest.approx((best["ade"] + best["turned_ade"]) / 2)
    assert 0 < best["walking_on_ade"] < best["standing_still_ade"]
    assert best["equivariance_error"] > 0


def test_trajectory_numbers_over_all_batches(tmp_path: Path) -> None:
    torch.manual_seed(0)
    dataset = load_dataset(tracks(tmp_path))
    count = len(dataset)
    task = SoftTrajectoriesTask(SMALL_WALKS)
    model = task.build(dataset).eval()
    with torch.no_grad():
        numbers = task.evaluate(model, batches_of(dataset))
        batch = dataset.fetch(torch.arange(count))
        angles = SampleDraws(0, 0, batch["index"]).uniform("angle", high=2 * math.pi)
        turned = torch.stack([_turned(x, float(a)) for x, a in zip(batch["observed"], angles, strict=True)])
        moved, plain = model(turned), model(batch["observed"])
    ade = fde = moved_ade = moved_fde = error = still = walking = 0.0
    for i in range(count):
        future, angle = batch["future"][i], float(angles[i])
        last, before = batch["observed"][i, -1], batch["observed"][i, -2]
        for t in range(10):
            ade += float((plain[i, t] - future[t]).norm()) / (10 * count)
            moved_ade += float((moved[i, t] - _turned(future, angle)[t]).norm()) / (10 * count)
            error += float((_turned(plain[i], angle)[t] - moved[i, t]).norm()) / (10 * count)
            still += float((last - future[t]).norm()) / (10 * count)
            walking += float((last + (t + 1) * (last - before) - future[t]).norm()) / (10 * count)
        fde += float((plain[i, 9] - future[9]).norm()) / count
        moved_fde += float((moved[i, 9] - _turned(future, angle)[9]).norm()) / count
    expected = {
        "ade": ade, "fde": fde, "turned_ade": moved_ade, "turned_fde": moved_fde,
        "combined_ade": (ade + moved_ade) / 2, "combined_fde": (fde + moved_fde) / 2,
        "equivariance_error": error, "standing_still_ade": still, "walking_on_ade": walking,
    }  # fmt: skip
    assert {name: numbers[name] for name in expected} == pytest.approx(expected, rel=1e-4)


def _turned(x: Tensor, angle: float) -> Tensor:
    c, s = math.cos(angle), math.sin(angle)
    return torch.stack([c * x[:, 0] - s * x[:, 1], s * x[:, 0] + c * x[:, 1]], -1)


def test_wrong_data(tmp_path: Path) -> None:
    digits, walks = load_dataset("digits"), load_dataset(tracks(tmp_path))
    with pytest.raises(ConfigurationError, match=r"soft-trajectories needs windows of tracks .*, digits has"):
        SoftTrajectoriesTask(SMALL_WALKS).build(digits)
    with pytest.raises(ConfigurationError, match="data: soft-vit needs images with labels"):
        SoftViTTask(SMALL_VIT).build(walks)
    with pytest.raises(ConfigurationError, match=r"patch: expected a divisor of .* 8 x 8, got 3"):
        SoftViTTask(dataclasses.replace(SMALL_VIT, patch=3)).build(digits)
    with pytest.raises(ValueError, match=r"turns: expected .* >= 1, got 0"):
        ViTOptions(turns=0)
