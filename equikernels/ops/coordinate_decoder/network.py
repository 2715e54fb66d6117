"""What the tiles work on, and the gradients they give."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Network(NamedTuple):
    """A coordinate MLP whose first layer is folded into a table for each of N images."""

    table: Tensor
    """(N, M, H), M monomials."""
    features: Tensor
    """(P, M), the monomials of the evaluated pixels."""
    columns: Tensor
    """x of a grid's columns where the separable form is to be used, else empty."""
    rows: Tensor
    """y of its rows."""
    inside: Tensor
    """(P,), the evaluated pixels of the grid; empty for all."""
    hidden: Tensor
    """(L, H, H); in float32 a residual connection is an identity added to the weight."""
    hidden_bias: Tensor
    """(L, H)."""
    output: Tensor
    """(C, H)."""
    output_bias: Tensor
    """(C,)."""


class Gradients(NamedTuple):
    """Of the tables and the weights of a network; empty tensors where not wanted."""

    table: Tensor
    hidden: Tensor
    hidden_bias: Tensor
    output: Tensor
    output_bias: Tensor


class Form(NamedTuple):
    """How the layers of a network compute."""

    slope: float | None
    """Of the leaky ReLU; None for tanh."""
    precision: str
    """Of the products of the hidden layers."""
    residual: bool
    """Whether they add their input to their output, beyond what is in their weights."""
