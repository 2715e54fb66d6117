"""One call that makes a pretrained model softly equivariant, in place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from equikernels.group import Group
from equikernels.project.adapting.actions import grid_linear, parameter_of, tokens
from equikernels.project.adapting.defaults import default_rules
from equikernels.project.adapting.limits import find_limits
from equikernels.project.adapting.parts import Part
from equikernels.project.adapting.report import LayerRow, LimitRow, SoftenReport
from equikernels.project.adapting.rules import Plan, Projectors, Rule, Site
from equikernels.project.adapting.softened import is_softened, plain_class, restore_module, soften_module
from equikernels.project.adapting.trace import trace
from equikernels.project.cutoffs import Cutoff, Softness

NORMALIZATIONS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


class AlreadySoftened(ValueError):
    """The model has softened layers: bake it first, or soften a fresh one."""


@dataclass(frozen=True)
class Decision:
    """A plan and the module, or the one parameter of a module, that it is for."""

    site: Site
    plan: Plan


def soften(
    model: nn.Module,
    group: Group,
    *,
    softness: float | None = None,
    cutoff: Cutoff | None = None,
    grid: Mapping[str, tuple[int, int]] | None = None,
    rules: Sequence[Rule] = default_rules,
    example_input: Any = None,
    dry_run: bool = False,
) -> SoftenReport:
    """Make a torch module softly equivariant, in place, without a new parameter.

    Softened parameters keep their names, their values and their place in optimizers and checkpoints;
    reading them gives their projection, computed once per version. By default every convolution gets
    isotropic kernels (1-pixel kernels act on channels and stay) and every position table is smoothed along
    its tokens. Linear layers act on channels and stay, unless `grid` or a rule says what their features are.

    Args:
        model: any module; its training mode, devices and dtypes stay.
        group: for images SO2(), O2(), CyclicGroup(n) or DihedralGroup(n); for volumes these about z, or
            CubeGroup(); DihedralGroup(1) flips signals. Any group for rules with representations.
        softness: 0 (strictly equivariant) to 1 (as it was); the same as cutoff=Softness(softness).
        cutoff: Hard, Smooth or Softness; not a learnable one. Exactly one of `softness` and `cutoff`.
        grid: pattern of names -> (H, W): position tables whose token grid is (H, W), and linear layers on
            flattened maps of H x W pixels, channel-major.
        rules: the first that matches decides; put yours in front: (Rule(...), *default_rules).
        example_input: a tensor, a tuple of arguments or a mapping of keyword arguments. The model runs
            once on it, in evaluation mode, so that the report knows the sizes of feature maps.
        dry_run: change nothing; the report is the same.

    Returns:
        What was done with every layer, and what keeps the model from exactness at softness 0.

    Raises:
        TypeError: naming the argument.
        ValueError: not exactly one cut-off; a pattern of `grid` or of a rule of yours that names nothing,
            with the names there are; a layer that cannot be softened to this group, with what to do.
        AlreadySoftened: naming the first softened layer.
        Whatever is raised, the model is as it was.

    >>> from equikernels.group import CyclicGroup
    >>> model = nn.Sequential(nn.Conv2d(1, 8, 5, padding=2), nn.ReLU(), nn.Conv2d(8, 4, 1))
    >>> print(soften(model, CyclicGroup(4), softness=0))
    C_4, Softness(s=0, clusters='fraction'): 1 of 2 layers softened, 56 of their 200 parameters free
    <BLANKLINE>
    layer  type    action             representation               parameters  note
    -----  ------  -----------------  ---------------------------  ----------  -----------------------...
    0      Conv2d  isotropic kernels  permutation grid 5x5 of C_4  200 -> 56
    2      Conv2d  left alone                                      36          1 pixel kernels act on...
    <BLANKLINE>
    Nothing known limits exactness.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    if not isinstance(group, Group):
        raise TypeError(f"group must be a Group, got {type(group).__name__}")
    chosen = _cutoff(softness, cutoff)
    given = _rules(grid, rules)
    for name, module in model.named_modules():
        if is_softened(module):
            raise AlreadySoftened(
                f"{name or 'the model itself'} ({plain_class(module).__name__}) is softened already: "
                "bake(model) first"
            )
    decisions = list(_decide(model, group, Projectors(chosen), given))
    _check_patterns(model, grid or {}, rules)
    parts = _parts_by_owner(decisions)
    report = _report(model, group, chosen, decisions, example_input)
    if not dry_run:
        _apply(parts)
    return report


# -- arguments ---------------------------------------------------------------------------------


def _cutoff(softness: float | None, cutoff: Cutoff | None) -> Cutoff:
    if (softness is None) == (cutoff is None):
        got = "neither" if softness is None else "both"
        raise ValueError(f"exactly one of softness and cutoff must be given, got {got}")
    if softness is not None:
        return Softness(softness)
    if isinstance(cutoff, nn.Module):
        raise TypeError(
            "cutoff must be fixed: a learnable one would add parameters, and softened checkpoints have none; "
            "use it in layers of its own"
        )
    if not callable(getattr(cutoff, "response", None)):
        raise TypeError(f"cutoff must be Hard, Smooth or Softness, got {cutoff!r}")
    assert cutoff is not None
    return cutoff


def _rules(grid: Mapping[str, tuple[int, int]] | None, rules: Sequence[Rule]) -> tuple[Rule, ...]:
    """The rules that `grid` stands for, then those given."""
    if grid is not None and not isinstance(grid, Mapping):
        raise TypeError(f"grid must be a mapping from name patterns to (H, W), got {grid!r}")
    made: list[Rule] = []
    for pattern, size in (grid or {}).items():
        sides = size if isinstance(size, (tuple, list)) else ()
        whole = all(isinstance(n, int) and not isinstance(n, bool) and n >= 1 for n in sides)
        if len(sides) != 2 or not whole:
            raise ValueError(f"grid[{pattern!r}] must be a pair (H, W) of integers >= 1, got {size!r}")
        pair = (sides[0], sides[1])
        made.append(Rule(pattern, nn.Linear, grid_linear(pair)))
        made.append(Rule(pattern, nn.Embedding, tokens(pair)))
        made.append(Rule(pattern, nn.Parameter, tokens(pair)))
    if isinstance(rules, Rule) or not all(isinstance(rule, Rule) for rule in rules):
        raise TypeError(f"rules must be a sequence of Rule, got {rules!r}")
    return (*made, *rules)


def _check_patterns(model: nn.Module, grid: Mapping[str, Any], rules: Sequence[Rule]) -> None:
    """A pattern that names nothing is a mistake; the default rules may find nothing to do."""
    asked = [(f"grid[{p!r}]", [Rule(p, (nn.Linear, nn.Embedding), tokens()), Rule(p, nn.Parameter, tokens())])
             for p in grid]  # fmt: skip
    asked += [
        (f"the pattern {rule.pattern!r} of a rule", [rule]) for rule in rules if rule not in default_rules
    ]
    for what, wanted in asked:
        if any(_sites_of(model, rule, rule.pattern) for rule in wanted):
            continue
        names = [name for rule in wanted for name in _sites_of(model, rule, "*")]
        raise ValueError(f"{what} names nothing in the model; there are: {', '.join(names) or 'none'}")


def _sites_of(model: nn.Module, rule: Rule, pattern: str) -> list[str]:
    anywhere = Rule(pattern, rule.kind, rule.plan)
    if rule.on_parameters:
        names = [_join(path, own) for path, module in model.named_modules() for own in _own_tables(module)]
        return [name for name in names if anywhere.matches_parameter(name)]
    return [name for name, module in model.named_modules() if anywhere.matches(name, module)]


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _own_tables(module: nn.Module) -> list[str]:
    """Parameters that rules on parameters are asked about: those of modules that are no layers of torch."""
    home = type(module).__module__
    if home.startswith("torch.nn.modules") and home != "torch.nn.modules.container":
        return []
    return [name for name, parameter in module._parameters.items() if parameter is not None]


# -- planning ----------------------------------------------------------------------------------


def _decide(
    model: nn.Module, group: Group, projectors: Projectors, rules: tuple[Rule, ...]
) -> Iterator[Decision]:
    claimed: set[nn.Module] = set()
    for name, module in model.named_modules():
        if module in claimed:
            continue
        if callable(getattr(module, "baked", None)):
            claimed.update(module.modules())
            yield Decision(
                Site(name, module, None, group, projectors), Plan("left alone", note="soft as built")
            )
            continue
        site = Site(name, module, None, group, projectors)
        rule = next((rule for rule in rules if rule.matches(name, module)), None)
        plan = _checked(site, rule.plan(site)) if rule is not None else None
        if plan is not None:
            claimed.update(module.get_submodule(path.rpartition(".")[0]) for path in plan.parts)
            yield Decision(site, plan)
        tables = [] if rule is not None else _own_tables(module)
        for own in tables:
            found = next((rule for rule in rules if rule.matches_parameter(_join(name, own))), None)
            table = Site(name, module, own, group, projectors)
            yield Decision(table, _unknown(table) if found is None else _checked(table, found.plan(table)))
        if plan is None and not tables and module._parameters:
            yield Decision(site, Plan("left alone", note=_why_alone(module)))


def _checked(site: Site, plan: Plan) -> Plan:
    """The plan, if each of its parts fits its parameter; raises ValueError or TypeError else."""
    if not isinstance(plan, Plan):
        raise TypeError(f"{site.label}: a rule must plan a Plan, got {type(plan).__name__}")
    for name, part in plan.parts.items():
        raw = parameter_of(site, name)
        assert raw is not None
        with torch.no_grad():
            try:
                shape = part(raw).shape
            except (ValueError, TypeError) as error:
                kind = TypeError if isinstance(error, TypeError) else ValueError
                raise kind(f"{site.label}: {name} cannot be projected: {error}") from error
        if shape != raw.shape:
            raise ValueError(
                f"{site.label}: the projection of {name} must have shape {tuple(raw.shape)}, "
                f"got {tuple(shape)}"
            )
    return plan


def _unknown(site: Site) -> Plan:
    """What is said of a parameter that no rule knows."""
    assert site.parameter is not None
    parameter = site.module._parameters[site.parameter]
    assert parameter is not None
    shape = tuple(parameter.shape)
    if sum(n > 1 for n in shape) <= 1 or "token" in site.parameter:
        return Plan("left alone", note="channels only")
    reason = f"no rule says how the group acts on shape {shape}"
    return Plan("left alone", note=reason, limits=(reason,))


def _why_alone(module: nn.Module) -> str:
    if isinstance(module, (nn.Linear, nn.Bilinear, nn.MultiheadAttention, *NORMALIZATIONS)):
        return "channels only: equivariant as it is where pixels or tokens change places"
    return "no rule for it"


def _parts_by_owner(decisions: Sequence[Decision]) -> dict[nn.Module, dict[str, Part]]:
    """The parts to be laid over each module's own parameters."""
    parts: dict[nn.Module, dict[str, Part]] = {}
    for decision in decisions:
        for path, part in decision.plan.parts.items():
            owner, _, name = path.rpartition(".")
            parts.setdefault(decision.site.module.get_submodule(owner), {})[name] = part
    return parts


def _apply(parts: Mapping[nn.Module, Mapping[str, Part]]) -> None:
    """Soften all modules, or none."""
    done: list[nn.Module] = []
    try:
        for module, own in parts.items():
            soften_module(module, own)
            done.append(module)
    except BaseException:
        for module in done:
            restore_module(module)
        raise


# -- reporting ---------------------------------------------------------------------------------


def _report(
    model: nn.Module, group: Group, cutoff: Cutoff, decisions: Sequence[Decision], example_input: Any
) -> SoftenReport:
    plans: dict[nn.Module, Plan] = {}
    for decision in decisions:
        known = plans.get(decision.site.module, Plan("", {}))
        plans[decision.site.module] = Plan(
            "", {**known.parts, **decision.plan.parts}, limits=known.limits + decision.plan.limits
        )
    seen = None if example_input is None else trace(model, example_input)
    limits = [
        LimitRow(name or "(the model itself)", "" if module is None else type(module).__name__, reason)
        for name, module, reason in find_limits(model, group, plans, seen)
    ]
    return SoftenReport(group, cutoff, tuple(_row(decision) for decision in decisions), tuple(limits))


def _row(decision: Decision) -> LayerRow:
    site, plan = decision.site, decision.plan
    if plan.parts:
        raws = [_raw(site, path) for path in plan.parts]
        count = sum(raw.numel() for raw in raws)
        free = sum(part.dimension(raw) for raw, part in zip(raws, plan.parts.values(), strict=True))
    else:
        own = [site.parameter] if site.parameter else list(site.module._parameters)
        count = sum(p.numel() for p in map(site.module._parameters.get, own) if p is not None)
        free = count
    return LayerRow(
        site.label,
        type(site.module).__name__,
        plan.action,
        plan.representation,
        count,
        free,
        plan.note,
        bool(plan.parts),
    )


def _raw(site: Site, path: str) -> Tensor:
    raw = parameter_of(site, path)
    assert raw is not None
    return raw
