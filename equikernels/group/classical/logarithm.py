"""Shortest logarithms: of rotations by their planes, of Lorentz transformations by 2 x 2 complex matrices."""

from __future__ import annotations

import numpy as np
import scipy.linalg
import torch
from torch import Tensor


def rotation_logarithm(g: np.ndarray) -> np.ndarray:
    """The skew matrix (n, n) of smallest norm with exponential g (n, n), orthogonal of determinant +1.

    The real Schur form of an orthogonal matrix consists of plane rotations and signs up to rounding; it has
    an even number of signs -1, and each two of them are a plane turned by pi.
    """
    t, u = scipy.linalg.schur(g, output="real")
    n = len(g)
    log = np.zeros_like(t)
    half_turns = []
    i = 0
    while i < n:
        if i + 1 < n and t[i + 1, i] != 0:
            sine, cosine = (t[i + 1, i] - t[i, i + 1]) / 2, (t[i, i] + t[i + 1, i + 1]) / 2
            log[i + 1, i] = np.arctan2(sine, cosine)
            i += 2
        else:
            if t[i, i] < 0:
                half_turns.append(i)
            i += 1
    for i, j in zip(half_turns[::2], half_turns[1::2], strict=True):
        log[j, i] = np.pi
    return np.asarray(u @ (log - log.T) @ u.T)


def _pauli(device: torch.device, dtype: torch.dtype) -> Tensor:
    """1, sigma_x, sigma_y, sigma_z (4, 2, 2)."""
    matrices = [[[1, 0], [0, 1]], [[0, 1], [1, 0]], [[0, -1j], [1j, 0]], [[1, 0], [0, -1]]]
    return torch.tensor(matrices, dtype=dtype, device=device)


def _spinor(g: Tensor) -> tuple[Tensor, Tensor]:
    """(c0 (...), c (..., 3)), complex, with S = c0 + c . sigma of determinant 1, Re c0 >= 0, and
    S sigma_v S^dagger = sum_u g[u, v] sigma_u.

    The outer product of the entries of S with their conjugates is linear in those of g. Its column at the
    largest diagonal entry is S up to a factor, without a root of a difference.
    """
    sigma = _pauli(g.device, torch.promote_types(g.dtype, torch.complex64))
    outer = torch.einsum("...uv,uac,vbd->...abcd", g.to(sigma.dtype), sigma, sigma.conj()) / 2
    outer = outer.flatten(-4, -3).flatten(-2, -1)
    largest = outer.diagonal(dim1=-2, dim2=-1).real.argmax(-1)
    index = largest[..., None, None].expand(*largest.shape, 4, 1)
    a, b, c, d = outer.gather(-1, index).squeeze(-1).unbind(-1)
    root = torch.sqrt(a * d - b * c)
    c0 = (a + d) / (2 * root)
    vector = torch.stack([b + c, (b - c) * 1j, a - d], dim=-1) / (2 * root)[..., None]
    sign = torch.where(c0.real < 0, -1.0, 1.0).to(c0)
    return sign * c0, sign[..., None] * vector


def lorentz_logarithm(g: Tensor) -> Tensor:
    """Angles about x, y, z, then rapidities along x, y, z: (..., 6) of (..., 4, 4), float32 or float64.

    S = exp((r - i theta) . sigma / 2) for rapidities r and angles theta. With S = c0 + c . sigma and
    w^2 = (r - i theta)^2 / 4: c0 = cosh w, c = sinh(w) / w (r - i theta) / 2, |Im w| <= pi / 2.
    """
    c0, vector = _spinor(g)
    square = (vector * vector).sum(-1)
    small = square.abs() < torch.finfo(g.dtype).eps ** (1 / 3)
    # Either root will do: log(c0 - root) = -log(c0 + root).
    root = torch.sqrt(torch.where(small, torch.ones_like(square), square))
    series = 1 - square / 6 + 3 * square.square() / 40
    ratio = torch.where(small, series, torch.log(c0 + root) / root)
    algebra = 2 * ratio[..., None] * vector
    return torch.cat([-algebra.imag, algebra.real], dim=-1)
