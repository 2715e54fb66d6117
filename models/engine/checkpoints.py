"""Checkpoints: all that training needs to go on, in one file that is replaced as a whole or not at all.

It is a safetensors file. Tensors lie in it as such, under "model.", "average." and "optimizer."; everything
else is JSON in its header.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from equikernels.models.engine.errors import RunError
from equikernels.models.engine.optimization import WeightAverage, trained_parameters
from equikernels.project.saving import SavedFileError
from equikernels.project.saving.files import read_tensors, write_tensors

__all__ = ["Checkpoint", "Position", "read_checkpoint", "restore", "take_checkpoint", "write_checkpoint"]

FORMAT = "equikernels checkpoint 1"


@dataclass
class Position:
    """How far a run has come. All of it is a function of the configuration and the data, never of time.

    Attributes:
        epoch: the epoch that is going on, or comes next, from 0.
        batch: how many of its batches are done.
        step: how many optimizer steps are done altogether.
        samples: how many samples `sums` is over.
        sums: of each term of the loss in this epoch, over its samples.
        best: the best validation so far: its epoch, step and numbers; empty before the first.
        last: the latest validation.
        logs: the length in bytes of every log.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    samples: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    best: dict[str, Any] = field(default_factory=dict)
    last: dict[str, Any] = field(default_factory=dict)
    logs: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint file holds.

    Attributes:
        tensors: by name, with the prefix of what they belong to.
        position: how far the run had come.
        scalars: numbers of the optimizer's state, by name, and those of the gradient scaler.
        configuration: the text of run.toml.
        data: name and fingerprint of the data set.
    """

    tensors: Mapping[str, Tensor]
    position: Position
    scalars: Mapping[str, float]
    configuration: str
    data: Mapping[str, str]

    def part(self, prefix: str) -> dict[str, Tensor]:
        """The tensors under a prefix, without it."""
        start = f"{prefix}."
        return {name.removeprefix(start): t for name, t in self.tensors.items() if name.startswith(start)}

    def weights(self) -> dict[str, Tensor]:
        """The state of the model as it is evaluated: averaged where an average is kept."""
        return self.part("model") | self.part("average")


# -- files ---------------------------------------------------------------------------------------------------


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write or replace a checkpoint; whatever happens, a whole one is there.

    Raises:
        OSError: it cannot be written.
    """
    state = json.dumps(
        {
            "position": asdict(checkpoint.position),
            "scalars": dict(checkpoint.scalars),
            "configuration": checkpoint.configuration,
            "data": dict(checkpoint.data),
        }
    )
    write_tensors(
        path,
        checkpoint.tensors,
        {"format": FORMAT, "state": state, "checksum": _checksum(checkpoint.tensors, state)},
    )


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        RunError: no such file, a damaged one, or a file of another kind.
    """
    try:
        metadata, tensors = read_tensors(path)
    except SavedFileError as error:
        raise RunError(str(error)) from error
    except OSError as error:
        raise RunError(f"{path}: {error.strerror}") from error
    if metadata.get("format") != FORMAT:
        raise RunError(
            f"{path}: not a checkpoint of a run, or of another version: its format is not {FORMAT!r}"
        )
    state = metadata.get("state", "")
    if metadata.get("checksum") != _checksum(tensors, state):
        raise RunError(f"{path}: damaged: its content does not have the checksum it was written with")
    content = json.loads(state)
    return Checkpoint(
        tensors,
        Position(**content["position"]),
        content["scalars"],
        content["configuration"],
        content["data"],
    )


def _checksum(tensors: Mapping[str, Tensor], state: str) -> str:
    """Of the state and of every tensor's name, dtype, shape and bytes."""
    value = zlib.crc32(state.encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        value = zlib.crc32(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode(), value)
        value = zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy().data, value)
    return f"{value:08x}"


# -- what is in them -----------------------------------------------------------------------------------------


def take_checkpoint(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: WeightAverage | None,
    scaler: torch.amp.GradScaler,
    position: Position,
    configuration: str,
    data: Mapping[str, str],
) -> Checkpoint:
    """A checkpoint of the state of a run. Its tensors are the run's own: write it before the next step."""
    tensors = {f"model.{name}": value for name, value in model_state(model).items()}
    if average is not None:
        tensors |= {f"average.{name}": value for name, value in average.tensors.items()}
    scalars = {f"scaler.{name}": value for name, value in scaler.state_dict().items()}
    for name, parameter in trained_parameters(model).items():
        for key, value in optimizer.state.get(parameter, {}).items():
            if isinstance(value, Tensor):
                tensors[f"optimizer.{key}.{name}"] = value
            elif value is not None:
                scalars[f"optimizer.{key}.{name}"] = value
    return Checkpoint(tensors, position, scalars, configuration, data)


def restore(
    path: Path,
    checkpoint: Checkpoint,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: WeightAverage | None,
    scaler: torch.amp.GradScaler,
) -> None:
    """Put a checkpoint's state into a model, its optimizer, average and scaler.

    Args:
        path: what errors name.

    Raises:
        RunError: the checkpoint is of another model.
    """
    load_weights(path, model, checkpoint.part("model"))
    if average is not None:
        averaged = checkpoint.part("average")
        _check_tensors(path, average.tensors, averaged)
        for name, tensor in average.tensors.items():
            tensor.copy_(averaged[name])
    scaler.load_state_dict(_under("scaler", checkpoint.scalars))
    parameters = trained_parameters(model)
    for key, value in _under("optimizer", {**checkpoint.tensors, **checkpoint.scalars}).items():
        kind, _, name = key.partition(".")
        if name not in parameters:
            raise RunError(f"{path}: of another model: {name} is trained in the file, not in the model")
        # Counters of steps stay on the CPU, where the optimizers keep them.
        if isinstance(value, Tensor) and kind != "step":
            value = value.to(parameters[name].device)
        optimizer.state[parameters[name]][kind] = value


def model_state(model: nn.Module) -> dict[str, Tensor]:
    """The tensors of a module's state.

    Raises:
        RunError: it has state that is no tensor, which no safetensors file can hold.
    """
    state = model.state_dict()
    for name, value in state.items():
        if not isinstance(value, Tensor):
            raise RunError(f"{type(model).__name__}: {name} in its state is no tensor: it cannot be saved")
    return state


def load_weights(path: Path, model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Load all tensors of a module's state; RunError names the file and the first that does not fit."""
    _check_tensors(path, model_state(model), tensors)
    model.load_state_dict(dict(tensors))


def _check_tensors(path: Path, own: Mapping[str, Tensor], saved: Mapping[str, Tensor]) -> None:
    for name in [*own, *saved]:
        if name not in saved or name not in own:
            where = "the file has not" if name in own else "the model has not"
            raise RunError(f"{path}: of another model: {name} is a tensor that {where}")
        if own[name].shape != saved[name].shape:
            raise RunError(
                f"{path}: of another model: {name} has shape {tuple(saved[name].shape)} in the file, "
                f"{tuple(own[name].shape)} in the model"
            )


def _under(prefix: str, items: Mapping[str, Any]) -> dict[str, Any]:
    start = f"{prefix}."
    return {name.removeprefix(start): value for name, value in items.items() if name.startswith(start)}
