"""A linear layer that breaks a symmetry by no more than a cut-off allows."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from equikernels.group import Representation
from equikernels.nn.soft_layer import SoftLayer
from equikernels.ops.linear import (
    PLANS,
    BlockProjection,
    Plan,
    Slabs,
    Tiles,
    analyse_weight,
    count_plans,
    multiply_in_bases,
    multiply_tiles,
    scale_weight,
    synthesise_weight,
    tiles_of,
)
from equikernels.project import Cutoff
from equikernels.project.projected_weight import ProjectedWeight

T = TypeVar("T")


class SoftLinear(SoftLayer):
    """y = x P(W)^T + P_inv(b), with P the equivariant projector of two representations.

    x has shape (..., channels_in * rep_in.dim), y (..., channels_out * rep_out.dim), channel-major. The
    bias passes the invariant projector of rep_out with the same cut-off. A plain layer's checkpoint loads,
    and a state_dict is one: `weight` and `bias` before projection, of the names and shapes of
    torch.nn.Linear.

    The product is computed in the one of three plans that multiplies least, see `plan`: with the projected
    weight, which is kept until the parameter changes and costs nothing in evaluation; in the bases of the
    two representations; or there with nothing but the weights between irreps that the cut-off keeps. They
    give the same numbers to rounding.

    Args:
        rep_in, rep_out: representations of one group.
        cutoff: Hard, Smooth or Softness; or LearnableSmooth, whose parameters become the layer's. One that
            removes every direction is allowed and warns.
        channels_in, channels_out: copies of each representation, >= 1.
        bias: whether there is a bias.
        parameter: "raw": the parameter is the weight before projection, and the optimizer's trajectory that
            of a plain layer. "schur": its coordinates U_out^T W U_in, named `coefficients`: cheaper steps,
            the same trajectory under plain gradient descent, another one under Adam. `weight` is then
            computed from them when it is asked for.
        plan: "auto", or the plan to take always: "weights", "schur" or "structured".
        initial: "raw": the weight before projection begins as a plain layer's. "norm": its equivariant part
            begins larger, so that the projected weight has the expected norm of a plain layer's.

    Raises:
        ValueError: naming the argument, what was expected and what came.

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
        plan: str = "auto",
        initial: str = "raw",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        check_channels(channels_in=channels_in, channels_out=channels_out)
        shape = (channels_out * rep_out.dim, channels_in * rep_in.dim)
        super().__init__(rep_in, rep_out, cutoff, shape, bias, parameter, initial, device, dtype)
        self.channels_in, self.channels_out = channels_in, channels_out
        self.out_features, self.in_features = shape
        possible = self._possible()
        if plan not in ("auto", *PLANS):
            raise ValueError(f'plan must be "auto", {", ".join(PLANS)}, got {plan!r}')
        if plan != "auto" and plan not in possible:
            raise ValueError(f"plan must be one of {', '.join(possible)} for this layer, got {plan!r}")
        self._asked = plan
        self._kept_coordinates = ProjectedWeight()
        self._chosen: dict[tuple[int, bool], str] = {}

    @property
    def _tiles(self) -> Tiles | None:
        """What the cut-off keeps, None where that is not constant or nothing."""
        projection = self._block_projection
        if projection is None or not projection.is_constant or not projection.operators:
            return None
        return tiles_of(projection, self.channels_out, self.channels_in)

    def _possible(self) -> tuple[str, ...]:
        if self._block_projection is None:
            return ("weights",)
        return PLANS if self._tiles is not None else PLANS[:2]

    def plan(self, batch: int) -> Plan:
        """How the layer computes `batch` vectors: in a training step where a gradient would be recorded for
        the weight, as in evaluation elsewhere, with the multiplications of every plan.

        >>> from equikernels.group import CyclicGroup
        >>> from equikernels.project import Softness
        >>> regular = CyclicGroup(8).regular()
        >>> layer = SoftLinear(regular, regular, Softness(0), channels_in=64, channels_out=64).eval()
        >>> with torch.no_grad():
        ...     layer.plan(1024).name
        'structured'
        """
        if isinstance(batch, bool) or not isinstance(batch, int) or batch < 0:
            raise ValueError(f"batch must be an integer >= 0, got {batch!r}")
        projection = self._block_projection
        if projection is None:
            whole = self.out_features * self.in_features
            return Plan("weights", batch, self._trains, {"weights": batch * whole})
        counted = count_plans(
            projection,
            self.channels_out,
            self.channels_in,
            batch,
            training=self._trains or self._is_trained_cutoff,
            parameter=self.parameter,
            tiles=self._tiles,
        )
        if self._asked == "auto":
            return counted
        return Plan(self._asked, batch, counted.training, counted.multiplications)

    def _plan_name(self, batch: int) -> str:
        if self._asked != "auto":
            return self._asked
        # One graph for all batches; and half precisions lose digits at every change of basis.
        half = self._parameter.dtype not in (torch.float32, torch.float64)
        if torch.compiler.is_compiling() or half or torch.is_autocast_enabled(self._parameter.device.type):
            return "weights"
        key = (batch, self._trains)
        if key not in self._chosen:
            if len(self._chosen) > 256:
                self._chosen.clear()
            self._chosen[key] = self.plan(batch).name
        return self._chosen[key]

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim == 0 or x.shape[-1] != self.in_features:
            raise ValueError(f"x must have shape (..., {self.in_features}), got {tuple(x.shape)}")
        plan = self._plan_name(x.numel() // self.in_features)
        if plan == "weights":
            return functional.linear(x, self.projected_weight, self.projected_bias)
        projection = self._bases()
        if plan == "schur":
            return multiply_in_bases(x, self._scaled_coordinates(projection), self.projected_bias, projection)
        tiles = self._tiles
        assert tiles is not None
        return multiply_tiles(
            x, self._derived("tiles", lambda w: tiles.pack(self._coordinates(w))), self.projected_bias, tiles
        )

    def _coordinates(self, parameter: Tensor) -> Tensor:
        if self.parameter == "schur":
            return parameter
        bases = self._bases()
        return analyse_weight(parameter, bases.out.basis, bases.inn.basis)

    @property
    def slabs(self) -> tuple[Slabs, Slabs] | tuple[None, None]:
        """The orders of features before and after `forward_in_slabs`; None where there is no such way."""
        tiles = self._tiles
        return (None, None) if tiles is None else (tiles.inn, tiles.out)

    def forward_in_slabs(self, x: Tensor) -> Tensor:
        """The layer between features in the orders that `slabs` names, without a change of basis."""
        tiles = self._tiles
        if tiles is None:
            raise ValueError(
                "the cut-off is trained or keeps nothing: the layer has no list of weights to keep"
            )
        y = tiles.multiply(x, self._derived("tiles", lambda w: tiles.pack(self._coordinates(w))))
        bias = self.projected_bias
        return y if bias is None else y + tiles.out.analyse(bias)

    def _scaled_coordinates(self, projection: BlockProjection) -> Tensor:
        """F o W', computed once per version of the parameter."""
        out, inn = projection.out.basis, projection.inn.basis

        def there(w: Tensor) -> Tensor:
            return scale_weight(self._coordinates(w), projection)

        def back(gradient: Tensor) -> Tensor:
            scaled = scale_weight(gradient, projection)
            return scaled if self.parameter == "schur" else synthesise_weight(scaled, out, inn)

        if self._is_trained_cutoff:
            return there(self._parameter)
        return self._kept_coordinates(self._parameter, there, back)

    def _derived(self, what: str, make: Callable[[Tensor], T]) -> T:
        """What a plan needs of the parameter: recorded in training, kept in evaluation."""
        if self._trains or self._is_trained_cutoff:
            return make(self._parameter)
        return self._kept(self._parameter, what, make)

    def baked(self) -> nn.Linear:
        """A plain torch.nn.Linear with the projected weight and bias."""
        plain = nn.utils.skip_init(
            nn.Linear,
            self.in_features,
            self.out_features,
            bias=self.bias is not None,
            device=self._parameter.device,
            dtype=self._parameter.dtype,
        )
        with torch.no_grad():
            plain.weight.copy_(self.projected_weight)
            bias = self.projected_bias
            if bias is not None:
                plain.bias.copy_(bias)
        return plain.train(self.training)

    def extra_repr(self) -> str:
        sizes = f"in_features={self.in_features}, out_features={self.out_features}"
        return f"{super().extra_repr()}, {sizes}"


def check_channels(**channels: int) -> None:
    """Raise ValueError for numbers of channels that are none."""
    for name, count in channels.items():
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise ValueError(f"{name} must be an integer >= 1, got {count!r}")
