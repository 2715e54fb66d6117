"""Which implementation of an operation runs, and why.

Every operation has one meaning and several implementations, the *backends*:

- ``reference``: plain torch, any device; the specification that all others are tested against;
- ``torch``: the fast way where torch's own libraries have the kernels, Fourier transforms or products of
  matrices say, on the devices that an operation names;
- ``cpp``: C++ kernels on the CPU, present when the package was built with a C++17 compiler;
- ``triton`` and ``cuda``: GPU kernels. With ``TRITON_INTERPRET=1`` in the environment Triton's interpreter
  runs those of ``triton`` on CPU tensors, for tests: very slowly, and only when asked for by name.

The automatic choice is the first that is there of ``cpp``, ``torch`` and ``reference`` for a CPU tensor, and
of a GPU kernel and ``torch`` for a GPU tensor. On a GPU the reference runs only when asked for by name: it is
slow there, and nothing becomes slow silently.

Environment variables, read at every call unless said otherwise:

``EQUIKERNELS_BACKEND``
    Name of the backend every operation must use. The ``backend=`` argument of an operation comes before it.
``EQUIKERNELS_ISA``
    Instruction set of the ``cpp`` kernels: ``baseline``, ``avx2`` or ``avx512``; the best one
    this CPU has by default. Meant for tests. Read once per process; a name that is unknown, or a set that the
    CPU does not have, is an error on first use.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

__all__ = ["BACKENDS", "Backend", "BackendError", "choose", "explain", "register", "registered"]

ENVIRONMENT_VARIABLE = "EQUIKERNELS_BACKEND"
_ENCODED = os.environ.encodekey(ENVIRONMENT_VARIABLE)

# In order of preference.
BACKENDS = ("cuda", "triton", "cpp", "torch", "reference")
DEVICES = ("cpu", "cuda", "any")

# Where the reference may be chosen without being named: nowhere that a kernel is expected.
_REFERENCE_IS_EXPECTED = ("cpu", "meta")


class BackendError(ValueError):
    """The requested or automatic choice of a backend is impossible."""


@dataclass(frozen=True)
class Backend:
    """One implementation of one operation: where it runs, whether it is there, and if not, why.

    One that is not `automatic` runs only when it is asked for by name.
    """

    operation: str
    name: str
    devices: tuple[str, ...]
    available: bool = True
    reason: str = ""
    automatic: bool = True

    def __post_init__(self) -> None:
        if not self.operation.isidentifier():
            raise ValueError(f"operation: expected an identifier, got {self.operation!r}")
        if self.name not in BACKENDS:
            raise ValueError(f"name: expected one of {', '.join(BACKENDS)}, got {self.name!r}")
        unknown = [device for device in self.devices if device not in DEVICES]
        if not isinstance(self.devices, tuple) or not self.devices or unknown:
            raise ValueError(f"devices: expected a tuple of {', '.join(DEVICES)}, got {self.devices!r}")
        if self.available == bool(self.reason):
            raise ValueError("reason: expected text exactly when the backend is not available")

    def runs_on(self, device: str) -> bool:
        return device in self.devices or "any" in self.devices


_registry: dict[str, dict[str, Backend]] = {}


def register(backend: Backend) -> Backend:
    """Add a backend; each (operation, name) exists once."""
    backends = _registry.setdefault(backend.operation, {})
    if backend.name in backends:
        raise ValueError(f"backend {backend.name!r} of {backend.operation} is registered already")
    backends[backend.name] = backend
    return backend


def registered(operation: str | None = None) -> tuple[Backend, ...]:
    """The records of one operation, or of all of them, in order of preference."""
    operations = sorted(_registry) if operation is None else [operation]
    return tuple(
        _registry[each][name]
        for each in operations
        for name in BACKENDS
        if each in _registry and name in _registry[each]
    )


def choose(operation: str, device: str, backend: str | None = None) -> str:
    """Name of the backend that runs `operation` for tensors on a device type such as ``"cpu"``.

    >>> choose("rotate", "cpu", backend="reference")
    'reference'
    """
    if backend is None:
        # Asked for a variable that is not set, os.environ raises an error and catches it, which takes longer
        # than anything else on the way to a kernel.
        if os.environ._data.get(_ENCODED):  # type: ignore[attr-defined]
            backend = os.environ[ENVIRONMENT_VARIABLE]
        source = ENVIRONMENT_VARIABLE
    else:
        source = "backend"
    records = _registry.get(operation)
    if records is None:
        raise BackendError(
            f"operation: {operation!r} is unknown, expected one of {', '.join(sorted(_registry))}"
        )
    if backend is None:
        for name in BACKENDS:
            record = records.get(name)
            if record is None or not record.available or not record.automatic or not record.runs_on(device):
                continue
            if name != "reference" or device in _REFERENCE_IS_EXPECTED:
                return name
        raise BackendError(
            f"{operation} has no kernel for {device} tensors here; "
            f'backend="reference" is available and slow. {_state(operation)}'
        )
    if backend not in BACKENDS:
        raise BackendError(f"{source}: {backend!r} is unknown, expected one of {', '.join(BACKENDS)}")
    record = records.get(backend)
    if record is None or not record.available or not record.runs_on(device):
        raise BackendError(
            f"{source}: {backend!r} cannot run {operation} on {device} tensors. {_state(operation)}"
        )
    return backend


def _state(operation: str) -> str:
    parts = []
    for name in BACKENDS:
        record = _registry[operation].get(name)
        if record is None:
            parts.append(f"{name}: not implemented")
        elif record.available:
            parts.append(f"{name}: {_availability(record)} on {'/'.join(record.devices)}")
        else:
            parts.append(f"{name}: absent, {record.reason}")
    return f"What exists for {operation}: {'; '.join(parts)}."


def _availability(record: Backend) -> str:
    return "available" if record.automatic else "available by name"


def explain(operation: str | None = None) -> str:
    """The table of every operation's backends: where each runs, whether it is there, and if not, why.

    >>> print(explain("rotate").splitlines()[0])
    operation  backend    devices  state
    """
    if operation is not None and operation not in _registry:
        raise BackendError(
            f"operation: {operation!r} is unknown, expected one of {', '.join(sorted(_registry))}"
        )
    rows = [("operation", "backend", "devices", "state")]
    for record in registered(operation):
        state = _availability(record) if record.available else f"absent: {record.reason}"
        rows.append((record.operation, record.name, "/".join(record.devices), state))
    widths = [max(len(row[column]) for row in rows) + 2 for column in range(3)]
    lines = [
        "".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)) + row[3] for row in rows
    ]
    forced = os.environ.get(ENVIRONMENT_VARIABLE)
    if forced:
        lines.append(f"{ENVIRONMENT_VARIABLE}={forced} overrides the automatic choice")
    return "\n".join(lines)
