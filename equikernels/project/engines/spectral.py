"""The constraint of one normal operator on each side, in closed form, in the real Schur basis.

For normal A and B the singular values of C(W) = W A - B W are |mu - nu| over all pairs of eigenvalues,
and "a response f of the singular values" acts on each block M of W' = U_out^T W U_in alone: between
two planes it multiplies the part Q(M) that commutes with the rotation by f(|mu - nu|) and the rest by
f(|mu - conj(nu)|), elsewhere the block by f(|mu - nu|). It equals the projector from the singular
vectors of the dense constraint at the cost of two Schur forms.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from equikernels.project.engines.engine import Constants, Engine, Factors, float64
from equikernels.project.normal_form import BlockPairs, NormalForm, block_pairs
from equikernels.project.spectrum import Spectrum, spectrum_of


class SpectralEngine(Engine):
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
        self._bases = Constants(float64(out.basis.T), float64(inn.basis))

    @property
    def spectrum(self) -> Spectrum:
        return self._spectrum

    def factors(self, response: Tensor) -> Factors:
        return self.factors_of_tables([response[index] for index in self._indices])

    def factors_of_tables(self, tables: list[Tensor]) -> Factors:
        """What multiplies W' itself and what its rotated partner, from one factor per block pair."""
        same, opposite, plane_axis, axis_plane, axis_axis = tables
        mean, half = (same + opposite) / 2, (same - opposite) / 2
        upper = torch.cat([mean.tile(2, 2), plane_axis.tile(2, 1)], dim=1)
        own = torch.cat([upper, torch.cat([axis_plane.tile(1, 2), axis_axis], dim=1)])
        return own, half

    def apply(self, w: Tensor, factors: Factors) -> Tensor:
        own, half = factors
        assert own is not None
        assert half is not None
        left, right = self._bases.like(w)
        blocks = left @ (w @ right)
        p, q = self.out.planes.size, self.inn.planes.size
        kept = own * blocks
        if p and q:
            # The partner of M = [[a, b], [c, d]] is [[d, -c], [-b, a]]: their mean is Q(M).
            a, b = blocks[..., :p, :q], blocks[..., :p, q : 2 * q]
            c, d = blocks[..., p : 2 * p, :q], blocks[..., p : 2 * p, q : 2 * q]
            upper = torch.cat([half * d, half * -c], dim=-1)
            lower = torch.cat([half * -b, half * a], dim=-1)
            partner = torch.cat([upper, lower], dim=-2)
            rows, columns = self.m - 2 * p, self.n - 2 * q
            kept = kept + torch.nn.functional.pad(partner, (0, columns, 0, rows))
        return left.mT @ kept @ right.mT

    def energies(self, w: Tensor) -> np.ndarray:
        w = w.detach().double().cpu()
        left, right = self._bases.like(w)
        blocks = (left @ (w @ right)).reshape(-1, self.m, self.n)
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
