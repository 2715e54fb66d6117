"""Derivatives, transforms and compilation of sampling, the same for every kernel backend.

Let F(z, M, D) be the derivative of the samples z~(M [p; 1]) with respect to M along the matrices
D = (V_1, ..., V_k), at every place p: linear in z and in every V, the samples themselves for k = 0. Four
functions are closed under differentiation:

    apply(z, M, D)             F(z, M, D)
    adjoint(g, M, D)           F^T g, the transpose of F as a map of z
    matrix_grad(g, z, M, D)    the gradient of <g, F(z, M, D)> with respect to M; along V it is
                               <g, F(z, M, D + V)>, so one matrix per sample
    backward(g, z, M, D)       the last two at once

so derivatives of every order, forward and reverse, are these functions again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor

from equikernels.ops.arguments import compute_dtype
from equikernels.ops.differentiable import Gradients, differentiable, launcher, total


class Launchers(Protocol):
    """What a kernel backend offers: the four functions on plain tensors of its device."""

    def apply(self, z: Tensor, matrix: Tensor, directions: Tensor, mode: str, padding: str, /) -> Tensor: ...
    def adjoint(
        self, grad: Tensor, matrix: Tensor, directions: Tensor, mode: str, padding: str, /
    ) -> Tensor: ...
    def matrix_grad(
        self, grad: Tensor, z: Tensor, matrix: Tensor, directions: Tensor, mode: str, padding: str, /
    ) -> Tensor: ...
    def backward(
        self, grad: Tensor, z: Tensor, matrix: Tensor, directions: Tensor, mode: str, padding: str, /
    ) -> tuple[Tensor, Tensor]: ...


def sample(z: Tensor, matrix: Tensor, mode: str, padding: str, backend: str) -> Tensor:
    """The samples of z (N, C, *sizes) at M [p; 1], with derivatives; `matrix` in the compute dtype."""
    # Not from `matrix`: under torch.vmap these would become one empty tensor per sample.
    none = torch.empty((0, *matrix.shape), dtype=matrix.dtype, device=matrix.device)
    out: Tensor = sample_apply(z, matrix, none, mode, padding, backend)
    return out


def _launch(function: str) -> Callable[..., Any]:
    def launch(*arguments: Any) -> Any:
        *operands, backend = arguments
        kernels: Launchers = launcher("sampling", backend)
        return getattr(kernels, function)(*operands)

    return launch


def _data(x: Tensor, matrix: Tensor, directions: Tensor, mode: str, padding: str, backend: str) -> Tensor:
    return x.new_empty(x.shape)


def _matrices(
    grad: Tensor, z: Tensor, matrix: Tensor, directions: Tensor, mode: str, padding: str, backend: str
) -> Tensor:
    return matrix.new_empty(matrix.shape, dtype=compute_dtype(grad.dtype))


# --- the two rules --------------------------------------------------------------------------------


def _with(directions: Tensor, v: Tensor) -> Tensor:
    return torch.cat([directions, v[None]])


def _slopes(
    needs: Sequence[bool], grad: Tensor, z: Tensor, matrix: Tensor, directions: Tensor, v: Tensor | None,
    options: tuple[str, ...],
) -> Gradients:  # fmt: skip
    """The gradients of <grad, F(z, M, D)>, or with `v` of <grad, F(z, M, D + v)>, by grad, z, M and D.

    Every vector-Jacobian product of the family is some of them.
    """
    along = directions if v is None else _with(directions, v)
    by_z = by_matrix = by_directions = None
    if needs[1] and needs[2]:
        by_z, by_matrix = sample_backward(grad, z, matrix, along, *options)
    elif needs[1]:
        by_z = sample_adjoint(grad, matrix, along, *options)
    elif needs[2]:
        by_matrix = sample_matrix_grad(grad, z, matrix, along, *options)
    if needs[3]:
        # Linear in every direction: what is left without it, along every matrix.
        others = [torch.cat([along[:i], along[i + 1 :]]) for i in range(len(directions))]
        parts = [sample_matrix_grad(grad, z, matrix, other, *options) for other in others]
        by_directions = torch.stack(parts) if parts else torch.zeros_like(directions)
    by_grad = sample_apply(z, matrix, along, *options) if needs[0] else None
    return by_grad, by_z, by_matrix, by_directions


def _tangent(
    function: Callable[..., Any],
    tensors: Sequence[Tensor],
    options: tuple[str, ...],
    tangents: Sequence[Tensor | None],
) -> Tensor | None:
    """The tangent of function(*linear, M, D): it is linear in all tensors but M."""
    *linear, matrix, directions = tensors
    *linear_dots, matrix_dot, directions_dot = tangents
    terms = [
        function(*linear[:i], dot, *linear[i + 1 :], matrix, directions, *options)
        for i, dot in enumerate(linear_dots)
        if dot is not None
    ]
    if matrix_dot is not None:
        terms.append(function(*linear, matrix, _with(directions, matrix_dot), *options))
    if directions_dot is not None:
        for i in range(len(directions)):
            moved = torch.cat([directions[:i], directions_dot[i : i + 1], directions[i + 1 :]])
            terms.append(function(*linear, matrix, moved, *options))
    return total(*terms)


# --- the four functions ---------------------------------------------------------------------------


def _apply_vjp(
    saved: Any, mode: str, padding: str, backend: str, needs: Any, grad: Tensor | None
) -> Gradients:
    if grad is None:
        return None, None, None
    z, matrix, directions = saved
    wanted = (False, *needs[:3])
    return _slopes(wanted, grad, z, matrix, directions, None, (mode, padding, backend))[1:]


def _adjoint_vjp(
    saved: Any, mode: str, padding: str, backend: str, needs: Any, u: Tensor | None
) -> Gradients:
    if u is None:
        return None, None, None
    grad, matrix, directions = saved
    wanted = (needs[0], False, *needs[1:3])
    by_grad, _, *others = _slopes(wanted, grad, u, matrix, directions, None, (mode, padding, backend))
    return by_grad, *others


def _matrix_grad_vjp(
    saved: Any, mode: str, padding: str, backend: str, needs: Any, w: Tensor | None
) -> Gradients:
    if w is None:
        return None, None, None, None
    grad, z, matrix, directions = saved
    return _slopes(needs, grad, z, matrix, directions, w, (mode, padding, backend))


def _backward_vjp(
    saved: Any, mode: str, padding: str, backend: str, needs: Any, u: Tensor | None, w: Tensor | None
) -> Gradients:
    grad, _, matrix, directions = saved
    options = (mode, padding, backend)
    by_grad, *others = _adjoint_vjp((grad, matrix, directions), *options, (needs[0], *needs[2:]), u)
    of_adjoint = (by_grad, None, *others)
    of_matrix_grad = _matrix_grad_vjp(saved, *options, needs, w)
    return tuple(total(a, b) for a, b in zip(of_adjoint, of_matrix_grad, strict=True))


def _jvp(function: str) -> Callable[..., Any]:
    def jvp(saved: Any, mode: str, padding: str, backend: str, *tangents: Tensor | None) -> Any:
        return _tangent(_FUNCTIONS[function], saved, (mode, padding, backend), tangents)

    return jvp


def _backward_jvp(saved: Any, mode: str, padding: str, backend: str, *tangents: Tensor | None) -> Any:
    options = (mode, padding, backend)
    grad, _, matrix, directions = saved
    grad_dot, _, matrix_dot, directions_dot = tangents
    of_adjoint = _tangent(
        sample_adjoint, (grad, matrix, directions), options, (grad_dot, matrix_dot, directions_dot)
    )
    # A tangent of z alone does not move F^T g.
    of_adjoint = torch.zeros_like(grad) if of_adjoint is None else of_adjoint
    return of_adjoint, _tangent(sample_matrix_grad, saved, options, tangents)


def _save_linear(needs: Any, x: Tensor, matrix: Tensor, directions: Tensor) -> Gradients:
    # Linear in x: x itself matters to the gradients of the matrices only, and may be large.
    return (x if needs[1] or needs[2] else None), matrix, directions


def _save_all(needs: Any, *tensors: Tensor) -> Gradients:
    return tensors


_sampling = partial(differentiable, operation="affine_sample")
_MATRICES = "Tensor matrix, Tensor directions, str mode, str padding, str backend"
sample_apply = _sampling(
    "sample_apply",
    f"(Tensor z, {_MATRICES}) -> Tensor",
    tensors=3,
    launch=_launch("apply"),
    fake=_data,
    save=_save_linear,
    vjp=_apply_vjp,
    jvp=_jvp("apply"),
    batch_dims=(0, 0, 1),
)
sample_adjoint = _sampling(
    "sample_adjoint",
    f"(Tensor grad, {_MATRICES}) -> Tensor",
    tensors=3,
    launch=_launch("adjoint"),
    fake=_data,
    save=_save_linear,
    vjp=_adjoint_vjp,
    jvp=_jvp("adjoint"),
    batch_dims=(0, 0, 1),
)
sample_matrix_grad = _sampling(
    "sample_matrix_grad",
    f"(Tensor grad, Tensor z, {_MATRICES}) -> Tensor",
    tensors=4,
    launch=_launch("matrix_grad"),
    fake=_matrices,
    save=_save_all,
    vjp=_matrix_grad_vjp,
    jvp=_jvp("matrix_grad"),
    batch_dims=(0, 0, 0, 1),
)
sample_backward = _sampling(
    "sample_backward",
    f"(Tensor grad, Tensor z, {_MATRICES}) -> (Tensor, Tensor)",
    tensors=4,
    launch=_launch("backward"),
    fake=lambda grad, z, matrix, directions, mode, padding, backend: (
        _data(grad, matrix, directions, mode, padding, backend),
        _matrices(grad, z, matrix, directions, mode, padding, backend),
    ),
    save=_save_all,
    vjp=_backward_vjp,
    jvp=_backward_jvp,
    batch_dims=(0, 0, 0, 1),
)
_FUNCTIONS = {"apply": sample_apply, "adjoint": sample_adjoint, "matrix_grad": sample_matrix_grad}
