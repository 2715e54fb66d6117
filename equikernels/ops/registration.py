"""The backends that most operations have: the reference anywhere, C++ on the CPU, Triton on a GPU."""

from __future__ import annotations

from equikernels.ops.backends import Backend, register
from equikernels.ops.extension import UNAVAILABLE
from equikernels.ops.triton_support import register_triton


def register_kernels(operation: str) -> None:
    """Add the three to the registry, with the reason of one that is absent here."""
    register(Backend(operation, "reference", ("any",)))
    register(Backend(operation, "cpp", ("cpu",), available=not UNAVAILABLE, reason=UNAVAILABLE))
    register_triton(operation)
