"""What layers with a projected weight share: parameters, checkpoints, and the projection in force."""

from __future__ import annotations

import math
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from equikernels.group import Representation
from equikernels.ops.linear import BlockProjection, analyse_weight, projected_weight, synthesise_weight
from equikernels.project import (
    Certificate,
    Cutoff,
    EquivariantProjector,
    InvariantProjector,
    Softness,
    strict_gain,
)
from equikernels.project.projected_weight import KeptValue, ProjectedWeight


class SoftLayer(nn.Module):
    """A weight (C_out * m, C_in * n, ...) under an equivariant projector, a bias under an invariant one.

    With parameter="raw" the parameters are `weight` and `bias` before projection. With "schur" the weight's
    coordinates in the bases of the two representations, `coefficients`, take the place of `weight`, which is
    then computed from them; a state_dict has "weight" in either case.

    With initial="raw" the weight before projection begins as that of a plain layer, so that the projected
    one begins smaller by what the cut-off removes. With "norm" its strict part begins larger, by
    `strict_gain`, such that the projected weight has the expected norm of a plain layer's.

    Args:
        rep_in: the representation on what one patch of the input holds.
        rep_out: representation on the output.
        shape: of the weight; all dimensions but the first are the columns.
    """

    def __init__(
        self,
        rep_in: Representation,
        rep_out: Representation,
        cutoff: Cutoff,
        shape: tuple[int, ...],
        bias: bool,
        parameter: str,
        initial: str,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        super().__init__()
        if parameter not in ("raw", "schur"):
            raise ValueError(f'parameter must be "raw" or "schur", got {parameter!r}')
        if initial not in ("raw", "norm"):
            raise ValueError(f'initial must be "raw" or "norm", got {initial!r}')
        if isinstance(cutoff, nn.Module):
            self.cutoff = cutoff  # its parameters are trained with the layer's
        self.parameter, self.initial = parameter, initial
        self.projector = EquivariantProjector(rep_in, rep_out, cutoff)
        self.bias_projector = InvariantProjector(rep_out, cutoff) if bias else None
        if not isinstance(cutoff, nn.Module) and self.projector.dimension == 0:
            warnings.warn(
                f"{cutoff!r} removes every direction of {rep_in!r} -> {rep_out!r}: the weight is zero",
                stacklevel=3,
            )
        self._shape = shape
        tensor = nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
        if parameter == "raw":
            self.weight = tensor
        else:
            self._bases()  # raises where there are none
            self.coefficients = tensor
        self.bias = nn.Parameter(torch.empty(shape[0], device=device, dtype=dtype)) if bias else None
        self._projected_weight = ProjectedWeight()
        self._projected_bias = ProjectedWeight()
        self._kept = KeptValue()
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the raw parameters as torch.nn.Linear does, and enlarge the strict part as `initial` says."""
        weight = torch.empty_like(self._parameter)
        nn.init.kaiming_uniform_(weight, a=math.sqrt(5))
        with torch.no_grad():
            if self.initial == "norm":
                weight += (strict_gain(self.projector) - 1) * self._strict_part(weight)
            self._parameter.copy_(weight if self.parameter == "raw" else self._to_coordinates(weight))
        if self.bias is not None:
            limit = 1 / math.sqrt(math.prod(self._shape[1:]))
            nn.init.uniform_(self.bias, -limit, limit)

    def _strict_part(self, weight: Tensor) -> Tensor:
        rep_in, rep_out = self.projector.rep_in, self.projector.rep_out
        assert rep_in is not None
        assert rep_out is not None
        return EquivariantProjector(rep_in, rep_out, Softness(0))(weight.flatten(1)).view(self._shape)

    # -- weights ---------------------------------------------------------------------------------------------

    @property
    def _parameter(self) -> nn.Parameter:
        found = self._parameters["weight" if self.parameter == "raw" else "coefficients"]
        assert found is not None
        return found

    @property
    def _block_projection(self) -> BlockProjection | None:
        return self.projector.block_projection

    def _bases(self) -> BlockProjection:
        found = self._block_projection
        if found is None:
            raise ValueError(
                f'parameter="schur" needs bases of irreps, which the route {self.projector.route!r} has not: '
                'use parameter="raw"'
            )
        return found

    def __getattr__(self, name: str) -> Any:
        if name == "weight" and self.__dict__.get("parameter") == "schur":
            return self._raw_weight(self._parameter)
        return super().__getattr__(name)

    def _raw_weight(self, coefficients: Tensor) -> Tensor:
        bases = self._bases()
        return synthesise_weight(coefficients.flatten(1), bases.out.basis, bases.inn.basis).view(self._shape)

    def _to_coordinates(self, weight: Tensor) -> Tensor:
        bases = self._bases()
        return analyse_weight(weight.flatten(1), bases.out.basis, bases.inn.basis).view(self._shape)

    @property
    def _is_trained_cutoff(self) -> bool:
        return isinstance(self.projector.cutoff, nn.Module)

    @property
    def projected_weight(self) -> Tensor:
        """P(W), of the weight's shape, differentiable in the parameter."""
        if self.parameter == "raw":
            if self._is_trained_cutoff:
                return self._project(self.weight)
            return self._projected_weight(self.weight, self._project)
        if self._is_trained_cutoff or self._trains:
            return self._from_coordinates(self._parameter)
        return self._kept(self._parameter, "weights", self._from_coordinates)

    def _project(self, weight: Tensor) -> Tensor:
        return self.projector(weight.flatten(1)).view(self._shape)

    def _from_coordinates(self, coefficients: Tensor) -> Tensor:
        return projected_weight(coefficients.flatten(1), self._bases(), "schur").view(self._shape)

    @property
    def _trains(self) -> bool:
        return torch.is_grad_enabled() and self._parameter.requires_grad

    @property
    def projected_bias(self) -> Tensor | None:
        """P_inv(b) (C_out * m,), or None."""
        if self.bias is None or self.bias_projector is None:
            return None
        return self._projected_bias(self.bias, self.bias_projector)

    def certificate(self) -> Certificate:
        """What is guaranteed for the projected weight as it is now (the bias apart)."""
        return self.projector.certificate(self.weight.flatten(1))

    # -- checkpoints -----------------------------------------------------------------------------------------

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if self.parameter == "schur":
            coefficients = destination.pop(prefix + "coefficients")
            weight = self._raw_weight(coefficients)
            # In the place of a plain layer's: before the bias.
            bias = destination.pop(prefix + "bias", None)
            destination[prefix + "weight"] = weight
            if bias is not None:
                destination[prefix + "bias"] = bias

    def _load_from_state_dict(
        self, state_dict: Any, prefix: str, local_metadata: Any, strict: bool, *lists: list[str]
    ) -> None:
        if self.parameter == "schur" and prefix + "weight" in state_dict:
            state_dict = dict(state_dict)
            weight = state_dict.pop(prefix + "weight")
            if isinstance(weight, Tensor) and tuple(weight.shape) == self._shape:
                with torch.no_grad():
                    weight = self._to_coordinates(weight.to(self._parameter))
            state_dict[prefix + "coefficients"] = weight
        before = len(lists[0])
        super()._load_from_state_dict(state_dict, prefix, local_metadata, strict, *lists)
        if self.parameter == "schur":
            # Said of what the user knows: the weight of the checkpoint.
            lists[0][before:] = [
                key.replace(prefix + "coefficients", prefix + "weight") for key in lists[0][before:]
            ]

    def extra_repr(self) -> str:
        said = f"{self.projector!r}"
        return said if self.parameter == "raw" else f'{said}, parameter="schur"'
