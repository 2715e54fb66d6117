"""What the benchmarks must reach: the one table of gates that the report is checked against.

A gate is a floor that was chosen before anything was measured. Results that miss one are reported as missed.
"""

from __future__ import annotations

import dataclasses

OURS = "equikernels"


@dataclasses.dataclass(frozen=True)
class RatioGate:
    """Peer's median time over ours must reach ``mean`` as a geometric mean and ``lowest`` at every size.

    ``size`` restricts the gate to one size; ``lowest=None`` asks for the mean only.
    """

    operation: str
    mode: str
    peer: str
    mean: float
    lowest: float | None = None
    size: str | None = None
    device_type: str = "cpu"


@dataclasses.dataclass(frozen=True)
class TimeGate:
    """Our own median time at one size must not exceed ``milliseconds``."""

    operation: str
    mode: str
    size: str
    milliseconds: float
    device_type: str = "cpu"


Gate = RatioGate | TimeGate

GATES: tuple[Gate, ...] = (
    RatioGate("rotate", "forward", peer="affine_grid + grid_sample", mean=2.5, lowest=2.0),
    RatioGate("rotate", "forward+backward", peer="affine_grid + grid_sample", mean=3.0, lowest=2.0),
    RatioGate("rot90", "forward", peer="loop over samples", mean=8.0, size="64x64x7x7"),
    # Half of the bandwidth of a plain copy.
    RatioGate("rot90", "forward", peer="clone", mean=0.5, size="64x4x32x32"),
    RatioGate("rot90", "forward", peer="clone", mean=0.5, size="32x3x256x256"),
    RatioGate("rotate", "forward", peer="affine_grid + grid_sample", mean=3.0, device_type="cuda"),
    RatioGate("rotate", "forward+backward", peer="affine_grid + grid_sample", mean=6.0, device_type="cuda"),
    RatioGate(
        "rotate", "forward", peer="torch.compile(affine_grid + grid_sample)", mean=1.5, device_type="cuda"
    ),
    RatioGate(
        "rotate",
        "forward+backward",
        peer="torch.compile(affine_grid + grid_sample)",
        mean=3.0,
        device_type="cuda",
    ),
    RatioGate("rot90", "forward", peer="clone", mean=0.8, size="32x3x256x256", device_type="cuda"),
    RatioGate("partition_rotate", "forward+backward", peer="eager", mean=3.0),
    RatioGate("partition_rotate", "forward+backward", peer="eager", mean=6.0, device_type="cuda"),
    RatioGate("coordinate_mlp", "forward+backward", peer="textbook", mean=1.5),
    # Against the eager step in float32, and against the compiler with the same matrix units.
    RatioGate("coordinate_mlp, TF32", "forward+backward", peer="textbook", mean=6.0, device_type="cuda"),
    RatioGate(
        "coordinate_mlp, TF32",
        "forward+backward",
        peer="torch.compile(textbook), TF32",
        mean=3.0,
        device_type="cuda",
    ),
    TimeGate("projection", "forward", size="C_4 14x14, 16x16 channels", milliseconds=25.0),
    TimeGate("projection", "forward", size="D_4 14x14, 16x16 channels", milliseconds=25.0),
    TimeGate("projection", "forward", size="SO(2) 14x14, 16x16 channels", milliseconds=60.0),
    # Never more than 1.25 times what plain PyTorch takes, with structure to use and without.
    RatioGate("projection", "forward", peer="four dense products", mean=0.8, lowest=0.8),
    RatioGate("soft linear", "evaluation", peer="plain linear layer", mean=0.97, lowest=0.97),
    # A soft step may take 1.3 times what a plain one takes together with the products of a projection.
    RatioGate(
        "soft linear",
        "training step",
        peer="plain linear layer + dense products of a projection",
        mean=0.77,
        size="14x14 grid 16 to 16, batch 64",
    ),
    RatioGate(
        "soft linear, Schur coefficients",
        "training step",
        peer="plain linear layer",
        mean=0.5,
        size="14x14 grid 16 to 16, batch 64",
    ),
    RatioGate("structured linear", "evaluation", peer="plain linear layer", mean=1.5),
    RatioGate("structured linear, stack of 4", "evaluation", peer="plain linear layer", mean=2.5),
    RatioGate("projection", "forward", peer="four dense products", mean=0.87, device_type="cuda"),
    RatioGate("soft linear", "evaluation", peer="plain linear layer", mean=0.97, device_type="cuda"),
    RatioGate(
        "soft linear",
        "training step",
        peer="plain linear layer + dense products of a projection",
        mean=0.91,
        size="14x14 grid 16 to 16, batch 64",
        device_type="cuda",
    ),
    RatioGate(
        "soft linear, Schur coefficients",
        "training step",
        peer="plain linear layer",
        mean=0.83,
        size="14x14 grid 16 to 16, batch 64",
        device_type="cuda",
    ),
    RatioGate("structured linear", "evaluation", peer="plain linear layer", mean=1.5, device_type="cuda"),
    RatioGate(
        "structured linear, stack of 4", "evaluation", peer="plain linear layer", mean=3.0, device_type="cuda"
    ),
    TimeGate("projector construction", "construct", size="C_4 14x14", milliseconds=20.0),
    TimeGate("projector construction", "construct", size="SO(2) 14x14", milliseconds=60.0),
    TimeGate("projector construction", "construct", size="SO(2) 28x28", milliseconds=1000.0),
)
