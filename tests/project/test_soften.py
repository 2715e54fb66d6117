"""soften: exactly equivariant at softness 0, untouched at 1, in place."""

import copy

import pytest
import torch
from torch import nn

from equikernels.group import O2, SO2, CubeGroup, DihedralGroup, pixel_grid
from equikernels.project import (
    InvariantProjector,
    Softness,
    default_rules,
    soften,
)
from equikernels.project.adapting import (
    Rule,
    is_softened,
    leave,
    raw_parameter,
)
from tests.project.softening_samples import C4, D4, convolutional, largest, turn


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
@pytest.mark.parametrize("group", [C4, D4], ids=repr)
def test_a_strict_classifier_is_invariant(group, dtype: torch.dtype, tolerance: float) -> None:
    model = convolutional().to(dtype)
    x = torch.randn(3, 1, 16, 16, dtype=dtype)
    broken = max(largest(model(turn(x, k)) - model(x)) for k in (1, 2, 3))
    assert broken > 1e-3
    report = soften(model, group, softness=0, example_input=x)
    assert report.limiting == ()
    y = model(x)
    for flip in (0, 1) if group == D4 else (0,):
        for k in range(4):
            assert largest(model(turn(x, k, flip)) - y) < tolerance


def test_softness_one_changes_nothing_and_softness_is_a_trade_off() -> None:
    x = torch.randn(2, 1, 16, 16)
    plain = convolutional()
    errors = []
    for s in (0.0, 0.3, 0.6, 1.0):
        model = copy.deepcopy(plain)
        soften(model, C4, softness=s)
        errors.append(largest(model(turn(x, 1)) - model(x)))
        if s == 1.0:
            torch.testing.assert_close(model(x), plain(x))
    assert errors == sorted(errors)
    assert errors[0] < 1e-5 < errors[1]


def test_kernels_are_the_invariant_projection_and_raw_parameters_stay() -> None:
    conv = nn.Conv2d(4, 6, 3, groups=2, stride=2, dilation=2, padding=2, padding_mode="reflect").double()
    raw = conv.weight
    kept = raw.detach().clone()
    report = soften(conv, C4, softness=0.5)
    P = InvariantProjector(pixel_grid(3, C4), Softness(0.5))
    torch.testing.assert_close(conv.weight, P(kept.flatten(-2)).reshape(kept.shape))
    assert raw_parameter(conv, "weight") is raw
    assert torch.equal(raw, kept)
    assert (conv.groups, conv.stride, conv.dilation, conv.padding_mode) == (2, (2, 2), (2, 2), "reflect")
    (row,) = report.layers
    assert (row.parameters, row.dimension) == (kept.numel(), kept.numel() // 9 * P.dimension)


@pytest.mark.parametrize(
    ("layer", "group", "size"),
    [
        pytest.param(nn.Conv2d(2, 3, 4, padding=1), D4, (7, 7), id="even kernel"),
        pytest.param(nn.Conv2d(2, 3, 3, stride=2, padding=1), D4, (9, 9), id="odd stride, fitting size"),
        pytest.param(nn.Conv2d(2, 3, 4, stride=4), C4, (12, 12), id="patches"),
        pytest.param(
            nn.Conv2d(2, 3, 3, dilation=3, padding=3, padding_mode="circular"), C4, (8, 8), id="dilated"
        ),
        pytest.param(nn.ConvTranspose2d(2, 3, 4, stride=2, padding=1), D4, (5, 5), id="transposed"),
        pytest.param(nn.ConvTranspose2d(2, 4, 3, stride=2, groups=2), C4, (5, 5), id="transposed groups"),
        pytest.param(
            nn.Conv2d(2, 3, (3, 5), padding=(1, 2)), DihedralGroup(2), (6, 9), id="rectangle, half turn"
        ),
        pytest.param(nn.Conv3d(2, 3, (2, 3, 3), padding=(0, 1, 1)), D4, (4, 6, 6), id="volume, turn about z"),
    ],
)
def test_softened_layers_commute_with_turns(layer: nn.Module, group, size: tuple[int, ...]) -> None:
    layer = layer.double()
    x = torch.randn(2, 2, *size, dtype=torch.float64)
    assert soften(layer, group, softness=0, example_input=x).limiting == ()
    for k in (1, 2) if group.n == 4 else (2,):
        for flip in (0, 1) if isinstance(group, DihedralGroup) else (0,):
            torch.testing.assert_close(layer(turn(x, k, flip)), turn(layer(x), k, flip), atol=1e-12, rtol=0)


def test_cube_rotations_of_volumes() -> None:
    layer = nn.Conv3d(2, 3, 3, padding=1).double()
    x = torch.randn(1, 2, 5, 5, 5, dtype=torch.float64)
    assert soften(layer, CubeGroup(), softness=0, example_input=x).limiting == ()
    for axes in ((-3, -2), (-2, -1), (-3, -1)):
        expected = torch.rot90(layer(x), 1, axes)
        torch.testing.assert_close(layer(torch.rot90(x, 1, axes)), expected, atol=1e-12, rtol=0)


def test_signals_are_flipped_only() -> None:
    layer = nn.Conv1d(2, 3, 5).double()
    x = torch.randn(1, 2, 11, dtype=torch.float64)
    untouched = soften(layer, C4, softness=0)
    assert not is_softened(layer)
    assert "not acted on" in untouched.layers[0].note
    assert "no action on signals" in untouched.limiting[0].reason
    soften(layer, DihedralGroup(1), softness=0)
    torch.testing.assert_close(layer(x.flip(-1)), layer(x).flip(-1), atol=1e-12, rtol=0)


def test_one_pixel_kernels_are_left_alone_but_their_stride_is_judged() -> None:
    shortcut = nn.Conv2d(2, 3, 1, stride=2)
    report = soften(shortcut, C4, softness=0, example_input=torch.zeros(1, 2, 8, 8))
    assert not is_softened(shortcut)
    (limit,) = report.limiting
    assert limit.reason == "height and width 8 is sampled off-centre: (8 + 0 - 1) mod 2 = 1, not 0"
    assert soften(shortcut, C4, softness=0, example_input=torch.zeros(1, 2, 9, 9)).limiting == ()


def test_rotations_by_any_angle_use_the_spectral_grid_and_say_what_they_cannot_do() -> None:
    conv = nn.Conv2d(1, 1, 5).double()
    report = soften(conv, SO2(), softness=0)
    P = InvariantProjector(pixel_grid(5, SO2()), Softness(0))
    raw = raw_parameter(conv, "weight")
    torch.testing.assert_close(conv.weight.flatten(-2), P(raw.flatten(-2)))
    assert "other" in report.limiting[0].reason
    # 6 x 6 is a size where one mode of the spectral representation cannot turn: it is counted as a limit.
    stuck = soften(nn.Conv2d(1, 1, 6), SO2(), softness=0)
    assert any("mode of the 6 x 6 kernel" in row.reason for row in stuck.limiting)


def test_a_kernel_that_has_no_reflections_is_an_error_with_advice() -> None:
    model = nn.Sequential(nn.Conv2d(1, 1, 3), nn.Conv2d(1, 1, 4))
    with pytest.raises(
        ValueError, match=r'^1: O\(2\) cannot act on a 4 x 4 grid.*Rule\("1", nn.Conv2d, leave'
    ):
        soften(model, O2(), softness=0)
    assert not any(map(is_softened, model.modules()))
    report = soften(model, O2(), softness=0, rules=(Rule("1", nn.Conv2d, leave("even")), *default_rules))
    assert is_softened(model[0])
    assert not is_softened(model[1])
    assert any(row.name == "1" and "tell directions apart" in row.reason for row in report.limiting)


def test_rectangular_kernels_limit_quarter_turns() -> None:
    model = nn.Sequential(nn.Conv2d(1, 1, (1, 3)))
    report = soften(model, C4, softness=0)
    assert not is_softened(model[0])
    assert report.limiting[0].reason.startswith("no isotropic 1 x 3 kernels")


def test_a_flip_alone_reverses_the_width_alone() -> None:
    layer = nn.Conv2d(1, 1, 3, stride=(2, 1), padding=1).double()
    x = torch.randn(1, 1, 8, 8, dtype=torch.float64)
    assert soften(layer, DihedralGroup(1), softness=0, example_input=x).limiting == ()
    torch.testing.assert_close(layer(x.flip(-1)), layer(x).flip(-1), atol=1e-12, rtol=0)
