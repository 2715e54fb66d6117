"""``equikernels doctor``: what is installed and built, and which implementation each operation would use."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform

from equikernels import __version__

__all__ = ["report"]

_LIBRARIES = ("torch", "triton", "numpy", "scipy", "numba")


def report() -> str:
    """Versions, devices and the table of implementations, as text for a person or a bug report.

    >>> print(report().splitlines()[0])
    equikernels       ...
    """
    # Imported here so that the other commands, and `--help`, do not wait for torch.
    from equikernels.ops import backends

    facts = [("equikernels", __version__), ("Python", platform.python_version())]
    facts += [("platform", platform.platform())]
    facts += [(library, _version(library)) for library in _LIBRARIES]
    facts += _extension()
    facts += _hardware()
    lines = [f"{name:18}{value}" for name, value in facts]
    return "\n".join([*lines, "", backends.explain()])


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _extension() -> list[tuple[str, str]]:
    """Whether the compiled CPU kernels are there, and the instruction set they use, or why not."""
    try:
        native = importlib.import_module("equikernels.ops._native")
    except ImportError as error:
        # Told, not hidden: this command exists to say why a part is absent.
        return [("C++ extension", f"not available: {error}")]
    try:
        chosen = native.selected_isa()
    except RuntimeError as error:
        chosen = f"none: {error}"
    return [
        ("C++ extension", "built"),
        ("instruction set", f"{chosen} (this processor has {', '.join(native.supported_isas())})"),
    ]


def _hardware() -> list[tuple[str, str]]:
    import torch

    threads = f"{torch.get_num_threads()} of {os.cpu_count()} processors"
    if not torch.cuda.is_available():
        return [("CPU threads", threads), ("GPU", "none that PyTorch can use")]
    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return [("CPU threads", threads), ("GPU", ", ".join(names))]
