"""Changes of basis of whole weights without autograd: from buffer to buffer, piece by piece, in cache.

A weight is (outer, m, columns) here, columns = channels * n: U_in acts on runs of n columns from the right,
U_out on the rows from the left, and neither needs a copy in another order.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from equikernels.ops.bases.basis import Basis

Step = Callable[[Tensor, Tensor], None]
"""Reads its first argument and writes all of its second; both (outer, m, columns), contiguous."""


def analysis_steps(out: Basis, inn: Basis) -> list[Step]:
    """Steps that compute U_out^T W U_in."""
    return _steps(inn, -1, False) + _steps(out, -2, False)


def synthesis_steps(out: Basis, inn: Basis) -> list[Step]:
    """Steps that compute U_out W' U_in^T."""
    return _steps(out, -2, True) + _steps(inn, -1, True)


def run_steps(steps: list[Step], x: Tensor, buffers: tuple[Tensor, Tensor], out: Tensor) -> None:
    """All steps, the last one into `out`. `x` may be one of the buffers; otherwise it is only read."""
    for step in steps[:-1]:
        to = buffers[1] if x is buffers[0] else buffers[0]
        step(x, to)
        x = to
    if steps:
        steps[-1](x, out)
    elif x is not out:
        out.copy_(x)


def _steps(basis: Basis, dim: int, inverse: bool) -> list[Step]:
    if basis.kind == "identity":
        return []
    if basis.kind == "dense":
        return [lambda x, to: _multiply_all(basis, x, to, dim, inverse)]
    steps: list[Step] = [lambda x, to: _transform(basis, x, to, dim, inverse)]
    if basis.sectors:
        steps.append(lambda x, to: _multiply_sectors(basis, x, to, dim, inverse))
    return steps[::-1] if inverse else steps


def _multiply_all(basis: Basis, x: Tensor, to: Tensor, dim: int, inverse: bool) -> None:
    matrix = basis.dense(x.dtype, x.device)
    if dim == -1:
        torch.mm(x.view(-1, basis.dim), matrix.mT if inverse else matrix, out=to.view(-1, basis.dim))
        return
    for piece, result in zip(x, to, strict=True):
        torch.mm(matrix if inverse else matrix.mT, piece, out=result)


def _transform(basis: Basis, x: Tensor, to: Tensor, dim: int, inverse: bool) -> None:
    from equikernels.ops.bases import native

    assert basis.orbits is not None
    transform = basis.orbits.inverse if inverse else basis.orbits
    if dim == -1:
        native.transform_rows(x.view(1, -1, basis.dim), transform, to.view(1, -1, basis.dim))
    else:
        native.transform_columns(x, transform, to)


def _multiply_sectors(basis: Basis, x: Tensor, to: Tensor, dim: int, inverse: bool) -> None:
    blocks = basis.blocks(x.dtype, x.device)
    if dim == -1:
        pieces = [(x.view(-1, basis.dim), to.view(-1, basis.dim))]
    else:
        pieces = list(zip(x, to, strict=True))
    for piece, result in pieces:
        started: set[int] = set()
        for sector, block in zip(basis.sectors, blocks, strict=True):
            source, target = (sector.columns, sector.rows) if inverse else (sector.rows, sector.columns)
            if dim == -1:
                left, right, out = piece[:, source], block.mT if inverse else block, result[:, target]
            else:
                left, right, out = block if inverse else block.mT, piece[source], result[target]
            # Several runs of columns may belong to the same rows.
            if target.start in started:
                out.addmm_(left, right)
            else:
                torch.mm(left, right, out=out)
            started.add(target.start)
