"""Pretrained architectures, small and random: exact at softness 0, or the report names what limits them.

`report.limiting` is judged from both sides: where it is empty the model commutes with the quarter turn, and
where a size does not fit the model measurably does not.
"""

import pytest
import torch
from torch import nn

from equikernels.group import SO2, CyclicGroup, DihedralGroup
from equikernels.project import bake, raw_parameter, soften
from equikernels.project.adapting import SoftenReport, is_softened

transformers = pytest.importorskip("transformers")

C4 = CyclicGroup(4)


def randomized(model: nn.Module) -> nn.Module:
    """Random where libraries begin with zeros or ones, so that an error would show."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.add_(noise / max(1, parameter[0].numel()) ** 0.5 if parameter.ndim > 1 else 0.1 * noise)
    return model.eval()


def images(size: int) -> torch.Tensor:
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))


def vit() -> nn.Module:
    config = transformers.ViTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48, image_size=24,
        patch_size=4, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    return randomized(transformers.ViTModel(config, add_pooling_layer=False))


def dinov2() -> nn.Module:
    config = transformers.Dinov2Config(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, mlp_ratio=2, image_size=28, patch_size=7
    )
    return randomized(transformers.Dinov2Model(config))


def dinov2_with_registers() -> nn.Module:
    config = transformers.Dinov2WithRegistersConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, mlp_ratio=2, image_size=28, patch_size=7,
        num_register_tokens=4,
    )  # fmt: skip
    return randomized(transformers.Dinov2WithRegistersModel(config))


def resnet() -> nn.Module:
    config = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", num_channels=3
    )
    return randomized(transformers.ResNetModel(config))


def segformer(reduction: int = 3) -> nn.Module:
    config = transformers.SegformerConfig(
        num_encoder_blocks=2, depths=[1, 1], sr_ratios=[reduction, 1], hidden_sizes=[8, 16],
        patch_sizes=[7, 3], strides=[4, 2], num_attention_heads=[1, 2], mlp_ratios=[2, 2],
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, drop_path_rate=0.0,
    )  # fmt: skip
    return randomized(transformers.SegformerModel(config))


def turned(y: torch.Tensor, k: int, leading: int | None) -> torch.Tensor:
    """Turn a feature map (N, C, H, W), or the tokens (N, leading + H * H, D) of one."""
    if leading is None:
        return torch.rot90(y, k, (-2, -1))
    first, rest = y[:, :leading], y[:, leading:]
    side = round(rest.shape[1] ** 0.5)
    grid = torch.rot90(rest.unflatten(1, (side, side)), k, (1, 2))
    return torch.cat([first, grid.flatten(1, 2)], 1)


def relative_error(model: nn.Module, x: torch.Tensor, leading: int | None) -> float:
    """The largest |f(g x) - g f(x)| / |f(x)| over the quarter turns; infinite for other shapes."""
    with torch.no_grad():
        y = model(x).last_hidden_state
        moved = [model(torch.rot90(x, k, (-2, -1))).last_hidden_state for k in (1, 2, 3)]
        return max(
            float((m - turned(y, k, leading)).norm() / y.norm())
            for k, m in zip((1, 2, 3), moved, strict=True)
        )


def softened(model: nn.Module, x: torch.Tensor) -> SoftenReport:
    return soften(model, C4, softness=0, example_input=x)


@pytest.mark.parametrize(
    ("make", "size", "leading", "layers"),
    [
        pytest.param(vit, 24, 1, 2, id="ViT"),
        pytest.param(dinov2, 28, 1, 2, id="DINOv2"),
        pytest.param(dinov2_with_registers, 28, 5, 2, id="DINOv2 with registers"),
        pytest.param(resnet, 33, None, 5, id="ResNet"),
        # 33 pixels become 9, which a reduction by 3 divides and the next stage's stride of 2 halves to 5.
        pytest.param(segformer, 33, None, 5, id="SegFormer"),
    ],
)
def test_exact_where_nothing_limits(make, size: int, leading: int | None, layers: int) -> None:
    model, x = make(), images(size)
    assert relative_error(model, x, leading) > 1e-2
    report = softened(model, x)
    assert report.limiting == ()
    assert len(report.softened) == layers
    assert relative_error(model, x, leading) < 1e-4
    with torch.no_grad():
        expected = model(x).last_hidden_state
        bake(model)
        assert not any(map(is_softened, model.modules()))
        assert torch.equal(model(x).last_hidden_state, expected)


@pytest.mark.parametrize(
    ("make", "size", "limits"),
    [
        pytest.param(
            resnet,
            32,
            {
                "embedder.embedder.convolution",
                "embedder.pooler",
                "encoder.stages.1.layers.0.shortcut.convolution",
            },
            id="ResNet",
        ),
        pytest.param(segformer, 32, {"stages.0.patch_embeddings.proj"}, id="SegFormer"),
        # A reduction by 2 wants an even number of tokens, the next stage an odd one: no size fits both.
        pytest.param(
            lambda: segformer(2), 33, {"stages.0.blocks.0.attention.sequence_reduction.sequence_reduction"},
            id="SegFormer reduced by 2",
        ),
        pytest.param(lambda: segformer(2), 29, {"stages.1.patch_embeddings.proj"}, id="SegFormer on 8"),
    ],
)  # fmt: skip
def test_what_limits_is_named_and_does_limit(make, size: int, limits: set[str]) -> None:
    model, x = make(), images(size)
    report = softened(model, x)
    assert limits <= {row.name for row in report.limiting}
    assert all("sampled off-centre" in row.reason for row in report.limiting)
    assert relative_error(model, x, None) > 1e-3


def test_without_an_example_strided_layers_are_unknown() -> None:
    report = soften(resnet(), C4, softness=0, dry_run=True)
    unknown = {row.name for row in report.limiting if row.reason.startswith("unknown without example_input")}
    assert "embedder.embedder.convolution" in unknown
    assert len(unknown) == len(report.limiting)


def test_flips_of_a_vision_transformer() -> None:
    model, x = dinov2(), images(28)
    report = soften(model, DihedralGroup(4), softness=0, example_input=x)
    assert report.limiting == ()
    with torch.no_grad():
        y, moved = model(x).last_hidden_state, model(x.flip(-1)).last_hidden_state
    grid = y[:, 1:].unflatten(1, (4, 4)).flip(2).flatten(1, 2)
    expected = torch.cat([y[:, :1], grid], 1)
    assert float((moved - expected).norm() / y.norm()) < 1e-4
    assert relative_error(model, x, 1) < 1e-4


def test_rotations_by_any_angle_keep_quarter_turns_where_the_report_says_so() -> None:
    model, x = dinov2(), images(28)
    report = soften(model, SO2(), softness=0, example_input=x)
    assert [row.name for row in report.limiting] == ["(images)"]
    assert relative_error(model, x, 1) < 1e-4
    stuck = soften(vit(), SO2(), softness=0, dry_run=True)  # 6 x 6 tokens
    assert any("cannot turn under SO(2)" in row.reason for row in stuck.limiting)


def test_the_class_token_stays_and_positions_are_smooth() -> None:
    model = vit()
    raw = raw_parameter(model, "embeddings.position_embeddings").detach().clone()
    report = softened(model, images(24))
    table = model.embeddings.position_embeddings
    assert torch.equal(table[:, :1], raw[:, :1])
    grid = table[0, 1:].unflatten(0, (6, 6))
    torch.testing.assert_close(torch.rot90(grid, 1, (0, 1)), grid)
    (row,) = [row for row in report.layers if row.action == "smooth positions"]
    assert (row.name, row.note) == ("embeddings.position_embeddings", "1 leading token kept")
    assert row.dimension == 32 * (1 + 9)


def test_save_and_load_as_the_library_does(tmp_path) -> None:
    model, x = vit(), images(24)
    softened(model, x)
    model.save_pretrained(tmp_path)
    plain = transformers.ViTModel.from_pretrained(tmp_path, add_pooling_layer=False).eval()
    softened(plain, x)
    with torch.no_grad():
        assert torch.equal(plain(x).last_hidden_state, model(x).last_hidden_state)


def test_rotary_positions_are_named() -> None:
    config = transformers.DINOv3ViTConfig(
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=48,
        image_size=28,
        patch_size=7,
    )
    report = softened(transformers.DINOv3ViTModel(config).eval(), images(28))
    assert "rotary positions tell directions apart" in {row.reason for row in report.limiting}
