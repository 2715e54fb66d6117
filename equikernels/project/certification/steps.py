"""Layer by layer: by how much each known layer stretches distances, and how far it is from commuting."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from equikernels.project.adapting.limits import permutes
from equikernels.project.adapting.parts import Part, Whole
from equikernels.project.adapting.softened import plain_class
from equikernels.project.adapting.windows import Window, window_limits, windows_of
from equikernels.project.certification.actions import (
    Action,
    Features,
    Pixels,
    Still,
    features_of,
    images_of,
    same_action,
    turn_exactly,
)
from equikernels.project.certification.constants import (
    GELU_CONSTANT,
    POINTWISE,
    UNCHANGED,
    WITHOUT_BOUND,
)
from equikernels.project.certification.frequency import convolution_norm, operator_norm
from equikernels.project.certification.scope import Scope

SOFT_LINEAR = ("equikernels.nn.soft_linear", "SoftLinear")


class Refusal(Exception):
    """No bound is known for a layer; the message says why. Never leaves this package: it becomes a text."""


@dataclass(frozen=True, eq=False)
class Step:
    """What a bound needs of one layer f.

    Attributes:
        lipschitz: L with |f(x) - f(y)| <= L |x - y|.
        relative, absolute: for each element |f(gx) - g f(x)| <= relative |x| + absolute (count,).
        action: how the group acts on the output.
        how: where the numbers come from, in words.
    """

    lipschitz: float
    relative: Tensor
    absolute: Tensor
    action: Action
    how: str


@dataclass(frozen=True, eq=False)
class Place:
    """One layer where it stands.

    Attributes:
        module: the layer, in float64 and evaluation mode.
        shape: of a batch of its input, (N, ...).
        action: how the group acts on that input.
        scope: the elements asked for.
        parts: the projections of its softened parameters, by name.
    """

    module: Any
    shape: torch.Size
    action: Action
    scope: Scope
    parts: Mapping[str, Part]

    def exact(self, lipschitz: float, how: str, action: Action | None = None) -> Step:
        """A layer that commutes with the group."""
        zeros = self.scope.zeros
        return Step(lipschitz, zeros, zeros, self.action if action is None else action, how)

    @property
    def pixels(self) -> Pixels:
        """The action on its input, which must be one on images; raises Refusal."""
        if not isinstance(self.action, Pixels):
            raise Refusal(f"takes images, but what comes are {self.action}")
        return self.action


def step_of(place: Place) -> Step:
    """The step of one layer; raises Refusal where no bound is known."""
    module = place.module
    cls = plain_class(module)
    if "forward" in module.__dict__ or module._forward_hooks or module._forward_pre_hooks:
        raise Refusal("its forward is replaced or has hooks, which could do anything")
    if cls in RULES:
        return RULES[cls](place)
    if cls in POINTWISE:
        return _pointwise(place, POINTWISE[cls](module))
    if cls in UNCHANGED:
        return place.exact(1.0, "the identity in evaluation mode")
    if (cls.__module__, cls.__qualname__) == SOFT_LINEAR:
        return _linear(place)
    if cls in WITHOUT_BOUND:
        raise Refusal(WITHOUT_BOUND[cls])
    if cls.__module__.startswith("torch.nn."):
        raise Refusal("no bound of such a layer is known here")
    raise Refusal("its forward is custom: what happens inside cannot be seen")


# -- point-wise ----------------------------------------------------------------------------------------------


def _pointwise(place: Place, constant: float) -> Step:
    if isinstance(place.action, Features) and not permutes(place.action.rep):
        raise Refusal(
            f"a point-wise nonlinearity on {place.action}, whose components do not just change places"
        )
    return place.exact(constant, "point-wise, Lipschitz constant of its function")


def _gelu(place: Place) -> Step:
    if place.module.approximate != "none":
        raise Refusal("the Lipschitz constant of the approximate GELU is not known here")
    return _pointwise(place, GELU_CONSTANT)


def _batch_norm(place: Place) -> Step:
    module = place.module
    if module.running_mean is None or module.running_var is None:
        raise Refusal("normalizes by the batch even in evaluation mode: it has no running statistics")
    if isinstance(module, nn.BatchNorm1d) and (len(place.shape) != 2 or not isinstance(place.action, Still)):
        raise Refusal(f"scales every component by itself, but what comes are {place.action}")
    if isinstance(module, nn.BatchNorm2d):
        _ = place.pixels
    scale = (module.running_var + module.eps).rsqrt()
    if module.weight is not None:
        scale = scale * module.weight
    return place.exact(float(scale.abs().max()), "largest scale of a channel, in evaluation mode")


# -- convolutions and pooling --------------------------------------------------------------------------------


def _conv(place: Place) -> Step:
    """Let y = f(x) be a convolution with K, sampled at positions that the group carries to one another. Then
    f(gx) = g f'(x) with f' the same layer with the turned kernel g^-1 K, because turning about the image's
    centre commutes with extending by zeros (or periodically) and with keeping those samples. So
    |f(gx) - g f(x)| = |(f' - f)(x)| is at most the norm of the convolution with g^-1 K - K, times |x|.
    A bias is the same at every pixel: it drops out."""
    module, pixels = place.module, place.pixels
    windows = windows_of(module)
    assert windows is not None
    if module.padding_mode not in ("zeros", "circular"):
        raise Refusal(f"padding_mode={module.padding_mode!r} repeats pixels: its norm is not known here")
    if module.padding_mode == "circular" and any(w.before + w.after >= w.extent for w in windows):
        raise Refusal(
            "circular padding by more than half the window repeats samples: its norm is not known here"
        )
    _check_centred(place)
    kernel = module.weight.detach()
    lipschitz = convolution_norm(kernel, module.groups)
    elements = place.scope.elements
    assert elements is not None  # groups that act on pixels exactly have eight elements at most
    relative: dict[int, float] = {}
    for g in elements:
        h = int(place.scope.group.inverse(g))
        # |h K - K| = |K - h^-1 K|: an element and its inverse share one norm.
        known = relative.get(h)
        turned = turn_exactly(place.scope.group, h, kernel) - kernel
        relative[int(g)] = convolution_norm(turned, module.groups) if known is None else known
    how = "norms of K and of g^-1 K - K over all frequencies"
    return Step(
        lipschitz,
        torch.tensor([relative[int(g)] for g in elements], dtype=torch.float64),
        place.scope.zeros,
        _sampled(pixels, windows),
        how,
    )


def _check_centred(place: Place) -> None:
    for reason in window_limits(place.module, place.scope.group, [place.shape]):
        raise Refusal(reason)


def _sampled(pixels: Pixels, windows: tuple[Window, ...]) -> Pixels:
    sides = [
        (size + w.before + w.after - w.extent) // w.stride + 1
        for size, w in zip((pixels.height, pixels.width), windows, strict=True)
    ]
    return Pixels(pixels.group, *sides)


def _pooling(place: Place) -> tuple[Pixels, tuple[Window, ...], bool]:
    """The image after the pooling, its windows, and whether no two of them overlap."""
    pixels = place.pixels
    windows = windows_of(place.module)
    assert windows is not None
    if place.module.ceil_mode:
        raise Refusal("ceil_mode=True lets windows hang over the edge: no bound of it is known here")
    _check_centred(place)
    return _sampled(pixels, windows), windows, all(w.stride >= w.extent for w in windows)


def _max_pool(place: Place) -> Step:
    """A maximum moves by no more than the entry that moves most, and no pixel is in two windows."""
    if place.module.return_indices:
        raise Refusal("return_indices=True gives places, which turn otherwise than values")
    sampled, _, apart = _pooling(place)
    if not apart:
        raise Refusal("its windows overlap: only windows that do not are 1-Lipschitz")
    return place.exact(1.0, "maxima over windows that do not overlap", sampled)


def _average_pool(place: Place) -> Step:
    """A mean of n numbers is at most 1 / sqrt(n) of their length. Windows that overlap are a convolution
    whose kernel sums to one, of norm at most 1."""
    module = place.module
    if module.divisor_override is not None:
        raise Refusal("divisor_override is not known here")
    sampled, windows, apart = _pooling(place)
    if not module.count_include_pad and any(w.before for w in windows):
        raise Refusal("count_include_pad=False divides otherwise at the edge: no bound of it is known here")
    constant = 1 / math.sqrt(math.prod(w.extent for w in windows)) if apart else 1.0
    return place.exact(constant, "means over windows", sampled)


def _pool_to_one(place: Place) -> Step:
    pixels = place.pixels
    size = place.module.output_size
    if (size if isinstance(size, tuple) else (size, size)) != (1, 1):
        raise Refusal(f"output_size {size}: only pooling to one pixel is known to turn")
    if isinstance(place.module, nn.AdaptiveMaxPool2d):
        if place.module.return_indices:
            raise Refusal("return_indices=True gives places, which turn otherwise than values")
        constant = 1.0
    else:
        constant = 1 / math.sqrt(pixels.height * pixels.width)
    return place.exact(constant, "all pixels together", Pixels(pixels.group, 1, 1))


# -- features ------------------------------------------------------------------------------------------------


def _flatten(place: Place) -> Step:
    module = place.module
    if module.start_dim != 1 or module.end_dim not in (-1, len(place.shape) - 1):
        raise Refusal(f"start_dim={module.start_dim}, end_dim={module.end_dim}: only (1, -1) is known here")
    if isinstance(place.action, Pixels):
        return place.exact(1.0, "pixels become features, channel-major", place.action.flattened)
    if len(place.shape) != 2:
        raise Refusal(f"takes images, but what comes are {place.action} of shape {tuple(place.shape[1:])}")
    return place.exact(1.0, "features already")


def _unflatten(place: Place) -> Step:
    """Features become the images that Flatten would make the same features of."""
    module = place.module
    sizes = module.unflattened_size
    if len(place.shape) != 2 or module.dim not in (1, -1) or len(sizes) != 3:
        raise Refusal(f"dim={module.dim}, unflattened_size={sizes}: only (N, C H W) to (N, C, H, W) is known")
    height, width = sizes[1:]
    try:
        images = images_of(place.scope.group, height, width)
    except ValueError as error:
        raise Refusal(str(error)) from error
    if not isinstance(images, Pixels):
        raise Refusal(
            f"makes images, which {place.scope.group!r} turns by angles that carry no grid to itself"
        )
    if not same_action(place.action, images.flattened, place.scope.group, place.shape[1]):
        raise Refusal(f"makes {images}, but what comes are {place.action}")
    return place.exact(1.0, "features become pixels, channel-major", images)


def _linear(place: Place) -> Step:
    module = place.module
    if len(place.shape) != 2:
        raise Refusal(
            f"acts on the last axis of inputs (N, {', '.join(map(str, place.shape[1:]))}), not on features"
        )
    part = place.parts.get("weight")
    if part is None:
        if not isinstance(place.action, Still):
            raise Refusal(
                f"mixes {place.action} and is not softened: soften it with a grid, or with a rule "
                "linear(rep_in, rep_out)"
            )
        weight = module.weight.detach()
        after: Action = place.action
    else:
        if not isinstance(part, Whole):
            raise Refusal(f"is softened by a {type(part).__name__}, not as a whole matrix")
        rep_in, rep_out = part.projector.rep_in, part.projector.rep_out
        if rep_in is None or rep_out is None:
            raise Refusal("its projector was made from operators: how the group acts is not known")
        before = features_of(rep_in)
        after = features_of(rep_out)
        if not same_action(place.action, before, place.scope.group, place.shape[-1]):
            raise Refusal(f"is softened for {before}, but what comes are {place.action}")
        raw = module._parameters.get("weight")
        # A layer that is soft as built may train other coordinates: its attribute is the raw weight.
        weight = part((module.weight if raw is None else raw).detach())
    bias = place.parts.get("bias")
    raw = module._parameters.get("bias")
    shift = torch.zeros(1) if raw is None else raw.detach()
    if bias is not None and raw is not None:
        shift = bias(shift)
    relative = place.scope.linear_errors(weight, place.action, after)
    absolute = place.scope.vector_errors(shift, after)
    return Step(float(operator_norm(weight)), relative, absolute, after, "operator norms of matrices")


RULES: dict[type[nn.Module], Callable[[Place], Step]] = {
    nn.GELU: _gelu,
    nn.BatchNorm1d: _batch_norm,
    nn.BatchNorm2d: _batch_norm,
    nn.Conv2d: _conv,
    nn.MaxPool2d: _max_pool,
    nn.AvgPool2d: _average_pool,
    nn.AdaptiveAvgPool2d: _pool_to_one,
    nn.AdaptiveMaxPool2d: _pool_to_one,
    nn.Flatten: _flatten,
    nn.Unflatten: _unflatten,
    nn.Linear: _linear,
}
"""What is known of each layer, for exactly these classes: a subclass may do anything."""
