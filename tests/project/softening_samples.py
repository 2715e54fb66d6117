"""Models that the tests of softening share, and what turns their inputs."""

import torch
from torch import nn

from equikernels.group import CyclicGroup, DihedralGroup, pixel_grid
from equikernels.project import (
    InvariantProjector,
    Softness,
)

C4, D4 = CyclicGroup(4), DihedralGroup(4)
P = InvariantProjector(pixel_grid(3, C4), Softness(0.4))


def turn(x: torch.Tensor, k: int, flip: int = 0) -> torch.Tensor:
    x = torch.flip(x, (-1,)) if flip else x
    return torch.rot90(x, k, (-2, -1))


def largest(difference: torch.Tensor) -> float:
    return float(difference.detach().abs().max())


def convolutional() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 8, 5, padding=2),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Conv2d(8, 8, 3, padding=1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 10),
    )


class Embedded(nn.Module):
    def __init__(self, tokens: int, extra: int) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.randn(1, 1, 3))
        self.pos_embed = nn.Parameter(torch.randn(1, tokens + extra, 3))
        self.scale = nn.Parameter(torch.randn(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.pos_embed


class Net(nn.Module):
    """A convolution, a custom table and a head: a class that pickle can find."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 6, 3, padding=1)
        self.pos_embed = nn.Parameter(torch.randn(1, 17, 6))
        self.head = nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.conv(x)).flatten(2).mT
        return self.head((y + self.pos_embed[:, 1:] + self.pos_embed[:, :1]).square().mean(1))


def by_hand(model: Net, x: torch.Tensor) -> torch.Tensor:
    """The softened function from the raw parameters, with no class of ours."""
    plain = Net().double()
    raw = dict(model.named_parameters())
    grid = InvariantProjector(pixel_grid(4, C4), Softness(0.4))
    positions = raw["pos_embed"]
    return torch.func.functional_call(
        plain,
        {
            "conv.weight": P(raw["conv.weight"].flatten(-2)).reshape(6, 2, 3, 3),
            "conv.bias": raw["conv.bias"],
            "pos_embed": torch.cat([positions[:, :1], grid(positions[:, 1:].mT).mT], 1),
            "head.weight": raw["head.weight"],
            "head.bias": raw["head.bias"],
        },
        (x,),
    )
