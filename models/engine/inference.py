"""What a trained model is used for: numbers on other data, answers to given samples, samples of its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from equikernels.models.data import SampleDraws
from equikernels.models.engine.batches import Batches
from equikernels.models.engine.configuration import RunConfiguration, check_at_least
from equikernels.models.engine.errors import ConfigurationError
from equikernels.models.engine.processes import Processes
from equikernels.models.engine.runs import Run, Which, open_dataset, split_dataset
from equikernels.models.engine.tasks import Generates, Infers, Task
from equikernels.models.engine.validation import measure, validation_batches
from equikernels.project.saving.files import write_atomically

__all__ = ["Use", "evaluate_run", "generate_samples", "infer_samples", "save_arrays"]


@dataclass(frozen=True)
class Use:
    """How a trained model is used.

    Attributes:
        data: Another data set, all of it; without it the run's own.
        data_options: Options of its format, as name=value; without them the run's.
        checkpoint: The weights to take: of the best epoch, or the last ones.
        batch_size: Samples at a time; without it as in training.
        device: auto takes a GPU where there is one.
    """

    data: str | None = None
    data_options: tuple[str, ...] | None = None
    checkpoint: Which = "best"
    batch_size: int | None = None
    device: Literal["auto", "cpu"] = "auto"

    def __post_init__(self) -> None:
        if self.batch_size is not None:
            check_at_least(self, "batch_size", 1)

    def configuration(self, run: Run) -> RunConfiguration[Any]:
        """That of a run, with the data that are asked for."""
        configuration = run.configuration
        options = configuration.data_options if self.data_options is None else self.data_options
        data = configuration.data if self.data is None else self.data
        return dataclasses.replace(configuration, data=data, data_options=options)


def evaluate_run(run: Run, use: Use = Use()) -> dict[str, float]:
    """The terms of the loss and the task's own numbers.

    They are those of the validation part of the run's own data, or of all samples of other data.

    Raises:
        ConfigurationError: the data cannot be used.
        RunError: there is no such checkpoint.
    """
    processes = Processes(use.device)
    dataset = open_dataset(use.configuration(run))
    measured = split_dataset(dataset, run.configuration)[1] if use.data is None else dataset
    model = run.load_model(dataset, use.checkpoint, processes.device)
    batches = validation_batches(measured, run.configuration, processes.device)
    batches.batch_size = use.batch_size or batches.batch_size
    with torch.random.fork_rng(devices=_gpus(processes)):
        return measure(run.task, model, batches, processes, run.configuration.training.precision)


def infer_samples(run: Run, use: Use = Use()) -> dict[str, np.ndarray]:
    """What the model says about every sample of a data set, in its order: arrays (samples, ...) by name.

    Raises:
        ConfigurationError: the task cannot infer, or the data cannot be used.
        RunError: there is no such checkpoint.
    """
    task = run.task
    if not isinstance(task, Infers):
        raise _unable(task, "infer")
    processes = Processes(use.device)
    dataset = open_dataset(use.configuration(run))
    model = run.load_model(dataset, use.checkpoint, processes.device)
    batches = validation_batches(dataset, run.configuration, processes.device)
    batches.batch_size = use.batch_size or batches.batch_size
    return _collect(_inferred(task, model, batches), processes)


def _inferred(task: Infers, model: nn.Module, batches: Batches) -> Iterator[Mapping[str, Tensor]]:
    for batch, draws in batches:
        yield task.infer(model, batch, draws)


def generate_samples(run: Run, count: int, seed: int = 0, use: Use = Use()) -> dict[str, np.ndarray]:
    """Samples that the model makes: arrays (count, ...) by name. Sample i depends on i and the seed alone.

    Raises:
        ConfigurationError: the task cannot generate; a count below 1.
        RunError: there is no such checkpoint.
    """
    task = run.task
    if not isinstance(task, Generates):
        raise _unable(task, "generate")
    if count < 1:
        raise ConfigurationError(f"count: expected an integer >= 1, got {count}")
    processes = Processes(use.device)
    model = run.load_model(open_dataset(use.configuration(run)), use.checkpoint, processes.device)
    parts = torch.arange(count).split(use.batch_size or run.configuration.training.batch_size)
    return _collect((task.generate(model, SampleDraws(seed, 0, part)) for part in parts), processes)


def save_arrays(folder: Path, arrays: Mapping[str, np.ndarray]) -> list[Path]:
    """Write NAME.npy for each array; the paths.

    Raises:
        ConfigurationError: the folder cannot be written.
    """
    paths = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, array in arrays.items():
            paths.append(folder / f"{name}.npy")
            write_atomically(paths[-1], lambda temporary, array=array: _save(temporary, array))  # type: ignore[misc]
    except OSError as error:
        raise ConfigurationError(f"{folder}: cannot write there: {error.strerror}") from error
    return paths


def _save(path: Path, array: np.ndarray) -> None:
    # np.save adds .npy to a name, not to a file.
    with path.open("wb") as file:
        np.save(file, array)


def _unable(task: Task[Any], name: str) -> ConfigurationError:
    return ConfigurationError(f"the task {task.name} cannot {name}: it has no method {name}")


@torch.no_grad()
def _collect(results: Iterable[Mapping[str, Tensor]], processes: Processes) -> dict[str, np.ndarray]:
    collected: dict[str, list[Tensor]] = {}
    with torch.random.fork_rng(devices=_gpus(processes)):
        for result in results:
            for name, tensor in result.items():
                # NumPy has no bfloat16.
                wide = tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor
                collected.setdefault(name, []).append(wide.cpu())
    return {name: torch.cat(tensors).numpy() for name, tensors in collected.items()}


def _gpus(processes: Processes) -> list[torch.device]:
    return [] if processes.device.type == "cpu" else [processes.device]
