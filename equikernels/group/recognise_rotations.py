"""The irreps of SO(3) and O(3), from matrices: by weights, as physics finds angular momentum."""

from __future__ import annotations

import numpy as np

from equikernels.group.recognise_generic import Blocks

DEGREE_TOLERANCE = 1e-6
"""How far the Casimir's eigenvalues l(l+1) may be from those of integers; the next ones are 2 l + 2 away."""


def rotation_blocks(lie: list[np.ndarray]) -> Blocks:
    """The isotypic blocks of SO(3), labelled l, on the real harmonics m = -l .. l of `SO3.irrep`.

    The vectors of weight m = 0 are the null space of A_z and real, one for each copy of an irrep; on them
    the Casimir operator -(A_x^2 + A_y^2 + A_z^2) is l(l + 1). With i A_k = J_k the ladder operator
    J_+ = i A_x - A_y gives the weights m > 0, and sqrt(2) (-1)^m times the real and imaginary part of |m> are
    the harmonics m and -m.

    Raises:
        ValueError: the Casimir operator has an eigenvalue that is no l(l + 1).
    """
    a_x, a_y, a_z = lie
    null = _null_space(a_z)
    steps = np.concatenate([a_x @ null, a_y @ null])
    casimir, vectors = np.linalg.eigh(steps.T @ steps)
    degrees = np.round((np.sqrt(1 + 4 * np.maximum(casimir, 0)) - 1) / 2).astype(int)
    worst = np.abs(casimir - degrees * (degrees + 1)).max(initial=0.0)
    if worst > DEGREE_TOLERANCE * max(1, int(degrees.max(initial=0)) ** 2):
        raise ValueError(
            f"algebra does not obey the relations of SO(3): its Casimir operator is {worst:.1e} off l(l + 1)"
        )
    found: Blocks = []
    for degree in np.unique(degrees).tolist():
        state = null @ vectors[:, degrees == degree]
        harmonics = np.zeros((*state.shape, 2 * degree + 1))
        harmonics[:, :, degree] = state
        state = state.astype(np.complex128)
        for m in range(1, degree + 1):
            raised = 1j * (a_x @ state) - a_y @ state
            state = raised / np.sqrt((degree - m + 1) * (degree + m))
            harmonics[:, :, degree + m] = np.sqrt(2) * (-1) ** m * state.real
            harmonics[:, :, degree - m] = np.sqrt(2) * (-1) ** m * state.imag
        found.append((degree, harmonics.reshape(len(a_z), -1)))
    return found


def _null_space(a: np.ndarray) -> np.ndarray:
    """An orthonormal basis (n, count) of the real null space of a skew matrix with integer frequencies.

    Singular vectors, not those of A^2: its eigenvalues would lose half of their digits.
    """
    _, sigma, vt = np.linalg.svd(a)
    return np.asarray(vt[sigma < 0.5].T)


def reflected_blocks(lie: list[np.ndarray], inversion: np.ndarray) -> Blocks:
    """The isotypic blocks of O(3), labelled (l, parity): those of SO(3) where the inversion is +1 and -1.

    Raises ValueError as `rotation_blocks` does.
    """
    values, vectors = np.linalg.eigh((inversion + inversion.T) / 2)
    found: Blocks = []
    for parity in (1, -1):
        space = vectors[:, values * parity > 0]
        if space.shape[1]:
            inside = [space.T @ a @ space for a in lie]
            found += [((degree, parity), space @ basis) for degree, basis in rotation_blocks(inside)]
    return found
