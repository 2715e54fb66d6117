"""Matrix products of the hidden layers in the precision that was asked for.

A precision says what the two factors of a product are rounded to; the products of their entries are summed in
float32. "tf32" keeps 10 bits of a mantissa, "bf16" keeps 7, "float32" takes the factors as they are.

On a CPU PyTorch has no products of bf16 matrices whose results are float32, so there the factors are rounded
and multiplied in float32, which is exact about it: a product of two rounded entries has 22 bits at most. A
GPU has matrix units for both. What these do to the low bits of a factor of TF32 is theirs: they may cut them
off.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor

PRECISIONS = ("float32", "tf32", "bf16")

# A mantissa of float32 has 23 bits, one of TF32 has 10.
_CUT = 13
# Held while PyTorch's setting for products of float32 matrices is not the caller's.
_turn = threading.RLock()


def check_precision(precision: object, dtype: torch.dtype) -> None:
    """Raise ValueError unless products of matrices of `dtype` can have that precision."""
    if precision not in PRECISIONS:
        raise ValueError(f"precision: expected one of {', '.join(PRECISIONS)}, got {precision!r}")
    if dtype == torch.float64 and precision != "float32":
        raise ValueError(f'precision: expected "float32" for float64 data, got {precision!r}')


def round_factor(x: Tensor, precision: str, out: Tensor) -> Tensor:
    """A float32 tensor rounded to "tf32" or "bf16", to nearest and ties to even, written to `out`."""
    if precision == "bf16":
        return out.copy_(x.bfloat16())
    bits, into = x.view(torch.int32), out.view(torch.int32)
    torch.bitwise_right_shift(bits, _CUT, out=into)
    into.bitwise_and_(1).add_(bits).add_(2 ** (_CUT - 1) - 1).bitwise_and_(-(2**_CUT))
    # The bits of a NaN would round to infinity, or run over.
    return torch.where(x.isnan(), x, out, out=out)


class RoundedProduct(torch.autograd.Function):
    """Products of rounded matrices (m, k), (k, n), whose derivatives are such products, to any order."""

    generate_vmap_rule = True

    @staticmethod
    def forward(a: Tensor, b: Tensor, precision: str) -> Tensor:
        left, right = (round_factor(x, precision, torch.empty_like(x)) for x in (a, b))
        return left @ right

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        *factors, ctx.precision = inputs
        ctx.save_for_backward(*factors)
        ctx.save_for_forward(*factors)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        a, b = ctx.saved_tensors
        return rounded_product(grad, b.mT, ctx.precision), rounded_product(a.mT, grad, ctx.precision), None

    @staticmethod
    def jvp(ctx: Any, a_tangent: Tensor, b_tangent: Tensor, _: None) -> Tensor:
        a, b = ctx.saved_tensors
        by_a = rounded_product(a_tangent, b, ctx.precision)
        return by_a + rounded_product(a, b_tangent, ctx.precision)


def rounded_product(a: Tensor, b: Tensor, precision: str) -> Tensor:
    """a (m, k) times b (k, n), both rounded to "tf32" or "bf16"."""
    found: Tensor = RoundedProduct.apply(a, b, precision)  # type: ignore[no-untyped-call]
    return found


@contextmanager
def matmul_setting(wanted: str) -> Iterator[None]:
    """PyTorch's setting for products of float32 matrices on a GPU, "ieee" or "tf32", restored afterwards.

    The setting is one for the whole process. It is touched only where it is another one.
    """
    matmul = torch.backends.cuda.matmul
    with _turn:
        before = matmul.fp32_precision
        if before == wanted or (before == "none" and wanted == "ieee"):
            yield
            return
        matmul.fp32_precision = wanted
        try:
            yield
        finally:
            # What was inherited from a more general setting is inherited again.
            matmul.fp32_precision = "none"
            if matmul.fp32_precision != before:
                matmul.fp32_precision = before


def full_products(device: torch.device) -> Any:
    """Products of float32 matrices in float32 meanwhile, whatever PyTorch's setting for a GPU is."""
    return matmul_setting("ieee") if device.type == "cuda" else nullcontext()


class Products:
    """Products of the factors as they are; `weights` (L, H, H) are those of the hidden layers."""

    copies = 0
    """How many factors of a tile are kept apart from the tensors that they come from."""

    def __init__(self, weights: Tensor) -> None:
        self.weights = weights

    def buffers(self, rows: int) -> list[Tensor]:
        """The memory for them."""
        return [self.weights.new_empty(rows, self.weights.shape[2]) for _ in range(self.copies)]

    @property
    def row_bytes(self) -> int:
        """Of the buffers, for each row."""
        return self.copies * self.weights.shape[2] * self.weights.element_size()

    def factor(self, x: Tensor, buffers: list[Tensor], which: int) -> Tensor:
        """`x` (rows, H) as a factor of products, which is `x` itself or lies in ``buffers[which]``."""
        return x

    def affine(self, bias: Tensor, a: Tensor, b: Tensor, scale: int, out: Tensor) -> None:
        """out = scale (bias + a b)."""
        torch.addmm(bias, a, b, beta=scale, alpha=scale, out=out)

    def multiply(self, a: Tensor, b: Tensor, out: Tensor) -> None:
        """out = a b."""
        torch.mm(a, b, out=out)

    def accumulate(self, total: Tensor, a: Tensor, b: Tensor) -> None:
        """total = total + a b."""
        total.addmm_(a, b)


class RoundedProducts(Products):
    """Factors rounded to float32 numbers with fewer bits, multiplied in float32."""

    copies = 2

    def __init__(self, weights: Tensor, precision: str) -> None:
        super().__init__(round_factor(weights, precision, torch.empty_like(weights)))
        self.precision = precision

    def factor(self, x: Tensor, buffers: list[Tensor], which: int) -> Tensor:
        return round_factor(x, self.precision, buffers[which])


class TF32Products(Products):
    """The TF32 units of a GPU, through PyTorch's setting, which is local to each product."""

    def affine(self, bias: Tensor, a: Tensor, b: Tensor, scale: int, out: Tensor) -> None:
        with matmul_setting("tf32"):
            super().affine(bias, a, b, scale, out)

    def multiply(self, a: Tensor, b: Tensor, out: Tensor) -> None:
        with matmul_setting("tf32"):
            super().multiply(a, b, out)

    def accumulate(self, total: Tensor, a: Tensor, b: Tensor) -> None:
        with matmul_setting("tf32"):
            super().accumulate(total, a, b)


class BF16Products(Products):
    """The bf16 units of a GPU, with results in float32."""

    copies = 2

    def __init__(self, weights: Tensor) -> None:
        super().__init__(weights.bfloat16())

    def factor(self, x: Tensor, buffers: list[Tensor], which: int) -> Tensor:
        return buffers[which].copy_(x)

    def affine(self, bias: Tensor, a: Tensor, b: Tensor, scale: int, out: Tensor) -> None:
        self.multiply(a, b, out)
        torch.add(scale * bias, out, alpha=scale, out=out)

    def multiply(self, a: Tensor, b: Tensor, out: Tensor) -> None:
        widening_mm(a, b, out)

    def accumulate(self, total: Tensor, a: Tensor, b: Tensor) -> None:
        product = torch.empty_like(total)
        self.multiply(a, b, product)
        total.add_(product)


def widening_mm(a: Tensor, b: Tensor, out: Tensor) -> None:
    """The product of bf16 matrices in float32, which PyTorch has on a GPU."""
    torch.mm(a, b, torch.float32, out=out)


def make_products(weights: Tensor, precision: str) -> Products:
    """The products of a network with these hidden weights, on their device."""
    if precision == "float32":
        return Products(weights)
    if weights.device.type != "cuda":
        return RoundedProducts(weights, precision)
    return TF32Products(weights) if precision == "tf32" else BF16Products(weights)
