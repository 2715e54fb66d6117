"""Stacks of soft layers that stay in the bases of irreps between their first and their last layer."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from torch import Tensor, nn

from equikernels.nn.norm_nonlinearity import NormNonlinearity
from equikernels.nn.soft_linear import SoftLinear
from equikernels.ops.linear import Slabs


class SoftSequential(nn.Sequential):
    """torch.nn.Sequential whose neighbours hand features on in the basis they share.

    SoftLinear layers multiply in the bases of irreps there, with nothing but the weights that their cut-off
    keeps, and NormNonlinearity works there too, so that a stack changes the basis once at its beginning and
    once at its end. Where two neighbours have no basis in common, or a module is of another kind, features
    go back to their own order in between. The result is that of the modules one after the other, to
    rounding.

    >>> import torch
    >>> from equikernels.group import CyclicGroup
    >>> from equikernels.project import Softness
    >>> regular = CyclicGroup(8).regular()
    >>> layers = [SoftLinear(regular, regular, Softness(0), 4, 4) for _ in range(3)]
    >>> stack = SoftSequential(*layers)
    >>> x = torch.randn(5, 32)
    >>> bool(torch.allclose(stack(x), layers[2](layers[1](layers[0](x))), atol=1e-5)), stack.changes
    (True, 2)
    """

    def forward(self, x: Tensor) -> Tensor:
        current: Slabs | None = None
        for module in self:
            before, after = _slabs_of(module)
            if before is None:
                x = x if current is None else current.synthesise(x)
                x, current = module(x), None
                continue
            if current is None:
                x = before.analyse(x)
            elif not _same(current, before):
                x = before.analyse(current.synthesise(x))
            x, current = module.forward_in_slabs(x), after  # type: ignore[operator]
        return x if current is None else current.synthesise(x)

    @property
    def changes(self) -> int:
        """How often features change their basis on the way."""
        count, current = 0, None
        for module in self:
            before, after = _slabs_of(module)
            if before is None:
                count += current is not None
                current = None
                continue
            if current is None:
                count += 1
            elif not _same(current, before):
                count += 2
            current = after
        return count + (current is not None)


def _slabs_of(module: nn.Module) -> tuple[Slabs | None, Slabs | None]:
    """The order of features that a module takes and gives in bases; None where it has none."""
    if isinstance(module, NormNonlinearity):
        return module.slabs, module.slabs
    if isinstance(module, SoftLinear):
        return module.slabs
    return None, None


@lru_cache(maxsize=1024)
def _same(one: Slabs, other: Slabs) -> bool:
    if one is other:
        return True
    mine, theirs = one.side, other.side
    return (
        one.channels == other.channels
        and len(mine.types) == len(theirs.types)
        and all(np.array_equal(a, b) for a, b in zip(mine.types, theirs.types, strict=True))
        and np.array_equal(mine.basis.matrix, theirs.basis.matrix)
    )
