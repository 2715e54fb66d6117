"""`shear_rotate` inside torch.compile, torch.export, make_fx and fake tensors: plain torch, seen through."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

from equikernels.ops import shear_rotate
from tests.ops.fourier.samples import random_case


@pytest.fixture(autouse=True)
def fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.parametrize(
    ("dynamic", "shapes"),
    [(None, ((2, 3, 5, 5), (7, 2, 8, 8))), (True, ((4, 3, 6, 5), (3, 1, 8, 12)))],
    ids=("automatic", "dynamic"),
)
def test_forward_and_backward_with_changing_shapes(
    dynamic: bool | None, shapes: tuple[tuple[int, ...], ...]
) -> None:
    compiled = torch.compile(shear_rotate, fullgraph=True, backend="aot_eager", dynamic=dynamic)
    for shape in shapes:
        z, theta, grad = random_case(shape, torch.float64)
        z.requires_grad_(), theta.requires_grad_()
        out, expected = compiled(z, theta), shear_rotate(z, theta)
        torch.testing.assert_close(out, expected)
        torch.testing.assert_close(*(torch.autograd.grad(x, (z, theta), grad) for x in (out, expected)))


def test_with_numbers_transforms_and_the_reference() -> None:
    z, theta, z_dot = random_case((2, 3, 5, 5), torch.float64)
    compiled = torch.compile(shear_rotate, fullgraph=True, backend="aot_eager")
    for angle in (0.3, 0.4, -1.5):
        torch.testing.assert_close(compiled(z, angle), shear_rotate(z, angle))
    torch.testing.assert_close(compiled(z, theta, backend="reference"), shear_rotate(z, theta))

    def transformed(z: Tensor, theta: Tensor, z_dot: Tensor) -> tuple[Tensor, ...]:
        return torch.func.grad(lambda x: shear_rotate(x, theta).pow(3).sum())(z), torch.func.jvp(
            shear_rotate, (z, theta), (z_dot, theta)
        )[1]

    compiled = torch.compile(transformed, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(z, theta, z_dot), transformed(z, theta, z_dot))


class Rotation(torch.nn.Module):
    def forward(self, z: Tensor, theta: Tensor) -> Tensor:
        return shear_rotate(z, theta)


@pytest.mark.parametrize(("size", "strict"), [((6, 6), True), ((6, 5), False)], ids=str)
def test_export(size: tuple[int, int], strict: bool) -> None:
    batch = torch.export.Dim("batch", min=2, max=64)
    example = (torch.randn(3, 2, *size), torch.randn(3))
    program = torch.export.export(Rotation(), example, dynamic_shapes=({0: batch}, {0: batch}), strict=strict)
    z, theta = torch.randn(5, 2, *size), torch.randn(5)
    torch.testing.assert_close(program.module()(z, theta), shear_rotate(z, theta))


def test_fake_tensors_and_make_fx() -> None:
    with FakeTensorMode():
        z = torch.empty(2, 3, 4, 5, requires_grad=True)
        out = shear_rotate(z, torch.empty(2))
        assert out.shape == (2, 3, 4, 5)
        assert torch.autograd.grad(out.sum(), z)[0].shape == z.shape
    z, theta = torch.randn(2, 3, 4, 4), torch.randn(2)
    graph = make_fx(lambda z, theta: shear_rotate(z, theta))(z, theta)
    torch.testing.assert_close(graph(z * 2, theta), shear_rotate(z * 2, theta))
