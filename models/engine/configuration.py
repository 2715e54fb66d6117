"""What a run is made of: every option, typed and documented, as run.toml keeps it."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Annotated, Generic, Literal, TypeVar

import tyro

__all__ = ["OptimizerOptions", "RunConfiguration", "TrainingOptions", "check_at_least"]

Configuration = TypeVar("Configuration")


@dataclass(frozen=True)
class TrainingOptions:
    """How long, in what portions and in which precision a model is trained.

    Attributes:
        epochs: How often every training sample is seen.
        batch_size: Samples in one optimizer step, over all processes together; the last step of an epoch
            takes the rest.
        accumulation: Equal parts that a process computes its share of a batch in, one after the other, to
            save memory.
        precision: Arithmetic of the forward pass: float32, or mixed with bfloat16 or float16 (a GPU only).
        gradient_clip: Largest Euclidean norm of the gradient of all parameters together; longer ones are
            shortened to it.
        ema_decay: Keep an exponential moving average of the weights with this decay per step, and evaluate
            and save that.
        gradient_checkpointing: Compute activations again in the backward pass to save memory, if the model
            offers it.
        compile: Compile the model's forward with torch.compile.
        deterministic: Only PyTorch's deterministic algorithms: equal bits on a GPU too, slower there.
        device: Where to train: auto takes a GPU where there is one.
        workers: Threads that read batches ahead; 0 reads when needed. The numbers are the same.
        checkpoint_steps: Save every so many steps, besides at the end of every epoch.
        validate_epochs: Validate after every so many epochs, and after the last.
        log_steps: Write a row of steps.csv every so many steps.
        monitor: The validation number that decides which epoch is the best.
        maximize: The best epoch has the largest number, not the smallest.
        initial: Weights to start from: a folder of a run, or a .safetensors file with the model's tensors.
    """

    epochs: int = 10
    batch_size: int = 64
    accumulation: int = 1
    precision: Literal["float32", "bf16", "fp16"] = "float32"
    gradient_clip: float | None = None
    ema_decay: float | None = None
    gradient_checkpointing: bool = False
    compile: bool = False
    deterministic: bool = False
    device: Literal["auto", "cpu"] = "auto"
    workers: int = 0
    checkpoint_steps: int | None = None
    validate_epochs: int = 1
    log_steps: int = 10
    monitor: str = "loss"
    maximize: bool = False
    initial: str | None = None

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "accumulation", "validate_epochs", "log_steps"):
            check_at_least(self, name, 1)
        check_at_least(self, "workers", 0)
        if self.checkpoint_steps is not None:
            check_at_least(self, "checkpoint_steps", 1)
        if self.gradient_clip is not None:
            check_at_least(self, "gradient_clip", 0.0, above=True)
        if self.ema_decay is not None and not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay: expected a number in [0, 1), got {self.ema_decay}")


@dataclass(frozen=True)
class OptimizerOptions:
    """How parameters follow their gradients.

    Attributes:
        algorithm: The rule of a step; adamw decays weights apart from the gradient, adam and sgd add the
            decay to it.
        learning_rate: The largest learning rate, after the warm-up.
        weight_decay: Strength of weight decay.
        betas: Decay of Adam's averages of the gradient and of its square.
        epsilon: Added to the root of Adam's average square.
        momentum: Momentum of sgd.
        schedule: How the learning rate falls, step by step, from learning_rate to final_learning_rate.
        warmup_steps: Steps in which the learning rate first grows linearly from zero.
        final_learning_rate: The learning rate at the last step of the linear and cosine schedules.
    """

    algorithm: Literal["adam", "adamw", "sgd"] = "adam"
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-8
    momentum: float = 0.0
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    warmup_steps: int = 0
    final_learning_rate: float = 0.0

    def __post_init__(self) -> None:
        for name in ("learning_rate", "weight_decay", "momentum", "warmup_steps", "final_learning_rate"):
            check_at_least(self, name, 0)
        check_at_least(self, "epsilon", 0.0, above=True)
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas: expected two numbers in [0, 1), got {self.betas}")


@dataclass(frozen=True)
class RunConfiguration(Generic[Configuration]):
    """All that decides a run.

    Attributes:
        task: The registered task, or module:name.
        model: The options of the task.
        data: The data set: a name or a path; $VARIABLE stands for the value of an environment variable.
        data_options: Options of its format, as name=value.
        limit: How many of its samples are used, chosen at random by split_seed; without it all.
        validation: Share of the samples that is kept from training for validation.
        validation_data: A data set for validation, all of it, in place of a share of the other.
        validation_options: Options of its format, as name=value.
        split_seed: Which samples those are; runs with different seeds can share it.
        seed: Of the initial parameters, the order of the samples and every random number.
        training: Options of training.
        optimizer: Options of the optimizer.
    """

    task: Annotated[str, tyro.conf.Suppress]
    model: Configuration
    data: str = "digits"
    data_options: tuple[str, ...] = ()
    limit: int | None = None
    validation: float = 0.2
    validation_data: str | None = None
    validation_options: tuple[str, ...] = ()
    split_seed: int = 0
    seed: int = 0
    training: TrainingOptions = dataclasses.field(default_factory=TrainingOptions)
    optimizer: OptimizerOptions = dataclasses.field(default_factory=OptimizerOptions)

    def __post_init__(self) -> None:
        check_at_least(self, "seed", 0)
        check_at_least(self, "split_seed", 0)
        if self.limit is not None:
            check_at_least(self, "limit", 1)
        if not 0 < self.validation < 1:
            raise ValueError(f"validation: expected a share in (0, 1), got {self.validation}")
        for name in ("data_options", "validation_options"):
            for option in getattr(self, name):
                if not option.partition("=")[0].isidentifier() or "=" not in option:
                    raise ValueError(f"{name}: expected name=value, got {option!r}")
        if self.validation_options and self.validation_data is None:
            raise ValueError("validation_options: expected validation_data beside them, got none")


def check_at_least(options: object, name: str, least: float, above: bool = False) -> None:
    """Raise ValueError, naming the field, unless a number is finite and at least (or above) `least`."""
    value = getattr(options, name)
    if not math.isfinite(value) or value < least or (above and value == least):
        kind = "an integer" if isinstance(least, int) and isinstance(value, int) else "a finite number"
        raise ValueError(f"{name}: expected {kind} {'>' if above else '>='} {least}, got {value}")
