"""The contrast transfer function of an electron microscope, with astigmatism, and images seen through it."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["ContrastTransfer", "apply_transfer", "check_columns", "electron_wavelength"]

REQUIRED = (
    "rlnDefocusU", "rlnDefocusV", "rlnDefocusAngle", "rlnVoltage", "rlnSphericalAberration",
    "rlnAmplitudeContrast",
)  # fmt: skip
PIXEL_SIZE = "rlnImagePixelSize"
DETECTOR, MAGNIFICATION = "rlnDetectorPixelSize", "rlnMagnification"

ANGSTROM_PER_MILLIMETRE = 1e7
ANGSTROM_PER_MICROMETRE = 1e4


def electron_wavelength(voltage: Tensor) -> Tensor:
    """lambda = 12.2639 / sqrt(V + 0.97845e-6 V^2) in Angstrom, with relativity.

    Args:
        voltage: V, in volts.

    >>> electron_wavelength(torch.tensor(300e3, dtype=torch.float64))
    tensor(0.0197, dtype=torch.float64)
    """
    return 12.2639 / (voltage + 0.97845e-6 * voltage.square()).sqrt()


@dataclass(frozen=True)
class ContrastTransfer:
    """The contrast transfer functions of N images.

        df(alpha) = (df_u + df_v) / 2 + (df_u - df_v) / 2 cos(2 (alpha - alpha_0))
        gamma = 2 pi (-df(alpha) lambda s^2 / 2 + Cs lambda^3 s^4 / 4) - phase
        CTF = (sqrt(1 - w^2) sin gamma - w cos gamma) exp(-B s^2 / 4)

    at the spatial frequency s in 1/Angstrom, whose direction alpha runs from the columns to the right towards
    rows further down: clockwise as displayed with row 0 on top. Underfocus is positive. CTF(0) = -w without a
    phase shift, so a dense particle is dark; where a stack has been inverted, so that particles are bright,
    the density that explains it is negative.

    Attributes:
        defocus_u, defocus_v: df_u and df_v in Angstrom, (N,).
        angle: alpha_0 in radians, (N,).
        voltage: in volts, (N,).
        aberration: Cs in Angstrom, (N,).
        amplitude_contrast: w in [0, 1], (N,).
        phase_shift: of a phase plate, in radians, (N,).
        b_factor: B in square Angstrom, (N,).
        pixel_size: in Angstrom, (N,).

    >>> one = torch.ones(1, dtype=torch.float64)
    >>> transfer = ContrastTransfer(15e3 * one, 15e3 * one, 0 * one, 300e3 * one, 2.7e7 * one, 0.1 * one,
    ...                             0 * one, 0 * one, 2 * one)
    >>> transfer(8, 8).shape, transfer(8, 8)[0, 0, 0]
    (torch.Size([1, 8, 5]), tensor(-0.1000, dtype=torch.float64))
    """

    defocus_u: Tensor
    defocus_v: Tensor
    angle: Tensor
    voltage: Tensor
    aberration: Tensor
    amplitude_contrast: Tensor
    phase_shift: Tensor
    b_factor: Tensor
    pixel_size: Tensor

    @classmethod
    def from_star(cls, fields: Mapping[str, Tensor], pixel_size: float | None = None) -> ContrastTransfer:
        """From columns of a STAR file of RELION, those of its optics table joined, each (N,).

        rlnVoltage is in kV, rlnSphericalAberration in mm, angles in degrees. rlnPhaseShift and rlnCtfBfactor
        are 0 where they are absent.

        Args:
            fields: by name, as `equikernels.models.data.load_dataset` reads them.
            pixel_size: in Angstrom; by default rlnImagePixelSize, or else rlnDetectorPixelSize (micrometres)
                over rlnMagnification, which is that of the micrograph and so wrong for images that were
                binned.

        Raises:
            ValueError: a column is missing, or has values that cannot be.
        """
        check_columns(fields, pixel_size)
        given = {name: fields[name].double() for name in REQUIRED}
        like = given[REQUIRED[0]]
        size = _pixel_size(fields, pixel_size, like)
        for name, values, good in (
            ("rlnVoltage", given["rlnVoltage"], given["rlnVoltage"] > 0),
            ("rlnAmplitudeContrast", given["rlnAmplitudeContrast"], _within_one(given)),
            ("the pixel size", size, size > 0),
        ):
            if not good.all():
                wrong = float(values[~good][0])
                expected = "0 to 1" if name == "rlnAmplitudeContrast" else "numbers > 0"
                raise ValueError(f"ctf: expected {expected} for {name}, got {wrong:g}")
        zero = torch.zeros_like(like)
        return cls(
            defocus_u=given["rlnDefocusU"],
            defocus_v=given["rlnDefocusV"],
            angle=given["rlnDefocusAngle"] * (math.pi / 180),
            voltage=given["rlnVoltage"] * 1e3,
            aberration=given["rlnSphericalAberration"] * ANGSTROM_PER_MILLIMETRE,
            amplitude_contrast=given["rlnAmplitudeContrast"],
            phase_shift=fields.get("rlnPhaseShift", zero).double() * (math.pi / 180),
            b_factor=fields.get("rlnCtfBfactor", zero).double(),
            pixel_size=size,
        )

    def __call__(self, height: int, width: int) -> Tensor:
        """At the frequencies of `torch.fft.rfft2` of images (height, width): (N, height, width // 2 + 1)."""
        like = self.pixel_size
        down = torch.fft.fftfreq(height, dtype=like.dtype, device=like.device)[:, None]
        right = torch.fft.rfftfreq(width, dtype=like.dtype, device=like.device)
        square = (down.square() + right.square()) / _each(like).square()
        around = torch.cos(2 * (torch.atan2(down, right) - _each(self.angle)))
        mean, half = (self.defocus_u + self.defocus_v) / 2, (self.defocus_u - self.defocus_v) / 2
        defocus = _each(mean) + _each(half) * around
        wavelength = _each(electron_wavelength(self.voltage))
        waves = -defocus * wavelength * square / 2
        waves = waves + _each(self.aberration) * wavelength**3 * square.square() / 4
        gamma = 2 * math.pi * waves - _each(self.phase_shift)
        w = _each(self.amplitude_contrast)
        contrast = (1 - w.square()).sqrt() * gamma.sin() - w * gamma.cos()
        return contrast * torch.exp(-_each(self.b_factor) * square / 4)


def check_columns(names: Collection[str], pixel_size: float | None = None) -> None:
    """Whether `ContrastTransfer.from_star` has what it needs.

    Args:
        names: of the columns.
        pixel_size: as it takes it.

    Raises:
        ValueError: a column is missing.
    """
    missing = [name for name in REQUIRED if name not in names]
    if missing:
        raise ValueError(f"ctf: expected the columns {', '.join(REQUIRED)}, got no {', '.join(missing)}")
    sized = pixel_size is not None or PIXEL_SIZE in names or {DETECTOR, MAGNIFICATION} <= set(names)
    if not sized:
        expected = f"a column {PIXEL_SIZE}, or {DETECTOR} and {MAGNIFICATION}, or a pixel size"
        raise ValueError(f"ctf: expected {expected}, got none")


def apply_transfer(images: Tensor, transfer: Tensor) -> Tensor:
    """Images multiplied by a transfer function in Fourier space; opposite edges touch.

    Args:
        images: (N, C, H, W).
        transfer: (N, H, W // 2 + 1), of any real dtype.

    Returns:
        (N, C, H, W), differentiable in both.

    Raises:
        ValueError: a transfer function of another shape.

    >>> images = torch.rand(2, 1, 4, 5)
    >>> bool(torch.allclose(apply_transfer(images, -torch.ones(2, 4, 3)), -images, atol=1e-6))
    True
    """
    count, _, height, width = images.shape
    if transfer.shape != (count, height, width // 2 + 1):
        expected = (count, height, width // 2 + 1)
        raise ValueError(f"transfer: expected shape {expected}, got {tuple(transfer.shape)}")
    spectrum = torch.fft.rfft2(images) * transfer.to(images)[:, None]
    return torch.fft.irfft2(spectrum, s=(height, width))


def _pixel_size(fields: Mapping[str, Tensor], given: float | None, like: Tensor) -> Tensor:
    if given is not None:
        return torch.full_like(like, given)
    if PIXEL_SIZE in fields:
        return fields[PIXEL_SIZE].double()
    return fields[DETECTOR].double() * ANGSTROM_PER_MICROMETRE / fields[MAGNIFICATION].double()


def _within_one(given: Mapping[str, Tensor]) -> Tensor:
    w = given["rlnAmplitudeContrast"]
    return (w >= 0) & (w <= 1)


def _each(values: Tensor) -> Tensor:
    return values[:, None, None]
