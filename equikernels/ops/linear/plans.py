"""Which of the three ways to compute y = x P(W)^T multiplies least, for a batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from equikernels.ops.linear.projection import BlockProjection
from equikernels.ops.linear.tiles import Tiles

PLANS = ("weights", "schur", "structured")

# What is bound by memory, in multiplications of large products that take as long; measured on a CPU.
PER_FACTOR = 64
"""Of the factors of one entry of a weight."""

PER_PACKED = 1200
"""Of one kept entry on its way from a whole weight into the matrix of a product."""

PER_PRODUCT = 2**15
"""Multiplications that a product is taken for before its first one: its call costs microseconds."""


@dataclass(frozen=True)
class Plan:
    """A way to apply a layer, and what it was chosen from.

    Attributes:
        name: "weights": the projected weight, then a plain product; "schur": features and weights in the
            bases of the two sides; "structured": only the weights between types that the projection keeps.
        batch: vectors that the count is for.
        training: whether the projection is counted, once forwards and once backwards, and the products three
            times; otherwise the projection is known and a product is counted once.
        multiplications: of every plan that is possible.
    """

    name: str
    batch: int
    training: bool
    multiplications: Mapping[str, int]

    def __str__(self) -> str:
        step = "a training step" if self.training else "a forward pass"
        counts = ", ".join(f"{name} {count / 1e6:.3g}" for name, count in self.multiplications.items())
        return f"{self.name} for {step} of {self.batch} vectors (million multiplications: {counts})"


def count_plans(
    projection: BlockProjection,
    channels_out: int,
    channels_in: int,
    batch: int,
    *,
    training: bool,
    parameter: str = "raw",
    tiles: Tiles | None = None,
) -> Plan:
    """The plan with the fewest multiplications.

    Args:
        projection, channels_out, channels_in: what is applied.
        batch: vectors.
        training: see Plan.
        parameter: what the weight is: "raw", or "schur", coordinates in the bases.
        tiles: what the projection keeps; None: the structured plan is not possible.
    """
    out, inn = projection.out, projection.inn
    rows, columns = channels_out * out.dim, channels_in * inn.dim
    whole = rows * columns
    # One change of basis of a weight, on both sides; of the features before and after the product.
    change = (
        rows * channels_in * inn.basis.multiplications + columns * channels_out * out.basis.multiplications
    )
    around = batch * (channels_in * inn.basis.multiplications + channels_out * out.basis.multiplications)
    changes = {"weights": 2, "schur": 1, "structured": 1}
    if parameter == "schur":
        changes = {"weights": 1, "schur": 0, "structured": 0}
    products = {"weights": batch * whole, "schur": batch * whole + around}
    if tiles is not None:
        products["structured"] = batch * tiles.multiplications + around + PER_PRODUCT * len(tiles.parts)
    counts = dict(products)
    if training:
        passes = {"weights": PER_FACTOR * whole, "schur": PER_FACTOR * whole}
        if tiles is not None:
            passes["structured"] = PER_PACKED * tiles.entries
        counts = {
            name: 3 * count + 2 * changes[name] * change + 2 * passes[name]
            for name, count in products.items()
        }
    best = min(counts, key=lambda name: (counts[name], PLANS.index(name)))
    return Plan(best, batch, training, counts)
