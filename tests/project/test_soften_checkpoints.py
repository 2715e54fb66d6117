"""Checkpoints of softened models, what they say about softness, and baking."""

import copy
import io

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from equikernels.group import DihedralGroup, pixel_grid
from equikernels.project import (
    Hard,
    InvariantProjector,
    Plan,
    Rule,
    Smooth,
    Softness,
    bake,
    default_rules,
    leave,
    raw_parameter,
    soften,
)
from equikernels.project.adapting import check_soften_metadata, is_softened, soften_metadata
from equikernels.project.adapting.parts import Kernels
from tests.project.softening_samples import C4, Net

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


# -- checkpoints -------------------------------------------------------------------------------


def saved(state) -> dict[str, torch.Tensor]:
    """Through a file, as a checkpoint is read by default."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


def test_plain_and_softened_checkpoints_are_alike(plain: Net, model: Net, x: torch.Tensor) -> None:
    with torch.no_grad():
        raw_parameter(model, "conv.weight").add_(1.0)
    plain.load_state_dict(saved(model.state_dict()))
    assert torch.equal(plain.conv.weight, raw_parameter(model, "conv.weight"))
    fresh = Net().double()
    soften(fresh, C4, softness=0.4)
    fresh(x)
    fresh.load_state_dict(saved(plain.state_dict()))
    torch.testing.assert_close(fresh(x), model(x))
    for assign in (False, True):
        again = Net().double()
        soften(again, C4, softness=0.4)
        again(x)
        again.load_state_dict(saved(model.state_dict()), assign=assign)
        torch.testing.assert_close(again(x), model(x))


@pytest.mark.parametrize(
    ("group", "cutoff", "message"),
    [
        (C4, Softness(0.5), r"Softness\(s=0.5.* the checkpoint's by Softness\(s=0.4"),
        (C4, Hard(1.0), r"Hard\(cutoff=1.0\).* the checkpoint's by Softness\(s=0.4"),
        (DihedralGroup(4), Softness(0.4), r"of D_4 .* the checkpoint's by .* of C_4"),
    ],
)
def test_checkpoints_of_another_softness_are_errors(model: Net, group, cutoff, message: str) -> None:
    other = Net().double()
    soften(other, group, cutoff=cutoff)
    before = {name: value.clone() for name, value in other.state_dict().items()}
    state = saved(model.state_dict())
    with pytest.raises(RuntimeError, match=r"conv\.weight is softened by .*" + message):
        other.load_state_dict(state)
    assert torch.equal(raw_parameter(other, "conv.weight"), before["conv.weight"])
    with pytest.raises(RuntimeError, match=r"pos_embed is softened by"):
        other.load_state_dict(state, strict=False)
    other.load_state_dict(dict(state))  # said on purpose: a plain dictionary carries no record
    assert torch.equal(raw_parameter(other, "conv.weight"), raw_parameter(model, "conv.weight"))


def test_a_layer_left_alone_on_one_side_is_a_disagreement(model: Net) -> None:
    other = Net().double()
    soften(other, C4, softness=0.4, rules=(Rule("pos_embed", nn.Parameter, leave("")), *default_rules))
    assert not is_softened(other)
    other.load_state_dict(
        model.state_dict()
    )  # the module with the table is plain here: it fits as a plain one
    model.load_state_dict(other.state_dict())


def test_safetensors(model: Net, x: torch.Tensor, tmp_path) -> None:
    path = tmp_path / "model.safetensors"
    save_file(model.state_dict(), path, metadata=soften_metadata(model))
    fresh = Net().double()
    soften(fresh, C4, softness=0.4)
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    assert set(metadata) == {"softened.conv.weight", "softened.pos_embed"}
    check_soften_metadata(fresh, metadata)
    fresh.load_state_dict(load_file(path))
    torch.testing.assert_close(fresh(x), model(x))
    Net().double().load_state_dict(load_file(path))
    other = Net()
    soften(other, C4, softness=0.7)
    with pytest.raises(
        ValueError, match=r"conv\.weight is softened by Softness\(s=0.7.*in the file by Softness"
    ):
        check_soften_metadata(other, metadata)
    check_soften_metadata(other, None)
    check_soften_metadata(other, {"format": "pt"})
    check_soften_metadata(Net(), metadata)
    with pytest.raises(TypeError, match=r"torch\.nn\.Module"):
        soften_metadata("model")


# -- baking ------------------------------------------------------------------------------------


@pytest.mark.parametrize("cutoff", [Softness(0), Softness(0.4), Hard(1.0), Smooth(0.5, 0.5)], ids=repr)
def test_baking_is_plain_and_the_same_function(plain: Net, x: torch.Tensor, cutoff) -> None:
    model = plain
    raw = model.conv.weight
    soften(model, C4, cutoff=cutoff)
    expected = model(x)
    assert bake(model) is model
    assert (type(model), type(model.conv)) == (Net, nn.Conv2d)
    assert model.conv.weight is raw
    assert "_softened" not in vars(model.conv)
    assert torch.equal(model(x), expected)
    assert bake(model) is model
    assert torch.equal(model(x), expected)


def test_shared_layers_and_parameters_are_baked_once(x: torch.Tensor) -> None:
    """P with responses between 0 and 1 carried out twice would be another weight."""
    first, second = nn.Conv2d(2, 2, 3, padding=1).double(), nn.Conv2d(2, 2, 3, padding=1).double()
    second.weight = first.weight
    model = nn.Sequential(first, second, first)
    soften(model, C4, softness=0.4)
    expected = model(x)
    bake(model)
    assert first.weight is second.weight
    torch.testing.assert_close(model(x), expected)


def test_a_parameter_with_two_projections_cannot_be_baked() -> None:
    first, second = nn.Conv2d(2, 2, 3), nn.Conv2d(2, 2, 3)
    second.weight = first.weight
    model = nn.Sequential(first, second)
    other = Kernels(InvariantProjector(pixel_grid(3, C4), Softness(0.9)), 2)
    mine = Rule("1", nn.Conv2d, lambda site: Plan("another softness", {"weight": other}))
    soften(model, C4, softness=0.4, rules=(mine, *default_rules))
    with pytest.raises(ValueError, match=r"0\.weight and 1\.weight are one parameter with two projections"):
        bake(model)
    assert is_softened(first)
    assert is_softened(second)


def test_a_parameter_that_is_also_read_plain_cannot_be_baked() -> None:
    first, second = nn.Conv2d(2, 2, 3), nn.Conv2d(2, 2, 3)
    second.weight = first.weight
    model = nn.Sequential(first, second)
    soften(model, C4, softness=0.4, rules=(Rule("1", nn.Conv2d, leave("")), *default_rules))
    before = first.weight.detach().clone()
    with pytest.raises(ValueError, match=r"0\.weight is softened and, as 1\.weight, read plain"):
        bake(model)
    assert torch.equal(first.weight, before)
    assert is_softened(first)


def test_training_moves_the_softened_weight_only_within_its_space() -> None:
    torch.manual_seed(0)
    target = InvariantProjector(pixel_grid(3, C4), Softness(0))(torch.randn(1, 9)).reshape(1, 1, 3, 3)
    student = nn.Conv2d(1, 1, 3, bias=False)
    soften(student, C4, softness=0)
    optimizer = torch.optim.Adam(student.parameters(), lr=0.05)
    for _ in range(300):
        x = torch.randn(16, 1, 6, 6)
        loss = (student(x) - nn.functional.conv2d(x, target)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 1e-5
    torch.testing.assert_close(torch.rot90(student.weight, 1, (-2, -1)), student.weight)
