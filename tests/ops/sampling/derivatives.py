"""The four functions of the family as they are meant: nested forward mode through the reference."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from equikernels.ops.sampling.reference import sample_reference


def along(f: Callable[[Tensor], Tensor], v: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda matrix: torch.func.jvp(f, (matrix,), (v,))[1]


def apply(z: Tensor, matrix: Tensor, directions: Tensor, mode: str, padding: str) -> Tensor:
    """F_k: differentiated once along every direction."""

    def f(matrix: Tensor) -> Tensor:
        return sample_reference(z, matrix, mode, padding)

    for v in directions:
        f = along(f, v)
    return f(matrix)


def adjoint(grad: Tensor, matrix: Tensor, directions: Tensor, mode: str, padding: str) -> Tensor:
    _, transpose = torch.func.vjp(
        lambda z: apply(z, matrix, directions, mode, padding), torch.zeros_like(grad)
    )
    return transpose(grad)[0]


def matrix_grad(
    grad: Tensor, z: Tensor, matrix: Tensor, directions: Tensor, mode: str, padding: str
) -> Tensor:
    _, transpose = torch.func.vjp(lambda m: apply(z, m, directions, mode, padding), matrix)
    return transpose(grad)[0]


def backward(
    grad: Tensor, z: Tensor, matrix: Tensor, directions: Tensor, mode: str, padding: str
) -> tuple[Tensor, Tensor]:
    return (
        adjoint(grad, matrix, directions, mode, padding),
        matrix_grad(grad, z, matrix, directions, mode, padding),
    )
