"""Soft equivariance in practice ("Tunable Soft Equivariance with Guarantees", arXiv 2603.26657)."""

from equikernels.models.soft_equivariance.backbones import Features, SoftBackbone
from equikernels.models.soft_equivariance.soft_grid import PriorLinear, SoftGridClassifier
from equikernels.models.soft_equivariance.trajectories import (
    SoftTrajectoryTransformer,
    constant_velocity,
    standing_still,
)
from equikernels.models.soft_equivariance.vision import SoftViT

__all__ = [
    "Features",
    "PriorLinear",
    "SoftBackbone",
    "SoftGridClassifier",
    "SoftTrajectoryTransformer",
    "SoftViT",
    "constant_velocity",
    "standing_still",
]
