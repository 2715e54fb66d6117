"""Derivatives, transforms and compilation of the permutations, the same for every kernel backend.

A permutation is linear and its transpose is its inverse, so one function with a flag,

    permute(z, g, kind, inverse, swapped, backend)

is closed under differentiation of every order, forward and reverse.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from torch import Tensor

from equikernels.ops.differentiable import Gradients, differentiable, launcher
from equikernels.ops.permutation.reference import output_shape


class Launcher(Protocol):
    """What a kernel backend offers, on plain tensors of its device."""

    def permute(self, z: Tensor, g: Tensor, kind: str, inverse: bool, swapped: bool, /) -> Tensor: ...


def _launch(z: Tensor, g: Tensor, kind: str, inverse: bool, swapped: bool, backend: str) -> Tensor:
    kernels: Launcher = launcher("permutation", backend)
    return kernels.permute(z, g, kind, inverse, swapped)


def _fake(z: Tensor, g: Tensor, kind: str, inverse: bool, swapped: bool, backend: str) -> Tensor:
    return z.new_empty(output_shape(z, swapped))


def _save(needs: Any, z: Tensor, g: Tensor) -> Gradients:
    return (g,)


def _vjp(
    saved: Any,
    kind: str,
    inverse: bool,
    swapped: bool,
    backend: str,
    needs: Any,
    grad: Tensor | None,
) -> Gradients:
    if grad is None or not needs[0]:
        return None, None
    return permute(grad, saved[0], kind, not inverse, swapped, backend), None


def _jvp(
    tensors: Any, kind: str, inverse: bool, swapped: bool, backend: str, z_dot: Tensor | None, g_dot: None
) -> Tensor | None:
    return None if z_dot is None else permute(z_dot, tensors[1], kind, inverse, swapped, backend)


# Every sample moved by its element of the table `kind`, or by the element's inverse.
permute: Callable[..., Tensor] = differentiable(
    "permute",
    "(Tensor z, Tensor g, str kind, bool inverse, bool swapped, str backend) -> Tensor",
    operation="permute",
    tensors=2,
    launch=_launch,
    fake=_fake,
    save=_save,
    vjp=_vjp,
    jvp=_jvp,
)
