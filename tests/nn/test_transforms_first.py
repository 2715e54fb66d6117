"""A transform of torch.func is what a fresh layer meets first: nothing of it may stay for later calls."""

from __future__ import annotations

import pytest
import torch

from equikernels.group import SO2, SO3, CyclicGroup, Representation, pixel_grid
from equikernels.nn import SoftLinear
from equikernels.ops.linear import PLANS
from equikernels.project import EquivariantProjector, Smooth, Softness, soften

REPRESENTATIONS = {
    "spectral grid": pixel_grid(6, SO2()),
    "permutations": pixel_grid(6, CyclicGroup(4)),
    "regular": CyclicGroup(7).regular(),
    "irreps": 2 * SO3().irrep(2) + SO3().irrep(1),
}
IN_SINGLE_PRECISION = {"rtol": 1e-4, "atol": 1e-4}


@pytest.fixture(params=REPRESENTATIONS)
def rep(request: pytest.FixtureRequest) -> Representation:
    found: Representation = REPRESENTATIONS[request.param]
    return found


@pytest.mark.parametrize("parameter", ["raw", "schur"])
@pytest.mark.parametrize("plan", PLANS)
def test_layers(rep: Representation, plan: str, parameter: str) -> None:
    layer = SoftLinear(rep, rep, Softness(0.37), 2, 2, plan=plan, parameter=parameter)
    x = torch.randn(3, 2 * rep.dim)
    gradient = torch.func.grad(lambda x: layer(x).square().sum())(x)
    with torch.no_grad():
        expected = 2 * layer(x) @ layer.projected_weight
    torch.testing.assert_close(gradient, expected, **IN_SINGLE_PRECISION)
    layer(x).sum().backward()
    torch.testing.assert_close(layer(x), layer.baked()(x), **IN_SINGLE_PRECISION)


def test_projectors(rep: Representation) -> None:
    project = EquivariantProjector(rep, rep, Smooth(0.45, 0.71))
    w = torch.randn(2 * rep.dim, 2 * rep.dim)
    _, pushed = torch.func.jvp(project, (w,), (w,))
    gradient = torch.func.grad(lambda w: (project(w) * w).sum())(w)
    torch.testing.assert_close(pushed, project(w), **IN_SINGLE_PRECISION)
    torch.testing.assert_close(gradient, 2 * project(w), **IN_SINGLE_PRECISION)


def test_softened_modules() -> None:
    convolution = torch.nn.Conv2d(2, 2, 3)
    soften(convolution, CyclicGroup(4), softness=0.53)
    x = torch.randn(1, 2, 5, 5)
    torch.func.grad(lambda x: convolution(x).sum())(x)
    y = convolution(x)
    y.sum().backward()
    torch.testing.assert_close(torch.func.vmap(convolution)(x[None])[0], y, **IN_SINGLE_PRECISION)
