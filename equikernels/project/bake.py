"""Making softened modules plain again."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn

from equikernels.project.adapting.softened import (
    check_restorable,
    projected,
    restore_module,
    softened_entries,
)

M = TypeVar("M", bound=nn.Module)


def bake(model: M) -> M | nn.Module:
    """Make every softened layer plain: the projection is carried out once and for all.

    In place: what `soften` changed gets its original class back and the projected tensor as the value of
    its parameter, which stays the same object. Layers that are soft by construction, modules with a
    method `baked()` that returns their plain equal, are replaced by it inside `model`; such a layer given
    itself is returned as a new plain one. A layer used in two places becomes one plain layer in both.

    Raises:
        TypeError: `model` is no module.
        ValueError: one parameter is shared by layers that project it differently, or a softened
            layer's class was changed by somebody else since. Nothing is changed then.

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
    _bake_softened(model)
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


def _bake_softened(model: nn.Module) -> None:
    """Write the projections into the raw parameters and give the original classes back."""
    # All are computed before one is written: a parameter may be shared, and a projection with responses
    # between 0 and 1 carried out twice is another one.
    values: dict[int, tuple[str, Tensor, Tensor]] = {}
    modules: dict[int, nn.Module] = {}
    for path, module, name, entry in softened_entries(model):
        modules[id(module)] = module
        raw = module._parameters[name]
        if raw is None:
            continue
        value = projected(entry, raw)
        where = f"{path}.{name}" if path else name
        first, _, known = values.setdefault(id(raw), (where, raw, value))
        if not torch.equal(known, value):
            raise ValueError(f"{first} and {where} are one parameter with two projections: untie them first")
    _check_not_read_raw(model, values)
    for module in modules.values():
        check_restorable(module)
    for module in modules.values():
        restore_module(module)
    with torch.no_grad():
        for _, parameter, value in values.values():
            parameter.copy_(value)


def _check_not_read_raw(model: nn.Module, values: dict[int, tuple[str, Tensor, Tensor]]) -> None:
    softened = {(id(module), name) for _, module, name, _ in softened_entries(model)}
    for path, module in model.named_modules():
        for name, parameter in module._parameters.items():
            if id(parameter) in values and (id(module), name) not in softened:
                where = f"{path}.{name}" if path else name
                raise ValueError(
                    f"{values[id(parameter)][0]} is softened and, as {where}, read plain: untie them first"
                )
