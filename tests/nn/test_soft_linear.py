"""SoftLinear: one projection per parameter version, plain checkpoints, plain layers after baking."""

import copy
import io

import pytest
import torch
from torch import nn

from equikernels.group import SO2, CyclicGroup, pixel_grid
from equikernels.nn import SoftLinear
from equikernels.project import EquivariantProjector, InvariantProjector, LearnableSmooth, Softness, bake

REP = 2 * SO2().irrep(1) + SO2().trivial()


@pytest.fixture
def layer() -> SoftLinear:
    torch.manual_seed(0)
    return SoftLinear(REP, REP, Softness(0.4), channels_in=2, channels_out=3, plan="weights").double()


@pytest.fixture
def projections(monkeypatch: pytest.MonkeyPatch) -> list[torch.Size]:
    """Shapes of the weights projected, in order."""
    calls: list[torch.Size] = []
    original = EquivariantProjector.__call__

    def counted(self, w):
        if not isinstance(self, InvariantProjector):
            calls.append(w.shape)
        return original(self, w)

    monkeypatch.setattr(EquivariantProjector, "__call__", counted)
    return calls


def expected(layer: SoftLinear, x: torch.Tensor) -> torch.Tensor:
    weight = EquivariantProjector(REP, REP, Softness(0.4))(layer.weight.detach())
    bias = InvariantProjector(REP, Softness(0.4))(layer.bias.detach())
    return x @ weight.mT + bias


def test_forward_is_the_projected_linear_map(layer: SoftLinear) -> None:
    x = torch.randn(4, 7, 10, dtype=torch.float64)
    torch.testing.assert_close(layer(x), expected(layer, x))
    assert layer(x[:0]).shape == (0, 7, 15)


def test_strict_layer_with_bias_is_equivariant() -> None:
    strict = SoftLinear(REP, REP, Softness(0)).double()
    nn.init.normal_(strict.bias)
    x = torch.randn(6, 5, dtype=torch.float64)
    for theta in (0.3, 2.0):
        rho = REP(theta)
        torch.testing.assert_close(strict(x @ rho.mT), strict(x) @ rho.mT)


def test_one_projection_per_parameter_version(layer: SoftLinear, projections: list) -> None:
    x = torch.randn(4, 10, dtype=torch.float64)
    outputs = [layer(x) for _ in range(3)]
    assert len(projections) == 1
    assert all(torch.equal(outputs[0], y) for y in outputs)
    with torch.no_grad():
        layer.weight.add_(1.0)
    torch.testing.assert_close(layer(x), expected(layer, x))
    assert len(projections) == 3  # the layer's, and the one inside `expected`


def test_evaluation_costs_nothing_and_follows_training(layer: SoftLinear, projections: list) -> None:
    x = torch.randn(4, 10, dtype=torch.float64)
    layer.eval()
    with torch.inference_mode():
        layer(x)
    count = len(projections)
    with torch.no_grad():
        layer(x)
        layer(x)
    assert len(projections) == count
    # What inference mode cached must still serve training.
    layer.train()
    layer(x).sum().backward()
    assert layer.weight.grad is not None
    torch.optim.SGD(layer.parameters(), lr=0.1).step()
    layer.eval()
    torch.testing.assert_close(layer(x), expected(layer, x))


def test_gradients_equal_those_of_an_uncached_projection(layer: SoftLinear) -> None:
    x = torch.randn(4, 10, dtype=torch.float64)
    weight = layer.weight.detach().clone().requires_grad_()
    bias = layer.bias.detach().clone().requires_grad_()
    projected = EquivariantProjector(REP, REP, Softness(0.4))(weight)
    (x @ projected.mT + InvariantProjector(REP, Softness(0.4))(bias)).square().sum().backward()
    for accumulate in (1, 2):
        layer(x).square().sum().backward()
        torch.testing.assert_close(layer.weight.grad, accumulate * weight.grad)
        torch.testing.assert_close(layer.bias.grad, accumulate * bias.grad)


def test_second_derivatives_pass_the_cache() -> None:
    small = SoftLinear(SO2().irrep(1), SO2().irrep(1), Softness(0.5), bias=False).double()
    x = torch.randn(3, 2, dtype=torch.float64)

    def loss(weight: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(small, {"weight": weight}, x).pow(3).sum()

    reference = torch.func.hessian(loss)(small.weight.detach())
    value = small(x).pow(3).sum()
    (gradient,) = torch.autograd.grad(value, small.weight, create_graph=True)
    rows = [torch.autograd.grad(g, small.weight, retain_graph=True)[0] for g in gradient.flatten()]
    torch.testing.assert_close(torch.stack(rows).reshape(reference.shape), reference)


def test_function_transforms_do_not_leak_into_the_cache(layer: SoftLinear) -> None:
    x = torch.randn(4, 10, dtype=torch.float64)
    parameters = {k: v.detach() for k, v in layer.named_parameters()}
    stacked = {k: torch.stack([v, 2 * v]) for k, v in parameters.items()}
    both = torch.func.vmap(lambda p: torch.func.functional_call(layer, p, x))(stacked)
    torch.testing.assert_close(both[0], expected(layer, x))
    torch.testing.assert_close(layer(x), expected(layer, x))


def test_plain_checkpoints_load_and_refresh_the_cache(layer: SoftLinear) -> None:
    plain = nn.Linear(10, 15).double()
    x = torch.randn(4, 10, dtype=torch.float64)
    layer(x)
    layer.load_state_dict(plain.state_dict())
    assert set(layer.state_dict()) == {"weight", "bias"}
    torch.testing.assert_close(layer(x), expected(layer, x))


def test_dtype_changes_and_copies_refresh_the_cache(layer: SoftLinear) -> None:
    x = torch.randn(4, 10, dtype=torch.float64)
    layer(x)
    twin = copy.deepcopy(layer)
    with torch.no_grad():
        twin.weight.mul_(-1)
        twin.bias.mul_(-1)
    torch.testing.assert_close(twin(x), -layer(x))
    assert layer.float()(x.float()).dtype == torch.float32
    torch.testing.assert_close(layer(x.float()).double(), expected(layer.double(), x), atol=1e-5, rtol=1e-5)
    buffer = io.BytesIO()
    torch.save(layer, buffer)
    buffer.seek(0)
    loaded = torch.load(buffer, weights_only=False)
    torch.testing.assert_close(loaded(x), layer(x))


def test_replacing_the_storage_refreshes_the_cache(layer: SoftLinear) -> None:
    x = torch.randn(4, 10, dtype=torch.float64)
    layer(x)
    layer.weight.data = layer.weight.data * 2
    layer.weight.data = layer.weight.data * 2
    torch.testing.assert_close(layer(x), expected(layer, x))


def test_moving_average_copies_follow(layer: SoftLinear) -> None:
    average = torch.optim.swa_utils.AveragedModel(layer)
    x = torch.randn(4, 10, dtype=torch.float64)
    average(x)
    with torch.no_grad():
        layer.weight.add_(1.0)
    average.update_parameters(layer)
    average.update_parameters(layer)
    torch.testing.assert_close(average(x), expected(average.module, x))


def test_autocast_projects_in_full_precision(layer: SoftLinear) -> None:
    single = layer.float()
    x = torch.randn(4, 10)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = single(x)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), single(x), atol=0.1, rtol=0.05)
    assert torch.equal(single.projected_weight.detach(), single.projector(single.weight.detach()))


def test_compile_and_export(layer: SoftLinear) -> None:
    x = torch.randn(4, 10, dtype=torch.float64)
    layer.projector(layer.weight)
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), layer(x))
    compiled(x).sum().backward()
    gradient = layer.weight.grad.clone()
    layer.weight.grad = None
    layer(x).sum().backward()
    torch.testing.assert_close(gradient, layer.weight.grad)
    exported = torch.export.export(layer, (x,))
    torch.testing.assert_close(exported.module()(x), layer(x))


def test_bake_gives_plain_layers(layer: SoftLinear) -> None:
    model = nn.Sequential(layer, nn.ReLU(), SoftLinear(3 * REP, REP, Softness(0.2), bias=False).double())
    x = torch.randn(4, 10, dtype=torch.float64)
    before = model(x)
    model.eval()
    assert bake(model) is model
    assert [type(m) for m in model] == [nn.Linear, nn.ReLU, nn.Linear]
    assert not model[0].training
    assert model[2].bias is None
    torch.testing.assert_close(model(x), before)
    alone = bake(layer)
    assert type(alone) is nn.Linear
    assert isinstance(alone.weight, nn.Parameter)


def test_bake_keeps_shared_layers_shared(layer: SoftLinear) -> None:
    square = SoftLinear(REP, REP, Softness(0.5)).double()
    model = bake(nn.ModuleList([square, nn.Sequential(square)]))
    assert model[0] is model[1][0]


def test_training_moves_the_layer(layer: SoftLinear) -> None:
    """A strict layer learns a strict target: the projected weight reaches it."""
    torch.manual_seed(1)
    grid = pixel_grid(3, CyclicGroup(4))
    student = SoftLinear(grid, grid, Softness(0), bias=False)
    target = EquivariantProjector(grid, grid, Softness(0))(torch.randn(9, 9))
    optimizer = torch.optim.Adam(student.parameters(), lr=0.05)
    for _ in range(300):
        x = torch.randn(64, 9)
        loss = (student(x) - x @ target.mT).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 1e-3


def test_certificate_is_of_the_current_weight(layer: SoftLinear) -> None:
    before = layer.certificate().norm
    with torch.no_grad():
        layer.weight.mul_(2)
    assert layer.certificate().norm == pytest.approx(2 * before)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: SoftLinear(REP, REP, Softness(0), channels_in=0), "channels_in must be an integer >= 1"),
        (lambda: SoftLinear(REP, REP, Softness(0), plan="fast"), "plan must be"),
        (lambda: SoftLinear(REP, REP, Softness(0), parameter="fourier"), "parameter must be"),
        (lambda: SoftLinear(REP, REP, Softness(0))(torch.zeros(3, 4)), r"x must have shape \(\.\.\., 5\)"),
        (lambda: SoftLinear(REP, CyclicGroup(4).irrep(1), Softness(0)), "restrict one of them"),
    ],
)
def test_bad_layers_are_named(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_a_learnable_cutoff_is_trained_with_the_layer() -> None:
    rep = SO2().irrep(1) + SO2().irrep(2)
    layer = SoftLinear(rep, rep, LearnableSmooth(0.5, 0.5), channels_in=2).double()
    assert {name for name, _ in layer.named_parameters()} == {
        "weight",
        "bias",
        "cutoff.cutoff",
        "cutoff.log_width",
    }
    x = torch.randn(6, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    before = layer(x).detach()
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.5)
    layer(x).square().mean().backward()
    assert all(p.grad is not None and float(p.grad.abs().max()) > 0 for p in layer.parameters())
    with torch.no_grad():
        layer.weight.grad.zero_()
        layer.bias.grad.zero_()
    optimizer.step()
    after = layer(x).detach()
    assert float((after - before).abs().max()) > 1e-6  # the cut-off alone has moved
    twin = copy.deepcopy(layer)
    torch.testing.assert_close(twin(x), after)
    with torch.no_grad():
        twin.cutoff.cutoff += 5
    torch.testing.assert_close(layer(x), after)
    torch.testing.assert_close(
        twin(x), torch.nn.functional.linear(x, twin.weight, twin.bias), atol=0.1, rtol=0
    )
    assert layer.certificate().norm == pytest.approx(float(layer.projected_weight.detach().norm()))
    layer.load_state_dict(twin.state_dict())
    torch.testing.assert_close(layer(x), twin(x))
    bake(layer)
