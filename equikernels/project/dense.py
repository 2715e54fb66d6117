"""The projector from a singular value decomposition of the dense constraint: any operators, small sizes."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from equikernels.project.cutoffs import Cutoff
from equikernels.project.spectrum import spectrum_of


def dense_constraint(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """L = A^T kron I - I kron B, stacked over generators: (d * m * n, m * n), on column-stacked weights."""
    m, n = b.shape[-1], a.shape[-1]
    rows = [np.kron(ak.T, np.eye(m)) - np.kron(np.eye(n), bk) for ak, bk in zip(a, b, strict=True)]
    return np.concatenate(rows) if rows else np.zeros((0, m * n))


def right_singular_system(constraint: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All right singular vectors as rows (N, N) and their singular values (N,), ascending."""
    rows, columns = constraint.shape
    _, sigma, vt = np.linalg.svd(constraint, full_matrices=rows < columns)
    full = np.zeros(columns)
    full[: sigma.size] = sigma
    return vt[::-1], full[::-1]


class DenseEngine:
    """vec W = V f(sigma) V^T vec W0, with V the right singular vectors of the stacked constraint.

    Args:
        a, b: constraint operators (d, n, n) and (d, m, m).
        cutoff: the cut-off.
        scale: the size of the operators, see Spectrum.

    Attributes:
        spectrum: singular values of the stacked constraint.
        largest_response: the factor of each cluster (clusters,).
        trace: the sum of the factors over all singular values.
    """

    def __init__(self, a: np.ndarray, b: np.ndarray, cutoff: Cutoff, scale: float) -> None:
        self.m, self.n = b.shape[-1], a.shape[-1]
        self.vectors, sigma = right_singular_system(dense_constraint(a, b))
        self.spectrum, self.index = spectrum_of(sigma, scale=scale)
        self.largest_response = cutoff.response(self.spectrum)
        self.trace = float(self.largest_response @ self.spectrum.multiplicities)
        self._constants: dict[tuple[torch.dtype, torch.device], Tensor] = {}

    def _operator(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        key = (dtype, device)
        if key not in self._constants:
            matrix = (self.vectors.T * self.largest_response[self.index]) @ self.vectors
            self._constants[key] = torch.tensor(matrix, dtype=dtype, device=device)
        return self._constants[key]

    def apply(self, w: Tensor) -> Tensor:
        """P(W) for blocks (..., m, n) in a floating dtype of at least single precision."""
        # vec stacks columns, so the flattened transpose is vec W.
        columns = w.mT.reshape(*w.shape[:-2], self.m * self.n)
        projected = columns @ self._operator(w.dtype, w.device)
        return projected.reshape(*w.shape[:-2], self.n, self.m).mT

    @property
    def is_projection(self) -> bool:
        """Whether every response is 0 or 1."""
        return bool(np.isin(self.largest_response, (0.0, 1.0)).all())

    def energies(self, w: Tensor) -> np.ndarray:
        """|w_sigma|^2 for each cluster (clusters,), summed over all blocks of w (..., m, n), float64."""
        columns = w.detach().double().cpu().mT.reshape(-1, self.m * self.n).numpy()
        square = ((columns @ self.vectors.T) ** 2).sum(axis=0)
        return np.bincount(self.index, square, minlength=self.spectrum.values.size)

    def basis(self) -> np.ndarray:
        """Orthonormal weights (count, m, n) that span the range: every direction with response > 0."""
        kept = self.vectors[self.largest_response[self.index] > 0]
        return np.ascontiguousarray(kept.reshape(-1, self.n, self.m).transpose(0, 2, 1))
