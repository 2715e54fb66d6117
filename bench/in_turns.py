"""Pairs so close that noise decides between medians of separate runs: called in turn, many times.

    python -m bench.in_turns [--repeats 300] [--threads 2] [--page docs/results/in_turns.md]

`rot90` beside a plain copy, and soft layers in evaluation beside plain ones, whose gates ask for shares of
the peer's speed. Both sides meet the same state of the machine; the ratio of the fastest calls is the least
disturbed one, that of the medians stands beside it.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import torch

from bench.conftest import processor_name
from bench.rotate_gate import interleaved
from bench.soft_layers import SIZES, plain, soft
from equikernels.ops import rot90

Call = Callable[[], object]

TURNS = ((64, 4, 32, 32), (32, 3, 256, 256))

# Shares of the peer's speed, as bench/gates.py declares them.
COPY_SHARE, PLAIN_SHARE = 0.5, 0.97


def pairs() -> Iterator[tuple[str, str, Call, Call, float]]:
    """What, the peer, our call, the peer's call, the gate."""
    for shape in TURNS:
        z, k = torch.randn(shape), torch.randint(0, 4, shape[:1])
        size = "x".join(map(str, shape))
        yield f"rot90 {size}", "a plain copy", partial(rot90, z, k), z.clone, COPY_SHARE
    for size, (rep, c_in, c_out, batch) in SIZES.items():
        layers = [make(rep, c_in, c_out).eval() for make in (soft, plain)]
        x = torch.randn(batch, c_in * rep.dim)

        yield (
            f"soft layer in evaluation, {size}",
            "a plain layer",
            partial(evaluated, layers[0], x),
            partial(evaluated, layers[1], x),
            PLAIN_SHARE,
        )


def evaluated(layer: torch.nn.Module, x: torch.Tensor) -> object:
    with torch.no_grad():
        return layer(x)


def table(repeats: int) -> str:
    lines = [
        "| what | against | ours, fastest and median (ms) | peer (ms) | ratio of the fastest "
        "| of the medians | gate | verdict |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for what, against, ours, peer, gate in pairs():
        times = interleaved(ours, peer, repeats)
        fastest = [min(t) * 1e3 for t in times]
        medians = [statistics.median(t) * 1e3 for t in times]
        ratio = fastest[1] / fastest[0]
        verdict = "reached" if ratio >= gate else "**missed**"
        lines.append(
            f"| {what} | {against} | {fastest[0]:.4g}, {medians[0]:.4g} | {fastest[1]:.4g}, {medians[1]:.4g} "
            f"| {ratio:.2f} | {medians[1] / medians[0]:.2f} | {gate} | {verdict} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=300)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--page", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    made = table(arguments.repeats)
    conditions = (
        f"{processor_name()}, {arguments.threads} threads, PyTorch {torch.__version__}, float32, "
        f"{arguments.repeats} calls of each in turn, {datetime.now(UTC):%Y-%m-%d}."
    )
    print(made, conditions, sep="\n\n")
    if arguments.page is not None:
        arguments.page.write_text(
            "# Close calls, in turns\n\nMade by `python -m bench.in_turns --page docs/results/in_turns.md`. "
            "The two sides are called one after the other, so that other work on the machine meets both; "
            f"verdicts go by the fastest calls.\n\n{made}\n\n{conditions}\n"
        )


if __name__ == "__main__":
    main()
