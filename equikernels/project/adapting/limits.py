"""What keeps a softened model from being exactly equivariant at softness 0, layer by layer."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from equikernels.group import Group, PermutationRepresentation, Representation
from equikernels.project.adapting.parts import Kernels, Tokens, Whole
from equikernels.project.adapting.rules import Plan
from equikernels.project.adapting.trace import Trace
from equikernels.project.adapting.turns import (
    exchanged_axes,
    has_other_angles,
    reversed_axes,
)
from equikernels.project.adapting.windows import axes_of, window_limits

ACTIVATIONS = ("torch.nn.modules.activation", "transformers.activations")
NORMALIZATIONS = (
    "torch.nn.modules.normalization",
    "torch.nn.modules.batchnorm",
    "torch.nn.modules.instancenorm",
)
REARRANGING = (nn.PixelShuffle, nn.PixelUnshuffle, nn.Fold, nn.Unfold, nn.ChannelShuffle)
DIRECTED = re.compile(r"rope|rotary", re.IGNORECASE)

Limits = Iterator[tuple[str, nn.Module | None, str]]


def find_limits(
    model: nn.Module, group: Group, plans: Mapping[nn.Module, Plan], trace: Trace | None
) -> list[tuple[str, nn.Module | None, str]]:
    """(qualified name, module, reason) of every layer that limits exactness; None: the whole model.

    `plans` holds what is done with each module, its own parameters and those of its children together.
    """
    vectors = _vector_layers(plans)
    if any(isinstance(part, (Kernels, Tokens)) for plan in plans.values() for part in plan.parts.values()):
        found = list(_of_the_pixels(group))
    else:
        found = []
    for name, module in model.named_modules():
        for reason in _of_one_layer(module, group, plans.get(module), trace, vectors):
            found.append((name, module, reason))
    return found


def _of_the_pixels(group: Group) -> Limits:
    if has_other_angles(group):
        yield (
            "(images)",
            None,
            f"{group!r} turns by angles that carry no grid of pixels to itself: multiples of 90 degrees "
            "can be exact, the others are as good as the images are smooth",
        )


def _of_one_layer(
    module: nn.Module, group: Group, plan: Plan | None, trace: Trace | None, vectors: Mapping[nn.Module, Any]
) -> Iterator[str]:
    if plan is not None:
        yield from plan.limits
    shapes = None if trace is None else trace.shapes.get(module)
    if plan is None or not plan.limits:
        yield from window_limits(module, group, shapes)
    if isinstance(module, _ConvNd):
        yield from _of_kernels(module, group, plan)
    yield from _of_shape_changes(module, group, plan, trace)
    yield from _of_vectors(module, trace, vectors)
    if isinstance(module, nn.LayerNorm) and len(module.normalized_shape) > 1 and module.elementwise_affine:
        yield f"weights of shape {tuple(module.normalized_shape)}: every pixel has its own"
    if DIRECTED.search(type(module).__name__) and reversed_axes(group, 2):
        yield "rotary positions tell directions apart"


def _of_kernels(module: _ConvNd, group: Group, plan: Plan | None) -> Iterator[str]:
    axes = axes_of(module)
    turned = reversed_axes(group, axes)
    left = plan is None or not (plan.parts or plan.limits)
    if turned and left and math.prod(module.kernel_size) > 1:
        yield "left alone: its kernels tell directions apart"
    if isinstance(module, _ConvTransposeNd):
        if any(int(module.output_padding[axis]) for axis in turned):
            yield f"output_padding {tuple(module.output_padding)} is on one side only"
        steps = [(module.stride[axis], module.padding[axis]) for axis in exchanged_axes(group, axes)]
        if len(set(steps)) > 1:
            yield f"the axes that {group!r} exchanges have different strides or padding"


def _of_shape_changes(
    module: nn.Module, group: Group, plan: Plan | None, trace: Trace | None
) -> Iterator[str]:
    if not reversed_axes(group, 2):
        return
    if isinstance(module, REARRANGING):
        yield "lays channels out as pixels, which then do not turn"
    if type(module).__module__ == "torch.nn.modules.padding":
        yield from _of_padding(tuple(module.padding), group)  # type: ignore[arg-type]
    elif trace is not None:
        yield from _of_functions(trace.functions.get(module, []), group)
    if isinstance(module, nn.Upsample) and trace is None:
        factors = module.scale_factor if isinstance(module.scale_factor, tuple) else (module.scale_factor,)
        if any(factor is None or factor != int(factor) for factor in factors):
            yield "unknown without example_input: exact where the samples mirror about the centre"
    alone = isinstance(module, nn.Linear) and (plan is None or not plan.parts)
    if alone and trace is not None and module in trace.maps:
        size = " x ".join(map(str, trace.maps[module]))
        yield f"mixes the {size} pixels of a flattened map: give it a grid or a rule"
    if isinstance(module, nn.Flatten) and trace is None:
        yield "unknown without example_input: exact where one pixel is left, or the next layer has a rule"


def _of_padding(padding: tuple[int, ...], group: Group) -> Iterator[str]:
    """`padding` as torch writes it, from the last axis on: (left, right, top, bottom, ...)."""
    axes = len(padding) // 2
    sides = {-1 - k: (padding[2 * k], padding[2 * k + 1]) for k in range(axes)}
    one_sided = any(len(set(sides[axis])) > 1 for axis in reversed_axes(group, axes))
    if one_sided or len({sides[axis] for axis in exchanged_axes(group, axes)}) > 1:
        yield f"padding {padding} does not turn into itself"


def _of_functions(calls: Sequence[tuple[str, dict[str, Any]]], group: Group) -> Iterator[str]:
    """Reasons in the functions that a forward calls itself, each once."""
    reasons: dict[str, None] = {}
    for function, given in calls:
        axes = given["input"].ndim - 2
        if function == "pad" and len(given["pad"]) == 2 * axes:
            reasons.update(dict.fromkeys(_of_padding(tuple(map(int, given["pad"])), group)))
        if function == "interpolate":
            reasons.update(dict.fromkeys(_of_resampling(given, group)))
        if function == "roll":
            reasons[f"rolls its input by {given['shifts']} along {given['dims']}, to one side"] = None
    yield from reasons


def _of_resampling(given: dict[str, Any], group: Group) -> Iterator[str]:
    sizes = given["input"].shape[2:]
    for axis in reversed_axes(group, len(sizes)):
        # A ramp about 0 shows where every sample is taken from.
        ramp = torch.arange(sizes[axis], dtype=torch.float64) - (sizes[axis] - 1) / 2
        image = ramp.reshape([1] * 2 + [-1] + [1] * (-1 - axis)).expand(1, 1, *sizes)
        samples = nn.functional.interpolate(**{**given, "input": image})
        if not torch.allclose(samples.flip(axis), -samples, rtol=0, atol=1e-9):
            yield f"{given['mode']} samples of size {sizes[axis]} do not mirror about the centre"


# -- vectors -----------------------------------------------------------------------------------


def permutes(rep: Representation | None) -> bool:
    """Whether matrices only permute coordinates (or do nothing), so that point-wise functions commute."""
    if rep is None or isinstance(rep, PermutationRepresentation):
        return rep is not None
    trivial = rep.group.trivial().irreps[0][0]
    return getattr(rep, "method", "") != "bilinear" and all(label == trivial for label, _ in rep.irreps)


def _vector_layers(plans: Mapping[nn.Module, Plan]) -> dict[nn.Module, tuple[bool, bool]]:
    """(takes vectors, gives vectors) of the linear layers and attentions whose features turn otherwise than
    by permutation."""
    found = {}
    for module, plan in plans.items():
        for name in ("weight", "out_proj.weight"):
            part = plan.parts.get(name)
            if isinstance(part, Whole):
                rep_in, rep_out = part.projector.rep_in, part.projector.rep_out
                if not (permutes(rep_in) and permutes(rep_out)):
                    found[module] = (not permutes(rep_in), not permutes(rep_out))
    return found


def _of_vectors(
    module: nn.Module, trace: Trace | None, vectors: Mapping[nn.Module, tuple[bool, bool]]
) -> Iterator[str]:
    home = type(module).__module__
    pointwise = home in ACTIVATIONS and not isinstance(module, nn.MultiheadAttention)
    if not vectors or not (pointwise or home in NORMALIZATIONS):
        return
    what = "a point-wise nonlinearity" if pointwise else "a normalization of single components"
    if trace is None:
        yield f"unknown without example_input: {what} breaks the symmetry if it acts on vectors"
        return
    after = any(vectors.get(source, (False, False))[1] for source in trace.sources.get(module, ()))
    before = any(takes and module in trace.sources.get(layer, ()) for layer, (takes, _) in vectors.items())
    if after or before:
        yield f"{what} acts on vectors, whose components do not just change places"
