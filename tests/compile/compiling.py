"""Compiles every Triton kernel of an operation without a GPU, and tells what each needs of one.

Run as a script, because the interpreter, which other tests turn on, must be off when Triton is imported:

    python tests/compile/compiling.py rotation 90      prints JSON: one record for every kernel

The cases of operation ``x`` are in ``tests/compile/x_cases.py``: ``LAUNCHERS``, the module of its launchers,
and ``cases()``, pairs of a name and a function that calls a launcher with meta tensors. What the launcher
would start on a GPU is compiled instead, with the same arguments, so that signatures, divisibility and meta
parameters are those of real launches.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.runtime.jit import JITFunction


@dataclasses.dataclass(frozen=True)
class Compiled:
    """One kernel of one case; `spills` is in bytes, `atomics` are instructions."""

    case: str
    kernel: str
    signature: str
    registers: int
    spills: int
    shared: int
    atomics: list[str]


class Compiler:
    """Stands in for Triton's driver, which would look for a GPU."""

    def __init__(self, capability: int) -> None:
        self.target = GPUTarget("cuda", capability, 32)

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_current_target(self) -> GPUTarget:
        return self.target


def assemble(ptx: str, capability: int) -> dict[str, int]:
    """Registers, and bytes spilled, from the messages of the assembler."""
    architecture = re.search(r"^\.target (\w+)", ptx, re.MULTILINE)
    assert architecture is not None
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "kernel.ptx"
        source.write_text(ptx)
        messages = subprocess.run(
            # With the options Triton itself gives; it keeps the code and drops these messages.
            [
                triton.knobs.nvidia.ptxas.path,
                "-lineinfo",
                "-v",
                "--regAllocOptLevel=2",
                f"--gpu-name={architecture[1]}",
                str(source),
                "-o",
                str(Path(folder) / "kernel.o"),
            ],
            check=True,
            capture_output=True,
            text=True,
        ).stderr
    registers = re.search(r"Used (\d+) registers", messages)
    spills = re.findall(r"(\d+) bytes spill (?:stores|loads)", messages)
    assert registers is not None, messages
    assert spills, messages
    return {"registers": int(registers[1]), "spills": sum(map(int, spills))}


def compile_cases(operation: str, capability: int) -> list[Compiled]:
    cases = importlib.import_module(f"tests.compile.{operation}_cases")
    triton.runtime.driver.set_active(Compiler(capability))
    launch = JITFunction.run
    found: dict[str, Compiled] = {}
    current = ""

    def compile_only(self: Any, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> None:
        kernel = launch(self, *args, grid=grid, warmup=True, **kwargs)
        if kernel.hash in found:
            return
        ptx = kernel.asm["ptx"]
        found[kernel.hash] = Compiled(
            current,
            kernel.name,
            ", ".join(
                f"{name}: {kind}" for name, kind in kernel.src.signature.items() if kind != "constexpr"
            ),
            shared=kernel.metadata.shared,
            atomics=re.findall(r"^.*\b(?:atom|red)\..*$", ptx, re.MULTILINE),
            **assemble(ptx, capability),
        )

    JITFunction.run = compile_only
    for name, call in cases.cases():
        current = name
        call()
    # The launchers' module and its neighbours.
    prefix = f"{cases.LAUNCHERS.__package__}.triton_"
    written = {
        name
        for module in [module for name, module in sys.modules.items() if name.startswith(prefix)]
        for name, value in vars(module).items()
        if isinstance(value, JITFunction)
    }
    started = {record.kernel for record in found.values()}
    missing = {name for name in written if name.endswith("_kernel")} - started
    assert not missing, f"no case starts {', '.join(sorted(missing))}"
    return list(found.values())


if __name__ == "__main__":
    records = compile_cases(sys.argv[1], int(sys.argv[2]))
    print(json.dumps([dataclasses.asdict(record) for record in records]))
