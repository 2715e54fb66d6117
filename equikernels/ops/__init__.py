"""Fused operations on tensors: one meaning each, several implementations.

Which implementation runs, and the environment variables that change it: :mod:`equikernels.ops.backends`.
"""

from equikernels.ops.rotation import rotate

__all__ = ["rotate"]
