"""The spectral grid representation of SO(2): an exact orthogonal group law on pixels.

With centred coordinates X = diag(x) and the sinc derivative D_ij = (-1)^(i-j) / (i-j), the operator

    A = D kron X - X kron D        (index = row * W + column, row 0 on top)

is skew, and exp(theta A) turns content counter-clockwise. A commutes with the quarter turn P and
anticommutes with the left-right flip F. Its frequencies are not integers, so exp(2 pi A) is not I;
the representation keeps the eigenvectors and moves each frequency to the nearest integer that P
allows. In the sectors P = 1, P = -1 and P^2 = -1 these are k = 0, k = 2 and k = +-1 modulo 4, so that
rho(90 degrees) = P. On a rectangle only the half turn commutes with A: k is even or odd.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.linalg
import scipy.sparse as sp

from equikernels.group.grids.geometry import PixelGrid

NULL_TOLERANCE = 1e-9
"""Frequencies of A below this multiple of the largest are null modes. The next ones are at 2."""


@dataclass(frozen=True)
class SpectralModes:
    """Real modes of the representation, by integer frequency.

    Attributes:
        planes: pairs (k, basis) with k >= 1 and `basis` (dim, copies, 2): the planes that turn by
            k theta, their first axis towards the second. The left-right flip keeps the first axis and
            negates the second, except in `one_parity` planes.
        fixed_even, fixed_odd: (dim, count), the modes that do not turn, by their sign under the flip.
        obstructed: how many of the fixed modes ought to turn, because P moves them: there, and
            only there, rho differs from the exact turn of the grid.
        one_parity: how many planes hold two modes of equal sign under the flip. The flip cannot
            reverse their turn, so only where there are none, and no obstruction, O(2) acts.
    """

    planes: tuple[tuple[int, np.ndarray], ...]
    fixed_even: np.ndarray
    fixed_odd: np.ndarray
    obstructed: int
    one_parity: int


def sinc_derivative(n: int) -> np.ndarray:
    """The derivative of the band-limited interpolant at its own samples: skew (n, n)."""
    i = np.arange(n)
    difference = i[:, None] - i[None, :]
    sign = np.where(difference % 2 == 0, 1.0, -1.0)
    return np.where(difference == 0, 0.0, sign / np.where(difference == 0, 1, difference))


def rotation_generator(grid: PixelGrid) -> sp.csr_array:
    """The skew operator A on the kept pixels, sparse (dim, dim)."""
    x = sp.diags_array(np.arange(grid.width) - (grid.width - 1) / 2)
    y = sp.diags_array(np.arange(grid.height) - (grid.height - 1) / 2)
    a = sp.kron(sinc_derivative(grid.height), x) - sp.kron(y, sinc_derivative(grid.width))
    a = sp.csr_array(a)
    return a if grid.mask is None else a[grid.kept][:, grid.kept]


def adapted_basis(images: list[np.ndarray], characters: list[int]) -> sp.csc_array:
    """Orthonormal vectors that each permutation `images[g]` multiplies by `characters[g]`.

    The images are the index maps of a whole group; one vector comes from each orbit on which the
    character does not cancel.
    """
    sources = np.stack(images)
    starts = np.flatnonzero(sources.min(axis=0) == np.arange(sources.shape[1]))
    rows = sources[:, starts]
    columns = np.broadcast_to(np.arange(starts.size), rows.shape)
    values = np.broadcast_to(np.asarray(characters, dtype=float)[:, None], rows.shape)
    vectors = sp.csc_array(
        (values.ravel(), (rows.ravel(), columns.ravel())), shape=(sources.shape[1], starts.size)
    )
    norms = np.sqrt(np.asarray(vectors.multiply(vectors).sum(axis=0)).ravel())
    alive = np.flatnonzero(norms > 0.5)
    return sp.csc_array(vectors[:, alive] @ sp.diags_array(1 / norms[alive]))


def _nearest(frequency: np.ndarray, residue: int, modulus: int) -> np.ndarray:
    """The integer congruent to `residue` that is nearest to each frequency."""
    return (residue + modulus * np.round((frequency - residue) / modulus)).astype(int)


class _Collector:
    """Gathers planes and fixed modes from the sectors."""

    def __init__(self, grid: PixelGrid) -> None:
        self.grid = grid
        self.planes: dict[int, list[np.ndarray]] = {}
        nothing = np.zeros((grid.dim, 0))
        self.fixed: tuple[list[np.ndarray], list[np.ndarray]] = ([nothing], [nothing])
        self.obstructed = 0
        self.one_parity = 0

    def add(self, frequencies: np.ndarray, first: np.ndarray, second: np.ndarray) -> None:
        """Planes (first, second) with signed integer frequencies; a negative one reverses its plane."""
        second = second * np.where(frequencies < 0, -1.0, 1.0)
        for k in np.unique(np.abs(frequencies)):
            chosen = np.abs(frequencies) == k
            if k == 0:
                self.fixed[0].append(first[:, chosen])
                self.fixed[1].append(second[:, chosen])
            else:
                self.planes.setdefault(int(k), []).append(np.stack([first[:, chosen], second[:, chosen]], -1))

    def add_sector(
        self, a: sp.csr_array, even: sp.csc_array, odd: sp.csc_array, residue: int, modulus: int
    ) -> None:
        """A sector on which A maps flip-even vectors to flip-odd ones and back: one small SVD.

        A v = sigma u and A u = -sigma v for singular vectors v (even) and u (odd), so each pair is a
        plane of frequency sigma.
        """
        v, sigma, u = _singular_planes(odd.T @ (a @ even))
        tolerance = NULL_TOLERANCE * max(1.0, self.grid.height, self.grid.width)
        rank = int((sigma > tolerance).sum())
        first, second = even @ v, odd @ u
        self.add(_nearest(sigma[:rank], residue, modulus), first[:, :rank], second[:, :rank])
        rest = [first[:, rank:], second[:, rank:]]
        if residue == 0:
            for parity in (0, 1):
                self.fixed[parity].append(rest[parity])
            return
        # Null modes that the exact turn moves. Laplacian eigenvectors make them definite; neighbours
        # are paired to turn together, and one left over has no partner: the obstruction.
        ordered = [self._by_laplacian(null) for null in rest]
        partners = min(null.shape[1] for null in ordered)
        frequency = np.full(partners, residue)
        self.add(frequency, ordered[0][:, :partners], ordered[1][:, :partners])
        parity = 0 if ordered[0].shape[1] > partners else 1
        alone = ordered[parity][:, partners:]
        pairs = alone.shape[1] // 2
        self.add(np.full(pairs, residue), alone[:, 0 : 2 * pairs : 2], alone[:, 1 : 2 * pairs : 2])
        self.one_parity += pairs
        self.fixed[parity].append(alone[:, 2 * pairs :])
        self.obstructed += alone.shape[1] - 2 * pairs

    def _by_laplacian(self, null: np.ndarray) -> np.ndarray:
        """A null space in the order of falling smoothness, each vector with a fixed sign."""
        if null.shape[1] == 0:
            return null
        _, rotation = np.linalg.eigh(-(null.T @ self.grid.laplacian @ null))
        modes = null @ rotation
        leading = np.argmax(np.abs(modes) > 0.1 * np.abs(modes).max(axis=0), axis=0)
        signs = np.sign(modes[leading, np.arange(modes.shape[1])])
        return np.asarray(modes * signs)

    def modes(self) -> SpectralModes:
        planes = tuple((k, np.concatenate(self.planes[k], axis=1)) for k in sorted(self.planes))
        even, odd = (np.concatenate(modes, axis=1) for modes in self.fixed)
        return SpectralModes(planes, even, odd, self.obstructed, self.one_parity)


def _singular_planes(k: sp.csr_array) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Full singular bases (v, sigma, u) of k = u diag(sigma) v^T, singular values falling."""
    if 0 in k.shape:
        return np.eye(k.shape[1]), np.zeros(0), np.eye(k.shape[0])
    u, sigma, vt = scipy.linalg.svd(k.toarray(), full_matrices=True)
    return vt.T, sigma, u


@dataclass(frozen=True)
class _Symmetries:
    """Vectors adapted to the turns and flips that carry a grid to itself.

    Attributes:
        sectors: (even, odd, residue) under the flip, for each character of the exact turns that is +-1; the
            residue is that of the frequencies modulo `modulus`.
        half, turned: on a square, the flip-even vectors that the half turn negates, and the same after a
            quarter turn: flip-odd ones. None on a rectangle.
    """

    sectors: tuple[tuple[sp.csc_array, sp.csc_array, int], ...]
    modulus: int
    half: sp.csc_array | None = None
    turned: sp.csc_array | None = None


def _symmetries(grid: PixelGrid) -> _Symmetries:
    identity, mirror = np.arange(grid.dim), grid.mirror
    if not grid.is_square:
        group = [identity, grid.half_turn, mirror, grid.half_turn[mirror]]
        sectors = [
            (adapted_basis(group, [1, turn, 1, turn]), adapted_basis(group, [1, turn, -1, -turn]), residue)
            for residue, turn in ((0, 1), (1, -1))
        ]
        return _Symmetries(tuple(sectors), 2)
    quarter = grid.quarter_turn
    half = quarter[quarter]
    turns = [identity, quarter, half, half[quarter]]
    flips = [mirror[turn] for turn in turns]
    sectors = []
    for residue, turn in ((0, 1), (2, -1)):
        powers = [1, turn, 1, turn]
        odd = powers + [-p for p in powers]
        sectors.append(
            (adapted_basis(turns + flips, powers + powers), adapted_basis(turns + flips, odd), residue)
        )
    even = adapted_basis([identity, half, mirror, mirror[half]], [1, -1, 1, -1])
    return _Symmetries(tuple(sectors), 4, even, sp.csc_array(even.tocsr()[quarter]))


def symmetry_basis(grid: PixelGrid) -> np.ndarray:
    """An orthogonal matrix (dim, dim) of vectors adapted to the grid's symmetries: sparse, and it splits the
    change of basis of the spectral representation into sectors."""
    found = _symmetries(grid)
    parts = [part for even, odd, _ in found.sectors for part in (even, odd)]
    parts += [part for part in (found.half, found.turned) if part is not None]
    return np.asarray(sp.hstack(parts).toarray())


def spectral_modes(grid: PixelGrid) -> SpectralModes:
    """Modes and integer frequencies of the spectral representation of SO(2) on a grid.

    Raises ValueError for a mask that is not symmetric under the quarter turn (on a rectangle: the
    half turn) and the left-right flip.
    """
    a = rotation_generator(grid)
    collector = _Collector(grid)
    symmetries = _symmetries(grid)
    for even, odd, residue in symmetries.sectors:
        collector.add_sector(a, even, odd, residue, symmetries.modulus)
    # On P^2 = -1 the flip-even half E is carried to the flip-odd half by P, and P^-1 A is symmetric
    # on E: P^-1 A v = omega v makes (v, P v) a plane of signed frequency omega.
    half, turned = symmetries.half, symmetries.turned
    if half is not None and turned is not None and half.shape[1]:
        symmetric = turned.T @ (a @ half)
        omega, vectors = np.linalg.eigh(symmetric.toarray())
        collector.add(_nearest(omega, 1, 4), half @ vectors, turned @ vectors)
    return collector.modes()
