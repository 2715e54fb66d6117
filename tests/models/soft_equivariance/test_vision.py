"""The soft vision transformer: invariance by softness, checkpoints, wrong arguments."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import nn

from equikernels.group import CyclicGroup, DihedralGroup
from equikernels.models.soft_equivariance import SoftViT
from equikernels.project import bake

transformers = pytest.importorskip("transformers")

CONFIG = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24,
    "image_size": 12, "patch_size": 3, "num_channels": 2,
}  # fmt: skip


def classifier(softness: float, **options: object) -> SoftViT:
    """Equal raw weights at every softness, random where libraries begin with zeros or ones."""
    torch.manual_seed(0)
    model = SoftViT(transformers.ViTConfig(**CONFIG), 5, softness=softness, **options).double()  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(
                parameter.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64
            )
            parameter.add_(0.3 * noise)
    return model.eval()


def images() -> torch.Tensor:
    return torch.randn(3, 2, 12, 12, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def change(model: SoftViT, x: torch.Tensor, moved: torch.Tensor) -> float:
    return float((model(moved) - model(x)).detach().abs().max())


def test_strict_is_invariant_to_rounding_and_soft_by_degrees() -> None:
    x = images()
    turned = x.rot90(1, (-2, -1))
    # To first order the error is proportional to the softness; far from 0 the network bends that.
    errors = [change(classifier(s), x, turned) for s in (0.0, 1e-4, 2e-4, 1e-2, 1.0)]
    assert errors[0] < 1e-11
    assert errors == sorted(errors)
    assert errors[2] / errors[1] == pytest.approx(2, rel=0.05)


def test_another_group() -> None:
    x, group = images(), DihedralGroup(4)
    assert change(classifier(0.0, group=group), x, x.flip(-1)) < 1e-11
    assert change(classifier(0.0, group=CyclicGroup(4)), x, x.flip(-1)) > 1e-3


def test_softness_one_is_the_plain_model() -> None:
    model, x = classifier(1.0), images()
    plain = transformers.ViTModel(transformers.ViTConfig(**CONFIG), add_pooling_layer=False).double().eval()
    plain.load_state_dict(model.backbone.state_dict())
    expected = plain(pixel_values=x).last_hidden_state[:, 0] @ model.head.weight.T + model.head.bias
    assert torch.allclose(model(x), expected, atol=1e-10)


def test_loss_is_cross_entropy() -> None:
    model, x, labels = classifier(0.2), images(), torch.tensor([4, 0, 2])
    logits = model(x).tolist()
    terms = [
        math.log(sum(map(math.exp, row))) - row[label]
        for row, label in zip(logits, labels.tolist(), strict=True)
    ]
    assert float(model.loss(x, labels)["loss"].detach()) == pytest.approx(sum(terms) / 3, rel=1e-10)


def test_many_forwards_change_nothing() -> None:
    model, x = classifier(0.3), images()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    first = model(x)
    for _ in range(3):
        assert torch.equal(model(x), first)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_pretrained_weights_load_from_a_folder_and_bake_gives_them_back_projected(tmp_path: Path) -> None:
    torch.manual_seed(3)
    trained = transformers.ViTModel(transformers.ViTConfig(**CONFIG), add_pooling_layer=False)
    trained.save_pretrained(tmp_path)
    model = SoftViT(tmp_path, 5, softness=0.0).eval()
    loaded = model.backbone.state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in trained.state_dict().items())
    x = images().float()
    expected = model(x)
    plain = bake(model)
    assert type(plain.backbone.embeddings.patch_embeddings.projection) is nn.Conv2d
    assert torch.allclose(plain(x), expected, atol=1e-6)
    from_text = SoftViT(str(tmp_path), 5, softness=1.0)
    assert torch.equal(from_text.backbone.embeddings.cls_token, trained.embeddings.cls_token)


def test_wrong_arguments(tmp_path: Path) -> None:
    config = transformers.ViTConfig(**CONFIG)
    with pytest.raises(ValueError, match="classes: expected an integer >= 1, got 0"):
        SoftViT(config, 0)
    with pytest.raises(ValueError, match=r"softness: expected a number in \[0, 1\], got 2"):
        SoftViT(config, 5, softness=2)
    with pytest.raises(TypeError, match="source: expected a configuration of transformers, a folder"):
        SoftViT(3, 5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="source: expected a ViT, got 'resnet'"):
        SoftViT(transformers.ResNetConfig(), 5)
    with pytest.raises(OSError, match=str(tmp_path)):
        SoftViT(tmp_path, 5)
