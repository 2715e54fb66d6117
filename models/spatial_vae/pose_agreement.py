"""How well the poses that a model infers follow the motions that are known to have been made."""

from __future__ import annotations

import torch
from torch import Tensor

from equikernels.metrics import circular_correlation
from equikernels.models.spatial_vae.model import Parts

__all__ = ["as_motion", "pose_agreement"]


def as_motion(parts: Parts) -> tuple[Tensor | None, Tensor | None]:
    """A pose of a model as the motion of its image: turned counter-clockwise about the centre, then shifted.

    The pixel at the row vector u shows the content at u R(theta) + s Delta, so what lies at v in the content
    is seen at (v - s Delta) R(theta)^-1: turned by -theta, counter-clockwise, then moved by
    -s Delta R(theta)^-1.

    Returns:
        The angle in radians (N,), counter-clockwise; the shift in pixels to the right and down (N, 2), as
        `equikernels.ops.rotate` takes them. None for what the model does not have.

    >>> pose = Parts(torch.tensor([torch.pi / 2]), torch.tensor([[1.0, 0.0]]), torch.zeros(1, 2))
    >>> as_motion(pose)[1].round() + 0.0
    tensor([[ 0., -1.]])
    """
    theta, shift = parts.theta, parts.shift
    if shift is None:
        return (None if theta is None else -theta), None
    x, y = (-shift).unbind(-1)
    if theta is not None:
        cosine, sine = theta.cos(), theta.sin()
        x, y = cosine * x + sine * y, cosine * y - sine * x
    return (None if theta is None else -theta), torch.stack([x, -y], dim=-1)


def pose_agreement(parts: Parts, turn: Tensor, shift: Tensor, *, uniform: bool = False) -> dict[str, float]:
    """Correlations of inferred with true motions: 1 where they agree up to one angle, or up to one vector.

    Args:
        parts: what the model infers, N >= 2 images.
        turn: how far each image was turned, radians, counter-clockwise, (N,).
        shift: how far it was shifted afterwards, pixels to the right and down, (N, 2).
        uniform: whether the angles are uniform on the circle, see `equikernels.metrics.circular_correlation`.

    Returns:
        "theta_correlation", circular; "shift_correlation", the mean of Pearson's of the two directions. Only
        what the model infers and the images have: the same motion of all images correlates with nothing.

    >>> turn, shift = torch.tensor([0.1, -0.4, 0.9]), torch.tensor([[1.0, 2.0], [0.0, 1.0], [-1.0, 0.0]])
    >>> pose_agreement(Parts(-turn, None, torch.zeros(3, 2)), turn, shift)
    {'theta_correlation': 1.0}
    """
    angle, vector = as_motion(parts)
    found = {}
    if angle is not None and _varies(turn):
        found["theta_correlation"] = float(circular_correlation(angle, turn.to(angle), uniform=uniform))
    if vector is not None and _varies(shift):
        each = [
            float(torch.corrcoef(torch.stack([vector[:, axis], shift[:, axis].to(vector)]))[0, 1])
            for axis in range(2)
        ]
        found["shift_correlation"] = sum(each) / 2
    return found


def _varies(motion: Tensor) -> bool:
    return bool((motion != motion[:1]).any())
