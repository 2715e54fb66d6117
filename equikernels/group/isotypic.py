"""The irreps inside a representation of any compact or finite group, found from its operators alone.

A random matrix averaged over the group is a random element M of the commutant. The eigenspaces of its
symmetric part are irreducible, and Q_j^T M Q_i between two of them is zero (they are inequivalent) or a
multiple of an orthogonal matrix (which aligns them): this holds for irreps of real, complex and quaternionic
type alike, by Schur's lemma.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from equikernels.group.averaging import averaged

OPERATOR_TOLERANCE = 1e-8
"""How far operators may be from skew or orthogonal, and blocks from exact, relative to their size."""

GAP = 1e-7
"""Eigenvalues further apart than this, relative to the largest, belong to different eigenspaces."""

WIDTH = 1e-8
"""Eigenspaces wider than this are two that collided."""

LINKED = 1e-4
"""Blocks of a random element of the commutant are zero or of order one; this tells which."""

ATTEMPTS = 5


class IsotypicBlock(NamedTuple):
    """All copies of one irrep inside a representation.

    Attributes:
        basis: orthonormal columns (dim, copies * d), copies side by side, float64; basis_j^T A basis_j is the
            same matrix for every copy j, whatever the operator A.
        copies: how often the irrep occurs.
        dim: its real dimension d.
        commutant: dimension of the matrices that commute with it: 1, 2 or 4 (real, complex, quaternionic).
    """

    basis: np.ndarray
    copies: int
    dim: int
    commutant: int

    @property
    def first(self) -> np.ndarray:
        """The basis (dim, d) of the first copy."""
        return self.basis[:, : self.dim]

    def form(self, operator: np.ndarray) -> np.ndarray:
        """The matrix (d, d) by which an operator acts on every copy."""
        return np.asarray(self.first.T @ operator @ self.first)


class _Collision(Exception):
    """Two eigenvalues of a random matrix fell together: another seed will do."""


def isotypic_blocks(
    lie: Sequence[np.ndarray], discrete: Sequence[np.ndarray] = (), *, seed: int = 0
) -> list[IsotypicBlock]:
    """The isotypic decomposition of the group that the operators generate.

    Args:
        lie: skew matrices (n, n), the derivatives of rho(exp(t X)).
        discrete: orthogonal matrices (n, n).
        seed: of the random matrices; the blocks are the same for every seed, their bases are not.

    Returns:
        Blocks ordered by dimension, then by the size of the Lie generators and the traces of the discrete
        ones (a trivial part comes first). Equal inputs give equal bases up to about 1e-10 whatever BLAS and
        its threads do; but within one block nothing singles a basis out, so it is no smooth function of the
        operators. Blocks that agree in every trace are ordered by the random matrix.

    Raises:
        ValueError: no operators, wrong shapes, NaN, operators that are not skew or not orthogonal, or so
            inexact that averaging does not end below 1e-9.

    >>> turn = np.array([[0.0, -1, 0], [0, 0, -1], [1, 0, 0]])
    >>> [(block.dim, block.copies, block.commutant) for block in isotypic_blocks([], [turn @ turn])]
    [(1, 1, 1), (2, 1, 2)]
    """
    lie, discrete = _checked(lie, discrete)
    reason = ""
    for attempt in range(ATTEMPTS):
        rng = np.random.default_rng([seed, attempt])
        try:
            return _decompose(lie, discrete, rng)
        except _Collision as collision:
            reason = str(collision)
    raise ValueError(f"no isotypic decomposition was found with seeds {seed}.0 .. {seed}.{attempt}: {reason}")


def alignment(
    source: tuple[Sequence[np.ndarray], Sequence[np.ndarray]],
    target: tuple[Sequence[np.ndarray], Sequence[np.ndarray]],
) -> np.ndarray | None:
    """The orthogonal T (d, d) with B T = T A for two irreps, or None if they are inequivalent.

    Args:
        source: Lie and discrete operators A of one irrep, (d, d) each.
        target: the operators B of the other, in the same order.

    T is free up to the unit elements of the commutant (a sign for real type); this one depends on the
    operators alone.

    >>> quarter = np.array([[0.0, -1.0], [1.0, 0.0]])
    >>> alignment(([], [quarter]), ([], [quarter.T])).shape
    (2, 2)
    >>> alignment(([], [np.eye(1)]), ([], [-np.eye(1)])) is None
    True
    """
    pairs = [list(zip(a, b, strict=True)) for a, b in zip(source, target, strict=True)]
    d = len((*source[0], *source[1])[0])
    for a, b in pairs[0]:
        if abs(np.vdot(a, a) - np.vdot(b, b)) > LINKED * max(1.0, float(np.vdot(a, a))):
            return None
    if any(abs(np.trace(a) - np.trace(b)) > LINKED for a, b in pairs[1]):
        return None
    if d == 1:
        return np.eye(1)
    rng = np.random.default_rng(0)
    together: list[list[np.ndarray]] = []
    for kind in pairs:
        together.append([np.block([[a, np.zeros((d, d))], [np.zeros((d, d)), b]]) for a, b in kind])
    # Of several random intertwiners the largest is the most accurate, and not small by chance.
    start = np.zeros((3, 2 * d, 2 * d))
    start[:, d:, :d] = rng.standard_normal((3, d, d))
    found = averaged(together[0], together[1], start, rng)[:, d:, :d]
    t = found[np.argmax(np.linalg.norm(found, axis=(1, 2)))]
    return _polar(t) if float(np.linalg.norm(t)) > LINKED else None


def _checked(
    lie: Sequence[np.ndarray], discrete: Sequence[np.ndarray]
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    found: list[list[np.ndarray]] = [[], []]
    shape: tuple[int, ...] | None = None
    for kind, name, given in ((0, "lie", lie), (1, "discrete", discrete)):
        for k, matrix in enumerate(given):
            a = np.asarray(matrix, dtype=np.float64)
            shape = a.shape if shape is None else shape
            if a.ndim != 2 or a.shape[0] != a.shape[1] or a.size == 0 or a.shape != shape:
                raise ValueError(
                    f"{name}[{k}] must be a square matrix, of one size for all, got shape {a.shape}"
                )
            if not np.isfinite(a).all():
                raise ValueError(f"{name}[{k}] must be finite, but it holds NaN or infinity")
            defect = a @ a.T - np.eye(len(a)) if kind else a + a.T
            size = 1.0 if kind else float(np.abs(a).max())
            if not np.abs(defect).max() <= OPERATOR_TOLERANCE * size:
                law = "orthogonal, but |R R^T - I|" if kind else "skew, but |A + A^T|"
                raise ValueError(f"{name}[{k}] must be {law} is {np.abs(defect).max():.1e}")
            found[kind].append(a)
    if shape is None:
        raise ValueError("lie and discrete must hold at least one operator, got none")
    return found[0], found[1]


def _decompose(
    lie: list[np.ndarray], discrete: list[np.ndarray], rng: np.random.Generator
) -> list[IsotypicBlock]:
    n = len((lie + discrete)[0])
    # How many elements averaging takes may depend on rounding: it must not move on what is drawn elsewhere.
    first_walk, second_walk = rng.spawn(2)
    samples = averaged(lie, discrete, rng.standard_normal((2, n, n)), first_walk)
    spaces = _eigenspaces(samples[0])
    classes = _classes(spaces, samples)

    # Eigenvectors are as accurate as the residual over the gap. Averaging the projectors with weights one
    # apart, and the partial isometries between copies, makes every gap and every link of order one.
    ladder = np.arange(1.0, len(spaces) + 1)
    weighted = np.concatenate([np.sqrt(c) * q for c, q in zip(ladder, spaces, strict=True)], axis=1)
    links = np.zeros((n, n))
    for members in classes:
        for j in members[1:]:
            links += spaces[j] @ _link(spaces[j], spaces[members[0]], samples) @ spaces[members[0]].T
    refined, links = averaged(lie, discrete, np.stack([weighted @ weighted.T, links]), second_walk)
    spaces = _steps_of(refined, [q.shape[1] for q in spaces])

    noise = rng.standard_normal((n, n))
    probe = rng.standard_normal(n)
    blocks: list[tuple[tuple[object, ...], IsotypicBlock]] = []
    for members in classes:
        first = _canonical(spaces[members[0]], noise, probe)
        copies = [first]
        for j in members[1:]:
            t = spaces[j].T @ links @ first
            if not np.abs(t.T @ t - np.eye(t.shape[1])).max() < LINKED:
                raise _Collision("two copies of an irrep could not be aligned")
            copies.append(spaces[j] @ _polar(t))
        block = IsotypicBlock(
            np.concatenate(copies, axis=1), len(copies), first.shape[1], _commutant(first, samples)
        )
        _verify(block, lie + discrete)
        blocks.append((_order(block, lie, discrete), block))
    blocks.sort(key=lambda pair: pair[0])
    return [block for _, block in blocks]


def _eigenspaces(matrix: np.ndarray) -> list[np.ndarray]:
    """Bases (n, d) of the eigenspaces of the symmetric part."""
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    scale = float(np.abs(values).max())
    cuts = np.flatnonzero(np.diff(values) > GAP * scale) + 1
    for part in np.split(values, cuts):
        if part[-1] - part[0] > WIDTH * scale:
            raise _Collision("two eigenvalues of a random symmetric matrix that commutes fell together")
    return np.split(vectors, cuts, axis=1)


def _steps_of(matrix: np.ndarray, sizes: list[int]) -> list[np.ndarray]:
    """Bases of the eigenspaces with eigenvalues 1, 2, ... of the dimensions expected."""
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    if not np.array_equal(np.round(values), np.repeat(np.arange(1.0, len(sizes) + 1), sizes)):
        raise _Collision("averaged projectors are no projectors: eigenspaces were not invariant")
    return np.split(vectors, np.cumsum(sizes)[:-1], axis=1)


def _classes(spaces: list[np.ndarray], samples: np.ndarray) -> list[list[int]]:
    """Which spaces are equivalent: those of one size between which the samples do not vanish."""
    classes: list[list[int]] = []
    sizes = np.array([q.shape[1] for q in spaces])
    for d in np.unique(sizes):
        chosen = np.flatnonzero(sizes == d)
        basis = np.concatenate([spaces[j] for j in chosen], axis=1)
        blocks = (basis.T @ samples @ basis).reshape(2, len(chosen), d, len(chosen), d)
        strength = np.sqrt((blocks**2).sum(axis=(0, 2, 4)))
        linked = (strength > LINKED) | (strength.T > LINKED) | np.eye(len(chosen), dtype=bool)
        seen = np.zeros(len(chosen), dtype=bool)
        for i in range(len(chosen)):
            if seen[i]:
                continue
            members = linked[i]
            # Equivalence is transitive; a link that vanished by chance is not.
            if not (linked[members] == members).all():
                raise _Collision("a link between two copies of an irrep was too weak to be told from none")
            seen |= members
            classes.append([int(j) for j in chosen[members]])
    return classes


def _link(target: np.ndarray, source: np.ndarray, samples: np.ndarray) -> np.ndarray:
    """The orthogonal intertwiner (d, d) from one copy to another: the stronger of the two samples' blocks."""
    parts = target.T @ samples @ source
    return _polar(parts[np.argmax(np.linalg.norm(parts, axis=(1, 2)))])


def _polar(t: np.ndarray) -> np.ndarray:
    """The orthogonal matrix nearest to a multiple of one."""
    u, _, vt = np.linalg.svd(t)
    return np.asarray(u @ vt)


def _canonical(space: np.ndarray, noise: np.ndarray, probe: np.ndarray) -> np.ndarray:
    """A basis that does not depend on how LAPACK chose one: eigenvectors of fixed noise, signs by a probe."""
    inside = space.T @ (noise + noise.T) @ space
    basis = space @ np.linalg.eigh(inside)[1]
    return np.asarray(basis * np.where(probe @ basis < 0, -1.0, 1.0))


def _commutant(first: np.ndarray, samples: np.ndarray) -> int:
    """1, 2 or 4, from two random elements of the commutant of one irrep.

    Their symmetric parts are scalars, or the space is reducible. Their skew parts vanish for real type, are
    proportional for complex type, and independent for quaternionic type, with three imaginary units.
    """
    d = first.shape[1]
    inside = first.T @ samples @ first
    even = (inside + inside.transpose(0, 2, 1)) / 2
    scalars = np.trace(even, axis1=1, axis2=2) / d
    if np.abs(even - scalars[:, None, None] * np.eye(d)).max() > LINKED:
        raise _Collision("an eigenspace is reducible: two eigenvalues fell together")
    odd = (inside - inside.transpose(0, 2, 1)).reshape(2, -1) / 2
    return (1, 2, 4)[int((np.linalg.svd(odd, compute_uv=False) > LINKED).sum())]


def _verify(block: IsotypicBlock, operators: list[np.ndarray]) -> None:
    """That each operator maps the block to itself and acts alike on all copies."""
    for a in operators:
        form = block.form(a)
        moved = a @ block.basis
        expected = (block.basis.reshape(len(a), block.copies, block.dim) @ form).reshape(len(a), -1)
        error = float(np.abs(moved - expected).max())
        if error > OPERATOR_TOLERANCE * max(1.0, float(np.abs(a).max())):
            raise _Collision(f"a block of dimension {block.dim} is not invariant: error {error:.1e}")


def _order(
    block: IsotypicBlock, lie: list[np.ndarray], discrete: list[np.ndarray]
) -> tuple[int, tuple[float, ...]]:
    """What depends on no basis: the dimension, shares of |A|^2, traces; rounded, so that ties are ties."""
    sizes = [max(float(np.linalg.norm(a)), 1e-300) for a in lie]
    squares = [float(np.linalg.norm(block.form(a)) / size) ** 2 for a, size in zip(lie, sizes, strict=True)]
    traces = [-float(np.trace(block.form(g))) for g in discrete]
    return block.dim, tuple(round(x, 8) + 0.0 for x in squares + traces)
