"""Every softly equivariant parameter of a model: those that `soften` made, and layers soft as built."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor, nn

from equikernels.project.adapting.parts import Kernels, Part, Patches, Tokens, Whole
from equikernels.project.adapting.softened import Entry, plain_class, softened_entries
from equikernels.project.projector import EquivariantProjector


@dataclass(frozen=True, eq=False)
class SoftParameter:
    """One parameter and its projection.

    Attributes:
        module: the qualified name of its module, "" for the model itself.
        parameter: its name in that module.
        type: the class of the module, as it was before.
        part: how it is projected.
        raw: the raw parameter.
        built_in: whether the layer is soft as built, so that nothing has to be softened on loading.
    """

    module: str
    parameter: str
    type: str
    part: Part
    raw: Tensor
    built_in: bool

    @property
    def name(self) -> str:
        """The qualified name of the parameter."""
        return f"{self.module}.{self.parameter}" if self.module else self.parameter


def soft_parameters(model: nn.Module) -> Iterator[SoftParameter]:
    """All of them, in the model's order; a module used in two places counts once."""
    softened: dict[str, list[tuple[str, Part]]] = {}
    for path, _, name, entry in softened_entries(model):
        softened.setdefault(path, []).append((name, entry.part))
    for path, module in model.named_modules():
        known = softened.get(path)
        for name, part in _built_in(module) if known is None else known:
            # A layer that is soft as built may train other coordinates than its raw parameter's.
            raw = module._parameters.get(name) if known is not None else getattr(module, name)
            if raw is not None:
                yield SoftParameter(path, name, plain_class(module).__name__, part, raw, known is None)


def _built_in(module: nn.Module) -> Iterator[tuple[str, Part]]:
    """The parts of a layer that is soft as built: its projectors are attributes, as in SoftLinear."""
    for name, attribute in (("weight", "projector"), ("bias", "bias_projector")):
        projector = getattr(module, attribute, None)
        if not isinstance(projector, EquivariantProjector) or getattr(module, name, None) is None:
            continue
        yield name, Patches(projector) if getattr(module, name).dim() > 2 else Whole(projector)


def record_of(part: Part) -> str:
    """What a checkpoint says about a parameter: its cut-off and its representations."""
    return Entry(part).record


KNOWN_PARTS = (Whole, Patches, Kernels, Tokens)


def projected_rows(part: Whole | Patches | Kernels | Tokens, raw: Tensor) -> Tensor:
    """A raw parameter as the matrix that its part's projector takes, so that certificates can speak of it."""
    if isinstance(part, Patches):
        return raw.flatten(1)
    if isinstance(part, Kernels):
        return raw.flatten(-part.axes).flatten(0, -2)
    if isinstance(part, Tokens):
        return raw[..., part.leading :, :].mT.flatten(0, -2)
    return raw.reshape(-1, raw.shape[-1])
