"""Equivariant and softly equivariant deep learning on PyTorch.

The library is used through its parts, each imported by name:

- ``equikernels.ops``: fused operations on tensors (rotation, partitioning, projection);
- ``equikernels.group``: groups, representations, generators and pixel grids;
- ``equikernels.project``: projectors onto exactly or softly equivariant weights, and their certificates;
- ``equikernels.nn``: layers built on those projectors;
- ``equikernels.models``: complete models with training, evaluation and inference.

Importing this package alone imports none of them, so that it stays cheap.
"""

from importlib.metadata import version

__all__ = ["__version__"]

__version__ = version("equikernels")
