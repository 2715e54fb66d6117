"""On a GPU: values and gradients against float64, the same bits every time, little memory, settings kept."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor

from bench.decoder_precision import bounds, errors, gradients, make_problem
from bench.devices import peak_mb
from tests.ops.coordinate_decoder.samples import Case, assert_same, make_case, spread

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
PRECISIONS = ("float32", "tf32", "bf16")


def moved(case: Case, **options: Any) -> Case:
    def move(x: Tensor) -> Tensor:
        return x.detach().to(**options).requires_grad_(x.requires_grad)

    w = case.weights
    one = {name: move(x) for name, x in w._asdict().items() if isinstance(x, Tensor)}
    hidden, bias = (tuple(map(move, x)) for x in (w.hidden, w.hidden_bias))
    coordinates = case.coordinates
    pair = move(coordinates) if isinstance(coordinates, Tensor) else tuple(map(move, coordinates))
    return dataclasses.replace(
        case,
        coordinates=pair,
        theta=move(case.theta),
        shift=move(case.shift),
        z=move(case.z),
        weights=w._replace(**one, hidden=hidden, hidden_bias=bias),
        x=move(case.x),
    )


@pytest.mark.parametrize("likelihood", [None, "bernoulli", "gaussian", "gaussian_learned_variance"])
@pytest.mark.parametrize("activation", ["tanh", "leaky_relu"])
@pytest.mark.parametrize("options", [{}, {"mask": "disc"}, {"residual": True}], ids=str)
@pytest.mark.parametrize("listed", [False, True], ids=["grid", "list"])
def test_against_the_specification_in_float64(
    listed: bool, options: dict[str, Any], activation: str, likelihood: str | None
) -> None:
    if listed and "mask" in options:
        pytest.skip("the disc is one of a grid")
    case = make_case(7, (9, 8), units=24, layers=2, outputs=2, listed=listed, channels=1)
    if likelihood in ("bernoulli", "gaussian"):
        case = make_case(7, (9, 8), units=24, layers=2, outputs=1, listed=listed)
    results = []
    for at, backend in ((moved(case, device="cuda"), "torch"), (case, "reference")):
        chosen = {**options, "activation": activation, "backend": backend}
        out = (
            at.values(**chosen) if likelihood is None else at.log_likelihood(likelihood=likelihood, **chosen)
        )
        grads = at.gradients(out, spread(out.cpu()).to(out.device))
        results.append({name: g.cpu() for name, g in {"out": out.detach(), **grads}.items()})
    assert_same(*results, rtol=1e-10)


@pytest.mark.parametrize("size", [28, 40])
@pytest.mark.parametrize("activation", ["tanh", "leaky_relu"])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_stated_accuracy(precision: str, activation: str, size: int) -> None:
    problem = make_problem(size, 8, seed=1000, device="cuda")
    found = errors(problem, activation, precision)
    for name, bound in bounds(activation, precision).items():
        assert found[name] <= bound, name


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_same_bits_every_time(precision: str) -> None:
    problem = make_problem(28, 100, seed=0, device="cuda")
    first = gradients(problem, "tanh", precision)
    for _ in range(3):
        for name, value in gradients(problem, "tanh", precision).items():
            assert torch.equal(value, first[name]), name


def test_deterministic_algorithms_allow_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    try:
        gradients(make_problem(28, 4, seed=0, device="cuda"), "tanh", "float32")
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_memory(precision: str) -> None:
    """128 MiB for tiles beside what is of the size of the weights, the tables and the images."""
    problem = make_problem(40, 400, seed=0, device="cuda")
    used = peak_mb(lambda: gradients(problem, "tanh", precision), "cuda")
    one_tensor = 400 * 40**2 * 500 * 4 / 1e6
    assert used < 2**27 / 1e6 + 100 < one_tensor / 4


@pytest.mark.parametrize("precision", PRECISIONS)
def test_pytorchs_setting_changes_nothing_and_is_kept(precision: str) -> None:
    matmul = torch.backends.cuda.matmul
    problem = make_problem(28, 4, seed=0, device="cuda")
    expected = gradients(problem, "tanh", precision)
    before = matmul.fp32_precision
    matmul.fp32_precision = "tf32"
    try:
        found = gradients(problem, "tanh", precision)
        assert matmul.fp32_precision == "tf32"
    finally:
        matmul.fp32_precision = before
    for name, value in found.items():
        assert torch.equal(value, expected[name]), name


def test_tf32_and_bf16_are_not_float32() -> None:
    """The matrix units are used: float32 would be a thousand times more accurate."""
    problem = make_problem(28, 8, seed=0, device="cuda")
    exact = errors(problem, "tanh", "float32")["gradients"]
    assert errors(problem, "tanh", "tf32")["gradients"] > 10 * exact
    assert errors(problem, "tanh", "bf16")["gradients"] > 100 * exact
