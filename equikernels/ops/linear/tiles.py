"""The weights between types that a projection keeps, and products with nothing but them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from equikernels.ops.linear.projection import BlockProjection, Operator, Side
from equikernels.ops.linear.slabs import Slabs
from equikernels.ops.tracing import has_hidden_batch, is_plain, is_traced, is_transformed

Place = slice | Tensor


@dataclass(frozen=True, eq=False)
class Tile:
    """The weight between two types.

    Attributes:
        out, inn: indices of the types.
        repeats: where it is one matrix for every of `repeats` coordinates of a copy (maps that commute with
            an irrep of real type), the weight is that matrix alone; 1 otherwise.
    """

    out: int
    inn: int
    repeats: int


class Tiles:
    """Which tiles a projection leaves, for numbers of channels on both sides.

    Args:
        projection: with constant operators.
        channels_out, channels_in: copies of both sides.

    Attributes:
        tiles: in the order of output and input types.
        shapes: rows and columns of every tile's weight.
        parts: (matrix, rows, columns) of every product; the matrices are what `pack` gives.
    """

    def __init__(self, projection: BlockProjection, channels_out: int, channels_in: int) -> None:
        self.projection = projection
        self.out = Slabs(projection.out, channels_out)
        self.inn = Slabs(projection.inn, channels_in)
        self.tiles = tuple(
            Tile(o, i, self._repeats(o, i, operator))
            for (o, i), operator in sorted(projection.operators.items(), key=lambda pair: pair[0])
        )
        self.shapes = tuple(self._shape(tile) for tile in self.tiles)
        self._joined = self._join()
        self.parts = self._find_parts()
        self._forward = _Sums([rows for _, rows, _ in self.parts], self.width)
        self._backward = _Sums([columns for _, _, columns in self.parts], channels_in * projection.inn.dim)

    def _repeats(self, o: int, i: int, operator: Operator) -> int:
        """The dimension of the irrep where the operator keeps multiples of the identity alone."""
        d_out, d_in = len(self.projection.out.types[o]), len(self.projection.inn.types[i])
        if isinstance(operator, float) or d_out != d_in or d_out == 1:
            return 1
        identity = np.eye(d_out).ravel() / d_out**0.5
        weight = identity @ operator @ identity
        rest = np.abs(operator - weight * np.outer(identity, identity)).max()
        return d_out if rest < 1e-12 else 1

    @property
    def multiplications(self) -> int:
        """Multiplications for one vector."""
        return sum(
            tile.repeats * rows * columns
            for tile, (rows, columns) in zip(self.tiles, self.shapes, strict=True)
        )

    @property
    def entries(self) -> int:
        """Entries of all matrices."""
        return sum(rows * columns for rows, columns in self.shapes)

    def _shape(self, tile: Tile) -> tuple[int, int]:
        rows = self.projection.out.types[tile.out].size * self.out.channels
        columns = self.projection.inn.types[tile.inn].size * self.inn.channels
        return rows // tile.repeats, columns // tile.repeats

    # -- weights ---------------------------------------------------------------------------------------------

    def pack(self, coordinates: Tensor) -> list[Tensor]:
        """The matrices of all products, from a weight in coordinates (C_out * m, C_in * n); differentiable.

        A weight that is not finite somewhere, kept or not, makes them all NaN.
        """
        composed = is_traced(coordinates) or is_transformed() or has_hidden_batch(coordinates)
        parts: Sequence[Tensor] = (
            [self._selected(tile, coordinates) for tile in self.tiles]
            if composed
            else _Take.apply(coordinates, self)  # type: ignore[no-untyped-call]
        )
        matrices = [self._apply(k, part) for k, part in enumerate(parts)]
        visible = 0 * torch.linalg.vector_norm(coordinates.detach(), float("inf"))
        return [torch.cat([matrices[k] for k in joined], dim=1) + visible for joined in self._joined]

    def take(self, coordinates: Tensor) -> tuple[Tensor, ...]:
        """Every tile's part of a weight: (C_out, d_out, copies, C_in, d_in, copies)."""
        blocks = self._blocks(coordinates)
        parts = []
        for tile in self.tiles:
            (d_out, copies_out), (d_in, copies_in) = (side.types[k].shape for side, k in self._sides(tile))
            part = blocks.new_empty(self.out.channels, d_out, copies_out, self.inn.channels, d_in, copies_in)
            for a, b, rows, columns in self._places(tile, coordinates.device):
                part[:, a, :, :, b] = blocks[:, rows][..., columns]
            parts.append(part)
        return tuple(parts)

    def _selected(self, tile: Tile, coordinates: Tensor) -> Tensor:
        """One tile's part as `take` gives it, in operations that everything traces."""
        rows, columns = (
            torch.tensor(side.types[k].flatten(), device=coordinates.device) for side, k in self._sides(tile)
        )
        (d_out, copies_out), (d_in, copies_in) = (side.types[k].shape for side, k in self._sides(tile))
        part = self._blocks(coordinates).index_select(1, rows).index_select(3, columns)
        return part.view(-1, d_out, copies_out, self.inn.channels, d_in, copies_in)

    def put(self, parts: tuple[Tensor, ...]) -> Tensor:
        """The adjoint of `take`."""
        whole = parts[0].new_zeros(self.width, self.inn.channels * self.projection.inn.dim)
        blocks = self._blocks(whole)
        for tile, part in zip(self.tiles, parts, strict=True):
            for a, b, rows, columns in self._places(tile, whole.device):
                if isinstance(rows, Tensor) and isinstance(columns, Tensor):
                    # Indices in two places must be one apart from the other's dimensions to stay in theirs.
                    blocks[:, rows[:, None], :, columns[None]] = part[:, a, :, :, b].permute(1, 3, 0, 2)
                else:
                    blocks[:, rows, :, columns] = part[:, a, :, :, b]
        return whole

    def _sides(self, tile: Tile) -> tuple[tuple[Side, int], tuple[Side, int]]:
        return (self.projection.out, tile.out), (self.projection.inn, tile.inn)

    def _blocks(self, coordinates: Tensor) -> Tensor:
        return coordinates.view(
            self.out.channels, self.projection.out.dim, self.inn.channels, self.projection.inn.dim
        )

    def _places(self, tile: Tile, device: torch.device) -> Iterator[tuple[int, int, Place, Place]]:
        """Where the coordinates (a, b) of all copies of a tile are in a block."""
        (out, o), (inn, i) = self._sides(tile)
        for a, rows in enumerate(out.types[o]):
            for b, columns in enumerate(inn.types[i]):
                yield a, b, _place(rows, device), _place(columns, device)

    def _apply(self, k: int, part: Tensor) -> Tensor:
        """F on one tile, as the matrix (rows, columns) that multiplies slabs."""
        tile = self.tiles[k]
        operator = self.projection.operators[tile.out, tile.inn]
        if tile.repeats > 1:
            # The identity's share of each little matrix, times the factor.
            assert isinstance(operator, np.ndarray)
            mean = part.diagonal(dim1=1, dim2=4).mean(-1)
            return (float(np.trace(operator)) * mean).reshape(self.shapes[k])
        if isinstance(operator, np.ndarray):
            little = part.permute(0, 2, 3, 5, 4, 1).flatten(-2)  # stacked by columns
            little = little @ torch.tensor(operator, device=part.device, dtype=part.dtype)
            part = little.unflatten(-1, (part.shape[4], part.shape[1])).permute(0, 5, 1, 2, 4, 3)
        else:
            part = operator * part
        return part.permute(1, 0, 2, 4, 3, 5).reshape(self.shapes[k])

    def _join(self) -> tuple[tuple[int, ...], ...]:
        """Tiles that are one product: of one output type, side by side in the input's slabs."""
        found: list[list[int]] = []
        for k, tile in enumerate(self.tiles):
            if found and tile.repeats == 1:
                last = self.tiles[found[-1][-1]]
                if (last.out, last.inn, last.repeats) == (tile.out, tile.inn - 1, 1):
                    found[-1].append(k)
                    continue
            found.append([k])
        return tuple(tuple(joined) for joined in found)

    # -- products --------------------------------------------------------------------------------------------

    def multiply(self, x: Tensor, weights: Sequence[Tensor]) -> Tensor:
        """x W^T for features (..., columns) in slabs and the matrices of all products; differentiable."""
        if not is_plain((x,)) or torch.is_autocast_enabled(x.device.type):
            return self._multiply_composed(x, weights)
        rows = x.reshape(-1, x.shape[-1])
        if torch.is_grad_enabled():
            out: Tensor = _Multiplied.apply(rows, self, *weights)  # type: ignore[no-untyped-call]
        else:
            out = self._product(rows, weights)
        return out.view(*x.shape[:-1], self.width)

    def _product(self, x: Tensor, weights: Sequence[Tensor]) -> Tensor:
        out = x.new_empty(len(x), self.width)
        return self._forward(out, [(x[:, columns], weights[k].mT) for k, _, columns in self.parts])

    def _find_parts(self) -> list[tuple[int, slice, slice]]:
        found = []
        for k, joined in enumerate(self._joined):
            first, last = self.tiles[joined[0]], self.tiles[joined[-1]]
            run_out, run_in = self.out.runs[first.out], self.inn.runs[first.inn]
            if first.repeats == 1:
                found.append((k, run_out, slice(run_in.start, self.inn.runs[last.inn].stop)))
                continue
            rows, columns = self.shapes[joined[0]]
            for r in range(first.repeats):
                out, inn = run_out.start + r * rows, run_in.start + r * columns
                found.append((k, slice(out, out + rows), slice(inn, inn + columns)))
        return found

    @property
    def width(self) -> int:
        """Features that come out."""
        return self.out.channels * self.projection.out.dim

    def _multiply_composed(self, x: Tensor, weights: Sequence[Tensor]) -> Tensor:
        products = [(rows, x[..., columns] @ weights[k].mT) for k, rows, columns in self.parts]
        return _placed(products, self.width, x)


def tiles_of(projection: BlockProjection, channels_out: int, channels_in: int) -> Tiles:
    """The tiles of a projection, made once for each pair of channels; outside of a compiled function."""
    key = (channels_out, channels_in)
    if key not in projection.known_tiles:
        projection.known_tiles[key] = Tiles(projection, channels_out, channels_in)
    return projection.known_tiles[key]  # type: ignore[no-any-return]


def _placed(products: list[tuple[slice, Tensor]], width: int, like: Tensor) -> Tensor:
    """The sum of all products, each in its columns of a tensor of this width."""
    out = like.new_zeros(*like.shape[:-1], width)
    for columns, product in products:
        out = out + torch.nn.functional.pad(product, (columns.start, width - columns.stop))
    return out


class _Take(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, coordinates: Tensor, tiles: Tiles) -> tuple[Tensor, ...]:
        ctx.tiles = tiles
        return tiles.take(coordinates)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return _Put.apply(ctx.tiles, *grads), None  # type: ignore[no-untyped-call]


class _Put(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tiles: Tiles, *parts: Tensor) -> Tensor:
        ctx.tiles = tiles
        return tiles.put(parts)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        return None, *_Take.apply(grads[0].contiguous(), ctx.tiles)  # type: ignore[no-untyped-call]


class _Multiplied(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, tiles: Tiles, *weights: Tensor) -> Tensor:
        ctx.tiles = tiles
        ctx.save_for_backward(x, *weights)
        return tiles._product(x, weights)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        x, *weights = ctx.saved_tensors
        tiles: Tiles = ctx.tiles
        (g,) = grads
        of_x = None
        if ctx.needs_input_grad[0]:
            if torch.is_grad_enabled():  # a second derivative may be asked for
                placed = [(columns, g[:, rows] @ weights[k]) for k, rows, columns in tiles.parts]
                of_x = _placed(placed, x.shape[1], x)
            else:
                products = [(g[:, rows], weights[k]) for k, rows, _ in tiles.parts]
                of_x = tiles._backward(torch.empty_like(x), products)
        of_weights: list[Tensor | None] = [None] * len(weights)
        for k, rows, columns in tiles.parts:
            if ctx.needs_input_grad[2 + k]:
                product, known = g[:, rows].mT @ x[:, columns], of_weights[k]
                of_weights[k] = product if known is None else known + product
        return of_x, None, *of_weights


class _Sums:
    """out[:, c] = the sum of left @ right over the products with these columns c; zero where is none.

    Columns of two products may be the same, apart, or overlap in part. What is written first and what is
    added is found once.
    """

    def __init__(self, columns: list[slice], width: int) -> None:
        self._steps: list[tuple[int, slice, bool]] = []  # product, columns, whether to add
        self._zeros: list[slice] = []
        written = 0  # everything before this column is
        for k in sorted(range(len(columns)), key=lambda k: columns[k].start):
            run = columns[k]
            fresh = run.start >= written
            end = run.start if fresh else max(written, run.stop)
            if end > written:
                self._zeros.append(slice(written, end))
            self._steps.append((k, run, not fresh))
            written = max(written, run.stop)
        if width > written:
            self._zeros.append(slice(written, width))

    def __call__(self, out: Tensor, products: list[tuple[Tensor, Tensor]]) -> Tensor:
        for run in self._zeros:
            out[:, run] = 0
        for k, run, add in self._steps:
            if add:
                out[:, run].addmm_(*products[k])
            else:
                torch.mm(*products[k], out=out[:, run])
        return out


def _place(coordinates: np.ndarray, device: torch.device) -> Place:
    """A slice where the coordinates are a run, otherwise their indices."""
    first = int(coordinates[0])
    if np.array_equal(coordinates, np.arange(first, first + len(coordinates))):
        return slice(first, first + len(coordinates))
    return torch.tensor(coordinates, device=device)
