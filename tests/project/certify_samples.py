"""Images and their exact turns, which the tests of certificates share."""

import torch
from torch import Tensor

from equikernels.group import CyclicGroup, DihedralGroup, Group

C2, C4, D4 = CyclicGroup(2), CyclicGroup(4), DihedralGroup(4)
SIZE = 8


def images(seed: int, count: int = 2, channels: int = 2, size: int = SIZE) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, channels, size, size, dtype=torch.float64, generator=generator)


def turned(group: Group):
    """Images by index maps, written without the code under test."""

    def act(g: int, x: Tensor) -> Tensor:
        n = group.n
        x = x.flip(-1) if g >= n else x
        return torch.rot90(x, (g % n) * 4 // n, (-2, -1))

    return act
