"""Projections onto the commutant of a compact or finite group, by averaging over random elements.

M -> (M + g M g^T) / 2 with random elements g keeps what commutes with the group; of the rest, with Haar
distributed g, half of the square is left after each step, whatever the group is.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
from scipy.linalg import expm

COMMUTING_TOLERANCE = 1e-13
"""|A M - M A| relative to |A| |M| at which averaging ends."""

STALLED_TOLERANCE = 1e-9
"""Operators that are themselves rounded never commute to 1e-13: below this a standstill is the end."""

NEGLIGIBLE = 1e-9
"""Lie generators smaller than this, relative to the largest operator, are zeros in disguise."""

CHECK_EVERY = 20
PATIENCE = 5
"""How many checks without half the residual are a standstill."""

MOST_STEPS = 2000

POOL = 10
EXPONENTIALS = 6
ROUNDS = 8
"""Words double in length with each round of the pool, and their rounding adds up: 2^8 letters are enough."""


def _random_elements(
    lie: list[np.ndarray], discrete: list[np.ndarray], rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """Matrices of nearly Haar distributed elements, by product replacement.

    A pool of generators, in which one member after the other is multiplied by another or its inverse, goes
    on generating the group, and its words have all lengths, odd and even. It starts anew now and then,
    because the rounding of long words is no element of the group.
    """
    seeds = list(discrete)
    for _ in range(EXPONENTIALS if lie else 0):
        coordinates = rng.standard_normal(len(lie)) / [_size(a) for a in lie]
        a = np.tensordot(coordinates, np.stack(lie), axes=1)
        # Angles of a few turns, not to be small for slow planes either.
        seeds.append(expm(a * (np.pi * rng.uniform(1, 4) / _size(a))))
    count = max(POOL, len(seeds))
    while True:
        pool = list(itertools.islice(itertools.cycle(seeds), count))
        for step in range(ROUNDS * count):
            i, j = rng.choice(count, size=2, replace=False)
            factor = pool[j] if rng.random() < 0.5 else pool[j].T
            pool[i] = pool[i] @ factor if rng.random() < 0.5 else factor @ pool[i]
            if step >= count:
                yield pool[i]


def _size(a: np.ndarray) -> float:
    """The root mean square of the singular values."""
    return float(np.linalg.norm(a) / np.sqrt(len(a)))


def _significant(lie: list[np.ndarray], discrete: list[np.ndarray]) -> list[np.ndarray]:
    """The Lie generators that are not zero up to rounding, beside the others and the discrete ones."""
    largest = max([1.0 if discrete else 0.0, *(_size(a) for a in lie)])
    return [a for a in lie if _size(a) > NEGLIGIBLE * largest]


def _residual(operators: list[np.ndarray], matrices: np.ndarray, floors: np.ndarray) -> float:
    """The largest |A M - M A| relative to the root mean square of A and to |M|, or its floor if larger."""
    sizes = np.maximum(np.linalg.norm(matrices, axis=(1, 2)), floors)
    worst = 0.0
    for a in operators:
        defects = np.linalg.norm(a @ matrices - matrices @ a, axis=(1, 2))
        worst = max(worst, float((defects / sizes).max()) / _size(a))
    return worst


def averaged(
    lie: list[np.ndarray], discrete: list[np.ndarray], start: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """The projections of matrices (k, n, n) onto the commutant."""
    lie = _significant(lie, discrete)
    operators = lie + discrete
    # One dimension of a commutant holds 1/n of the norm of a random matrix.
    norms = np.linalg.norm(start, axis=(1, 2))
    floors = np.where(norms > 0, norms, 1.0) / start.shape[-1]
    elements = _random_elements(lie, discrete, rng)
    matrices = start
    residual = best = _residual(operators, matrices, floors)
    standstill = 0
    for _ in range(0, MOST_STEPS, CHECK_EVERY):
        if residual <= COMMUTING_TOLERANCE or (standstill == PATIENCE and residual <= STALLED_TOLERANCE):
            return matrices
        for g in itertools.islice(elements, CHECK_EVERY):
            matrices = (matrices + g @ matrices @ g.T) / 2
        residual = _residual(operators, matrices, floors)
        standstill = 0 if residual < best / 2 else min(standstill + 1, PATIENCE)
        best = min(best, residual)
    raise ValueError(
        f"averaging over the group did not end: after {MOST_STEPS} steps |A M - M A| is {residual:.1e} of "
        f"|A| |M|, not below {STALLED_TOLERANCE:.0e}; are the operators accurate?"
    )
