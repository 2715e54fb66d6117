"""How products of irreps of SO(3) decompose, in the basis of real spherical harmonics, in float64."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from equikernels.group.representation import frozen
from equikernels.group.so2 import check_frequency


def check_degree(label: object, name: str = "label") -> int:
    """An irrep label of SO(3) as a Python integer l >= 0; raises ValueError where it is none."""
    try:
        degree = check_frequency(label)
    except ValueError as error:
        raise ValueError(f"{name} must be an integer degree l >= 0, got {label!r}") from error
    if degree < 0:
        raise ValueError(f"{name} must be an integer degree l >= 0, got {degree}")
    return degree


def raising(degree: int) -> np.ndarray:
    """J_+ in the basis of weights m = -l .. l: sqrt((l - m)(l + m + 1)) from |m> to |m + 1>."""
    m = np.arange(-degree, degree)
    return np.diag(np.sqrt((degree - m) * (degree + m + 1.0)), -1)


@lru_cache(maxsize=64)
def real_basis(degree: int) -> np.ndarray:
    """The unitary matrix (2l+1, 2l+1) that takes complex spherical harmonics to real ones.

    Row m > 0 is the harmonic in cos(m phi), row -m the one in sin(m phi). The complex harmonics carry the
    Condon-Shortley sign (-1)^m and the real ones do not, so that for l = 1 they are (y, z, x) up to scale.
    """
    basis = np.zeros((2 * degree + 1, 2 * degree + 1), dtype=np.complex128)
    basis[degree, degree] = 1
    for m in range(1, degree + 1):
        sign = (-1) ** m
        basis[degree + m, [degree + m, degree - m]] = sign / math.sqrt(2), 1 / math.sqrt(2)
        basis[degree - m, [degree + m, degree - m]] = -1j * sign / math.sqrt(2), 1j / math.sqrt(2)
    basis.setflags(write=False)
    return basis


def weight_coupling(l1: int, l2: int, l3: int) -> np.ndarray:
    """<l1 m1 l2 m2 | l3 m3> up to one sign, (2l1+1, 2l2+1, 2l3+1), for weights m = -l .. l.

    The state of highest weight is what J_+ annihilates, a product of ratios without cancellation; J_- gives
    the others down to weight zero, and the reflection m -> -m the negative ones, so errors do not build up.
    """
    up1, up2, up3 = raising(l1), raising(l2), raising(l3)
    coupling = np.zeros((2 * l1 + 1, 2 * l2 + 1, 2 * l3 + 1))
    first = max(-l1, l3 - l2)
    value = 1.0
    for m1 in range(first, min(l1, l3 + l2) + 1):
        if m1 > first:
            value *= -up1[m1 + l1, m1 - 1 + l1] / up2[l3 - m1 + 1 + l2, l3 - m1 + l2]
        coupling[m1 + l1, l3 - m1 + l2, 2 * l3] = value
    coupling /= np.linalg.norm(coupling)
    for m3 in range(l3, 0, -1):
        state = coupling[:, :, m3 + l3]
        lowered = up1.T @ state + state @ up2
        coupling[:, :, m3 - 1 + l3] = lowered / up3[m3 + l3, m3 - 1 + l3]
    coupling[:, :, :l3] = (-1.0) ** (l1 + l2 - l3) * coupling[::-1, ::-1, :l3:-1]
    return coupling


@lru_cache(maxsize=1024)
def _clebsch_gordan(l1: int, l2: int, l3: int) -> np.ndarray:
    weights = weight_coupling(l1, l2, l3)
    complexes = np.tensordot(real_basis(l1), weights, axes=1)
    complexes = real_basis(l2) @ complexes @ real_basis(l3).conj().T
    # In the real basis the tensor is real for even l1 + l2 + l3 and imaginary for odd.
    odd = (l1 + l2 + l3) % 2
    coupling = complexes.imag if odd else complexes.real
    anchor = coupling[l1 - odd, l2, l3 + odd]
    return frozen(coupling * np.sign(anchor))


def clebsch_gordan(l1: int, l2: int, l3: int) -> np.ndarray:
    """The isometry C (2l1+1, 2l2+1, 2l3+1) that embeds irrep l3 of SO(3) into the product of l1 and l2.

        sum_ab D1[i, a] D2[j, b] C[a, b, k] = sum_c C[i, j, c] D3[c, k],
        sum_ab C[a, b, k] C[a, b, k'] = delta_kk',

    float64 and read-only, in the real basis of `SO3.irrep`. One factor +-1 is free: for even
    l1 + l2 + l3 it makes C a positive multiple of the integral of three spherical harmonics (C > 0 at
    m = 0, 0, 0); for odd, C > 0 at m = -1, 0, 1, so that (1, 1, 1) is the cross product over sqrt(2). Exact
    to about 1e-11 for l1, l2 <= 12. Raises ValueError unless |l1 - l2| <= l3 <= l1 + l2.

    >>> dot = clebsch_gordan(1, 1, 0)[:, :, 0]
    >>> bool(np.allclose(dot, np.eye(3) / math.sqrt(3)))
    True
    """
    l1, l2, l3 = check_degree(l1, "l1"), check_degree(l2, "l2"), check_degree(l3, "l3")
    if not abs(l1 - l2) <= l3 <= l1 + l2:
        raise ValueError(f"l3 must lie in {abs(l1 - l2)} .. {l1 + l2} for l1 = {l1}, l2 = {l2}, got {l3}")
    return _clebsch_gordan(l1, l2, l3)


def product_basis(l1: int, l2: int) -> np.ndarray:
    """The orthogonal change of basis Q of a product of irreps of SO(3), square with (2l1+1)(2l2+1) rows.

        D1 kron D2 = Q (direct sum of D_l for l = |l1 - l2| .. l1 + l2) Q^T,

    float64; rows in the order of the Kronecker product, columns by increasing l.

    >>> product_basis(1, 2).shape
    (15, 15)
    """
    l1, l2 = check_degree(l1, "l1"), check_degree(l2, "l2")
    rows = (2 * l1 + 1) * (2 * l2 + 1)
    degrees = range(abs(l1 - l2), l1 + l2 + 1)
    return frozen(np.concatenate([_clebsch_gordan(l1, l2, l3).reshape(rows, -1) for l3 in degrees], axis=1))
