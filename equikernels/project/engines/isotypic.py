"""Several constraints at once, exactly: one small problem for each pair of irreps.

Let both representations be sums of irreps. C(W) = (W A_k - B_k W)_k acts on the block between one copy of
irrep i and one of irrep j alone, and alike for every pair of copies: a constraint on d_out x d_in matrices,
decomposed once and shared by all multiplicities. Where K = sum_k C_k^T C_k commutes with the group (a Lie
algebra with an orthonormal basis, generators closed under conjugation) it is even a number on each
irrep nu of the linear maps between the two,

    sigma_nu^2 = (1 / d_nu) sum_k |C_k on nu|_F^2,

the Casimir value for a Lie group: the decomposition is then that of a tensor product.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from equikernels.ops.bases import Basis
from equikernels.ops.linear import Operator, Side
from equikernels.project.engines.bases import BasesEngine, FixedFactors
from equikernels.project.engines.engine import Factors, float64
from equikernels.project.spectrum import Spectrum, spectrum_of


class IrrepType(NamedTuple):
    """An irrep with its copies: columns start .. start + copies * dim of the basis, copies side by side."""

    key: Hashable
    dim: int
    copies: int
    start: int


@dataclass(frozen=True, eq=False)
class IsotypicForm:
    """A representation as Q (direct sum of irreps) Q^T, equal irreps side by side.

    Attributes:
        basis: Q (dim, dim), orthogonal float64.
        types: the irreps in the order of its columns.
    """

    basis: np.ndarray
    types: tuple[IrrepType, ...]


class PairProblem(NamedTuple):
    """The constraint on the d_out x d_in matrices between two irreps.

    vectors (N, N), N = d_in * d_out: orthonormal columns, matrices stacked by columns; values (N,): the
    singular value of each; lie, discrete (N,): bounds of what the Lie and the discrete generators alone do.
    """

    vectors: np.ndarray
    values: np.ndarray
    lie: np.ndarray
    discrete: np.ndarray


class IsotypicEngine(BasesEngine):
    """Responses on the isotypic blocks of two representations.

    Args:
        out, inn: isotypic forms of the output and the input representation.
        problem: the constraint between two irreps, by the keys of the input's and the output's type.
        scale: the size of the operators, see Spectrum.
    """

    def __init__(
        self,
        out: IsotypicForm,
        inn: IsotypicForm,
        problem: Callable[[Hashable, Hashable], PairProblem],
        scale: float,
    ) -> None:
        self.out, self.inn = out, inn
        self.m, self.n = len(out.basis), len(inn.basis)
        self._pairs = [(o, i, problem(i.key, o.key)) for o in out.types for i in inn.types]
        values = np.concatenate([p.values for _, _, p in self._pairs])
        counts = np.concatenate([np.full(p.values.size, o.copies * i.copies) for o, i, p in self._pairs])
        self._spectrum, index = spectrum_of(values, counts, scale)
        cuts = np.cumsum([p.values.size for _, _, p in self._pairs])[:-1]
        self._indices = np.split(index, cuts)
        self._slopes: np.ndarray = np.zeros((2, self._spectrum.values.size))
        for (_, _, p), places in zip(self._pairs, self._indices, strict=True):
            np.maximum.at(self._slopes[0], places, p.lie)
            np.maximum.at(self._slopes[1], places, p.discrete)

    @property
    def spectrum(self) -> Spectrum:
        return self._spectrum

    @property
    def lie_slopes(self) -> np.ndarray:
        return np.asarray(self._slopes[0])

    @property
    def discrete_slopes(self) -> np.ndarray:
        return np.asarray(self._slopes[1])

    @cached_property
    def _vectors(self) -> list[Tensor]:
        return [float64(p.vectors) for _, _, p in self._pairs]

    def factors(self, response: Tensor) -> Factors:
        """The small operators V f V^T (N, N) of all pairs of irreps; None where f vanishes."""
        constant = not response.requires_grad
        found: list[Tensor | None] = []
        for vectors, index in zip(self._vectors, self._indices, strict=True):
            f = response[index]
            if constant and not bool(f.any()):
                found.append(None)
            elif constant and bool((f == f[0]).all()):
                found.append(f[0].clone())
            else:
                found.append((vectors * f) @ vectors.mT)
        return tuple(found)

    @cached_property
    def sides(self) -> tuple[Side, Side]:
        def side(form: IsotypicForm) -> Side:
            types = [t.start + np.arange(t.copies * t.dim).reshape(t.copies, t.dim).T for t in form.types]
            return Side(Basis(form.basis), tuple(types))

        out = side(self.out)
        return out, out if self.inn is self.out else side(self.inn)

    def scale(self, blocks: Tensor, factors: Factors) -> Tensor:
        rows, start = [], 0
        for o in self.out.types:
            band = blocks[..., o.start : o.start + o.copies * o.dim, :]
            columns = []
            for k, i in enumerate(self.inn.types):
                factor = factors[start + k]
                block = band[..., i.start : i.start + i.copies * i.dim]
                # Zero times what is there: what is not finite stays visible.
                columns.append(0.0 * block if factor is None else self._multiply(block, o, i, factor))
            start += len(self.inn.types)
            rows.append(torch.cat(columns, dim=-1))
        return torch.cat(rows, dim=-2)

    def scale_into(self, blocks: Tensor, factors: Factors, out: Tensor) -> None:
        out.copy_(self.scale(blocks, factors))

    def operators(self, factors: FixedFactors) -> dict[tuple[int, int], Operator]:
        pairs = [(o, i) for o in range(len(self.out.types)) for i in range(len(self.inn.types))]
        return {
            pair: float(factor) if factor.ndim == 0 else factor
            for pair, factor in zip(pairs, factors, strict=True)
            if factor is not None
        }

    @staticmethod
    def _multiply(block: Tensor, o: IrrepType, i: IrrepType, factor: Tensor) -> Tensor:
        if factor.ndim == 0:
            return factor * block
        batch = block.shape[:-2]
        pairs = block.reshape(*batch, o.copies, o.dim, i.copies, i.dim).movedim(
            (-4, -2, -1, -3), (-4, -3, -2, -1)
        )
        moved: Tensor = (pairs.flatten(-2) @ factor).unflatten(-1, (i.dim, o.dim))
        return moved.movedim((-4, -3, -2, -1), (-4, -2, -1, -3)).reshape(block.shape)

    def energies(self, w: Tensor) -> np.ndarray:
        w = w.detach().double().cpu()
        blocks = float64(self.out.basis.T) @ (w @ float64(self.inn.basis))
        total = np.zeros(self.spectrum.values.size)
        for (o, i, p), index in zip(self._pairs, self._indices, strict=True):
            block = blocks[..., o.start : o.start + o.copies * o.dim, i.start : i.start + i.copies * i.dim]
            pairs = block.reshape(-1, o.copies, o.dim, i.copies, i.dim).permute(0, 1, 3, 4, 2).flatten(-2)
            square = (pairs @ float64(p.vectors)).square().sum((0, 1, 2)).numpy()
            total += np.bincount(index, square, minlength=total.size)
        return total

    def basis(self, kept: np.ndarray) -> np.ndarray:
        found = [np.zeros((0, self.m, self.n))]
        for (o, i, p), index in zip(self._pairs, self._indices, strict=True):
            chosen = p.vectors[:, kept[index]]
            small = chosen.T.reshape(-1, i.dim, o.dim)  # matrices stacked by columns: input index first
            left = self.out.basis[:, o.start : o.start + o.copies * o.dim].reshape(self.m, o.copies, o.dim)
            right = self.inn.basis[:, i.start : i.start + i.copies * i.dim].reshape(self.n, i.copies, i.dim)
            every = np.einsum("xca,kba,yeb->kcexy", left, small, right, optimize=True)
            found.append(every.reshape(-1, self.m, self.n))
        return np.concatenate(found)


def problem_of_operators(
    lie: list[tuple[np.ndarray, np.ndarray]], discrete: list[tuple[np.ndarray, np.ndarray]]
) -> PairProblem:
    """The constraint of operators (A, B) on both irreps taken as given, by one small decomposition.

    The discrete operators are forward differences.
    """
    a = np.stack([left for left, _ in lie + discrete])
    b = np.stack([right for _, right in lie + discrete])
    m, n = b.shape[-1], a.shape[-1]
    rows = np.concatenate(
        [np.kron(ak.T, np.eye(m)) - np.kron(np.eye(n), bk) for ak, bk in zip(a, b, strict=True)]
    )
    _, sigma, vt = np.linalg.svd(rows, full_matrices=len(rows) < m * n)
    values = np.zeros(m * n)
    values[: sigma.size] = sigma
    return PairProblem(vt.T, values, values, values)
