"""Simulated particle images of a body with two domains, with their truths."""

from __future__ import annotations

import hashlib

from equikernels.models.data.columns import Column, Content, ValueColumn
from equikernels.models.data.pixels import PixelColumn
from equikernels.models.data.two_domains import simulate_two_domains

__all__ = ["read_two_domains"]


def read_two_domains(
    name: str,
    *,
    count: int = 2000,
    size: int = 40,
    seed: int = 0,
    snr: float = 0.5,
    shift: float = 1.0,
    turned: bool = True,
) -> Content:
    """Simulated particle images with their truths, see `equikernels.models.data.two_domains`.

    Args:
        count, size, seed, snr, shift, turned: of `simulate_two_domains`.
    """
    made = simulate_two_domains(count, size, seed, snr=snr, shift=shift, turned=turned)
    columns: dict[str, Column] = {
        "image": PixelColumn(name, made.images, "NHW", "densities, noise of standard deviation 1"),
        "conformation": ValueColumn(name, made.conformation, "swing of the second domain, -1 to 1"),
        "theta": ValueColumn(name, made.theta, "turn in the plane in radians, clockwise"),
        "shift": ValueColumn(name, made.shift, "movement after the turn in pixels, right and up"),
    }
    return Content(columns, evidence=hashlib.blake2b(made.images.tobytes()).digest())
