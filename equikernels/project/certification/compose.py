"""From layers to networks: errors and Lipschitz constants along a sequence.

With |f1(y) - f1(z)| <= L1 |y - z| and |f1(gx) - g f1(x)| <= r1 |x| + a1, and the same of f2,

    |f2(f1(gx)) - g f2(f1(x))| <= |f2(f1(gx)) - f2(g f1(x))| + |f2(g f1(x)) - g f2(f1(x))|
                               <= L2 (r1 |x| + a1) + r2 |f1(x)| + a2,

and |f1(x)| <= L1 |x| + |f1(0)|, where f1(0) is computed. As g moves no length, the error is also at most
2 L |x| + |f(0) - g f(0)|, which bounds long networks whose layers' errors add up to more.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from equikernels.project.adapting.parts import Part
from equikernels.project.adapting.softened import plain_class
from equikernels.project.certification.actions import Action
from equikernels.project.certification.scope import Scope
from equikernels.project.certification.steps import Place, Refusal, Step, step_of


@dataclass(frozen=True)
class StepRow:
    """One layer of a composed network, for the worst of the elements asked for.

    Attributes:
        layer, type: its qualified name and its class.
        lipschitz: by how much it stretches distances at most.
        relative, absolute: its own error is at most relative |x| + absolute, x its own input.
        composed_relative, composed_absolute: the error of the network up to here, x the network's input.
        how: where the numbers come from.
    """

    layer: str
    type: str
    lipschitz: float
    relative: float
    absolute: float
    composed_relative: float
    composed_absolute: float
    how: str


@dataclass(frozen=True)
class NetworkBound:
    """|f(gx) - g f(x)| <= relative |x| + absolute, for every input x of the size asked for."""

    relative: float
    absolute: float

    def __call__(self, norm: float) -> float:
        """The bound for inputs x with |x| = norm."""
        return self.relative * norm + self.absolute

    def __str__(self) -> str:
        return f"{self.relative:.4g} |x|" + (f" + {self.absolute:.4g}" if self.absolute else "")


@dataclass(frozen=True, eq=False)
class Composition:
    """A composed network: its layers, a bound for each element asked for, and how its output moves."""

    rows: tuple[StepRow, ...]
    relative: Tensor
    absolute: Tensor
    lipschitz: float
    offset: float
    action: Action

    @property
    def bound(self) -> NetworkBound:
        """One bound for all elements."""
        return NetworkBound(float(self.relative.max()), float(self.absolute.max()))


def leaves(module: nn.Module, name: str = "") -> Iterator[tuple[str, nn.Module]]:
    """The layers of a tree of nn.Sequential in their order; anything else is a layer itself."""
    plain = not (module._forward_hooks or module._forward_pre_hooks or "forward" in module.__dict__)
    if isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward and plain:
        for child, inner in module._modules.items():
            assert inner is not None
            yield from leaves(inner, f"{name}.{child}" if name else child)
    else:
        yield name, module


@torch.no_grad()
def compose(
    model: nn.Module,
    action: Action,
    shape: torch.Size,
    scope: Scope,
    parts: Mapping[nn.Module, Mapping[str, Part]],
    typical: float,
) -> Composition:
    """The bound of a network on inputs of one shape (without the batch).

    Args:
        model: in float64 and evaluation mode.
        action: how the group acts on inputs.
        parts: the projections of softened parameters, by module and name.
        typical: the length of inputs at which the better one of two bounds is chosen.

    Raises:
        Refusal: naming the layer and the reason.
    """
    x = torch.zeros(1, *shape, dtype=torch.float64)
    relative, absolute = scope.zeros, scope.zeros
    lipschitz, offset = 1.0, 0.0
    rows: list[StepRow] = []
    for name, module in leaves(model):
        kind = plain_class(module).__name__
        try:
            step = step_of(Place(module, x.shape, action, scope, parts.get(module, {})))
        except Refusal as reason:
            raise Refusal(f"{name or 'the model itself'} ({kind}): {reason}") from reason
        x, action = module(x.clone()), step.action
        relative = step.lipschitz * relative + step.relative * lipschitz
        absolute = step.lipschitz * absolute + step.relative * offset + step.absolute
        lipschitz, offset = step.lipschitz * lipschitz, float(x.norm())
        moved = _moved(x, action, scope, offset)
        capped = 2 * lipschitz * typical + moved < relative * typical + absolute
        relative = torch.where(capped, 2 * lipschitz, relative)
        absolute = torch.where(capped, moved, absolute)
        rows.append(_row(name, kind, step, relative, absolute))
    return Composition(tuple(rows), relative, absolute, lipschitz, offset, action)


def _moved(x: Tensor, action: Action, scope: Scope, offset: float) -> Tensor:
    """|f(0) - g f(0)| for each element (count,); twice |f(0)| where the group is bounded as a whole."""
    if scope.elements is None:
        return scope.zeros + 2 * offset
    return torch.stack([(action(g, x) - x).norm() for g in scope.elements])


def _row(name: str, kind: str, step: Step, relative: Tensor, absolute: Tensor) -> StepRow:
    own = (float(step.relative.max()), float(step.absolute.max()))
    return StepRow(name, kind, step.lipschitz, *own, float(relative.max()), float(absolute.max()), step.how)
