"""The singular value decomposition of the dense constraint: any operators, small sizes."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from equikernels.project.engines.engine import BlockEngine, Factors, float64
from equikernels.project.spectrum import Spectrum, spectrum_of


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


class DenseEngine(BlockEngine):
    """vec W = V f(sigma) V^T vec W0, with V the right singular vectors of the stacked constraint.

    Args:
        a, b: constraint operators (d, n, n) and (d, m, m).
        scale: the size of the operators, see Spectrum.
    """

    def __init__(self, a: np.ndarray, b: np.ndarray, scale: float) -> None:
        self.m, self.n = b.shape[-1], a.shape[-1]
        self.vectors, sigma = right_singular_system(dense_constraint(a, b))
        self._spectrum, index = spectrum_of(sigma, scale=scale)
        self.index = np.array(index, order="C")

    @property
    def spectrum(self) -> Spectrum:
        return self._spectrum

    def factors(self, response: Tensor) -> Factors:
        rows = float64(self.vectors)
        return ((rows.mT * response[torch.as_tensor(self.index)]) @ rows,)

    def apply(self, w: Tensor, factors: Factors) -> Tensor:
        (operator,) = factors
        assert operator is not None
        # vec stacks columns, so the flattened transpose is vec W.
        columns = w.mT.reshape(*w.shape[:-2], self.m * self.n)
        return (columns @ operator).reshape(*w.shape[:-2], self.n, self.m).mT

    def energies(self, w: Tensor) -> np.ndarray:
        columns = w.detach().double().cpu().mT.reshape(-1, self.m * self.n).numpy()
        square = ((columns @ self.vectors.T) ** 2).sum(axis=0)
        return np.bincount(self.index, square, minlength=self.spectrum.values.size)

    def basis(self, kept: np.ndarray) -> np.ndarray:
        chosen = self.vectors[kept[self.index]]
        return np.ascontiguousarray(chosen.reshape(-1, self.n, self.m).transpose(0, 2, 1))
