"""Rules: which parameters of a model are softened, and how the group acts on them.

A rule names modules (or parameters) by a pattern and a type, and plans what is done with each. The first rule
that matches decides. `default_rules` knows convolutions, patch and position embeddings; put your own
in front, or leave the defaults out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TypeVar

from torch import nn

from equikernels.group import Group, Representation
from equikernels.project.adapting.parts import Part
from equikernels.project.cutoffs import Cutoff
from equikernels.project.projector import EquivariantProjector, InvariantProjector

Acts = Representation | Callable[[Group], Representation]
"""A representation, or a function that makes it from the group given to `soften`."""

P = TypeVar("P", bound=EquivariantProjector)


class Projectors:
    """The projectors of one call: each pair of representations gets one, shared by all layers."""

    def __init__(self, cutoff: Cutoff) -> None:
        self.cutoff = cutoff
        self._invariant: dict[Representation, InvariantProjector] = {}
        self._equivariant: dict[tuple[Representation, Representation], EquivariantProjector] = {}

    def invariant(self, rep: Representation) -> InvariantProjector:
        if rep not in self._invariant:
            self._invariant[rep] = InvariantProjector(rep, self.cutoff)
        return self._invariant[rep]

    def equivariant(self, rep_in: Representation, rep_out: Representation) -> EquivariantProjector:
        pair = (rep_in, rep_out)
        if pair not in self._equivariant:
            self._equivariant[pair] = EquivariantProjector(rep_in, rep_out, self.cutoff)
        return self._equivariant[pair]


@dataclass(frozen=True)
class Site:
    """What a rule is asked about.

    Attributes:
        name: the module's qualified name, "" for the model itself.
        module: the module.
        parameter: the parameter's name in the module, for rules on parameters; else None.
        group: the group given to `soften`.
        projectors: makes projectors with the cut-off given to `soften`.
    """

    name: str
    module: nn.Module
    parameter: str | None
    group: Group
    projectors: Projectors

    @property
    def path(self) -> str:
        """The qualified name of the module or of the parameter, against which rules match."""
        return ".".join(part for part in (self.name, self.parameter) if part)

    @property
    def label(self) -> str:
        """The same as errors and reports give it."""
        return self.path or "(the model itself)"


@dataclass(frozen=True)
class Plan:
    """What a rule decides.

    Attributes:
        action: a few words for the report, "isotropic kernels" or "left alone".
        parts: parameter name (dotted for a child's) -> its projection; empty where nothing is done.
        representation: how the group acts, in words.
        note: what the report says beside it.
        limits: reasons why this layer keeps the model from exactness whatever the input is.
    """

    action: str
    parts: Mapping[str, Part] = field(default_factory=dict)
    representation: str = ""
    note: str = ""
    limits: tuple[str, ...] = ()


@dataclass(frozen=True)
class Rule:
    """One rule: what is done with the modules, or parameters, of a name and a kind.

    Args:
        pattern: a shell pattern (`*`, `?`, `[seq]`; `*` matches dots too) for qualified module names; for
            parameters, for `module.parameter`.
        kind: a module type or a tuple of them, or torch.nn.Parameter for a rule on parameters.
        plan: a function from a Site to a Plan: `kernels()`, `tokens()`, `linear()`, `attention()`,
            `leave()`, or one of your own.

    >>> from equikernels.project.adapting.actions import leave
    >>> rule = Rule("decoder.*", nn.Conv2d, leave("the decoder stays plain"))
    >>> rule.matches("decoder.0", nn.Conv2d(1, 1, 3))
    True
    """

    pattern: str
    kind: type[nn.Module] | type[nn.Parameter] | tuple[type[nn.Module], ...]
    plan: Callable[[Site], Plan]

    def __post_init__(self) -> None:
        if not isinstance(self.pattern, str):
            raise TypeError(f"pattern must be a string, got {self.pattern!r}")
        if self.on_parameters:
            kinds: tuple[type, ...] = ()
        else:
            kinds = self.kind if isinstance(self.kind, tuple) else (self.kind,)
        if not all(isinstance(kind, type) and issubclass(kind, nn.Module) for kind in kinds):
            raise TypeError(
                f"kind must be module types or torch.nn.Parameter, got {self.kind!r} for {self.pattern!r}"
            )
        if not callable(self.plan):
            raise TypeError(f"plan must be a function from a Site to a Plan, got {self.plan!r}")

    @property
    def on_parameters(self) -> bool:
        """Whether this rule is on parameters."""
        return self.kind is nn.Parameter

    def matches(self, name: str, module: nn.Module) -> bool:
        """Whether this is a rule on modules that decides on this one."""
        return not self.on_parameters and isinstance(module, self.kind) and fnmatchcase(name, self.pattern)

    def matches_parameter(self, name: str) -> bool:
        """Whether this is a rule on parameters that decides on the one with this qualified name."""
        return self.on_parameters and fnmatchcase(name, self.pattern)
