"""The permutations on a GPU: values are moved as integers of their size, whatever they mean.

Images are volumes of one slice. An element of a table says for every output axis along which input axis, and
in which direction, a step leads; so an input place is ``origin + sum over output axes of index * step``, with
an origin and steps that are the same for a whole sample.
"""

from __future__ import annotations

import math
from functools import cache

import torch
import triton
import triton.language as tl
from torch import Tensor

from equikernels.ops import triton_support
from equikernels.ops.extension import addressable
from equikernels.ops.permutation.elements import INVERSES, TABLES
from equikernels.ops.permutation.reference import output_shape
from equikernels.ops.triton_support import ceil_div

_INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_BLOCK = 1024


@triton.jit
def _along(entry, first, second, third):
    """The one of three numbers that belongs to the input axis of a table's entry."""
    axis = tl.abs(entry)
    return tl.where(axis == 1, first, tl.where(axis == 2, second, third))


# Assertions stay on: an element out of range must not read beyond the table.
@triton.jit(debug=True)
def permute_kernel(
    z, g, table, out, channels, depth, height, width, tiles_c, tiles_d, tiles_h, tiles_w,
    stride_n, stride_c, stride_d, stride_h, stride_w, stride_g,
    ROWS: tl.constexpr, WRAP: tl.constexpr, SWAPPED: tl.constexpr, PARTS: tl.constexpr, WIDE: tl.constexpr,
    TILE_C: tl.constexpr, TILE_D: tl.constexpr, TILE_H: tl.constexpr, TILE_W: tl.constexpr,
):  # fmt: skip
    """out[n, c, p] = z[n, c, place of p]; one program moves a tile of channels and output places.

    Sizes and strides are those of `z`, in values; a value has PARTS integers, next to each other.
    """
    program = tl.program_id(0)
    tile_w = program % tiles_w
    tile_h = program // tiles_w % tiles_h
    tile_d = program // tiles_w // tiles_h % tiles_d
    tile_c = program // tiles_w // tiles_h // tiles_d % tiles_c
    sample = (program // tiles_w // tiles_h // tiles_d // tiles_c).to(tl.int64)

    element = tl.load(g + sample * stride_g)
    if WRAP:
        element = element & (ROWS - 1)
    tl.device_assert((element >= 0) & (element < ROWS), "an element is out of range")
    entry_d, entry_h, entry_w = (
        tl.load(table + 3 * element), tl.load(table + 3 * element + 1), tl.load(table + 3 * element + 2)
    )  # fmt: skip

    # 64 bits only where a sample needs them.
    INDEX: tl.constexpr = tl.int64 if WIDE else tl.int32
    lane = tl.arange(0, TILE_C * TILE_D * TILE_H * TILE_W)
    w = (tile_w * TILE_W + lane % TILE_W).to(INDEX)
    h = (tile_h * TILE_H + lane // TILE_W % TILE_H).to(INDEX)
    d = (tile_d * TILE_D + lane // (TILE_W * TILE_H) % TILE_D).to(INDEX)
    c = (tile_c * TILE_C + lane // (TILE_W * TILE_H * TILE_D)).to(INDEX)
    out_height, out_width = height, width
    if SWAPPED:
        out_height, out_width = width, height
    inside = (c < channels) & (d < depth) & (h < out_height) & (w < out_width)

    place = c * stride_c
    for_d = d * _along(entry_d, stride_d, stride_h, stride_w)
    for_h = h * _along(entry_h, stride_d, stride_h, stride_w)
    for_w = w * _along(entry_w, stride_d, stride_h, stride_w)
    one = tl.full((), 1, INDEX)
    end_d, end_h, end_w = (
        one * (depth - 1) * stride_d, one * (height - 1) * stride_h, one * (width - 1) * stride_w
    )  # fmt: skip
    place += tl.where(entry_d > 0, for_d, _along(entry_d, end_d, end_h, end_w) - for_d)
    place += tl.where(entry_h > 0, for_h, _along(entry_h, end_d, end_h, end_w) - for_h)
    place += tl.where(entry_w > 0, for_w, _along(entry_w, end_d, end_h, end_w) - for_w)

    result = ((c * depth + d) * out_height + h) * out_width + w
    source = z + sample * stride_n
    target = out + sample * channels * depth * height * width * PARTS
    for part in tl.static_range(PARTS):
        value = tl.load(source + place + part, mask=inside)
        tl.store(target + result * PARTS + part, value, mask=inside)


@cache
def _table(kind: str, inverse: bool, device: torch.device) -> Tensor:
    """A table (elements, 3): images are volumes of one slice."""
    rows = (INVERSES if inverse else TABLES)[kind]
    volumes = [row if len(row) == 3 else (1, *(e + 1 if e > 0 else e - 1 for e in row)) for row in rows]
    return torch.tensor(volumes, dtype=torch.int32, device=device)


def permute(z: Tensor, g: Tensor, kind: str, inverse: bool, swapped: bool) -> Tensor:
    """Move every sample by its element, or by the element's inverse.

    An element out of range stops the device with an assertion, as PyTorch's own indexing does.
    """
    z, g = addressable(z), addressable(g)
    shape = output_shape(z, swapped)
    parts, integer = (2, torch.int64) if z.element_size() == 16 else (1, _INTEGERS[z.element_size()])
    out = triton_support.empty(shape, z.dtype, z.device, as_bits=True)
    if out.numel() == 0:
        return out
    # A permutation does not look at what it moves.
    values, moved = (
        torch.view_as_real(x).view(integer) if parts == 2 else x.view(integer).unsqueeze(-1) for x in (z, out)
    )
    if z.dim() == 4:
        values = values.unsqueeze(2)
    batch, channels, *sizes = values.shape[:-1]
    depth, height, width = sizes
    out_sizes = (depth, width, height) if swapped else (depth, height, width)
    tile = triton_support.tile_extents(out_sizes, _BLOCK)
    # As many channels as fit, where arrays are small.
    tile.insert(0, min(_BLOCK // math.prod(tile), triton_support.power_of_two(channels)))
    tiles = [ceil_div(size, extent) for size, extent in zip((channels, *out_sizes), tile, strict=True)]
    wide = triton_support.needs_wide_offsets(values, dims=5) or out[0].numel() >= 2**31
    table = _table(kind, inverse, z.device)
    if z.device.type == "cpu" and kind != "turns":
        # The interpreter leaves assertions out.
        wrong = g[(g < 0) | (g >= len(table))]
        if len(wrong):
            raise ValueError(f"g: expected elements 0 .. {len(table) - 1}, got {int(wrong[0])}")
    with triton_support.on_device(z):
        permute_kernel[(batch * tiles[0] * tiles[1] * tiles[2] * tiles[3],)](
            values, g, table, moved, channels, depth, height, width, *tiles, *values.stride()[:-1],
            g.stride(0), ROWS=len(table), WRAP=kind == "turns", SWAPPED=swapped, PARTS=parts, WIDE=wide,
            TILE_C=tile[0], TILE_D=tile[1], TILE_H=tile[2], TILE_W=tile[3], sanitize_overflow=False,
        )  # fmt: skip
    return out
