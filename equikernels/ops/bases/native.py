"""Launcher of the C++ orbit transform: plain CPU tensors in, addresses and strides out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from equikernels.ops.bases.orbits import LARGEST_ORBIT, OrbitTransform
from equikernels.ops.extension import addressable, native

PANEL = 8192
"""Coordinates up to which one transform of rows is fastest by panels; beyond, these outgrow the caches."""

_CPU = torch.device("cpu")


def transform(x: Tensor, transforms: Sequence[OrbitTransform], dim: int) -> Tensor:
    """x T_1 T_2 ... with coordinates in dimension `dim`, float32 or float64, as a new tensor."""
    x = addressable(x)
    out = torch.empty(x.shape, dtype=x.dtype)
    if x.numel() == 0:
        return out
    x = x.reshape(1, -1, x.shape[-1]) if dim == -1 else x.reshape(-1, *x.shape[-2:])
    if x.stride(-1) != 1:
        x = x.contiguous()
    alone = len(transforms) == 1 and transforms[0].largest <= LARGEST_ORBIT
    if alone and (dim == -2 or x.shape[-1] > PANEL):
        _launch(dim == -2, x, out.view(x.shape), transforms[0])
    else:
        change(x, transforms, out.view(x.shape), dim)
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
    table, _ = transform.constants.get(("stage", dtype), lambda: _stage_table(transform, dtype))
    return table.data_ptr(), len(table)


def _stage_table(transform: OrbitTransform, dtype: torch.dtype) -> tuple[Tensor, object]:
    """The table, and what must live as long as it because its addresses are in there."""
    tables = transform.tables(dtype, _CPU)
    # A row for every input.
    weights = [mix.T.contiguous() for _, _, mix in tables]
    rows = [
        [*inputs.shape, inputs.data_ptr(), results.data_ptr(), weight.data_ptr()]
        for (inputs, results, _), weight in zip(tables, weights, strict=True)
    ]
    return torch.tensor(rows, dtype=torch.int64).view(-1, 5), (tables, weights)


def _launch(columns: bool, x: Tensor, y: Tensor, transform: OrbitTransform) -> None:
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
