"""Everything there is to do on a machine with a GPU, in one command and a bounded time.

    python -m bench.gpu_session OUT [--minutes 9]

Builds the kernels in place, runs the tests marked `gpu`, then the benchmarks marked `gpu`, each with what is
left of the time, and leaves in OUT: `environment.txt`, one log for each step, and `benchmark.json`, which
``python -m bench.record OUT/benchmark.json`` appends to the record. Ends with one line for each step; the
exit status is 1 if a step failed or had no time left. A step that fails does not stop those after it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent
MARKED = ("-m", "gpu and not slow", "-q", "-p", "no:cacheprovider")


def steps(out: Path) -> dict[str, list[str]]:
    """Each step's arguments to Python."""
    measured = ("--benchmark-enable", "--benchmark-only", f"--benchmark-json={out / 'benchmark.json'}")
    return {
        "build": ["setup.py", "--quiet", "build_ext", "--inplace"],
        "doctor": ["-c", "import sys; from equikernels.cli import main; sys.exit(main(['doctor']))"],
        "tests": ["-m", "pytest", "tests", *MARKED],
        "benchmarks": ["-m", "pytest", "bench", *MARKED, *measured],
    }


def environment() -> str:
    properties = torch.cuda.get_device_properties(0)
    return "\n".join(
        [
            f"gpu: {properties.name}, {properties.total_memory / 2**30:.0f} GiB, "
            f"sm_{properties.major}{properties.minor}, {properties.multi_processor_count} multiprocessors",
            f"python {sys.version.split()[0]}, torch {torch.__version__}, cuda {torch.version.cuda}",
        ]
    )


def run(name: str, arguments: list[str], out: Path, seconds: float) -> str:
    """The outcome of one step, its output in OUT/name.log."""
    if seconds <= 0:
        return "no time left"
    with (out / f"{name}.log").open("w") as log:
        try:
            done = subprocess.run(
                [sys.executable, *arguments], cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, timeout=seconds
            )
        except subprocess.TimeoutExpired:
            return "stopped: out of time"
    return "done" if done.returncode == 0 else f"failed with status {done.returncode}"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.gpu_session",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("out", type=Path, help="folder for logs and measurements, made if it is absent")
    parser.add_argument("--minutes", type=float, default=9.0, help="for everything (default: %(default)s)")
    options = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        print("bench.gpu_session: PyTorch sees no GPU here", file=sys.stderr)
        return 1
    out: Path = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    (out / "environment.txt").write_text(environment() + "\n")
    end = time.monotonic() + 60 * options.minutes
    outcomes = {}
    for name, command in steps(out).items():
        start = time.monotonic()
        outcome = run(name, command, out, end - start)
        outcomes[name] = outcome
        print(f"{name:12}{outcome} ({time.monotonic() - start:.0f} s)", flush=True)
        if outcome != "done" and (out / f"{name}.log").exists():
            print("".join((out / f"{name}.log").read_text().splitlines(keepends=True)[-15:]))
    print(environment())
    return 0 if set(outcomes.values()) == {"done"} else 1


if __name__ == "__main__":
    sys.exit(main())
