"""What may be sampled, and how: checks that all the sampling operations share."""

from __future__ import annotations

from equikernels.ops.backends import BackendError

MODES = ("nearest", "bilinear", "bicubic")
PADDINGS = ("zeros", "border", "reflection")

# Modes and paddings of the kernel backends that do not have them all; the reference has.
PARTIAL = {"triton": (("nearest", "bilinear"), ("zeros", "border"))}


def check_options(mode: str, padding: str, dims: int) -> None:
    """Refuse interpolations and paddings that do not exist in `dims` dimensions."""
    if mode not in MODES:
        raise ValueError(f"mode: expected one of {', '.join(MODES)}, got {mode!r}")
    if mode == "bicubic" and dims != 2:
        raise ValueError("mode: bicubic is for images (N, C, H, W); volumes have nearest and bilinear")
    if padding not in PADDINGS:
        raise ValueError(f"padding: expected one of {', '.join(PADDINGS)}, got {padding!r}")


def check_backend(operation: str, backend: str, mode: str, padding: str) -> None:
    """Refuse a combination that the chosen backend has no kernel for; nothing becomes slow silently.

    >>> check_backend("rotate", "cpp", "bicubic", "reflection")
    >>> check_backend("rotate", "triton", "bicubic", "zeros")
    Traceback (most recent call last):
    equikernels.ops.backends.BackendError: rotate: the triton backend has no kernel for mode="bicubic" with
    padding="zeros", it has mode nearest or bilinear and padding zeros or border; only backend="reference"
    runs this combination there, slowly
    """
    modes, paddings = PARTIAL.get(backend, (MODES, PADDINGS))
    if mode not in modes or padding not in paddings:
        raise BackendError(
            f'{operation}: the {backend} backend has no kernel for mode="{mode}" with padding="{padding}", '
            f"it has mode {' or '.join(modes)} and padding {' or '.join(paddings)}; "
            'only backend="reference" runs this combination there, slowly'
        )
