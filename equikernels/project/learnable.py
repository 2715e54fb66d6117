"""A smooth cut-off whose border and width are trained."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from equikernels.project.cutoffs import Smooth
from equikernels.project.spectrum import Spectrum


class LearnableSmooth(nn.Module):
    """f = 1 for sigma < cutoff, exp(-(sigma - cutoff) / width) above, with parameters for both.

    Projections with it are differentiable in the weight and in the two parameters. The width is kept
    positive by storing its logarithm; the border may take any value.

    Args:
        cutoff: initial border b, finite.
        width: initial width tau > 0, finite.

    >>> LearnableSmooth(1.0, 0.5)
    LearnableSmooth(cutoff=1, width=0.5)
    """

    def __init__(self, cutoff: float, width: float) -> None:
        super().__init__()
        start = Smooth(cutoff, width)
        if not (math.isfinite(cutoff) and math.isfinite(width)):
            raise ValueError(f"cutoff and width must be finite to be trained, got {cutoff} and {width}")
        self.cutoff = nn.Parameter(torch.tensor(float(start.cutoff), dtype=torch.float64))
        self.log_width = nn.Parameter(torch.tensor(math.log(start.width), dtype=torch.float64))

    @property
    def width(self) -> Tensor:
        """tau, a scalar tensor."""
        return self.log_width.exp()

    def response(self, spectrum: Spectrum) -> Tensor:
        """f for each distinct singular value, float64 (clusters,), on the CPU, with its gradient."""
        values = torch.tensor(spectrum.values, dtype=torch.float64)
        above = (values - self.cutoff.double().cpu()).clamp(min=0)
        return torch.exp(-above / self.width.double().cpu())

    def extra_repr(self) -> str:
        return f"cutoff={float(self.cutoff.detach()):.4g}, width={float(self.width.detach()):.4g}"
