"""Linear layers and attention by rule: on flattened maps and on vectors."""

import copy

import pytest
import torch
from torch import nn

from equikernels.group import SO2, SO3
from equikernels.project import (
    EquivariantProjector,
    Softness,
    bake,
    soften,
)
from equikernels.project.adapting import (
    Rule,
    attention,
    linear,
    raw_parameter,
)
from tests.project.softening_samples import C4, largest, turn


def test_linear_layers_on_flattened_maps() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(2 * 25, 3 * 25), nn.ReLU(), nn.Linear(3 * 25, 7)).double()
    x = torch.randn(4, 2, 5, 5, dtype=torch.float64)
    found = soften(model, C4, softness=0, example_input=x, dry_run=True)
    assert [row.name for row in found.limiting] == ["1"]
    report = soften(model, C4, softness=0, grid={"1": (5, 5), "3": (5, 5)}, example_input=x)
    assert report.limiting == ()
    assert [row.representation for row in report.layers if row.softened][1].endswith("[0] of C_4")
    torch.testing.assert_close(model(turn(x, 1)), model(x), atol=1e-12, rtol=0)
    inside = model[:2](x).reshape(4, 3, 5, 5)
    moved = model[:2](turn(x, 1)).reshape(4, 3, 5, 5)
    torch.testing.assert_close(moved, turn(inside, 1), atol=1e-12, rtol=0)


def test_heads_on_flattened_maps_are_named() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.Flatten(), nn.Linear(2 * 16, 5))
    report = soften(model, C4, softness=0, example_input=torch.zeros(1, 1, 4, 4))
    assert [(row.name, row.reason) for row in report.limiting] == [
        ("2", "mixes the 4 x 4 pixels of a flattened map: give it a grid or a rule")
    ]


def test_linear_layers_on_vectors_by_rule() -> None:
    vectors = SO2().irrep(1)
    model = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 3)).double()
    rules = (
        Rule("0", nn.Linear, linear(lambda group: group.irrep(1), vectors)),
        Rule("2", nn.Linear, linear(vectors, lambda group: group.trivial())),
    )
    x = torch.randn(5, 6, dtype=torch.float64)
    report = soften(model, SO2(), softness=0, rules=rules, example_input=x)
    assert [row.name for row in report.limiting] == ["1"]
    assert "point-wise nonlinearity acts on vectors" in report.limiting[0].reason
    first = model[0]
    rho = vectors(0.7)

    def act(v: torch.Tensor) -> torch.Tensor:
        return (v.reshape(len(v), -1, 2) @ rho.mT).reshape(v.shape)

    torch.testing.assert_close(first(act(x)), act(first(x)))
    assert torch.equal(first.bias, torch.zeros(4, dtype=torch.float64))
    assert raw_parameter(first, "bias").abs().max() > 0


@pytest.mark.parametrize(
    ("layers", "limits"),
    [
        ([nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4)], {"1": "point-wise"}),
        ([nn.LayerNorm(4), nn.Linear(4, 4), nn.Identity(), nn.Linear(4, 4)], {"0": "normalization"}),
        ([nn.Linear(4, 4), nn.Linear(4, 4), nn.ReLU()], {}),
        ([nn.ReLU(), nn.Linear(4, 4)], {}),
    ],
)
def test_nonlinearities_limit_where_they_touch_vectors(
    layers: list[nn.Module], limits: dict[str, str]
) -> None:
    """The first linear layer takes or gives vectors, the others are left alone."""
    vectors, numbers = SO2().irrep(1), SO2().trivial()
    model = nn.Sequential(*layers)
    first = next(name for name, layer in model.named_children() if isinstance(layer, nn.Linear))
    into = numbers if isinstance(model[0], nn.ReLU) else vectors
    out = numbers if len(limits) == 0 else vectors
    rules = (Rule(first, nn.Linear, linear(into, out)),)
    for example in (torch.zeros(1, 4), None):
        report = soften(copy.deepcopy(model), SO2(), softness=0, rules=rules, example_input=example)
        if example is not None:
            assert {row.name for row in report.limiting} == set(limits)
        for row in report.limiting:
            assert limits.get(row.name, "unknown without example_input") in row.reason


@pytest.mark.parametrize("kdim", [None, 4], ids=["packed", "separate"])
@pytest.mark.parametrize("training", [True, False])
def test_attention_on_vectors(kdim: int | None, training: bool) -> None:
    torch.manual_seed(0)
    rep = SO3().irrep(1) + SO3().trivial()
    layer = nn.MultiheadAttention(16, 2, batch_first=True, kdim=kdim, vdim=kdim, add_bias_kv=kdim is None)
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    model = nn.ModuleDict({"attention": layer}).double().train(training)
    reference = copy.deepcopy(layer)
    report = soften(
        model, SO3(), softness=0, rules=(Rule("attention", nn.MultiheadAttention, attention(rep)),)
    )
    assert [row.name for row in report.layers] == ["attention"]
    g = SO3().sample(1, generator=torch.Generator().manual_seed(1), dtype=torch.float64)[0]
    rho = rep(g)

    def act(v: torch.Tensor) -> torch.Tensor:
        return (v.reshape(*v.shape[:-1], -1, 4) @ rho.mT).reshape(v.shape)

    x, keys = torch.randn(2, 5, 16).double(), torch.randn(2, 6, kdim or 16).double()
    for grad in (True, False):  # without gradients evaluation takes torch's fused path
        with torch.set_grad_enabled(grad):
            y, weights = layer(x, keys, keys)
            moved, moved_weights = layer(act(x), act(keys), act(keys))
            torch.testing.assert_close(moved, act(y), atol=1e-11, rtol=1e-11)
            torch.testing.assert_close(moved_weights, weights, atol=1e-11, rtol=1e-11)
            before = reference(x, keys, keys)[0]
            assert largest(before - y) > 0.1
            if kdim is None:
                same = layer(x, x, x, need_weights=False)[0]
                torch.testing.assert_close(
                    layer(act(x), act(x), act(x))[0], act(same), atol=1e-11, rtol=1e-11
                )


def test_attention_inside_torch_s_encoder_layer_is_softened_on_its_fast_path() -> None:
    """Evaluation without gradients runs one fused operation on the weights it reads from the modules."""
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True).double().eval()
    plain = copy.deepcopy(layer)
    rules = (Rule("self_attn", nn.MultiheadAttention, attention(SO2().irrep(1))),)
    soften(layer, SO2(), softness=0, rules=rules)
    x = torch.randn(2, 5, 8, dtype=torch.float64)
    with torch.no_grad():
        fused = layer(x)
    torch.testing.assert_close(fused, layer(x), atol=1e-12, rtol=1e-12)
    assert largest(fused - plain(x)) > 1e-2
    bake(layer)
    torch.testing.assert_close(fused, layer(x), atol=1e-12, rtol=1e-12)


def test_heads_must_hold_whole_vectors() -> None:
    layer = nn.MultiheadAttention(12, 4)  # heads of 3 features, though 12 is a multiple of 4
    rep = SO3().irrep(1) + SO3().trivial()
    with pytest.raises(ValueError, match=r"features of each of 4 heads must be a multiple of 4 .*got 3"):
        soften(layer, SO3(), softness=0, rules=(Rule("", nn.MultiheadAttention, attention(rep)),))
    with pytest.raises(TypeError, match=r"0 must be a torch\.nn\.MultiheadAttention, got Linear"):
        soften(
            nn.Sequential(nn.Linear(4, 4)), SO3(), softness=0, rules=(Rule("0", nn.Linear, attention(rep)),)
        )


def test_attention_projects_each_block() -> None:
    rep = SO2().irrep(1)
    layer = nn.MultiheadAttention(8, 2).double()
    raw = layer.in_proj_weight.detach().clone()
    soften(layer, SO2(), softness=0.3, rules=(Rule("", nn.MultiheadAttention, attention(rep)),))
    P = EquivariantProjector(rep, rep, Softness(0.3))
    expected = torch.cat([P(block) for block in raw.chunk(3)])
    torch.testing.assert_close(layer.in_proj_weight, expected)
