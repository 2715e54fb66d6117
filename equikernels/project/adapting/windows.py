"""When a sliding window commutes with the turn of its image.

Along one axis of size N, a window of extent k (dilation counted), stride s and padding p puts sample i at
the centre s i - p + (k - 1) / 2. Of the M = floor((N + 2p - k) / s) + 1 samples, the turn carries the first
to the last: centres mirror about (N - 1) / 2 if and only if s (M - 1) = N + 2p - k. So a strided
convolution with isotropic kernels, or a pooling, commutes with the quarter turn if and only if
(N + 2p - k) mod s = 0; otherwise it samples off-centre, by half the remainder.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.modules.pooling import _AvgPoolNd, _LPPoolNd, _MaxPoolNd

from equikernels.group import Group
from equikernels.project.adapting.turns import AXES, exchanged_axes, reversed_axes

POOLINGS = (_MaxPoolNd, _AvgPoolNd, _LPPoolNd)


@dataclass(frozen=True)
class Window:
    """One axis of a convolution or pooling: extent (dilation counted), stride, padding on both sides."""

    extent: int
    stride: int
    before: int
    after: int

    def remainder(self, size: int) -> int:
        """(N + 2p - k) mod s; zero exactly where the samples lie centred."""
        return (size + self.before + self.after - self.extent) % self.stride


def axes_of(module: nn.Module) -> int:
    """How many spatial axes a layer has, by its class name: 2 for Conv2d."""
    for cls in type(module).__mro__:
        if cls.__name__[-2:] in ("1d", "2d", "3d"):
            return int(cls.__name__[-2])
    raise TypeError(f"{type(module).__name__} has no spatial axes")


def windows_of(module: nn.Module) -> tuple[Window, ...] | None:
    """The windows of a convolution or pooling, an axis each; None for other modules."""
    if isinstance(module, _ConvTransposeNd) or not isinstance(module, (_ConvNd, *POOLINGS)):
        return None
    axes = axes_of(module)
    kernel = _per_axis(module.kernel_size, axes)
    stride = _per_axis(module.kernel_size if module.stride is None else module.stride, axes)
    dilation = _per_axis(getattr(module, "dilation", 1), axes)
    extents = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    padding: Any = getattr(module, "padding", 0)
    if padding == "valid":
        padding = 0
    if padding == "same":
        # As torch does it: the odd one goes behind.
        sides = [((extent - 1) // 2, extent - 1 - (extent - 1) // 2) for extent in extents]
    else:
        sides = [(p, p) for p in _per_axis(padding, axes)]
    return tuple(Window(extent, s, *side) for extent, s, side in zip(extents, stride, sides, strict=True))


def _per_axis(value: Any, axes: int) -> tuple[int, ...]:
    return tuple(int(v) for v in value) if isinstance(value, Sequence) else (int(value),) * axes


def window_limits(module: nn.Module, group: Group, shapes: Sequence[torch.Size] | None) -> Iterator[str]:
    """Why the windows of a layer do not commute with the group, for the input shapes seen (None: none)."""
    windows = windows_of(module)
    if windows is None:
        return
    axes = len(windows)
    alike = {windows[axis] for axis in exchanged_axes(group, axes)}
    if len(alike) > 1:
        yield f"the axes that {group!r} exchanges have different windows: {_said(windows)}"
    # One message for all axes that share it.
    found: dict[str, list[str]] = {}
    for axis in reversed_axes(group, axes):
        for message in _axis_limits(windows[axis], None if shapes is None else {s[axis] for s in shapes}):
            found.setdefault(message, []).append(AXES[axes][axis])
    for message, names in found.items():
        yield message.format(" and ".join(names))


def _axis_limits(window: Window, sizes: set[int] | None) -> Iterator[str]:
    """The reasons along one axis, with {} where its name is to stand."""
    if window.before != window.after:
        yield f"{{}}: padded by {window.before} before and {window.after} behind"
    if window.stride == 1:
        return
    padding = window.before + window.after
    if sizes is None:
        rule = f"(N + {padding} - {window.extent}) mod {window.stride} = 0"
        yield f"unknown without example_input: {{}} N is sampled centred where {rule}"
        return
    for size in sorted(sizes):
        if window.remainder(size):
            rule = f"({size} + {padding} - {window.extent}) mod {window.stride} = {window.remainder(size)}"
            yield f"{{}} {size} is sampled off-centre: {rule}, not 0"


def _said(windows: Sequence[Window]) -> str:
    return ", ".join(f"extent {w.extent} stride {w.stride} padding {w.before}+{w.after}" for w in windows)
