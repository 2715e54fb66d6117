"""Which engine decomposes a constraint, and engines shared by everything that needs the same one."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from equikernels.group import Representation
from equikernels.group.isotypic import isotypic_blocks
from equikernels.project.engines import (
    AveragingEngine,
    DenseEngine,
    Engine,
    IsotypicEngine,
    SpectralEngine,
    TranslationEngine,
)
from equikernels.project.engines.averaging import can_average
from equikernels.project.engines.isotypic import (
    IrrepType,
    IsotypicForm,
    PairProblem,
    problem_of_operators,
)
from equikernels.project.engines.problems import central_problem, form_of_representation, given_problem
from equikernels.project.engines.translations import can_transform
from equikernels.project.operators import DENSE_LIMIT, Operators, is_skew

METHODS = ("auto", "spectral", "schur", "svd", "iterative")

SMALL = 256
"""Entries m * n of given matrices up to which the dense constraint is decomposed at once."""

CACHED_ENGINES = 64


def choose_route(operators: Operators, method: str) -> str:
    """The engine that will run for a method; raises ValueError where the one asked for cannot.

    Returns:
        "schur" (one normal operator on each side), "isotypic", "averaging", "translations", "dense" or
        "iterative".
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    if method == "svd":
        return "dense"
    if method == "iterative":
        return method
    if method == "schur":
        if operators.count != 1:
            raise ValueError(
                f'method="schur" is a rule for one constraint operator, got {operators.count}: '
                'use method="auto", or SweepProjector for the published composition'
            )
        if operators.not_normal:
            raise ValueError(f'{operators.not_normal}: use method="svd"')
        return "schur"
    rep_in, rep_out = operators.rep_in, operators.rep_out
    if rep_in is not None and rep_out is not None and has_irreps(rep_in) and has_irreps(rep_out):
        if operators.central and can_average(rep_in, rep_out):
            return "averaging"
        if operators.central and can_transform(rep_in, rep_out):
            return "translations"
        return "schur" if operators.count == 1 and rep_in.group.is_compact else "isotypic"
    return _route_of_matrices(operators, method)


def has_irreps(rep: Representation) -> bool:
    """Whether the normal form is known: not where a compact group acts by interpolation."""
    return rep.is_orthogonal or not rep.group.is_compact


def _route_of_matrices(operators: Operators, method: str) -> str:
    reason = operators.not_normal
    if operators.count == 1 and reason is None:
        return "schur"
    if operators.count > 1:
        reason = operators.not_orthogonal
    size = operators.m * operators.n
    if method == "auto" and (size <= SMALL or (reason and size <= DENSE_LIMIT)):
        return "dense"
    if reason is None:
        return "isotypic"
    cost = f' (a dense problem of size {size}) or method="iterative"' if size > DENSE_LIMIT else ""
    raise ValueError(f'{reason}: use method="svd"{cost}')


def engine_for(operators: Operators, route: str) -> Engine:
    """The engine of a route; those of representations are kept and shared."""
    if operators.rep_in is None or operators.rep_out is None:
        return _engine_of_matrices(operators, route)
    return _engine_of_representations(operators.rep_in, operators.rep_out, operators.closed, route)


@lru_cache(maxsize=CACHED_ENGINES)
def _engine_of_representations(
    rep_in: Representation, rep_out: Representation, closed: bool, route: str
) -> Engine:
    operators = Operators(rep_in, rep_out, closed=closed)

    def isotypic() -> Engine:
        return _engine_of_representations(rep_in, rep_out, closed, "isotypic")

    if route == "averaging":
        return AveragingEngine(rep_out, rep_in, isotypic)
    if route == "translations":
        return TranslationEngine(rep_out, rep_in, isotypic)
    if route == "isotypic":
        group = rep_in.group
        small = central_problem if operators.central else given_problem

        def problem(label_in: object, label_out: object) -> PairProblem:
            return small(group, label_in, label_out)

        out = form_of_representation(rep_out)
        inn = out if rep_in is rep_out else form_of_representation(rep_in)
        return IsotypicEngine(out, inn, problem, operators.scale)
    return _engine_of_matrices(operators, route)


def _engine_of_matrices(operators: Operators, route: str) -> Engine:
    if route == "schur":
        return SpectralEngine(*operators.normal_forms(), operators.scale)
    if route == "dense":
        return DenseEngine(operators.a, operators.b, operators.scale)
    inn, forms_in = _form_of_matrices(operators.a)
    out, forms_out = _form_of_matrices(operators.b)
    solved: dict[tuple[object, object], PairProblem] = {}

    def problem(key_in: object, key_out: object) -> PairProblem:
        if (key_in, key_out) not in solved:
            pairs = list(zip(forms_in[key_in], forms_out[key_out], strict=True))
            solved[key_in, key_out] = problem_of_operators(pairs, [])
        return solved[key_in, key_out]

    return IsotypicEngine(out, inn, problem, operators.scale)


def _form_of_matrices(stack: np.ndarray) -> tuple[IsotypicForm, dict[object, np.ndarray]]:
    """The isotypic form of constraint operators (k, n, n), and the operators on one copy of each type."""
    lie = [a for a in stack if is_skew(a)]
    discrete = [a + np.eye(len(a)) for a in stack if not is_skew(a)]
    types: list[IrrepType] = []
    operators: dict[object, np.ndarray] = {}
    columns, start = [], 0
    for key, block in enumerate(isotypic_blocks(lie, discrete)):
        operators[key] = np.stack([block.form(a) for a in stack])
        types.append(IrrepType(key, block.dim, block.copies, start))
        columns.append(block.basis)
        start += block.copies * block.dim
    return IsotypicForm(np.concatenate(columns, axis=1), tuple(types)), operators
