"""One optimizer step: losses and gradients of a batch, over its parts and over all processes."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from equikernels.models.data import SampleDraws
from equikernels.models.engine.configuration import TrainingOptions
from equikernels.models.engine.errors import NonFiniteError
from equikernels.models.engine.execution import autocast, seed_generator
from equikernels.models.engine.optimization import trained_parameters
from equikernels.models.engine.processes import Processes
from equikernels.models.engine.tasks import Task

__all__ = ["Part", "StepTaker", "StepTaken", "loss_terms"]

NAMED = 16
"""How many sample indices an error names at most."""


@dataclass(frozen=True)
class Part:
    """What a process computes at once: a batch and its draws, which count for `weight` of the whole batch."""

    batch: Mapping[str, Tensor]
    draws: SampleDraws
    weight: float


@dataclass(frozen=True)
class StepTaken:
    """The terms of the loss, the gradient's norm, and whether any process was asked to stop."""

    terms: dict[str, float]
    gradient_norm: float
    stop: bool


def loss_terms(task: Task[Any], terms: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What a task gave as its loss; ValueError unless all are scalar tensors and one is named "loss"."""
    if "loss" not in terms:
        raise ValueError(f"{type(task).__name__}.loss: expected a term named 'loss', got {', '.join(terms)}")
    for name, value in terms.items():
        if not isinstance(value, Tensor) or value.dim() != 0:
            shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(f"{type(task).__name__}.loss: {name}: expected a scalar tensor, got {shape}")
    return dict(terms)


class StepTaker:
    """Takes optimizer steps. The gradient is that of the mean loss over the batch, however it is split.

    Args:
        seed: of the run, for what draws from PyTorch's generator.
    """

    def __init__(
        self,
        task: Task[Any],
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        scaler: torch.amp.GradScaler,
        options: TrainingOptions,
        processes: Processes,
        seed: int,
    ) -> None:
        self.task, self.model, self.optimizer, self.scaler = task, model, optimizer, scaler
        self.options, self.processes, self.seed = options, processes, seed
        self.parameters = list(trained_parameters(model).values())

    def __call__(self, parts: Iterable[Part], step: int, rate: float, stop: int = 0) -> StepTaken:
        """Take one step.

        Args:
            parts: of this process, taken one by one. A process without samples takes one of another's with
                weight 0, so that all know the names of the terms.
            step: the number of this step from 1, for errors and random numbers.
            rate: the learning rate.
            stop: the signal that asked this process to stop, or 0.

        Raises:
            NonFiniteError: a loss or a gradient is not finite; parameters and optimizer are as before.
        """
        self.optimizer.zero_grad(set_to_none=True)
        sums: dict[str, float] = {}
        offenders: list[int] = []
        for number, part in enumerate(parts):
            seed_generator(self.processes.device, self.seed, "step", step, number, self.processes.rank)
            with autocast(self.options.precision, self.processes.device):
                terms = loss_terms(self.task, self.task.loss(self.model, part.batch, part.draws))
            values = torch.stack([value.detach() for value in terms.values()]).tolist()
            for name, value in zip(terms, values, strict=True):
                sums[name] = sums.get(name, 0.0) + (part.weight * value if part.weight else 0.0)
            if part.weight and not math.isfinite(float(terms["loss"].detach())):
                offenders = self._offenders(part)
                break
            self.scaler.scale(part.weight * terms["loss"]).backward()
        return self._step(sums, offenders, step, rate, stop)

    def _step(
        self, sums: dict[str, float], offenders: list[int], step: int, rate: float, stop: int
    ) -> StepTaken:
        present = [float(parameter.grad is not None) for parameter in self.parameters]
        own = [*sums.values(), *present, float(bool(offenders)), float(stop)]
        total = self.processes.total(torch.tensor(own, dtype=torch.float64))
        if total[-2]:
            samples = self.processes.gather(offenders)
            raise NonFiniteError(f"step {step}: the loss is not finite for the training {_named(samples)}")
        held = total[len(sums) : -2]
        self.processes.add_gradients(self.parameters, held)
        norm = self._gradient_norm(step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        return StepTaken(dict(zip(sums, total.tolist(), strict=False)), norm, bool(total[-1]))

    def _gradient_norm(self, step: int) -> float:
        """The gradient's norm before it is clipped."""
        self.scaler.unscale_(self.optimizer)
        gradients = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
        total = torch.nn.utils.get_total_norm(gradients)
        norm = float(total)
        if math.isfinite(norm):
            if self.options.gradient_clip is not None:
                torch.nn.utils.clip_grads_with_norm_(self.parameters, self.options.gradient_clip, total)
        elif not self.scaler.is_enabled():  # with float16 the scaler skips this step and scales less
            raise NonFiniteError(f"step {step}: the gradient is not finite, though the loss is")
        return norm

    @torch.no_grad()
    def _offenders(self, part: Part) -> list[int]:
        """The samples of a part that have no finite loss by themselves; all of them if each alone has."""
        alone = []
        with _batch_norms_fixed(self.model), autocast(self.options.precision, self.processes.device):
            for row, index in enumerate(part.draws.indices.tolist()):
                batch = {name: tensor[row : row + 1] for name, tensor in part.batch.items()}
                draws = SampleDraws(part.draws.seed, part.draws.epoch, part.draws.indices[row : row + 1])
                if not math.isfinite(float(self.task.loss(self.model, batch, draws)["loss"])):
                    alone.append(index)
        return alone or part.draws.indices.tolist()


@contextlib.contextmanager
def _batch_norms_fixed(model: nn.Module) -> Iterator[None]:
    """Inside the block batch norms use their running statistics: that of one sample is undefined."""
    kind = nn.modules.batchnorm._BatchNorm
    changed = [module for module in model.modules() if isinstance(module, kind) and module.training]
    for module in changed:
        module.eval()
    try:
        yield
    finally:
        for module in changed:
            module.train()


def _named(samples: Iterable[int]) -> str:
    listed = sorted(samples)
    text = ", ".join(map(str, listed[:NAMED]))
    if len(listed) > NAMED:
        text += f" and {len(listed) - NAMED} more"
    return f"sample{'s' if len(listed) > 1 else ''} {text}"
