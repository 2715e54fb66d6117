"""Vision backbones of transformers, new or pretrained, made softly equivariant under turns of the image."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from equikernels.group import CyclicGroup, Group
from equikernels.nn import symmetrise_sampling
from equikernels.project import soften

if TYPE_CHECKING:
    from transformers import PretrainedConfig

__all__ = ["BACKBONES", "Features", "SoftBackbone", "load_vision_model", "position_grid"]

_TOKENS = ("vit", "dinov2", "dinov2_with_registers", "dinov3_vit")
_MAPS = ("resnet", "segformer")

BACKBONES = (*_TOKENS, *_MAPS)
"""The architectures whose features are known here, as `model_type` in a configuration names them."""


class Features(NamedTuple):
    """What a backbone says about images.

    Attributes:
        maps: a field of features (B, C, h, w) that turns with the image: patch tokens on their grid, or the
            last map.
        pooled: (B, C), the same for a turned image: the class token, or the mean of the maps.
    """

    maps: Tensor
    pooled: Tensor


class SoftBackbone(nn.Module):
    """A vision backbone of transformers, softened by `soften` (arXiv 2603.26657).

    Kernels pass invariant projectors of their grids, tables of positions those of the token grid; parameters
    keep their number, their names and their raw values, so plain checkpoints load and the plain model is back
    after `equikernels.project.bake`. At softness 0 and for quarter turns ViT and DINOv2 are equivariant to
    rounding; `report` names what keeps ResNet and SegFormer from it on images of even sizes.

    Args:
        source: a configuration, for new parameters, or a folder or the name of a model on the hub, for
            trained ones; of an architecture in `BACKBONES`.
        group: acts on images: SO2(), O2(), CyclicGroup(n) or DihedralGroup(n); CyclicGroup(4) by default.
        softness: in [0, 1]; 1 leaves the function as it was.
        symmetric_sampling: replace strided layers whose samples lie off the centre of even images by
            symmetric ones with the same weights (`equikernels.nn.symmetrise_sampling`). A trained network
            computes something else then, so fine-tune it.
        image_size: rows and columns of the images for which `report` is made, one number or two; what the
            configuration says, or 224, by default.

    Attributes:
        model: the softened model of transformers.
        report: what was done to which layer, and what limits exactness.

    Raises:
        ImportError: transformers is not installed.
        TypeError: a source that is none of these.
        ValueError: naming the argument, what was expected and what came.
        FileNotFoundError: a folder or name from which nothing can be loaded.

    >>> from transformers import Dinov2Config
    >>> config = Dinov2Config(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, mlp_ratio=2,
    ...                       image_size=16, patch_size=4)
    >>> backbone = SoftBackbone(config, softness=0.2)
    >>> maps, pooled = backbone(torch.rand(2, 3, 16, 16))
    >>> maps.shape, pooled.shape, backbone.report.limiting
    (torch.Size([2, 16, 4, 4]), torch.Size([2, 16]), ())
    """

    def __init__(
        self,
        source: PretrainedConfig | str | os.PathLike[str],
        group: Group | None = None,
        *,
        softness: float = 0.0,
        symmetric_sampling: bool = False,
        image_size: int | tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        if isinstance(softness, bool) or not isinstance(softness, (int, float)) or not 0 <= softness <= 1:
            raise ValueError(f"softness: expected a number in [0, 1], got {softness!r}")
        self.group = CyclicGroup(4) if group is None else group
        self.model = load_vision_model(source)
        config = self.model.config
        rows, columns = _pair(image_size or getattr(config, "image_size", 224), "image_size")
        if symmetric_sampling:
            symmetrise_sampling(self.model)
        example = torch.zeros(1, config.num_channels, rows, columns, dtype=self.model.dtype)
        self.report = soften(
            self.model,
            self.group,
            softness=softness,
            grid=position_grid(config),
            example_input={"pixel_values": example},
        )

    def forward(self, images: Tensor) -> Features:
        """Features of images (B, C, H, W), normalized as the pretrained model expects.

        Raises:
            ValueError: images of another rank, or of sizes that a patch does not divide.
        """
        if images.dim() != 4:
            raise ValueError(f"images: expected 4 dimensions (B, C, H, W), got {images.dim()}")
        config = self.model.config
        if config.model_type in _MAPS:
            maps = self.model(pixel_values=images).last_hidden_state
            return Features(maps, maps.mean((-2, -1)))
        rows, columns = _patches(images, _pair(config.patch_size, "patch_size"))
        options = {}
        if config.model_type == "vit":
            # DINOv2 fits its positions to images of any size by itself, a ViT must be asked.
            native = _pair(config.image_size, "image_size")
            options["interpolate_pos_encoding"] = tuple(images.shape[-2:]) != native
        tokens = self.model(pixel_values=images, **options).last_hidden_state
        # The class token is the first; registers, where there are any, come between it and the patches.
        patches = tokens[:, tokens.shape[1] - rows * columns :]
        return Features(patches.mT.unflatten(2, (rows, columns)), tokens[:, 0])


def load_vision_model(source: PretrainedConfig | str | os.PathLike[str]) -> Any:
    """The model of a configuration with new parameters, or a trained one of a folder or of the hub.

    Heads of a checkpoint, such as classifiers, are left out. A trained model comes in evaluation mode.

    Raises:
        TypeError: a source that is none of these.
        ValueError: an architecture that is not in `BACKBONES`.
        FileNotFoundError: a folder or name from which nothing can be loaded.
    """
    from transformers import AutoConfig, AutoModel, PretrainedConfig

    if isinstance(source, PretrainedConfig):
        config = source
    elif isinstance(source, (str, os.PathLike)):
        config = _read(AutoConfig.from_pretrained, source)
    else:
        raise TypeError(
            "source: expected a configuration of transformers, a folder or a name on the hub, got "
            f"{type(source).__name__}"
        )
    if config.model_type not in BACKBONES:
        raise ValueError(
            f"source: expected one of the architectures {', '.join(BACKBONES)}, got {config.model_type!r}"
        )
    # The pooling layer of a ViT is not part of most checkpoints, and its output is not used.
    options: dict[str, Any] = {"add_pooling_layer": False} if config.model_type == "vit" else {}
    if config is source:
        return AutoModel.from_config(config, **options)
    return _read(partial(AutoModel.from_pretrained, **options), source)


def _read(read: Callable[..., Any], source: Any) -> Any:
    """What a function of transformers reads from a folder or the hub."""
    try:
        return read(source)
    except (OSError, ValueError) as error:
        # Which of the two says that a folder holds no model depends on what it holds.
        reason = str(error).partition("\n")[0]
        raise FileNotFoundError(
            f"source: expected a folder or a hub name of a backbone, got {os.fspath(source)!r}: {reason}"
        ) from error


def position_grid(config: PretrainedConfig) -> dict[str, tuple[int, int]] | None:
    """Rows and columns of a table of positions, as `soften` takes them; None where there is no table."""
    if config.model_type not in ("vit", "dinov2", "dinov2_with_registers"):
        return None
    rows, columns = _pair(config.image_size, "image_size")
    high, wide = _pair(config.patch_size, "patch_size")
    return {"embeddings.position_embeddings": (rows // high, columns // wide)}


def _pair(size: Any, name: str) -> tuple[int, int]:
    """Rows and columns of a size that is one number or two."""
    pair = (size, size) if isinstance(size, int) else tuple(size)
    if len(pair) != 2 or not all(isinstance(side, int) and side >= 1 for side in pair):
        raise ValueError(f"{name}: expected one integer >= 1 or two, got {size!r}")
    return pair[0], pair[1]


def _patches(images: Tensor, patch: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of patches."""
    rows, columns = images.shape[-2:]
    if rows % patch[0] or columns % patch[1]:
        raise ValueError(
            f"images: expected sides that patches of {patch[0]} x {patch[1]} pixels divide, "
            f"got {rows} x {columns}"
        )
    return rows // patch[0], columns // patch[1]
