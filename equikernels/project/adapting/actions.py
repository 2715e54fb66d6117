"""What rules plan: isotropic kernels, smooth position tables, equivariant linear maps and attention."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from equikernels.group import Representation
from equikernels.project.adapting.parts import Kernels, Part, Tokens, Whole
from equikernels.project.adapting.rules import Acts, Plan, Site
from equikernels.project.adapting.turns import acts_on_pixels, is_planar, stuck_modes, turned_grid

LEADING_TOKENS = (0, 1, 2, 5)
"""How many class, distillation and register tokens a position table may begin with, unless told."""


def leave(note: str, limits: tuple[str, ...] = ()) -> Callable[[Site], Plan]:
    """Leave the layer alone and say why."""
    return lambda site: Plan("left alone", note=note, limits=limits)


def parameter_of(site: Site, name: str, optional: bool = False) -> Tensor | None:
    """The raw parameter of a module, which must be a real floating one; None only if `optional`."""
    owner, _, own = name.rpartition(".")
    module = site.module.get_submodule(owner)
    found = module._parameters.get(own)
    if found is None:
        if optional and getattr(module, own, None) is None:
            return None
        raise ValueError(
            f"{site.label}: {own} is no parameter of its own (parametrized, pruned or weight-normalized): "
            "remove that first"
        )
    if isinstance(found, UninitializedParameter):
        raise ValueError(f"{site.label}: {own} is not initialized yet: run the model once first")
    if not found.is_floating_point():
        raise TypeError(f"{site.label}: {own} must be floating, got {found.dtype}")
    return found


# -- convolutions ------------------------------------------------------------------------------


def kernels() -> Callable[[Site], Plan]:
    """Isotropic kernels: every kernel of a convolution, of 1 to 3 axes, transposed or not, gets the
    invariant projector of its grid of pixels. Patch embeddings are such convolutions."""
    return _plan_kernels


def _plan_kernels(site: Site) -> Plan:
    weight = parameter_of(site, "weight")
    assert weight is not None
    size = tuple(weight.shape[2:])
    if math.prod(size) == 1:
        return Plan("left alone", note="1 pixel kernels act on channels only")
    if not acts_on_pixels(site.group, len(size)):
        what = {1: "signals", 2: "images", 3: "volumes"}[len(size)]
        return Plan(
            "left alone",
            note=f"not acted on: {site.group!r} does not turn {what}",
            limits=(f"{site.group!r} has no action on {what} here",),
        )
    shape = " x ".join(map(str, size))
    try:
        rep, axes = turned_grid(site.group, size)
    except ValueError as error:
        if len(set(size[-2:])) > 1 or len(set(size)) > 1:
            reason = f"no isotropic {shape} kernels: {error}"
            return Plan("left alone", note=reason, limits=(reason,))
        raise ValueError(
            f"{site.label}: {error}. For this layer use another group, or {rule_for(site, 'leave(...)')}"
        ) from error
    limits: tuple[str, ...] = ()
    if stuck_modes(rep):
        limits = (
            f"{stuck_modes(rep)} mode of the {shape} kernel, which a quarter turn negates, cannot turn under "
            f"{site.group!r} and is kept: CyclicGroup(4) removes it",
        )
    part = Kernels(site.projectors.invariant(rep), axes)
    return Plan("isotropic kernels", {"weight": part}, repr(rep), limits=limits)


def rule_for(site: Site, plan: str) -> str:
    """The rule that an error advises, as it is written."""
    if site.parameter is not None:
        kind = "nn.Parameter"
    else:
        known = next(cls for cls in type(site.module).__mro__ if cls.__module__.startswith("torch.nn"))
        kind = f"nn.{known.__name__}"
    return f'the rule Rule("{site.path}", {kind}, {plan}) in front'


# -- position tables ---------------------------------------------------------------------------


def tokens(grid: tuple[int, int] | None = None, leading: int | None = None) -> Callable[[Site], Plan]:
    """A smooth position table: the token axis gets the invariant projector of the token grid.

    The parameter has shape (..., T, D) with T = leading + H * W; class and register tokens stand first
    and stay as they are. Of an nn.Embedding it is the weight.

    Args:
        grid: (H, W) of the tokens; default: the square that T is after `leading` tokens.
        leading: how many tokens to exclude; default with `grid`: T - H * W; without: whichever of 0, 1,
            2 and 5 leaves a square of at least 2 x 2, if that is only one of them.
    """

    def plan(site: Site) -> Plan:
        name = site.parameter if site.parameter is not None else "weight"
        table = parameter_of(site, name)
        assert table is not None
        size, first = token_grid(site, table, grid, leading)
        if not is_planar(site.group):
            return Plan(
                "left alone",
                note=f"not acted on: {site.group!r} does not turn images",
                limits=(f"{site.group!r} has no action on token grids here",),
            )
        try:
            rep, _ = turned_grid(site.group, size)
        except ValueError as error:
            raise ValueError(f"{site.label}: {error}; or {rule_for(site, 'leave(...)')}") from error
        limits: tuple[str, ...] = ()
        if stuck_modes(rep):
            limits = (f"{stuck_modes(rep)} mode of the token grid cannot turn under {site.group!r}",)
        note = f"{first} leading token{'s' if first != 1 else ''} kept" if first else ""
        part = Tokens(site.projectors.invariant(rep), first)
        return Plan("smooth positions", {name: part}, repr(rep), note, limits)

    return plan


def token_grid(
    site: Site, table: Tensor, grid: tuple[int, int] | None, leading: int | None
) -> tuple[tuple[int, int], int]:
    """(H, W) and the number of leading tokens of a table (..., T, D); raises ValueError if unclear."""
    label = site.label
    if table.ndim < 2:
        raise ValueError(f"{label} must have shape (..., tokens, channels), got {tuple(table.shape)}")
    count = table.shape[-2]
    if grid is not None:
        rest = count - grid[0] * grid[1] if leading is None else leading
        if rest < 0 or rest + grid[0] * grid[1] != count:
            raise ValueError(
                f"{label} holds {count} tokens, which is not {rest if leading is not None else 'at least'} "
                f"{'+ ' if leading is not None else ''}{grid[0]} x {grid[1]}"
            )
        return grid, rest
    candidates = LEADING_TOKENS if leading is None else (leading,)
    found = []
    for rest in candidates:
        side = math.isqrt(max(count - rest, 0))
        if side >= 2 and side * side == count - rest:
            found.append(((side, side), rest))
    if len(found) != 1:
        seen = " or ".join(f"{h} x {w} after {rest}" for (h, w), rest in found) or "no square"
        raise ValueError(
            f"{label} holds {count} tokens: {seen} (tried {', '.join(map(str, candidates))} leading tokens). "
            f'Pass grid={{"{site.path}": (H, W)}}, or {rule_for(site, "tokens((H, W))")}, or leave(...)'
        )
    return found[0]


# -- linear maps -------------------------------------------------------------------------------


def linear(rep_in: Acts, rep_out: Acts) -> Callable[[Site], Plan]:
    """An equivariant linear layer: P on the weight, the invariant projector on the bias.

    Features are channel-major, (C * rep.dim) on either side. Each representation is given, or a
    function that makes it from the group.
    """

    def plan(site: Site) -> Plan:
        into, out = (acting(site, name, rep) for name, rep in (("rep_in", rep_in), ("rep_out", rep_out)))
        weight = parameter_of(site, "weight")
        assert weight is not None
        check_multiple(site, "output features", weight.shape[0], out)
        check_multiple(site, "input features", weight.shape[1], into)
        parts: dict[str, Part] = {"weight": Whole(site.projectors.equivariant(into, out))}
        if parameter_of(site, "bias", optional=True) is not None:
            parts["bias"] = Whole(site.projectors.invariant(out))
        return Plan("equivariant map", parts, f"{into!r} -> {out!r}")

    return plan


def grid_linear(size: tuple[int, int]) -> Callable[[Site], Plan]:
    """A linear layer on flattened maps of (H, W) pixels, channel-major.

    A side whose features are a multiple of H * W is maps, the other one numbers that do not turn.
    """

    def plan(site: Site) -> Plan:
        weight = parameter_of(site, "weight")
        assert weight is not None
        if not is_planar(site.group):
            raise ValueError(f"{site.label}: {site.group!r} does not turn images: give a rule, not a grid")
        try:
            pixels, _ = turned_grid(site.group, size)
        except ValueError as error:
            raise ValueError(f"{site.label}: {error}") from error
        out, into = (pixels if n % pixels.dim == 0 else site.group.trivial() for n in weight.shape)
        if pixels not in (out, into):
            raise ValueError(
                f"{site.label} maps {weight.shape[1]} to {weight.shape[0]} features, neither a multiple of "
                f"{size[0]} x {size[1]} pixels"
            )
        return linear(into, out)(site)

    return plan


def attention(rep: Acts) -> Callable[[Site], Plan]:
    """torch.nn.MultiheadAttention on vectors: embed_dim = heads * channels * rep.dim, whole vectors per head.

    The maps to queries, keys, values and the output are projected equivariantly, biases invariantly.
    Dot products of whole vectors are then invariant, so that the layer is equivariant.
    """

    def plan(site: Site) -> Plan:
        module = site.module
        if not isinstance(module, nn.MultiheadAttention):
            raise TypeError(
                f"{site.label} must be a torch.nn.MultiheadAttention, got {type(module).__name__}: "
                "give each of its linear layers a rule linear(rep, rep)"
            )
        vectors = acting(site, "rep", rep)
        heads = module.num_heads
        check_multiple(site, f"features of each of {heads} heads", module.embed_dim // heads, vectors)
        check_multiple(site, "key features", module.kdim, vectors)
        check_multiple(site, "value features", module.vdim, vectors)
        maps = Whole(site.projectors.equivariant(vectors, vectors))
        biases = Whole(site.projectors.invariant(vectors))
        # The three blocks of in_proj_weight stand one above the other: the projector takes each
        # rep.dim x rep.dim block by itself, so they need no taking apart.
        names: Mapping[str, Whole] = {
            **dict.fromkeys(("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight"), maps),
            **dict.fromkeys(("in_proj_bias", "bias_k", "bias_v"), biases),
            "out_proj.weight": maps,
            "out_proj.bias": biases,
        }
        parts: dict[str, Part] = {}
        for name, part in names.items():
            if parameter_of(site, name, optional=True) is not None:
                parts[name] = part
        return Plan("equivariant attention", parts, f"{vectors!r}, {heads} heads")

    return plan


def acting(site: Site, name: str, rep: Acts) -> Representation:
    """The representation a rule names, of the group being softened to."""
    made = rep if isinstance(rep, Representation) else rep(site.group)
    if not isinstance(made, Representation):
        raise TypeError(f"{site.label}: {name} must be a Representation, got {type(made).__name__}")
    if made.group != site.group:
        raise ValueError(
            f"{site.label}: {name} belongs to {made.group!r}, the model is softened to {site.group!r}"
        )
    return made


def check_multiple(site: Site, what: str, count: int, rep: Representation) -> None:
    if rep.dim == 0 or count % rep.dim:
        raise ValueError(f"{site.label}: {what} must be a multiple of {rep.dim} ({rep!r}), got {count}")
