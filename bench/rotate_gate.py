"""Ratios of `rotate` to affine_grid + grid_sample, measured in turns, next to the gates they must reach.

    python -m bench.rotate_gate [--repeats 200] [--threads 2]

Both are called in turn many times, so that whatever else the machine does meets both alike. The gates are
judged on the fastest call of each, which other work on the machine disturbs least; the ratio of the medians
stands beside it. The peer's time with gradients is the usual composition: angles that require gradients, the
matrix from their cosine and sine, affine_grid, grid_sample, and backward to images and angles.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.gates import GATES, RatioGate
from equikernels.ops import rotate

SIZES = ((8, 4, 32, 32), (64, 4, 32, 32), (8, 4, 64, 64), (64, 4, 64, 64), (256, 1, 28, 28))
GOALS = {"forward": 4.0, "forward+backward": 5.0}

Rotation = Callable[[Tensor, Tensor], Tensor]


def grid_sample_rotate(z: Tensor, theta: Tensor, mode: str = "bilinear", padding: str = "zeros") -> Tensor:
    """What users write today."""
    cosine, sine, zero = theta.cos(), theta.sin(), torch.zeros_like(theta)
    height, width = z.shape[-2:]
    upper = torch.stack([cosine, -sine * (height / width), zero], dim=-1)
    lower = torch.stack([sine * (width / height), cosine, zero], dim=-1)
    grid = F.affine_grid(torch.stack([upper, lower], dim=-2), list(z.shape), align_corners=False)
    return F.grid_sample(z, grid, mode=mode, padding_mode=padding, align_corners=False)


def forward(rotation: Rotation, shape: tuple[int, ...], device: str = "cpu") -> Callable[[], object]:
    z, theta = torch.randn(shape, device=device), torch.rand(shape[0], device=device) * 2 * torch.pi
    return lambda: rotation(z, theta)


def forward_backward(rotation: Rotation, shape: tuple[int, ...], device: str = "cpu") -> Callable[[], object]:
    z = torch.randn(shape, device=device, requires_grad=True)
    theta = (torch.rand(shape[0], device=device) * 2 * torch.pi).requires_grad_()
    grad = torch.randn(shape, device=device)
    return lambda: torch.autograd.grad(rotation(z, theta), (z, theta), grad)


MODES = {"forward": forward, "forward+backward": forward_backward}


def interleaved(
    ours: Callable[[], object], peer: Callable[[], object], repeats: int
) -> tuple[list[float], list[float]]:
    """Seconds of each call, ours and the peer's in turn."""
    for _ in range(5):
        ours(), peer()
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats):
        for call, record in zip((ours, peer), times, strict=True):
            start = time.perf_counter()
            call()
            record.append(time.perf_counter() - start)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    print(
        f"torch {torch.__version__}, {arguments.threads} threads, float32, {arguments.repeats} calls in turn"
    )
    for mode, make in MODES.items():
        ratios = []
        for shape in SIZES:
            times = interleaved(make(rotate, shape), make(grid_sample_rotate, shape), arguments.repeats)
            ours, peer = map(min, times)
            median_ratio = statistics.median(times[1]) / statistics.median(times[0])
            ratios.append(peer / ours)
            print(
                f"{mode:17} {'x'.join(map(str, shape)):12} ours {ours * 1e6:7.1f} us  "
                f"peer {peer * 1e6:7.1f} us  ratio {ratios[-1]:5.2f}  (of medians {median_ratio:5.2f})"
            )
        mean = math.exp(statistics.mean(map(math.log, ratios)))
        gate = next(
            g for g in GATES if isinstance(g, RatioGate) and (g.operation, g.mode) == ("rotate", mode)
        )
        reached = mean >= gate.mean and (gate.lowest is None or min(ratios) >= gate.lowest)
        print(
            f"{mode:17} geometric mean {mean:.2f} (gate {gate.mean}, goal {GOALS[mode]}), "
            f"smallest {min(ratios):.2f} (gate {gate.lowest}): {'reached' if reached else 'NOT reached'}"
        )


if __name__ == "__main__":
    main()
