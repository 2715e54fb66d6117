"""Backbones of transformers made soft: their error under quarter turns over softness, and what limits it.

``python -m bench.experiments.soft_backbones``
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import platform
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from bench.experiments.soft_backbones_figure import backbones_figure
from equikernels.group import CyclicGroup
from equikernels.metrics import equivariance_error
from equikernels.models.engine.figures import save_figure
from equikernels.models.soft_equivariance import SoftBackbone
from equikernels.project.saving.files import write_text

if TYPE_CHECKING:
    from transformers import PretrainedConfig

NAME = "soft_backbones"
COMMAND = f"python -m bench.experiments.{NAME}"
LEVELS = (0.0, 0.25, 0.5, 0.75, 1.0)
SEEDS = {"cpu": (0, 1, 2), "full": tuple(range(10))}
GROUP = CyclicGroup(4)
EXACT = 1e-9
"""A relative error below it is rounding in float64."""

INTRODUCTION = """`soften` makes convolutions isotropic and tables of positions symmetric, to a share called
softness. This page applies it to backbones of transformers, built small from their configurations with
random weights: no checkpoint is loaded, so the errors show what the architecture allows, not what a trained
model does. Weights are normal with variance 1 / fan-in, tables of positions standard normal, which is the
size of the tokens they are added to; images are standard normal pixels, four for each seed. All is computed
in float64.

- *Features*: the last map of features (or of patch tokens, as a field on their grid), mean over images and
  the three turns g of C_4 of |g f(x) - f(g x)| / |f(x)|.
- *Pooled*: the same of the class token or the pooled output p, |p(x) - p(g x)| / |p(x)|.
- *Limited by*: what `SoftenReport.limiting` names. Without a reason there the error at softness 0 must be
  rounding, and with one it is not: both are checked below.

ResNet and SegFormer take every second or fourth sample, on even images off their centre. Two remedies are
shown: images of 2^k + 1 pixels, and for ResNet symmetric down-sampling, stride 1 followed by means over 2 x 2
pixels (maxima over 2 x 2 pixels in place of overlapping ones), with the same weights."""


# -- the backbones -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Backbone:
    """An architecture to soften.

    Attributes:
        size: pixels along each side of its images.
        configure: its configuration.
        symmetric: whether its strided layers are replaced by symmetric ones.
    """

    size: int
    configure: Callable[[], PretrainedConfig]
    symmetric: bool = False

    def make(self, softness: float) -> SoftBackbone:
        return SoftBackbone(
            self.configure(),
            GROUP,
            softness=softness,
            symmetric_sampling=self.symmetric,
            image_size=self.size,
        )


def vit() -> PretrainedConfig:
    from transformers import ViTConfig

    return ViTConfig(**_TRANSFORMER, intermediate_size=48)


def dinov2() -> PretrainedConfig:
    from transformers import Dinov2Config

    return Dinov2Config(**_TRANSFORMER, mlp_ratio=2)


def dinov2_registers() -> PretrainedConfig:
    from transformers import Dinov2WithRegistersConfig

    return Dinov2WithRegistersConfig(**_TRANSFORMER, mlp_ratio=2, num_register_tokens=4)


_TRANSFORMER: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 32,
    "patch_size": 4,
}


def resnet() -> PretrainedConfig:
    from transformers import ResNetConfig

    return ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")


def segformer(reduction: int) -> PretrainedConfig:
    from transformers import SegformerConfig

    return SegformerConfig(
        num_encoder_blocks=2, depths=[1, 1], sr_ratios=[reduction, 1], hidden_sizes=[8, 16],
        patch_sizes=[7, 3], strides=[4, 2], num_attention_heads=[1, 2], mlp_ratios=[2, 2],
    )  # fmt: skip


BACKBONES = {
    "ViT": Backbone(32, vit),
    "DINOv2": Backbone(32, dinov2),
    "DINOv2 with registers": Backbone(32, dinov2_registers),
    "ResNet, 32 pixels": Backbone(32, resnet),
    "ResNet, 33 pixels": Backbone(33, resnet),
    "ResNet, 32 pixels, symmetric": Backbone(32, resnet, symmetric=True),
    "SegFormer, 32 pixels": Backbone(32, lambda: segformer(2)),
    "SegFormer, 33 pixels": Backbone(33, lambda: segformer(2)),
    "SegFormer, 33 pixels, keys not reduced": Backbone(33, lambda: segformer(1)),
}


def randomize(model: nn.Module, seed: int) -> None:
    """Weights that show errors: libraries begin with zeros and ones, and small tables of positions."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64).to(parameter)
            if "position_embeddings" in name:
                parameter.copy_(noise)
            elif parameter.ndim > 1:
                parameter.copy_(noise / max(1, parameter[0].numel()) ** 0.5)
            else:
                parameter.add_(0.1 * noise)


# -- measuring -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Result:
    """Errors of one softened backbone.

    Attributes:
        backbone, softness, seed: which one.
        features, pooled: relative errors, as the page says.
        limits: what limits exactness, as the report says.
    """

    backbone: str
    softness: float
    seed: int
    features: float
    pooled: float
    limits: tuple[str, ...]


def measure(name: str, softness: float, seed: int) -> Result:
    """Make a backbone, soften it and turn its images."""
    backbone = BACKBONES[name]
    with torch.random.fork_rng(devices=[]):
        model = backbone.make(softness)
    randomize(model.model, seed)
    model.double().eval()
    generator = torch.Generator().manual_seed(1000 + seed)
    images = torch.randn(4, 3, backbone.size, backbone.size, generator=generator, dtype=torch.float64)
    limits = tuple(f"`{row.name}`: {row.reason}" for row in model.report.limiting)
    features, pooled = errors_of(model, images)
    return Result(name, softness, seed, features, pooled, limits)


def errors_of(model: SoftBackbone, images: Tensor) -> tuple[float, float]:
    """The relative errors of the features and of the pooled ones."""
    return (
        relative_error(lambda x: model(x).maps, images, turn),
        relative_error(lambda x: model(x).pooled, images, lambda g, y: y),
    )


def turn(g: Any, images: Tensor) -> Tensor:
    """Images or maps (B, C, h, w) turned by an element of C_4."""
    return torch.rot90(images, int(g), (-2, -1))


def relative_error(
    f: Callable[[Tensor], Tensor], images: Tensor, act: Callable[[Any, Tensor], Tensor]
) -> float:
    """The mean over images and turns of |g f(x) - f(g x)| / |f(x)|."""
    errors = equivariance_error(f, images, turn, act, [1, 2, 3], relative=False, reduction=None)
    with torch.no_grad():
        lengths = f(images).flatten(1).norm(dim=1)
    return float((errors / lengths).mean())


# -- the page ------------------------------------------------------------------------------------------------


def mean_of(results: Sequence[Result], backbone: str, softness: float, number: str) -> tuple[float, float]:
    """Mean and standard deviation over seeds; rounding counts as zero."""
    values = [getattr(r, number) for r in results if (r.backbone, r.softness) == (backbone, softness)]
    values = [0.0 if value < EXACT else value for value in values]
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def table(results: Sequence[Result], number: str) -> str:
    """One row for each backbone, one column for each softness."""
    lines = ["| | " + " | ".join(f"s = {level:g}" for level in LEVELS) + " |", "|---|" + "---|" * len(LEVELS)]
    for name in dict.fromkeys(r.backbone for r in results):
        pairs = [mean_of(results, name, level, number) for level in LEVELS]
        cells = ["0" if mean == 0 else f"{mean:.3g} ± {deviation:.1g}" for mean, deviation in pairs]
        lines.append("| " + " | ".join([name, *cells]) + " |")
    return "\n".join(lines)


def limits(results: Sequence[Result]) -> str:
    """What the report names for each backbone at softness 0."""
    lines = []
    for name in dict.fromkeys(r.backbone for r in results):
        reasons = next(r.limits for r in results if r.backbone == name and r.softness == 0)
        lines.append(f"- {name}: {'; '.join(reasons) or 'nothing known'}.")
    return "\n".join(lines)


def findings(results: Sequence[Result]) -> str:
    """What the numbers say."""
    strict = [r for r in results if r.softness == 0]
    judged = {
        "Where the report names no limit, the error at softness 0 is rounding": all(
            r.features < EXACT and r.pooled < EXACT for r in strict if not r.limits
        ),
        "Where it names one, the features' error at softness 0 is not": all(
            r.features > EXACT for r in strict if r.limits
        ),
        "Mean errors of the features grow with softness, from level to level, for every backbone": all(
            (np.diff([mean_of(results, name, level, "features")[0] for level in LEVELS]) > 0).all()
            for name in dict.fromkeys(r.backbone for r in results)
        ),
    }
    lines = [
        f"- **{claim}: {'confirmed' if holds else 'not confirmed'}.**" for claim, holds in judged.items()
    ]
    for name in dict.fromkeys(r.backbone for r in strict if r.limits):
        kept, free = (mean_of(results, name, level, "features")[0] for level in (0.0, 1.0))
        lines.append(f"- {name}: softness 0 leaves {kept / free:.0%} of the features' error at softness 1.")
    return "\n".join(lines)


def make_page(results: Sequence[Result], budget: str, date: str) -> str:
    """The page as Markdown."""
    versions = ", ".join(
        f"{n} {importlib.metadata.version(n)}" for n in ("equikernels", "torch", "transformers")
    )
    seeds = ", ".join(str(seed) for seed in sorted({r.seed for r in results}))
    parts = [
        "# Softened backbones",
        INTRODUCTION,
        f"## Budget {budget}",
        f"`{COMMAND} --budget {budget}`",
        f"{date}; seeds {seeds}, means ± standard deviations over them; Python {platform.python_version()}, "
        f"{versions}; {platform.machine()}. 0 stands for less than {EXACT:g}.",
        f"![Relative error over softness](../figures/{NAME}.png)",
        "### Features",
        table(results, "features"),
        "### Pooled",
        table(results, "pooled"),
        "### Limited by",
        limits(results),
        "### Findings",
        findings(results),
    ]
    return "\n\n".join(parts) + "\n"


def draw(results: Sequence[Result]) -> Figure:
    """The figure of the features' errors."""
    errors = {
        name: [[r.features for r in results if (r.backbone, r.softness) == (name, level)] for level in LEVELS]
        for name in dict.fromkeys(r.backbone for r in results)
    }
    return backbones_figure(errors, LEVELS)


def main(arguments: Sequence[str] | None = None, root: Path = Path()) -> int:
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__)
    parser.add_argument("--budget", choices=SEEDS, default="cpu", help="cpu: three seeds, full: ten")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    results = []
    try:
        for name in BACKBONES:
            results += [measure(name, level, seed) for level in LEVELS for seed in SEEDS[options.budget]]
            print(f"{name}: done", flush=True)
    except ImportError as error:
        print(f"{COMMAND}: {error}", file=sys.stderr)
        return 2
    folder = root / "docs" / "results"
    try:
        for place in (folder, root / "docs" / "figures"):
            place.mkdir(parents=True, exist_ok=True)
        record = "".join(json.dumps(asdict(result)) + "\n" for result in results)
        write_text(folder / f"{NAME}.jsonl", record)
        write_text(
            folder / f"{NAME}.md", make_page(results, options.budget, datetime.date.today().isoformat())
        )
        save_figure(draw(results), root / "docs" / "figures" / f"{NAME}.png")
    except OSError as error:
        print(f"{COMMAND}: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
