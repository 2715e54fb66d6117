"""A linear layer that breaks a symmetry by no more than a cut-off allows."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from equikernels.group import Representation
from equikernels.project import Certificate, Cutoff, EquivariantProjector, InvariantProjector
from equikernels.project.projected_weight import ProjectedWeight


class SoftLinear(nn.Module):
    """y = x P(W)^T + P_inv(b), with P the equivariant projector of two representations.

    x has shape (..., channels_in * rep_in.dim), y (..., channels_out * rep_out.dim), channel-major. The
    bias passes the invariant projector of rep_out with the same cut-off. Parameters are the raw weight
    and bias, of the names and shapes of torch.nn.Linear, so a plain checkpoint loads. The projection
    is computed once per version of the parameters and costs nothing in evaluation.

    Args:
        rep_in, rep_out: representations of one group.
        cutoff: Hard, Smooth or Softness; or LearnableSmooth, whose parameters become the layer's.
        channels_in, channels_out: copies of each representation, >= 1.
        bias: whether there is a bias.
        parameter: "raw": the parameter is the weight before projection. "schur" (coefficients in the
            Schur basis) is not available yet and raises ValueError.

    >>> from equikernels.group import SO2
    >>> from equikernels.project import Softness
    >>> layer = SoftLinear(2 * SO2().irrep(1), SO2().irrep(1), Softness(0), channels_in=3)
    >>> layer(torch.zeros(5, 12)).shape, layer.projector.dimension
    (torch.Size([5, 2]), 4)
    """

    def __init__(
        self,
        rep_in: Representation,
        rep_out: Representation,
        cutoff: Cutoff,
        channels_in: int = 1,
        channels_out: int = 1,
        bias: bool = True,
        parameter: str = "raw",
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        for name, channels in (("channels_in", channels_in), ("channels_out", channels_out)):
            if isinstance(channels, bool) or not isinstance(channels, int) or channels < 1:
                raise ValueError(f"{name} must be an integer >= 1, got {channels!r}")
        if parameter == "schur":
            raise ValueError('parameter="schur" is not available yet: use parameter="raw"')
        if parameter != "raw":
            raise ValueError(f'parameter must be "raw" or "schur", got {parameter!r}')
        if isinstance(cutoff, nn.Module):
            self.cutoff = cutoff  # its parameters are trained with the layer's
        self.projector = EquivariantProjector(rep_in, rep_out, cutoff)
        self.bias_projector = InvariantProjector(rep_out, cutoff) if bias else None
        self.in_features = channels_in * rep_in.dim
        self.out_features = channels_out * rep_out.dim
        self.weight = nn.Parameter(
            torch.empty(self.out_features, self.in_features, device=device, dtype=dtype)
        )
        self.bias = nn.Parameter(torch.empty(self.out_features, device=device, dtype=dtype)) if bias else None
        self._projected_weight = ProjectedWeight()
        self._projected_bias = ProjectedWeight()
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the raw parameters as torch.nn.Linear does."""
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            limit = 1 / math.sqrt(self.in_features)
            nn.init.uniform_(self.bias, -limit, limit)

    @property
    def projected_weight(self) -> Tensor:
        """P(W) (out_features, in_features), differentiable in the raw weight."""
        return self._projected_weight(self.weight, self.projector)

    @property
    def projected_bias(self) -> Tensor | None:
        """P_inv(b) (out_features,), or None."""
        if self.bias is None or self.bias_projector is None:
            return None
        return self._projected_bias(self.bias, self.bias_projector)

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim == 0 or x.shape[-1] != self.in_features:
            raise ValueError(f"x must have shape (..., {self.in_features}), got {tuple(x.shape)}")
        return functional.linear(x, self.projected_weight, self.projected_bias)

    def certificate(self) -> Certificate:
        """What is guaranteed for the projected weight as it is now (the bias apart)."""
        return self.projector.certificate(self.weight)

    def baked(self) -> nn.Linear:
        """A plain torch.nn.Linear with the projected weight and bias."""
        plain = nn.utils.skip_init(
            nn.Linear,
            self.in_features,
            self.out_features,
            bias=self.bias is not None,
            device=self.weight.device,
            dtype=self.weight.dtype,
        )
        with torch.no_grad():
            plain.weight.copy_(self.projected_weight)
            bias = self.projected_bias
            if bias is not None:
                plain.bias.copy_(bias)
        return plain.train(self.training)

    def extra_repr(self) -> str:
        return f"{self.projector!r}, in_features={self.in_features}, out_features={self.out_features}"
