"""The sweep of a pretrained backbone: its numbers by hand, its page, its errors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

pytest.importorskip("transformers")

import transformers

from bench.experiments import pretrained_softness
from bench.experiments.pretrained_softness import normalization, sweep
from equikernels.models.soft_equivariance import SoftBackbone


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    model = transformers.Dinov2Model(
        transformers.Dinov2Config(
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            mlp_ratio=2,
            image_size=32,
            patch_size=4,
        )
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape))
    model.save_pretrained(tmp_path / "trained")
    return tmp_path / "trained"


def test_numbers_by_hand(trained: Path) -> None:
    images = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    strict, free = sweep(str(trained), images, (0.0, 1.0))
    assert strict.features < 1e-12
    assert strict.pooled < 1e-12
    assert strict.limits == ()
    assert free.moved == 0
    models = [SoftBackbone(trained, softness=softness).double() for softness in (0.0, 1.0)]
    with torch.no_grad():
        (ours, _), (plain, pooled) = (model(images) for model in models)
        moved = [float((a - b).norm() / b.norm()) for a, b in zip(ours, plain, strict=True)]
        change = [
            float((models[1](images.rot90(k, (-2, -1))).pooled - pooled)[i].norm() / pooled[i].norm())
            for i in range(2)
            for k in (1, 2, 3)
        ]
    assert strict.moved == pytest.approx(sum(moved) / 2)
    assert free.pooled == pytest.approx(sum(change) / 6)


def test_pixels_are_normalized_as_the_source_says(trained: Path) -> None:
    assert [round(float(x), 3) for x in normalization(str(trained))[0]] == [0.485, 0.456, 0.406]
    says = {
        "image_processor_type": "BitImageProcessor",
        "image_mean": [0.1, 0.2, 0.3],
        "image_std": [1, 2, 4],
    }
    (trained / "preprocessor_config.json").write_text(json.dumps(says))
    mean, deviation, whose = normalization(str(trained))
    assert whose == "the source"
    assert mean.flatten().tolist() == [0.1, 0.2, 0.3]
    assert deviation.shape == (3, 1, 1)
    assert deviation.flatten().tolist() == [1, 2, 4]


def test_the_command_writes_its_page(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(pretrained_softness, "LEVELS", (0.0, 1.0))
    page = tmp_path / "page.md"
    assert pretrained_softness.main([str(trained), "--size", "32", "--count", "2", "--page", str(page)]) == 0
    text = page.read_text()
    assert text.strip() == capsys.readouterr().out.strip()
    assert "| 0 | 0 | 0 | " in text
    assert "2 images of photographs, 32 pixels" in text
    assert "deviation of ImageNet, for the source says none." in text
    assert "Limited by: nothing known." in text


def test_errors_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, reason in (
        ([str(tmp_path), "--size", "32"], str(tmp_path)),
        ([str(tmp_path), "--images", "digits"], "digits"),
        ([str(tmp_path), "--images", str(tmp_path / "nothing")], "nothing"),
    ):
        assert pretrained_softness.main(arguments) == 2
        message = capsys.readouterr().err
        assert reason in message
        assert len(message.splitlines()) == 1
    with pytest.raises(SystemExit):
        pretrained_softness.main([str(tmp_path), "--size", "0"])
    assert "--size: expected an integer >= 1, got 0" in capsys.readouterr().err
