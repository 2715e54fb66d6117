"""Stacks in the bases of irreps, and the non-linearity that works there."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

from equikernels.group import SO2, SO3, CyclicGroup, GridTranslations, pixel_grid
from equikernels.nn import NormNonlinearity, SoftLinear, SoftSequential
from equikernels.project import LearnableSmooth, Softness

REPRESENTATIONS = {
    "SO(2)": SO2().irrep(1) + 2 * SO2().irrep(2) + SO2().trivial(),
    "grid": pixel_grid(4, SO2()),
    "C_8 regular": CyclicGroup(8).regular(),
    "SO(3)": 2 * SO3().irrep(1) + SO3().trivial(),
}


def stack(name: str) -> SoftSequential:
    rep = REPRESENTATIONS[name]
    layers = [SoftLinear(rep, rep, Softness(s), 3, 3) for s in (0, 0.2, 0)]
    return SoftSequential(
        layers[0], NormNonlinearity(rep, 3), layers[1], NormNonlinearity(rep, 3), layers[2]
    ).double()


@pytest.mark.parametrize("name", REPRESENTATIONS)
def test_a_stack_is_its_layers_one_after_the_other(name: str) -> None:
    torch.manual_seed(0)
    model = stack(name)
    apart = nn.Sequential(*model)
    x = torch.randn(4, 2, 3 * REPRESENTATIONS[name].dim, dtype=torch.float64)
    assert model.changes == 2
    torch.testing.assert_close(model(x), apart(x))
    found = torch.autograd.grad(model(x).square().sum(), list(model.parameters()))
    expected = torch.autograd.grad(apart(x).square().sum(), list(model.parameters()))
    torch.testing.assert_close(found, expected)
    with torch.no_grad():
        torch.testing.assert_close(model(x[0, 0]), apart(x[0, 0]))
        assert model(x[:0]).shape == (0, 2, x.shape[-1])


def test_large_batches() -> None:
    torch.manual_seed(0)
    model = stack("C_8 regular").float()
    x = torch.randn(30, 1001, 24)
    with torch.no_grad():
        torch.testing.assert_close(model(x), nn.Sequential(*model)(x), rtol=1e-5, atol=1e-5)
        small = torch.cat([model[0](part) for part in x.split(1)])
        torch.testing.assert_close(model[0](x), small, rtol=1e-5, atol=1e-5)


def test_other_modules_get_features_in_their_own_order() -> None:
    torch.manual_seed(0)
    rep = REPRESENTATIONS["C_8 regular"]
    layers = [SoftLinear(rep, rep, Softness(0), 2, 2) for _ in range(3)]
    model = SoftSequential(layers[0], nn.ReLU(), layers[1], layers[2])
    x = torch.randn(5, 16)
    assert model.changes == 4
    torch.testing.assert_close(model(x), layers[2](layers[1](torch.relu(layers[0](x)))))
    trained = SoftSequential(SoftLinear(rep, rep, LearnableSmooth(0.5, 0.5), 2, 2), layers[1])
    torch.testing.assert_close(trained(x), layers[1](trained[0](x)))
    assert trained.changes == 2
    assert torch.equal(SoftSequential()(x), x)


def test_neighbours_without_a_common_basis_change_it() -> None:
    torch.manual_seed(0)
    group = CyclicGroup(4)
    grid, regular = pixel_grid(4, group), group.regular()
    first = SoftLinear(grid, regular, Softness(0), 1, 2)
    second = SoftLinear(regular, group.irrep(1), Softness(0), 2, 1)
    model = SoftSequential(first, second)
    x = torch.randn(3, 16)
    torch.testing.assert_close(model(x), second(first(x)))


def test_copies_and_checkpoints() -> None:
    model = stack("grid")
    x = torch.randn(2, 48, dtype=torch.float64)
    expected = model(x)
    torch.testing.assert_close(copy.deepcopy(model)(x), expected)
    other = stack("grid")
    other.load_state_dict(model.state_dict())
    torch.testing.assert_close(other(x), expected)


@pytest.mark.parametrize("name", ["SO(2)", "SO(3)", "grid"])
def test_norm_nonlinearity_commutes_with_the_group(name: str) -> None:
    torch.manual_seed(0)
    rep = REPRESENTATIONS[name]
    gate = NormNonlinearity(rep, 2, scale=1.3, shift=-0.4).double()
    with torch.no_grad():
        gate.scale.normal_()
        gate.shift.normal_()
    x = torch.randn(5, 2, rep.dim, dtype=torch.float64)
    g = rep.group.sample(1, generator=torch.Generator().manual_seed(0))[0]
    rho = rep(g).double()
    turned = gate((x @ rho.mT).flatten(1)).unflatten(1, (2, -1))
    torch.testing.assert_close(turned, gate(x.flatten(1)).unflatten(1, (2, -1)) @ rho.mT)
    assert not torch.allclose(gate(2 * x.flatten(1)), 2 * gate(x.flatten(1)))


def test_norm_nonlinearity_scales_by_a_gate_of_the_length() -> None:
    gate = NormNonlinearity(SO2().irrep(1), scale=2.0, shift=0.5)
    y = gate(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
    factor = 1 / (1 + math.exp(-(2 * 5 + 0.5)))
    torch.testing.assert_close(y, torch.tensor([[3 * factor, 4 * factor], [0.0, 0.0]]))
    x = torch.zeros(1, 2, requires_grad=True)
    gate(x).sum().backward()
    assert bool(torch.isfinite(x.grad).all())  # at length zero too
    copy.deepcopy(gate)(x)


def test_bad_input_is_named() -> None:
    rep = SO2().irrep(1)
    with pytest.raises(ValueError, match=r"x must have shape \(\.\.\., 4\)"):
        NormNonlinearity(rep, 2)(torch.zeros(3, 2))
    with pytest.raises(ValueError, match="channels must be an integer >= 1"):
        NormNonlinearity(rep, 0)
    with pytest.raises(ValueError, match="rep must have bases of irreps"):
        NormNonlinearity(pixel_grid(4, GridTranslations(4, 4)))
    with pytest.raises(ValueError, match="no list of weights"):
        SoftLinear(rep, rep, LearnableSmooth(0.5, 0.5)).forward_in_slabs(torch.zeros(1, 2))
