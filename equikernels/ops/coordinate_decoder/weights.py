"""The parameters of a coordinate MLP."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

COORDINATES = 2
EXPANDED_COORDINATES = 5


class CoordinateMLPWeights(NamedTuple):
    """Parameters of a coordinate MLP with H hidden units, Z latent variables and C output channels.

    Weights have the shapes that torch.nn.Linear and torch.nn.Bilinear give them; D is 2, or 5 for expanded
    coordinates.

    >>> import torch
    >>> h, z, c = 16, 2, 1
    >>> weights = CoordinateMLPWeights(
    ...     coordinate=torch.randn(h, 2), latent=torch.randn(h, z), bias=torch.zeros(h),
    ...     hidden=(torch.randn(h, h),), hidden_bias=(torch.zeros(h),),
    ...     output=torch.randn(c, h), output_bias=torch.zeros(c),
    ... )
    >>> weights.bilinear is None
    True
    """

    coordinate: Tensor
    """(H, 2), or (H, 5) on (x, y, x^2, y^2, xy)."""
    latent: Tensor
    """(H, Z)."""
    bias: Tensor
    """(H,), of the first layer."""
    hidden: tuple[Tensor, ...]
    """(H, H) for every hidden layer; may be empty."""
    hidden_bias: tuple[Tensor, ...]
    """(H,) for every hidden layer."""
    output: Tensor
    """(C, H)."""
    output_bias: Tensor
    """(C,)."""
    bilinear: Tensor | None = None
    """(H, D, Z), between coordinates and latents."""

    @property
    def named_tensors(self) -> dict[str, Tensor]:
        """Every parameter under the name that error messages use."""
        named = {
            "weights.coordinate": self.coordinate,
            "weights.latent": self.latent,
            "weights.bias": self.bias,
            **{f"weights.hidden[{k}]": weight for k, weight in enumerate(self.hidden)},
            **{f"weights.hidden_bias[{k}]": bias for k, bias in enumerate(self.hidden_bias)},
            "weights.output": self.output,
            "weights.output_bias": self.output_bias,
        }
        return named if self.bilinear is None else {**named, "weights.bilinear": self.bilinear}


def check_weights(weights: CoordinateMLPWeights) -> None:
    """Raise TypeError or ValueError, naming the parameter, unless the shapes belong together."""
    if not isinstance(weights, CoordinateMLPWeights):
        raise TypeError(f"weights: expected CoordinateMLPWeights, got {type(weights).__name__}")
    for name in ("hidden", "hidden_bias"):
        if not isinstance(getattr(weights, name), (tuple, list)):
            raise TypeError(
                f"weights.{name}: expected a tuple of tensors, got {type(getattr(weights, name)).__name__}"
            )
    if len(weights.hidden) != len(weights.hidden_bias):
        raise ValueError(
            f"weights.hidden_bias: expected one for each of the {len(weights.hidden)} hidden layers, "
            f"got {len(weights.hidden_bias)}"
        )
    for name, tensor in weights.named_tensors.items():
        if not isinstance(tensor, Tensor):
            raise TypeError(f"{name}: expected a tensor, got {type(tensor).__name__}")
        if tensor.dtype not in (torch.float32, torch.float64):
            raise TypeError(f"{name}: expected float32 or float64, got {tensor.dtype}")
        check_alike(name, tensor, weights.coordinate)
    coordinate, latent, output = weights.coordinate, weights.latent, weights.output
    if coordinate.dim() != 2 or coordinate.shape[1] not in (COORDINATES, EXPANDED_COORDINATES):
        raise ValueError(f"weights.coordinate: expected (H, 2) or (H, 5), got {tuple(coordinate.shape)}")
    hidden, inputs = coordinate.shape
    for name, tensor in (("latent", latent), ("output", output)):
        if tensor.dim() != 2:
            raise ValueError(f"weights.{name}: expected 2 dimensions, got {tuple(tensor.shape)}")
    expected: dict[str, tuple[int, ...]] = {
        "weights.latent": (hidden, latent.shape[1]),
        "weights.bias": (hidden,),
        "weights.output": (output.shape[0], hidden),
        "weights.output_bias": (output.shape[0],),
        "weights.bilinear": (hidden, inputs, latent.shape[1]),
        **{f"weights.hidden[{k}]": (hidden, hidden) for k in range(len(weights.hidden))},
        **{f"weights.hidden_bias[{k}]": (hidden,) for k in range(len(weights.hidden))},
    }
    for name, tensor in weights.named_tensors.items():
        if name in expected and tuple(tensor.shape) != expected[name]:
            raise ValueError(f"{name}: expected shape {expected[name]}, got {tuple(tensor.shape)}")


def check_alike(name: str, tensor: Tensor, weight: Tensor) -> None:
    """Raise unless a tensor is dense and has the dtype and the device of the weights."""
    if tensor.layout != torch.strided:
        raise TypeError(f"{name}: expected a dense tensor, got {tensor.layout}")
    if tensor.dtype != weight.dtype:
        raise TypeError(f"{name}: expected the dtype of the weights, {weight.dtype}, got {tensor.dtype}")
    if tensor.device != weight.device:
        raise ValueError(
            f"{name}: expected on the device of the weights, {weight.device}, got {tensor.device}"
        )
