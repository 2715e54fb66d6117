"""Layers that respect a symmetry, softly or strictly."""

from equikernels.nn.norm_nonlinearity import NormNonlinearity
from equikernels.nn.soft_conv2d import SoftConv2d
from equikernels.nn.soft_linear import SoftLinear
from equikernels.nn.soft_sequential import SoftSequential
from equikernels.nn.symmetric_downsample import SymmetricDownsample, symmetrise_sampling

__all__ = [
    "NormNonlinearity",
    "SoftConv2d",
    "SoftLinear",
    "SoftSequential",
    "SymmetricDownsample",
    "symmetrise_sampling",
]
