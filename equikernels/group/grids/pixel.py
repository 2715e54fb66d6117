"""Representations of rotations on the pixels of an image."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from equikernels.group.cyclic import CyclicGroup
from equikernels.group.dihedral import DihedralGroup
from equikernels.group.grids.geometry import PixelGrid, make_grid
from equikernels.group.grids.interpolated import Interpolated
from equikernels.group.grids.spectral import SpectralModes, spectral_modes, symmetry_basis
from equikernels.group.group import Group
from equikernels.group.o2 import DETERMINANT, O2
from equikernels.group.permutation import PermutationRepresentation
from equikernels.group.representation import Representation, frozen
from equikernels.group.so2 import SO2
from equikernels.group.translations import GridTranslations
from equikernels.ops import rotate

HIGH_FREQUENCY = 0.35
"""Cycles per pixel above which `defects(data)` counts energy as outside the band."""


class GridRepresentation(Representation):
    """A representation that acts on the pixels of `grid`; made by `pixel_grid`."""

    _grid: PixelGrid
    _method: str

    @property
    def grid(self) -> PixelGrid:
        """Size and mask of the pixels acted on."""
        return self._grid

    @property
    def method(self) -> str:
        """How the matrices are made: "permutation", "spectral" or "bilinear"."""
        return self._method

    def defects(self, data: Tensor | np.ndarray | None = None) -> dict[str, float]:
        """How far the matrices are from a representation, and from the exact turns of the grid.

        Args:
            data: images (..., H, W), floating: also report the shares of their energy outside the
                inscribed disc and above 0.35 cycles per pixel, where an image rotation by this
                representation is not accurate (the group law holds there all the same).

        Returns:
            The entries of `Representation.defects`, then "quarter_turn" (on a rectangle
            "half_turn") and "flip": |rho - P| / |I| in the Frobenius norm against the exact index map
            P of that element, where the group holds it; with `data`, "energy_outside_disc" and
            "energy_high_frequency", shares between 0 and 1.
        """
        report = self._matrix_defects() | self._turn_defect()
        if data is not None:
            report |= energy_defects(self.grid, data)
        return report

    def _turn_defect(self) -> dict[str, float]:
        parts = 4 if self.grid.is_square else 2
        name = "quarter_turn" if parts == 4 else "half_turn"
        turn: Any = 2 * np.pi / parts
        if isinstance(self.group, (CyclicGroup, DihedralGroup)):
            turn = self.group.n // parts if self.group.n % parts == 0 else None
        exact = {} if turn is None else {name: (turn, getattr(self.grid, name))}
        if isinstance(self.group, O2):
            exact = {name: ((turn, 0), exact[name][1]), "flip": ((0.0, 1), self.grid.mirror)}
        if isinstance(self.group, DihedralGroup):
            exact["flip"] = (self.group.n, self.grid.mirror)
        eye, size = torch.eye(self.dim, dtype=torch.float64), float(np.sqrt(self.dim))
        return {what: float((self(g) - eye[p.copy()]).norm()) / size for what, (g, p) in exact.items()}

    @cached_property
    def _key(self) -> tuple[Any, ...]:
        return ("grid", self.group, self._grid, self._method)


class PermutationGrid(PermutationRepresentation, GridRepresentation):
    """Turns and flips that carry pixels to pixels."""

    def __init__(self, group: CyclicGroup | DihedralGroup, grid: PixelGrid, name: str) -> None:
        sources = [getattr(grid, {1: "identity", 2: "half_turn", 4: "quarter_turn"}[group.n])]
        if isinstance(group, DihedralGroup):
            sources = [*sources, grid.mirror] if group.n > 1 else [grid.mirror]
        super().__init__(group, np.stack(sources), name)
        self._set(_grid=grid, _method="permutation")

    @cached_property
    def _key(self) -> tuple[Any, ...]:
        return ("grid", self.group, self._grid, self._method)


class SpectralGrid(GridRepresentation):
    """The spectral representation of SO(2) or O(2) on a grid, or its restriction to C_n or D_n."""

    _obstructed: int

    def __init__(self, group: Group, grid: PixelGrid, modes: SpectralModes, name: str) -> None:
        reflects = isinstance(group, (O2, DihedralGroup))
        irreps: list[tuple[int | str, int]] = [(0, modes.fixed_even.shape[1])]
        irreps.append((DETERMINANT if reflects else 0, modes.fixed_odd.shape[1]))
        columns = [modes.fixed_even, modes.fixed_odd]
        for k, basis in modes.planes:
            if reflects and k % 2:
                # The irrep of odd k has the flip diag(-1, 1): a quarter turn of the plane.
                basis = np.stack([basis[..., 1], -basis[..., 0]], axis=-1)
            irreps.append((k, basis.shape[1]))
            columns.append(basis.reshape(grid.dim, -1))
        planar: Group = O2() if reflects else SO2()
        whole = Representation(planar, irreps, np.concatenate(columns, axis=1))
        restricted = whole if group == planar else whole.restrict(group).decompose()
        self._init(group, grid.dim, name)
        self._set(_irreps=restricted.irreps, _given_basis=restricted._basis, _grid=grid, _method="spectral")
        self._set(_obstructed=modes.obstructed)

    @property
    def symmetry_basis(self) -> np.ndarray:
        return frozen(symmetry_basis(self.grid))

    @property
    def obstructed_modes(self) -> int:
        """Modes that the exact turn of the grid moves and this representation leaves fixed."""
        return self._obstructed


class BilinearGrid(Interpolated, GridRepresentation):
    """Matrices of bilinear image rotation, for comparison: no representation, not orthogonal."""

    def __init__(self, group: Group, grid: PixelGrid, name: str) -> None:
        self._init(group, grid.dim, name)
        self._set(_grid=grid, _method="bilinear")

    def _matrix(self, g: Tensor, dtype: torch.dtype) -> Tensor:
        step = self.group.step if isinstance(self.group, CyclicGroup) else 1.0
        angle = step * g.to(dtype)
        flat = angle.reshape(-1)
        grid, kept = self.grid, torch.as_tensor(self.grid.kept, device=g.device)
        pixels = torch.eye(grid.height * grid.width, dtype=dtype, device=g.device)[kept]
        images = pixels.reshape(1, grid.dim, grid.height, grid.width).expand(flat.numel(), -1, -1, -1)
        turned = rotate(images, flat).flatten(-2)[..., kept]
        return turned.mT.reshape(*g.shape, grid.dim, grid.dim)

    @cached_property
    def generators(self) -> np.ndarray:
        """The mean of the one-sided derivatives at 0: central differences of the rotation field."""
        if self.group.lie_dim == 0:
            return frozen(np.zeros((0, self.dim, self.dim)))
        height, width = self.grid.height, self.grid.width
        x = np.diag(np.arange(width) - (width - 1) / 2)
        y = np.diag(np.arange(height) - (height - 1) / 2)
        rows = (np.eye(height, k=1) - np.eye(height, k=-1)) / 2
        columns = (np.eye(width, k=1) - np.eye(width, k=-1)) / 2
        a = np.kron(rows, x) - np.kron(y, columns)
        return frozen(a[np.ix_(self.grid.kept, self.grid.kept)][None])


def energy_defects(grid: PixelGrid, data: Tensor | np.ndarray) -> dict[str, float]:
    """Energy shares of images (..., H, W) outside the inscribed disc and above 0.35 cycles per pixel."""
    images = torch.as_tensor(data)
    if not images.is_floating_point():
        raise TypeError(f"data must be floating, got {images.dtype}")
    if images.ndim < 2 or tuple(images.shape[-2:]) != (grid.height, grid.width):
        raise ValueError(
            f"data must have shape (..., {grid.height}, {grid.width}), got {tuple(images.shape)}"
        )
    if not bool(torch.isfinite(images).all()):
        raise ValueError("data must be finite")
    images = images.double()
    total = float(images.square().sum())
    if total == 0:
        raise ValueError("data must not be empty or zero everywhere: its energy has no shares")
    x, y = PixelGrid(grid.height, grid.width).coordinates
    outside = (x**2 + y**2 > (min(grid.height, grid.width) / 2) ** 2).reshape(grid.height, grid.width)
    fy, fx = np.fft.fftfreq(grid.height), np.fft.fftfreq(grid.width)
    high = np.hypot(fy[:, None], fx[None, :]) > HIGH_FREQUENCY
    spectrum = torch.fft.fft2(images, norm="ortho").abs().square()
    return {
        "energy_outside_disc": float(images.square()[..., torch.as_tensor(outside)].sum()) / total,
        "energy_high_frequency": float(spectrum[..., torch.as_tensor(high)].sum()) / total,
    }


def pixel_grid(
    size: int | tuple[int, int],
    group: Group,
    *,
    method: str = "auto",
    mask: str | Tensor | np.ndarray | None = None,
) -> Representation:
    """How rotations, flips and translations act on the pixels of a grid (no channels), in dimension H * W.

    A positive angle turns content counter-clockwise as displayed, row 0 on top, about
    ((W-1)/2, (H-1)/2); 90 degrees is torch.rot90(k=1) on the last two axes. Index = row * W + column.

    Args:
        size: N for N x N pixels, or (H, W).
        group: SO2(), O2(), CyclicGroup(n) or DihedralGroup(n); the turn of C_n and D_n is by 2 pi / n,
            the flip of O(2) and D_n is left-right. GridTranslations(H, W): cyclic shifts, exact index
            maps, without a mask.
        method: "permutation": exact index maps (C_1, C_2, D_1, D_2; C_4 and D_4 on squares).
            "spectral": an exact orthogonal group law for every angle, made from the sinc derivative. It is
            accurate as an image rotation for band-limited content inside the inscribed disc only. "bilinear":
            the matrices of bilinear sampling, for comparison: they are no representation and no
            bound holds for them. "auto": permutation where it exists, else spectral.
        mask: "disc" keeps the pixels within min(H, W) / 2 of the centre; a boolean (H, W) tensor
            keeps its true pixels and must have the grid's symmetry. The dimension shrinks.

    Raises:
        ValueError: unknown method or mask, a group without this action, a size it does not fit. No
            representation of O(2) on an even square grid contains the exact D_4, so O2() and
            DihedralGroup(n) for n other than 1, 2, 4 need an odd size there.

    For N = 2 modulo 4 one mode of the spectral representation must stay fixed although the exact
    quarter turn negates it: `defects()["quarter_turn"]` is 2 / N then, and 0 for every other N.

    >>> import math
    >>> rho = pixel_grid(8, SO2())
    >>> image = torch.rand(64, dtype=torch.float64)
    >>> bool(torch.allclose(rho(math.pi / 2) @ image, torch.rot90(image.reshape(8, 8), 1).reshape(64)))
    True
    """
    grid = make_grid(size, mask)
    if isinstance(group, GridTranslations):
        return _translated(grid, group, method)
    if not isinstance(group, (SO2, O2, CyclicGroup, DihedralGroup)):
        raise ValueError(
            "group must be SO2(), O2(), CyclicGroup(n), DihedralGroup(n) or GridTranslations(H, W) for "
            f"pixel_grid, got {group!r}"
        )
    if method not in ("auto", "permutation", "spectral", "bilinear"):
        raise ValueError(f'method must be "auto", "permutation", "spectral" or "bilinear", got {method!r}')
    permutes = isinstance(group, (CyclicGroup, DihedralGroup)) and (
        group.n in (1, 2) or (group.n == 4 and grid.is_square)
    )
    if method == "permutation" and not permutes:
        raise ValueError(
            f"{group!r} does not carry the pixels of a {grid.height} x {grid.width} grid to pixels: "
            'use method="spectral"'
        )
    chosen = ("permutation" if permutes else "spectral") if method == "auto" else method
    masked = "" if grid.mask is None else ", masked"
    name = f"{chosen} grid {grid.height}x{grid.width}{masked}"
    if chosen == "permutation":
        assert isinstance(group, (CyclicGroup, DihedralGroup))
        return PermutationGrid(group, grid, name)
    if chosen == "bilinear":
        if not isinstance(group, (SO2, CyclicGroup)):
            raise ValueError(f'method="bilinear" turns only: use SO2() or CyclicGroup(n), got {group!r}')
        return BilinearGrid(group, grid, name)
    modes = spectral_modes(grid)
    stuck = 2 * modes.one_parity + modes.obstructed
    if stuck and isinstance(group, (O2, DihedralGroup)):
        raise ValueError(
            f"{group!r} cannot act on a {grid.height} x {grid.width} grid{masked}: {stuck} of the modes that "
            "must turn have one sign under the flip, and a turn that the flip reverses needs both signs. "
            f"On squares use an odd size, for example {max(grid.height, grid.width) // 2 * 2 + 1}"
        )
    return SpectralGrid(group, grid, modes, name)


def _translated(grid: PixelGrid, group: GridTranslations, method: str) -> Representation:
    if method not in ("auto", "permutation"):
        raise ValueError(f'method must be "auto" or "permutation" for {group!r}, got {method!r}')
    if (grid.height, grid.width) != (group.height, group.width):
        raise ValueError(
            f"size must be {(group.height, group.width)} for {group!r}, got {(grid.height, grid.width)}"
        )
    if grid.mask is not None:
        raise ValueError("mask must be None for translations: they carry every pixel to every other")
    return group.regular()
