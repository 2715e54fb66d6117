"""What the tests of the coordinate MLP share: random decoders of every kind, and how results are compared."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from equikernels.ops import (
    CoordinateMLPWeights,
    coordinate_mlp,
    coordinate_mlp_log_likelihood,
    image_grid,
)

LIKELIHOODS = ("bernoulli", "gaussian", "gaussian_learned_variance")


@dataclasses.dataclass
class Case:
    """A decoder, its latents and its images; leaves that can require gradients."""

    coordinates: Any
    theta: Tensor
    shift: Tensor
    z: Tensor
    weights: CoordinateMLPWeights
    x: Tensor

    @property
    def leaves(self) -> dict[str, Tensor]:
        named = {"theta": self.theta, "shift": self.shift, "z": self.z, "x": self.x}
        return {**named, **self.weights.named_tensors}

    def values(self, **options: Any) -> Tensor:
        return coordinate_mlp(self.coordinates, self.theta, self.shift, self.z, self.weights, **options)

    def log_likelihood(self, **options: Any) -> Tensor:
        return coordinate_mlp_log_likelihood(
            self.coordinates, self.theta, self.shift, self.z, self.weights, self.x, **options
        )

    def gradients(self, out: Tensor, cotangent: Tensor) -> dict[str, Tensor]:
        found = torch.autograd.grad(out, list(self.leaves.values()), cotangent, allow_unused=True)
        return {name: g for name, g in zip(self.leaves, found, strict=True) if g is not None}


def make_case(
    batch: int = 3,
    size: tuple[int, int] = (5, 4),
    *,
    latents: int = 2,
    units: int = 6,
    layers: int = 1,
    channels: int = 1,
    outputs: int | None = None,
    inputs: int = 2,
    bilinear: bool = False,
    listed: bool = False,
    scale: float = 1.0,
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
) -> Case:
    """A random decoder; `scale` multiplies the weights of the coordinates, `listed` gives (P, 2)."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int, scale: float = 1.0) -> Tensor:
        values = torch.randn(shape, generator=generator, dtype=torch.float64) * scale
        return values.to(dtype).requires_grad_()

    outputs = channels if outputs is None else outputs
    weights = CoordinateMLPWeights(
        coordinate=random(units, inputs, scale=scale),
        latent=random(units, latents),
        bias=random(units),
        hidden=tuple(random(units, units, scale=units**-0.5) for _ in range(layers)),
        hidden_bias=tuple(random(units) for _ in range(layers)),
        output=random(outputs, units, scale=units**-0.5),
        output_bias=random(outputs),
        bilinear=random(units, inputs, latents) if bilinear else None,
    )
    x, y = image_grid(*size, dtype=dtype)
    points = torch.stack([x.expand(size), y[:, None].expand(size)], dim=-1).flatten(0, 1)
    images = torch.rand(batch, points.shape[0], channels, generator=generator, dtype=torch.float64)
    return Case(
        coordinates=points if listed else (x, y),
        theta=random(batch),
        shift=random(batch, 2),
        z=random(batch, latents),
        weights=weights,
        x=images.to(dtype).requires_grad_(),
    )


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor], rtol: float) -> None:
    """Every tensor to `rtol` of its largest entry: sums over pixels and units cancel in single entries."""
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        scale = float(value.abs().max()) if value.numel() else 0.0
        torch.testing.assert_close(
            found[name], value, rtol=0, atol=rtol * scale, msg=lambda text, name=name: f"{name}: {text}"
        )


def spread(out: Tensor) -> Tensor:
    """A cotangent without symmetries."""
    return torch.linspace(-1, 2, out.numel(), dtype=out.dtype).view(out.shape)
