"""How groups move images and volumes: exactly where pixels go to pixels, otherwise by the method asked for.

Every action is that on functions, (rho(g) z)(p) = z(g^-1 p), with x to the right and y up from the centre.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from equikernels.group.compiling import outside_of_graphs
from equikernels.ops import dihedral_rotate, rot90, rotate, shear_rotate, spectral_rotate

if TYPE_CHECKING:
    from equikernels.group.group import Group

SAMPLED = ("nearest", "bilinear", "bicubic")
PLANAR_METHODS = ("auto", "exact", *SAMPLED, "shear", "spectral")
SPATIAL_METHODS = ("auto", "exact", "nearest", "bilinear")


def check_method(
    group: Group, method: str, padding: str | None, methods: tuple[str, ...], exact: bool
) -> str:
    """The method to take: "auto" is exact where the group allows it, and bilinear elsewhere."""
    if method not in methods:
        raise ValueError(f"method: expected one of {', '.join(methods)} for {group!r}, got {method!r}")
    if method == "auto":
        method = "exact" if exact else "bilinear"
    if method == "exact" and not exact:
        raise ValueError(f"method: {group!r} does not move every pixel to a pixel, so it has no exact action")
    if padding is not None and method not in SAMPLED:
        raise ValueError(f"padding: the {method} method takes none, got {padding!r}")
    return method


def on_device(group: Group, g: Any, z: Tensor) -> Any:
    """Checked elements where the data is: those given as tensors must be there, numbers are brought."""
    given = g[0] if isinstance(g, tuple) and g else g
    element = group.check(g)
    return element if isinstance(given, Tensor) else group.to(element, z.device)


def turn_images(z: Tensor, angle: Tensor, method: str, padding: str | None) -> Tensor:
    """Images (N, C, ..., H, W) turned by angles () or (N,), by a method that is not exact."""
    images = z.reshape(z.shape[0], -1, *z.shape[-2:])
    if method == "shear":
        return shear_rotate(images, angle).view(z.shape)
    if method == "spectral":
        height, width = z.shape[-2:]
        if height != width:
            raise ValueError(f"z: the spectral method needs square images, got {height} x {width}")
        basis, frequencies = _spectral_basis(height, str(z.device), _wide(z.dtype))
        return spectral_rotate(images, angle, basis, frequencies).view(z.shape)
    return rotate(images, angle, mode=method, padding=padding or "zeros").view(z.shape)


def flip_images(z: Tensor, flip: Tensor) -> Tensor:
    """The left-right flip of those images (N, C, ..., H, W) whose `flip`, () or (N,), is 1."""
    images = z.reshape(z.shape[0], -1, *z.shape[-2:])
    return dihedral_rotate(images, 4 * flip).view(z.shape)


def permute_images(z: Tensor, turns: Tensor, flip: Tensor | None) -> Tensor:
    """Images (N, C, ..., H, W) after an optional flip and quarter turns, () or (N,)."""
    images = z.reshape(z.shape[0], -1, *z.shape[-2:])
    moved = rot90(images, turns) if flip is None else dihedral_rotate(images, turns % 4 + 4 * flip)
    return moved.view(*z.shape[:-2], *moved.shape[-2:])


def check_images(group: Group, z: Tensor) -> None:
    if not isinstance(z, Tensor) or z.dim() < 4:
        got = tuple(z.shape) if isinstance(z, Tensor) else type(z).__name__
        raise ValueError(f"z: {group!r} acts on images (N, C, ..., H, W), got {got}")


def check_volumes(group: Group, z: Tensor) -> None:
    if not isinstance(z, Tensor) or z.dim() != 5:
        got = tuple(z.shape) if isinstance(z, Tensor) else type(z).__name__
        raise ValueError(f"z: {group!r} acts on volumes (N, C, D, H, W), got {got}")


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


# Found outside of the graph: torch.compile cannot trace how modes are made.
@outside_of_graphs
@lru_cache(maxsize=4)
def _spectral_basis(side: int, device: str, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Real modes (side^2, side^2) of the rotation of square images, and the frequency of every block."""
    from equikernels.group.grids import pixel_grid
    from equikernels.group.so2 import SO2

    rep = pixel_grid(side, SO2(), method="spectral")
    frequencies = [k for k, copies in rep.irreps for _ in range(copies)]
    basis = torch.tensor(rep.change_of_basis, dtype=dtype, device=device)
    return basis, torch.tensor(frequencies, device=device)
