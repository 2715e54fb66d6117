"""The task "soft-regression": a number from vectors, as invariant under O(n) as you ask."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from equikernels.models.data import Dataset, SampleDraws
from equikernels.models.engine import (
    Batches,
    ConfigurationError,
    OptimizerOptions,
    Task,
    TrainingOptions,
    register_task,
)
from equikernels.models.engine.configuration import check_at_least
from equikernels.models.soft_equivariance.regression import Scaled, SoftRegressor, mlp

__all__ = ["RegressionOptions", "SoftRegressionTask", "random_orthogonal"]


@dataclass(frozen=True)
class RegressionOptions:
    """Of a network that maps vectors to a number; their dimension and number are those of the data.

    Attributes:
        softness: From 0, invariant under O(n), to 1, free weights; an mlp has none.
        network: Scalars, vectors and tensors with projected weights (soft), or an ordinary network (mlp).
        channels: Of a soft network's features, each a scalar, a vector and a tensor of order two.
        blocks: Of a soft network.
        width: Hidden features of an mlp.
        layers: Hidden layers of an mlp.
    """

    softness: float = 0.1
    network: Literal["soft", "mlp"] = "soft"
    channels: int = 4
    blocks: int = 2
    width: int = 200
    layers: int = 3

    def __post_init__(self) -> None:
        for name in ("channels", "blocks", "width", "layers"):
            check_at_least(self, name, 1)
        if not 0 <= self.softness <= 1:
            raise ValueError(f"softness: expected a number in [0, 1], got {self.softness!r}")


@register_task
class SoftRegressionTask(Task[RegressionOptions]):
    """The mean squared error, relative to the variance of the targets."""

    name = "soft-regression"
    summary = "a number from vectors, as invariant under rotations and reflections as you ask"
    options = RegressionOptions
    data = "invariant-regression"
    training = TrainingOptions(epochs=100, batch_size=100, monitor="rmse")
    optimizer = OptimizerOptions(learning_rate=3e-3, schedule="cosine")

    def build(self, dataset: Dataset) -> Scaled:
        points, target = dataset.fields.get("points"), dataset.fields.get("target")
        if points is None or len(points.shape) != 2 or target is None or target.shape != ():
            raise ConfigurationError(
                f"data: soft-regression needs points (vectors, dimension) and a target, {dataset.name} has "
                f"{', '.join(f'{name} {field.shape}' for name, field in dataset.fields.items())}"
            )
        sizes = self.configuration
        vectors, dimension = points.shape
        values = dataset.fetch(torch.arange(len(dataset)))["target"].double()
        network: nn.Module
        if sizes.network == "mlp":
            network = mlp(dimension, vectors, sizes.width, sizes.layers)
        else:
            network = SoftRegressor(dimension, vectors, sizes.channels, sizes.blocks, softness=sizes.softness)
        scale = float(values.std(correction=0))
        return Scaled(network, float(values.mean()), scale if scale > 0 else 1.0)

    def loss(self, model: nn.Module, batch: Mapping[str, Tensor], draws: SampleDraws) -> dict[str, Tensor]:
        assert isinstance(model, Scaled)
        return model.loss(batch["points"], batch["target"])

    def evaluate(self, model: nn.Module, batches: Batches) -> dict[str, float]:
        """The RMSE as given, and after a random element of O(n) for every sample, whose target stays; and
        the mean change |f(g x) - f(x)| of the output; all in the unit of the target."""
        squared = turned_squared = change = 0.0
        for batch, draws in batches:
            points, target = batch["points"], batch["target"]
            turns = random_orthogonal(draws, points.shape[-1]).to(points)
            output, turned = model(points), model(points @ turns.mT)
            squared += float((output - target).square().sum())
            turned_squared += float((turned - target).square().sum())
            change += float((turned - output).abs().sum())
        count = len(batches.indices)
        return {
            "rmse": (squared / count) ** 0.5,
            "turned_rmse": (turned_squared / count) ** 0.5,
            "invariance_error": change / count,
        }

    def infer(self, model: nn.Module, batch: Mapping[str, Tensor], draws: SampleDraws) -> dict[str, Tensor]:
        """The predicted target of every sample."""
        return {"target": model(batch["points"])}


def random_orthogonal(draws: SampleDraws, dimension: int) -> Tensor:
    """One element of O(n) for each sample, equally distributed: float64 (B, n, n).

    >>> turn = random_orthogonal(SampleDraws(0, 0, [7]), 3)[0]
    >>> torch.allclose(turn @ turn.mT, torch.eye(3, dtype=torch.float64))
    True
    """
    normal = draws.normal("element", (dimension, dimension), dtype=torch.float64)
    q, r = torch.linalg.qr(normal)
    # With a positive diagonal the decomposition is unique, which makes q uniform.
    return q * r.diagonal(dim1=-2, dim2=-1).sign()[:, None, :]
