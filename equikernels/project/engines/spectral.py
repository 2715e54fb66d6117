"""The constraint of one normal operator on each side, in closed form, in the real Schur basis.

For normal A and B the singular values of C(W) = W A - B W are |mu - nu| over all pairs of eigenvalues,
and "a response f of the singular values" acts on each block M of W' = U_out^T W U_in alone: between
two planes it multiplies the part Q(M) that commutes with the rotation by f(|mu - nu|) and the rest by
f(|mu - conj(nu)|), elsewhere the block by f(|mu - nu|). It equals the projector from the singular
vectors of the dense constraint at the cost of two Schur forms.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from equikernels.ops.bases import Basis
from equikernels.ops.linear import Operator, Side
from equikernels.ops.schur import SchurBlocks, schur_blocks, schur_scale, schur_scale_into
from equikernels.project.engines.bases import BasesEngine, FixedFactors
from equikernels.project.engines.engine import Factors, float64
from equikernels.project.normal_form import BlockPairs, NormalForm, block_pairs
from equikernels.project.spectrum import Spectrum, cluster, spectrum_of

COMMUTES = np.array([[0.5, 0, 0, 0.5], [0, 0.5, -0.5, 0], [0, -0.5, 0.5, 0], [0.5, 0, 0, 0.5]])
"""M -> Q(M) on 2 x 2 matrices stacked by columns."""


class SpectralEngine(BasesEngine):
    """Responses on the blocks of two normal forms.

    Args:
        out, inn: normal forms of B (m x m) and A (n x n).
        scale: the size of the operators, see Spectrum.

    Attributes:
        pairs: the singular values of every block pair.
        clusters: the index of their cluster.
    """

    def __init__(self, out: NormalForm, inn: NormalForm, scale: float) -> None:
        self.out, self.inn = out, inn
        self.m, self.n = out.dim, inn.dim
        self.pairs = block_pairs(out, inn)
        self._spectrum, self.clusters = cluster_pairs(self.pairs, scale)
        self._indices = [torch.tensor(table) for table, _ in self.clusters.parts]
        self._blocks = blocks_of(out), blocks_of(inn)

    @property
    def spectrum(self) -> Spectrum:
        return self._spectrum

    @cached_property
    def sides(self) -> tuple[Side, Side]:
        out = Side(Basis(self.out.basis, self.out.symmetry), types_of(self.out))
        return out, out if self.inn is self.out else Side(
            Basis(self.inn.basis, self.inn.symmetry), types_of(self.inn)
        )

    def factors(self, response: Tensor) -> Factors:
        return self.factors_of_tables([response[index] for index in self._indices])

    def factors_of_tables(self, tables: list[Tensor]) -> Factors:
        """Two factors for every pair of blocks, planes before axes: of Q(M) and, between planes, the rest."""
        same, opposite, plane_axis, axis_plane, axis_axis = tables
        below = torch.cat([axis_plane, axis_axis], dim=1)
        return (
            torch.cat([torch.cat([same, plane_axis], dim=1), below]),
            torch.cat([torch.cat([opposite, plane_axis], dim=1), below]),
        )

    def scale(self, blocks: Tensor, factors: Factors) -> Tensor:
        same, opposite = factors
        assert same is not None
        assert opposite is not None
        return schur_scale(blocks, same, opposite, *self._blocks)

    def scale_into(self, blocks: Tensor, factors: Factors, out: Tensor) -> None:
        same, opposite = factors
        assert same is not None
        assert opposite is not None
        schur_scale_into(blocks, same, opposite, *self._blocks, out)

    def operators(self, factors: FixedFactors) -> dict[tuple[int, int], Operator]:
        same, opposite = factors
        assert same is not None
        assert opposite is not None
        out, inn = self.sides
        found: dict[tuple[int, int], Operator] = {}
        starts = [
            [block_of(form, int(t[0, 0])) for t in side.types]
            for form, side in zip((self.out, self.inn), self.sides, strict=True)
        ]
        for o, row in enumerate(starts[0]):
            for i, column in enumerate(starts[1]):
                one, other = float(same[row, column]), float(opposite[row, column])
                if len(out.types[o]) == len(inn.types[i]) == 2 and one != other:
                    found[o, i] = one * COMMUTES + other * (np.eye(4) - COMMUTES)
                elif one != 0:
                    found[o, i] = one
        return found

    def energies(self, w: Tensor) -> np.ndarray:
        w = w.detach().double().cpu()
        blocks = (float64(self.out.basis.T) @ (w @ float64(self.inn.basis))).reshape(-1, self.m, self.n)
        p, q = self.out.planes.size, self.inn.planes.size
        a, b = blocks[:, :p, :q], blocks[:, :p, q : 2 * q]
        c, d = blocks[:, p : 2 * p, :q], blocks[:, p : 2 * p, q : 2 * q]
        square = blocks.square().sum(0)
        tables = (
            (((a + d).square() + (b - c).square()) / 2).sum(0),
            (((a - d).square() + (b + c).square()) / 2).sum(0),
            square[:p, 2 * q :] + square[p : 2 * p, 2 * q :],
            square[2 * p :, :q] + square[2 * p :, q : 2 * q],
            square[2 * p :, 2 * q :],
        )
        total = np.zeros(self.spectrum.values.size)
        for table, (index, _) in zip(tables, self.clusters.parts, strict=True):
            total += np.bincount(index.ravel(), table.numpy().ravel(), minlength=total.size)
        return total

    def basis(self, kept: np.ndarray) -> np.ndarray:
        return self.basis_of_tables(BlockPairs(*(kept[index] for index, _ in self.clusters.parts)))

    def basis_of_tables(self, kept: BlockPairs) -> np.ndarray:
        """Orthonormal weights for the block pairs where the tables `kept` are true."""
        p, q = self.out.planes.size, self.inn.planes.size
        first_out, second_out, axis_out = np.split(self.out.basis, [p, 2 * p], axis=1)
        first_in, second_in, axis_in = np.split(self.inn.basis, [q, 2 * q], axis=1)

        def outer(left: np.ndarray, right: np.ndarray, chosen: np.ndarray) -> np.ndarray:
            i, j = np.nonzero(chosen)
            return np.asarray(left[:, i].T[:, :, None] * right[:, j].T[:, None, :])

        half = np.sqrt(0.5)
        parts = []
        for chosen, sign in ((kept.same, 1.0), (kept.opposite, -1.0)):
            aa, dd = outer(first_out, first_in, chosen), outer(second_out, second_in, chosen)
            ab, cc = outer(first_out, second_in, chosen), outer(second_out, first_in, chosen)
            parts += [half * (aa + sign * dd), half * (ab - sign * cc)]
        parts += [outer(first_out, axis_in, kept.plane_axis), outer(second_out, axis_in, kept.plane_axis)]
        parts += [outer(axis_out, first_in, kept.axis_plane), outer(axis_out, second_in, kept.axis_plane)]
        parts.append(outer(axis_out, axis_in, kept.axis_axis))
        return np.concatenate(parts)


def cluster_pairs(pairs: BlockPairs, scale: float) -> tuple[Spectrum, BlockPairs]:
    """The spectrum of all block pairs, and the cluster index of each."""
    tables = [table for table, _ in pairs.parts]
    flat = np.concatenate([table.ravel() for table in tables])
    weights = np.concatenate([np.full(table.size, count) for table, count in pairs.parts])
    spectrum, index = spectrum_of(flat, weights, scale)
    pieces = np.split(index, np.cumsum([table.size for table in tables])[:-1])
    return spectrum, BlockPairs(*(piece.reshape(t.shape) for piece, t in zip(pieces, tables, strict=True)))


def blocks_of(form: NormalForm) -> SchurBlocks:
    """The eigenvalues of all coordinates: first axes, second axes, single ones."""
    eigenvalues = np.concatenate([form.planes, form.planes.conj(), form.axes])
    return schur_blocks(eigenvalues, distance=max(form.planes.size, 1))


def block_of(form: NormalForm, coordinate: int) -> int:
    """The block that a first coordinate belongs to, planes before axes."""
    planes = form.planes.size
    return coordinate if coordinate < planes else coordinate - planes


def types_of(form: NormalForm) -> tuple[np.ndarray, ...]:
    """Coordinates of equal eigenvalues, by frequency: (2, copies) of planes, (1, copies) of axes."""
    count = form.planes.size
    found: list[tuple[complex, np.ndarray]] = []
    for values, offset, dim in ((form.axes.astype(complex), 2 * count, 1), (form.planes, 0, 2)):
        distinct, index = cluster(values)
        for k, value in enumerate(distinct):
            first = offset + np.flatnonzero(index == k)
            found.append((value, np.stack([first, first + count][:dim])))
    found.sort(key=lambda pair: (abs(pair[0].imag), pair[0].real))
    return tuple(coordinates for _, coordinates in found)
