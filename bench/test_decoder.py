"""A training step of the spatial-VAE decoder against the textbook implementation, eager and compiled."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import pytest
import torch
from torch import Tensor

from bench.decoder_gate import BATCH, SIZES, UNITS, LogLikelihood, Step, ours, textbook, training_step
from bench.devices import DEVICES, measure
from bench.gates import OURS
from equikernels.ops import coordinate_mlp_log_likelihood

TEXTBOOK, COMPILED, COMPILED_TF32 = "textbook", "torch.compile(textbook)", "torch.compile(textbook), TF32"
GPU = pytest.param("cuda", marks=pytest.mark.gpu)


def compiled_textbook() -> LogLikelihood:
    torch._dynamo.reset()
    return torch.compile(textbook, dynamic=False)


PROVIDERS: dict[str, Callable[[], LogLikelihood]] = {
    OURS: lambda: ours,
    TEXTBOOK: lambda: textbook,
    COMPILED: compiled_textbook,
}
# On a CPU, TF32 and bf16 are emulated: no time to compare. PyTorch's setting decides what the peers do.
ON_GPU = {"coordinate_mlp, TF32": "tf32", "coordinate_mlp, bf16": "bf16"}


@contextmanager
def products_in(precision: str) -> Iterator[None]:
    """PyTorch's own products of float32 matrices on a GPU, "ieee" or "tf32"."""
    matmul = torch.backends.cuda.matmul
    before, matmul.fp32_precision = matmul.fp32_precision, precision
    try:
        yield
    finally:
        matmul.fp32_precision = before


def timed(
    benchmark: object, operation: str, provider: str, log_likelihood: LogLikelihood, size: int, device: str
) -> None:
    with products_in("tf32" if provider == COMPILED_TF32 else "ieee"):
        call = training_step(log_likelihood, Step(size, device=device))
        call()  # compilation is not what is measured
        name = f"{BATCH}x{size}x{size} hidden {UNITS}"
        measure(
            benchmark,
            call,
            device,
            operation=operation,
            provider=provider,
            mode="forward+backward",
            size=name,
        )


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size}x{size}")
def test_training_step(benchmark, size: int, provider: str, device: str) -> None:  # type: ignore[no-untyped-def]
    timed(benchmark, "coordinate_mlp", provider, PROVIDERS[provider](), size, device)


@pytest.mark.parametrize("device", [GPU])
@pytest.mark.parametrize("provider", [*PROVIDERS, COMPILED_TF32])
@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size}x{size}")
@pytest.mark.parametrize("operation", ON_GPU)
def test_training_step_of_a_precision(  # type: ignore[no-untyped-def]
    benchmark, operation: str, size: int, provider: str, device: str
) -> None:
    peers = {**PROVIDERS, COMPILED_TF32: compiled_textbook}
    of = partial(ours, precision=ON_GPU[operation]) if provider == OURS else peers[provider]()
    timed(benchmark, operation, provider, of, size, device)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("provider", [OURS, TEXTBOOK])
def test_providers_compute_the_same(provider: str, device: str) -> None:
    step = Step(9, batch=3, units=20, device=device)

    def reference(step: Step) -> Tensor:
        return coordinate_mlp_log_likelihood(
            step.grid, step.theta, step.shift, step.z, step.weights, step.x, backend="reference"
        )

    peer = PROVIDERS[provider]()
    torch.testing.assert_close(peer(step), reference(step), rtol=1e-5, atol=1e-3)
    expected = training_step(reference, step)()
    for found, wanted in zip(training_step(peer, step)(), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
