"""Responses without a decomposition: Lanczos iteration on K W = sum C_k^T C_k W, for any operators.

The Krylov space of W under K holds f(sqrt K) W to any accuracy: after j steps K is a tridiagonal j x j matrix
there, whose eigenvalues take the response. As many steps as W has distinct singular values are exact; the
iteration stops when further steps change nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from equikernels.project.cutoffs import Cutoff, Hard, ReleasedSmooth, Smooth
from equikernels.project.engines.engine import Constants, float64
from equikernels.project.spectrum import Spectrum

TOLERANCE = 1e-10
"""The change of P(W) relative to |W| over CHECK_EVERY steps, twice in a row, at which the iteration stops."""

CHECK_EVERY = 8
LARGEST_STEPS = 1000
LARGEST_STORE = 2**27
"""Numbers that the Krylov vectors of one batch of blocks may take (one gigabyte)."""


class IterativeProjection:
    """P(W) for constraint operators that need not be normal, skew or orthogonal, block by block.

    Args:
        a, b: constraint operators (d, n, n) and (d, m, m).
        cutoff: a cut-off that needs no list of all singular values: Hard, Smooth or ReleasedSmooth;
            raises ValueError for others.
        scale: the size of the operators, see Spectrum.
    """

    def __init__(self, a: np.ndarray, b: np.ndarray, cutoff: Cutoff, scale: float) -> None:
        if not isinstance(cutoff, (Hard, Smooth, ReleasedSmooth)):
            raise ValueError(
                'method="iterative" does not know all singular values, which this cut-off needs: '
                f"use Hard or Smooth, got {cutoff!r}"
            )
        self.m, self.n = b.shape[-1], a.shape[-1]
        self._operators = Constants(float64(a), float64(b))
        self._cutoff, self._scale = cutoff, scale

    def __call__(self, w: Tensor) -> Tensor:
        """P(W) for blocks (..., m, n), computed in float64; differentiable, P is self-adjoint.

        Raises ValueError, with the change left, where the iteration does not settle.
        """
        return _Project.apply(w, self)  # type: ignore[no-any-return, no-untyped-call]

    def project(self, w: Tensor) -> Tensor:
        """P(W) without a gradient."""
        flat = w.detach().double().reshape(-1, self.m, self.n)
        # A bound of the steps that are stored; more only where fewer blocks are treated at once.
        steps = min(LARGEST_STEPS, self.m * self.n)
        chunk = max(1, LARGEST_STORE // (steps * self.m * self.n))
        parts = [self._project(part) for part in flat.split(chunk)]
        return torch.cat(parts).reshape(w.shape).to(w.dtype) if parts else torch.zeros_like(w)

    def _gram(self, w: Tensor) -> Tensor:
        """K W = sum_k C_k^T C_k W."""
        a, b = self._operators.like(w)
        residual = w[:, None] @ a - b @ w[:, None]
        return (residual @ a.mT - b.mT @ residual).sum(1)

    def _project(self, w: Tensor) -> Tensor:
        size = torch.linalg.vector_norm(w, dim=(1, 2))
        start = w / torch.where(size > 0, size, 1.0)[:, None, None]
        vectors = [start.flatten(1)]
        diagonal: list[Tensor] = []
        beside: list[Tensor] = []
        previous = torch.zeros(len(w), 0, dtype=w.dtype, device=w.device)
        settled = 0
        limit = min(LARGEST_STEPS, self.m * self.n)
        change = float("inf")
        for step in range(1, limit + 1):
            image = self._gram(vectors[-1].reshape(w.shape)).flatten(1)
            diagonal.append((image * vectors[-1]).sum(1))
            taken = torch.stack(vectors, dim=1)
            for _ in range(2):  # twice is enough for orthogonality to rounding
                image = image - ((taken @ image[:, :, None]).mT @ taken).squeeze(1)
            rest = torch.linalg.vector_norm(image, dim=1)
            largest = torch.stack(diagonal).abs().amax(0)
            ended = rest <= 1e-13 * torch.clamp(largest, min=self._scale**2)
            beside.append(torch.where(ended, 0.0, rest))
            exhausted = bool(ended.all()) or step == self.m * self.n
            if exhausted or step % CHECK_EVERY == 0 or step == limit:
                found = self._coefficients(
                    torch.stack(diagonal, 1), torch.stack(beside[:-1], 1) if step > 1 else None
                )
                padded = torch.nn.functional.pad(previous, (0, step - previous.shape[1]))
                change = float(torch.linalg.vector_norm(found - padded, dim=1).max()) if len(w) else 0.0
                settled = settled + 1 if change <= TOLERANCE else 0
                previous = found
                if exhausted or settled == 2:
                    combined = (found[:, None] @ taken).squeeze(1)
                    projected: Tensor = (combined * size[:, None]).reshape(w.shape)
                    return projected
            vectors.append(torch.where(ended[:, None], 0.0, image / torch.where(ended, 1.0, rest)[:, None]))
        raise ValueError(
            f"the iteration did not settle in {limit} steps (the last ones changed P(W) by {change:.1e} of "
            "|W|): singular values lie close to the cut-off; move it, or use a smooth one"
        )

    def _coefficients(self, diagonal: Tensor, beside: Tensor | None) -> Tensor:
        """f(sqrt T) e_1 (batch, steps) for tridiagonal matrices T."""
        matrix = torch.diag_embed(diagonal)
        if beside is not None:
            matrix = matrix + torch.diag_embed(beside, 1) + torch.diag_embed(beside, -1)
        values, vectors = torch.linalg.eigh(matrix)
        sigma = values.clamp(min=0).sqrt().cpu().numpy()
        # Each Ritz value for itself: a response to a spectrum needs them ascending, as eigh gives them.
        rows = [
            np.asarray(self._cutoff.response(Spectrum(row, np.ones(row.size, dtype=int), self._scale)))
            for row in sigma
        ]
        response = torch.as_tensor(np.stack(rows)).to(values) if rows else values
        return torch.einsum("bij,bj,bj->bi", vectors, response, vectors[:, 0])


class _Project(torch.autograd.Function):
    """P(W): its derivative is P."""

    @staticmethod
    def forward(ctx: Any, w: Tensor, projection: IterativeProjection) -> Tensor:
        ctx.projection = projection
        return projection.project(w)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return _Project.apply(grad, ctx.projection), None  # type: ignore[no-untyped-call]
