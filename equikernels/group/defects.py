"""How far matrices are from an orthogonal representation, measured on a few fixed elements."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from equikernels.group.group import Element, Group

if TYPE_CHECKING:
    from equikernels.group.representation import Representation


def matrix_defects(rep: Representation) -> dict[str, float]:
    """The numbers that `Representation.defects` explains."""
    if rep.dim == 0:
        return {"orthogonality": 0.0, "normality": 0.0, "homomorphism": 0.0}
    probes = probe_elements(rep.group)
    scale = float(np.sqrt(rep.dim))
    eye = torch.eye(rep.dim, dtype=torch.float64)
    matrices = [rep(g, dtype=torch.float64) for g in probes]
    orthogonality = max(float((r @ r.mT - eye).norm()) for r in matrices) / scale
    pairs = [(i, (i + shift) % len(probes)) for shift in (0, 1) for i in range(len(probes))]
    homomorphism = 0.0
    for i, j in pairs:
        product = rep(rep.group.compose(probes[i], probes[j]), dtype=torch.float64)
        homomorphism = max(homomorphism, float((matrices[i] @ matrices[j] - product).norm()))
    normality = 0.0
    for a in rep.constraints:
        size = float(np.linalg.norm(a)) ** 2
        if size > 0:
            normality = max(normality, float(np.linalg.norm(a @ a.T - a.T @ a)) / size)
    return {
        "orthogonality": orthogonality,
        "normality": normality,
        "homomorphism": homomorphism / scale,
    }


def probe_elements(group: Group) -> list[Element]:
    """A few fixed elements on which a law is checked: every element of a small group, elsewhere
    seeded random ones."""
    if group.order is not None and group.order <= 40320:
        elements = group.unbind(group.elements())
        return elements[:: max(1, group.order // 12)]
    generator = torch.Generator().manual_seed(0)
    dtype = torch.float64 if group.order is None else None
    return group.unbind(group.sample(6, generator=generator, dtype=dtype))
