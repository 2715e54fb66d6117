"""Memory whose surroundings are watched: a kernel that writes beyond its result is caught."""

from __future__ import annotations

import torch
from torch import Tensor

from equikernels.ops import triton_support

# Keeps results as aligned as an allocator does, so that kernels are specialised alike.
FRAME_BYTES = 512
SENTINEL = 0xA5


class FramedMemory:
    """Stands in for `triton_support.empty`: results lie inside larger buffers full of a sentinel.

    The sentinel also fills the result itself, so that a value nobody wrote is not accidentally right.
    """

    def __init__(self) -> None:
        self.buffers: list[Tensor] = []

    def empty(
        self,
        shape: tuple[int, ...] | torch.Size,
        dtype: torch.dtype,
        device: torch.device,
        *,
        as_bits: bool = False,
    ) -> Tensor:
        dtype, shape = dtype if as_bits else triton_support.stored(dtype), torch.Size(shape)
        size = shape.numel() * dtype.itemsize
        buffer = torch.full((size + 2 * FRAME_BYTES,), SENTINEL, dtype=torch.uint8, device=device)
        self.buffers.append(buffer)
        # Not a view, as little as the memory this stands in for.
        result = torch.empty(0, dtype=dtype, device=device)
        return result.set_(buffer.untyped_storage(), FRAME_BYTES // dtype.itemsize, shape)

    def check(self) -> None:
        """Fails if any frame was written to, and forgets the buffers."""
        buffers, self.buffers = self.buffers, []
        for number, buffer in enumerate(buffers):
            size = len(buffer) - 2 * FRAME_BYTES
            frame = torch.cat([buffer[:FRAME_BYTES], buffer[FRAME_BYTES + size :]])
            written = (frame != SENTINEL).nonzero().flatten().tolist()
            # Told from the result: negative in front of it, from its size on behind it.
            places = [at - FRAME_BYTES if at < FRAME_BYTES else at - FRAME_BYTES + size for at in written]
            assert not places, f"result {number} of {size} bytes: written outside at bytes {places[:8]} ..."
