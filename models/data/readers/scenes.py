"""Scenes made by rule, whose parts are known: an object in the middle of a background."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import torch
from numpy.typing import NDArray

from equikernels.models.data.columns import Content
from equikernels.models.data.draws import SampleDraws
from equikernels.models.data.pixels import PixelColumn

__all__ = ["read_scenes"]

WAVES = 3
LOBES = 3
EDGE = 0.5
"""Width of the object's edge in pixels."""


def read_scenes(name: str, *, count: int = 2000, size: int = 16, seed: int = 0) -> Content:
    """Scenes (1, size, size) in which what could move and what could not lie in fields of their own.

    "object" is a bright lobed shape around the middle, grey from one side to the other so that its direction
    shows, times "coverage", which is 1 inside of it and 0 outside; it never reaches the circle inside the
    image, so that it can turn. "background" is a sum of plane waves, darker. "image" is object + (1 -
    coverage) background. All values lie in [0, 1]; scene k depends on k, the size and the seed alone.

    Args:
        count: of scenes, at least 1.
        size: side in pixels, at least 8.
        seed: of everything random.
    """
    for option, value, least in (("count", count, 1), ("size", size, 8), ("seed", seed, 0)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"{option}: expected an integer >= {least}, got {value!r}")
    draws = SampleDraws(seed, 0, range(count))
    # Columns to the right, rows upwards, the inner circle of radius 1.
    place = (np.arange(size) - (size - 1) / 2) / (size / 2)
    x, y = place[None, None, :], -place[None, :, None]
    bright, coverage = _objects(draws, x, y, size)
    background = _backgrounds(draws, x, y)
    parts = {
        "image": bright * coverage + (1 - coverage) * background,
        "object": bright * coverage,
        "coverage": coverage,
        "background": background,
    }
    meanings = ("object over background", "object times coverage", "share of the object", "background alone")
    arrays = [np.asarray(values, dtype=np.float32) for values in parts.values()]
    evidence = hashlib.blake2b(b"".join(array.tobytes() for array in arrays)).digest()
    columns = {
        field: PixelColumn(name, array, "NHW", meaning)
        for field, array, meaning in zip(parts, arrays, meanings, strict=True)
    }
    return Content({**columns}, evidence=evidence)


def _objects(draws: SampleDraws, x: NDArray, y: NDArray, size: int) -> tuple[NDArray, NDArray]:
    """Brightness and coverage (N, H, W) of shapes inside r(phi) = r0 (1 + sum a_k cos(k phi + p_k))."""
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    outline = np.ones_like(angle)
    for lobe in range(1, LOBES + 1):
        height = _uniform(draws, f"height {lobe}", 0.08, 0.18)
        phase = _uniform(draws, f"phase {lobe}", 0, 2 * math.pi)
        outline = outline + height * np.cos(lobe * angle + phase)
    # The largest outline, 1.54 of 0.55, stays inside the circle with its edge.
    outline = _uniform(draws, "radius", 0.45, 0.55) * outline
    coverage = np.clip(0.5 + (outline - radius) * size / 2 / (2 * EDGE), 0, 1)
    light = np.cos(angle - _uniform(draws, "light", 0, 2 * math.pi)) * radius
    return np.clip(_uniform(draws, "bright", 0.65, 0.8) + 0.35 * light, 0, 1), coverage


def _backgrounds(draws: SampleDraws, x: NDArray, y: NDArray) -> NDArray:
    """Sums (N, H, W) of waves in all directions, from 0 to 0.6, with half to two periods across the image."""
    total = np.zeros_like(x + y)
    for wave in range(WAVES):
        direction = _uniform(draws, f"direction {wave}", 0, 2 * math.pi)
        frequency = math.pi * _uniform(draws, f"frequency {wave}", 0.5, 2.0)
        phase = _uniform(draws, f"shift {wave}", 0, 2 * math.pi)
        along = np.cos(direction) * x + np.sin(direction) * y
        total = total + np.cos(frequency * along + phase)
    return 0.3 * (1 + total / WAVES)


def _uniform(draws: SampleDraws, name: str, low: float, high: float) -> NDArray:
    """Numbers (N, 1, 1) in [low, high)."""
    return draws.uniform(name, (1, 1), low, high, dtype=torch.float64).numpy()
