"""One trainer, one run folder and one way to stop, go on and record, for the models of all papers."""

from equikernels.models.engine.autoencoder import AutoencoderTask
from equikernels.models.engine.batches import Batches
from equikernels.models.engine.configuration import OptimizerOptions, RunConfiguration, TrainingOptions
from equikernels.models.engine.errors import ConfigurationError, NonFiniteError, RunError, Stopped
from equikernels.models.engine.runs import Run, open_run
from equikernels.models.engine.tasks import (
    DrawsFigures,
    Evaluates,
    Exports,
    Generates,
    Infers,
    Task,
    default_configuration,
    find_task,
    read_configuration,
    register_task,
    task_names,
)
from equikernels.models.engine.trainer import resume, train

__all__ = [
    "AutoencoderTask",
    "Batches",
    "ConfigurationError",
    "DrawsFigures",
    "Evaluates",
    "Exports",
    "Generates",
    "Infers",
    "NonFiniteError",
    "OptimizerOptions",
    "Run",
    "RunConfiguration",
    "RunError",
    "Stopped",
    "Task",
    "TrainingOptions",
    "default_configuration",
    "find_task",
    "open_run",
    "read_configuration",
    "register_task",
    "resume",
    "task_names",
    "train",
]
