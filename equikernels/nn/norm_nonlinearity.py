"""A non-linearity for features of any orthogonal representation: lengths are changed, directions are not."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from equikernels.group import Representation
from equikernels.nn.soft_linear import check_channels
from equikernels.ops.linear import Slabs
from equikernels.project import EquivariantProjector, Softness


class NormNonlinearity(nn.Module):
    """Every copy of an irrep in every channel is scaled by a gate of its length: v -> v sigmoid(a |v| + b).

    It commutes with the group exactly, because an orthogonal representation changes no lengths, where
    point-wise non-linearities commute with permutations alone. Copies of the trivial irrep are gated by
    their modulus.

    Args:
        rep: an orthogonal representation, n = rep.dim, with known irreps.
        channels: copies of it, >= 1.
        scale, shift: a and b at the beginning; trained, one pair for each copy of an irrep.

    Raises:
        ValueError: channels < 1, or a representation without bases of irreps.

    >>> from equikernels.group import SO2
    >>> gate = NormNonlinearity(SO2().irrep(1) + SO2().irrep(2), channels=4)
    >>> gate(torch.ones(3, 16)).shape, gate.scale.shape
    (torch.Size([3, 16]), torch.Size([8]))
    """

    def __init__(
        self, rep: Representation, channels: int = 1, *, scale: float = 1.0, shift: float = 0.0
    ) -> None:
        super().__init__()
        check_channels(channels=channels)
        self.rep, self.channels = rep, channels
        copies = sum(t.shape[1] for t in self.slabs.side.types) * channels
        self.scale = nn.Parameter(torch.full((copies,), float(scale)))
        self.shift = nn.Parameter(torch.full((copies,), float(shift)))

    @property
    def slabs(self) -> Slabs:
        """The order of features in which it works."""
        known = self.__dict__.get("_slabs")
        if known is None:
            projection = EquivariantProjector(self.rep, self.rep, Softness(0)).block_projection
            if projection is None:
                raise ValueError(f"rep must have bases of irreps, which {self.rep!r} has not")
            known = self.__dict__["_slabs"] = Slabs(projection.inn, self.channels)
        return known  # type: ignore[no-any-return]

    def __getstate__(self) -> dict[str, object]:
        # Made again from the representation.
        return {name: value for name, value in self.__dict__.items() if name != "_slabs"}

    def forward(self, x: Tensor) -> Tensor:
        """x (..., channels * n), channel-major; same shape."""
        width = self.channels * self.rep.dim
        if x.ndim == 0 or x.shape[-1] != width:
            raise ValueError(f"x must have shape (..., {width}), got {tuple(x.shape)}")
        return self.slabs.synthesise(self.forward_in_slabs(self.slabs.analyse(x)))

    def forward_in_slabs(self, x: Tensor) -> Tensor:
        """The same for features in the order of `slabs`."""
        parts, start = [], 0
        for run, coordinates in zip(self.slabs.runs, self.slabs.side.types, strict=True):
            dim, copies = coordinates.shape[0], coordinates.shape[1] * self.channels
            vectors = x[..., run].unflatten(-1, (dim, copies))
            chosen = slice(start, start + copies)
            start += copies
            length = torch.linalg.vector_norm(vectors, dim=-2, keepdim=True)
            gate = torch.sigmoid(self.scale[chosen] * length + self.shift[chosen])
            parts.append((vectors * gate).flatten(-2))
        return torch.cat(parts, dim=-1)

    def extra_repr(self) -> str:
        return f"{self.rep!r}, channels={self.channels}"
