"""The rules that know the usual layers of vision models."""

from __future__ import annotations

from torch import nn

from equikernels.project.adapting.actions import kernels, tokens
from equikernels.project.adapting.rules import Rule

CONVOLUTIONS = (
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
)
POSITIONS = ("*pos_emb*", "*position_emb*", "*positional_emb*")

default_rules: tuple[Rule, ...] = (
    Rule("*", CONVOLUTIONS, kernels()),
    *(Rule(pattern, nn.Embedding, tokens()) for pattern in POSITIONS),
    *(Rule(pattern, nn.Parameter, tokens()) for pattern in POSITIONS),
)
"""Isotropic kernels for every convolution (patch embeddings are convolutions); smooth position tables, found
by their names. Linear layers act on channels and are left alone unless a rule or a grid says otherwise."""
