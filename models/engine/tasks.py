"""What a model gives to be trained: its module, its loss, whatever else it can do; and the registry."""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import tomllib
import typing
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeVar, runtime_checkable

from torch import Tensor, nn

from equikernels.models.data import SampleDraws
from equikernels.models.engine.configuration import OptimizerOptions, RunConfiguration, TrainingOptions
from equikernels.models.engine.errors import ConfigurationError
from equikernels.models.engine.toml import from_table, read_table, to_toml

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from equikernels.models.data import Dataset
    from equikernels.models.engine.batches import Batches

__all__ = [
    "DrawsFigures",
    "Evaluates",
    "Exports",
    "Generates",
    "Infers",
    "Task",
    "default_configuration",
    "find_task",
    "read_configuration",
    "register_task",
    "task_names",
]

Configuration = TypeVar("Configuration")
TaskType = TypeVar("TaskType", bound="type[Task[Any]]")


class Task(ABC, Generic[Configuration]):
    """A model with its loss, ready for the engine.

    A task keeps no state but its configuration: all that is learned lies in the module, and every random
    number comes from the draws. It may also have the methods of `Evaluates`, `DrawsFigures`, `Exports`,
    `Infers` and `Generates`.

    Class attributes:
        name: what ``equikernels train`` calls it.
        summary: one line for ``equikernels train --help``.
        options: a frozen dataclass of the model's own options, each documented under "Attributes:", each
            with a default. No field may be named as one of the engine's.
        data, training, optimizer: the defaults of a run of this task.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    options: ClassVar[type]
    data: ClassVar[str] = "digits"
    training: ClassVar[TrainingOptions] = TrainingOptions()
    optimizer: ClassVar[OptimizerOptions] = OptimizerOptions()

    def __init__(self, configuration: Configuration) -> None:
        self.configuration = configuration

    @abstractmethod
    def build(self, dataset: Dataset) -> nn.Module:
        """A module with new parameters, drawn from PyTorch's generator, which the engine seeds.

        Args:
            dataset: what it is for; its fields and shapes are known, and it may be larger than the training
                part.
        """

    @abstractmethod
    def loss(self, model: nn.Module, batch: Mapping[str, Tensor], draws: SampleDraws) -> Mapping[str, Tensor]:
        """The terms of the loss: scalars, each the mean over the samples; "loss" is minimized.

        Args:
            batch: tensors (B, ...) by field, on the model's device.
            draws: random numbers of these samples in this epoch, on the CPU; `draws.epoch` tells the epoch.

        Returns:
            The same names at every step, in the same order; all are logged.
        """


@runtime_checkable
class Evaluates(Protocol):
    """A task that measures more than its loss."""

    def evaluate(self, model: nn.Module, batches: Batches) -> Mapping[str, float]:
        """Numbers by name, of all samples in `batches`; the model is in evaluation mode."""


@runtime_checkable
class DrawsFigures(Protocol):
    """A task with pictures of what its model does."""

    def figures(self, model: nn.Module, batches: Batches) -> Mapping[str, Figure]:
        """Matplotlib figures by name, for figures/NAME.png."""


@runtime_checkable
class Exports(Protocol):
    """A task whose model other programs read in a form of their own."""

    def export(self, model: nn.Module, folder: Path) -> None:
        """Write the model, which is in evaluation mode, into an existing folder; it may hold an older one."""


@runtime_checkable
class Infers(Protocol):
    """A task whose model says something about given samples."""

    def infer(
        self, model: nn.Module, batch: Mapping[str, Tensor], draws: SampleDraws
    ) -> Mapping[str, Tensor]:
        """Tensors (B, ...) by name, one row for each sample."""


@runtime_checkable
class Generates(Protocol):
    """A task whose model makes samples."""

    def generate(self, model: nn.Module, draws: SampleDraws) -> Mapping[str, Tensor]:
        """Tensors (B, ...) by name, one row for each of the B = len(draws) samples, which `draws` decide."""


# -- registry ------------------------------------------------------------------------------------------------

_REGISTERED: dict[str, type[Task[Any]]] = {}


def register_task(task: TaskType) -> TaskType:
    """Make a task known by its name; a class decorator.

    Raises:
        TypeError: the class lacks one of the attributes, or its options are no dataclass that TOML can hold.
        ValueError: the name is taken by another class, or an option is named as one of the engine's.
    """
    for attribute in ("name", "summary", "options"):
        if not hasattr(task, attribute):
            raise TypeError(f"{task.__name__}: a task needs the class attribute {attribute}")
    known = _REGISTERED.get(task.name)
    if known is not None and (known.__module__, known.__qualname__) != (task.__module__, task.__qualname__):
        raise ValueError(
            f"{task.__name__}: the name {task.name!r} is taken by {known.__module__}.{known.__name__}"
        )
    _check_options(task)
    _REGISTERED[task.name] = task
    return task


def _check_options(task: type[Task[Any]]) -> None:
    if not (isinstance(task.options, type) and dataclasses.is_dataclass(task.options)):
        raise TypeError(f"{task.__name__}: options must be a dataclass, got {task.options!r}")
    own = {field.name for field in dataclasses.fields(task.options)}
    engines = [RunConfiguration, TrainingOptions, OptimizerOptions]
    taken = own & {field.name for kind in engines for field in dataclasses.fields(kind)}
    if taken:
        raise ValueError(f"{task.__name__}: the option {min(taken)} has a name that the engine uses")
    default = task.options()
    annotations = typing.get_type_hints(task.options)
    for name in sorted(own):
        if type(None) in typing.get_args(annotations[name]) and getattr(default, name) is not None:
            raise TypeError(f"{task.__name__}: the option {name} may be None, so None must be its default")
    # Raises for what TOML cannot hold.
    from_table(task.options, tomllib.loads(to_toml(default)), f"options of {task.name}")


def task_names() -> list[str]:
    """The names of all registered tasks, sorted."""
    return sorted(_REGISTERED)


def find_task(name: str) -> type[Task[Any]]:
    """The registered task of a name; ``module:name`` imports the module first, which registers it.

    Raises:
        ConfigurationError: there is none, or the module cannot be found.
    """
    module, colon, own = name.rpartition(":")
    if colon:
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{module}.".startswith(f"{error.name}."):
                raise  # the module is there; what it imports is not
            raise ConfigurationError(f"task {name}: there is no module {error.name}") from error
    if own not in _REGISTERED:
        close = difflib.get_close_matches(own, _REGISTERED, n=1)
        hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(task_names()) or 'none'}"
        raise ConfigurationError(f"task {name}: there is no such task: {hint}")
    return _REGISTERED[own]


# -- configurations of a task --------------------------------------------------------------------------------


def configuration_type(name: str) -> type[RunConfiguration[Any]]:
    """The type of the configurations of a task, whose field `model` has the task's options."""
    options: Any = find_task(name).options
    kind: type[RunConfiguration[Any]] = RunConfiguration[options]
    return kind


def default_configuration(name: str) -> RunConfiguration[Any]:
    """The configuration of a run in which nothing is chosen but the task."""
    task = find_task(name)
    return RunConfiguration(
        task=name, model=task.options(), data=task.data, training=task.training, optimizer=task.optimizer
    )


def read_configuration(path: Path, task: str | None = None) -> RunConfiguration[Any]:
    """A configuration from a TOML file; what it leaves out has the task's defaults.

    Args:
        task: what the file is for; it need not say so itself then.

    Raises:
        ConfigurationError: no such file, no TOML, an unknown task, an unknown or mistyped key.
    """
    table = read_table(path)
    named = table.setdefault("task", task)
    if task is not None and named != task:
        raise ConfigurationError(f"{path}: task is {named!r}, which is not the task {task!r} asked for")
    return configuration_from(table, str(path))


def configuration_from(table: dict[str, Any], source: str) -> RunConfiguration[Any]:
    """A configuration from what TOML holds; what is left out has the task's defaults.

    Args:
        source: what errors name.

    Raises:
        ConfigurationError: an unknown task or none, an unknown or mistyped key.
    """
    named = table.get("task")
    if not isinstance(named, str):
        raise ConfigurationError(f"{source}: the key task is missing: which task is this file for?")
    return from_table(configuration_type(named), table, source, default_configuration(named))
