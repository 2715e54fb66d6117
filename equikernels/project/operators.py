"""What a projector is built from: constraint operators on both sides, checked once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from equikernels.group import Group, Representation
from equikernels.project.normal_form import (
    NORMALITY_TOLERANCE,
    NormalForm,
    normal_form_of_operator,
    normal_form_of_representation,
    normality_defect,
)

DENSE_LIMIT = 4096
"""Entries m * n of one block up to which the dense constraint is decomposed unasked: minutes beyond."""


@dataclass(frozen=True, eq=False)
class Operators:
    """Constraint operators A_k (d, n, n) on the input and B_k (d, m, m) on the output.

    `rep_in` and `rep_out` are None for operators that were given as matrices.
    """

    a: np.ndarray
    b: np.ndarray
    rep_in: Representation | None = None
    rep_out: Representation | None = None

    @property
    def m(self) -> int:
        return int(self.b.shape[-1])

    @property
    def n(self) -> int:
        return int(self.a.shape[-1])

    @property
    def count(self) -> int:
        return int(self.a.shape[0])

    @property
    def group(self) -> Group | None:
        return None if self.rep_in is None else self.rep_in.group

    @cached_property
    def not_normal(self) -> str | None:
        """Which operator is not normal and by how much, or None if the spectral form exists."""
        for name, rep, stack in (("rep_in", self.rep_in, self.a), ("rep_out", self.rep_out, self.b)):
            if rep is not None and rep.is_orthogonal:
                continue
            for k, operator in enumerate(stack):
                defect = normality_defect(operator)
                if not defect <= NORMALITY_TOLERANCE:
                    what = f"operator {k} of {'operators_' + name[4:] if rep is None else name}"
                    return f"{what} is not normal (|A A^T - A^T A| / |A|^2 is {defect:.1e})"
        return None

    def normal_forms(self) -> tuple[NormalForm, NormalForm]:
        """Normal forms of the one output and the one input operator."""
        forms = []
        for rep, stack, name in (
            (self.rep_out, self.b, "the output operator"),
            (self.rep_in, self.a, "the input operator"),
        ):
            if rep is not None and rep.is_orthogonal:
                forms.append(normal_form_of_representation(rep))
            else:
                forms.append(normal_form_of_operator(stack[0], name))
        return forms[0], forms[1]

    def choose(self, method: str) -> str:
        """The method that will run; raises ValueError where the one asked for cannot."""
        known = ("auto", "spectral", "schur", "svd", "iterative")
        if method not in known:
            raise ValueError(f"method must be one of {', '.join(known)}, got {method!r}")
        if method == "iterative":
            raise ValueError('method="iterative" is not available yet: use method="svd"')
        if method == "svd":
            return method
        reason = None
        if self.count != 1:
            reason = f"{self.count} generators have no common spectral form yet"
        elif self.not_normal:
            reason = self.not_normal
        if reason is None:
            return "spectral" if method == "auto" else method
        if method == "auto" and self.m * self.n <= DENSE_LIMIT:
            return "svd"
        cost = f", a dense problem of size {self.m * self.n}" if self.m * self.n > DENSE_LIMIT else ""
        raise ValueError(f'{reason}: use method="svd"{cost}')


def operators_of(rep_in: Any, rep_out: Any) -> Operators:
    """The constraint operators of two representations of one group; raises TypeError or ValueError."""
    for name, rep in (("rep_in", rep_in), ("rep_out", rep_out)):
        if not isinstance(rep, Representation):
            raise TypeError(f"{name} must be a Representation, got {type(rep).__name__}")
        if rep.dim == 0:
            raise ValueError(f"{name} must have at least one dimension")
    if rep_in.group != rep_out.group:
        raise ValueError(
            f"rep_in belongs to {rep_in.group!r}, rep_out to {rep_out.group!r}: restrict one of them"
        )
    return Operators(rep_in.constraints, rep_out.constraints, rep_in, rep_out)


def _stack(name: str, operators: Any) -> np.ndarray:
    if isinstance(operators, (np.ndarray, Tensor)) and operators.ndim == 2:
        operators = [operators]
    if not isinstance(operators, (Sequence, np.ndarray, Tensor)) or len(operators) == 0:
        raise ValueError(f"{name} must be a list of one square matrix per generator, got {operators!r}")
    matrices = []
    for k, operator in enumerate(operators):
        if isinstance(operator, Tensor):
            operator = operator.detach().cpu().numpy()
        matrix = np.asarray(operator)
        if matrix.dtype.kind not in "iuf":
            raise TypeError(f"{name}[{k}] must be real, got {matrix.dtype}")
        if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or matrix.shape[0] == 0:
            raise ValueError(f"{name}[{k}] must be a square matrix, got shape {matrix.shape}")
        if not np.isfinite(matrix).all():
            raise ValueError(f"{name}[{k}] must be finite, but it holds NaN or infinity")
        if matrices and matrix.shape != matrices[0].shape:
            raise ValueError(f"{name}[{k}] must have shape {matrices[0].shape} like {name}[0], got {matrix.shape}")
        matrices.append(matrix.astype(np.float64))
    return np.stack(matrices)


def given_operators(operators_in: Any, operators_out: Any) -> Operators:
    """Operators from lists of matrices (NumPy or tensors), one per generator and side."""
    a, b = _stack("operators_in", operators_in), _stack("operators_out", operators_out)
    if len(a) != len(b):
        raise ValueError(f"operators_out must hold {len(a)} matrices like operators_in, got {len(b)}")
    return Operators(a, b)


def check_weight(name: str, weight: Any, rows: int, columns: int) -> Tensor:
    """A weight (..., C_out * rows, C_in * columns) as a floating tensor; raises TypeError or ValueError."""
    w = weight if isinstance(weight, Tensor) else torch.as_tensor(np.asarray(weight))
    if not w.is_floating_point():
        raise TypeError(f"{name} must be floating, got {w.dtype}: convert it first")
    if w.ndim < 2 or w.shape[-2] % rows or w.shape[-1] % columns:
        raise ValueError(
            f"{name} must have shape (..., C_out * {rows}, C_in * {columns}), got {tuple(w.shape)}"
        )
    return w


def to_blocks(w: Tensor, m: int, n: int) -> Tensor:
    """Blocks (..., C_out, C_in, m, n) of a channel-major weight (..., C_out * m, C_in * n)."""
    *batch, rows, columns = w.shape
    return w.reshape(*batch, rows // m, m, columns // n, n).transpose(-3, -2)


def from_blocks(blocks: Tensor) -> Tensor:
    """The channel-major weight of its blocks: the inverse of `to_blocks`."""
    *batch, c_out, c_in, m, n = blocks.shape
    return blocks.transpose(-3, -2).reshape(*batch, c_out * m, c_in * n)
