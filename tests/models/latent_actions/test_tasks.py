"""The task "latent-actions" on digits, and on volumes, through the engine."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchmetrics.functional.image import peak_signal_noise_ratio

from equikernels.cli import main
from equikernels.group import CyclicGroup
from equikernels.models.data import Dataset, SampleDraws, load_dataset
from equikernels.models.engine import Batches, ConfigurationError, default_configuration, open_run, train
from equikernels.models.engine.inference import evaluate_run, infer_samples
from equikernels.models.latent_actions import LatentActionModel, PairOptions, transformed_pair
from equikernels.models.latent_actions.tasks import GROUPS, LatentActionOptions, LatentActionTask


def digits(count: int = 40) -> Dataset:
    return load_dataset("digits").subset(count, name="digits")


def built(dataset: Dataset, **options: Any) -> tuple[LatentActionTask, LatentActionModel]:
    torch.manual_seed(0)
    task = LatentActionTask(LatentActionOptions(**options))
    return task, task.build(dataset).eval()


@pytest.mark.parametrize("partition", ["learned", "manual", "none"])
@pytest.mark.parametrize("group", ["so2", "c4"])
def test_two_steps_with_every_partition(tmp_path: Path, group: str, partition: str) -> None:
    whole = default_configuration("latent-actions")
    configuration = dataclasses.replace(
        whole,
        model=LatentActionOptions(
            group=group, widths=(4, 8), partition=partition, pairs=PairOptions(square=2)
        ),  # type: ignore[arg-type]
        training=dataclasses.replace(whole.training, epochs=1, batch_size=16, device="cpu"),
        validation=0.2,
    )
    metrics = train(configuration, tmp_path / "run", dataset=digits())
    assert metrics["steps"] == 2
    best = metrics["best"]
    assert {"loss", "reconstruction", "invariant", "varying", "psnr", "ssim", "rmse"} < set(best)
    run = open_run(tmp_path / "run")
    model = run.load_model(digits())
    assert isinstance(model, LatentActionModel)
    assert (
        best["varying_share"]
        == {"learned": float(model.mask.double().mean()), "manual": 0.5, "none": 1.0}[partition]
    )


def test_command_line_trains_evaluates_and_infers(tmp_path: Path) -> None:
    run = str(tmp_path / "run")
    few = ["--widths", "4", "8", "--epochs", "1", "--batch-size", "800", "--device", "cpu", "--out", run]
    assert main(["train", "latent-actions", *few, "--square", "2", "--estimator", "counterfactual"]) == 0
    opened = open_run(Path(run))
    assert opened.configuration.model.pairs == PairOptions(square=2)
    best = json.loads((tmp_path / "run" / "metrics.json").read_text())["best"]
    assert {name: best[name] for name in evaluate_run(opened)} == pytest.approx(
        evaluate_run(opened), rel=1e-6
    )
    answers = infer_samples(opened)
    assert answers["varying"].shape == answers["invariant"].shape == (1797, 8, 2, 2)
    assert not (answers["varying"] * answers["invariant"]).any()
    assert answers["reconstruction"].shape == (1797, 1, 8, 8)


def test_training_lowers_the_loss_and_beats_copying_the_image(tmp_path: Path) -> None:
    whole = default_configuration("latent-actions")
    configuration = dataclasses.replace(
        whole, training=dataclasses.replace(whole.training, epochs=8, device="cpu"),
        model=LatentActionOptions(group="c4"),
    )  # fmt: skip
    dataset = digits(600)
    metrics = train(configuration, tmp_path / "run", dataset=dataset)
    task, model = built(dataset, group="c4")
    batches = Batches(dataset, torch.arange(600), 64, seed=0, epoch=0)
    with torch.no_grad():
        untrained = task.evaluate(model, batches)
    assert metrics["best"]["psnr"] > untrained["psnr"] + 3
    copied = [
        (batch["image"] - transformed_pair(batch["image"], draws, GROUPS["c4"])[1]).square().mean()
        for batch, draws in batches
    ]
    assert metrics["best"]["rmse"] ** 2 < float(torch.stack(copied).mean())


def test_evaluation_is_of_values_from_0_to_1_in_any_batches() -> None:
    dataset = digits(9)
    task, model = built(dataset, widths=(4, 8))
    draws = SampleDraws(3, 1, range(9))
    x = dataset.fetch(torch.arange(9))["image"]
    _, gx, g = transformed_pair(x, draws, GROUPS["so2"])
    with torch.no_grad():
        answer = model.transform(2 * x - 1, g) / 2 + 0.5
        losses = task.loss(model, {"image": x}, draws)
        expected = model.loss(2 * x - 1, 2 * gx - 1, g)
        numbers = [
            task.evaluate(model, Batches(dataset, torch.arange(9), size, seed=3, epoch=1)) for size in (9, 4)
        ]
    psnr = peak_signal_noise_ratio(answer, gx, data_range=1.0, reduction="elementwise_mean", dim=(1, 2, 3))
    for given in numbers:
        assert given["psnr"] == pytest.approx(float(psnr), rel=1e-5)
        assert given["rmse"] == pytest.approx(
            float((answer - gx).square().flatten(1).mean(1).sqrt().mean()), rel=1e-5
        )
        assert -1 <= given["ssim"] <= 1
        assert given["varying_share"] == float(model.mask.double().mean())
    assert numbers[0]["ssim"] == pytest.approx(numbers[1]["ssim"], rel=1e-5)
    assert all(torch.equal(losses[name], expected[name]) for name in expected)


def test_options_reach_the_model() -> None:
    own: dict[str, Any] = {
        "threshold": 0.3, "estimator": "counterfactual", "invariant_weight": 0.25, "varying_weight": 4.0,
    }  # fmt: skip
    _, model = built(digits(), **own, group="c4", start="zero", widths=(4, 8))
    assert {name: getattr(model, name) for name in own} == own
    assert model.group == CyclicGroup(4)
    assert model.channels == 8
    # Around zero every sigmoid is near 0.5, beyond 0.3.
    assert model.mask.all()


@pytest.mark.parametrize("group", ["so3", "cube"])
def test_volumes_train_too(tmp_path: Path, group: Any) -> None:
    volumes = np.random.default_rng(0).random((6, 8, 8, 8), dtype=np.float32)
    np.save(tmp_path / "volumes.npy", volumes)
    dataset = load_dataset(tmp_path / "volumes.npy", layout="NDHW")
    task, model = built(dataset, group=group, widths=(4, 6))
    batch, draws = next(iter(Batches(dataset, torch.arange(6), 6, seed=0, epoch=0)))
    task.loss(model, batch, draws)["loss"].backward()  # type: ignore[no-untyped-call]
    assert model.logits.grad is not None
    assert model.logits.grad.any()
    with torch.no_grad():
        numbers = task.evaluate(model, Batches(dataset, torch.arange(6), 6, seed=0, epoch=0))
        parts = task.infer(model, batch, draws)
    assert set(numbers) == {"psnr", "ssim", "rmse", "varying_share"}
    assert torch.equal(parts["varying"] + parts["invariant"], model.encode(2 * batch["image"] - 1))
    torch.testing.assert_close(parts["reconstruction"], (model.reconstruct(2 * batch["image"] - 1) + 1) / 2)


def test_images_are_averaged_and_framed_before_they_turn() -> None:
    dataset = load_dataset("scenes", count=6, size=16)
    task, model = built(dataset, group="c4", average=2, side=12, widths=(4, 6))
    batch, draws = next(iter(Batches(dataset, torch.arange(6), 6, seed=0, epoch=0)))
    x, gx, g = task.pair(batch, draws)
    assert x.shape == gx.shape == (6, 1, 12, 12)
    blocks = batch["image"].unflatten(-1, (8, 2)).unflatten(-3, (8, 2)).mean((-1, -3))
    torch.testing.assert_close(x[..., 2:10, 2:10], blocks)
    assert not x[..., :2, :].any()
    assert torch.equal(gx, CyclicGroup(4).act(x, g))
    torch.testing.assert_close(task.seen(batch), x)
    with torch.no_grad():
        assert task.infer(model, batch, draws)["reconstruction"].shape == x.shape


def test_layers_of_scenes_reach_their_own_channels() -> None:
    dataset = load_dataset("scenes", count=6)
    task, model = built(dataset, group="so2", widths=(4, 6), pairs=PairOptions(scene="layers"))
    batch, draws = next(iter(Batches(dataset, torch.arange(6), 6, seed=0, epoch=0)))
    x, gx, _ = task.pair(batch, draws)
    assert x.shape == (6, 2, 16, 16)
    torch.testing.assert_close(task.seen(batch), x)
    moved = (model.encode(gx) - model.encode(x)).abs().amax((0, 2, 3))
    assert (moved[:3] > 0).all()
    assert not moved[3:].any()


def test_every_run_has_pictures(tmp_path: Path) -> None:
    whole = default_configuration("latent-actions")
    for number, (dataset, options) in enumerate((
        (digits(), LatentActionOptions(widths=(4, 6))),
        (load_dataset("scenes", count=20), LatentActionOptions(
            widths=(4, 6), pairs=PairOptions(scene="layers")
        )),
    )):  # fmt: skip
        configuration = dataclasses.replace(
            whole, model=options, training=dataclasses.replace(whole.training, epochs=1, device="cpu")
        )
        train(configuration, tmp_path / str(number), dataset=dataset)
        names = {path.name for path in (tmp_path / str(number) / "figures").iterdir()}
        assert names == {"transformed.png", "swapped.png", "parts.png"}


def test_wrong_configurations_are_one_line() -> None:
    for options, message in (
        ({"widths": ()}, "widths: expected at least one integer"),
        ({"threshold": 0.0}, "threshold: expected a number between 0 and 1, got 0.0"),
        ({"varying_weight": -1.0}, "varying_weight: expected a finite number >= 0"),
        ({"group": "so3", "pairs": PairOptions(square=1)}, "square: only images get one"),
        ({"group": "so3", "pairs": PairOptions(scene="object")}, "scene: object needs images, the group so3"),
        ({"widths": (4, 5), "pairs": PairOptions(scene="layers")}, "widths: expected even ones"),
        ({"average": 0}, "average: expected an integer >= 1, got 0"),
        ({"side": 4}, "side: expected an integer >= 8, got 4"),
    ):
        with pytest.raises(ValueError, match=f"^{message}"):
            LatentActionOptions(**options)  # type: ignore[arg-type]
    for options, message in (
        ({"average": 3}, "data: expected equal sides that are multiples of average, 3, digits has 8 x 8"),
        ({"average": 2}, "data: 2 widths need sides that are multiples of 4, at least 8, digits has 4"),
        ({"average": 2, "side": 10}, "data: 2 widths need sides that are multiples of 4, .* digits has 10"),
        ({"pairs": PairOptions(scene="object")}, "data: latent-actions needs object, digits has none"),
        ({"group": "cube"}, "data: the group cube moves volumes, digits has shape"),
        ({"widths": (4, 4, 4, 4)}, "data: 4 widths need sides that are multiples of 16"),
        ({"pairs": PairOptions(square=9)}, "square: expected at most 8 pixels"),
    ):
        with pytest.raises(ConfigurationError, match=f"^{message}"):
            built(digits(), **options)  # type: ignore[arg-type]


def test_a_side_that_is_too_small_is_told() -> None:
    with pytest.raises(ConfigurationError, match=r"^side: expected at least 16, as scenes has, got 12"):
        built(load_dataset("scenes", count=2), side=12)


def test_command_line_knows_the_task(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    arguments = [
        "train",
        "latent-actions",
        "--group",
        "cube",
        "--device",
        "cpu",
        "--out",
        str(tmp_path / "run"),
    ]
    assert main(arguments) == 2
    assert "the group cube moves volumes" in capsys.readouterr().err
