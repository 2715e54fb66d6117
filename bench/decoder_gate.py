"""Training steps of the spatial-VAE decoder in turns with the textbook's, in time and in memory.

    python -m bench.decoder_gate [--repeats 10] [--threads 2]

A step is the Bernoulli log-likelihood of a batch and its gradients for angles, shifts, latents and all
weights. Ours, the textbook's and the bare matrix products of the hidden layer, forward and backward, are
called in turn, so that whatever else the machine does meets all alike. The gates are judged on the fastest
call of each; beside it stands the processor time, which other work on the machine disturbs less. The matrix
products bound what any exact method can reach.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.devices import peak_mb
from equikernels.ops import CoordinateMLPWeights, coordinate_mlp_log_likelihood, image_grid

# Two layers of 500, as the paper counts them: the one of the coordinates, and one of 500 x 500.
BATCH, UNITS, LATENTS = 100, 500, 2
SIZES = (28, 40)
TIME_GATE, TIME_GOAL = 1.5, 1.75
MEMORY_GATE, MEMORY_GOAL = 3.0, 5.0

LogLikelihood = Callable[["Step"], Tensor]


class Step:
    """The inputs of a training step, with a size x size grid."""

    def __init__(self, size: int, batch: int = BATCH, units: int = UNITS, device: str = "cpu") -> None:
        torch.manual_seed(0)

        def parameter(*shape: int, scale: float = 0.05) -> Tensor:
            return (scale * torch.randn(shape, device=device)).requires_grad_()

        self.grid = image_grid(size, size, device=device)
        self.theta, self.shift = parameter(batch, scale=1.0), parameter(batch, 2)
        self.z = parameter(batch, LATENTS, scale=1.0)
        self.weights = CoordinateMLPWeights(
            coordinate=parameter(units, 2, scale=0.5),
            latent=parameter(units, LATENTS, scale=0.5),
            bias=parameter(units),
            hidden=(parameter(units, units),),
            hidden_bias=(parameter(units),),
            output=parameter(1, units),
            output_bias=parameter(1),
        )
        self.x = torch.rand(batch, size * size, 1, device=device)
        self.leaves = [self.theta, self.shift, self.z, *self.weights.named_tensors.values()]


def textbook(step: Step) -> Tensor:
    """Every sample's coordinates, turned, shifted and sent through linear layers."""
    x, y = step.grid
    batch, units = step.z.shape[0], step.weights.bias.shape[0]
    grid = torch.stack([x.expand(len(y), -1), y[:, None].expand(-1, len(x))], dim=-1).view(1, -1, 2)
    cosine, sine = step.theta.cos(), step.theta.sin()
    rotation = torch.stack([torch.stack([cosine, sine], -1), torch.stack([-sine, cosine], -1)], -2)
    u = torch.bmm(grid.expand(batch, -1, -1), rotation) + step.shift[:, None]
    w = step.weights
    h = F.linear(u.view(-1, 2), w.coordinate, w.bias).view(batch, -1, units)
    h = torch.tanh(h + F.linear(step.z, w.latent)[:, None]).view(-1, units)
    for weight, bias in zip(w.hidden, w.hidden_bias, strict=True):
        h = torch.tanh(F.linear(h, weight, bias))
    logits = F.linear(h, w.output, w.output_bias).view(batch, -1)
    return -F.binary_cross_entropy_with_logits(logits, step.x[..., 0], reduction="none").sum(1)


def ours(step: Step, precision: str = "float32") -> Tensor:
    return coordinate_mlp_log_likelihood(
        step.grid,
        step.theta,
        step.shift,
        step.z,
        step.weights,
        step.x,
        likelihood="bernoulli",
        precision=precision,
    )


def training_step(log_likelihood: LogLikelihood, step: Step) -> Callable[[], tuple[Tensor, ...]]:
    return lambda: torch.autograd.grad(-log_likelihood(step).mean(), step.leaves)


def products(step: Step) -> Callable[[], object]:
    """The three products of the hidden layer on all pixels at once, into memory that is there already."""
    weight = step.weights.hidden[0].detach()
    h = torch.randn(step.x.shape[0] * step.x.shape[1], weight.shape[0])
    out, by_weight = torch.empty_like(h), torch.empty_like(weight)

    def call() -> None:
        torch.mm(h, weight.t(), out=out)
        torch.mm(h, weight, out=out)
        torch.mm(h.t(), h, out=by_weight)

    return call


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(
        f"torch {torch.__version__}, {arguments.threads} threads, float32, {arguments.repeats} calls in turn"
    )
    print(f"batch {BATCH}, {UNITS} units, 2 layers, {LATENTS} latents")
    for size in arguments.sizes:
        step = Step(size)
        calls = {
            "ours": training_step(ours, step),
            "textbook": training_step(textbook, step),
            "products": products(step),
        }
        wall: dict[str, list[float]] = {name: [] for name in calls}
        processor: dict[str, list[float]] = {name: [] for name in calls}
        for _ in range(arguments.repeats + 1):
            for name, call in calls.items():
                start, used = time.perf_counter(), time.process_time()
                call()
                wall[name].append(time.perf_counter() - start)
                processor[name].append(time.process_time() - used)
        for name in calls:
            fastest, least = min(wall[name][1:]), min(processor[name][1:])
            print(f"{size}x{size} {name:9} {fastest * 1e3:8.1f} ms  processor {least * 1e3:8.1f} ms")
        ratios = [
            min(times["textbook"][1:]) / min(times[name][1:])
            for name in ("ours", "products")
            for times in (wall, processor)
        ]
        verdict = "reached" if ratios[0] >= TIME_GATE else "NOT reached"
        print(
            f"{size}x{size} time ratio {ratios[0]:.2f} (processor {ratios[1]:.2f}), gate {TIME_GATE}, "
            f"goal {TIME_GOAL}: {verdict}; the products alone would give {ratios[2]:.2f} ({ratios[3]:.2f})"
        )
        memory = {name: peak_mb(calls[name], "cpu") for name in ("ours", "textbook")}
        ratio = memory["textbook"] / memory["ours"]
        verdict = "reached" if ratio >= MEMORY_GATE else "NOT reached"
        print(
            f"{size}x{size} peak memory {memory['ours']:.1f} MB, textbook {memory['textbook']:.1f} MB, "
            f"ratio {ratio:.1f}, gate {MEMORY_GATE:.0f}, goal {MEMORY_GOAL:.0f}: {verdict}"
        )


if __name__ == "__main__":
    main()
