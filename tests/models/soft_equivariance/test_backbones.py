"""Backbones of transformers made soft: features of every architecture, pretrained folders, errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("transformers")

import transformers

from equikernels.group import CyclicGroup, DihedralGroup
from equikernels.models.soft_equivariance import SoftBackbone
from equikernels.models.soft_equivariance.backbones import BACKBONES, load_vision_model
from equikernels.project import bake
from equikernels.project.adapting.softened import softened_entries

SMALL = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 4,
}
CONFIGURATIONS: dict[str, Any] = {
    "vit": lambda: transformers.ViTConfig(**SMALL, intermediate_size=32),
    "dinov2": lambda: transformers.Dinov2Config(**SMALL, mlp_ratio=2),
    "dinov2_with_registers": lambda: transformers.Dinov2WithRegistersConfig(
        **SMALL, mlp_ratio=2, num_register_tokens=3
    ),
    "dinov3_vit": lambda: transformers.DINOv3ViTConfig(**SMALL, intermediate_size=32, num_register_tokens=3),
    "resnet": lambda: transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic"
    ),
    "segformer": lambda: transformers.SegformerConfig(
        num_encoder_blocks=2, depths=[1, 1], sr_ratios=[2, 1], hidden_sizes=[8, 16], patch_sizes=[7, 3],
        strides=[4, 2], num_attention_heads=[1, 2], mlp_ratios=[2, 2],
    ),
}  # fmt: skip


def randomized(model: torch.nn.Module) -> torch.nn.Module:
    """Weights that show errors: new models have small tables of positions and zero biases."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model


def pictures(size: int = 32) -> Tensor:
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(6))


def test_every_architecture_has_a_configuration_here() -> None:
    assert set(CONFIGURATIONS) == set(BACKBONES)


@pytest.mark.parametrize("name", BACKBONES)
def test_features_are_those_of_the_plain_model(name: str) -> None:
    """At softness 1, token by token, against the model of transformers itself."""
    soft = randomized(SoftBackbone(CONFIGURATIONS[name](), softness=1.0)).eval()
    plain = load_vision_model(CONFIGURATIONS[name]())
    plain.load_state_dict(dict(soft.model.state_dict()))
    images = pictures()
    with torch.no_grad():
        maps, pooled = soft(images)
        output = plain.eval()(pixel_values=images).last_hidden_state
    if output.dim() == 4:
        assert torch.allclose(maps, output, atol=1e-5)
        assert torch.allclose(pooled, output.mean((2, 3)), atol=1e-5)
        return
    first = {"vit": 1, "dinov2": 1, "dinov2_with_registers": 4, "dinov3_vit": 4}[name]
    assert output.shape[1] == first + 64
    for row, column in ((0, 0), (0, 1), (3, 0), (7, 7)):
        assert torch.allclose(maps[:, :, row, column], output[:, first + 8 * row + column], atol=1e-5)
    assert torch.allclose(pooled, output[:, 0], atol=1e-5)


@pytest.mark.parametrize("name", ["vit", "dinov2", "dinov2_with_registers"])
def test_transformers_turn_with_their_images_at_softness_0(name: str) -> None:
    soft = randomized(SoftBackbone(CONFIGURATIONS[name](), DihedralGroup(4))).double().eval()
    assert soft.report.limiting == ()
    x = pictures().double()
    with torch.no_grad():
        maps, pooled = soft(x)
        for moved, expected in (
            (x.rot90(1, (-2, -1)), maps.rot90(1, (-2, -1))),
            (x.flip(-1), maps.flip(-1)),
        ):
            turned = soft(moved)
            assert torch.allclose(turned.maps, expected, atol=1e-10)
            assert torch.allclose(turned.pooled, pooled, atol=1e-10)
        # Of another size than that of the table of positions, which DINOv2 resizes in float32.
        small = pictures(24).double()
        assert soft(small).maps.shape == (2, 16, 6, 6)
        assert torch.allclose(
            soft(small.rot90(1, (-2, -1))).maps, soft(small).maps.rot90(1, (-2, -1)), atol=1e-5
        )
    free = randomized(SoftBackbone(CONFIGURATIONS[name](), softness=1.0)).double().eval()
    with torch.no_grad():
        assert not torch.allclose(free(x.rot90(1, (-2, -1))).pooled, free(x).pooled, atol=1e-3)


@pytest.mark.parametrize("name", BACKBONES)
def test_pretrained_folders_load_and_bake_into_plain_ones(name: str, tmp_path: Path) -> None:
    trained = randomized(load_vision_model(CONFIGURATIONS[name]()))
    trained.save_pretrained(tmp_path / "trained")
    soft = SoftBackbone(tmp_path / "trained", CyclicGroup(4), softness=0.3, image_size=32)
    assert not soft.model.training
    loaded = soft.model.state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in trained.state_dict().items())
    assert any(True for _ in softened_entries(soft.model))
    with torch.no_grad():
        expected = soft(pictures())
    bake(soft.model).save_pretrained(tmp_path / "baked")
    plain = SoftBackbone(str(tmp_path / "baked"), softness=1.0, image_size=32)
    with torch.no_grad():
        for ours, theirs in zip(plain(pictures()), expected, strict=True):
            assert torch.allclose(ours, theirs, atol=1e-5)


def test_a_checkpoint_with_a_head_gives_its_backbone(tmp_path: Path) -> None:
    classifier = transformers.ResNetForImageClassification(CONFIGURATIONS["resnet"]())
    classifier.save_pretrained(tmp_path)
    soft = SoftBackbone(tmp_path, softness=1.0, image_size=33)
    assert torch.equal(
        soft.model.embedder.embedder.convolution.weight,
        classifier.resnet.embedder.embedder.convolution.weight,
    )


def test_symmetric_sampling_makes_a_resnet_exact_on_even_images() -> None:
    x = pictures().double()
    errors, limits = [], []
    for symmetric in (False, True):
        soft = randomized(
            SoftBackbone(CONFIGURATIONS["resnet"](), symmetric_sampling=symmetric, image_size=32)
        ).double().eval()  # fmt: skip
        with torch.no_grad():
            maps = soft(x).maps
            errors.append(
                float((soft(x.rot90(1, (-2, -1))).maps - maps.rot90(1, (-2, -1))).norm() / maps.norm())
            )
        limits.append(len(soft.report.limiting))
    assert errors[0] > 1e-3
    assert limits[0] > 0
    assert errors[1] < 1e-12
    assert limits[1] == 0


def test_images_that_are_not_square() -> None:
    sizes = SMALL | {"image_size": (16, 32)}
    soft = randomized(
        SoftBackbone(transformers.ViTConfig(**sizes, intermediate_size=32), CyclicGroup(2))
    ).double()
    x = torch.randn(1, 3, 16, 32).double()
    with torch.no_grad():
        maps = soft.eval()(x).maps
        assert maps.shape == (1, 16, 4, 8)
        assert torch.allclose(soft(x.rot90(2, (-2, -1))).maps, maps.rot90(2, (-2, -1)), atol=1e-10)


def test_wrong_arguments(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"source: expected one of the architectures vit, .*, got 'bert'"):
        SoftBackbone(transformers.BertConfig())
    with pytest.raises(
        TypeError, match="source: expected a configuration of transformers, a folder or a name"
    ):
        SoftBackbone(3)  # type: ignore[arg-type]
    with pytest.raises(OSError, match=str(tmp_path)):
        SoftBackbone(tmp_path)
    with pytest.raises(ValueError, match=r"softness: expected a number in \[0, 1\], got 2"):
        SoftBackbone(CONFIGURATIONS["vit"](), softness=2)
    with pytest.raises(ValueError, match="image_size: expected one integer >= 1 or two, got -3"):
        SoftBackbone(CONFIGURATIONS["resnet"](), image_size=-3)
    soft = SoftBackbone(CONFIGURATIONS["vit"]())
    with pytest.raises(
        ValueError, match="images: expected sides that patches of 4 x 4 pixels divide, got 30 x 32"
    ):
        soft(torch.zeros(1, 3, 30, 32))
    with pytest.raises(ValueError, match=r"images: expected 4 dimensions \(B, C, H, W\), got 3"):
        soft(torch.zeros(3, 32, 32))
