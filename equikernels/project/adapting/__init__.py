"""Adapting pretrained models: `soften`, its rules and its report."""

from equikernels.project.adapting.actions import attention, kernels, leave, linear, tokens
from equikernels.project.adapting.checkpoints import check_soften_metadata, soften_metadata
from equikernels.project.adapting.defaults import default_rules
from equikernels.project.adapting.report import LayerRow, LimitRow, SoftenReport
from equikernels.project.adapting.rules import Plan, Rule, Site
from equikernels.project.adapting.soften import AlreadySoftened, soften
from equikernels.project.adapting.softened import is_softened, raw_parameter

__all__ = [
    "AlreadySoftened",
    "LayerRow",
    "LimitRow",
    "Plan",
    "Rule",
    "Site",
    "SoftenReport",
    "attention",
    "check_soften_metadata",
    "default_rules",
    "is_softened",
    "kernels",
    "leave",
    "linear",
    "raw_parameter",
    "soften",
    "soften_metadata",
    "tokens",
]
