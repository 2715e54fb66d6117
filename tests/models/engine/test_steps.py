"""What stops a step before it touches the parameters, and how float16 is scaled."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from equikernels.models.data import Dataset, SampleDraws, epoch_order
from equikernels.models.engine import NonFiniteError, train
from equikernels.models.engine.optimization import make_optimizer
from equikernels.models.engine.processes import Processes
from equikernels.models.engine.runs import split_dataset
from equikernels.models.engine.steps import Part, StepTaken, StepTaker, _named
from equikernels.project.saving.files import read_tensors
from tests.models.engine.samples import NoisyDigits, configured, digits


def weights(folder: Path) -> dict[str, Tensor]:
    return read_tensors(folder / "checkpoints" / "last.safetensors")[1]


@pytest.mark.parametrize("accumulation", [1, 3])
def test_a_loss_that_is_not_finite_names_the_step_and_the_samples(tmp_path: Path, accumulation: int) -> None:
    part, _ = split_dataset(digits(), configured())
    indices = part.fetch(torch.arange(len(part)))["index"]
    batches = [indices[order] for order in epoch_order(0, 1, 240).split(50)]
    poisoned = tuple(sorted(batches[2][[3, 5]].tolist()))
    asked = configured(
        {"poisoned": poisoned, "poisoned_from": 1}, accumulation=accumulation, checkpoint_steps=1
    )
    with pytest.raises(NonFiniteError) as caught:
        train(asked, tmp_path / "run", dataset=digits())
    assert str(caught.value) == (
        f"step 8: the loss is not finite for the training samples {poisoned[0]}, {poisoned[1]}"
    )
    # The last checkpoint is that of step 7, and its parameters are untouched.
    clean = configured({"poisoned": (), "poisoned_from": 1}, accumulation=accumulation, checkpoint_steps=1)
    train(clean, tmp_path / "clean", dataset=digits())
    assert (tmp_path / "run" / "steps.csv").read_text() == "".join(
        (tmp_path / "clean" / "steps.csv").read_text().splitlines(keepends=True)[:8]
    )
    assert all(bool(tensor.isfinite().all()) for tensor in weights(tmp_path / "run").values())


def test_samples_are_named_of_a_model_that_needs_several(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch norm cannot train on one sample."""
    build = NoisyDigits.build

    def with_batch_norm(self: NoisyDigits, dataset: Dataset) -> nn.Module:
        flatten, *rest = build(self, dataset)  # type: ignore[misc]
        return nn.Sequential(flatten, nn.BatchNorm1d(64), *rest)

    monkeypatch.setattr(NoisyDigits, "build", with_batch_norm)
    part, _ = split_dataset(digits(), configured())
    poisoned = int(part.fetch(torch.tensor([17]))["index"])
    with pytest.raises(NonFiniteError, match=rf"not finite for the training sample {poisoned}$"):
        train(configured({"poisoned": (poisoned,)}), tmp_path / "run", dataset=digits())


def test_a_gradient_that_is_not_finite_stops_before_the_step(tmp_path: Path) -> None:
    everything = tuple(range(300))
    asked = configured(
        {"poisoned": everything, "poisoned_from": 1, "poisoned_gradient": True}, checkpoint_steps=1
    )
    with pytest.raises(NonFiniteError, match=r"^step 6: the gradient is not finite, though the loss is$"):
        train(asked, tmp_path / "run", dataset=digits())
    assert all(bool(tensor.isfinite().all()) for tensor in weights(tmp_path / "run").values())


def test_many_samples_are_counted() -> None:
    assert _named([3]) == "sample 3"
    assert _named(range(20, 0, -1)) == f"samples {', '.join(map(str, range(1, 17)))} and 4 more"


# -- float16 -------------------------------------------------------------------------------------------------


Found = tuple[dict[str, Tensor], dict[str, Tensor], StepTaken, torch.amp.GradScaler]


def one_step(scale: float | None, poisoned: bool = False) -> Found:
    """The parameters before and after a step with scaled gradients."""
    model_options = {"dropout": 0.0, "poisoned": (7,) if poisoned else (), "poisoned_gradient": poisoned}
    asked = configured(model_options, gradient_clip=0.1)
    task = NoisyDigits(asked.model)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = task.build(digits())
    scaler = torch.amp.GradScaler("cpu", init_scale=scale or 1.0, enabled=scale is not None)
    optimizer = make_optimizer(model, asked.optimizer)
    step = StepTaker(task, model, optimizer, scaler, asked.training, Processes("cpu"), seed=0)
    before = copy.deepcopy(model.state_dict())
    batch = digits().fetch(torch.arange(20))
    taken = step([Part(batch, SampleDraws(0, 0, batch["index"]), 1.0)], 1, 0.01)
    return before, model.state_dict(), taken, scaler


def test_scaled_gradients_give_the_same_step() -> None:
    _, plain, taken, _ = one_step(None)
    _, scaled, other, scaler = one_step(2.0**16)
    assert scaler.get_scale() == 2.0**16
    assert other.gradient_norm == pytest.approx(taken.gradient_norm, rel=1e-5)
    for name, tensor in plain.items():
        torch.testing.assert_close(scaled[name], tensor, rtol=1e-4, atol=1e-6)


def test_a_step_that_overflows_is_skipped_and_scaled_less() -> None:
    before, after, taken, scaler = one_step(2.0**16, poisoned=True)
    assert math.isnan(taken.gradient_norm)
    assert all(torch.equal(before[name], tensor) for name, tensor in after.items())
    assert scaler.get_scale() == 2.0**15
    with pytest.raises(NonFiniteError, match=r"^step 1: the gradient is not finite, though the loss is$"):
        one_step(None, poisoned=True)
