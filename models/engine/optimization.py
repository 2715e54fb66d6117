"""Optimizers, learning rates and averages of weights."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from equikernels.models.engine.configuration import OptimizerOptions
from equikernels.models.engine.errors import ConfigurationError

__all__ = ["WeightAverage", "learning_rate", "make_optimizer", "trained_parameters"]


def trained_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that are to be trained, by name."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def make_optimizer(model: nn.Module, options: OptimizerOptions) -> torch.optim.Optimizer:
    """The optimizer of a model's trained parameters, in the order of `trained_parameters`.

    Raises:
        ConfigurationError: the model has none.
    """
    parameters = list(trained_parameters(model).values())
    if not parameters:
        raise ConfigurationError(f"{type(model).__name__} has no parameter to train")
    rate, decay = options.learning_rate, options.weight_decay
    if options.algorithm == "sgd":
        return torch.optim.SGD(parameters, rate, options.momentum, weight_decay=decay)
    kind = torch.optim.AdamW if options.algorithm == "adamw" else torch.optim.Adam
    return kind(parameters, rate, options.betas, options.epsilon, decay)


def learning_rate(options: OptimizerOptions, step: int, steps: int) -> float:
    """The learning rate of step 0 <= step < steps.

    It grows linearly in the first `warmup_steps` steps, reaching `learning_rate` at the first step after
    them; then it stays, or falls linearly or along half a cosine to `final_learning_rate` at the last step.

    >>> options = OptimizerOptions(learning_rate=1.0, schedule="cosine")
    >>> [round(learning_rate(options, step, 5), 3) for step in range(5)]
    [1.0, 0.854, 0.5, 0.146, 0.0]
    """
    if step < options.warmup_steps:
        return options.learning_rate * (step + 1) / (options.warmup_steps + 1)
    if options.schedule == "constant":
        return options.learning_rate
    share = (step - options.warmup_steps) / max(steps - 1 - options.warmup_steps, 1)
    left = 1 - share if options.schedule == "linear" else (1 + math.cos(math.pi * share)) / 2
    return options.final_learning_rate + (options.learning_rate - options.final_learning_rate) * left


class WeightAverage:
    """The exponential moving average of a model's floating parameters.

    After every step it is decay times itself plus 1 - decay times the weights.
    It starts as the weights themselves. Buffers are not averaged: those of the model serve.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.tensors = {
            name: parameter.detach().clone()
            for name, parameter in model.named_parameters()
            if parameter.is_floating_point()
        }

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        parameters = dict(model.named_parameters())
        for name, average in self.tensors.items():
            average.lerp_(parameters[name], 1 - self.decay)

    @contextmanager
    def in_place_of(self, model: nn.Module) -> Iterator[None]:
        """The model with averaged parameters inside the block; its own come back after it."""
        own = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
        try:
            _copy_into(model, self.tensors)
            yield
        finally:
            _copy_into(model, own)


@torch.no_grad()
def _copy_into(model: nn.Module, tensors: dict[str, Tensor]) -> None:
    for name, parameter in model.named_parameters():
        if name in tensors:
            parameter.copy_(tensors[name])
