"""Derivatives, transforms and compilation, the same for every kernel backend.

    project(w)             the response of the distances between eigenvalues, for given numbers
    scale(w, same, opp)    the same with factors from tables
    inner(g, w)            <Q(g), Q(w)> and <g - Q(g), w - Q(w)> of every pair of blocks, over all matrices

All three are linear in each tensor, project and scale are their own adjoints in w, and inner is the adjoint
of scale in its tables: together they are closed under differentiation. For torch.vmap scale and inner know
groups of weights with tables of their own, in the first dimension; places and modes, (1, ...), are the same
for all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

from equikernels.ops.arguments import compute_dtype
from equikernels.ops.differentiable import Gradients, differentiable, launcher, total


class Launchers(Protocol):
    """What a kernel backend offers, on plain tensors of its device, of any strides.

    `places` are (m, 3) and `modes` (m, 2), see :mod:`equikernels.ops.schur.blocks`. Weights are (outer,
    inner, m, n), of scale and inner (G, outer, inner, m, n) with tables (G, p, q) in the compute dtype.
    """

    def project(
        self,
        w: Tensor,
        places_out: Tensor,
        places_in: Tensor,
        modes_out: Tensor,
        modes_in: Tensor,
        cutoff: float,
        width: float,
        at_cutoff: float,
        tolerance: float,
        /,
    ) -> Tensor: ...
    def scale(
        self, w: Tensor, same: Tensor, opposite: Tensor, places_out: Tensor, places_in: Tensor, /
    ) -> Tensor: ...
    def inner(
        self,
        grad: Tensor,
        w: Tensor,
        places_out: Tensor,
        places_in: Tensor,
        blocks_out: int,
        blocks_in: int,
        /,
    ) -> tuple[Tensor, Tensor]: ...


def _kernels(backend: str) -> Launchers:
    kernels: Launchers = launcher("schur", backend)
    return kernels


def _launch_project(
    w: Tensor, places_out: Tensor, places_in: Tensor, modes_out: Tensor, modes_in: Tensor, *options: Any
) -> Tensor:
    if w.numel() == 0:
        return torch.empty_like(w)
    *numbers, backend = options
    constants = (places_out[0], places_in[0], modes_out[0], modes_in[0])
    return _kernels(backend).project(w, *constants, *numbers)


def _project_vjp(saved: Any, *rest: Any) -> Gradients:
    *options, needs, grad = rest
    if grad is None or not needs[0]:
        return (None,) * 5
    return project(grad, *saved, *options), None, None, None, None


def _project_jvp(tensors: Any, *rest: Any) -> Tensor | None:
    *options, w_dot, _, _, _, _ = rest
    return None if w_dot is None else project(w_dot, *tensors[1:], *options)


project: Callable[..., Tensor] = differentiable(
    "schur_project",
    "(Tensor w, Tensor places_out, Tensor places_in, Tensor modes_out, Tensor modes_in, float cutoff,"
    " float width, float at_cutoff, float tolerance, str backend) -> Tensor",
    operation="schur_project",
    tensors=5,
    launch=_launch_project,
    fake=lambda w, *_: torch.empty_like(w),
    save=lambda needs, w, *constants: constants,
    vjp=_project_vjp,
    jvp=_project_jvp,
)


def _launch_scale(
    w: Tensor, same: Tensor, opposite: Tensor, places_out: Tensor, places_in: Tensor, backend: str
) -> Tensor:
    if w.numel() == 0:
        return torch.empty_like(w)
    return _kernels(backend).scale(w, same, opposite, places_out[0], places_in[0])


def _save_scale(needs: Any, w: Tensor, same: Tensor, opposite: Tensor, *places: Tensor) -> Gradients:
    return (w if needs[1] or needs[2] else None, same, opposite, *places)


def _scale_vjp(saved: Any, backend: str, needs: Any, grad: Tensor | None) -> Gradients:
    w, same, opposite, *places = saved
    if grad is None:
        return (None,) * 5
    of_w = scale(grad, same, opposite, *places, backend) if needs[0] else None
    of_same = of_opposite = None
    if needs[1] or needs[2]:
        of_same, of_opposite = inner(grad, w, *places, *same.shape[1:], backend)
    return of_w, of_same, of_opposite, None, None


def _scale_jvp(
    tensors: Any,
    backend: str,
    w_dot: Tensor | None,
    same_dot: Tensor | None,
    opposite_dot: Tensor | None,
    *_: None,
) -> Tensor | None:
    w, same, opposite, *places = tensors
    along_w = None if w_dot is None else scale(w_dot, same, opposite, *places, backend)
    return total(along_w, _scaled(w, same_dot, opposite_dot, *places, backend))


def _scaled(w: Tensor, same: Tensor | None, opposite: Tensor | None, *rest: Any) -> Tensor | None:
    """scale(w, same, opposite), where a table of zeros may be None."""
    present = same if same is not None else opposite
    if present is None:
        return None
    zeros = torch.zeros_like(present)
    return scale(w, zeros if same is None else same, zeros if opposite is None else opposite, *rest)


scale: Callable[..., Tensor] = differentiable(
    "schur_scale",
    "(Tensor w, Tensor same, Tensor opposite, Tensor places_out, Tensor places_in, str backend) -> Tensor",
    operation="schur_scale",
    tensors=5,
    launch=_launch_scale,
    fake=lambda w, *_: torch.empty_like(w),
    save=_save_scale,
    vjp=_scale_vjp,
    jvp=_scale_jvp,
)


def _launch_inner(
    grad: Tensor,
    w: Tensor,
    places_out: Tensor,
    places_in: Tensor,
    blocks_out: int,
    blocks_in: int,
    backend: str,
) -> tuple[Tensor, Tensor]:
    if w.numel() == 0:
        return _tables(w, blocks_out, blocks_in, torch.zeros)
    return _kernels(backend).inner(grad, w, places_out[0], places_in[0], blocks_out, blocks_in)


def _tables(w: Tensor, p: int, q: int, make: Callable[..., Tensor]) -> tuple[Tensor, Tensor]:
    shape, dtype = (w.shape[0], p, q), compute_dtype(w.dtype)
    return make(shape, dtype=dtype, device=w.device), make(shape, dtype=dtype, device=w.device)


def _inner_vjp(
    saved: Any,
    blocks_out: int,
    blocks_in: int,
    backend: str,
    needs: Any,
    same: Tensor | None,
    opposite: Tensor | None,
) -> Gradients:
    grad, w, *places = saved
    of_grad = _scaled(w, same, opposite, *places, backend) if needs[0] else None
    of_w = _scaled(grad, same, opposite, *places, backend) if needs[1] else None
    return of_grad, of_w, None, None


def _inner_jvp(
    tensors: Any,
    blocks_out: int,
    blocks_in: int,
    backend: str,
    grad_dot: Tensor | None,
    w_dot: Tensor | None,
    *_: None,
) -> Any:
    grad, w, *places = tensors
    rest = (*places, blocks_out, blocks_in, backend)
    one = (None, None) if grad_dot is None else inner(grad_dot, w, *rest)
    other = (None, None) if w_dot is None else inner(grad, w_dot, *rest)
    return total(one[0], other[0]), total(one[1], other[1])


inner: Callable[..., tuple[Tensor, Tensor]] = differentiable(
    "schur_inner",
    "(Tensor grad, Tensor w, Tensor places_out, Tensor places_in, SymInt blocks_out, SymInt blocks_in,"
    " str backend) -> (Tensor, Tensor)",
    operation="schur_scale",
    tensors=4,
    launch=_launch_inner,
    fake=lambda grad, w, places_out, places_in, p, q, backend: _tables(w, p, q, torch.empty),
    save=lambda needs, grad, w, *places: (
        grad if needs[1] else None,
        w if needs[0] else None,
        *places,
    ),
    vjp=_inner_vjp,
    jvp=_inner_jvp,
)
