"""The processes of a run: which device each has, and what they do together."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from accelerate import PartialState
from accelerate.utils import broadcast, broadcast_object_list, gather_object, reduce
from torch import Tensor, nn

from equikernels.models.engine.errors import RunError, writing

__all__ = ["Processes"]

T = TypeVar("T")

LONGEST_WAIT = datetime.timedelta(hours=6)
"""How long processes wait for the main one, which alone evaluates and draws."""


class Processes:
    """All processes that train one model, started by torchrun or accelerate launch; or this one alone.

    Args:
        device: "auto" takes a GPU where there is one, "cpu" does not.
    """

    def __init__(self, device: str = "auto") -> None:
        self._state = PartialState(cpu=device == "cpu", timeout=LONGEST_WAIT)
        # The state is shared by all runs of a process: an earlier one may have asked for another device.
        self.device = torch.device("cpu") if device == "cpu" else self._state.device
        self.rank: int = self._state.process_index
        self.count: int = self._state.num_processes

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def total(self, tensor: Tensor) -> Tensor:
        """The sum of a tensor, of one shape everywhere, over all processes; on the device it came from."""
        if self.count == 1:
            return tensor
        summed: Tensor = reduce(tensor.to(self.device), reduction="sum")
        return summed.to(tensor.device)

    def gather(self, items: Sequence[T]) -> list[T]:
        """The items of all processes, by rank."""
        return list(gather_object(list(items))) if self.count > 1 else list(items)

    def on_main(self, action: Callable[[], T]) -> T:
        """What the main process gets from an action that it alone does, in all of them.

        Raises:
            RunError: the action raised it, or OSError; in every process, so that none waits for ever.
        """
        outcome: list[object] = [None, None]
        if self.is_main:
            try:
                with writing():
                    outcome[0] = action()
            except RunError as error:
                outcome[1] = error
        if self.count > 1:
            broadcast_object_list(outcome)
        if isinstance(outcome[1], RunError):
            raise outcome[1]
        return outcome[0]  # type: ignore[return-value]

    @torch.no_grad()
    def align(self, model: nn.Module) -> None:
        """Give all processes the parameters and buffers of the main one."""
        if self.count == 1:
            return
        for tensor in [*model.parameters(), *model.buffers()]:
            tensor.copy_(broadcast(tensor.detach()))

    @torch.no_grad()
    def add_gradients(self, parameters: Sequence[nn.Parameter], present: Tensor) -> None:
        """Replace gradients by their sums over all processes, many in one message.

        Args:
            present: of each parameter, in how many processes it has a gradient; where in some, the others
                count as zero.
        """
        if self.count == 1:
            return
        own = [parameter for parameter, held in zip(parameters, present.tolist(), strict=True) if held]
        for parameter in own:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        for bucket in _buckets(own):
            gradients = [parameter.grad for parameter in bucket if parameter.grad is not None]
            summed = self.total(torch.cat([gradient.flatten() for gradient in gradients]))
            sizes = [gradient.numel() for gradient in gradients]
            for gradient, part in zip(gradients, summed.split(sizes), strict=True):
                gradient.copy_(part.view_as(gradient))


def _buckets(parameters: Sequence[nn.Parameter], largest: int = 2**24) -> list[list[nn.Parameter]]:
    """Parameters of one dtype and at most so many numbers together, in their order."""
    buckets: list[list[nn.Parameter]] = []
    size = 0
    for parameter in parameters:
        full = size + parameter.numel() > largest
        if not buckets or full or parameter.dtype != buckets[-1][-1].dtype:
            buckets.append([])
            size = 0
        buckets[-1].append(parameter)
        size += parameter.numel()
    return buckets
