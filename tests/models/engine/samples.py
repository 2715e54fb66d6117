"""A small task with everything that a run can depend on, and runs of it."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from equikernels.models.data import Dataset, SampleDraws, load_dataset
from equikernels.models.engine import Batches, RunConfiguration, Task, default_configuration, register_task
from equikernels.project.saving.files import read_tensors


@dataclass(frozen=True)
class Sizes:
    """Of a classifier of digits.

    Attributes:
        hidden: Hidden units.
        dropout: Share of hidden units left out in training.
        poisoned: Samples whose loss is not finite.
        poisoned_from: The first epoch in which it is not.
        poisoned_gradient: Whether the gradient is not finite, instead of the loss.
        slow: Seconds that a loss takes longer.
    """

    hidden: int = 8
    dropout: float = 0.2
    poisoned: tuple[int, ...] = ()
    poisoned_from: int = 0
    poisoned_gradient: bool = False
    slow: float = 0.0


@register_task
class NoisyDigits(Task[Sizes]):
    """Digits with noise of their own in every epoch, and dropout."""

    name = "noisy-digits"
    summary = "classify digits"
    options = Sizes

    def build(self, dataset: Dataset) -> nn.Module:
        sizes = self.configuration
        return nn.Sequential(
            nn.Flatten(),
            nn.Linear(64, sizes.hidden),
            nn.ReLU(),
            nn.Dropout(sizes.dropout),
            nn.Linear(sizes.hidden, 10),
        )

    def loss(self, model: nn.Module, batch: Mapping[str, Tensor], draws: SampleDraws) -> dict[str, Tensor]:
        images = batch["image"] + 0.1 * draws.normal("noise", (1, 8, 8))
        cross_entropy = functional.cross_entropy(model(images), batch["label"])
        size = sum(parameter.square().sum() for parameter in model.parameters())
        assert isinstance(size, Tensor)
        loss = cross_entropy + 1e-3 * size
        if self.configuration.slow:
            time.sleep(self.configuration.slow)
        poisoned = torch.isin(batch["index"], torch.tensor(self.configuration.poisoned, dtype=torch.int64))
        if model.training and draws.epoch >= self.configuration.poisoned_from and bool(poisoned.any()):
            zero = next(model.parameters()).sum() * 0
            loss = loss + (zero.sqrt() if self.configuration.poisoned_gradient else math.nan)
        return {"loss": loss, "cross_entropy": cross_entropy, "size": size}

    def evaluate(self, model: nn.Module, batches: Batches) -> dict[str, float]:
        right = sum(int((model(batch["image"]).argmax(1) == batch["label"]).sum()) for batch, _ in batches)
        return {"accuracy": right / len(batches.indices)}

    def infer(self, model: nn.Module, batch: Mapping[str, Tensor], draws: SampleDraws) -> dict[str, Tensor]:
        logits = model(batch["image"])
        return {"logits": logits.bfloat16(), "label": logits.argmax(1)}

    def generate(self, model: nn.Module, draws: SampleDraws) -> dict[str, Tensor]:
        return {"image": draws.uniform("image", (1, 8, 8)) + next(model.parameters()).mean()}


@functools.cache
def digits(count: int = 300) -> Dataset:
    return load_dataset("digits").subset(count, name="digits")


def configured(
    model: Mapping[str, Any] | None = None, optimizer: Mapping[str, Any] | None = None, **training: Any
) -> RunConfiguration[Any]:
    """A configuration of the small task; what is not named is as by default."""
    whole = default_configuration("noisy-digits")
    return dataclasses.replace(
        whole,
        model=dataclasses.replace(whole.model, **(model or {})),
        optimizer=dataclasses.replace(whole.optimizer, **{"learning_rate": 0.01, **(optimizer or {})}),
        training=dataclasses.replace(
            whole.training, **{"epochs": 3, "batch_size": 50, "log_steps": 1, "device": "cpu", **training}
        ),
    )


def assert_equal_runs(one: Path, other: Path) -> None:
    """All that a run leaves, bit for bit, but times."""
    for name in ("run.toml", "steps.csv", "epochs.csv", "validation.csv"):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    # These are no equal bytes: the library writes the entries of the header in any order.
    for name in ("checkpoints/last", "checkpoints/best", "model"):
        (text, tensors), (other_text, others) = (
            read_tensors(folder / f"{name}.safetensors") for folder in (one, other)
        )
        assert text == other_text, name
        assert tensors.keys() == others.keys()
        for key, tensor in tensors.items():
            assert tensor.dtype == others[key].dtype
            assert torch.equal(tensor, others[key]), (name, key)
    timed = ("seconds", "processor_seconds", "samples_per_second")
    left, right = (json.loads((folder / "metrics.json").read_text()) for folder in (one, other))
    for name in timed:
        assert left.pop(name) >= 0
        right.pop(name)
    assert left == right
    assert sorted(path.name for path in (one / "checkpoints").iterdir()) == [
        "best.safetensors",
        "last.safetensors",
    ]
