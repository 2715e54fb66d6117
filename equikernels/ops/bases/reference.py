"""The meaning of an orbit transform, in plain PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor

from equikernels.ops.bases.orbits import OrbitTransform


def transform_reference(x: Tensor, transform: OrbitTransform) -> Tensor:
    """x T for x (..., dim)."""
    results, places = [], []
    for inputs, outputs, mix in transform.tables(x.dtype, x.device):
        gathered = x[..., inputs.flatten()].unflatten(-1, inputs.shape)
        results.append((mix @ gathered).flatten(-2))
        places.append(outputs.flatten())
    if not results:
        return x.clone()
    return torch.cat(results, dim=-1)[..., torch.cat(places).argsort()]
