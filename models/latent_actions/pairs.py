"""What the model learns from: images, the same transformed, and by which element."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from equikernels.group import SO2, SO3, CubeGroup, CyclicGroup, Group
from equikernels.models.data import SampleDraws
from equikernels.models.data.transforms import paint_square, random_rotation, random_rotation3d, random_square
from equikernels.models.engine.configuration import check_at_least

__all__ = ["SCENE_FIELDS", "PairOptions", "transformed_pair", "transformed_scene"]

SCENE_FIELDS = ("object", "coverage", "background")


@dataclass(frozen=True)
class PairOptions:
    """Of pairs of images.

    Attributes:
        identity: Whether the identity of a finite group is drawn too. It is in the published recipe, though
            such pairs teach the mask nothing.
        square: Side in pixels of a white square that does not turn, at a place of its own on every image; 0
            for none. The published one is 8 on images of 28.
        square_probability: That an image gets one.
        scene: What turns: the whole image; or the object alone, of data with the fields object (times its
            coverage), coverage and background, which is put over its background after the turn. With layers
            the object and the background stay two images, the channels of one: then it is known which
            latent channels see what turns.
    """

    identity: bool = True
    square: int = 0
    square_probability: float = 1.0
    scene: Literal["whole", "object", "layers"] = "whole"

    def __post_init__(self) -> None:
        check_at_least(self, "square", 0)
        if self.square and self.scene != "whole":
            raise ValueError(f"square: only whole images get one, got {self.square} with scene {self.scene}")
        if not 0 <= self.square_probability <= 1:
            raise ValueError(
                f"square_probability: expected a number in [0, 1], got {self.square_probability}"
            )


def transformed_pair(
    images: Tensor, draws: SampleDraws, group: Group, options: PairOptions = PairOptions()
) -> tuple[Tensor, Tensor, Tensor]:
    """Images, the same moved by a random element each, and the elements.

    Turns by any angle are bicubic and volumes are interpolated trilinearly, with zeros outside, and cut off
    to [0, 1]; quarter turns and the rotations of the cube are exact. A square lies over both images of a pair
    at the same place: it belongs to what does not vary.

    Args:
        images: (B, C, H, W), for groups of space volumes (B, C, D, H, W), floating, with values in [0, 1]
            and a background of 0.
        draws: of the B samples; all that is random comes from them.
        group: SO2(), CyclicGroup(n), SO3() or CubeGroup().

    Returns:
        (x, gx, g): x and gx like `images`, g (B,) angles in radians or integers, (B, 3, 3) matrices for
        SO3(), on their device.

    Raises:
        ValueError: another group, a square on volumes, one that does not fit, images of a wrong shape or
            number, CyclicGroup(1) without its identity.

    >>> import torch
    >>> x, gx, g = transformed_pair(torch.rand(2, 1, 8, 8), SampleDraws(0, 0, [0, 1]), CyclicGroup(4))
    >>> torch.equal(gx, CyclicGroup(4).act(x, g))
    True
    """
    moved, g = _moved(images, draws, group, options.identity)
    if not options.square:
        return images, moved, g
    if images.dim() != 4:
        raise ValueError(f"square: expected images (B, C, H, W) to paint on, got {tuple(images.shape)}")
    blocked, corners = random_square(
        images, draws, side=options.square, probability=options.square_probability
    )  # fmt: skip
    return blocked, paint_square(moved, corners, options.square), g


def transformed_scene(
    batch: Mapping[str, Tensor], draws: SampleDraws, group: Group, options: PairOptions
) -> tuple[Tensor, Tensor, Tensor]:
    """Scenes, the same with their objects moved by a random element each, and the elements.

    Args:
        batch: "object", which is premultiplied by "coverage", that, and "background": each (B, C, H, W), with
            values in [0, 1]; coverage may have one channel for all.
        draws, group: as for `transformed_pair`.
        options: with the scene "object" or "layers".

    Returns:
        (x, gx, g): for "object" images object + (1 - coverage) background, (B, C, H, W); for "layers" the
        object and the background side by side, (B, 2 C, H, W).

    Raises:
        ValueError: the scene is "whole".

    >>> from equikernels.models.data import load_dataset
    >>> batch = load_dataset("scenes", count=2).fetch(torch.arange(2))
    >>> options = PairOptions(scene="layers")
    >>> x, gx, g = transformed_scene(batch, SampleDraws(0, 0, [0, 1]), CyclicGroup(4), options)
    >>> torch.equal(gx[:, :1], CyclicGroup(4).act(x[:, :1], g)), torch.equal(gx[:, 1:], x[:, 1:])
    (True, True)
    """
    shape, coverage, background = (batch[name] for name in SCENE_FIELDS)
    moved, g = _moved(torch.cat([shape, coverage], dim=1), draws, group, options.identity)
    moved_shape, moved_coverage = moved.split([shape.shape[1], coverage.shape[1]], dim=1)
    if options.scene == "layers":
        return torch.cat([shape, background], dim=1), torch.cat([moved_shape, background], dim=1), g
    if options.scene == "object":
        x = shape + (1 - coverage) * background
        return x, (moved_shape + (1 - moved_coverage) * background).clamp(0, 1), g
    raise ValueError(f"scene: expected object or layers, got {options.scene}")


def _moved(images: Tensor, draws: SampleDraws, group: Group, identity: bool) -> tuple[Tensor, Tensor]:
    if isinstance(group, SO2):
        turned, angle = random_rotation(images, draws)
        return turned.clamp(0, 1), angle
    if isinstance(group, SO3):
        turned, rotation = random_rotation3d(images, draws)
        return turned.clamp(0, 1), rotation
    if not isinstance(group, (CyclicGroup, CubeGroup)):
        raise ValueError(f"group: expected SO2(), CyclicGroup(n), SO3() or CubeGroup(), got {group!r}")
    g = draws.integers("element", 0 if identity else 1, len(group.elements())).to(images.device)
    if isinstance(group, CubeGroup) or 4 % group.n == 0:
        return group.act(images, g), g
    return group.act(images, g, method="bicubic").clamp(0, 1), g
