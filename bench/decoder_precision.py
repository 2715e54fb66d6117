"""What the precision of its matrix products costs the spatial-VAE decoder in accuracy.

    python -m bench.decoder_precision [--page FILE]

The Bernoulli log-likelihood and its gradients, 500 hidden units in one hidden layer, 28x28 and 40x40 pixels,
against the reference in float64 on the same numbers. Products in TF32 and bf16 are emulated on the CPU:
factors are rounded, sums are float32. A GPU may cut off bits where TF32 would round; that is emulated too.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from pathlib import Path
from unittest import mock

import torch
from torch import Tensor

from bench.accuracy import table
from equikernels.ops import CoordinateMLPWeights, coordinate_mlp_log_likelihood, image_grid
from equikernels.ops.coordinate_decoder import products

PAGE = Path(__file__).resolve().parent.parent / "docs" / "results" / "decoder_precision.md"

UNITS, LATENTS = 500, 2
SIZES = (28, 40)
ACTIVATIONS = ("tanh", "leaky_relu")
BATCH, SEEDS = 16, 3
CUT_OFF = "tf32, bits cut off"
PRECISIONS = ("float32", "tf32", CUT_OFF, "bf16")

# What a factor changes by, relative to itself, at most: half the distance of 1 and the next number where it
# is rounded to nearest, all of it where bits are cut off.
ROUNDING = {"float32": 2.0**-24, "tf32": 2.0**-11, CUT_OFF: 2.0**-10, "bf16": 2.0**-8}
# A GPU may do either to TF32. Of float32 it is the sums of 500 terms, all of them rounded, that count.
STATED = {
    "float32": 2.0**-20,
    "tf32": ROUNDING[CUT_OFF],
    CUT_OFF: ROUNDING[CUT_OFF],
    "bf16": ROUNDING["bf16"],
}


def bounds(activation: str, precision: str) -> dict[str, float]:
    """Relative errors that are not exceeded: of a log-likelihood, and of a gradient by its Euclidean norm.

    Four rounded factors stand in a gradient, two forward and two backward, and sums cancel some of it: 8u.
    The slope of a leaky ReLU jumps at 0. About a fraction u of the units change sides, each with an error of
    the order of its term and of a random sign, and together they make one of the order of the root of u. The
    rounded factors' errors average out in the log-likelihood; in float32 its own rounding remains.
    """
    u = STATED[precision]
    return {
        "log-likelihood": u if precision == "float32" else u / 4,
        "gradients": 8 * u if activation == "tanh" else 2 * u**0.5,
    }


class Problem:
    """A decoder with PyTorch's usual initial weights, its latents and images, in float32."""

    def __init__(self, size: int, batch: int, seed: int, device: str) -> None:
        generator = torch.Generator().manual_seed(seed)

        def uniform(*shape: int, bound: float) -> Tensor:
            return (2 * torch.rand(shape, generator=generator) - 1) * bound

        def normal(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator)

        wide = UNITS**-0.5
        given = {
            "theta": normal(batch),
            "shift": 0.1 * normal(batch, 2),
            "z": normal(batch, LATENTS),
            "coordinate": uniform(UNITS, 2, bound=2**-0.5),
            "latent": uniform(UNITS, LATENTS, bound=LATENTS**-0.5),
            "bias": uniform(UNITS, bound=2**-0.5),
            "hidden": uniform(UNITS, UNITS, bound=wide),
            "hidden_bias": uniform(UNITS, bound=wide),
            "output": uniform(1, UNITS, bound=wide),
            "output_bias": uniform(1, bound=wide),
        }
        self.size = size
        self.given = {name: value.to(device) for name, value in given.items()}
        self.x = torch.rand(batch, size * size, 1, generator=generator).to(device)


def make_problem(size: int, batch: int, seed: int, device: str = "cpu") -> Problem:
    return Problem(size, batch, seed, device)


def gradients(problem: Problem, activation: str, precision: str, *, exact: bool = False) -> dict[str, Tensor]:
    """The log-likelihoods under "out", and every gradient of their sum.

    If `exact`, they are those of the reference in float64.
    """
    dtype = torch.float64 if exact else torch.float32
    leaves = {name: x.detach().to(dtype).requires_grad_() for name, x in problem.given.items()}
    p = dict(leaves)
    theta, shift, z = (p.pop(name) for name in ("theta", "shift", "z"))
    weights = CoordinateMLPWeights(
        **{**p, "hidden": (p["hidden"],), "hidden_bias": (p["hidden_bias"],)}  # type: ignore[arg-type]
    )
    grid = image_grid(problem.size, problem.size, dtype=dtype, device=theta.device)
    out = coordinate_mlp_log_likelihood(
        # The same numbers in both: the coordinates of float32.
        tuple(axis.float().to(dtype) for axis in grid),  # type: ignore[arg-type]
        theta,
        shift,
        z,
        weights,
        problem.x.to(dtype),
        activation=activation,
        precision="float32" if exact else precision,
        backend="reference" if exact else "torch",
    )
    found = torch.autograd.grad(out.sum(), list(leaves.values()))
    return {"out": out.detach(), **dict(zip(leaves, found, strict=True))}


@contextmanager
def bits_cut_off() -> Iterator[None]:
    """Factors of TF32 lose their low bits instead of being rounded."""

    def cut(x: Tensor, precision: str, out: Tensor) -> Tensor:
        torch.bitwise_and(x.view(torch.int32), -(2**13), out=out.view(torch.int32))
        return out

    with mock.patch.object(products, "round_factor", cut):
        yield


POSE = ("theta", "shift", "z")


@cache
def expected_gradients(problem: Problem, activation: str) -> dict[str, Tensor]:
    return gradients(problem, activation, "float32", exact=True)


def errors(problem: Problem, activation: str, precision: str) -> dict[str, float]:
    """The largest relative errors: of an image's log-likelihood, and of a gradient by its norm."""
    expected = expected_gradients(problem, activation)
    with bits_cut_off() if precision == CUT_OFF else nullcontext():
        found = gradients(problem, activation, "tf32" if precision == CUT_OFF else precision)
    each = {name: float((found[name] - x).norm() / x.norm()) for name, x in expected.items() if name != "out"}
    likelihood = ((found["out"] - expected["out"]) / expected["out"]).abs().max()
    return {
        "log-likelihood": float(likelihood),
        "gradients": max(each.values()),
        "of weights": max(error for name, error in each.items() if name not in POSE),
        "of angles, shifts, latents": max(each[name] for name in POSE),
        **each,
    }


def guarantee(problem: Problem, activation: str, precision: str) -> float:
    """What rounded factors can change in the log-likelihood of an image at most, relative to it.

    A factor changes by a relative u, so the argument a_j of a hidden unit by at most (2u + u^2) times the sum
    over i of |W_ji h_i|, and the logit o by at most d, the sum over j of |V_j| times that: no slope of an
    activation exceeds 1. As the second derivative of x o - log(1 + exp(o)) is within 1/4, a pixel's term
    changes by at most |x - sigmoid(o)| d + d^2/8. Roundings of float32 itself are not counted.
    """
    u = ROUNDING[precision]
    p = {name: x.double() for name, x in problem.given.items()}
    axes = image_grid(problem.size, problem.size, dtype=torch.float64, device=problem.x.device)
    x, y = (axis.float().double() for axis in axes)
    points = torch.stack([x.expand(len(y), -1), y[:, None].expand(-1, len(x))], dim=-1).flatten(0, 1)
    cosine, sine = p["theta"].cos(), p["theta"].sin()
    rotation = torch.stack([torch.stack([cosine, sine], -1), torch.stack([-sine, cosine], -1)], -2)
    moved = points @ rotation + p["shift"][:, None]
    act = torch.tanh if activation == "tanh" else torch.nn.functional.leaky_relu
    h = act(moved @ p["coordinate"].t() + (p["z"] @ p["latent"].t())[:, None] + p["bias"])
    logits = act(h @ p["hidden"].t() + p["hidden_bias"]) @ p["output"].t() + p["output_bias"]
    change = (2 * u + u**2) * (h.abs() @ p["hidden"].abs().t()) @ p["output"].abs().t()
    images = problem.x.double()
    value = (images * logits - torch.nn.functional.softplus(logits)).sum((1, 2))
    worst = ((images - logits.sigmoid()).abs() * change + change.square() / 8).sum((1, 2))
    return float((worst / value.abs()).max())


COLUMNS = ("log-likelihood", "of weights", "of angles, shifts, latents")


def make_page(seeds: int = SEEDS) -> str:
    lines = []
    for size in SIZES:
        problems = [make_problem(size, BATCH, seed) for seed in range(seeds)]
        for activation in ACTIVATIONS:
            for precision in PRECISIONS:
                found = [errors(problem, activation, precision) for problem in problems]
                stated = bounds(activation, precision)
                certain = max(guarantee(problem, activation, precision) for problem in problems)
                likelihood, weights, pose = (max(each[column] for each in found) for column in COLUMNS)
                told = [likelihood, stated["log-likelihood"], certain, weights, pose, stated["gradients"]]
                cells = [f"{value:.1e}" for value in told]
                if precision == "float32":
                    cells[2] = ""
                lines.append([f"{size}x{size}", activation, precision, *cells])
    head = ["pixels", "activation", "precision", "log-likelihood", "stated", "certain"]
    head += ["gradients of weights", "of angles, shifts, latents", "stated"]
    return TEXT.format(
        table=table(head, lines),
        torch=torch.__version__.split("+")[0],
        batch=BATCH,
        seeds=seeds,
        units=UNITS,
        latents=LATENTS,
    )


TEXT = """# Precision of the decoder's matrix products

Made by `python -m bench.decoder_precision`: PyTorch {torch} on a CPU, {seeds} seeds, {batch} images each, one
hidden layer of {units} units, {latents} latents, PyTorch's usual initial weights, images of uniform noise,
Bernoulli log-likelihood. Not measured on a GPU yet: TF32 and bf16 are emulated, factors rounded and sums
float32. A GPU may cut bits off where TF32 would round to nearest; those rows show what that costs, and what
is stated for `precision="tf32"` covers them.

Errors are relative to the reference in float64 on the same numbers, the largest that were seen: of the
log-likelihood over the images, of gradients over the arguments and parameters, by Euclidean norm.

"Stated" is what tests hold fresh seeds to. With u for what a factor changes by, relative to itself, 2^-8 for
bf16 and 2^-10 for TF32 with bits cut off, and with 2^-20 in its place for the sums of float32:

- u/4 for the log-likelihood, in float32 u;
- 8u for gradients with tanh;
- 2 sqrt(u) for gradients with a leaky ReLU, whose slope jumps at 0: a fraction of about u of the units change
  sides. In float32 too that is most of the error.

"Certain" is what rounded factors can do to the log-likelihood at most, whatever the signs of their roundings:
the sum over pixels of |x - sigmoid(o)| d + d^2 / 8 with d = (2u + u^2) sum over j and i of |V_j W_ji h_i|.

{table}

The errors of rounding to nearest have no common sign and average out over units and pixels. Cutting off
shrinks every factor, so its errors add up.
"""


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.decoder_precision",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--page", type=Path, default=PAGE, help="default: %(default)s")
    options = parser.parse_args(arguments)
    options.page.write_text(make_page(), encoding="utf-8")


if __name__ == "__main__":
    main()
