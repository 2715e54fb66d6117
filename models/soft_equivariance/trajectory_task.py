"""The task "soft-trajectories": predictions of where pedestrians go."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from torch import Tensor, nn

from equikernels.metrics import (
    average_displacement_error,
    combined_displacement_error,
    final_displacement_error,
    trajectory_equivariance_error,
)
from equikernels.models.data import Dataset, SampleDraws
from equikernels.models.engine import (
    Batches,
    ConfigurationError,
    OptimizerOptions,
    Task,
    TrainingOptions,
    register_task,
)
from equikernels.models.soft_equivariance.trajectories import (
    SoftTrajectoryTransformer,
    constant_velocity,
    standing_still,
    turned_positions,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["SoftTrajectoriesTask", "TrajectoryOptions"]


@dataclass(frozen=True)
class TrajectoryOptions:
    """Of a transformer that predicts positions; the steps to observe and to predict are those of the data.

    Attributes:
        softness: From 0, equivariant under rotations, to 1, free weights.
        activation: Non-linearities of lengths (norm), or of components as in a plain transformer (relu).
        width: Features of a step.
        heads: Of the attention.
        layers: Transformer blocks.
        feedforward: Features between the two layers of a block's feed-forward part.
        dropout: Share of vectors and attention weights left out in training.
        teacher_forcing: Train on true earlier positions, not on predicted ones.
    """

    softness: float = 0.2
    activation: Literal["norm", "relu"] = "norm"
    width: int = 128
    heads: int = 4
    layers: int = 4
    feedforward: int = 512
    dropout: float = 0.1
    teacher_forcing: bool = True


@register_task
class SoftTrajectoriesTask(Task[TrajectoryOptions]):
    """The mean squared distance of predicted from true positions."""

    name = "soft-trajectories"
    summary = "predict where pedestrians go, as equivariant under rotations as you ask"
    options = TrajectoryOptions
    training = TrainingOptions(epochs=100, batch_size=128, monitor="combined_ade")
    optimizer = OptimizerOptions(
        algorithm="adamw",
        learning_rate=5e-4,
        weight_decay=1e-5,
        schedule="cosine",
        final_learning_rate=1e-6,
    )

    def build(self, dataset: Dataset) -> SoftTrajectoryTransformer:
        observed, future = dataset.fields.get("observed"), dataset.fields.get("future")
        if observed is None or future is None:
            raise ConfigurationError(
                f"data: soft-trajectories needs windows of tracks (--data FILE.txt), {dataset.name} has none"
            )
        sizes = self.configuration
        return SoftTrajectoryTransformer(
            sizes.width,
            sizes.heads,
            sizes.layers,
            sizes.feedforward,
            sizes.dropout,
            softness=sizes.softness,
            observe=observed.shape[0],
            predict=future.shape[0],
            activation=sizes.activation,
        )

    def loss(self, model: nn.Module, batch: Mapping[str, Tensor], draws: SampleDraws) -> dict[str, Tensor]:
        assert isinstance(model, SoftTrajectoryTransformer)
        forced = self.configuration.teacher_forcing
        return model.loss(batch["observed"], batch["future"], teacher_forcing=forced)

    def evaluate(self, model: nn.Module, batches: Batches) -> dict[str, float]:
        """ADE and FDE as observed, after a random rotation of every sample, their means, eErr, and those of
        walking on and standing still; all in the unit of the positions."""
        sums: dict[str, float] = {}
        for batch, draws in batches:
            observed, future = batch["observed"], batch["future"]
            angle = draws.uniform("angle", high=2 * math.pi).to(observed)
            prediction = model(observed)
            moved = model(turned_positions(observed, angle))
            moved_future = turned_positions(future, angle)
            predict = future.shape[1]
            found = {
                "ade": average_displacement_error(prediction, future),
                "fde": final_displacement_error(prediction, future),
                "turned_ade": average_displacement_error(moved, moved_future),
                "turned_fde": final_displacement_error(moved, moved_future),
                "equivariance_error": trajectory_equivariance_error(
                    turned_positions(prediction, angle), moved
                ),
            }
            for name, rule in (("walking_on", constant_velocity), ("standing_still", standing_still)):
                found[f"{name}_ade"] = average_displacement_error(rule(observed, predict), future)
                found[f"{name}_fde"] = final_displacement_error(rule(observed, predict), future)
            for name, mean in found.items():
                sums[name] = sums.get(name, 0.0) + float(mean) * len(observed)
        numbers = {name: total / len(batches.indices) for name, total in sums.items()}
        for name in ("ade", "fde"):
            numbers[f"combined_{name}"] = combined_displacement_error(
                numbers[name], numbers[f"turned_{name}"]
            )
        return numbers

    def infer(self, model: nn.Module, batch: Mapping[str, Tensor], draws: SampleDraws) -> dict[str, Tensor]:
        """The predicted positions (predict, 2) of every window."""
        return {"future": model(batch["observed"])}

    def figures(self, model: nn.Module, batches: Batches) -> dict[str, Figure]:
        """Predictions for four windows, as observed and for the same input turned by 90 degrees."""
        # Matplotlib takes a second to import, which those who draw nothing should not wait for.
        from equikernels.models.soft_equivariance.trajectory_figures import Turned, draw_predictions

        assert isinstance(model, SoftTrajectoryTransformer)
        length = len(batches.indices)
        chosen = batches.indices[[place * (length - 1) // 3 for place in range(4)]]
        batch = batches.dataset.fetch(chosen.cpu())
        observed, future = batch["observed"].to(batches.device), batch["future"]
        found = {f"softness {model.softness:g}": Turned.of(model, observed)}
        return {"trajectories": draw_predictions(observed.cpu(), future, found)}
