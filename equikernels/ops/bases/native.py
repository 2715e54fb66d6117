"""Launcher of the C++ orbit transform: plain CPU tensors in, addresses and strides out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from equikernels.ops.bases.orbits import OrbitTransform
from equikernels.ops.extension import addressable, native

_CPU = torch.device("cpu")


def transform_rows(x: Tensor, transform: OrbitTransform, out: Tensor | None = None) -> Tensor:
    """x T for x (..., dim), float32 or float64; `out` must not share memory with x."""
    x = _side_by_side(addressable(x))
    rows = x if x.dim() == 3 else x.reshape(1, -1, transform.dim)
    out = torch.empty(x.shape, dtype=x.dtype) if out is None else out
    _launch(False, rows, out.view(rows.shape) if out.dim() != 3 else out, transform)
    return out


def transform_columns(x: Tensor, transform: OrbitTransform, out: Tensor | None = None) -> Tensor:
    """T^T x for x (..., dim, columns), float32 or float64; `out` must not share memory with x."""
    x = _side_by_side(addressable(x))
    columns = x if x.dim() == 3 else x.reshape(-1, *x.shape[-2:])
    out = torch.empty(x.shape, dtype=x.dtype) if out is None else out
    _launch(True, columns, out.view(columns.shape) if out.dim() != 3 else out, transform)
    return out


def change(x: Tensor, transforms: Sequence[OrbitTransform], out: Tensor, dim: int) -> None:
    """x T_1 T_2 into `out`, for one or two transforms of coordinates in dimension `dim` of x (samples, ., .).

    Both float32 or float64 with the last or the last but one dimension side by side; `out` may be x itself.
    """
    if x.numel() == 0:
        return
    order = (0, 1, 2) if dim == -2 else (0, 2, 1)
    native.change_basis(
        x.dtype == torch.float64, torch.get_num_threads(), [x.shape[axis] for axis in order],
        x.data_ptr(), [x.stride(axis) for axis in order], out.data_ptr(),
        [out.stride(axis) for axis in order], [_stage(t, x.dtype) for t in transforms],
    )  # fmt: skip


def _stage(transform: OrbitTransform, dtype: torch.dtype) -> tuple[int, int]:
    """Address and length of the families as a table of numbers."""
    kept = transform.kept(("stage", dtype), lambda: _stage_table(transform, dtype))
    return kept.data_ptr(), len(kept)


def _stage_table(transform: OrbitTransform, dtype: torch.dtype) -> Tensor:
    # The inverse of a small orthogonal matrix is its transpose, a row for every input.
    pairs = zip(transform.tables(dtype, _CPU), transform.inverse.tables(dtype, _CPU), strict=True)
    rows = [
        [*inputs.shape, inputs.data_ptr(), results.data_ptr(), weights.data_ptr()]
        for (inputs, results, _), (_, _, weights) in pairs
    ]
    return torch.tensor(rows, dtype=torch.int64)


def _side_by_side(x: Tensor) -> Tensor:
    return x if x.dim() and x.stride(-1) == 1 else x.contiguous()


def _launch(columns: bool, x: Tensor, y: Tensor, transform: OrbitTransform) -> None:
    if x.numel() == 0:
        return
    native.orbit_transform(
        x.dtype == torch.float64, columns, torch.get_num_threads(), tuple(x.shape),
        x.data_ptr(), x.stride()[:2], y.data_ptr(), y.stride()[:2], _families(transform, x.dtype),
    )  # fmt: skip


def _families(transform: OrbitTransform, dtype: torch.dtype) -> list[tuple[Any, ...]]:
    # The tables live as long as the transform, so their addresses stay.
    return [
        (*inputs.shape, inputs.data_ptr(), outputs.data_ptr(), mix.data_ptr(), *family.runs)
        for (inputs, outputs, mix), family in zip(
            transform.tables(dtype, _CPU), transform.families, strict=True
        )
    ]
