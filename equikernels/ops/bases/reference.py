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
        gathered = x[..., inputs.T.flatten()].unflatten(-1, (inputs.shape[1], inputs.shape[0]))
        results.append((gathered @ mix.T).flatten(-2))
        places.append(outputs.T.flatten())
    if not results:
        return x.clone()
    return torch.cat(results, dim=-1)[..., torch.cat(places).argsort()]
