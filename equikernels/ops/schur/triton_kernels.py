"""Factors times Schur blocks on a GPU, and the sums that are the derivative by the factors.

A tile has some rows, and lanes that run over the columns of matrices side by side; its factors are made once,
in float64, and used for every matrix of the outer dimension that the program goes through. Sums are taken in
float64: every program writes its part, and the parts are added in a fixed order.
"""

from __future__ import annotations

from functools import lru_cache

import torch
import triton
import triton.language as tl
from torch import Tensor

from equikernels.ops import triton_support
from equikernels.ops.arguments import compute_dtype
from equikernels.ops.extension import addressable
from equikernels.ops.triton_support import ceil_div, power_of_two

_VALUES = 1024
_PROGRAMS = 4096
_LARGEST_CHUNK = 32
_SUM_LANES = 256
_PARTS = 64


@triton.jit
def _response(real, imaginary, numbers, HARD: tl.constexpr):
    """f(|real + i imaginary|); the numbers are cut-off, width, factor at the cut-off and tolerance."""
    excess = tl.sqrt(real * real + imaginary * imaginary) - tl.load(numbers)
    if HARD:
        tolerance = tl.load(numbers + 3)
        result = tl.where(excess <= tolerance, tl.load(numbers + 2), 0.0)
        result = tl.where(excess < -tolerance, 1.0, result)
    else:
        result = tl.where(excess > 0, tl.exp(-excess / tl.load(numbers + 1)), 1.0)
    return result


@triton.jit
def _eigenvalue(modes, at, step, inside):
    """The eigenvalue of the first coordinate of the block of a coordinate."""
    imaginary = tl.load(modes + 2 * at + 1, mask=inside, other=0)
    return tl.load(modes + 2 * at, mask=inside, other=0), tl.where(step < 0, -imaginary, imaginary)


@triton.jit
def scale_kernel(
    w, out, places_out, places_in, modes_out, modes_in, same, opposite, numbers,
    outer, rows, columns, line, tiles_rows, tiles_lanes, chunk,
    w_outer, w_inner, w_row, w_column, out_outer, out_inner, out_row, out_column,
    same_p, same_q, opposite_p, opposite_q,
    TABLES: tl.constexpr, HARD: tl.constexpr, ROWS: tl.constexpr, LANES: tl.constexpr, COMPUTE: tl.constexpr,
):  # fmt: skip
    """out = own w + half partner(w), with factors from tables or from eigenvalues."""
    program = tl.program_id(0)
    row = (program // tiles_lanes % tiles_rows).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    lane = (program % tiles_lanes).to(tl.int64) * LANES + tl.arange(0, LANES)[None, :]
    inner, column = lane // columns, lane % columns
    is_row, is_lane = row < rows, lane < line
    inside = is_row & is_lane
    step_row = tl.load(places_out + 3 * row + 1, mask=is_row, other=0)
    step_column = tl.load(places_in + 3 * column + 1, mask=is_lane, other=0)
    planes = inside & (step_row != 0) & (step_column != 0)

    if TABLES:
        p = tl.load(places_out + 3 * row, mask=is_row, other=0).to(tl.int64)
        q = tl.load(places_in + 3 * column, mask=is_lane, other=0).to(tl.int64)
        for_same = tl.load(same + p * same_p + q * same_q, mask=inside, other=0)
        for_opposite = tl.load(opposite + p * opposite_p + q * opposite_q, mask=planes, other=0)
    else:
        real_out, imaginary_out = _eigenvalue(modes_out, row, step_row, is_row)
        real_in, imaginary_in = _eigenvalue(modes_in, column, step_column, is_lane)
        for_same = _response(real_out - real_in, imaginary_out - imaginary_in, numbers, HARD)
        for_opposite = _response(real_out - real_in, imaginary_out + imaginary_in, numbers, HARD)
    own = tl.where(planes, (for_same + for_opposite) / 2, for_same).to(COMPUTE)
    half = tl.where(planes, (for_same - for_opposite) / 2, 0.0).to(COMPUTE)
    half = tl.where((step_row < 0) != (step_column < 0), -half, half)

    source = w + inner * w_inner + row * w_row + column * w_column
    target = out + inner * out_inner + row * out_row + column * out_column
    beside = step_row.to(tl.int64) * w_row + step_column.to(tl.int64) * w_column
    # What is not mixed is not read: it may be infinite.
    mixes = planes & (half != 0)
    first = (program // tiles_lanes // tiles_rows).to(tl.int64) * chunk
    for n in range(first, tl.minimum(first + chunk, outer)):
        value = tl.load(source + n * w_outer, mask=inside, other=0).to(COMPUTE)
        partner = tl.load(source + n * w_outer + beside, mask=mixes, other=0).to(COMPUTE)
        tl.store(target + n * out_outer, own * value + half * partner, mask=inside)


@triton.jit
def _entry(x, place, inside):
    return tl.load(x + place, mask=inside, other=0).to(tl.float64)


@triton.jit
def inner_kernel(
    grad, w, places_out, places_in, partial, leads, inner, p, q, leads_of_part,
    grad_outer, grad_inner, grad_row, grad_column, w_outer, w_inner, w_row, w_column,
    LEADS: tl.constexpr, PAIRS: tl.constexpr,
):  # fmt: skip
    """partial (parts, 2, p, q): sums of a part of the matrices for a tile of pairs of blocks."""
    tiles = (p * q + PAIRS - 1) // PAIRS
    pair = tl.program_id(0) % tiles * PAIRS + tl.arange(0, PAIRS)[None, :]
    part = tl.program_id(0) // tiles
    known = pair < p * q
    row = tl.load(places_out + 3 * (pair // q) + 2, mask=known, other=0).to(tl.int64)
    column = tl.load(places_in + 3 * (pair % q) + 2, mask=known, other=0).to(tl.int64)
    step_row = tl.load(places_out + 3 * row + 1, mask=known, other=0).to(tl.int64)
    step_column = tl.load(places_in + 3 * column + 1, mask=known, other=0).to(tl.int64)

    straight = tl.zeros([LEADS, PAIRS], tl.float64)
    crossed = tl.zeros([LEADS, PAIRS], tl.float64)
    first = part.to(tl.int64) * leads_of_part
    for start in range(first, tl.minimum(first + leads_of_part, leads), LEADS):
        lead = start + tl.arange(0, LEADS)[:, None]
        there = known & (lead < leads)
        below, right = there & (step_row != 0), there & (step_column != 0)
        g = (
            grad
            + lead // inner * grad_outer
            + lead % inner * grad_inner
            + row * grad_row
            + column * grad_column
        )
        v = w + lead // inner * w_outer + lead % inner * w_inner + row * w_row + column * w_column
        g11, w11 = _entry(g, 0, there), _entry(v, 0, there)
        g12, w12 = _entry(g, step_column * grad_column, right), _entry(v, step_column * w_column, right)
        g21, w21 = _entry(g, step_row * grad_row, below), _entry(v, step_row * w_row, below)
        g22 = _entry(g, step_row * grad_row + step_column * grad_column, below & right)
        w22 = _entry(v, step_row * w_row + step_column * w_column, below & right)
        straight += g11 * w11 + g12 * w12 + g21 * w21 + g22 * w22
        crossed += g11 * w22 - g12 * w21 - g21 * w12 + g22 * w11

    own, partner = tl.sum(straight, 0, keep_dims=True), tl.sum(crossed, 0, keep_dims=True)
    planes = (step_row != 0) & (step_column != 0)
    target = partial + part.to(tl.int64) * 2 * p * q + pair
    tl.store(target, tl.where(planes, (own + partner) / 2, own), mask=known)
    tl.store(target + p * q, tl.where(planes, (own - partner) / 2, 0.0), mask=known)


@lru_cache(maxsize=64)
def _numbers(device: torch.device, *values: float) -> Tensor:
    """float64 numbers in memory: as arguments of a kernel they would be float32."""
    return torch.tensor(values, dtype=torch.float64, device=device)


def project(
    w: Tensor,
    places_out: Tensor,
    places_in: Tensor,
    modes_out: Tensor,
    modes_in: Tensor,
    cutoff: float,
    width: float,
    at_cutoff: float,
    tolerance: float,
) -> Tensor:
    """The response of the distances between eigenvalues; a width of zero is a hard cut-off."""
    dtype, w = w.dtype, triton_support.readable(w)
    out = _empty_like(w, dtype)
    numbers = _numbers(w.device, cutoff, width, at_cutoff, tolerance)
    # No tables: what stands for them is not read.
    _scale(w, out, (places_out, places_in, modes_out, modes_in), (numbers, numbers), numbers, width == 0)
    return out.to(dtype)


def scale(w: Tensor, same: Tensor, opposite: Tensor, places_out: Tensor, places_in: Tensor) -> Tensor:
    """Factors (G, p, q) for G groups of weights (G, outer, inner, m, n)."""
    dtype, w = w.dtype, triton_support.readable(w)
    same, opposite = addressable(same), addressable(opposite)
    out = _empty_like(w, dtype)
    constants = (places_out, places_in, same, same)
    for group in range(w.shape[0]):
        _scale(w[group], out[group], constants, (same[group], opposite[group]), None, False)
    return out.to(dtype)


def _scale(
    w: Tensor,
    out: Tensor,
    constants: tuple[Tensor, Tensor, Tensor, Tensor],
    tables: tuple[Tensor, Tensor],
    numbers: Tensor | None,
    is_hard: bool,
) -> None:
    outer, inner, rows, columns = w.shape
    row_tile, lane_tile = triton_support.tile_extents((rows, inner * columns), _VALUES)
    tiles_rows, tiles_lanes = ceil_div(rows, row_tile), ceil_div(inner * columns, lane_tile)
    tiles = tiles_rows * tiles_lanes
    chunk = min(max(tiles * outer // _PROGRAMS, 1), _LARGEST_CHUNK)
    strides = (0, 0, 0, 0) if numbers is not None else (*tables[0].stride(), *tables[1].stride())
    with triton_support.on_device(w):
        scale_kernel[(tiles * ceil_div(outer, chunk),)](
            w, out, *constants, *tables, tables[0] if numbers is None else numbers,
            outer, rows, columns, inner * columns, tiles_rows, tiles_lanes, chunk,
            *w.stride(), *out.stride(), *strides, TABLES=numbers is None, HARD=is_hard, ROWS=row_tile,
            LANES=lane_tile, COMPUTE=tl.float64 if w.dtype == torch.float64 else tl.float32,
        )  # fmt: skip


def inner(
    grad: Tensor, w: Tensor, places_out: Tensor, places_in: Tensor, blocks_out: int, blocks_in: int
) -> tuple[Tensor, Tensor]:
    """<Q(grad), Q(w)> and <grad - Q(grad), w - Q(w)> of all pairs of blocks, (G, p, q) each."""
    dtype = compute_dtype(w.dtype)
    grad, w = triton_support.readable(grad), triton_support.readable(w)
    groups, outer, inside = w.shape[:3]
    pairs = blocks_out * blocks_in
    pair_tile = min(power_of_two(pairs), _SUM_LANES)
    lead_tile = _SUM_LANES // pair_tile
    rounds = ceil_div(outer * inside, lead_tile)
    leads_of_part = lead_tile * max(ceil_div(rounds, _PARTS), min(rounds, 8))
    parts = ceil_div(outer * inside, leads_of_part)
    partial = triton_support.empty((groups, parts, 2, blocks_out, blocks_in), torch.float64, w.device)
    with triton_support.on_device(w):
        for group in range(groups):
            inner_kernel[(ceil_div(pairs, pair_tile) * parts,)](
                grad[group], w[group], places_out, places_in, partial[group], outer * inside, inside,
                blocks_out, blocks_in, leads_of_part, *grad[group].stride(), *w[group].stride(),
                LEADS=lead_tile, PAIRS=pair_tile,
            )  # fmt: skip
    sums = partial.sum(1).to(dtype)
    return sums[:, 0].clone(), sums[:, 1].clone()


def _empty_like(w: Tensor, dtype: torch.dtype) -> Tensor:
    """Memory for a result with the layout of a dense `w`."""
    flat = triton_support.empty((w.numel(),), dtype, w.device)
    # In place: a view of the memory would not do, see there.
    return flat.as_strided_(w.shape, torch.empty_like(w, device="meta").stride())
