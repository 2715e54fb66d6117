"""The specification of `rotate` at its defaults in plain torch: sampling through the inverse rotation."""

from __future__ import annotations

from torch import Tensor

from equikernels.ops.arguments import compute_dtype
from equikernels.ops.rotation.matrices import planar_matrix
from equikernels.ops.sampling.reference import sample_reference


def rotate_reference(z: Tensor, theta: Tensor) -> Tensor:
    """Bilinear rotation with zeros outside: z (N, C, H, W), theta (N,) in radians."""
    return sample_reference(z, planar_matrix(theta.to(compute_dtype(z.dtype))), "bilinear", "zeros")
