"""Restriction of a representation along a homomorphism that is given as a function of elements."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from equikernels.group.defects import probe_elements
from equikernels.group.group import Element, Group

if TYPE_CHECKING:
    from equikernels.group.representation import Representation

HOMOMORPHISM_TOLERANCE = 1e-8
"""How far a law may fail in float64, relative to the largest matrix entry that it concerns."""


def restrict_along(
    rep: Representation, subgroup: Group, embedding: Callable[[Any], Element]
) -> Representation:
    """The representation h -> rho(embedding(h)) of `subgroup` in normal form.

    Its irreps are found from rho(embedding(s)) for the discrete generators s and from the derivative of
    rho(embedding(exp(t X))) at t = 0 for the Lie generators X, by forward-mode differentiation.

    Args:
        rep: a representation of some group.
        subgroup: the group to be represented.
        embedding: a homomorphism that takes checked elements of `subgroup`, batched, to elements of
            `rep.group`; in torch, so that it can be differentiated, where `subgroup` has a Lie algebra.

    Raises:
        TypeError: `embedding` is not callable.
        ValueError: rho(embedding(h)) is no homomorphism, or is not differentiable where it must be.

    >>> from equikernels.group import SO2, SO3
    >>> about_x = lambda angle: SO3().exp(angle[..., None] * torch.tensor([1.0, 0, 0]).double())
    >>> restrict_along(SO3().irrep(2), SO2(), about_x).irreps
    ((0, 1), (1, 1), (2, 1))
    """
    from equikernels.group.from_operators import representation_from_operators
    from equikernels.group.representation import Representation

    if not callable(embedding):
        raise TypeError(f"embedding must be a function of elements or None, got {type(embedding).__name__}")
    if rep.dim == 0:
        return Representation(subgroup, [])

    def rho(h: Any) -> Tensor:
        return rep(embedding(subgroup.check(h)), dtype=torch.float64)

    probes = probe_elements(subgroup)
    matrices = [rho(h) for h in probes]
    for i, h in enumerate(probes):
        for j in (i, (i + 1) % len(probes)):
            error = _relative(matrices[i] @ matrices[j] - rho(subgroup.compose(h, probes[j])), matrices[i])
            if not error <= HOMOMORPHISM_TOLERANCE:
                raise ValueError(
                    f"embedding is not a homomorphism from {subgroup!r} to {rep.group!r}: "
                    f"rho(f(g)) rho(f(h)) differs from rho(f(g h)) by {error:.1e}"
                )

    restricted = representation_from_operators(
        subgroup,
        algebra=_derivatives(rho, subgroup),
        elements=[rho(s).detach().numpy() for s in subgroup.discrete_elements],
    )
    for h, matrix in zip(probes, matrices, strict=True):
        error = _relative(restricted(h, dtype=torch.float64) - matrix, matrix)
        if not error <= HOMOMORPHISM_TOLERANCE:
            raise ValueError(
                f"embedding is not a homomorphism from {subgroup!r} to {rep.group!r}, or has no derivative "
                f"at the identity: rho(f(h)) differs from what its generators give by {error:.1e}"
            )
    return restricted


def _relative(difference: Tensor, matrix: Tensor) -> float:
    return float((difference.abs().max() / matrix.abs().max()).detach())


def _derivatives(rho: Callable[[Any], Tensor], subgroup: Group) -> list[np.ndarray]:
    """The derivatives (dim, dim) of rho(exp(t X_k)) at t = 0, float64."""
    origin = torch.zeros(subgroup.lie_dim, dtype=torch.float64)
    found = []
    for direction in torch.eye(subgroup.lie_dim, dtype=torch.float64):
        tangent = torch.func.jvp(lambda a: rho(subgroup.exp(a)), (origin,), (direction,))[1]
        found.append(tangent.detach().numpy())
    return found
