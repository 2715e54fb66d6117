"""A training step of the spatial-VAE decoder against the textbook implementation, eager and compiled."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from bench.decoder_gate import BATCH, SIZES, UNITS, LogLikelihood, Step, ours, textbook, training_step
from bench.devices import measure
from bench.gates import OURS
from equikernels.ops import coordinate_mlp_log_likelihood


def compiled_textbook() -> LogLikelihood:
    torch._dynamo.reset()
    return torch.compile(textbook, dynamic=False)


PROVIDERS: dict[str, Callable[[], LogLikelihood]] = {
    OURS: lambda: ours,
    "textbook": lambda: textbook,
    "torch.compile(textbook)": compiled_textbook,
}


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size}x{size}")
def test_training_step(benchmark, size: int, provider: str) -> None:  # type: ignore[no-untyped-def]
    call = training_step(PROVIDERS[provider](), Step(size))
    call()  # compilation is not what is measured
    name = f"{BATCH}x{size}x{size} hidden {UNITS}"
    measure(
        benchmark,
        call,
        "cpu",
        operation="coordinate_mlp",
        provider=provider,
        mode="forward+backward",
        size=name,
    )


@pytest.mark.parametrize("provider", [OURS, "textbook"])
def test_providers_compute_the_same(provider: str) -> None:
    step = Step(9, batch=3, units=20)

    def reference(step: Step) -> torch.Tensor:
        return coordinate_mlp_log_likelihood(
            step.grid, step.theta, step.shift, step.z, step.weights, step.x, backend="reference"
        )

    peer = PROVIDERS[provider]()
    torch.testing.assert_close(peer(step), reference(step), rtol=1e-5, atol=1e-3)
    expected = training_step(reference, step)()
    for found, wanted in zip(training_step(peer, step)(), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
