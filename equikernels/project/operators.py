"""What a projector is built from: constraint operators on both sides, checked once."""

from __future__ import annotations

import dataclasses
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

ORTHOGONALITY_TOLERANCE = 1e-9

DENSE_LIMIT = 4096
"""Entries m * n of one block up to which the dense constraint is decomposed unasked: minutes beyond."""


def is_skew(a: np.ndarray) -> bool:
    """Whether a matrix is a Lie generator of orthogonal matrices, to rounding."""
    return bool(np.abs(a + a.T).max(initial=0.0) <= 1e-9 * max(float(np.abs(a).max(initial=0.0)), 1e-300))


@dataclass(frozen=True, eq=False)
class Operators:
    """Constraint operators of two representations of one group, or given as matrices.

    Attributes:
        rep_in, rep_out: the representations, None for given matrices.
        given: the matrices (d, n, n) and (d, m, m), None for representations.
        closed: whether the constraint is averaged over the group, so that it commutes with it: the
            generators of a finite group are completed under conjugation, an orthonormal basis of a Lie
            algebra is closed as it is.
    """

    rep_in: Representation | None = None
    rep_out: Representation | None = None
    given: tuple[np.ndarray, np.ndarray] | None = None
    closed: bool = False

    def __reduce__(self) -> tuple[Any, ...]:
        # Not the matrices that were formed meanwhile.
        return Operators, (self.rep_in, self.rep_out, self.given, self.closed)

    def letters(self) -> Operators:
        """The same constraint with the generators alone: the letters that words are made of."""
        return dataclasses.replace(self, closed=False)

    @property
    def central(self) -> bool:
        """Whether sum C_k^T C_k commutes with the group: one generator of a commutative one does."""
        return self.closed or (self.group is not None and self.group.is_compact and self.count == 1)

    def _stack(self, rep: Representation | None, side: int) -> np.ndarray:
        if rep is None:
            assert self.given is not None
            return self.given[side]
        if not self.closed:
            return rep.constraints
        group = rep.group
        # An invariant inner product makes the structure constants of an orthonormal basis antisymmetric.
        c = group.structure_constants
        if np.abs(c + c.transpose(0, 2, 1)).max(initial=0.0) > 1e-9:
            raise ValueError(
                f"the Lie generators of {group!r} are not orthonormal, so they are not closed as they are: "
                'use method="auto", or generators="given"'
            )
        elements = group.conjugates() if group.discrete_elements else ()
        if group.order is None and len(elements) != len(group.discrete_elements):
            raise ValueError(
                f"the discrete generators of {group!r} have more conjugates than operators to stack: "
                'use method="auto", or generators="given"'
            )
        eye = np.eye(rep.dim)
        return np.stack([*rep.generators, *(rep(element).numpy() - eye for element in elements)])

    # Matrices are formed when asked for: the spectral route reads irreps and never needs them.

    @cached_property
    def a(self) -> np.ndarray:
        """A_k on the input (d, n, n)."""
        return self._stack(self.rep_in, 0)

    @cached_property
    def b(self) -> np.ndarray:
        """B_k on the output (d, m, m)."""
        return self._stack(self.rep_out, 1)

    @property
    def scale(self) -> float:
        """The size of the operators, against which rounding is measured.

        One for representations: frequencies are integers and rho(s) - I is of the order of rho(s). Given
        matrices have no other size than their own.
        """
        if self.given is None:
            return 1.0
        return max(float(np.abs(stack).max()) for stack in self.given)

    @property
    def m(self) -> int:
        return self.rep_out.dim if self.rep_out is not None else int(self.b.shape[-1])

    @property
    def n(self) -> int:
        return self.rep_in.dim if self.rep_in is not None else int(self.a.shape[-1])

    @property
    def count(self) -> int:
        """Number of generators."""
        if self.group is not None:
            return self.group.lie_dim + len(self.group.discrete_elements)
        return int(self.a.shape[0])

    @property
    def group(self) -> Group | None:
        return None if self.rep_in is None else self.rep_in.group

    @cached_property
    def not_normal(self) -> str | None:
        """Which operator is not normal and by how much, or None if the spectral form exists."""
        for name, rep, side in (("rep_in", self.rep_in, 0), ("rep_out", self.rep_out, 1)):
            if rep is not None and rep.is_orthogonal:
                continue
            for k, operator in enumerate(self._stack(rep, side)):
                defect = normality_defect(operator)
                if not defect <= NORMALITY_TOLERANCE:
                    what = f"operator {k} of {'operators_' + name[4:] if rep is None else name}"
                    return f"{what} is not normal (|A A^T - A^T A| / |A|^2 is {defect:.1e})"
        return None

    @cached_property
    def not_orthogonal(self) -> str | None:
        """Which operator is neither skew nor rho(s) - I with orthogonal rho(s), or None."""
        for name, rep, side in (("rep_in", self.rep_in, 0), ("rep_out", self.rep_out, 1)):
            for k, operator in enumerate(self._stack(rep, side)):
                rho = operator + np.eye(len(operator))
                defect = float(np.abs(rho @ rho.T - np.eye(len(rho))).max())
                if not is_skew(operator) and not defect <= ORTHOGONALITY_TOLERANCE:
                    what = f"operator {k} of {'operators_' + name[4:] if rep is None else name}"
                    return f"{what} is neither skew nor rho - I with |rho rho^T - I| = 0, but {defect:.1e}"
        return None

    def normal_forms(self) -> tuple[NormalForm, NormalForm]:
        """Normal forms of the one output and the one input operator."""
        if self.rep_in is not None and self.rep_in is self.rep_out:
            both = self._form(self.rep_in, 0)
            return both, both
        return self._form(self.rep_out, 1), self._form(self.rep_in, 0)

    def _form(self, rep: Representation | None, side: int) -> NormalForm:
        if rep is not None and rep.is_orthogonal:
            return normal_form_of_representation(rep)
        return normal_form_of_operator(
            self._stack(rep, side)[0], ("the input", "the output")[side] + " operator"
        )


def operators_of(rep_in: Any, rep_out: Any, generators: str = "closed") -> Operators:
    """The constraint operators of two representations of one group; raises TypeError or ValueError."""
    if generators not in ("closed", "given"):
        raise ValueError(f'generators must be "closed" or "given", got {generators!r}')
    for name, rep in (("rep_in", rep_in), ("rep_out", rep_out)):
        if not isinstance(rep, Representation):
            raise TypeError(f"{name} must be a Representation, got {type(rep).__name__}")
        if rep.dim == 0:
            raise ValueError(f"{name} must have at least one dimension")
    if rep_in.group != rep_out.group:
        raise ValueError(
            f"rep_in belongs to {rep_in.group!r}, rep_out to {rep_out.group!r}: restrict one of them"
        )
    group = rep_in.group
    # One generator needs no company, and a group that is not compact has no average.
    several = group.lie_dim + len(group.discrete_elements) > 1
    interpolated = group.is_compact and not (rep_in.is_orthogonal and rep_out.is_orthogonal)
    closed = generators == "closed" and several and group.is_compact and not interpolated
    return Operators(rep_in, rep_out, closed=closed)


def _stack(name: str, operators: Any) -> np.ndarray:
    if isinstance(operators, (np.ndarray, Tensor)) and operators.ndim == 2:
        operators = [operators]
    if not isinstance(operators, (Sequence, np.ndarray, Tensor)) or len(operators) == 0:
        raise ValueError(f"{name} must be a list of one square matrix per generator, got {operators!r}")
    matrices: list[np.ndarray] = []
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
            raise ValueError(
                f"{name}[{k}] must have shape {matrices[0].shape} like {name}[0], got {matrix.shape}"
            )
        matrices.append(matrix.astype(np.float64))
    return np.stack(matrices)


def given_operators(operators_in: Any, operators_out: Any) -> Operators:
    """Operators from lists of matrices (NumPy or tensors), one per generator and side."""
    a, b = _stack("operators_in", operators_in), _stack("operators_out", operators_out)
    if len(a) != len(b):
        raise ValueError(f"operators_out must hold {len(a)} matrices like operators_in, got {len(b)}")
    return Operators(given=(a, b))


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
