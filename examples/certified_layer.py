"""Soften a plain linear layer on 8 x 8 images, read its certificate, and make it plain again.

Run: python examples/certified_layer.py
"""

import math

import torch
from torch import nn

from equikernels.group import SO2, pixel_grid
from equikernels.nn import SoftLinear
from equikernels.project import Softness, bake
from equikernels.testing import assert_equivariant


def main() -> None:
    torch.manual_seed(0)
    grid = pixel_grid(8, SO2())
    trained = nn.Linear(64, 64)  # stands for a layer that you have
    print("softness  free parameters  certified error within 10 degrees, relative to |W|")
    for softness in (0.0, 0.05, 0.1, 0.3, 1.0):
        layer = SoftLinear(grid, grid, Softness(softness))
        layer.load_state_dict(trained.state_dict())  # names and shapes are those of nn.Linear
        certificate = layer.certificate()
        bound = certificate.bound(radius=math.radians(10)) / certificate.norm
        print(f"{softness:8.2f}  {layer.projector.dimension:15.1f}  {bound:.4f}")

    strict = SoftLinear(grid, grid, Softness(0)).double()
    assert_equivariant(strict, torch.randn(3, 64, dtype=torch.float64), grid, grid)
    plain = bake(strict)
    x = torch.randn(3, 64, dtype=torch.float64)
    print(f"strict layer is equivariant; baked into {plain}: {torch.equal(plain(x), strict(x))}")


if __name__ == "__main__":
    main()
