"""The response of a constraint's singular values on weights in two real Schur bases."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from equikernels.ops import backends
from equikernels.ops.arguments import DTYPES, compute_dtype, is_number
from equikernels.ops.differentiable import launcher
from equikernels.ops.registration import register_kernels
from equikernels.ops.schur.autograd import project, scale
from equikernels.ops.schur.blocks import BlockLayout, SchurBlocks, as_blocks, as_layout, schur_blocks
from equikernels.ops.schur.reference import (
    distances,
    hard_response,
    scale_reference,
    smooth_response,
)
from equikernels.ops.tracing import has_hidden_batch, is_traced, is_transformed

__all__ = ["SchurBlocks", "schur_blocks", "schur_project", "schur_scale"]

TOLERANCE = 1e-9
"""Of the largest modulus among the eigenvalues: a distance this close to a hard cut-off counts as on it."""

for _operation in ("schur_project", "schur_scale"):
    register_kernels(_operation)


def schur_project(
    w: Tensor,
    eigenvalues_out: SchurBlocks | Any,
    eigenvalues_in: SchurBlocks | Any,
    cutoff: Tensor | float,
    width: Tensor | float | None = None,
    *,
    at_cutoff: float = 0.0,
    tolerance: float | None = None,
    backend: str | None = None,
) -> Tensor:
    """Project weights between two normal operators by the singular values of W A - B W.

    A (n x n) and B (m x m) are in real Schur form, with blocks [a] and [[a, -b], [b, a]], see
    :func:`schur_blocks`, and `w` is given in these bases. The singular values of the constraint
    W -> W A - B W are the distances between the eigenvalues mu of B and nu of A, and a response f of them
    acts on every pair of blocks alone:

        M -> f(|mu - nu|) Q(M) + f(|mu - conj(nu)|) (M - Q(M))     two pairs, M (2 x 2)
        M -> f(|mu - nu|) M                                        all others

    where mu and nu belong to the first coordinates, and Q(M) = [[p, q], [-q, p]], p = (m11 + m22) / 2,
    q = (m12 - m21) / 2, is the part that commutes with rotations. The map is its own adjoint.

    Args:
        w: (..., m, n), float32, float64, bfloat16 or float16, any leading dimensions and strides.
        eigenvalues_out: of B: SchurBlocks, or what :func:`schur_blocks` makes them from, m of them. Make them
            once where you can; inside torch.compile and torch.export that is the only way.
        eigenvalues_in: of A, n of them.
        cutoff: a number >= 0, or a tensor without dimensions on the device of `w`. A hard cut-off of 0
            removes everything but what `at_cutoff` keeps, infinity nothing.
        width: None, a hard cut-off: f = 1 for sigma < cutoff - tolerance, `at_cutoff` for |sigma - cutoff| <=
            tolerance, 0 above. Or a number or tensor > 0, a smooth one: f = 1 for sigma <= cutoff,
            exp(-(sigma - cutoff) / width) above.
        at_cutoff: factor in [0, 1] of what lies on a hard cut-off.
        tolerance: distance from a hard cut-off that counts as none, >= 0; by default 1e-9 times the largest
            modulus among the eigenvalues. Comparisons are made in float64. With a tolerance of zero, rounding
            decides about what lies on the cut-off.
        backend: implementation to use, see :mod:`equikernels.ops.backends`.

    Returns:
        A tensor of the shape and dtype of `w`. A dense `w` of up to two leading dimensions keeps its layout:
        a view (C_out, C_in, m, n) of a weight (C_out m, C_in n) is neither copied nor changed in order.

    Factors are computed in float64, products in float32, for float64 data in float64. A result is made of the
    entries of one block of `w` times factors. Where both factors of a block are the same number its entries
    do not mix; where a factor is zero, an infinite entry gives NaN. Gradients go to `w` and, through a smooth
    response, to tensors `cutoff` and `width`, to any order and in forward mode; their values are checked only
    on the CPU and outside of transforms and compiled functions. Results do not depend on the number of
    threads. Inside torch.compile forward mode raises NotImplementedError, and torch.func.grad raises. In a
    forked child process set one thread before calling (``torch.set_num_threads(1)``).

    Raises:
        TypeError: an argument is of a wrong type or dtype.
        ValueError: a wrong shape, devices that differ, eigenvalues that `schur_blocks` refuses, a number out
            of range, NaN, `at_cutoff` or `tolerance` beside a width, a hard cut-off that requires a gradient
            (it is zero almost everywhere), or a backend that cannot run here.

    >>> eigenvalues = torch.tensor([1j, -1j, 0])  # of [[0, -1, 0], [1, 0, 0], [0, 0, 0]]
    >>> w = torch.arange(1.0, 10.0).view(3, 3)
    >>> schur_project(w, eigenvalues, eigenvalues, 0.5).tolist()
    [[3.0, -1.0, 0.0], [1.0, 3.0, 0.0], [0.0, 0.0, 9.0]]
    >>> schur_project(w, eigenvalues, eigenvalues, 1.5).tolist()
    [[3.0, -1.0, 3.0], [1.0, 3.0, 6.0], [7.0, 8.0, 9.0]]
    """
    _check_weights(w)
    out, inn = as_blocks("eigenvalues_out", eigenvalues_out), as_blocks("eigenvalues_in", eigenvalues_in)
    _check_sides(w, "eigenvalues_out", out.layout, "eigenvalues_in", inn.layout)
    _check_response(w, cutoff, width, at_cutoff, tolerance)
    chosen = backends.choose("schur_project", w.device.type, backend)
    near = TOLERANCE * max(out.largest, inn.largest) if tolerance is None else float(tolerance)
    modes = out.modes_on(w.device), inn.modes_on(w.device)
    places = out.layout.places_on(w.device), inn.layout.places_on(w.device)
    if chosen == "reference" or isinstance(cutoff, Tensor) or isinstance(width, Tensor):
        starts = (x[0, : len(blocks.sizes), 2] for x, blocks in zip(places, (out, inn), strict=True))
        sigma = distances(*(x[0, start] for x, start in zip(modes, starts, strict=True)))
        if width is None:
            tables = [hard_response(x, _float64(cutoff), float(at_cutoff), near) for x in sigma]
        else:
            tables = [smooth_response(x, _float64(cutoff), _float64(width)) for x in sigma]
        same, opposite = (x.to(compute_dtype(w.dtype)) for x in tables)
        return _scale(w, same, opposite, *places, chosen)
    numbers = (float(cutoff), 0.0 if width is None else float(width), float(at_cutoff), near)
    return project(_two_leading(w), *places, *modes, *numbers, chosen).view(w.shape)


def schur_scale(
    w: Tensor,
    same: Tensor,
    opposite: Tensor,
    blocks_out: SchurBlocks | Any,
    blocks_in: SchurBlocks | Any,
    *,
    backend: str | None = None,
) -> Tensor:
    """Scale every pair of Schur blocks of weights by factors given in tables.

        M -> same Q(M) + opposite (M - Q(M))     two pairs, M (2 x 2)
        M -> same M                              all others

    Args:
        w: (..., m, n), float32, float64, bfloat16 or float16, any leading dimensions and strides.
        same: (p, q), a factor for each of p blocks of rows and q blocks of columns, any numbers, of any
            floating dtype, on the device of `w`; converted to float32, for float64 data to float64.
        opposite: the same; what it says of pairs of blocks that are not both of size 2 is ignored.
        blocks_out: SchurBlocks, or a sequence of p sizes, 1 or 2, that add up to m: then the two coordinates
            of a pair are neighbours.
        blocks_in: SchurBlocks, or a sequence of q sizes that add up to n.
        backend: implementation to use, see :mod:`equikernels.ops.backends`.

    Returns:
        A tensor of the shape and dtype of `w`, laid out as `schur_project` says.

    Gradients go to `w`, `same` and `opposite`, to any order and in forward mode; those of the tables are
    summed in float64 in a fixed order. Values that are not finite, threads, torch.compile and forked
    processes are as for `schur_project`.

    Raises:
        TypeError: an argument is of a wrong type or dtype.
        ValueError: a wrong shape, devices that differ, sizes other than 1 and 2, or a backend that cannot run
            here.

    >>> w = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    >>> schur_scale(w, torch.tensor([[1.0, 10.0]]), torch.tensor([[0.0, 7.0]]), (2,), (2, 1)).tolist()
    [[3.0, -1.0, 30.0], [1.0, 3.0, 60.0]]
    """
    _check_weights(w)
    out, inn = as_layout("blocks_out", blocks_out), as_layout("blocks_in", blocks_in)
    _check_sides(w, "blocks_out", out, "blocks_in", inn)
    for name, table in (("same", same), ("opposite", opposite)):
        _check_table(w, name, table, (len(out.sizes), len(inn.sizes)))
    chosen = backends.choose("schur_scale", w.device.type, backend)
    places = out.places_on(w.device), inn.places_on(w.device)
    dtype = compute_dtype(w.dtype)
    return _scale(w, same.to(dtype), opposite.to(dtype), *places, chosen)


def schur_scale_into(
    w: Tensor,
    same: Tensor,
    opposite: Tensor,
    blocks_out: SchurBlocks,
    blocks_in: SchurBlocks,
    out: Tensor,
) -> None:
    """`schur_scale` of plain CPU tensors by the C++ kernel, unrecorded, into `out`, which may be `w`.

    Args:
        w, out: (outer, inner, m, n) of one dtype, any strides.
        same, opposite: tables in the compute dtype.
    """
    places = blocks_out.layout.places[0], blocks_in.layout.places[0]
    launcher("schur", "cpp").scale(w[None], same[None], opposite[None], *places, out=out[None])


def _scale(
    w: Tensor, same: Tensor, opposite: Tensor, places_out: Tensor, places_in: Tensor, chosen: str
) -> Tensor:
    if chosen == "reference":
        return scale_reference(w, same, opposite, places_out[0], places_in[0])
    groups = scale(_two_leading(w)[None], same[None], opposite[None], places_out, places_in, chosen)
    return groups.view(w.shape)


def _float64(x: Tensor | float) -> Tensor | float:
    return x.double() if isinstance(x, Tensor) else float(x)


def _two_leading(w: Tensor) -> Tensor:
    """`w` as (outer, inner, m, n): a view, but for three or more leading dimensions that cannot be one."""
    if w.dim() < 4:
        return w[(None,) * (4 - w.dim())]
    return w.flatten(0, -4)


def _check_weights(w: Tensor) -> None:
    if not isinstance(w, Tensor):
        raise TypeError(f"w: expected a tensor, got {type(w).__name__}")
    if w.dtype not in DTYPES:
        raise TypeError(f"w: expected float32, float64, bfloat16 or float16, got {w.dtype}")
    if w.layout != torch.strided:
        raise TypeError(f"w: expected a dense tensor, got {w.layout}")
    if w.dim() < 2:
        raise ValueError(f"w: expected at least 2 dimensions (..., m, n), got {w.dim()}: {tuple(w.shape)}")


def _check_sides(w: Tensor, name_out: str, out: BlockLayout, name_in: str, inn: BlockLayout) -> None:
    for name, layout, size, what in (
        (name_out, out, w.shape[-2], "rows"),
        (name_in, inn, w.shape[-1], "columns"),
    ):
        if layout.size != size:
            raise ValueError(f"{name}: expected {size} coordinates, the {what} of w, got {layout.size}")


def _check_table(w: Tensor, name: str, table: Tensor, shape: tuple[int, int]) -> None:
    if not isinstance(table, Tensor):
        raise TypeError(f"{name}: expected a tensor, got {type(table).__name__}")
    if not table.dtype.is_floating_point:
        raise TypeError(f"{name}: expected a floating dtype, got {table.dtype}")
    if table.device != w.device:
        raise ValueError(f"{name}: expected on the device of w, {w.device}, got {table.device}")
    if tuple(table.shape) != shape:
        raise ValueError(
            f"{name}: expected shape {shape}, one factor per pair of blocks, got {tuple(table.shape)}"
        )


def _check_response(
    w: Tensor, cutoff: Tensor | float, width: Tensor | float | None, at_cutoff: float, tolerance: float | None
) -> None:
    _check_number(w, "cutoff", cutoff, "a number >= 0", lambda x: x >= 0)
    if width is not None:
        _check_number(w, "width", width, "None or a number > 0", lambda x: x > 0)
        if at_cutoff != 0.0 or tolerance is not None:
            name = "tolerance" if tolerance is not None else "at_cutoff"
            raise ValueError(f"{name}: expected to be left alone beside a width, got {name}={locals()[name]}")
        return
    if isinstance(cutoff, Tensor) and cutoff.requires_grad:
        raise ValueError(
            "cutoff: a hard cut-off has no gradient, it is zero almost everywhere; give a width, or detach it"
        )
    _check_number(None, "at_cutoff", at_cutoff, "a number in [0, 1]", lambda x: 0 <= x <= 1)
    if tolerance is not None:
        _check_number(None, "tolerance", tolerance, "a finite number >= 0", lambda x: 0 <= x < math.inf)


def _check_number(w: Tensor | None, name: str, value: Any, expected: str, fits: Any) -> None:
    """A number, or (where `w` is given) a tensor without dimensions on its device."""
    if w is not None and isinstance(value, Tensor):
        if not value.dtype.is_floating_point:
            raise TypeError(f"{name}: expected a floating dtype, got {value.dtype}")
        if value.dim() != 0:
            raise ValueError(f"{name}: expected a tensor without dimensions, got shape {tuple(value.shape)}")
        if value.device != w.device:
            raise ValueError(f"{name}: expected on the device of w, {w.device}, got {value.device}")
        hidden = is_traced(value) or is_transformed() or has_hidden_batch(value)
        if hidden or value.device.type != "cpu":
            return
        value = value.item()
    elif not is_number(value):
        kinds = "a number or a tensor" if w is not None else "a number"
        raise TypeError(f"{name}: expected {kinds}, got {type(value).__name__}")
    if not fits(value):
        raise ValueError(f"{name}: expected {expected}, got {value}")
