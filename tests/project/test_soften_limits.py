"""What the report says limits a model does, and what it does not name does not."""

import copy
import re

import pytest
import torch
from torch import nn

from equikernels.project import (
    soften,
)
from tests.project.softening_samples import C4, convolutional, largest, turn


def test_a_pooling_that_does_not_fit_is_named_and_does_limit() -> None:
    model = convolutional().double()
    x = torch.randn(2, 1, 17, 17, dtype=torch.float64)
    report = soften(model, C4, softness=0, example_input=x)
    assert [(row.name, row.reason) for row in report.limiting] == [
        ("2", "height and width 17 is sampled off-centre: (17 + 0 - 2) mod 2 = 1, not 0")
    ]
    assert largest(model(turn(x, 1)) - model(x)) > 1e-6


def test_without_an_example_the_report_says_that_it_does_not_know() -> None:
    report = soften(convolutional(), C4, softness=0)
    reasons = {row.name: row.reason for row in report.limiting}
    assert set(reasons) == {"2", "5"}
    assert all(reason.startswith("unknown without example_input: ") for reason in reasons.values())
    assert "(N + 0 - 2) mod 2 = 0" in reasons["2"]


class OneSided(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.pad(x, (0, 1, 0, 1))


class PaddedBehind(nn.Module):
    """Pads after its child has run: the reason is its own, not the child's."""

    def __init__(self) -> None:
        super().__init__()
        self.child = nn.Conv2d(1, 1, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.pad(self.child(x), (0, 1, 0, 1))


class Rolled(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.roll(x, shifts=(-3, -3), dims=(2, 3))


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize(
    ("layer", "size", "reason"),
    [
        (nn.Conv2d(1, 1, 4, padding="same"), 8, "height and width: padded by 1 before and 2 behind"),
        (nn.Conv2d(1, 1, 3, stride=(1, 2), padding=1), 9, "have different windows"),
        (nn.ConvTranspose2d(1, 1, 3, stride=2, padding=1, output_padding=1), 4, "on one side only"),
        (nn.MaxPool2d(3, 2, 1), 8, r"\(8 \+ 2 - 3\) mod 2 = 1"),
        (nn.MaxPool2d(3, 2, 1, ceil_mode=True), 8, r"\(8 \+ 2 - 3\) mod 2 = 1"),
        (nn.ZeroPad2d((0, 1, 0, 1)), 8, "does not turn into itself"),
        (OneSided(), 8, r"padding \(0, 1, 0, 1\) does not turn"),
        (PaddedBehind(), 8, r"padding \(0, 1, 0, 1\) does not turn"),
        (Rolled(), 8, r"rolls its input by \(-3, -3\) along \(2, 3\)"),
        (nn.PixelShuffle(1), 8, "channels out as pixels"),
        (nn.Upsample(scale_factor=1.5), 8, "nearest samples of size 8 do not mirror"),
        (nn.Upsample(scale_factor=1.5, mode="bilinear"), 5, "bilinear samples of size 5 do not mirror"),
        (nn.Upsample(size=(7, 7), mode="nearest-exact"), 4, "nearest-exact samples of size 4 do not mirror"),
        (nn.LayerNorm((1, 8, 8)), 8, "every pixel has its own"),
    ],
)
def test_what_limits_is_named_and_does_limit(layer: nn.Module, size: int, reason: str) -> None:
    """Each limit reported is a real one: with random parameters and input, the turn does not commute."""
    torch.manual_seed(0)
    layer = layer.double()
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    if isinstance(layer, nn.PixelShuffle):
        layer, x = nn.PixelShuffle(2), torch.randn(1, 4, size, size, dtype=torch.float64)
    else:
        x = torch.randn(1, 1, size, size, dtype=torch.float64)
    model = nn.Sequential(layer)
    report = soften(model, C4, softness=0, example_input=x)
    assert any(row.name == "0" for row in report.limiting)
    assert any(re.search(reason, row.reason) for row in report.limiting)
    got, expected = model(turn(x, 1)), turn(model(x), 1)
    assert got.shape != expected.shape or largest(got - expected) > 1e-3


@pytest.mark.parametrize(
    ("layer", "size"),
    [
        (nn.MaxPool2d(3, 2, 1), 9),
        (nn.AvgPool2d(2), 8),
        (nn.AdaptiveAvgPool2d(3), 8),
        (nn.AdaptiveMaxPool2d(5), 7),
        (nn.Upsample(scale_factor=2), 5),
        (nn.Upsample(size=(7, 7), mode="bilinear"), 5),
        (nn.Upsample(size=(7, 7), mode="nearest-exact"), 3),
        (nn.Upsample(scale_factor=1.5, mode="bicubic"), 6),
        (nn.ReflectionPad2d(2), 6),
        (nn.BatchNorm2d(1), 6),
    ],
)
def test_what_is_not_reported_does_not_limit(layer: nn.Module, size: int) -> None:
    x = torch.randn(2, 1, size, size, dtype=torch.float64)
    model = nn.Sequential(layer).double().eval()
    assert soften(model, C4, softness=0, example_input=x).limiting == ()
    torch.testing.assert_close(model(turn(x, 1)), turn(model(x), 1), atol=1e-12, rtol=0)


@pytest.mark.parametrize("stride", [1, 2, 3, 4])
def test_the_stride_condition_is_exact(stride: int) -> None:
    """Equivariant if and only if (N + 2p - k) mod s = 0, k with dilation, for everything tried."""
    for kernel, dilation in ((1, 1), (2, 1), (2, 3), (3, 1), (3, 2), (5, 1)):
        for padding in (0, 1, 2):
            conv = nn.Conv2d(1, 1, kernel, stride=stride, padding=padding, dilation=dilation).double()
            for size in (8, 9, 10, 11):
                plain = copy.deepcopy(conv)
                x = torch.randn(1, 1, size, size, dtype=torch.float64)
                report = soften(plain, C4, softness=0, example_input=x)
                error = largest(plain(turn(x, 1)) - turn(plain(x), 1))
                fits = (size + 2 * padding - dilation * (kernel - 1) - 1) % stride == 0
                assert (report.limiting == ()) == fits
                assert (error < 1e-12) == fits, (kernel, dilation, padding, size)
