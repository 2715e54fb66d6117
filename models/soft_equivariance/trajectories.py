"""Where pedestrians go: an autoregressive transformer on positions, softly equivariant under rotations."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from equikernels.models.soft_equivariance.vector_layers import (
    VECTORS,
    VectorBlock,
    VectorDropout,
    VectorNorm,
    soft_vectors,
)
from equikernels.project import InvariantProjector, Softness

__all__ = ["SoftTrajectoryTransformer", "constant_velocity", "standing_still", "turned_positions"]


class SoftTrajectoryTransformer(nn.Module):
    """Predict positions in the plane, step by step ("Tunable Soft Equivariance with Guarantees").

    Positions are taken relative to the last observed one, so that translations are respected exactly, and
    features are planar vectors. Every weight is a `SoftLinear` between vectors, every bias and the table of
    steps pass the invariant projector: softness 0 commutes with every rotation to rounding, softness 1
    leaves all weights free, with equal parameters in number, names and shapes.

    Args:
        d_model: features of a step, d_model / 2 vectors.
        heads: of the attention; divides d_model / 2, so that each holds whole vectors.
        layers: transformer blocks.
        feedforward: features between the two layers of a block's feed-forward part, even.
        dropout: share of vectors and of attention weights left out in training.
        softness: in [0, 1].
        observe, predict: steps that are given and that are predicted.
        activation: "norm" for non-linearities of lengths; "relu" for ReLU and LayerNorm of components, the
            plain transformer at softness 1, which is equivariant at no softness.

    Raises:
        ValueError: naming the argument, what was expected and what came.

    >>> model = SoftTrajectoryTransformer(d_model=16, heads=2, layers=1, feedforward=32, softness=0.2)
    >>> model(torch.randn(3, 10, 2)).shape
    torch.Size([3, 10, 2])
    """

    def __init__(
        self,
        d_model: int = 128,
        heads: int = 4,
        layers: int = 4,
        feedforward: int = 512,
        dropout: float = 0.1,
        *,
        softness: float = 0.0,
        observe: int = 10,
        predict: int = 10,
        activation: str = "norm",
    ) -> None:
        super().__init__()
        counts = {"d_model": d_model, "heads": heads, "layers": layers, "feedforward": feedforward}
        for name, count in {**counts, "observe": observe, "predict": predict}.items():
            if isinstance(count, bool) or not isinstance(count, int) or count < 1:
                raise ValueError(f"{name}: expected an integer >= 1, got {count!r}")
        if d_model % (2 * heads):
            raise ValueError(
                f"d_model: expected a multiple of 2 heads = {2 * heads}, so that heads hold whole vectors, "
                f"got {d_model}"
            )
        if feedforward % 2:
            raise ValueError(f"feedforward: expected an even number, got {feedforward}")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout: expected a share in [0, 1), got {dropout!r}")
        if not 0 <= softness <= 1:
            raise ValueError(f"softness: expected a number in [0, 1], got {softness!r}")
        if activation not in ("norm", "relu"):
            raise ValueError(f"activation: expected 'norm' or 'relu', got {activation!r}")
        self.observe, self.predict, self.softness = observe, predict, softness
        steps = observe + predict - 1
        self.embedding = soft_vectors(4, d_model, softness)
        self.step_table = nn.Parameter(0.02 * torch.randn(steps, d_model))
        self._step_projector = InvariantProjector(VECTORS, Softness(softness))
        self.dropout = VectorDropout(dropout)
        self.blocks = nn.ModuleList(
            VectorBlock(d_model, heads, feedforward, steps, dropout, softness, activation)
            for _ in range(layers)
        )
        self.norm = VectorNorm(d_model) if activation == "norm" else nn.LayerNorm(d_model)
        self.head = soft_vectors(d_model, 2, softness)

    def next_positions(self, positions: Tensor) -> Tensor:
        """What follows each step, from that step and those before it.

        Args:
            positions: (B, T, 2), relative to the last observed one, T <= observe + predict - 1.

        Returns:
            (B, T, 2): entry t is the prediction of step t + 1, in the same frame.
        """
        length = positions.shape[1]
        steps = positions.diff(dim=1, prepend=positions[:, :1])
        x = self.embedding(torch.cat([positions, steps], dim=-1))
        x = self.dropout(x + self._step_projector(self.step_table)[:length])
        for block in self.blocks:
            x = block(x)
        return positions + self.head(self.norm(x))

    def forward(self, observed: Tensor) -> Tensor:
        """Predicted positions (B, predict, 2), each from those before it, from observed ones (B, observe, 2).

        Both are in one frame and in one unit of length; metres for weights trained on metres.
        """
        self._check("observed", observed, self.observe)
        origin = observed[:, -1:]
        positions = observed - origin
        for _ in range(self.predict):
            following = self.next_positions(positions)[:, -1:]
            positions = torch.cat([positions, following], dim=1)
        return positions[:, self.observe :] + origin

    def loss(self, observed: Tensor, future: Tensor, *, teacher_forcing: bool = True) -> dict[str, Tensor]:
        """The mean over samples and predicted steps of |predicted - true position|^2, as "loss".

        Args:
            observed: (B, observe, 2).
            future: (B, predict, 2).
            teacher_forcing: predict each step from the true ones before it; False predicts as `forward`.
        """
        self._check("observed", observed, self.observe)
        self._check("future", future, self.predict)
        if len(observed) != len(future):
            raise ValueError(f"future: expected {len(observed)} samples as observed, got {len(future)}")
        if teacher_forcing:
            origin = observed[:, -1:]
            seen = torch.cat([observed, future[:, :-1]], dim=1) - origin
            predicted = self.next_positions(seen)[:, self.observe - 1 :] + origin
        else:
            predicted = self(observed)
        return {"loss": (predicted - future).square().sum(-1).mean()}

    def _check(self, name: str, positions: Tensor, steps: int) -> None:
        if positions.ndim != 3 or positions.shape[1:] != (steps, 2):
            raise ValueError(f"{name}: expected shape (B, {steps}, 2), got {tuple(positions.shape)}")


def constant_velocity(observed: Tensor, predict: int = 10) -> Tensor:
    """Everyone walks on as in the last observed step: (..., T, 2), T >= 2, to (..., predict, 2).

    >>> constant_velocity(torch.tensor([[0.0, 0.0], [1.0, 2.0]]), predict=2)
    tensor([[2., 4.],
            [3., 6.]])
    """
    if observed.ndim < 2 or observed.shape[-2] < 2:
        raise ValueError(f"observed: expected (..., T, 2) with T >= 2, got {tuple(observed.shape)}")
    last = observed[..., -1:, :]
    ahead = torch.arange(1, predict + 1, dtype=observed.dtype, device=observed.device)
    return last + ahead[:, None] * (last - observed[..., -2:-1, :])


def standing_still(observed: Tensor, predict: int = 10) -> Tensor:
    """Everyone stays at the last observed position: (..., T, 2), T >= 1, to (..., predict, 2).

    >>> standing_still(torch.tensor([[0.0, 0.0], [1.0, 2.0]]), predict=2)
    tensor([[1., 2.],
            [1., 2.]])
    """
    if observed.ndim < 2 or observed.shape[-2] < 1:
        raise ValueError(f"observed: expected (..., T, 2) with T >= 1, got {tuple(observed.shape)}")
    return observed[..., -1:, :].expand(*observed.shape[:-2], predict, 2).clone()


def turned_positions(positions: Tensor, angle: Tensor) -> Tensor:
    """Positions (B, T, 2) turned about the origin counter-clockwise by angles (B,) in radians.

    >>> turned_positions(torch.tensor([[[1.0, 0.0]]]), torch.tensor([torch.pi / 2])).round()
    tensor([[[-0.,  1.]]])
    """
    if positions.ndim != 3 or positions.shape[-1] != 2 or angle.shape != positions.shape[:1]:
        raise ValueError(
            f"positions, angle: expected shapes (B, T, 2) and (B,), got {tuple(positions.shape)} and "
            f"{tuple(angle.shape)}"
        )
    return positions @ VECTORS(angle, dtype=positions.dtype, device=positions.device).mT
