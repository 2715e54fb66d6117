"""What a network really does when its input is turned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from equikernels.project.certification.actions import Action

DISTANCES = (0.01, 0.1, 1.0)
"""How far random inputs are from an example, relative to its length."""


@dataclass(frozen=True, eq=False)
class Measurement:
    """Errors |f(gx) - g f(x)| (elements, inputs), and the lengths |x| of the inputs (inputs,)."""

    errors: Tensor
    norms: Tensor

    @property
    def relative(self) -> Tensor:
        """|f(gx) - g f(x)| / |x| (elements, inputs)."""
        return self.errors / self.norms


def inputs_around(example: Tensor, samples: int, seed: int) -> Tensor:
    """The example (N, ...), and `samples` inputs a Gaussian step of 1 %, 10 % or all of |x| away from it."""
    generator = torch.Generator().manual_seed(seed)
    chosen = example[torch.arange(samples) % len(example)]
    steps = torch.randn(chosen.shape, generator=generator, dtype=example.dtype)
    sizes = chosen.flatten(1).norm(dim=1) / steps.flatten(1).norm(dim=1)
    sizes = sizes * torch.tensor(DISTANCES, dtype=example.dtype)[torch.arange(samples) % len(DISTANCES)]
    return torch.cat([example, chosen + steps * sizes.reshape(-1, *[1] * (example.ndim - 1))])


@torch.no_grad()
def measure(
    model: nn.Module,
    before: Action,
    after: Action,
    example: Tensor,
    elements: Sequence[Any],
    samples: int,
    seed: int,
) -> Measurement:
    """Errors of a float64 model at and around an example, for each element."""
    x = inputs_around(example, samples, seed)
    y = model(x.clone())
    errors = [(model(before(g, x).clone()) - after(g, y)).flatten(1).norm(dim=1) for g in elements]
    return Measurement(torch.stack(errors), x.flatten(1).norm(dim=1))
