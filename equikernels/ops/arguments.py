"""What the operations ask of data and of what comes with every sample: checks, and one form for all."""

from __future__ import annotations

import numbers
from collections.abc import Sequence

import torch
from torch import Tensor

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
SHAPES = {4: "(N, C, H, W)", 5: "(N, C, D, H, W)"}


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype of angles, matrices, coordinates and weights for data of `dtype`."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def check_data(name: str, z: Tensor, ranks: Sequence[int]) -> None:
    """Refuse what is no dense floating tensor with one of these numbers of dimensions."""
    if not isinstance(z, Tensor):
        raise TypeError(f"{name}: expected a tensor, got {type(z).__name__}")
    if z.dtype not in DTYPES:
        raise TypeError(f"{name}: expected float32, float64, bfloat16 or float16, got {z.dtype}")
    if z.layout != torch.strided:
        raise TypeError(f"{name}: expected a dense tensor, got {z.layout}")
    if z.dim() not in ranks:
        expected = " or ".join(f"{rank} dimensions {SHAPES[rank]}" for rank in ranks)
        raise ValueError(f"{name}: expected {expected}, got {z.dim()}: {tuple(z.shape)}")


def per_sample(
    name: str, noun: str, value: Tensor, tail: tuple[int, ...], z: Tensor, dtype: torch.dtype | None = None
) -> Tensor:
    """`value`, (N, *tail) or `tail` for all samples, (N, *tail) in the compute dtype of z or in `dtype`."""
    batch, dtype = z.shape[0], dtype or compute_dtype(z.dtype)
    if not isinstance(value, Tensor):
        raise TypeError(f"{name}: expected a tensor, got {type(value).__name__}")
    if not value.dtype.is_floating_point:
        raise TypeError(f"{name}: expected a floating dtype, got {value.dtype}")
    if value.device != z.device:
        raise ValueError(f"{name}: expected on {z.device}, where the data is, got {value.device}")
    # A symbolic batch of an exported program is compared with nothing but the other one.
    own = value.shape[value.dim() - len(tail) :]
    fits = value.dim() >= len(tail) and own == tail
    if fits and value.dim() == len(tail):
        value = value.expand(batch, *tail)
    if not fits or value.dim() != len(tail) + 1 or value.shape[0] != batch:
        for_all = f", or {tail} for all" if tail else ""
        raise ValueError(
            f"{name}: expected shape {(batch, *tail)}, one {noun} per sample{for_all}, "
            f"got {tuple(value.shape)}"
        )
    return value if value.dtype == dtype else value.to(dtype)


def numbers_per_sample(
    name: str, noun: str, value: Tensor | float, z: Tensor, dtype: torch.dtype | None = None
) -> Tensor:
    """One number for all samples, or (N,) of them, as (N,) in the compute dtype of z, or in `dtype`."""
    if isinstance(value, Tensor):
        return per_sample(name, noun, value, (), z, dtype)
    if not is_number(value):
        raise TypeError(f"{name}: expected a tensor or a number, got {type(value).__name__}")
    return filled(z, value, dtype)


def angles(z: Tensor, theta: Tensor | float, dtype: torch.dtype | None = None) -> Tensor:
    """The angles of the samples of `z`, (N,)."""
    return numbers_per_sample("theta", "angle", theta, z, dtype)


def is_number(value: object) -> bool:
    """Whether something is a real number; True and False are not."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def filled(z: Tensor, value: float, dtype: torch.dtype | None = None) -> Tensor:
    """One number for every sample of z, (N,), in the compute dtype, or in `dtype`."""
    return torch.full((z.shape[0],), float(value), dtype=dtype or compute_dtype(z.dtype), device=z.device)
