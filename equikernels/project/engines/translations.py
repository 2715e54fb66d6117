"""Cyclic translations of a grid: responses as low-pass filters, by fast Fourier transforms.

A translation moves rows and columns of W together. With W[j + d, j] written as a function of the pixel j for
each offset d, it moves j alone, so a response multiplies the Fourier coefficient of j at (k1, k2) by
f(sigma), sigma^2 = 4 sin^2(pi k1 / H) + 4 sin^2(pi k2 / W).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from equikernels.group import GridTranslations, Representation
from equikernels.group.translations import TranslatedPixels
from equikernels.project.engines.engine import BlockEngine, Engine, Factors
from equikernels.project.spectrum import Spectrum, spectrum_of


def can_transform(rep_in: Representation, rep_out: Representation) -> bool:
    """Whether one side is pixels and the other pixels or trivial, so that the transform applies."""
    sides = [isinstance(rep, TranslatedPixels) for rep in (rep_in, rep_out)]
    others = [rep for rep, pixels in zip((rep_in, rep_out), sides, strict=True) if not pixels]
    return any(sides) and all(label == (0, 0) for rep in others for label, _ in rep.irreps)


class TranslationEngine(BlockEngine):
    """Responses of the constraint of unit steps, between the pixels of a grid, or pixels and trivial ones.

    Args:
        rep_out, rep_in: representations of GridTranslations(H, W); pixels or trivial, at least one pixels.
        explicit: makes an engine with bases, for `basis` alone.
    """

    def __init__(
        self, rep_out: Representation, rep_in: Representation, explicit: Callable[[], Engine]
    ) -> None:
        group = rep_in.group
        assert isinstance(group, GridTranslations)
        self.m, self.n = rep_out.dim, rep_in.dim
        self._grid = group.height, group.width
        self._explicit = explicit
        self._pixels_in, self._pixels_out = (isinstance(rep, TranslatedPixels) for rep in (rep_in, rep_out))
        steps = [
            2 * np.abs(np.sin(np.pi * np.arange(side) / side)) if side > 1 else np.zeros(1)
            for side in self._grid
        ]
        sigma = np.hypot(steps[0][:, None], steps[1]).ravel()
        copies = self.m * self.n // group.order
        self._spectrum, index = spectrum_of(sigma, np.full(sigma.size, copies), 1.0)
        self._index = torch.tensor(index).reshape(self._grid)
        larger = np.maximum(steps[0][:, None], steps[1]).ravel()
        self._slopes = np.zeros(self._spectrum.values.size)
        np.maximum.at(self._slopes, index, larger)

    @property
    def spectrum(self) -> Spectrum:
        return self._spectrum

    @property
    def lie_slopes(self) -> np.ndarray:
        return np.zeros_like(self._slopes)

    @property
    def discrete_slopes(self) -> np.ndarray:
        return self._slopes

    def factors(self, response: Tensor) -> Factors:
        return (response[self._index],)

    def apply(self, w: Tensor, factors: Factors) -> Tensor:
        (filter_,) = factors
        assert filter_ is not None
        moved = self._unshear(w)
        spectrum = torch.fft.rfft2(moved)
        half = filter_[:, : spectrum.shape[-1]]
        return self._shear(torch.fft.irfft2(spectrum * half, s=self._grid))

    def _pixel(self, device: torch.device, sign: int) -> Tensor:
        """Indices (H W, H W): the pixel a + sign b, cyclically, for pixels a (rows) and b (columns)."""
        firsts, seconds = (
            (torch.arange(side, device=device)[:, None] + sign * torch.arange(side, device=device)) % side
            for side in self._grid
        )
        both = firsts[:, None, :, None] * self._grid[1] + seconds[None, :, None, :]
        return both.reshape(both.shape[0] * both.shape[1], -1)

    def _unshear(self, w: Tensor) -> Tensor:
        """W as functions (..., offsets, H, W) of the pixel that translations move."""
        if self._pixels_in and self._pixels_out:
            # Row d of column j takes the entry (j + d, j).
            w = w.gather(-2, self._pixel(w.device, 1).expand(w.shape))
        elif self._pixels_out:
            w = w.mT
        moved: Tensor = w.unflatten(-1, self._grid)
        return moved

    def _shear(self, moved: Tensor) -> Tensor:
        w = moved.flatten(-2)
        if self._pixels_in and self._pixels_out:
            # The entry (i, j) is that of the offset i - j.
            return w.gather(-2, self._pixel(w.device, -1).expand(w.shape))
        return w.mT if self._pixels_out else w

    def energies(self, w: Tensor) -> np.ndarray:
        coefficients = torch.fft.fft2(self._unshear(w.detach().double().cpu()), norm="ortho")
        square = coefficients.abs().square().flatten(0, -3).sum(0).numpy()
        return np.bincount(self._index.numpy().ravel(), square.ravel(), minlength=self.spectrum.values.size)

    def basis(self, kept: np.ndarray) -> np.ndarray:
        return self._explicit().basis(kept)
