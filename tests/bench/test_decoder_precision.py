"""The stated accuracy of the decoder's precisions holds on seeds that its page has not seen."""

from __future__ import annotations

from functools import cache

import pytest

from bench.decoder_precision import (
    ACTIVATIONS,
    PAGE,
    PRECISIONS,
    SEEDS,
    SIZES,
    Problem,
    bounds,
    errors,
    guarantee,
    make_problem,
)


@cache
def problem_of(size: int) -> Problem:
    return make_problem(size, 8, SEEDS + 1)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_stated_bounds(precision: str, activation: str, size: int) -> None:
    found = errors(problem_of(size), activation, precision)
    for name, bound in bounds(activation, precision).items():
        assert found[name] <= bound, name
    if precision != "float32":
        assert found["log-likelihood"] <= guarantee(problem_of(size), activation, precision)


def test_errors_grow_as_bits_go() -> None:
    """Were a precision ignored, its errors would be those of another."""
    float32, tf32, cut_off, bf16 = (errors(problem_of(28), "tanh", each)["hidden"] for each in PRECISIONS)
    assert 100 * float32 < tf32 < cut_off
    assert 3 * tf32 < bf16


def test_the_page_keeps_what_it_states() -> None:
    lines = [line for line in PAGE.read_text("utf-8").splitlines() if line.startswith(("| 28x28", "| 40x40"))]
    assert len(lines) == len(SIZES) * len(ACTIVATIONS) * len(PRECISIONS)
    for line in lines:
        _, activation, precision, *cells = (cell.strip() for cell in line.strip("|").split("|"))
        likelihood, stated, certain, weights, pose, stated_of_gradients = (float(x or "inf") for x in cells)
        expected = bounds(activation, precision)
        assert stated == pytest.approx(expected["log-likelihood"], rel=0.05)
        assert stated_of_gradients == pytest.approx(expected["gradients"], rel=0.05)
        assert likelihood <= min(stated, certain)
        assert max(weights, pose) <= stated_of_gradients
