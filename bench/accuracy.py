"""What the pages on the accuracy of rotations share: errors inside a region, and how numbers are written."""

from __future__ import annotations

import importlib.metadata

import numpy as np

from equikernels.group.grids.geometry import PixelGrid


def disc(side: int) -> np.ndarray:
    """The boolean mask (side, side) of the pixels within side / 2 of the centre."""
    x, y = PixelGrid(side, side).coordinates
    return (x**2 + y**2 <= (side / 2) ** 2).reshape(side, side)


def relative_error(found: np.ndarray, expected: np.ndarray, region: np.ndarray) -> float:
    """The mean over arrays (count, ...) of |found - expected| / |expected|, both inside a region (...)."""
    difference, size = (np.linalg.norm(x[:, region], axis=1) for x in (found - expected, expected))
    return float((difference / size).mean())


def number(value: float) -> str:
    """Two digits; what is only rounding stands as a power of ten."""
    return f"{value:.2g}" if value == 0 or value >= 1e-4 else f"{value:.0e}"


def table(head: list[str], lines: list[list[str]]) -> str:
    """A table in Markdown."""
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *lines])


def versions() -> str:
    names = ("equikernels", "torch", "numpy", "scipy", "scikit-image", "scikit-learn")
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)
