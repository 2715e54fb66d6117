"""Launcher of the C++ kernel: plain CPU tensors in, addresses and strides out."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from equikernels.ops.extension import addressable, native, result_like
from equikernels.ops.permutation.elements import INVERSES, TABLES, Table
from equikernels.ops.permutation.reference import output_shape


def _numbers(table: Table) -> np.ndarray:
    """A table (elements, 3) as the kernel reads it: images are volumes of one slice."""
    rows = [row if len(row) == 3 else (1, *(e + 1 if e > 0 else e - 1 for e in row)) for row in table]
    numbers = np.array(rows, dtype=np.int64)
    numbers.setflags(write=False)
    return numbers


_NUMBERS = {
    (kind, inverse): _numbers(table)
    for inverse, tables in ((False, TABLES), (True, INVERSES))
    for kind, table in tables.items()
}
_ADDRESSES = {key: (numbers.ctypes.data, len(numbers)) for key, numbers in _NUMBERS.items()}


def permute(z: Tensor, g: Tensor, kind: str, inverse: bool, swapped: bool) -> Tensor:
    """Move every sample by its element, or by the element's inverse."""
    z = addressable(z)
    # Integers are neither negated nor conjugated lazily.
    g = addressable(g) if g._is_zerotensor() else g
    out = torch.empty(output_shape(z, swapped), dtype=z.dtype) if swapped else result_like(z)
    native.permute(
        z.element_size(), torch.get_num_threads(), z.shape, z.stride(), z.data_ptr(),
        g.data_ptr(), g.stride(0), *_ADDRESSES[kind, inverse], kind == "turns", swapped, out.data_ptr(),
    )  # fmt: skip
    return out
