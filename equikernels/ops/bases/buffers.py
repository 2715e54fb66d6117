"""Changes of basis of whole weights without autograd: from buffer to buffer, piece by piece, in cache.

A piece of a weight is (outer, m, columns) here, columns = channels * n: U_in acts on runs of n columns from
the right, U_out on the rows from the left, and neither needs a copy in another order.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from equikernels.ops.bases.basis import Basis


@dataclass(frozen=True)
class Step:
    """One change of basis on one side of pieces of weights (outer, m, columns).

    Attributes:
        basis: U, none that is the identity.
        dim: the dimension of the coordinates: -1 on the right, -2 on the left.
        inverse: whether to synthesise.
    """

    basis: Basis
    dim: int
    inverse: bool

    @property
    def is_dense(self) -> bool:
        """Whether it multiplies by U itself: then piece and result are contiguous and do not overlap."""
        return not self.basis.stages

    def __call__(self, x: Tensor, to: Tensor) -> None:
        """Read x, write all of `to`, which may be x; their rows may be longer than the pieces."""
        if self.is_dense:
            self._multiply(x, to)
        else:
            self._change(x, to)

    def _multiply(self, x: Tensor, to: Tensor) -> None:
        matrix = self.basis.dense(x.dtype, x.device)
        if self.dim == -1:
            n = self.basis.dim
            torch.mm(x.view(-1, n), matrix.mT if self.inverse else matrix, out=to.view(-1, n))
            return
        for piece, result in zip(x, to, strict=True):
            torch.mm(matrix if self.inverse else matrix.mT, piece, out=result)

    def _change(self, x: Tensor, to: Tensor) -> None:
        from equikernels.ops.bases import native

        applied = self.basis.inverse_stages if self.inverse else self.basis.stages
        if self.dim == -1:
            # One channel after the other: (channels, rows, n).
            n = self.basis.dim
            x, to = (t.view(len(t) * t.shape[1], t.shape[2] // n, n).transpose(0, 1) for t in (x, to))
        native.change(x, applied, to, self.dim)


def analysis_steps(out: Basis, inn: Basis) -> list[Step]:
    """Steps that compute U_out^T W U_in."""
    steps = [Step(inn, -1, False), Step(out, -2, False)]
    return [step for step in steps if step.basis.kind != "identity"]


def synthesis_steps(out: Basis, inn: Basis) -> list[Step]:
    """Steps that compute U_out W' U_in^T."""
    steps = [Step(out, -2, True), Step(inn, -1, True)]
    return [step for step in steps if step.basis.kind != "identity"]
