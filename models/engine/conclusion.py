"""What a finished run leaves beside its records: the best weights, pictures, exported files."""

from __future__ import annotations

import platform
from importlib.metadata import version
from typing import Any

import torch
from torch import nn

from equikernels.models.engine.batches import Batches
from equikernels.models.engine.checkpoints import load_weights, model_state, read_checkpoint
from equikernels.models.engine.execution import seed_generator
from equikernels.models.engine.processes import Processes
from equikernels.models.engine.records import RunLogs
from equikernels.models.engine.runs import Run
from equikernels.models.engine.tasks import DrawsFigures, Exports
from equikernels.project.saving.files import write_tensors

__all__ = ["leave_results", "run_conditions"]


@torch.no_grad()
def leave_results(run: Run, model: nn.Module, batches: Batches, logs: RunLogs | None, step: int) -> None:
    """Load the weights of the best epoch into a model and leave them by themselves, drawn and exported.

    Args:
        batches: what the task draws.
        logs, step: where and as what TensorBoard gets the figures.

    Raises:
        RunError: the checkpoint of the best epoch is damaged.
        OSError: a file cannot be written.
    """
    path = run.checkpoint("best")
    load_weights(path, model, read_checkpoint(path).weights())
    model.eval()
    write_tensors(run.weights, model_state(model), {"task": run.configuration.task})
    task = run.task
    seed_generator(batches.device, run.configuration.seed, "figures")
    if isinstance(task, DrawsFigures):
        run.figures.mkdir(exist_ok=True)
        for name, figure in task.figures(model, batches).items():
            figure.savefig(run.figures / f"{name}.png")
            if logs is not None:
                logs.figure(name, figure, step)
    if isinstance(task, Exports):
        run.export.mkdir(exist_ok=True)
        task.export(model, run.export)


def run_conditions(processes: Processes) -> dict[str, Any]:
    """What the bits and the time of a run depend on, beside its configuration and data."""
    return {
        "device": str(processes.device),
        "processes": processes.count,
        "threads": torch.get_num_threads(),
        "machine": platform.machine(),
        "versions": {name: version(name) for name in ("equikernels", "torch", "accelerate")},
    }
