"""What the launchers of Triton kernels share: whether they can run, what they may read, where they write.

Triton itself is imported by the modules ``triton_kernels`` only, when the first of their kernels is needed.
With ``TRITON_INTERPRET=1`` in the environment before that, Triton runs kernels on the CPU, one program after
the other in NumPy: thousands of times slower, and the way to test them where no GPU is. The backend "triton"
then takes CPU tensors, if it is asked for by name.
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from importlib.util import find_spec

import torch
from torch import Tensor

from equikernels.ops.backends import Backend, register
from equikernels.ops.extension import addressable

INTERPRETED = os.environ.get("TRITON_INTERPRET", "").lower() in ("1", "true", "yes", "on", "y")

_FLAT_LIMIT = 2**31


def register_triton(operation: str) -> Backend:
    """Add the backend "triton" of an operation to the registry, or the reason why it is absent."""
    if find_spec("triton") is None:
        return register(Backend(operation, "triton", ("cuda",), False, "triton is not installed"))
    if INTERPRETED:
        return register(Backend(operation, "triton", ("cpu",), automatic=False))
    # Counting devices does not start CUDA, so a process that imports this may still fork.
    if torch.cuda.device_count() == 0:
        return register(Backend(operation, "triton", ("cuda",), False, "there is no CUDA device"))
    return register(Backend(operation, "triton", ("cuda",)))


def empty(
    shape: tuple[int, ...] | torch.Size, dtype: torch.dtype, device: torch.device, *, as_bits: bool = False
) -> Tensor:
    """Contiguous memory for a result: launchers call it by this module's name, so that tests can watch it.

    The dtype is that of the result, except for bfloat16 under the interpreter, see `stored`; unless kernels
    see it `as_bits`, which they only move. What a launcher returns must not be a view of it: forward-mode
    differentiation would take it for a view of an argument.
    """
    return torch.empty(shape, dtype=dtype if as_bits else stored(dtype), device=device)


def stored(dtype: torch.dtype) -> torch.dtype:
    """The dtype kernels see for data of `dtype`: the interpreter gets bfloat16 wrong, so it sees float32.

    A launcher ends with ``.to(dtype)``, which costs nothing where nothing changes.
    """
    return torch.float32 if INTERPRETED and dtype == torch.bfloat16 else dtype


def readable(x: Tensor) -> Tensor:
    """The same values in memory, in the dtype kernels see, see `stored`."""
    x = addressable(x)
    return x if x.dtype == stored(x.dtype) else x.to(stored(x.dtype))


def on_device(x: Tensor) -> AbstractContextManager[object]:
    """Launch where `x` is: Triton takes the current device, whatever the tensors say."""
    return torch.cuda.device(x.device) if x.device.type == "cuda" else nullcontext()


def needs_wide_offsets(*tensors: Tensor, dims: int) -> bool:
    """Whether positions in the last `dims` dimensions of a tensor, in values, leave 32 bits.

    >>> needs_wide_offsets(torch.zeros(2, 3, 4, 5), dims=2)
    False
    """
    return any(
        sum(
            (size - 1) * abs(stride) for size, stride in zip(x.shape[-dims:], x.stride()[-dims:], strict=True)
        )
        >= _FLAT_LIMIT
        for x in tensors
    )


def ceil_div(a: int, b: int) -> int:
    return -(-a // b)


def power_of_two(number: int) -> int:
    """The least power of two that is no less.

    >>> [power_of_two(n) for n in (0, 1, 5, 8)]
    [1, 1, 8, 8]
    """
    return 1 << max(number - 1, 0).bit_length()


def tile_extents(sizes: tuple[int, ...], values: int) -> list[int]:
    """Extents of a tile of at most `values` values, powers of two: as even as can be, last axis first.

    An even tile reads whichever axis lies contiguously in memory in pieces, and stays small under a turn.

    >>> tile_extents((64, 64), 256), tile_extents((3, 500), 256), tile_extents((7, 7), 256)
    ([16, 16], [4, 64], [8, 8])
    """
    tile, area = [1] * len(sizes), 1
    limits = [power_of_two(size) for size in sizes]
    while area < values and tile != limits:
        free = [axis for axis in reversed(range(len(sizes))) if tile[axis] < limits[axis]]
        tile[min(free, key=lambda axis: tile[axis])] *= 2
        area *= 2
    return tile
