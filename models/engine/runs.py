"""The folder of a run: where its files are, how it is made, opened and read."""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from equikernels.models.data import Dataset, load_dataset
from equikernels.models.data.draws import shuffled
from equikernels.models.engine.checkpoints import Checkpoint, load_weights, read_checkpoint
from equikernels.models.engine.configuration import RunConfiguration
from equikernels.models.engine.errors import ConfigurationError, RunError
from equikernels.models.engine.tasks import Task, find_task, read_configuration
from equikernels.models.engine.toml import to_toml
from equikernels.project.saving import SavedFileError
from equikernels.project.saving.files import read_tensors, write_text

__all__ = [
    "Run",
    "check_free",
    "create_run",
    "initial_file",
    "initial_weights",
    "open_dataset",
    "open_run",
    "split_dataset",
]

Which = Literal["best", "last"]


@dataclass(frozen=True)
class Run:
    """A run's folder and what it was asked to do."""

    folder: Path
    configuration: RunConfiguration[Any]

    @property
    def task(self) -> Task[Any]:
        return find_task(self.configuration.task)(self.configuration.model)

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    def checkpoint(self, which: Which) -> Path:
        return self.checkpoints / f"{which}.safetensors"

    @property
    def weights(self) -> Path:
        """The weights of the best epoch alone, which a finished run leaves."""
        return self.folder / "model.safetensors"

    @property
    def export(self) -> Path:
        """The model as other programs read it, which a finished run of some tasks leaves."""
        return self.folder / "export"

    @property
    def figures(self) -> Path:
        return self.folder / "figures"

    @property
    def metrics(self) -> Path:
        return self.folder / "metrics.json"

    def read_metrics(self) -> dict[str, Any]:
        """The content of metrics.json; empty before the first epoch has ended.

        Raises:
            RunError: the file is damaged.
        """
        if not self.metrics.exists():
            return {}
        try:
            content = json.loads(self.metrics.read_text(encoding="utf-8"))
        except ValueError as error:
            raise RunError(f"{self.metrics}: no JSON: {error}") from error
        if not isinstance(content, dict):
            raise RunError(f"{self.metrics}: expected an object, got {type(content).__name__}")
        return content

    def read_last(self) -> Checkpoint | None:
        """The checkpoint to go on from; none where the run was stopped before its first.

        Raises:
            RunError: it is damaged, or another configuration was in force when it was written.
        """
        path = self.checkpoint("last")
        if not path.exists():
            return None
        found = read_checkpoint(path)
        difference = _difference(found.configuration, to_toml(self.configuration))
        if difference is not None:
            key, then, now = difference
            raise RunError(
                f"{self.folder / 'run.toml'}: {key} is {now}, but {path} was written with {then}: "
                "change it back, or start another run"
            )
        return found

    def load_model(
        self, dataset: Dataset, which: Which = "best", device: str | torch.device = "cpu"
    ) -> nn.Module:
        """The trained model, in evaluation mode; with averaged weights where the run keeps them.

        Args:
            dataset: what it is built for.

        Raises:
            RunError: there is no such checkpoint, or it is of another model.
        """
        path = self.checkpoint(which)
        if not path.exists():
            raise RunError(f"{path}: there is no such checkpoint: the run has not come that far")
        weights = read_checkpoint(path).weights()
        with torch.random.fork_rng(devices=[]):
            model = self.task.build(dataset)
        load_weights(path, model, weights)
        return model.to(device).eval()


def create_run(folder: Path, configuration: RunConfiguration[Any]) -> Run:
    """Make the folder of a new run.

    Raises:
        ConfigurationError: something is there already, or it cannot be written.
    """
    check_free(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / "run.toml", to_toml(configuration))
    except OSError as error:
        raise ConfigurationError(f"{folder}: cannot write there: {error.strerror}") from error
    return Run(folder, configuration)


def check_free(folder: Path) -> None:
    """Whether a run can be made there.

    Raises:
        ConfigurationError: something is there already.
    """
    if (folder / "run.toml").exists():
        raise ConfigurationError(f"{folder}: holds a run already: resume it, or name another folder")
    # A process that was killed here can have left a part of run.toml, under another name.
    if folder.is_dir() and any(not path.name.startswith(".run.toml.") for path in folder.iterdir()):
        raise ConfigurationError(f"{folder}: is not empty: name another folder")


def open_run(folder: str | Path) -> Run:
    """A run that exists.

    Raises:
        ConfigurationError: there is none, or its run.toml is damaged.
    """
    path = Path(folder)
    if not (path / "run.toml").is_file():
        raise ConfigurationError(f"{path}: there is no run: no file run.toml in it")
    return Run(path, read_configuration(path / "run.toml"))


def open_dataset(configuration: RunConfiguration[Any]) -> Dataset:
    """The data set of a configuration.

    Raises:
        ConfigurationError: it cannot be used.
    """
    return _open("data", configuration.data, configuration.data_options)


def _open(key: str, data: str, options: Sequence[str]) -> Dataset:
    """A data set by the texts of a configuration; errors name the key."""
    pairs = [option.partition("=") for option in options]
    try:
        return load_dataset(_with_variables(data), **{name: _option_value(text) for name, _, text in pairs})
    except (ValueError, TypeError) as error:
        raise ConfigurationError(f"{key}: {error}") from error


def _with_variables(data: str) -> str:
    """A data set's name with the values of environment variables, so that a run can be repeated elsewhere."""
    text = os.path.expandvars(data)
    missing = re.search(r"\$(\w+|\{\w+\})", text)
    if missing is not None:
        raise ValueError(f"{data}: the environment variable {missing[1].strip('{}')} is not set")
    return text


def _option_value(text: str) -> Any:
    """A number or truth value as TOML writes it, or else the text itself."""
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
    return value if isinstance(value, (bool, int, float)) else text


def split_dataset(dataset: Dataset, configuration: RunConfiguration[Any]) -> tuple[Dataset, Dataset]:
    """The training and the validation part of a data set, or of as many of its samples as are asked for.

    With `validation_data` that is the validation part, and the other is all that is asked for.

    Raises:
        ConfigurationError: one of them would be empty, there are fewer samples than are asked for, or the
            validation data cannot be used, are the training data, or have other fields.
    """
    named = _validation_data(dataset, configuration)
    if configuration.limit is not None:
        if configuration.limit > len(dataset):
            raise ConfigurationError(
                f"limit: expected at most the {len(dataset)} of {dataset.name}, got {configuration.limit}"
            )
        order = shuffled(configuration.split_seed, 0, "samples", len(dataset))
        dataset = dataset.subset(order[: configuration.limit].sort().values)
    if named is not None:
        return dataset, named
    shares = {"train": 1 - configuration.validation, "valid": configuration.validation}
    try:
        parts = dataset.split(shares, configuration.split_seed)
    except ValueError as error:
        raise ConfigurationError(f"validation: {error}") from error
    return parts["train"], parts["valid"]


def _validation_data(dataset: Dataset, configuration: RunConfiguration[Any]) -> Dataset | None:
    """The data set that is named for validation, if one is."""
    name = configuration.validation_data
    if name is None:
        return None
    found = _open("validation_data", name, configuration.validation_options)
    if found.fingerprint == dataset.fingerprint:
        raise ConfigurationError("validation_data: expected other samples than those of data, got the same")
    for key, wanted in dataset.fields.items():
        got = found.fields.get(key)
        if got is None:
            raise ConfigurationError(f"validation_data: expected the field {key} of data, {name} has none")
        if (got.shape, got.dtype) != (wanted.shape, wanted.dtype):
            raise ConfigurationError(
                f"validation_data: expected {key} of {wanted.dtype} with shape {wanted.shape} as in data, "
                f"{name} has {got.dtype} with shape {got.shape}"
            )
    if "label" in dataset.fields and found.fields["label"].classes != dataset.fields["label"].classes:
        raise ConfigurationError(f"validation_data: expected the classes of data, {name} has others")
    return found


def initial_file(source: str) -> Path:
    """The file with the weights that a run starts from: a run's best checkpoint, or the file itself.

    Raises:
        ConfigurationError: there is none.
    """
    path = Path(source)
    if path.is_dir():
        path = open_run(path).checkpoint("best")
    if not path.is_file():
        raise ConfigurationError(f"initial: {path}: there is no such file")
    return path


def initial_weights(source: str, model: nn.Module) -> None:
    """Load the weights that a run starts from: of another run's best epoch, or of a safetensors file.

    Raises:
        ConfigurationError: there is none, it is damaged, or it is of another model.
    """
    path = initial_file(source)
    try:
        weights = read_checkpoint(path).weights() if Path(source).is_dir() else read_tensors(path)[1]
        load_weights(path, model, weights)
    except (SavedFileError, RunError) as error:
        raise ConfigurationError(f"initial: {error}") from error


def _difference(earlier: str, later: str) -> tuple[str, str, str] | None:
    """The first key in which two TOML texts differ, and both its values; None where they are the same."""
    before, after = _flat(tomllib.loads(earlier)), _flat(tomllib.loads(later))
    for key in [*after, *before]:
        if before.get(key) != after.get(key):
            then, now = (repr(table[key]) if key in table else "not set" for table in (before, after))
            return key, then, now
    return None


def _flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in table.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat
