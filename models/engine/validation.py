"""Numbers of a model on samples that it is not trained on."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from equikernels.models.data import SampleDraws
from equikernels.models.engine.batches import Batches, read_ahead, to_device
from equikernels.models.engine.configuration import RunConfiguration
from equikernels.models.engine.errors import ConfigurationError
from equikernels.models.engine.execution import autocast, seed_generator
from equikernels.models.engine.processes import Processes
from equikernels.models.engine.steps import loss_terms
from equikernels.models.engine.tasks import Evaluates, Task

if TYPE_CHECKING:
    from equikernels.models.data import Dataset

__all__ = ["check_monitor", "measure", "validation_batches"]

VALIDATION = -1
"""The epoch of the draws in validation: the same numbers every time, and none of those of training."""


def validation_batches(
    dataset: Dataset, configuration: RunConfiguration[Any], device: torch.device | str
) -> Batches:
    """All samples of a data set in their order, with the same draws every time."""
    return Batches(
        dataset,
        torch.arange(len(dataset)),
        configuration.training.batch_size,
        seed=configuration.seed,
        epoch=VALIDATION,
        device=device,
        workers=configuration.training.workers,
    )


@torch.no_grad()
def measure(
    task: Task[Any],
    model: nn.Module,
    batches: Batches,
    processes: Processes,
    precision: str = "float32",
    between: Callable[[], None] = lambda: None,
) -> dict[str, float]:
    """The mean of every term of the loss over all samples, and the task's own numbers.

    The terms are computed by all processes together, the task's own numbers by the main one.

    Args:
        between: called after every batch.

    Raises:
        ValueError: one name for two numbers.
    """
    training = model.training
    model.eval()
    try:
        seed_generator(processes.device, batches.seed, "validation")
        with autocast(precision, processes.device):
            numbers = _mean_terms(task, model, batches, processes, between)
            evaluated = processes.on_main(lambda: _own_numbers(task, model, batches))
    finally:
        model.train(training)
    twice = numbers.keys() & evaluated.keys()
    if twice:
        raise ValueError(f"{type(task).__name__}.evaluate: {min(twice)} is a term of the loss too")
    return numbers | evaluated


def check_monitor(
    task: Task[Any],
    dataset: Dataset,
    validation_part: Dataset,
    configuration: RunConfiguration[Any],
    processes: Processes,
) -> None:
    """Find a name of no number now, and not after an epoch: an untrained model shows what numbers there are.

    Raises:
        ConfigurationError: no number of that name.
    """
    name = configuration.training.monitor
    if name == "loss":
        return
    few = validation_part.subset(min(len(validation_part), configuration.training.batch_size))
    devices = [] if processes.device.type == "cpu" else [processes.device]
    with torch.random.fork_rng(devices=devices):
        model = task.build(dataset).to(processes.device)
        batches = validation_batches(few, configuration, processes.device)
        numbers = measure(task, model, batches, processes, configuration.training.precision)
    if name not in numbers:
        raise ConfigurationError(f"monitor: expected one of {', '.join(numbers)}, got {name!r}")


def _mean_terms(
    task: Task[Any], model: nn.Module, batches: Batches, processes: Processes, between: Callable[[], None]
) -> dict[str, float]:
    """Process r computes the batches r, r + count, ..., and all of them add up."""
    own = batches.indices.split(batches.batch_size)[processes.rank :: processes.count]
    sums: dict[str, float] = {}
    for batch in read_ahead(batches.dataset, own, batches.workers):
        samples = batch["index"]
        draws = SampleDraws(batches.seed, batches.epoch, samples)
        terms = loss_terms(task, task.loss(model, to_device(batch, batches.device), draws))
        for name, value in terms.items():
            sums[name] = sums.get(name, 0.0) + float(value) * len(samples)
        between()
    gathered = processes.gather([sums])
    totals = {name: sum(other.get(name, 0.0) for other in gathered) for name in gathered[0]}
    return {name: total / len(batches.indices) for name, total in totals.items()}


def _own_numbers(task: Task[Any], model: nn.Module, batches: Batches) -> dict[str, float]:
    if not isinstance(task, Evaluates):
        return {}
    return {name: float(value) for name, value in task.evaluate(model, batches).items()}
