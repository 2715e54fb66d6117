"""What torch.compile is to make of functions that it cannot trace, said without importing its compiler.

`torch.compiler.assume_constant_result` and `torch.compiler.disable` import torch._dynamo, more than a second
at every `import equikernels.group`; the marks that they leave on a function are set here instead.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


def constant_of_graphs(function: F) -> F:
    """Call `function` while a graph is traced: its arguments must be plain constants, as its result is."""
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function


def outside_of_graphs(function: F) -> F:
    """Leave the graph where `function` is called."""
    function._torchdynamo_disable = True  # type: ignore[attr-defined]
    return function
