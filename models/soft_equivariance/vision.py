"""A vision transformer whose patches and positions are softly invariant under turns of the image."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.nn import functional

from equikernels.group import CyclicGroup, Group
from equikernels.models.soft_equivariance.backbones import load_vision_model, position_grid
from equikernels.project import soften

if TYPE_CHECKING:
    from transformers import ViTConfig

__all__ = ["SoftViT"]


class SoftViT(nn.Module):
    """A ViT classifier of transformers made soft by `soften`, with a linear head on the class token.

    Kernels of the patch embedding and the table of positions pass invariant projectors; parameters keep
    their number, their names and their raw values, so plain checkpoints load. The head is plain: the class
    token is invariant where these are ("Tunable Soft Equivariance with Guarantees"). With square images and
    patches and a group of quarter turns, softness 0 is exact to rounding.

    Args:
        source: a ViTConfig, for new parameters; or a folder or the name of a model on the hub, for trained
            ones, as `ViTModel.from_pretrained` takes it.
        classes: outputs K of the head, >= 1.
        group: acts on images: SO2(), O2(), CyclicGroup(n) or DihedralGroup(n); CyclicGroup(4) by default.
        softness: in [0, 1].

    Attributes:
        backbone: the softened ViTModel; `equikernels.project.bake` makes the classifier plain again.
        report: what was done to which layer, and what limits exactness.

    Raises:
        ImportError: transformers is not installed.
        TypeError: a source that is none of these.
        ValueError: naming the argument, what was expected and what came; another architecture.
        FileNotFoundError: a folder or name from which nothing can be loaded.

    >>> import torch
    >>> from transformers import ViTConfig
    >>> config = ViTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
    ...                    image_size=8, patch_size=2, num_channels=1)
    >>> model = SoftViT(config, 10, softness=0.2)
    >>> model(torch.rand(3, 1, 8, 8)).shape, [row.name for row in model.report.layers if row.softened]
    (torch.Size([3, 10]), ['embeddings.position_embeddings', 'embeddings.patch_embeddings.projection'])
    """

    def __init__(
        self,
        source: ViTConfig | str | os.PathLike[str],
        classes: int,
        group: Group | None = None,
        *,
        softness: float = 0.0,
    ) -> None:
        super().__init__()
        if isinstance(classes, bool) or not isinstance(classes, int) or classes < 1:
            raise ValueError(f"classes: expected an integer >= 1, got {classes!r}")
        if not 0 <= softness <= 1:
            raise ValueError(f"softness: expected a number in [0, 1], got {softness!r}")
        self.backbone = load_vision_model(source)
        if self.backbone.config.model_type != "vit":
            raise ValueError(f"source: expected a ViT, got {self.backbone.config.model_type!r}")
        self.group = CyclicGroup(4) if group is None else group
        self.report = soften(
            self.backbone,
            self.group,
            softness=softness,
            grid=position_grid(self.backbone.config),
        )
        self.head = nn.Linear(self.backbone.config.hidden_size, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, K) of images (B, C, H, W), of the size and normalization of the configuration."""
        tokens: Tensor = self.backbone(pixel_values=images).last_hidden_state
        logits: Tensor = self.head(tokens[:, 0])
        return logits

    def loss(self, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """The mean cross-entropy in nats, as "loss"; labels int64 (B,)."""
        return {"loss": functional.cross_entropy(self(images), labels)}
