"""Weights to coordinates and back, and projected, in the order they have in memory.

A weight (C_out * m, C_in * n) is cut along its outer channels into pieces that stay in a core's cache through
all steps: two changes of basis, the factors, and the two changes back.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from equikernels.ops import backends
from equikernels.ops.bases.basis import Basis
from equikernels.ops.bases.buffers import Step, analysis_steps, synthesis_steps
from equikernels.ops.extension import addressable, in_large_pages
from equikernels.ops.linear.projection import BlockProjection
from equikernels.ops.threads import one_thread_each, run_pieces
from equikernels.ops.tracing import has_hidden_batch, is_traced, is_transformed

PIECE_BYTES = 5 * 2**18
"""Of one piece of a weight: it stays in what a core has of the caches through all steps."""

DENSE_BYTES = 5 * 2**19
"""Of one piece where a basis is dense: with two buffers it fits what a core has of the last cache."""

PIECES = 8
"""At least so many pieces where there are as many channels: threads get equal shares."""

SMALL = 2**16
"""Entries of a weight up to which threads are not worth their start."""


def project_weight(w: Tensor, projection: BlockProjection) -> Tensor:
    """P(w) for w (C_out * m, C_in * n); differentiable in w, P is its own adjoint.

    Half precisions are computed in float32, here and in the functions below, which raise the same errors: a
    TypeError for what is no floating tensor, a ValueError for a shape that is not made of blocks.
    """
    _check(w, projection.out.dim, projection.inn.dim)
    if not _plain(w) or not (projection.is_constant or not torch.is_grad_enabled()):
        coordinates = _analyse_composed(_working(w), projection.out.basis, projection.inn.basis)
        scaled = scale_weight(coordinates, projection)
        return _synthesise_composed(scaled, projection.out.basis, projection.inn.basis).to(w.dtype)
    return _Projected.apply(w, projection)  # type: ignore[no-any-return, no-untyped-call]


def scale_weight(w: Tensor, projection: BlockProjection) -> Tensor:
    """F o w for a weight (C_out * m, C_in * n) in coordinates; differentiable."""
    m, n = projection.out.dim, projection.inn.dim
    blocks = w.reshape(w.shape[0] // m, m, w.shape[1] // n, n).transpose(1, 2)
    return projection.scale(blocks).transpose(1, 2).reshape(w.shape)


def analyse_weight(w: Tensor, out: Basis, inn: Basis) -> Tensor:
    """U_out^T w U_in, block by block, for w (C_out * m, C_in * n); differentiable."""
    _check(w, out.dim, inn.dim)
    if not _plain(w):
        return _analyse_composed(_working(w), out, inn).to(w.dtype)
    return _Changed.apply(w, out, inn, False)  # type: ignore[no-any-return, no-untyped-call]


def synthesise_weight(w: Tensor, out: Basis, inn: Basis) -> Tensor:
    """U_out w U_in^T, block by block, for w (C_out * m, C_in * n); differentiable."""
    _check(w, out.dim, inn.dim)
    if not _plain(w):
        return _synthesise_composed(_working(w), out, inn).to(w.dtype)
    return _Changed.apply(w, out, inn, True)  # type: ignore[no-any-return, no-untyped-call]


def _check(w: Tensor, m: int, n: int) -> None:
    if not isinstance(w, Tensor) or not w.is_floating_point():
        raise TypeError(f"w: expected a floating tensor, got {w.dtype if isinstance(w, Tensor) else type(w)}")
    if w.dim() != 2 or w.shape[0] % m or w.shape[1] % n:
        raise ValueError(f"w: expected (C_out * {m}, C_in * {n}), got {tuple(w.shape)}")


def _plain(w: Tensor) -> bool:
    """Whether the kernels can have the weight as it is."""
    if is_traced(w) or is_transformed() or has_hidden_batch(w):
        return False
    return backends.choose("orbit_transform", w.device.type) == "cpp"


def _working(w: Tensor) -> Tensor:
    """The values in the dtype that is computed in."""
    return w if w.dtype in (torch.float32, torch.float64) else w.float()


class _Changed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, w: Tensor, out: Basis, inn: Basis, inverse: bool) -> Tensor:
        ctx.bases = out, inn
        ctx.inverse = inverse
        steps = (synthesis_steps if inverse else analysis_steps)(out, inn)
        return _by_pieces(w, out.dim, inn.dim, steps, None, [])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        back = analyse_weight if ctx.inverse else synthesise_weight
        return back(grads[0], *ctx.bases), None, None, None


class _Projected(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, w: Tensor, projection: BlockProjection) -> Tensor:
        ctx.projection = projection
        out, inn = projection.out.basis, projection.inn.basis
        first, last = analysis_steps(out, inn), synthesis_steps(out, inn)
        return _by_pieces(w, out.dim, inn.dim, first, projection, last)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return project_weight(grads[0], ctx.projection), None


def _by_pieces(
    w: Tensor, m: int, n: int, first: list[Step], projection: BlockProjection | None, last: list[Step]
) -> Tensor:
    """All steps of `first`, the factors, all steps of `last`, piece by piece."""
    w = addressable(w.detach()).contiguous()
    computed = _working(w)
    out = in_large_pages(torch.empty_like(computed))
    steps: list[Step | _Factors] = [*first, *([_Factors(projection)] if projection else []), *last]
    if not steps:
        out.copy_(computed)
    elif w.numel():
        _run_steps(steps, computed.view(-1, m, w.shape[1]), out.view(-1, m, w.shape[1]), n)
    return out.to(w.dtype)


@dataclass(frozen=True)
class _Factors:
    """The factors as a step between changes of basis."""

    projection: BlockProjection
    is_dense = False

    def __call__(self, x: Tensor, to: Tensor) -> None:
        _scale(self.projection, x, to)


def _run_steps(steps: list[Step | _Factors], x: Tensor, out: Tensor, n: int) -> None:
    """All steps from x into `out`, both (outer, m, channels * n), piece by piece."""
    dense = any(step.is_dense for step in steps)
    outer, channels = _piece(x, n, dense)
    starts = [(o, c) for o in range(0, len(x), outer) for c in range(0, x.shape[2], channels * n)]
    # The first step reads x, the last one writes `out`; between them only dense ones need two buffers.
    count = 2 if dense else 1

    def make_buffers() -> list[Tensor]:
        size = outer * x.shape[1] * channels * n if len(steps) > 1 else 0
        return [x.new_empty(size) for _ in range(count)]

    def work(piece: int, buffers: list[Tensor]) -> None:
        o, c = starts[piece]
        source, result = (t[o : o + outer, :, c : c + channels * n] for t in (x, out))
        places = [buffer[: source.numel()].view(source.shape) for buffer in buffers] if len(steps) > 1 else []
        for k, step in enumerate(steps):
            target = places[k % count] if k < len(steps) - 1 else result
            step(source, target)
            source = target

    if len(starts) == 1 or x.numel() <= SMALL:
        # A single large piece is left to the library's own threads, which alone may round differently.
        alone = one_thread_each() if dense and x.numel() <= SMALL else nullcontext()
        with alone, torch.no_grad():
            buffers = make_buffers()
            for piece in range(len(starts)):
                work(piece, buffers)
    else:
        run_pieces(len(starts), work, make_buffers)


def _piece(x: Tensor, n: int, dense: bool) -> tuple[int, int]:
    """Outer and inner channels of one piece; they depend on sizes alone, never on the number of threads."""
    block = x.shape[1] * n * x.element_size()
    channels = x.shape[2] // n
    share = min(DENSE_BYTES if dense else PIECE_BYTES, x.nbytes // PIECES)
    # Dense products want long rows. Otherwise several outer channels make the panels of the right side
    # longer, so that less of their last one is empty.
    inner = channels if dense else max(1, min(channels, share // (2 * block)))
    return max(1, min(len(x), share // (block * inner))), inner


def _scale(projection: BlockProjection, x: Tensor, out: Tensor) -> None:
    m, n = projection.out.dim, projection.inn.dim
    blocks, results = (t.view(len(t), m, -1, n).transpose(1, 2) for t in (x, out))
    if projection.scale_into is not None:
        projection.scale_into(blocks, results)
    else:
        results.copy_(projection.scale(blocks))


def _analyse_composed(w: Tensor, out: Basis, inn: Basis) -> Tensor:
    return _on_rows(_on_columns(w, inn, inn.analyse), out, out.analyse)


def _synthesise_composed(w: Tensor, out: Basis, inn: Basis) -> Tensor:
    return _on_columns(_on_rows(w, out, out.synthesise), inn, inn.synthesise)


def _on_columns(w: Tensor, basis: Basis, change: Callable[[Tensor], Tensor]) -> Tensor:
    return change(w.reshape(w.shape[0], w.shape[1] // basis.dim, basis.dim)).reshape(w.shape)


def _on_rows(w: Tensor, basis: Basis, change: Callable[[Tensor], Tensor]) -> Tensor:
    rows = w.reshape(w.shape[0] // basis.dim, basis.dim, w.shape[1]).transpose(1, 2)
    return change(rows).transpose(1, 2).reshape(w.shape)
