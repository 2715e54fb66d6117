"""Down-sampling that samples even images around their centre."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from equikernels.group import CyclicGroup
from equikernels.nn import SymmetricDownsample, symmetrise_sampling
from equikernels.project import soften

C4 = CyclicGroup(4)


@pytest.mark.parametrize(
    ("kernel", "stride", "dilation", "groups"), [(3, 2, 1, 1), (5, 3, 1, 2), (3, 2, 2, 1), (1, 2, 1, 1)]
)
def test_it_is_a_convolution_of_all_pixels_and_a_mean(
    kernel: int, stride: int, dilation: int, groups: int
) -> None:
    torch.manual_seed(0)
    strided = nn.Conv2d(2, 4, kernel, stride, dilation=dilation, groups=groups).double()
    layer = SymmetricDownsample(strided)
    x = torch.randn(3, 2, 6 * stride, 6 * stride, dtype=torch.float64)
    margin = dilation * (kernel // 2)
    dense = functional.conv2d(
        functional.pad(x, (margin,) * 4), strided.weight, strided.bias, dilation=dilation, groups=groups
    )
    wanted = dense.reshape(3, 4, 6, stride, 6, stride).mean((3, 5))
    torch.testing.assert_close(layer(x), wanted)
    assert layer.conv.weight is strided.weight
    assert layer.conv.bias is strided.bias


def strided_network() -> nn.Sequential:
    torch.manual_seed(1)
    twice = nn.Conv2d(4, 4, 3, padding=1)
    shortcut = nn.Conv2d(4, 4, 1, stride=2)
    return nn.Sequential(
        nn.Conv2d(1, 4, 7, stride=2, padding=3), nn.ReLU(), nn.MaxPool2d(3, stride=2, padding=1),
        nn.Sequential(twice, nn.Tanh(), twice), shortcut, nn.MaxPool2d(2),
    ).double()  # fmt: skip


def test_a_network_that_samples_off_centre_becomes_exact() -> None:
    x = torch.randn(2, 1, 32, 32, dtype=torch.float64)

    def error(model: nn.Module) -> float:
        return float((model(x.rot90(1, (-2, -1))) - model(x).rot90(1, (-2, -1))).detach().abs().max())

    plain = strided_network()
    report = soften(plain, C4, softness=0, example_input=x)
    assert {row.name for row in report.limiting} == {"0", "2", "4"}
    assert error(plain) > 1e-3
    centred = strided_network()
    assert symmetrise_sampling(centred) == ["0", "2", "4"]
    assert symmetrise_sampling(centred) == []
    assert not soften(centred, C4, softness=0, example_input=x).limiting
    assert error(centred) < 1e-13
    # Sizes that cannot be halved are still told: 30 pixels become 15, 7 and 3.
    odd = strided_network()
    symmetrise_sampling(odd)
    report = soften(odd, C4, softness=0, example_input=x[..., :30, :30], dry_run=True)
    assert {row.name for row in report.limiting} == {"2", "4.pool", "5"}


def test_a_layer_that_is_used_twice_stays_one() -> None:
    shared = nn.Conv2d(2, 2, 3, stride=2, padding=1)
    model = nn.Sequential(shared, nn.ReLU(), shared)
    assert symmetrise_sampling(model) == ["0", "2"]
    assert model[0] is model[2]


def test_what_is_centred_or_unknown_stays() -> None:
    layers = [
        nn.Conv2d(1, 1, 2, stride=2), nn.Conv2d(1, 1, 3, stride=(2, 1)), nn.AvgPool2d(2), nn.MaxPool2d(2),
        nn.Conv2d(1, 1, 3, stride=2, padding_mode="reflect", padding=1),
        nn.MaxPool2d(3, stride=2, return_indices=True),
    ]  # fmt: skip
    model = nn.Sequential(*layers)
    assert symmetrise_sampling(model) == []
    assert list(model) == layers


def test_wrong_arguments() -> None:
    with pytest.raises(TypeError, match="convolution: expected a Conv2d, got Linear"):
        SymmetricDownsample(nn.Linear(1, 1))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"convolution: expected an odd kernel, got \(4, 4\)"):
        SymmetricDownsample(nn.Conv2d(1, 1, 4))
    with pytest.raises(ValueError, match=r"convolution: expected equal strides, got \(2, 1\)"):
        SymmetricDownsample(nn.Conv2d(1, 1, 3, stride=(2, 1)))
    with pytest.raises(ValueError, match="convolution: expected padding_mode"):
        SymmetricDownsample(nn.Conv2d(1, 1, 3, stride=2, padding_mode="reflect", padding=1))
    with pytest.raises(ValueError, match="model: expected a module that holds the layers, got"):
        symmetrise_sampling(nn.Conv2d(1, 1, 3, stride=2))
