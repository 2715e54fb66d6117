"""The regression on vectors: its data, its network's symmetry, what the task measures."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest
import torch

from equikernels.group import Orthogonal
from equikernels.models.data import SampleDraws, load_dataset
from equikernels.models.data.readers.invariant_regression import invariant_target
from equikernels.models.engine import Batches, ConfigurationError, default_configuration, train
from equikernels.models.soft_equivariance.regression import ProductBlock, Scaled, SoftRegressor, mlp
from equikernels.models.soft_equivariance.tasks import RegressionOptions, SoftRegressionTask
from equikernels.nn import SoftLinear


def test_targets_are_the_formula() -> None:
    batch = load_dataset("invariant-regression", count=20, sigma=0.7).fetch(torch.arange(20))
    for points, target in zip(batch["points"].tolist(), batch["target"].tolist(), strict=True):
        a, b = points
        la, lb = math.hypot(*a), math.hypot(*b)
        inner = sum(x * y for x, y in zip(a, b, strict=True))
        broken = (abs(a[0]) + abs(a[1]) + abs(b[0]) + abs(b[1])) / (
            abs(a[2]) + abs(a[3]) + abs(b[2]) + abs(b[3]) + 1
        )
        expected = math.sin(la) - lb**3 / 2 + inner / (la * lb) + 0.7 * broken
        assert target == pytest.approx(expected, rel=1e-5)
    points = batch["points"].double()
    turn = Orthogonal(5).sample(1, dtype=torch.float64)[0]
    torch.testing.assert_close(invariant_target(points @ turn.mT, 0), invariant_target(points, 0))
    assert (invariant_target(points @ turn.mT, 1) - invariant_target(points, 1)).abs().max() > 0.1


def test_samples_belong_to_their_number_and_seed() -> None:
    few, many = (load_dataset("invariant-regression", count=c).fetch(torch.arange(5)) for c in (5, 50))
    assert torch.equal(few["points"], many["points"])
    other = load_dataset("invariant-regression", count=5, seed=1)
    assert not torch.equal(few["points"], other.fetch(torch.arange(5))["points"])
    prints = {load_dataset("invariant-regression", count=5, sigma=s).fingerprint for s in (0.0, 1.0)}
    assert len(prints) == 2
    every = load_dataset("invariant-regression", count=2000).fetch(torch.arange(2000))["points"]
    assert float(every.std()) == pytest.approx(1, abs=0.03)
    for options, message in (
        ({"count": 0}, "count: expected an integer >= 1, got 0"),
        ({"dimension": 3}, "dimension: expected an integer >= 4, got 3"),
        ({"sigma": -1.0}, "sigma: expected a number >= 0, got -1.0"),
    ):
        with pytest.raises(ValueError, match=message):
            load_dataset("invariant-regression", **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("softness", [0.0, 0.3, 1.0])
def test_softness_decides_the_invariance(softness: float) -> None:
    torch.manual_seed(0)
    model = SoftRegressor(channels=2, blocks=2, softness=softness).double()
    points = torch.randn(6, 2, 5, dtype=torch.float64)
    turn = Orthogonal(5).sample(1, dtype=torch.float64)[0]
    change = float((model(points @ turn.mT) - model(points)).abs().max())
    assert (change < 1e-9) == (softness == 0)
    assert model(points).std() > 1e-6  # no constant


@pytest.mark.parametrize("softness", [0.0, 0.1, 1.0])
def test_layers_begin_as_large_as_plain_ones(softness: float) -> None:
    torch.manual_seed(0)
    for layer in SoftRegressor(channels=4, blocks=1, softness=softness).modules():
        if isinstance(layer, SoftLinear):
            squares = []
            for _ in range(200):  # a strict head has eight free numbers: one drawing says little
                layer.reset_parameters()
                squares.append(float(layer.projected_weight.detach().square().sum()))
            plain = layer.out_features / 3  # |W|^2 of nn.Linear, uniform in +-1 / sqrt(in)
            assert sum(squares) / len(squares) == pytest.approx(plain, rel=0.15)


def test_products_tell_the_angle_between_two_vectors() -> None:
    """Without them a strict network sees the lengths of sums of both alone, through gates."""
    torch.manual_seed(0)
    model = SoftRegressor(channels=2, blocks=1, softness=0.0).double()
    block = model.blocks[0]
    assert isinstance(block, ProductBlock)
    n, parts = 5, torch.zeros(1, 2, 31, dtype=torch.float64)
    seen: list[torch.Tensor] = []
    handle = block.lengths.register_forward_hook(lambda m, given, out: seen.append(given[0]))
    parts[0, :, 1:6] = torch.randn(2, 5, dtype=torch.float64)
    left, right = (layer(parts.flatten(1)).view(2, n) for layer in (block.left, block.right))
    block(parts.flatten(1))
    handle.remove()
    tensors = seen[0].view(2, 31)[:, 6:].view(2, n, n)
    torch.testing.assert_close(tensors, left[:, :, None] * right[:, None, :] / math.sqrt(5))
    with pytest.raises(ValueError, match=r"points: expected shape \(B, 2, 5\), got \(3, 5\)"):
        model(torch.zeros(3, 5, dtype=torch.float64))
    with pytest.raises(ValueError, match="channels: expected an integer >= 1, got 0"):
        SoftRegressor(channels=0)


def test_the_task_measures_upright_and_turned(tmp_path: Path) -> None:
    dataset = load_dataset("invariant-regression", count=30, sigma=1.0)
    batch = dataset.fetch(torch.arange(30))
    task = SoftRegressionTask(RegressionOptions(network="mlp", width=8, layers=1))
    torch.manual_seed(0)
    model = task.build(dataset).eval()
    assert isinstance(model, Scaled)
    assert float(model.mean) == pytest.approx(float(batch["target"].mean()), rel=1e-5)
    with torch.no_grad():
        numbers = task.evaluate(model, Batches(dataset, torch.arange(30), 7, seed=0, epoch=0))
        output = model(batch["points"])
        loss = task.loss(model, batch, SampleDraws(0, 0, batch["index"]))["loss"]
    error = (output - batch["target"]).square().mean()
    assert numbers["rmse"] == pytest.approx(float(error.sqrt()), rel=1e-5)
    variance = float(batch["target"].var(correction=0))
    assert float(loss) == pytest.approx(float(error) / variance, rel=1e-4)
    assert numbers["invariance_error"] > 0.01
    strict = SoftRegressionTask(RegressionOptions(softness=0.0, channels=2, blocks=1))
    with torch.no_grad():
        invariant = strict.evaluate(
            strict.build(dataset).eval(), Batches(dataset, torch.arange(30), 30, seed=0, epoch=0)
        )
    assert invariant["invariance_error"] < 1e-3
    assert invariant["turned_rmse"] == pytest.approx(invariant["rmse"], rel=1e-3)
    whole = default_configuration("soft-regression")
    asked = dataclasses.replace(
        whole,
        model=RegressionOptions(channels=2, blocks=1),
        data_options=("count=40",),
        training=dataclasses.replace(whole.training, epochs=1, batch_size=16, device="cpu"),
    )
    metrics = train(asked, tmp_path / "run")
    assert (metrics["status"], metrics["steps"]) == ("finished", 2)
    with pytest.raises(ConfigurationError, match=r"data: soft-regression needs points .*, digits has image"):
        task.build(load_dataset("digits"))


def test_the_mlp_is_plain() -> None:
    model = mlp(width=8, layers=2)
    assert [tuple(p.shape) for p in model.parameters() if p.ndim == 2] == [(8, 10), (8, 8), (1, 8)]
