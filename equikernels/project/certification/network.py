"""`certify`: a bound of the equivariance error of a network, or the reason why there is none."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from equikernels.group import Group, Representation
from equikernels.project.adapting.parts import Part, Whole
from equikernels.project.certification.actions import (
    Action,
    Features,
    Given,
    Still,
    TurnedImages,
    features_of,
    images_of,
    same_action,
)
from equikernels.project.certification.compose import (
    Composition,
    NetworkBound,
    StepRow,
    compose,
    leaves,
)
from equikernels.project.certification.elements import checked_elements, element_text, is_listed
from equikernels.project.certification.layers import LayerTable, certify_parameters, check_numbers
from equikernels.project.certification.measure import Measurement, measure
from equikernels.project.certification.scope import Scope
from equikernels.project.certification.steps import Refusal
from equikernels.project.certification.tables import markdown_table, number, text_table
from equikernels.project.saving.parameters import soft_parameters

Acts = Representation | Callable[[Any, Tensor], Tensor]
"""How the group acts on inputs or outputs: a representation on the last axis, or a function (g, x) -> g x."""

STEP_HEAD = ("layer", "type", "Lipschitz", "own error", "composed error", "by")


@dataclass(frozen=True, repr=False)
class NetworkCertificate:
    """What is guaranteed of a network f, and what it was seen to do; prints as tables.

    Attributes:
        group: the group.
        layers: the certificate of every softened parameter.
        steps: the layers that the bound is composed of; those before the refusal are not listed.
        bound: |f(gx) - g f(x)| <= relative |x| + absolute for every input x of this shape and each element
            that `covers` names; None where there is no bound.
        refusal: why there is none, else None.
        covers: which elements the bound is for, in words.
        measured: the worst |f(gx) - g f(x)| / |x| over the elements and inputs looked at.
        worst: the element of the worst error, in words.
        elements, inputs: how many were looked at.
        actions: how the group acts on inputs and outputs, in words.
        holds: whether every measured error is at most its bound; None without a bound.
    """

    group: Group
    layers: LayerTable
    steps: tuple[StepRow, ...]
    bound: NetworkBound | None
    refusal: str | None
    covers: str
    measured: float
    worst: str
    elements: int
    inputs: int
    actions: tuple[str, str]
    holds: bool | None

    def __repr__(self) -> str:
        said = f"bound {self.bound}" if self.refusal is None else f"no bound: {self.refusal}"
        return f"NetworkCertificate({self.group!r}, {said}, measured {self.measured:.4g})"

    def __str__(self) -> str:
        return "\n\n".join(self._blocks(text_table, str))

    def to_markdown(self) -> str:
        """The same as Markdown."""
        return "\n\n".join(self._blocks(markdown_table, lambda table: table.to_markdown().rstrip())) + "\n"

    def to_dict(self) -> dict[str, Any]:
        """The numbers, as JSON knows them."""
        return {
            "group": repr(self.group),
            "actions": list(self.actions),
            "bound": None if self.bound is None else asdict(self.bound),
            "refusal": self.refusal,
            "covers": self.covers,
            "measured": self.measured,
            "worst": self.worst,
            "elements": self.elements,
            "inputs": self.inputs,
            "holds": self.holds,
            "steps": [asdict(step) for step in self.steps],
        } | self.layers.to_dict()

    @property
    def verdict(self) -> str:
        """The verdict in words."""
        return {None: "no bound", True: "holds", False: "VIOLATED"}[self.holds]

    def _blocks(self, table: Callable[..., str], layers: Callable[[LayerTable], str]) -> list[str]:
        if self.bound is not None:
            first = f"|f(gx) - g f(x)| <= {self.bound} for {self.covers}"
        else:
            first = f"no bound: {self.refusal}"
        where = f"{self.elements} elements, {self.inputs} inputs, worst at g = {self.worst}"
        blocks = [
            f"{self.group!r}, {self.actions[0]} -> {self.actions[1]}",
            first,
            f"measured: {self.measured:.4g} |x| at most ({where}): {self.verdict}",
        ]
        if self.steps:
            blocks.append(table(STEP_HEAD, [_cells(step) for step in self.steps]))
        if len(self.layers):
            blocks.append(layers(self.layers))
        return blocks


def _cells(step: StepRow) -> tuple[str, ...]:
    own = NetworkBound(step.relative, step.absolute)
    composed = NetworkBound(step.composed_relative, step.composed_absolute)
    return (step.layer or "(itself)", step.type, number(step.lipschitz), str(own), str(composed), step.how)


def certify(
    model: nn.Module,
    group: Group,
    example_input: Tensor,
    *,
    act_in: Acts | None = None,
    act_out: Acts | None = None,
    elements: Iterable[Any] | None = None,
    radius: float | None = None,
    samples: int = 16,
    seed: int = 0,
) -> NetworkCertificate:
    """Bound the equivariance error of a network, and measure it.

    The bound holds for every input of the example's shape: it is composed from the weights, layer by layer,
    and knows nothing of data. Only trees of nn.Sequential of known layers are composed, as other forwards
    cannot be seen. Where no bound is known the certificate says at which layer and why, and gives measured
    errors, which guarantee nothing. All of it speaks of a float64 copy of the model in evaluation mode.

    Args:
        model: any module, softened or not.
        group: for images SO2(), O2(), CyclicGroup(n) or DihedralGroup(n); any group on features.
        example_input: (N, C, H, W) images or (N, features); the errors are measured at and around it.
        act_in: how the group acts on inputs; default: it turns images; on features it acts as the first
            softened linear layer says.
        act_out: the same of outputs; default: as the layers carry it through; where they do not, images turn
            and features are to stay.
        elements: the elements to bound and to measure; default: all elements of a group of at most 64; else a
            bound for the whole group, measured at random elements.
        radius: only elements of at most this length: radians, or letters of a finite group.
        samples: random elements, and random inputs beside the example.
        seed: of these.

    Raises:
        TypeError, ValueError: naming the argument.

    >>> from equikernels.group import CyclicGroup
    >>> from equikernels.project import soften
    >>> model = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU())
    >>> report = soften(model, CyclicGroup(4), softness=0)
    >>> certificate = certify(model, CyclicGroup(4), torch.rand(2, 1, 8, 8))
    >>> certificate.bound.relative < 1e-12, certificate.holds
    (True, True)
    """
    _check(model, group, example_input)
    check_numbers(radius, samples, seed)
    inputs = example_input.detach().to("cpu", torch.float64)
    exact = copy.deepcopy(model).to("cpu", torch.float64).eval()
    parts: dict[nn.Module, dict[str, Part]] = {}
    modules = dict(exact.named_modules())
    for p in soft_parameters(exact):
        parts.setdefault(modules[p.module], {})[p.parameter] = p.part
    before = _action_in(act_in, group, inputs, exact, parts)
    scope, tried = _elements(group, elements, radius, samples, seed)
    result = _composed(exact, before, act_out, inputs, scope, parts)
    after = result.action if isinstance(result, Composition) else _action_out(act_out, group, exact, inputs)
    measured = measure(exact, before, after, inputs, tried, samples, seed)
    rows = ((p.module, p.type, p.parameter, p.part, p.raw) for p in soft_parameters(exact))
    composed = result if isinstance(result, Composition) else None
    return NetworkCertificate(
        group=group,
        layers=certify_parameters(rows, radius, samples, seed),
        steps=() if composed is None else composed.rows,
        bound=None if composed is None else composed.bound,
        refusal=result if isinstance(result, str) else None,
        covers=str(scope),
        measured=float(measured.relative.max()),
        worst=element_text(tried[int(measured.relative.amax(1).argmax())]),
        elements=len(tried),
        inputs=measured.norms.numel(),
        actions=(str(before), str(after)),
        holds=None if composed is None else _holds(composed, scope, measured),
    )


def _check(model: Any, group: Any, example_input: Any) -> None:
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    if not isinstance(group, Group):
        raise TypeError(f"group must be a Group, got {type(group).__name__}")
    if not isinstance(example_input, Tensor) or not example_input.is_floating_point():
        got = example_input.dtype if isinstance(example_input, Tensor) else type(example_input).__name__
        raise TypeError(f"example_input must be a floating tensor, got {got}")
    if example_input.ndim < 2 or example_input.shape[0] == 0:
        raise ValueError(
            f"example_input must have shape (N, C, H, W) or (N, features), got {tuple(example_input.shape)}"
        )
    if not bool(torch.isfinite(example_input).all()) or not bool(example_input.flatten(1).any(1).all()):
        raise ValueError("example_input must be finite and not zero: errors are relative to its length")


# -- actions and elements ------------------------------------------------------------------------------------


def _action_in(
    given: Acts | None,
    group: Group,
    inputs: Tensor,
    model: nn.Module,
    parts: Mapping[nn.Module, Mapping[str, Part]],
) -> Action:
    if given is not None:
        return _given("act_in", given, group, inputs.shape)
    if inputs.ndim == 4:
        return images_of(group, inputs.shape[2], inputs.shape[3])
    first = next(
        (
            part
            for _, module in leaves(model)
            if isinstance(part := parts.get(module, {}).get("weight"), Whole)
        ),
        None,
    )
    rep = None if first is None else first.projector.rep_in
    if inputs.ndim != 2 or rep is None or inputs.shape[1] % rep.dim:
        raise ValueError(
            f"act_in must be given: nothing says how {group!r} acts on inputs of shape {tuple(inputs.shape)}"
        )
    return _given("act_in", rep, group, inputs.shape)


def _given(name: str, given: Any, group: Group, shape: torch.Size) -> Action:
    if isinstance(given, Representation):
        if given.group != group:
            raise ValueError(f"{name} belongs to {given.group!r}, the certificate is for {group!r}")
        if given.dim == 0 or shape[-1] % given.dim:
            raise ValueError(f"{name}: the last axis must be a multiple of {given.dim}, got {tuple(shape)}")
        return features_of(given)
    if not callable(given):
        raise TypeError(f"{name} must be a Representation or a function (g, x), got {type(given).__name__}")
    return Given(given)


@torch.no_grad()
def _action_out(given: Acts | None, group: Group, model: nn.Module, inputs: Tensor) -> Action:
    y = model(inputs.clone())
    if not isinstance(y, Tensor):
        raise TypeError(f"model must give a tensor, got {type(y).__name__}: wrap it so that it does")
    if given is not None:
        return _given("act_out", given, group, y.shape)
    if y.ndim == 4:
        return images_of(group, y.shape[2], y.shape[3])
    if y.ndim != 2:
        raise ValueError(f"act_out must be given: nothing says how the group acts on {tuple(y.shape)}")
    return Still()


def _elements(
    group: Group, given: Iterable[Any] | None, radius: float | None, samples: int, seed: int
) -> tuple[Scope, list[Any]]:
    """What is bounded, and the elements that are measured."""
    tried = (
        checked_elements(group, samples, seed, radius) if given is None else [group.check(g) for g in given]
    )
    if radius is not None:
        tried = [g for g in tried if _length(group, g) <= radius]
    if not tried:
        raise ValueError(
            f"elements must hold an element of {group!r} within the radius: there is none to look at"
        )
    listed = given is not None or is_listed(group)
    return Scope(group, tuple(tried) if listed else None, radius), tried


def _length(group: Group, g: Any) -> float:
    """What a radius limits: the Lie part of an element where it has one, else its letters."""
    angle, letters = group.lengths(g)
    return float(angle if group.lie_dim else letters)


# -- the bound -----------------------------------------------------------------------------------------------


def _composed(
    model: nn.Module,
    before: Action,
    act_out: Acts | None,
    inputs: Tensor,
    scope: Scope,
    parts: Mapping[nn.Module, Mapping[str, Part]],
) -> Composition | str:
    """The composition, or why there is none."""
    if isinstance(before, TurnedImages):
        return (
            f"{scope.group!r} turns images by angles that carry no grid of pixels to itself: there is no "
            "theorem, only measurement (multiples of 90 degrees alone: CyclicGroup(4) or DihedralGroup(4))"
        )
    if isinstance(before, Given):
        return "act_in is a function: how layers carry it on cannot be seen"
    if isinstance(before, Features) and not before.rep.is_orthogonal:
        return f"{before.rep!r} is not an orthogonal representation: no bound holds"
    try:
        found = compose(
            model, before, inputs.shape[1:], scope, parts, float(inputs.flatten(1).norm(dim=1).max())
        )
    except Refusal as reason:
        return str(reason)
    if act_out is None:
        return found
    with torch.no_grad():
        shape = model(inputs[:1].clone()).shape
    wanted = _given("act_out", act_out, scope.group, shape)
    if not same_action(found.action, wanted, scope.group, shape[-1]):
        return f"act_out is not how the layers carry the group on: they give {found.action}"
    return found


def _holds(found: Composition, scope: Scope, measured: Measurement) -> bool:
    """Every error against the bound of its own element, or of the whole group."""
    bounds = found.relative[:, None] * measured.norms + found.absolute[:, None]
    # Rounding is relative to what flows through the network, not to the error.
    slack = 1e-11 * (found.lipschitz * measured.norms + found.offset)
    return bool((measured.errors <= bounds + slack).all())
