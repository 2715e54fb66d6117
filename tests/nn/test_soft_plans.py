"""SoftLinear's plans and its Schur coefficients: the same layer, computed or trained otherwise."""

from __future__ import annotations

import copy
import io
import warnings

import pytest
import torch
from torch import nn

from equikernels.group import SO2, SO3, CyclicGroup, DihedralGroup, GridTranslations, pixel_grid
from equikernels.nn import SoftLinear
from equikernels.ops.linear import PLANS
from equikernels.project import Hard, LearnableSmooth, Softness, bake, load_softened, save_softened

REPRESENTATIONS = {
    "spectral grid": pixel_grid(6, SO2()),
    "C_4 grid": pixel_grid(4, CyclicGroup(4)),
    "C_8 regular": CyclicGroup(8).regular(),
    "SO(3)": 2 * SO3().irrep(1) + SO3().trivial(),
}


def twins(name: str, cutoff: object = None, **options: object) -> tuple[SoftLinear, SoftLinear]:
    """The same layer with raw parameters and with coefficients."""
    rep = REPRESENTATIONS[name]
    raw, schur = (
        SoftLinear(rep, rep, cutoff or Softness(0.3), 2, 3, parameter=parameter, **options).double()
        for parameter in ("raw", "schur")
    )
    schur.load_state_dict(raw.state_dict())
    return raw, schur


def features(layer: SoftLinear, batch: int = 5) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(batch, layer.in_features, dtype=torch.float64, generator=generator)


@pytest.mark.parametrize("name", REPRESENTATIONS)
def test_coefficients_give_the_same_layer(name: str) -> None:
    raw, schur = twins(name)
    x = features(raw)
    assert {key for key, _ in schur.named_parameters()} == {"coefficients", "bias"}
    torch.testing.assert_close(schur.weight, raw.weight)
    torch.testing.assert_close(schur(x), raw(x))
    torch.testing.assert_close(schur.projected_weight, raw.projected_weight)
    torch.testing.assert_close(schur.certificate().norm, raw.certificate().norm)
    torch.testing.assert_close(schur.baked()(x), raw(x))


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("name", REPRESENTATIONS)
def test_gradient_descent_takes_the_same_way(name: str, plan: str) -> None:
    """An orthogonal change of coordinates leaves it alone; Adam it does not."""
    for make, same in ((torch.optim.SGD, True), (torch.optim.Adam, False)):
        layers = twins(name, plan=plan)
        x = features(layers[0])
        optimizers = [make(layer.parameters(), lr=1e-2) for layer in layers]
        for _ in range(3):
            for layer, optimizer in zip(layers, optimizers, strict=True):
                optimizer.zero_grad()
                layer(x).square().mean().backward()
                optimizer.step()
        close = torch.allclose(layers[0].weight, layers[1].weight, rtol=0, atol=1e-9)
        # A sum of irreps is in its basis as it is.
        assert close == (same or name == "SO(3)")


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("parameter", ["raw", "schur"])
def test_evaluation_follows_training_in_every_plan(plan: str, parameter: str) -> None:
    rep = REPRESENTATIONS["C_8 regular"]
    layer = SoftLinear(rep, rep, Softness(0), 2, 3, parameter=parameter, plan=plan).double()
    x = features(layer)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    for _ in range(3):
        with torch.inference_mode():
            kept = [layer(x) for _ in range(2)]
        with torch.no_grad():
            kept.append(layer(x))
        optimizer.zero_grad()
        y = layer(x)
        for one in kept:
            torch.testing.assert_close(one, y.detach())
        y.square().sum().backward()
        optimizer.step()
        torch.testing.assert_close(layer(x), layer.baked()(x))


def test_state_dicts_are_those_of_a_plain_layer() -> None:
    raw, schur = twins("spectral grid")
    plain = nn.Linear(raw.in_features, raw.out_features).double()
    for layer in (raw, schur):
        assert list(layer.state_dict()) == ["weight", "bias"]
        layer.load_state_dict(plain.state_dict())
        torch.testing.assert_close(layer.weight, plain.weight)
        torch.testing.assert_close(layer.state_dict()["weight"], plain.weight.detach())
        plain.load_state_dict(layer.state_dict())
    model = nn.Sequential(schur)
    with pytest.raises(RuntimeError, match=r"Missing key.*0\.weight"):
        model.load_state_dict({"0.bias": schur.bias.detach()})
    with pytest.raises(RuntimeError, match="size mismatch"):
        model.load_state_dict({"0.bias": schur.bias.detach(), "0.weight": torch.zeros(3, 3)})
    before = schur.weight.detach().clone()
    model.load_state_dict({"0.bias": schur.bias.detach()}, strict=False)
    torch.testing.assert_close(schur.weight.detach(), before)


@pytest.mark.parametrize("name", ["spectral grid", "C_8 regular"])
def test_copies_pickles_and_files(name: str, tmp_path) -> None:  # type: ignore[no-untyped-def]
    _, schur = twins(name)
    x = features(schur)
    expected = schur(x)
    torch.testing.assert_close(copy.deepcopy(schur)(x), expected)
    buffer = io.BytesIO()
    torch.save(schur, buffer)
    buffer.seek(0)
    torch.testing.assert_close(torch.load(buffer, weights_only=False)(x), expected)
    model = nn.Sequential(schur)
    save_softened(model, tmp_path / "saved")
    again = copy.deepcopy(model)
    nn.init.zeros_(again[0].coefficients)
    torch.testing.assert_close(load_softened(again, tmp_path / "saved")(x), expected)
    torch.testing.assert_close(bake(again)(x), expected)


def test_a_trained_cutoff_trains_with_coefficients() -> None:
    rep = REPRESENTATIONS["spectral grid"]
    results = []
    for parameter in ("raw", "schur"):
        layer = SoftLinear(rep, rep, LearnableSmooth(0.5, 0.5), 2, 3, parameter=parameter).double()
        if results:
            layer.load_state_dict(results[0][0].state_dict())
        assert set(layer.plan(4).multiplications) == {"weights", "schur"}
        y = layer(features(layer))
        y.square().sum().backward()
        results.append((layer, y, [p.grad for p in layer.cutoff.parameters()]))
    torch.testing.assert_close(results[1][1], results[0][1])
    torch.testing.assert_close(results[1][2], results[0][2])
    assert all(grad is not None and float(grad.abs()) > 0 for grad in results[0][2])


def test_the_plan_depends_on_batch_and_mode() -> None:
    rep = pixel_grid(14, SO2())
    layer = SoftLinear(rep, rep, Softness(0.1), 16, 16)
    assert layer.plan(1).name == "schur"  # half of the projection's products are not needed
    assert layer.plan(1).training
    with torch.no_grad():
        assert not layer.plan(64).training
        assert layer.plan(64).name == "structured"  # a tenth of the directions is kept
        assert SoftLinear(rep, rep, Softness(0.9)).plan(64).name == "weights"
    strict = SoftLinear(REPRESENTATIONS["C_8 regular"], REPRESENTATIONS["C_8 regular"], Softness(0), 64, 64)
    with torch.no_grad():
        assert strict.plan(1024).name == "structured"
    assert SoftLinear(rep, rep, Softness(0.1), plan="weights").plan(1).name == "weights"


def test_half_precisions_and_autocast_project_first() -> None:
    raw, _ = twins("spectral grid")
    single = copy.deepcopy(raw).float()
    half = copy.deepcopy(raw).bfloat16()
    x = features(raw)
    expected = raw(x)
    torch.testing.assert_close(half(x.bfloat16()).double(), expected, rtol=0.05, atol=0.05)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(single(x.float()).double(), expected, rtol=0.05, atol=0.05)
    for plan in ("schur", "structured"):
        asked = SoftLinear(raw.projector.rep_in, raw.projector.rep_out, Softness(0.3), 2, 3, plan=plan)
        asked.load_state_dict(raw.state_dict())
        torch.testing.assert_close(asked.bfloat16()(x.bfloat16()).double(), expected, rtol=0.05, atol=0.05)


def test_a_cutoff_that_removes_everything_says_so() -> None:
    rep = SO2().irrep(1)
    with pytest.warns(UserWarning, match="removes every direction"):
        layer = SoftLinear(rep, rep, Hard(0.0))
    x = torch.randn(3, 2)
    torch.testing.assert_close(layer(x), layer.projected_bias.expand(3, 2))
    assert "dimension 0" in repr(layer)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        SoftLinear(rep, rep, Softness(0))


def test_no_bases_no_coefficients() -> None:
    rep = pixel_grid(4, GridTranslations(4, 4))
    plain = SoftLinear(rep, rep, Softness(0.2), 2)
    assert plain.plan(8).name == "weights"
    assert set(plain.plan(8).multiplications) == {"weights"}
    with pytest.raises(ValueError, match='parameter="schur" needs bases of irreps'):
        SoftLinear(rep, rep, Softness(0.2), parameter="schur")
    with pytest.raises(ValueError, match="plan must be one of weights"):
        SoftLinear(rep, rep, Softness(0.2), plan="schur")
    with pytest.raises(ValueError, match="batch must be an integer"):
        plain.plan(-1)


def test_compiles_in_every_plan() -> None:
    rep = DihedralGroup(4).regular()
    for plan in PLANS:
        layer = SoftLinear(rep, rep, Softness(0), 2, 3, parameter="schur", plan=plan).double()
        torch._dynamo.reset()
        compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
        x = features(layer)
        torch.testing.assert_close(compiled(x), layer(x))
