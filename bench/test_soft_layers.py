"""Soft layers beside plain ones and a textbook one: evaluation, training steps, structured products."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from bench.devices import DEVICES, measure
from bench.gates import OURS
from bench.soft_layers import (
    CUTOFF,
    FIELDS,
    GRID,
    REGULAR,
    SIZES,
    STACK,
    VECTORS,
    PlainWithProducts,
    TextbookSoftLinear,
    four_products,
    plain,
    soft,
    training_step,
)
from equikernels.group import Representation
from equikernels.nn import SoftLinear, SoftSequential
from equikernels.project import Softness

PLAIN = "plain linear layer"

Make = Callable[[Representation, int, int], nn.Module]

LAYERS: dict[str, Make] = {
    OURS: soft,
    PLAIN: plain,
    "textbook": lambda rep, c_in, c_out: TextbookSoftLinear(rep, c_in, c_out, CUTOFF),
}

PRODUCTS = "plain linear layer + dense products of a projection"
RAW, SCHUR = "soft linear", "soft linear, Schur coefficients"

STEPS: dict[tuple[str, str], Make] = {
    **{(RAW, provider): make for provider, make in LAYERS.items()},
    (RAW, PRODUCTS): PlainWithProducts,
    (SCHUR, OURS): lambda rep, c_in, c_out: soft(rep, c_in, c_out, "schur"),
    (SCHUR, PLAIN): plain,
}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("provider", LAYERS)
@pytest.mark.parametrize("size", SIZES)
def test_evaluation(benchmark, size: str, provider: str, device: str) -> None:  # type: ignore[no-untyped-def]
    torch.manual_seed(0)
    rep, c_in, c_out, batch = SIZES[size]
    layer = LAYERS[provider](rep, c_in, c_out).eval().to(device)
    x = torch.randn(batch, c_in * rep.dim, device=device)

    def call() -> Tensor:
        with torch.no_grad():
            return layer(x)  # type: ignore[no-any-return]

    call()
    measure(benchmark, call, device, operation=RAW, provider=provider, mode="evaluation", size=size)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("operation", "provider"), STEPS)
@pytest.mark.parametrize("size", SIZES)
def test_training_step(benchmark, size: str, operation: str, provider: str, device: str) -> None:  # type: ignore[no-untyped-def]
    torch.manual_seed(0)
    rep, c_in, c_out, batch = SIZES[size]
    layer = STEPS[operation, provider](rep, c_in, c_out).to(device)
    step = training_step(layer, batch, c_in * rep.dim)
    step()
    measure(benchmark, step, device, operation=operation, provider=provider, mode="training step", size=size)


# -- strictly equivariant layers, structured -----------------------------------------------------------------

BATCHES = (256, 4096)


def strict() -> SoftLinear:
    return SoftLinear(REGULAR, REGULAR, Softness(0), FIELDS, FIELDS, bias=False)


def dense() -> nn.Linear:
    return nn.Linear(FIELDS * REGULAR.dim, FIELDS * REGULAR.dim, bias=False)


STRUCTURED: dict[str, dict[str, Callable[[], nn.Module]]] = {
    "structured linear": {OURS: strict, PLAIN: dense},
    f"structured linear, stack of {STACK}": {
        OURS: lambda: SoftSequential(*(strict() for _ in range(STACK))),
        PLAIN: lambda: nn.Sequential(*(dense() for _ in range(STACK))),
    },
}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("mode", ["evaluation", "training step"])
@pytest.mark.parametrize("provider", [OURS, PLAIN])
@pytest.mark.parametrize("operation", STRUCTURED)
@pytest.mark.parametrize("batch", BATCHES)
def test_structured(benchmark, batch: int, operation: str, provider: str, mode: str, device: str) -> None:  # type: ignore[no-untyped-def]
    torch.manual_seed(0)
    model, width = STRUCTURED[operation][provider]().to(device), FIELDS * REGULAR.dim
    call = training_step(model, batch, width)
    if mode == "evaluation":
        model.eval()
        x = torch.randn(batch, width, device=device)

        def call() -> None:
            with torch.no_grad():
                model(x)

    call()
    size = f"C_8 regular, {FIELDS} to {FIELDS} fields, batch {batch}"
    measure(benchmark, call, device, operation=operation, provider=provider, mode=mode, size=size)


# -- the peers are what they are said to be --------------------------------------------------------------


@pytest.mark.parametrize("rep", [GRID, VECTORS], ids=["grid", "vectors"])
def test_the_textbook_projects_alike(rep: Representation) -> None:
    torch.manual_seed(0)
    ours, textbook = soft(rep, 2, 3), TextbookSoftLinear(rep, 2, 3, CUTOFF)
    with torch.no_grad():
        textbook.weight.copy_(ours.weight)
    torch.testing.assert_close(textbook.projected(), ours.projected_weight, rtol=0, atol=1e-5)


def test_the_products_are_there_and_back() -> None:
    torch.manual_seed(0)
    w, u = torch.randn(2 * GRID.dim, 3 * GRID.dim), torch.tensor(GRID.change_of_basis, dtype=torch.float32)
    torch.testing.assert_close(four_products(w, u), w, rtol=0, atol=1e-4)
