"""Derivatives, transforms and compilation of averages, the same for every kernel backend.

With A(w, c) = sum over g of c_g T_g w, T_g w = rho_out(g) w rho_in(g)^-1, and C(g, w)_a = <g, T_a w>, the
adjoint of A in w is A with the weights of the inverses, and its adjoint in c is C. Both are bilinear, so that
every derivative of every order is one of the two again. Both are batched: w (S, ..., m, n) with weights
(S, order), and maps (S, order, ...) that are the same for all samples, as torch.vmap asks for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

from equikernels.ops.arguments import compute_dtype
from equikernels.ops.differentiable import Gradients, differentiable, launcher, total


class Launcher(Protocol):
    """What a kernel backend offers, on plain tensors of its device."""

    def average(
        self, w: Tensor, weights: Tensor, sources_out: Tensor, sources_in: Tensor, table: Tensor, /
    ) -> Tensor: ...

    def correlate(
        self, g: Tensor, w: Tensor, sources_out: Tensor, sources_in: Tensor, table: Tensor, /
    ) -> Tensor: ...


def _launch_average(
    w: Tensor, weights: Tensor, out: Tensor, inn: Tensor, table: Tensor, backend: str
) -> Tensor:
    kernels: Launcher = launcher("averaging", backend)
    return kernels.average(w, weights, out, inn, table)


def _launch_correlate(g: Tensor, w: Tensor, out: Tensor, inn: Tensor, table: Tensor, backend: str) -> Tensor:
    kernels: Launcher = launcher("averaging", backend)
    return kernels.correlate(g, w, out, inn, table)


def _fake_average(
    w: Tensor, weights: Tensor, out: Tensor, inn: Tensor, table: Tensor, backend: str
) -> Tensor:
    return torch.empty_like(w)


def _fake_correlate(g: Tensor, w: Tensor, out: Tensor, inn: Tensor, table: Tensor, backend: str) -> Tensor:
    return w.new_empty((w.shape[0], table.shape[-1]), dtype=compute_dtype(w.dtype))


def _of_inverses(weights: Tensor, table: Tensor) -> Tensor:
    """weights[g^-1] of every sample."""
    return weights.gather(1, table[:, 0])


def _save_average(
    needs: Any, w: Tensor, weights: Tensor, out: Tensor, inn: Tensor, table: Tensor
) -> Gradients:
    return (w if needs[1] else None), (weights if needs[0] else None), out, inn, table


def _save_correlate(needs: Any, g: Tensor, w: Tensor, out: Tensor, inn: Tensor, table: Tensor) -> Gradients:
    return (g if needs[1] else None), (w if needs[0] else None), out, inn, table


def _vjp_average(saved: Any, backend: str, needs: Any, grad: Tensor | None) -> Gradients:
    w, weights, *maps = saved
    if grad is None:
        return (None,) * 5
    to_w = average(grad, _of_inverses(weights, maps[2]), *maps, backend) if needs[0] else None
    to_weights = correlate(grad, w, *maps, backend) if needs[1] else None
    return to_w, to_weights, None, None, None


def _vjp_correlate(saved: Any, backend: str, needs: Any, grad: Tensor | None) -> Gradients:
    g, w, *maps = saved
    if grad is None:
        return (None,) * 5
    to_g = average(w, grad, *maps, backend) if needs[0] else None
    to_w = average(g, _of_inverses(grad, maps[2]), *maps, backend) if needs[1] else None
    return to_g, to_w, None, None, None


def _jvp_average(
    tensors: Any, backend: str, w_dot: Tensor | None, weights_dot: Tensor | None, *fixed: None
) -> Tensor | None:
    w, weights, *maps = tensors
    return total(
        None if w_dot is None else average(w_dot, weights, *maps, backend),
        None if weights_dot is None else average(w, weights_dot, *maps, backend),
    )


def _jvp_correlate(
    tensors: Any, backend: str, g_dot: Tensor | None, w_dot: Tensor | None, *fixed: None
) -> Tensor | None:
    g, w, *maps = tensors
    return total(
        None if g_dot is None else correlate(g_dot, w, *maps, backend),
        None if w_dot is None else correlate(g, w_dot, *maps, backend),
    )


_MAPS = "Tensor sources_out, Tensor sources_in, Tensor table, str backend"

average: Callable[..., Tensor] = differentiable(
    "group_average",
    f"(Tensor w, Tensor weights, {_MAPS}) -> Tensor",
    operation="group_average",
    tensors=5,
    launch=_launch_average,
    fake=_fake_average,
    save=_save_average,
    vjp=_vjp_average,
    jvp=_jvp_average,
)

correlate: Callable[..., Tensor] = differentiable(
    "group_correlate",
    f"(Tensor g, Tensor w, {_MAPS}) -> Tensor",
    operation="group_correlate",
    tensors=5,
    launch=_launch_correlate,
    fake=_fake_correlate,
    save=_save_correlate,
    vjp=_vjp_correlate,
    jvp=_jvp_correlate,
)
