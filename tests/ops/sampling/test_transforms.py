"""torch.func: gradients, vectorised maps, Jacobians and Hessians, against the reference under the same."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from equikernels.ops import affine_sample
from tests.ops.sampling.samples import every_combination, generic_case, random_case

SHAPES = {2: (2, 2, 3, 4), 3: (1, 2, 2, 3, 3)}


def loss(mode: str, padding: str, backend: str) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda z, matrix: (
        affine_sample(z, matrix, mode=mode, padding=padding, backend=backend).pow(3).sum()
    )


@every_combination
@pytest.mark.parametrize("argument", [0, 1, (0, 1)], ids=str)
def test_func_grad(dims: int, mode: str, padding: str, argument: int | tuple[int, int]) -> None:
    z, matrix, _ = generic_case(SHAPES[dims], torch.float64, mode)
    ours = torch.func.grad(loss(mode, padding, "cpp"), argument)(z, matrix)
    expected = torch.func.grad(loss(mode, padding, "reference"), argument)(z, matrix)
    torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize("in_dims", [(0, 0), (1, None), (None, 0), (2, 1), (None, None)], ids=str)
@pytest.mark.parametrize("backend", ["cpp", "reference"])
@pytest.mark.parametrize("dims", [2, 3])
def test_vmap(dims: int, backend: str, in_dims: tuple[int | None, int | None]) -> None:
    sizes = (4, 5, 3)[:dims]
    z, matrix = torch.randn(4, 4, 4, *sizes), torch.randn(4, 4, dims, dims + 1)
    z = z if in_dims[0] is not None else z[0]
    matrix = matrix if in_dims[1] is not None else matrix[0]

    def f(z: Tensor, matrix: Tensor) -> Tensor:
        return affine_sample(z, matrix, backend=backend)

    if in_dims == (None, None):
        many = torch.vmap(lambda _, a, b: f(a, b), in_dims=(0, None, None))(torch.zeros(4), z, matrix)
    else:
        many = torch.vmap(f, in_dims=in_dims)(z, matrix)
    for k in range(4):
        one_z = z if in_dims[0] is None else z.select(in_dims[0], k)
        one_matrix = matrix if in_dims[1] is None else matrix.select(in_dims[1], k)
        torch.testing.assert_close(many[k], f(one_z, one_matrix), rtol=0, atol=1e-5)


@every_combination
def test_vmap_of_grad_of_vmap(dims: int, mode: str, padding: str) -> None:
    shape = SHAPES[dims]
    cases = [generic_case(shape, torch.float64, mode, seed) for seed in range(6)]
    z = torch.stack([case[0] for case in cases]).view(3, 2, *shape)
    matrix = torch.stack([case[1] for case in cases]).view(3, 2, shape[0], dims, dims + 1)

    def total(backend: str) -> Callable[[Tensor, Tensor], Tensor]:
        return lambda a, b: torch.vmap(loss(mode, padding, backend))(a, b).sum()

    ours = torch.vmap(torch.func.grad(total("cpp"), (0, 1)))(z, matrix)
    expected = torch.vmap(torch.func.grad(total("reference"), (0, 1)))(z, matrix)
    torch.testing.assert_close(ours, expected)


HESSIANS: dict[str, Callable[..., Callable[..., Tensor]]] = {
    "forward over reverse": torch.func.hessian,
    "reverse twice": lambda f, argument: torch.func.jacrev(torch.func.jacrev(f, argument), argument),
    "forward twice": lambda f, argument: torch.func.jacfwd(torch.func.jacfwd(f, argument), argument),
    "reverse over forward": lambda f, argument: torch.func.jacrev(torch.func.jacfwd(f, argument), argument),
}


@every_combination
@pytest.mark.parametrize("argument", [0, 1])
def test_hessians(dims: int, mode: str, padding: str, argument: int) -> None:
    z, matrix, _ = generic_case(SHAPES[dims], torch.float64, mode)
    expected = torch.func.hessian(loss(mode, padding, "reference"), argument)(z, matrix)
    for hessian in HESSIANS.values():
        torch.testing.assert_close(hessian(loss(mode, padding, "cpp"), argument)(z, matrix), expected)


@every_combination
def test_third_derivative_forward(dims: int, mode: str, padding: str) -> None:
    """Forward mode three deep, the innermost of which carries directions of the outer two."""
    z, matrix, _ = generic_case(SHAPES[dims], torch.float64, mode)
    v = random_case(SHAPES[dims], torch.float64, 7)[1]

    def third(backend: str) -> Tensor:
        f: Callable[[Tensor], Tensor] = lambda m: loss(mode, padding, backend)(z, m)  # noqa: E731
        for _ in range(3):
            f = lambda m, f=f: torch.func.jvp(f, (m,), (v,))[1]  # noqa: E731
        return f(matrix)

    torch.testing.assert_close(third("cpp"), third("reference"))


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize("vectorize", [False, True])
def test_functional_jacobian(vectorize: bool) -> None:
    z, matrix, _ = generic_case(SHAPES[2], torch.float64, "bicubic")

    def f(backend: str) -> Callable[[Tensor, Tensor], Tensor]:
        return lambda z, matrix: affine_sample(z, matrix, mode="bicubic", padding="border", backend=backend)

    ours = torch.autograd.functional.jacobian(f("cpp"), (z, matrix), vectorize=vectorize)
    torch.testing.assert_close(ours, torch.autograd.functional.jacobian(f("reference"), (z, matrix)))
