"""Tensors with the constants of an object, made when they are first needed and kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from equikernels.ops.tracing import may_keep

Made = TypeVar("Made")


class Constants:
    """Values by key, each made once; copies and pickles of the object that owns them begin without any.

    What is made here is used by every thread and in every mode: in inference mode ordinary tensors are made,
    and where something traces, whose tensors hold no values, nothing is kept.

    >>> constants = Constants()
    >>> constants.get("two", lambda: torch.tensor(2.0)) is constants.get("two", lambda: torch.tensor(3.0))
    True
    """

    def __init__(self) -> None:
        self._made: dict[Any, Any] = {}

    def get(self, key: Any, make: Callable[[], Made]) -> Made:
        """The value of `key`, from `make` where there is none yet."""
        if torch.compiler.is_compiling():
            return self._made[key] if key in self._made else make()
        if torch._C._len_torch_dispatch_stack() > 0:
            return make()
        if key in self._made:
            return self._made[key]  # type: ignore[no-any-return]
        if not may_keep():
            return make()
        with torch.inference_mode(False):
            # Of two threads that come at once the first one's value stays: kernels may have its address.
            return self._made.setdefault(key, make())  # type: ignore[no-any-return]

    def __reduce__(self) -> tuple[type[Constants], tuple[()]]:
        # Some hold addresses of others.
        return Constants, ()


class ConstantArray:
    """Numbers that are asked for as tensors, also where something traces.

    Args:
        values: an array that nobody changes any more.
    """

    def __init__(self, values: np.ndarray) -> None:
        self.values = values
        # A real tensor, whatever is going on: a tracer takes it for the constant it is.
        with torch.inference_mode(False), _disable_current_modes():
            self._tensor = torch.tensor(values)

    def tensor(self, device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
        """The values on a device, in a dtype or in their own."""
        if not torch.compiler.is_compiling() and torch._C._len_torch_dispatch_stack() > 0:
            # Fake tensors want constants of their own kind.
            return torch.tensor(self.values, dtype=dtype, device=device)
        return self._tensor.to(device, dtype or self._tensor.dtype)
