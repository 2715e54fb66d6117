"""Weighted averages over a finite group that permutes the rows and columns of blocks."""

from __future__ import annotations

import torch
from torch import Tensor

from equikernels.ops import backends, tracing
from equikernels.ops.arguments import DTYPES, compute_dtype
from equikernels.ops.averaging.autograd import average, correlate
from equikernels.ops.averaging.maps import IndexMaps
from equikernels.ops.averaging.reference import average_reference, correlate_reference
from equikernels.ops.registration import register_kernels

__all__ = ["IndexMaps", "group_average", "group_correlate"]

for _operation in ("group_average", "group_correlate"):
    register_kernels(_operation)

Maps = IndexMaps | tuple[Tensor, Tensor]


def group_average(w: Tensor, maps: Maps, weights: Tensor, *, backend: str | None = None) -> Tensor:
    """The sum over g of weights[g] rho_out(g) w rho_in(g)^-1 for every block, in one pass.

    The group permutes rows and columns, (rho(g) x)[i] = x[sources[g, i]], so the result at (x, y) is the sum
    of weights[g] * w[..., sources_out[g, x], sources_in[g, y]]. With weights 1 / order it is the projection
    onto the maps that commute with the group.

    Args:
        w: blocks (..., m, n), float32, float64, bfloat16 or float16, with any strides.
        maps: `IndexMaps`, or the pair (sources_out, sources_in) of int64 tensors (order, m) and (order, n),
            which is checked in every call.
        weights: (order,), of any floating dtype, on the device of w.
        backend: implementation to use, see :mod:`equikernels.ops.backends`.

    Returns:
        A tensor of the shape and dtype of w; a dense w keeps its layout. Sums are taken in float64 for
        float64 blocks and in float32 for all others, and rounded once. Results do not depend on the number
        of threads.

    Gradients go to w and weights, to any order and in forward mode. A kernel leaves out elements of weight
    zero, so what those would make of entries that are not finite is not defined. Inside a compiled function
    or a transform `maps` must be prepared `IndexMaps`; inside torch.compile forward mode raises
    NotImplementedError and torch.func.grad raises. In a forked child process set one thread before calling
    (``torch.set_num_threads(1)``).

    Raises:
        TypeError: something else than tensors of these dtypes.
        ValueError: shapes that do not fit, devices that differ, maps that are no group, or a backend that
            cannot run here.

    >>> swap = torch.tensor([[0, 1], [1, 0]])
    >>> group_average(torch.tensor([[1.0, 2.0], [5.0, 4.0]]), (swap, swap), torch.tensor([0.5, 0.5])).tolist()
    [[2.5, 3.5], [3.5, 2.5]]
    """
    _check_blocks("w", w)
    maps = _prepared(maps)
    _check_shape("w", w, maps)
    _check_weights(weights, w, maps)
    chosen = backends.choose("group_average", w.device.type, backend)
    weights = weights.to(compute_dtype(w.dtype))
    prepared = maps.on(w.device)
    if chosen == "reference":
        return average_reference(w, weights, prepared[0][0], prepared[1][0])
    return average(w.unsqueeze(0), weights.unsqueeze(0), *prepared, chosen).squeeze(0)


def group_correlate(g: Tensor, w: Tensor, maps: Maps, *, backend: str | None = None) -> Tensor:
    """The inner products <g, rho_out(a) w rho_in(a)^-1> for every element a.

    They are the gradient of <g, group_average(w, maps, weights)> with respect to the weights.

    Args:
        g, w: blocks (..., m, n) of one shape, dtype and device, as in `group_average`.
        maps: as in `group_average`.
        backend: implementation to use, see :mod:`equikernels.ops.backends`.

    Returns:
        (order,), float64 for float64 blocks and float32 for all others, summed in float64 over all blocks
        in an order that depends on shapes and strides only.

    Gradients, transforms and errors are those of `group_average`.

    >>> swap = torch.tensor([[0, 1], [1, 0]])
    >>> w = torch.tensor([[1.0, 2.0], [5.0, 4.0]])
    >>> group_correlate(w, w, (swap, swap)).tolist()
    [46.0, 28.0]
    """
    _check_blocks("g", g)
    _check_blocks("w", w)
    maps = _prepared(maps)
    _check_shape("w", w, maps)
    if g.shape != w.shape or g.dtype != w.dtype or g.device != w.device:
        raise ValueError(
            f"g: expected shape {tuple(w.shape)}, {w.dtype} and {w.device}, as w, "
            f"got {tuple(g.shape)}, {g.dtype} and {g.device}"
        )
    chosen = backends.choose("group_correlate", w.device.type, backend)
    prepared = maps.on(w.device)
    if chosen == "reference":
        return correlate_reference(g, w, prepared[0][0], prepared[1][0])
    return correlate(g.unsqueeze(0), w.unsqueeze(0), *prepared, chosen).squeeze(0)


def _check_blocks(name: str, w: Tensor) -> None:
    if not isinstance(w, Tensor):
        raise TypeError(f"{name}: expected a tensor, got {type(w).__name__}")
    if w.dtype not in DTYPES:
        raise TypeError(f"{name}: expected float32, float64, bfloat16 or float16, got {w.dtype}")
    if w.layout != torch.strided:
        raise TypeError(f"{name}: expected a dense tensor, got {w.layout}")


def _prepared(maps: Maps) -> IndexMaps:
    if isinstance(maps, IndexMaps):
        return maps
    if not isinstance(maps, tuple) or len(maps) != 2:
        raise TypeError(f"maps: expected IndexMaps or a pair of tensors, got {type(maps).__name__}")
    given = [x for x in maps if isinstance(x, Tensor)]
    if tracing.is_traced(*given) or tracing.is_transformed():
        raise ValueError(
            "maps: expected IndexMaps, prepared before, inside a compiled or exported function or a "
            "transform, where a pair of tensors cannot be checked"
        )
    return IndexMaps(*maps)


def _check_shape(name: str, w: Tensor, maps: IndexMaps) -> None:
    m, n = maps.shape
    if w.dim() < 2 or w.shape[-2] != m or w.shape[-1] != n:
        raise ValueError(f"{name}: expected blocks (..., {m}, {n}), got {tuple(w.shape)}")


def _check_weights(weights: Tensor, w: Tensor, maps: IndexMaps) -> None:
    if not isinstance(weights, Tensor):
        raise TypeError(f"weights: expected a tensor, got {type(weights).__name__}")
    if not weights.dtype.is_floating_point:
        raise TypeError(f"weights: expected a floating dtype, got {weights.dtype}")
    if weights.device != w.device:
        raise ValueError(f"weights: expected on {w.device}, where w is, got {weights.device}")
    if weights.shape != (maps.order,):
        raise ValueError(f"weights: expected shape ({maps.order},), got {tuple(weights.shape)}")
