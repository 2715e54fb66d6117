"""Soft convolutions of fields: strict ones commute with turns, soft ones project, plain ones are plain."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from equikernels.group import (
    SO2,
    CyclicGroup,
    DihedralGroup,
    GridTranslations,
    Representation,
    pixel_grid,
)
from equikernels.nn import SoftConv2d
from equikernels.ops import dihedral_rotate
from equikernels.project import InvariantProjector, Softness, bake, load_softened, save_softened

C4, D4 = CyclicGroup(4), DihedralGroup(4)
FIELDS = {
    "C_4 lifting": (C4, C4.trivial(), C4.regular()),
    "C_4 regular": (C4, C4.regular(), C4.regular()),
    "C_4 vectors": (C4, C4.irrep(1) + C4.trivial(), C4.irrep(1)),
    "D_4 regular": (D4, D4.regular(), D4.defining()),
}


def moved(x: torch.Tensor, rep: Representation, g: int) -> torch.Tensor:
    """An image of fields (N, C * n, H, W) turned and flipped by g."""
    fields = torch.einsum("ij,ncjhw->ncihw", rep(g), x.unflatten(1, (-1, rep.dim)))
    # The elements of C_4 are the first four of D_4.
    return dihedral_rotate(fields.flatten(1, 2), g)


@pytest.mark.parametrize("parameter", ["raw", "schur"])
@pytest.mark.parametrize("size", [2, 3, 5])
@pytest.mark.parametrize("name", FIELDS)
def test_strict_layers_commute_with_the_group(name: str, size: int, parameter: str) -> None:
    group, rep_in, rep_out = FIELDS[name]
    torch.manual_seed(0)
    layer = SoftConv2d(
        rep_in, rep_out, size, Softness(0), 2, 3, padding=size // 2, parameter=parameter
    ).double()
    nn.init.normal_(layer.bias)
    x = torch.randn(2, 2 * rep_in.dim, 7, 7, dtype=torch.float64)
    y = layer(x)
    assert float(y.detach().std()) > 0.1  # not the zero map
    for g in range(group.order):
        torch.testing.assert_close(layer(moved(x, rep_in, g)), moved(y, rep_out, g))


def test_soft_layers_do_not_and_softness_one_is_plain() -> None:
    torch.manual_seed(0)
    errors = []
    x = torch.randn(2, 8, 7, 7, dtype=torch.float64)
    for softness in (0.0, 0.3, 1.0):
        torch.manual_seed(1)
        layer = SoftConv2d(C4.regular(), C4.regular(), 3, Softness(softness), 2, 3, padding=1).double()
        turned = layer(moved(x, C4.regular(), 1)) - moved(layer(x), C4.regular(), 1)
        errors.append(float(turned.detach().norm()))
    assert errors[0] < 1e-9 < errors[1] < errors[2]
    torch.testing.assert_close(layer.projected_weight, layer.weight)


def test_trivial_fields_have_isotropic_kernels() -> None:
    layer = SoftConv2d(C4.trivial(), C4.trivial(), 5, Softness(0.4), 2, 3).double()
    rows = InvariantProjector(pixel_grid(5, C4), Softness(0.4))(layer.weight.detach().flatten(2))
    torch.testing.assert_close(layer.projected_weight.detach().flatten(2), rows)


def test_planar_rotations_turn_kernels_by_the_spectral_grid() -> None:
    """The kernel is equivariant as a map from a patch, for every angle."""
    rep_in, rep_out = SO2().trivial(), SO2().irrep(1)
    layer = SoftConv2d(rep_in, rep_out, 5, Softness(0), 1, 2).double()
    patch = rep_in @ pixel_grid(5, SO2())
    kernel = layer.projected_weight.detach().flatten(1)
    for theta in (0.3, 2.0):
        rho = torch.block_diag(rep_out(theta), rep_out(theta))
        torch.testing.assert_close(kernel @ patch(theta), rho @ kernel)


def test_options_are_those_of_a_plain_convolution() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 4, 9, 9)
    for mode in ("zeros", "reflect", "circular"):
        layer = SoftConv2d(
            C4.regular(),
            C4.regular(),
            3,
            Softness(0.5),
            1,
            2,
            stride=2,
            padding=1,
            dilation=2,
            padding_mode=mode,
        )
        plain = layer.baked()
        assert isinstance(plain, nn.Conv2d)
        torch.testing.assert_close(plain(x), layer(x))
    assert layer(x[0]).shape == layer(x)[0].shape
    assert SoftConv2d(C4.trivial(), C4.trivial(), 3, Softness(0), bias=False).bias is None


def test_checkpoints_and_files(tmp_path) -> None:  # type: ignore[no-untyped-def]
    x = torch.randn(2, 4, 6, 6)
    for parameter in ("raw", "schur"):
        model = nn.Sequential(
            SoftConv2d(C4.regular(), C4.regular(), 3, Softness(0.5), 1, 2, parameter=parameter)
        )
        plain = nn.Conv2d(4, 8, 3)
        model[0].load_state_dict(plain.state_dict())
        torch.testing.assert_close(model[0].weight, plain.weight)
        save_softened(model, tmp_path / parameter)
        again = copy.deepcopy(model)
        with torch.no_grad():
            for tensor in again.parameters():
                tensor.zero_()
        torch.testing.assert_close(load_softened(again, tmp_path / parameter)(x), model(x))
        torch.testing.assert_close(bake(copy.deepcopy(model))(x), model(x))


def test_training_moves_the_layer() -> None:
    torch.manual_seed(0)
    layer = SoftConv2d(C4.trivial(), C4.regular(), 3, Softness(0.2), 1, 2, parameter="schur")
    x = torch.randn(4, 1, 6, 6)
    target = torch.randn(4, 8, 4, 4)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.02)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = (layer(x) - target).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("parameter", ["raw", "schur"])
def test_evaluation_projects_once_and_follows_training(parameter: str) -> None:
    layer = SoftConv2d(C4.regular(), C4.regular(), 3, Softness(0.3), parameter=parameter).double()
    x = torch.randn(1, 4, 6, 6, dtype=torch.float64)
    with torch.no_grad():
        first, second = (layer.projected_weight for _ in range(2))
        assert first.data_ptr() == second.data_ptr()
        before = layer(x)
    layer(x).square().sum().backward()
    torch.optim.SGD(layer.parameters(), lr=0.1).step()
    with torch.no_grad():
        after = layer(x)
        assert not torch.allclose(after, before)
        torch.testing.assert_close(after, layer.baked()(x))
        torch.testing.assert_close(after, layer(x))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"kernel_size": 0}, ValueError, "kernel_size must be an integer >= 1"),
        ({"channels_in": 0}, ValueError, "channels_in must be"),
        ({"stride": 0}, ValueError, "stride must be"),
        ({"padding": -1}, ValueError, "padding must be"),
        ({"padding_mode": "wrap"}, ValueError, "padding_mode must be one of"),
        ({"rep_in": 3}, TypeError, "rep_in must be a Representation"),
        ({"rep_out": SO2().trivial()}, ValueError, "restrict one of them"),
        ({"rep_in": GridTranslations(3, 3).regular()}, ValueError, "convolutions commute with translations"),
    ],
)
def test_bad_layers_are_named(change: dict[str, object], error: type[Exception], message: str) -> None:
    arguments = {"rep_in": C4.trivial(), "rep_out": C4.trivial(), "kernel_size": 3, "cutoff": Softness(0)}
    with pytest.raises(error, match=message):
        SoftConv2d(**(arguments | change))


def test_bad_images_are_named() -> None:
    layer = SoftConv2d(C4.regular(), C4.trivial(), 3, Softness(0))
    with pytest.raises(ValueError, match=r"x must have shape \(N, 4, H, W\)"):
        layer(torch.zeros(1, 3, 5, 5))
