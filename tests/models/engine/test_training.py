"""One process: what a step is, what is recorded, what the options do, and what stops a run."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from equikernels.models.data import Dataset, SampleDraws, epoch_order
from equikernels.models.engine import (
    ConfigurationError,
    RunError,
    open_run,
    resume,
    train,
    trainer,
)
from equikernels.models.engine.execution import seed_generator
from equikernels.models.engine.processes import Processes
from equikernels.models.engine.runs import open_dataset, split_dataset
from equikernels.models.engine.validation import measure, validation_batches
from equikernels.project.saving.files import read_tensors, write_tensors
from tests.models.engine.samples import NoisyDigits, assert_equal_runs, configured, digits


def rows(path: Path) -> list[dict[str, float]]:
    with path.open() as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def weights(folder: Path, name: str = "checkpoints/last") -> dict[str, Tensor]:
    return read_tensors(folder / f"{name}.safetensors")[1]


# -- what is computed ----------------------------------------------------------------------------------------


def test_training_is_what_a_plain_loop_computes(tmp_path: Path) -> None:
    """SGD with momentum, clipping, a warm-up, an average and a cosine, written out."""
    options = {
        "algorithm": "sgd",
        "momentum": 0.9,
        "weight_decay": 0.01,
        "schedule": "cosine",
        "warmup_steps": 2,
    }
    asked = configured(
        {"dropout": 0.0}, {**options, "learning_rate": 0.5, "final_learning_rate": 0.1},
        epochs=2, batch_size=100, gradient_clip=0.1, ema_decay=0.7,
    )  # fmt: skip
    train(asked, tmp_path / "run", dataset=digits())
    part, _ = split_dataset(digits(), asked)
    assert len(part) == 240
    task = NoisyDigits(asked.model)
    with torch.random.fork_rng():
        seed_generator(torch.device("cpu"), asked.seed, "parameters")
        model = task.build(part)
    average = {name: p.detach().clone() for name, p in model.named_parameters()}
    speed = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    losses = []
    step = 0
    for epoch in range(2):
        for chosen in epoch_order(0, epoch, 240).split(100):
            batch = part.fetch(chosen)
            loss = task.loss(model, batch, SampleDraws(0, epoch, batch["index"]))["loss"]
            losses.append(loss.item())
            gradients = torch.autograd.grad(loss, list(model.parameters()))
            norm = math.sqrt(sum(float(g.double().square().sum()) for g in gradients))
            assert norm > 0.1  # so that every step is clipped
            rate = (
                0.5 * (step + 1) / 3 if step < 2 else 0.1 + 0.4 * (1 + math.cos(math.pi * (step - 2) / 3)) / 2
            )
            with torch.no_grad():
                for (name, p), gradient in zip(model.named_parameters(), gradients, strict=True):
                    gradient = gradient * (0.1 / norm) + 0.01 * p
                    speed[name] = gradient if step == 0 else 0.9 * speed[name] + gradient
                    p -= rate * speed[name]
                    average[name] = 0.7 * average[name] + 0.3 * p
            row = rows(tmp_path / "run" / "steps.csv")[step]
            assert row["gradient_norm"] == pytest.approx(norm, rel=1e-4)
            assert row["learning_rate"] == pytest.approx(rate, rel=1e-12)
            assert row["loss"] == pytest.approx(losses[-1], rel=1e-5)
            step += 1
    saved = weights(tmp_path / "run")
    for name, p in model.named_parameters():
        torch.testing.assert_close(saved[f"model.{name}"], p.detach(), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(saved[f"average.{name}"], average[name], rtol=1e-4, atol=1e-5)
    sizes = [100, 100, 40]
    for epoch, row in enumerate(rows(tmp_path / "run" / "epochs.csv")):
        mean = sum(n * value for n, value in zip(sizes, losses[3 * epoch :], strict=False)) / 240
        assert row["loss"] == pytest.approx(mean, rel=1e-5)


def test_parts_of_a_batch_add_up_to_it(tmp_path: Path) -> None:
    for accumulation in (1, 7):
        asked = configured(
            {"dropout": 0.0}, {"algorithm": "sgd"}, accumulation=accumulation, workers=accumulation // 3
        )
        train(asked, tmp_path / str(accumulation), dataset=digits())
    whole, parts = weights(tmp_path / "1"), weights(tmp_path / "7")
    for name, tensor in whole.items():
        torch.testing.assert_close(parts[name], tensor, rtol=1e-5, atol=1e-6)


def test_threads_that_read_ahead_change_nothing(tmp_path: Path) -> None:
    for workers in (0, 3):
        train(configured(workers=workers), tmp_path / str(workers), dataset=digits())
    first, second = (weights(tmp_path / name) for name in ("0", "3"))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_seed_decides_and_the_callers_generator_is_spared(tmp_path: Path) -> None:
    torch.manual_seed(5)
    state = torch.get_rng_state()
    train(configured(), tmp_path / "one", dataset=digits())
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(6)
    train(configured(), tmp_path / "two", dataset=digits())
    assert_equal_runs(tmp_path / "one", tmp_path / "two")
    train(dataclasses.replace(configured(), seed=1), tmp_path / "other", dataset=digits())
    one, other = weights(tmp_path / "one", "model"), weights(tmp_path / "other", "model")
    assert not any(torch.equal(one[name], other[name]) for name in one)


def test_validation_uses_the_average_and_gives_the_weights_back(tmp_path: Path) -> None:
    asked = configured(epochs=2, ema_decay=0.99)
    metrics = train(asked, tmp_path / "run", dataset=digits())
    saved = weights(tmp_path / "run")
    assert not torch.equal(saved["model.1.weight"], saved["average.1.weight"])
    assert torch.equal(weights(tmp_path / "run", "model")["1.weight"],
                       weights(tmp_path / "run", "checkpoints/best")["average.1.weight"])  # fmt: skip
    model = open_run(tmp_path / "run").load_model(digits(), "last")
    assert torch.equal(model.state_dict()["1.weight"], saved["average.1.weight"])
    assert not model.training
    batches = validation_batches(split_dataset(digits(), asked)[1], asked, "cpu")
    numbers = measure(NoisyDigits(asked.model), model, batches, Processes("cpu"))
    assert numbers == pytest.approx({name: metrics["last"][name] for name in numbers}, rel=1e-6)
    # The training of a run without an average is the same.
    train(configured(epochs=2), tmp_path / "plain", dataset=digits())
    assert torch.equal(weights(tmp_path / "plain")["model.1.weight"], saved["model.1.weight"])


def test_the_best_epoch_is_kept(tmp_path: Path) -> None:
    # A learning rate so large that the last epoch is not the best.
    asked = configured(None, {"learning_rate": 3.0}, epochs=5, monitor="accuracy", maximize=True)
    metrics = train(asked, tmp_path / "run", dataset=digits())
    seen = rows(tmp_path / "run" / "validation.csv")
    best = max(row["accuracy"] for row in seen)
    first = next(row for row in seen if row["accuracy"] == best)
    assert metrics["best"]["epoch"] == first["epoch"]
    assert metrics["best"]["accuracy"] == best
    assert metrics["last"]["epoch"] == 5
    lowest = train(dataclasses.replace(asked, training=dataclasses.replace(asked.training, monitor="loss",
                   maximize=False)), tmp_path / "loss", dataset=digits())  # fmt: skip
    assert lowest["best"]["loss"] == min(row["loss"] for row in rows(tmp_path / "loss" / "validation.csv"))
    sparse = train(configured(epochs=5, validate_epochs=2), tmp_path / "sparse", dataset=digits())
    assert [row["epoch"] for row in rows(tmp_path / "sparse" / "validation.csv")] == [2, 4, 5]
    assert sparse["last"]["epoch"] == 5


def test_what_a_run_leaves_is_what_it_returns(tmp_path: Path) -> None:
    metrics = train(configured(), tmp_path / "run", dataset=digits())
    assert json.loads((tmp_path / "run" / "metrics.json").read_text()) == metrics
    assert metrics["status"] == "finished"
    assert (metrics["epochs"], metrics["steps"], metrics["samples"]) == (
        3,
        15,
        {"training": 240, "validation": 60},
    )
    assert metrics["data"] == {"name": "digits", "fingerprint": digits().fingerprint}
    assert resume(tmp_path / "run", dataset=digits()) == metrics


def test_a_task_can_export_its_best_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def export(self: NoisyDigits, model: nn.Module, folder: Path) -> None:
        write_tensors(folder / "plain.safetensors", model.state_dict(), {"training": str(model.training)})

    monkeypatch.setattr(NoisyDigits, "export", export, raising=False)
    train(configured(epochs=2, ema_decay=0.9), tmp_path / "run", dataset=digits())
    text, tensors = read_tensors(tmp_path / "run" / "export" / "plain.safetensors")
    assert text == {"training": "False"}
    found = weights(tmp_path / "run", "model")
    assert all(torch.equal(tensors[name], found[name]) for name in found)


# -- options -------------------------------------------------------------------------------------------------


def test_bfloat16_is_near_float32_and_not_it(tmp_path: Path) -> None:
    for precision in ("float32", "bf16"):
        train(configured({"dropout": 0.0}, precision=precision), tmp_path / precision, dataset=digits())
    full, half = (rows(tmp_path / precision / "steps.csv") for precision in ("float32", "bf16"))
    assert full[0]["loss"] != half[0]["loss"]
    assert half[-1]["loss"] == pytest.approx(full[-1]["loss"], rel=0.02)
    assert weights(tmp_path / "bf16")["model.1.weight"].dtype == torch.float32


class Remembering(nn.Sequential):
    """A model that can compute activations again."""

    asked = False

    def gradient_checkpointing_enable(self) -> None:
        type(self).asked = True


def test_gradient_checkpointing_is_asked_of_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigurationError, match="gradient_checkpointing: Sequential does not offer it"):
        train(configured(gradient_checkpointing=True), tmp_path / "without", dataset=digits())
    build = NoisyDigits.build
    monkeypatch.setattr(NoisyDigits, "build", lambda self, dataset: Remembering(*build(self, dataset)))
    train(configured(gradient_checkpointing=True), tmp_path / "with", dataset=digits())
    assert Remembering.asked


def test_a_compiled_model_trains_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = []

    def compile(self: nn.Module) -> None:
        compiled.append(self)
        self._compiled_call_impl = torch.compile(self._call_impl, backend="eager")

    monkeypatch.setattr(nn.Module, "compile", compile)
    for name in ("compiled", "plain"):
        train(
            configured({"dropout": 0.0}, compile=name == "compiled", epochs=1),
            tmp_path / name,
            dataset=digits(),
        )
    assert len(compiled) == 1
    one, other = weights(tmp_path / "compiled"), weights(tmp_path / "plain")
    assert one.keys() == other.keys()
    for key in one:
        torch.testing.assert_close(one[key], other[key])


def test_deterministic_algorithms_are_asked_for_and_given_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    loss = NoisyDigits.loss

    def watching(self: NoisyDigits, *words: Any) -> dict[str, Tensor]:
        seen.append(torch.are_deterministic_algorithms_enabled())
        return loss(self, *words)

    monkeypatch.setattr(NoisyDigits, "loss", watching)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    train(configured(deterministic=True, epochs=1), tmp_path / "run", dataset=digits())
    assert all(seen)
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_run_starts_from_given_weights(tmp_path: Path) -> None:
    train(configured(), tmp_path / "first", dataset=digits())
    found = weights(tmp_path / "first", "model")
    for source in ("first", "first/model.safetensors"):
        folder = tmp_path / source.replace("/", "-").replace("first", "next")
        asked = configured(None, {"learning_rate": 0.0}, epochs=1, initial=str(tmp_path / source))
        train(asked, folder, dataset=digits())
        assert all(torch.equal(weights(folder, "model")[name], found[name]) for name in found)
    with pytest.raises(
        ConfigurationError, match=r"1.weight has shape \(8, 64\) in the file, \(9, 64\) in the model"
    ):
        train(configured({"hidden": 9}, initial=str(tmp_path / "first")), tmp_path / "wide", dataset=digits())
    with pytest.raises(ConfigurationError, match=r"initial: .*nowhere.safetensors: there is no such file"):
        train(configured(initial=str(tmp_path / "nowhere.safetensors")), tmp_path / "n", dataset=digits())
    (tmp_path / "damaged.safetensors").write_bytes(b"nothing")
    with pytest.raises(ConfigurationError, match=r"initial: .*damaged.safetensors: not a safetensors file"):
        train(configured(initial=str(tmp_path / "damaged.safetensors")), tmp_path / "d", dataset=digits())
    assert not (tmp_path / "n").exists()


# -- mistakes ------------------------------------------------------------------------------------------------


class Wrong(NoisyDigits):
    """A task that gives something else as its loss."""

    given: Mapping[str, Any] = {}

    def loss(self, model: nn.Module, batch: Mapping[str, Tensor], draws: SampleDraws) -> dict[str, Tensor]:
        return {name: value(model) for name, value in self.given.items()}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"error": lambda m: m[1].weight.sum()}, "expected a term named 'loss', got error"),
        ({"loss": lambda m: m[1].bias}, r"loss: expected a scalar tensor, got \(8,\)"),
        (
            {"loss": lambda m: m[1].bias.sum(), "size": lambda m: 1.0},
            "size: expected a scalar tensor, got float",
        ),
    ],
)
def test_a_wrong_loss_is_told(
    given: Mapping[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Wrong, "given", given)
    monkeypatch.setattr(trainer.Run, "task", property(lambda self: Wrong(self.configuration.model)))
    with pytest.raises(ValueError, match=message):
        train(configured(), tmp_path / "run", dataset=digits())


def test_terms_that_change_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = iter(range(100))
    names = {"loss": lambda m: m[1].bias.sum(), "now": lambda m: m[1].bias.sum()}
    monkeypatch.setattr(
        Wrong, "given", property(lambda self: dict(list(names.items())[: 1 + (next(calls) > 2)]))
    )
    monkeypatch.setattr(trainer.Run, "task", property(lambda self: Wrong(self.configuration.model)))
    with pytest.raises(
        RunError, match=r"steps.csv: expected numbers named .*, got .*now.*: a task must give the same"
    ):
        train(configured(), tmp_path / "run", dataset=digits())


def test_other_mistakes_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        ConfigurationError, match=r"monitor: expected one of loss, .*, accuracy, got 'acuracy'"
    ):
        train(configured(monitor="acuracy"), tmp_path / "a", dataset=digits())
    assert not (tmp_path / "a").exists()
    with pytest.raises(ConfigurationError, match=r"precision: fp16 needs a GPU"):
        train(configured(precision="fp16"), tmp_path / "b", dataset=digits())
    with pytest.raises(ConfigurationError, match=r"validation: .*expected a sample for 'valid'"):
        train(dataclasses.replace(configured(), validation=1e-4), tmp_path / "c", dataset=digits())
    assert not (tmp_path / "b").exists()
    assert not (tmp_path / "c").exists()
    train(configured(epochs=1), tmp_path / "d", dataset=digits())
    with pytest.raises(ConfigurationError, match="d: holds a run already: resume it, or name another folder"):
        train(configured(epochs=1), tmp_path / "d", dataset=digits())
    (tmp_path / "e").mkdir()
    (tmp_path / "e" / "notes").touch()
    with pytest.raises(ConfigurationError, match="e: is not empty: name another folder"):
        train(configured(epochs=1), tmp_path / "e", dataset=digits())

    def frozen(self: NoisyDigits, dataset: Dataset) -> nn.Module:
        return nn.Linear(2, 2).requires_grad_(False)

    monkeypatch.setattr(NoisyDigits, "build", frozen)
    with pytest.raises(ConfigurationError, match="Linear has no parameter to train"):
        train(configured(), tmp_path / "f", dataset=digits())


# -- data ----------------------------------------------------------------------------------------------------


def test_a_part_of_the_samples_is_split_and_no_other_is_seen() -> None:
    data = digits()
    parts = {}
    for samples, split_seed in ((40, 0), (40, 1), (80, 0)):
        asked = dataclasses.replace(configured(), limit=samples, split_seed=split_seed, validation=0.25)
        train_part, valid = split_dataset(data, asked)
        assert (len(train_part), len(valid)) == (samples * 3 // 4, samples // 4)
        both = [part.fetch(torch.arange(len(part)))["index"] for part in (train_part, valid)]
        parts[samples, split_seed] = set(torch.cat(both).tolist())
        assert len(parts[samples, split_seed]) == samples
    assert parts[40, 0] != parts[40, 1]
    # More samples are the same ones and others.
    assert parts[40, 0] < parts[80, 0]
    too_many = dataclasses.replace(configured(), limit=len(data) + 1)
    with pytest.raises(ConfigurationError, match=rf"limit: expected at most the {len(data)} of .*, got"):
        split_dataset(data, too_many)
    with pytest.raises(ValueError, match="limit: expected an integer >= 1, got 0"):
        dataclasses.replace(configured(), limit=0)


def test_data_can_be_named_by_an_environment_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHERE_DIGITS_ARE", "digits")
    for text in ("$WHERE_DIGITS_ARE", "${WHERE_DIGITS_ARE}"):
        assert len(open_dataset(dataclasses.replace(configured(), data=text))) == 1797
    monkeypatch.delenv("WHERE_DIGITS_ARE")
    missing = dataclasses.replace(configured(), data="${WHERE_DIGITS_ARE}/mnist")
    with pytest.raises(ConfigurationError, match="variable WHERE_DIGITS_ARE is not set"):
        open_dataset(missing)
