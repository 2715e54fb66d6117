"""Learning rates, optimizers and averages."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from equikernels.models.engine import ConfigurationError, OptimizerOptions
from equikernels.models.engine.optimization import WeightAverage, learning_rate, make_optimizer
from equikernels.models.engine.processes import _buckets


@given(
    st.sampled_from(["constant", "linear", "cosine"]), st.integers(0, 6), st.integers(1, 20), st.floats(0, 1)
)
def test_learning_rates_rise_then_fall_to_the_last_one(
    schedule: str, warmup: int, steps: int, final: float
) -> None:
    options = OptimizerOptions(
        learning_rate=1.0,
        schedule=schedule,
        warmup_steps=warmup,
        final_learning_rate=final,  # type: ignore[arg-type]
    )
    rates = [learning_rate(options, step, steps) for step in range(steps)]
    rising, falling = rates[: warmup + 1], rates[warmup:]
    assert rising == sorted(rising)
    assert all(0 < rate <= 1 for rate in rising)
    if falling:
        assert falling[0] == 1.0
        assert falling == sorted(falling, reverse=True)
    if len(falling) > 1:
        assert falling[-1] == pytest.approx(1.0 if schedule == "constant" else final)
    if schedule == "linear" and len(falling) > 2:
        assert falling[1] - falling[0] == pytest.approx(falling[2] - falling[1])


def test_the_cosine_is_at_its_mean_half_way() -> None:
    options = OptimizerOptions(learning_rate=3.0, schedule="cosine", final_learning_rate=1.0)
    assert learning_rate(options, 50, 101) == pytest.approx(2.0)
    assert learning_rate(options, 25, 101) == pytest.approx(2.0 + math.sqrt(0.5))


def test_options_reach_the_optimizer() -> None:
    model = nn.Linear(2, 2)
    model.bias.requires_grad_(False)
    options = OptimizerOptions(
        learning_rate=0.3, weight_decay=0.2, betas=(0.5, 0.6), epsilon=1e-3, momentum=0.4
    )
    for algorithm, kind in (("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)):
        optimizer = make_optimizer(model, dataclasses.replace(options, algorithm=algorithm))  # type: ignore[arg-type]
        assert type(optimizer) is kind
        (group,) = optimizer.param_groups
        assert (group["lr"], group["weight_decay"], group["betas"], group["eps"]) == (
            0.3,
            0.2,
            (0.5, 0.6),
            1e-3,
        )
        assert group["params"] == [model.weight]
    (group,) = make_optimizer(model, dataclasses.replace(options, algorithm="sgd")).param_groups
    assert (group["lr"], group["weight_decay"], group["momentum"]) == (0.3, 0.2, 0.4)
    with pytest.raises(ConfigurationError, match=r"Linear has no parameter to train"):
        make_optimizer(model.requires_grad_(False), options)


def test_an_average_is_the_weighted_sum_of_all_steps() -> None:
    model = nn.Linear(1, 1, bias=False)
    values = [1.0, 5.0, -2.0]
    average = None
    for value in values:
        nn.init.constant_(model.weight, value)
        if average is None:
            average = WeightAverage(model, 0.75)
        else:
            average.update(model)
    assert average is not None
    expected = 0.75**2 * 1.0 + 0.25 * 0.75 * 5.0 + 0.25 * -2.0
    assert float(average.tensors["weight"]) == pytest.approx(expected)
    with average.in_place_of(model):
        assert model.weight.item() == pytest.approx(expected)
    assert model.weight.item() == -2.0


def test_gradients_are_sent_in_few_messages_of_one_dtype() -> None:
    parameters = [nn.Parameter(torch.zeros(n)) for n in (3, 4, 5, 20, 1)]
    parameters.insert(2, nn.Parameter(torch.zeros(1, dtype=torch.float64)))
    buckets = _buckets(parameters, largest=8)
    assert [[p.numel() for p in bucket] for bucket in buckets] == [[3, 4], [1], [5], [20], [1]]
    assert [p for bucket in buckets for p in bucket] == parameters
