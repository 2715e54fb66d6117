"""How a constraint is decomposed: one engine for each structure that makes it cheap."""

from equikernels.project.engines.averaging import AveragingEngine
from equikernels.project.engines.bases import BasesEngine
from equikernels.project.engines.block_rules import BlockRule
from equikernels.project.engines.dense import DenseEngine, dense_constraint, right_singular_system
from equikernels.project.engines.engine import BlockEngine, Engine, Factors
from equikernels.project.engines.isotypic import IsotypicEngine
from equikernels.project.engines.iterative import IterativeProjection
from equikernels.project.engines.spectral import SpectralEngine
from equikernels.project.engines.translations import TranslationEngine

__all__ = [
    "AveragingEngine",
    "BasesEngine",
    "BlockEngine",
    "BlockRule",
    "DenseEngine",
    "Engine",
    "Factors",
    "IsotypicEngine",
    "IterativeProjection",
    "SpectralEngine",
    "TranslationEngine",
    "dense_constraint",
    "right_singular_system",
]
