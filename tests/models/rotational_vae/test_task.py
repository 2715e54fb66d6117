"""The task, trained for a few steps on crops of photographs and on digits."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL

from equikernels.cli import main
from equikernels.models.data import SampleDraws, load_dataset
from equikernels.models.data.transforms import random_crop
from equikernels.models.engine import Batches, ConfigurationError, default_configuration, open_run, train
from equikernels.models.engine.inference import Use, evaluate_run
from equikernels.models.rotational_vae import RotationalVAE
from equikernels.models.rotational_vae.tasks import RotationalVAEOptions, RotationalVAETask

SMALL: dict[str, Any] = {"channels": (4, 8), "norm_groups": 2, "crop": 16}


def configured(epochs: int = 1, **model: Any) -> Any:
    configuration = default_configuration("rvae")
    return dataclasses.replace(
        configuration,
        data_options=("size=24",),
        model=dataclasses.replace(configuration.model, **SMALL, **model),
        training=dataclasses.replace(configuration.training, epochs=epochs, log_steps=1, device="cpu"),
    )


def test_two_steps_of_a_run_and_what_is_left_of_it(tmp_path: Path) -> None:
    metrics = train(configured(group="D_4", kl_weight=1e-6, symmetric=True), tmp_path / "run")
    assert metrics["steps"] == 2
    best = metrics["best"]
    assert {"loss", "reconstruction", "turned", "kl", "psnr_0", "encoder_270flip"} <= best.keys()
    assert best["encoder_0"] < 1e-5 < best["encoder_90"]
    # One photograph is left for validation, so no mean lies between the two.
    assert best["psnr_0"] == pytest.approx(-10 * math.log10(best["round_trip_mse_unit_0"]))
    again = evaluate_run(open_run(tmp_path / "run"))
    assert again["round_trip_mse_180"] == pytest.approx(best["round_trip_mse_180"])
    assert isinstance(AutoencoderKL.from_pretrained(tmp_path / "run" / "export"), AutoencoderKL)
    # The exported VAE is the model of the run.
    model = open_run(tmp_path / "run").load_model(load_dataset("photographs", size=24))
    assert isinstance(model, RotationalVAE)
    x = torch.zeros(1, 3, 16, 16)
    torch.testing.assert_close(RotationalVAE(tmp_path / "run" / "export")(x), model(x))


@pytest.mark.parametrize(
    "options",
    [
        {"mode": "implicit", "group": "SO(2)"},
        {"mode": "explicit", "group": "C_4"},
        {"trained": "decoder", "group": "C_2"},
    ],
    ids=lambda options: "-".join(options.values()),
)
def test_other_options_train_too(tmp_path: Path, options: dict[str, Any]) -> None:
    metrics = train(configured(**options), tmp_path / "run")
    assert metrics["steps"] == 2
    assert math.isfinite(metrics["best"]["loss"])


def test_half_precision(tmp_path: Path) -> None:
    configuration = configured(group="SO(2)", kl_weight=1e-6)
    training = dataclasses.replace(configuration.training, precision="bf16")
    metrics = train(dataclasses.replace(configuration, training=training), tmp_path / "run")
    assert math.isfinite(metrics["best"]["loss"])


def test_the_command_trains_on_digits(tmp_path: Path) -> None:
    words = "--data digits --crop 8 --channels 4 8 --norm-groups 2 --epochs 1 --batch-size 800 --device cpu"
    assert main(["train", "rvae", "--out", str(tmp_path / "run"), *words.split()]) == 0
    assert open_run(tmp_path / "run").read_metrics()["steps"] == 2


def test_training_lowers_both_terms(tmp_path: Path) -> None:
    configuration = configured()
    task = RotationalVAETask(configuration.model)
    dataset = load_dataset("photographs", size=16)
    torch.manual_seed(0)
    model = task.build(dataset)
    batch = dataset.fetch(torch.arange(7))
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    history = []
    for epoch in range(40):
        optimizer.zero_grad()
        terms = task.loss(model, batch, SampleDraws(0, epoch, range(7)))
        terms["loss"].backward()
        optimizer.step()
        history.append((float(terms["reconstruction"].detach()), float(terms["turned"].detach())))
    assert history[-1][0] < 0.5 * history[0][0]
    assert history[-1][1] < 0.5 * history[0][1]


def test_images_are_brought_to_minus_one_to_one_and_cropped_in_the_middle() -> None:
    task = RotationalVAETask(RotationalVAEOptions(**SMALL))
    dataset = load_dataset("photographs", size=24)
    model, batch = task.build(dataset).eval(), dataset.fetch(torch.arange(2))
    x = 2 * batch["image"][:, :, 4:20, 4:20] - 1
    got = task.loss(model, batch, SampleDraws(0, 0, [0, 1]))
    torch.testing.assert_close(got, model.loss(x, elements=1))
    inferred = task.infer(model, batch, SampleDraws(0, 0, [0, 1]))
    torch.testing.assert_close(inferred["latent"], model.encode(x))
    torch.testing.assert_close(inferred["reconstruction"], (model(x).clamp(-1, 1) + 1) / 2)


def test_windows_of_an_image_are_samples_of_their_own() -> None:
    task = RotationalVAETask(RotationalVAEOptions(**SMALL, windows=3, group="C_4", mode="implicit"))
    dataset = load_dataset("photographs", size=24)
    model, batch = task.build(dataset).train(), dataset.fetch(torch.tensor([4, 2]))
    got = task.loss(model, batch, SampleDraws(7, 5, [4, 2]))
    # Window k of image i has the random numbers of sample 3 i + k.
    draws = SampleDraws(7, 5, [12, 13, 14, 6, 7, 8])
    windows = random_crop(batch["image"][[0, 0, 0, 1, 1, 1]], draws, 16)[0]
    assert len(windows.flatten(1).unique(dim=0)) == 6
    assert got["loss"].item() == model.loss(2 * windows - 1, draws)["loss"].item()
    # Validation sees the middle of every image, once.
    held = task.loss(model.eval(), batch, SampleDraws(7, -1, [4, 2]))
    x = 2 * batch["image"][:, :, 4:20, 4:20] - 1
    torch.testing.assert_close(held, model.loss(x, SampleDraws(7, -1, [4, 2])))
    with pytest.raises(ValueError, match="windows: expected 1 of whole images"):
        RotationalVAEOptions(crop=0, windows=2)


def test_the_random_vae_has_attention_or_not() -> None:
    dataset = load_dataset("photographs", size=24)
    for attention in (True, False):
        model = RotationalVAETask(RotationalVAEOptions(**SMALL, attention=attention)).build(dataset)
        names = [name for name, _ in model.named_parameters()]
        assert any("attention" in name for name in names) == attention


def test_figures_show_turned_latents_and_every_element() -> None:
    for group in ("C_2", "D_4", "SO(2)"):
        task = RotationalVAETask(RotationalVAEOptions(**SMALL, group=group))
        dataset = load_dataset("photographs", size=24)
        batches = Batches(dataset, torch.arange(4), 2, seed=0, epoch=0)
        found = task.figures(task.build(dataset).eval(), batches)
        assert list(found) == ["latent_turns", "errors"]
        # Two images of the first batch in four columns.
        assert len(found["latent_turns"].axes) == 8


def test_evaluation_is_the_mean_over_all_images(tmp_path: Path) -> None:
    train(configured(), tmp_path / "run")
    run = open_run(tmp_path / "run")
    dataset = load_dataset("photographs", size=24)
    model = run.load_model(dataset)
    assert isinstance(model, RotationalVAE)
    x = 2 * dataset.fetch(torch.arange(7))["image"][:, :, 4:20, 4:20] - 1
    wanted = {name: rows.mean(1).tolist() for name, rows in model.errors(x, [0, 1]).items()}
    numbers = evaluate_run(run, Use(data="photographs"))
    for name, (still, half) in wanted.items():
        assert [numbers[f"{name}_0"], numbers[f"{name}_180"]] == pytest.approx(
            [still, half], rel=1e-5, abs=1e-5
        )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crop": 64}, "crop: images of photographs are 24 x 24, got 64"),
        ({"crop": 15}, "crop: expected sides that 2 divides, got 15 x 15 pixels"),
    ],
)
def test_wrong_crops(options: dict[str, Any], message: str) -> None:
    task = RotationalVAETask(RotationalVAEOptions(**(SMALL | options)))
    with pytest.raises(ConfigurationError, match=message):
        task.build(load_dataset("photographs", size=24))


def test_wrong_data_and_options(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="channels: expected multiples of norm_groups = 4"):
        RotationalVAEOptions(channels=(6,))
    model = RotationalVAETask(RotationalVAEOptions(**SMALL)).build(load_dataset("photographs", size=24))
    model.save_pretrained(tmp_path)
    options = RotationalVAEOptions(**(SMALL | {"vae": str(tmp_path), "crop": 8}))
    with pytest.raises(ConfigurationError, match="vae: it takes 3 channels, digits has 1"):
        RotationalVAETask(options).build(load_dataset("digits"))
    missing = RotationalVAEOptions(vae=str(tmp_path / "nothing"))
    with pytest.raises(ConfigurationError, match="vae: expected a folder or a hub name"):
        RotationalVAETask(missing).build(load_dataset("photographs", size=64))
    frozen = RotationalVAEOptions(trained="decoder", mode="explicit", **SMALL)
    with pytest.raises(ConfigurationError, match="trained: 'decoder' freezes the encoder"):
        RotationalVAETask(frozen).build(load_dataset("photographs", size=64))
