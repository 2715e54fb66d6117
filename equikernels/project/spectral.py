"""The exact projector of one constraint in closed form, in the real Schur basis.

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

from equikernels.project.cutoffs import Cutoff, Hard
from equikernels.project.normal_form import BlockPairs, NormalForm, block_pairs
from equikernels.project.spectrum import CLUSTER_TOLERANCE, Spectrum, spectrum_of


class SpectralEngine:
    """A response on the blocks of two normal forms.

    Args:
        out, inn: normal forms of B (m x m) and A (n x n).
        scale: the size of the operators, see Spectrum.
        cutoff: the cut-off. With `rule="blocks"` it must be Hard, and the published rule of whole
            blocks decides: a block is free where the moduli of its eigenvalues sum to less than the
            cut-off, reduced to Q(M) where they are equal, and 0 elsewhere.

    Attributes:
        spectrum: singular values of the constraint on one block.
        factors: the response of each block pair; `clusters`, the index of its singular value.
        largest_response: the largest factor in each cluster (clusters,).
        trace: the sum of the responses over all singular values.
    """

    def __init__(
        self, out: NormalForm, inn: NormalForm, cutoff: Cutoff, scale: float, rule: str = "spectral"
    ) -> None:
        self.out, self.inn = out, inn
        pairs = block_pairs(out, inn)
        self.spectrum, self.clusters = cluster_pairs(pairs, scale)
        if rule == "blocks":
            self.factors = self._block_rule(cutoff, pairs)
            self.largest_response = self._largest()
            self.trace = float(sum(table.sum() * count for table, count in self.factors.parts))
        else:
            response = cutoff.response(self.spectrum)
            self.factors = BlockPairs(*(response[table] for table, _ in self.clusters.parts))
            self.largest_response = response
            self.trace = float(response @ self.spectrum.multiplicities)
        self._constants: dict[tuple[torch.dtype, torch.device], tuple[Tensor, Tensor, Tensor, Tensor]] = {}

    def _block_rule(self, cutoff: Cutoff, pairs: BlockPairs) -> BlockPairs:
        if not isinstance(cutoff, Hard):
            raise ValueError(f'method="schur" is the published rule for Hard(cutoff), got {cutoff!r}')
        po, ao, pi, ai = (np.abs(x) for x in (self.out.planes, self.out.axes, self.inn.planes, self.inn.axes))
        scale = max([float(x.max(initial=0.0)) for x in (po, ao, pi, ai)])
        tolerance = CLUSTER_TOLERANCE * max(scale, 1e-300)
        free = [
            (out[:, None] + inn < cutoff.cutoff - tolerance).astype(float)
            for out, inn in ((po, pi), (po, pi), (po, ai), (ao, pi), (ao, ai))
        ]
        matched = [(table <= tolerance).astype(float) for table, _ in pairs.parts]
        matched[1] = np.zeros_like(matched[1])
        return BlockPairs(*(np.maximum(a, b) for a, b in zip(free, matched, strict=True)))

    # -- the operator --------------------------------------------------------------------------

    def _constant(self, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """U_out^T, U_in and the two factors: W' is multiplied by `own`, its rotated partner by `partner`."""
        key = (dtype, device)
        if key not in self._constants:
            f, p, q = self.factors, self.out.planes.size, self.inn.planes.size
            own = np.empty((self.out.dim, self.inn.dim))
            mean, half = (f.same + f.opposite) / 2, (f.same - f.opposite) / 2
            own[: 2 * p, : 2 * q] = np.tile(mean, (2, 2))
            own[: 2 * p, 2 * q :] = np.tile(f.plane_axis, (2, 1))
            own[2 * p :, : 2 * q] = np.tile(f.axis_plane, (1, 2))
            own[2 * p :, 2 * q :] = f.axis_axis
            arrays = (np.ascontiguousarray(self.out.basis.T), self.inn.basis, own, half)
            self._constants[key] = tuple(  # type: ignore[assignment]
                torch.as_tensor(array.copy(), dtype=dtype, device=device) for array in arrays
            )
        return self._constants[key]

    def apply(self, w: Tensor) -> Tensor:
        """P(W) for blocks (..., m, n) in a floating dtype of at least single precision."""
        left, right, own, half = self._constant(w.dtype, w.device)
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
            rows, columns = self.out.dim - 2 * p, self.inn.dim - 2 * q
            kept = kept + torch.nn.functional.pad(partner, (0, columns, 0, rows))
        return left.mT @ kept @ right.mT

    @property
    def is_projection(self) -> bool:
        """Whether every response is 0 or 1."""
        return bool(np.isin(self.largest_response, (0.0, 1.0)).all())

    def _largest(self) -> np.ndarray:
        """The largest factor that any direction of each cluster gets (clusters,)."""
        best = np.zeros(self.spectrum.values.size)
        for (factor, _), (index, _) in zip(self.factors.parts, self.clusters.parts, strict=True):
            np.maximum.at(best, index.ravel(), factor.ravel())
        return best

    def energies(self, w: Tensor) -> np.ndarray:
        """|w_sigma|^2 for each cluster (clusters,), summed over all blocks w (..., m, n), float64."""
        left, right, _, _ = self._constant(torch.float64, torch.device("cpu"))
        blocks = (left @ (w.detach().double().cpu() @ right)).reshape(-1, self.out.dim, self.inn.dim)
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

    def basis(self) -> np.ndarray:
        """Orthonormal weights (count, m, n) that span the range: every direction with response > 0."""
        p, q = self.out.planes.size, self.inn.planes.size
        first_out, second_out, axis_out = np.split(self.out.basis, [p, 2 * p], axis=1)
        first_in, second_in, axis_in = np.split(self.inn.basis, [q, 2 * q], axis=1)

        def outer(left: np.ndarray, right: np.ndarray, chosen: np.ndarray) -> np.ndarray:
            i, j = np.nonzero(chosen > 0)
            return np.asarray(left[:, i].T[:, :, None] * right[:, j].T[:, None, :])

        f, half = self.factors, np.sqrt(0.5)
        parts = []
        for factor, sign in ((f.same, 1.0), (f.opposite, -1.0)):
            aa, dd = outer(first_out, first_in, factor), outer(second_out, second_in, factor)
            ab, cc = outer(first_out, second_in, factor), outer(second_out, first_in, factor)
            parts += [half * (aa + sign * dd), half * (ab - sign * cc)]
        parts += [outer(first_out, axis_in, f.plane_axis), outer(second_out, axis_in, f.plane_axis)]
        parts += [outer(axis_out, first_in, f.axis_plane), outer(axis_out, second_in, f.axis_plane)]
        parts.append(outer(axis_out, axis_in, f.axis_axis))
        return np.concatenate(parts)


def cluster_pairs(pairs: BlockPairs, scale: float) -> tuple[Spectrum, BlockPairs]:
    """The spectrum of all block pairs, and the cluster index of each."""
    tables = [table for table, _ in pairs.parts]
    flat = np.concatenate([table.ravel() for table in tables])
    weights = np.concatenate([np.full(table.size, count) for table, count in pairs.parts])
    spectrum, index = spectrum_of(flat, weights, scale)
    pieces = np.split(index, np.cumsum([table.size for table in tables])[:-1])
    return spectrum, BlockPairs(*(piece.reshape(t.shape) for piece, t in zip(pieces, tables, strict=True)))
