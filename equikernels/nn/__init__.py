"""Layers that respect a symmetry, softly or strictly."""

from equikernels.nn.soft_linear import SoftLinear

__all__ = ["SoftLinear"]
