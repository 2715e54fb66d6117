"""The meaning of an orbit transform, in plain PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor

from equikernels.ops.bases.orbits import OrbitTransform


def transform_reference(x: Tensor, transform: OrbitTransform) -> Tensor:
    """x T for x (..., dim)."""
    results, places = [], []
    for inputs, outputs, mix in transform.tables(x.dtype, x.device):
        # Orbits before their coordinates: one product of two matrices, whatever comes before.
        size, orbits = inputs.shape
        gathered = x[..., inputs.T.flatten()].reshape(*x.shape[:-1], orbits, size)
        results.append((gathered @ mix.T).reshape(*x.shape[:-1], orbits * size))
        places.append(outputs.T.flatten())
    if not results:
        return x.clone()
    return torch.cat(results, dim=-1)[..., torch.cat(places).argsort()]
