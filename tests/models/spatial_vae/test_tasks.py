"""The task of the engine, on digits, for two steps."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from equikernels.cli import main
from equikernels.models.data import SampleDraws, load_dataset
from equikernels.models.engine import Batches, ConfigurationError, default_configuration, open_run, train
from equikernels.models.engine.inference import evaluate_run, generate_samples, infer_samples
from equikernels.models.spatial_vae import SpatialVAE
from equikernels.models.spatial_vae.tasks import SpatialVAEOptions, SpatialVAETask
from equikernels.ops import rotate

DIGITS = load_dataset("digits").subset(60, name="digits")
SMALL: dict[str, Any] = {"hidden": 8, "samples": 2}


def task_and_model(**options: Any) -> tuple[SpatialVAETask, SpatialVAE]:
    torch.manual_seed(0)
    task = SpatialVAETask(SpatialVAEOptions(**{**SMALL, **options}))
    return task, task.build(DIGITS)


def test_two_steps_and_what_follows(tmp_path: Path) -> None:
    whole = default_configuration("spatial-vae")
    asked = dataclasses.replace(
        whole,
        model=SpatialVAEOptions(**SMALL, augment=True, z_delay=1),
        training=dataclasses.replace(whole.training, epochs=2, batch_size=48, log_steps=1, device="cpu"),
    )
    train(asked, tmp_path / "run", dataset=DIGITS)
    with (tmp_path / "run/steps.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2
    assert [float(row["kl_z"]) > 0 for row in rows] == [False, True]
    for row in rows:
        parts = sum(float(row[name]) for name in ("reconstruction", "kl_theta", "kl_shift", "kl_z"))
        assert float(row["loss"]) == pytest.approx(parts, rel=1e-5)
    run = open_run(tmp_path / "run")
    numbers = evaluate_run(run)
    assert numbers["elbo"] < 0
    assert numbers["elbo_at_mean"] < 0
    said = infer_samples(run)
    assert {name: values.shape[1:] for name, values in said.items()} == {
        "theta": (), "shift": (2,), "z": (2,), "reconstruction": (1, 8, 8),
    }  # fmt: skip
    assert generate_samples(run, 3)["image"].shape == (3, 1, 8, 8)
    drawn = {path.name for path in (tmp_path / "run/figures").iterdir()}
    assert drawn == {"reconstructions.png", "interpolation.png", "manifold.png"}


def test_the_command_line_trains_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    arguments = (
        "train spatial-vae --epochs 1 --batch-size 1000 --hidden 4 --samples 1 --device cpu --mask disc"
    )
    assert main([*arguments.split(), "--out", str(out)]) == 0, capsys.readouterr().err
    assert json.loads((out / "metrics.json").read_text())["status"] == "finished"


def test_evaluation_is_the_mean_over_samples_of_the_bound() -> None:
    task, model = task_and_model(samples=3)
    model.eval()
    batches = Batches(DIGITS, torch.arange(10), 4, seed=0, epoch=-1)
    with torch.no_grad():
        numbers = task.evaluate(model, batches)
        images = DIGITS.fetch(torch.arange(10))["image"]
        noise = SampleDraws(0, -1, range(10)).normal("evaluation", (3, 5))
        each = [float(model.loss(images, noise[:, k])["loss"]) for k in range(3)]
        at_mean = float(model.loss(images, torch.zeros(10, 5))["loss"])
    assert numbers["elbo"] == pytest.approx(-sum(each) / 3, rel=1e-5)
    assert numbers["elbo_at_mean"] == pytest.approx(-at_mean, rel=1e-5)


def test_training_alone_turns_views_and_freezes_content() -> None:
    task, model = task_and_model(augment=True, z_delay=2)
    batch = DIGITS.fetch(torch.arange(6))
    draws = SampleDraws(0, 1, batch["index"])
    gamma = draws.uniform("gamma", (), -math.pi, math.pi)
    expected = model.loss(batch["image"], draws, gamma=gamma, freeze_content=True)
    assert torch.equal(task.loss(model, batch, draws)["loss"], expected["loss"])
    seen = rotate(batch["image"], gamma, mode="bicubic")
    mean = model.encode(batch["image"], gamma).mean
    torch.testing.assert_close(mean[:, 0], model.encode(seen).mean[:, 0] + gamma)
    later = SampleDraws(0, 2, batch["index"])
    assert float(task.loss(model, batch, later)["kl_z"].detach()) > 0
    model.eval()
    plain = model.loss(batch["image"], draws)
    assert torch.equal(task.loss(model, batch, draws)["loss"], plain["loss"])


def test_baselines_can_be_asked_for() -> None:
    for options in ({"decoder": "plain"}, {}):
        task, model = task_and_model(rotation=False, translation=False, **options)
        batch = DIGITS.fetch(torch.arange(4))
        draws = SampleDraws(0, 0, batch["index"])
        assert list(task.loss(model, batch, draws)) == ["loss", "reconstruction", "kl_z"]
        assert list(task.infer(model, batch, draws)) == ["z", "reconstruction"]


def test_the_plane_of_contents_is_drawn_where_there_are_two() -> None:
    task, model = task_and_model(latent_dim=3)
    batches = Batches(DIGITS, torch.arange(10), 5, seed=0, epoch=-1)
    assert sorted(task.figures(model, batches)) == ["interpolation", "reconstructions"]


def test_mistakes_are_one_line() -> None:
    with pytest.raises(ValueError, match="augment: expected False without rotation"):
        SpatialVAEOptions(augment=True, rotation=False)
    with pytest.raises(ValueError, match="theta_prior: expected a finite number > 0"):
        SpatialVAEOptions(theta_prior=0.0)
    with pytest.raises(ValueError, match="encoder_layers: expected an integer >= 1"):
        SpatialVAEOptions(encoder_layers=0)
    with pytest.raises(ConfigurationError, match="rotation: expected False with decoder"):
        task_and_model(decoder="plain")


def test_data_without_images_are_refused(tmp_path: Path) -> None:
    import numpy as np

    np.save(tmp_path / "rows.npy", np.zeros((4, 3), dtype=np.float32))
    with pytest.raises(ConfigurationError, match=r"data: spatial-vae needs images \(C, H, W\)"):
        SpatialVAETask(SpatialVAEOptions()).build(load_dataset(str(tmp_path / "rows.npy")))
