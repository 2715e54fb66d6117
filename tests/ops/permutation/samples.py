"""What the permutation tests share: every operation with its elements, inputs of every kind."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from equikernels.ops import cube_rotate, dihedral_rotate, rot90

BACKENDS = ("reference", "cpp")

# By name: the operation, how many elements it has, and how many axes of space.
OPERATIONS: dict[str, tuple[Callable[..., Tensor], int, int]] = {
    "rot90": (rot90, 4, 2),
    "dihedral_rotate": (dihedral_rotate, 8, 2),
    "cube_rotate": (cube_rotate, 24, 3),
}

DTYPES = (
    torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.uint16, torch.uint32,
    torch.uint64, torch.float8_e4m3fn, torch.float16, torch.bfloat16, torch.float32, torch.float64,
    torch.complex32, torch.complex64, torch.complex128,
)  # fmt: skip

FORMATS = {4: torch.channels_last, 5: torch.channels_last_3d}


def bits(x: Tensor) -> Tensor:
    """The bytes of every value, (..., bytes): what a permutation must keep, NaN included."""
    return x.contiguous().unsqueeze(-1).view(torch.uint8)


def random_values(shape: tuple[int, ...], dtype: torch.dtype, seed: int = 0) -> Tensor:
    """Any bits at all, except that a boolean is 0 or 1."""
    generator = torch.Generator().manual_seed(seed)
    size = dtype.itemsize
    raw = torch.randint(256, (*shape, size), generator=generator, dtype=torch.uint8)
    return (raw[..., 0] > 127) if dtype == torch.bool else raw.view(dtype)[..., 0]


def move(z: Tensor, operation: str, element: int) -> Tensor:
    """One array (..., *space), from torch.rot90 and torch.flip alone."""
    if operation == "rot90":
        return torch.rot90(z, element, (-2, -1))
    if operation == "dihedral_rotate":
        return torch.rot90(z.flip(-1) if element >= 4 else z, element, (-2, -1))
    coset, turns = divmod(element, 4)
    z = torch.rot90(z, turns, (-2, -1))
    # About x: z towards -y, that is depth towards rows. About y: z towards x, depth towards columns.
    if coset < 4:
        return torch.rot90(z, coset, (-3, -2))
    return torch.rot90(z, 1 if coset == 4 else -1, (-3, -1))
