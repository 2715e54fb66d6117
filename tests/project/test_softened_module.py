"""Softened modules stay ordinary modules: optimizers, copies, compilers, moving averages."""

import copy
import io
import math
import pickle

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from equikernels.group import SO2, pixel_grid
from equikernels.project import InvariantProjector, Softness, bake, raw_parameter, soften
from equikernels.project.adapting import is_softened
from equikernels.project.adapting.parts import DENSE_ROWS, Kernels, Tokens
from equikernels.project.learnable import LearnableSmooth
from equikernels.project.projected_weight import ProjectedWeight
from tests.project.softening_samples import C4, Net, by_hand

P = InvariantProjector(pixel_grid(3, C4), Softness(0.4))


@pytest.fixture
def plain() -> Net:
    torch.manual_seed(0)
    return Net().double()


@pytest.fixture
def model(plain: Net) -> Net:
    model = copy.deepcopy(plain)
    soften(model, C4, softness=0.4)
    return model


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(5, 2, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def projections(monkeypatch: pytest.MonkeyPatch) -> list[torch.Size]:
    """Shapes of the weights projected, in order."""
    calls: list[torch.Size] = []
    for part in (Kernels, Tokens):
        original = part.__call__

        def counted(self, w, original=original):
            calls.append(w.shape)
            return original(self, w)

        monkeypatch.setattr(part, "__call__", counted)
    return calls


def test_names_types_and_repr(plain: Net, model: Net) -> None:
    assert isinstance(model, Net)
    assert isinstance(model.conv, nn.Conv2d)
    assert type(model.conv).__name__ == "Conv2d"
    assert type(model.head) is nn.Linear
    assert is_softened(model)
    assert is_softened(model.conv)
    assert not is_softened(model.head)
    assert list(model.state_dict()) == list(plain.state_dict())
    assert [n for n, _ in model.named_parameters()] == [n for n, _ in plain.named_parameters()]
    assert list(model.buffers()) == []
    assert "SoftenedConv2d(2, 6, kernel_size=(3, 3)" in repr(model)
    assert "softened weight by Softness(s=0.4" in repr(model.conv)
    assert repr(model).startswith("SoftenedNet(")


def test_two_layers_of_one_class_share_their_softened_class() -> None:
    model = nn.Sequential(nn.Conv2d(1, 1, 3), nn.Conv2d(1, 1, 5))
    soften(model, C4, softness=0)
    assert type(model[0]) is type(model[1])


def test_forward_and_gradients_are_those_of_the_projected_parameters(model: Net, x: torch.Tensor) -> None:
    torch.testing.assert_close(model(x), by_hand(model, x))
    by_hand(model, x).square().sum().backward()
    expected = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    for count in (1, 2):  # accumulated over two backward passes of one version
        model(x).square().sum().backward()
        for name, parameter in model.named_parameters():
            torch.testing.assert_close(parameter.grad, count * expected[name])


def test_one_projection_per_version_and_none_in_evaluation(model: Net, x: torch.Tensor, projections) -> None:
    first = model(x)
    assert len(projections) == 2
    assert torch.equal(model(x), first)
    model.eval()
    with torch.inference_mode():
        assert torch.equal(model(x), first)
    assert len(projections) == 2
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(x).square().sum().backward()
    optimizer.step()
    before = len(projections)
    second = model(x)
    model(x)
    assert len(projections) == before + 2
    torch.testing.assert_close(second, by_hand(model, x))
    assert not torch.allclose(first, second)


def test_what_inference_mode_cached_serves_training(model: Net, x: torch.Tensor) -> None:
    with torch.inference_mode():
        model(x)
    model(x).sum().backward()
    assert raw_parameter(model, "conv.weight").grad is not None


def test_models_made_in_inference_mode_work(x: torch.Tensor) -> None:
    with torch.inference_mode():
        model = Net().double()
        soften(model, C4, softness=0.4)
        torch.testing.assert_close(model(x), by_hand(model, x))


def test_setting_a_parameter_replaces_the_raw_one(model: Net) -> None:
    new = nn.Parameter(torch.randn(6, 2, 3, 3, dtype=torch.float64))
    model.conv.weight = new
    assert raw_parameter(model, "conv.weight") is new
    assert dict(model.named_parameters())["conv.weight"] is new
    torch.testing.assert_close(model.conv.weight, P(new.flatten(-2)).reshape(new.shape))
    with pytest.raises(TypeError, match="Parameter"):
        model.conv.weight = torch.zeros(6, 2, 3, 3)


def test_what_would_lose_the_projection_is_refused(model: Net) -> None:
    with pytest.raises(
        ValueError, match="weight of a softened Conv2d cannot be removed or parametrized again"
    ):
        nn.utils.parametrize.register_parametrization(model.conv, "weight", nn.Identity(), unsafe=True)
    model = copy.deepcopy(model)
    with pytest.raises(TypeError, match=r"cannot assign .* to parameter 'weight_orig'"):
        prune.random_unstructured(model.conv, "weight", 0.5)
    with pytest.raises(ValueError, match="bake the module first"):
        del model.conv.weight
    with pytest.raises(ValueError, match="would hide the softened parameter weight"):
        model.conv.__class__ = nn.Conv2d
    model.conv._parameters.pop("weight")
    with pytest.raises(RuntimeError, match="weight is gone"):
        model.conv(torch.zeros(1, 2, 4, 4, dtype=torch.float64))


def test_other_parameters_may_be_parametrized(model: Net, x: torch.Tensor) -> None:
    class Double(nn.Module):
        def forward(self, bias: torch.Tensor) -> torch.Tensor:
            return 2 * bias

    expected = model.conv.bias * 2
    nn.utils.parametrize.register_parametrization(model.conv, "bias", Double())
    torch.testing.assert_close(model.conv.bias, expected)
    raw = raw_parameter(model, "conv.weight")
    torch.testing.assert_close(model.conv.weight, P(raw.flatten(-2)).reshape(raw.shape))
    with pytest.raises(ValueError, match="class of a softened Conv2d was changed to ParametrizedConv2d"):
        bake(model)
    assert is_softened(model)


def test_writing_the_projection_in_place_is_noticed(model: Net, x: torch.Tensor) -> None:
    with torch.no_grad():
        model.conv.weight.zero_()
        with pytest.raises(RuntimeError, match=r"raw_parameter\(module, name\)"):
            model(x)
        torch.testing.assert_close(model(x), by_hand(model, x))


def test_raw_parameter_names_what_there_is(model: Net) -> None:
    assert raw_parameter(model, "conv.weight") is raw_parameter(model.conv, "weight")
    with pytest.raises(ValueError, match=r"one of pos_embed, conv\.weight.*got 'conv'"):
        raw_parameter(model, "conv")
    with pytest.raises(TypeError, match=r"torch\.nn\.Module"):
        raw_parameter("conv", "weight")


def test_projections_with_a_learnable_cutoff_are_not_kept() -> None:
    grid = pixel_grid(3, C4)
    cutoff = LearnableSmooth(0.5, 0.5)
    projector = InvariantProjector(grid, cutoff)
    kept, weight = ProjectedWeight(), nn.Parameter(torch.randn(2, 9, dtype=torch.float64))
    first = kept(weight, projector)
    first.sum().backward()
    assert cutoff.cutoff.grad is not None
    with torch.no_grad():
        cutoff.cutoff.add_(1.0)
    assert not torch.allclose(kept(weight, projector), first)


# -- copies and processes ----------------------------------------------------------------------


def through_pickle(model: nn.Module) -> nn.Module:
    return pickle.loads(pickle.dumps(model))


def through_torch_save(model: nn.Module) -> nn.Module:
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)


@pytest.mark.parametrize("copied", [copy.deepcopy, through_pickle, through_torch_save])
def test_copies_are_softened_and_independent(model: Net, x: torch.Tensor, copied) -> None:
    expected = model(x)
    twin = copied(model)
    assert type(twin.conv) is type(model.conv)
    assert torch.equal(twin(x), expected)
    with torch.no_grad():
        raw_parameter(twin, "conv.weight").mul_(-1)
    torch.testing.assert_close(twin(x), by_hand(twin, x))
    assert torch.equal(model(x), expected)
    bake(twin)
    assert type(twin) is Net


@pytest.mark.parametrize("copied", [copy.deepcopy, through_pickle, through_torch_save])
def test_copies_turn_by_any_angle(copied) -> None:
    conv = nn.Conv2d(2, 2, 5)
    soften(conv, SO2(), softness=0.3)
    twin = copied(conv)
    assert type(twin) is type(conv)
    assert torch.equal(twin.weight, conv.weight)
    assert not torch.equal(twin.weight, raw_parameter(twin, "weight"))


def test_moving_averages_follow(model: Net, x: torch.Tensor) -> None:
    average = torch.optim.swa_utils.AveragedModel(
        model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.5)
    )
    for _ in range(3):
        average(x)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.3)
        average.update_parameters(model)
        torch.testing.assert_close(average(x), by_hand(average.module, x))
    assert not torch.allclose(average(x), model(x))


def test_distributed_data_parallel(model: Net, x: torch.Tensor, tmp_path) -> None:
    model(x).square().sum().backward()
    expected = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    store = torch.distributed.FileStore(str(tmp_path / "store"), 1)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        parallel = nn.parallel.DistributedDataParallel(model)
        parallel(x).square().sum().backward()
        for name, parameter in parallel.module.named_parameters():
            torch.testing.assert_close(parameter.grad, expected[name])
        torch.optim.SGD(parallel.parameters(), lr=0.1).step()
        torch.testing.assert_close(parallel(x), by_hand(model, x))
        assert "module.conv.weight" in parallel.state_dict()
    finally:
        torch.distributed.destroy_process_group()


def test_distributed_tensors_are_refused(model: Net, x: torch.Tensor, tmp_path) -> None:
    """A shard cannot be projected, and what is gathered for a forward pass has no version of its own."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    store = torch.distributed.FileStore(str(tmp_path / "store"), 1)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        fully_shard(model, mesh=init_device_mesh("cpu", (1,)))
        with pytest.raises(TypeError, match="cannot be a distributed tensor"):
            model(x)
    finally:
        torch.distributed.destroy_process_group()


def test_large_grids_are_projected_without_their_matrix() -> None:
    side = math.isqrt(DENSE_ROWS) + 1
    for size in (side - 1, side):
        grid = InvariantProjector(pixel_grid(size, C4), Softness(0.3))
        part = Kernels(grid, 2)
        assert (part._rows.matrix is None) == (size == side)
        w = torch.randn(3, 2, size, size, dtype=torch.float64)
        torch.testing.assert_close(part(w), grid(w.flatten(-2)).reshape(w.shape), atol=1e-12, rtol=0)


# -- precision ---------------------------------------------------------------------------------


def test_dtypes_follow_the_model(model: Net, x: torch.Tensor) -> None:
    expected = model(x)
    assert model.float()(x.float()).dtype == torch.float32
    torch.testing.assert_close(model(x.float()).double(), expected, atol=1e-4, rtol=1e-4)
    assert model.bfloat16().conv.weight.dtype == torch.bfloat16


def test_autocast_projects_in_full_precision(model: Net, x: torch.Tensor) -> None:
    single = model.float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert single.conv.weight.dtype == torch.float32
        inside = single(x.float())
        inside.float().sum().backward()
    raw = raw_parameter(single, "conv.weight")
    exact = P(raw.detach().double().flatten(-2)).reshape(raw.shape)
    torch.testing.assert_close(single.conv.weight.double(), exact, atol=1e-6, rtol=0)
    assert raw.grad.dtype == torch.float32
    torch.testing.assert_close(inside.float(), single(x.float()), atol=0.1, rtol=0.1)


# -- transforms and compilers ------------------------------------------------------------------


def test_function_transforms(model: Net, x: torch.Tensor) -> None:
    parameters = {name: p.detach() for name, p in model.named_parameters()}
    stacked = {name: torch.stack([p, 2 * p]) for name, p in parameters.items()}
    both = torch.func.vmap(lambda p: torch.func.functional_call(model, p, (x,)))(stacked)
    torch.testing.assert_close(both[0], model(x))
    doubled = copy.deepcopy(model)
    doubled.load_state_dict({name: 2 * p for name, p in parameters.items()})
    torch.testing.assert_close(both[1], doubled(x))

    def loss(p: dict[str, torch.Tensor]) -> torch.Tensor:
        return torch.func.functional_call(model, p, (x,)).square().sum()

    gradients = torch.func.grad(loss)(parameters)
    loss(dict(model.named_parameters())).backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad)


def test_stand_ins_of_inference_mode_leave_nothing_behind_that_training_cannot_use() -> None:
    conv = nn.Conv2d(1, 1, 3, bias=False).double()
    soften(conv, C4, softness=0.4)
    x, weight = torch.randn(1, 1, 4, 4), torch.randn(1, 1, 3, 3)  # of a dtype not seen before
    with torch.inference_mode():
        torch.func.functional_call(conv, {"weight": weight}, (x,))
    leaf = weight.clone().requires_grad_()
    torch.func.functional_call(conv, {"weight": leaf}, (x,)).sum().backward()
    assert leaf.grad is not None


def test_compiled_and_exported(model: Net, x: torch.Tensor) -> None:
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), model(x))
    compiled(x).sum().backward()
    gradient = raw_parameter(model, "conv.weight").grad.clone()
    model.zero_grad()
    model(x).sum().backward()
    torch.testing.assert_close(gradient, raw_parameter(model, "conv.weight").grad)
    torch.optim.SGD(model.parameters(), lr=0.5).step()
    torch.testing.assert_close(compiled(x), by_hand(model, x))  # no stale constant in the graph
    model.eval()
    with torch.no_grad():
        torch.testing.assert_close(compiled(x), model(x))
    exported = torch.export.export(model, (x,))
    torch.testing.assert_close(exported.module()(x), model(x))
    assert set(exported.state_dict) == set(model.state_dict())


def test_activation_checkpointing(model: Net, x: torch.Tensor) -> None:
    model(x).sum().backward()
    expected = raw_parameter(model, "conv.weight").grad.clone()
    for reentrant in (True, False):
        model.zero_grad()
        moved = x.clone().requires_grad_()
        torch.utils.checkpoint.checkpoint(model, moved, use_reentrant=reentrant).sum().backward()
        torch.testing.assert_close(raw_parameter(model, "conv.weight").grad, expected)
