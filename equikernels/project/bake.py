"""Making softened modules plain again."""

from __future__ import annotations

from typing import TypeVar

from torch import nn

M = TypeVar("M", bound=nn.Module)


def bake(model: M) -> M | nn.Module:
    """Replace every softened layer by the plain layer that computes the same.

    In place for the layers inside `model`; a softened layer given itself is returned as a new plain
    one. A softened layer is a module with a method `baked()` that returns its plain equal. A layer
    used in two places becomes one plain layer in both. Raises TypeError unless `model` is a module.

    >>> from equikernels.group import CyclicGroup
    >>> from equikernels.nn import SoftLinear
    >>> from equikernels.project import Softness
    >>> vector = CyclicGroup(4).irrep(1)
    >>> bake(nn.Sequential(SoftLinear(vector, vector, Softness(0.5))))
    Sequential(
      (0): Linear(in_features=2, out_features=2, bias=True)
    )
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    made: dict[int, nn.Module] = {}

    def plain(module: nn.Module) -> nn.Module:
        if id(module) not in made:
            made[id(module)] = module.baked()  # type: ignore[operator]
        return made[id(module)]

    if callable(getattr(model, "baked", None)):
        return plain(model)
    for parent in list(model.modules()):
        for name, child in list(parent._modules.items()):
            if child is not None and callable(getattr(child, "baked", None)):
                parent._modules[name] = plain(child)
    return model
