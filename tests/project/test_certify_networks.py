"""Composed bounds of networks: never exceeded, not even by inputs sought to break them; and refusals."""

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from equikernels.group import SO2, SO3, DihedralGroup, Group, Representation, pixel_grid
from equikernels.nn import SoftLinear
from equikernels.project import (
    Hard,
    Rule,
    Smooth,
    Softness,
    certify,
    linear,
    soften,
)
from equikernels.project.certification.actions import Features, Still, images_of, same_action
from equikernels.project.certification.constants import GELU_CONSTANT, POINTWISE, SILU_CONSTANT
from equikernels.testing.strategies import random_orthogonal, seeds
from tests.project.certify_samples import C2, C4, D4, SIZE, images, turned

exact_groups: st.SearchStrategy[Group] = st.sampled_from([C2, C4, DihedralGroup(1), DihedralGroup(2), D4])

ACTIVATIONS = (
    nn.ReLU, nn.Tanh, nn.Sigmoid, nn.GELU, nn.SiLU, nn.ReLU6, nn.Hardtanh,
    lambda: nn.LeakyReLU(1.5), lambda: nn.ELU(0.7),
)  # fmt: skip


@st.composite
def networks(draw: st.DrawFn) -> tuple[nn.Sequential, dict[str, tuple[int, int]]]:
    """Small classifiers and image-to-image networks of everything that is composed, and the grids of those
    that read pixels one by one."""
    torch.manual_seed(draw(st.integers(0, 2**31)))
    size, channels = SIZE, 2
    layers: list[nn.Module] = []
    for _ in range(draw(st.integers(1, 3))):
        wider = draw(st.integers(1, 4))
        kind = draw(st.sampled_from(["conv", "stride", "circular", "depthwise", "one", "pool", "norm"]))
        if kind == "conv":
            side = draw(st.sampled_from([3, 5]))
            layers.append(nn.Conv2d(channels, wider, side, padding="same"))
        elif kind == "stride" and size % 2 == 0:
            layers.append(nn.Conv2d(channels, wider, 4, stride=2, padding=1))
            size //= 2
        elif kind == "circular" and size >= 3:
            layers.append(nn.Conv2d(channels, wider, 3, padding=1, padding_mode="circular"))
        elif kind == "depthwise":
            wider = channels
            layers.append(nn.Conv2d(channels, channels, 3, padding=2, dilation=2, groups=channels))
        elif kind == "pool" and size % 2 == 0:
            wider = channels
            layers.append(draw(st.sampled_from([nn.AvgPool2d(2), nn.MaxPool2d(2), nn.AvgPool2d(2, 2)])))
            size //= 2
        elif kind == "norm":
            wider, norm = channels, nn.BatchNorm2d(channels)
            norm.running_var.uniform_(0.3, 2)
            norm.running_mean.normal_()
            norm.weight.data.normal_()
            norm.bias.data.normal_()
            layers.append(norm)
        else:
            layers.append(nn.Conv2d(channels, wider, 1))
        channels = wider
        layers.append(draw(st.sampled_from(ACTIVATIONS))())
    head = draw(st.sampled_from(["none", "mean", "max", "grid" if size > 1 else "none"]))
    if head in ("mean", "max"):
        pool = nn.AdaptiveAvgPool2d(1) if head == "mean" else nn.AdaptiveMaxPool2d((1, 1))
        layers += [pool, nn.Flatten(), nn.Dropout(0.5), nn.Linear(channels, 3)]
    if head == "grid":
        layers += [
            nn.Flatten(),
            nn.Linear(channels * size**2, 2 * size**2),
            nn.ReLU(),
            nn.Linear(2 * size**2, 3),
        ]
    half = len(layers) // 2
    model = nn.Sequential(nn.Sequential(*layers[:half]), nn.Identity(), *layers[half:]).double().eval()
    linear_layers = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    return model, dict.fromkeys(linear_layers, (size, size)) if head == "grid" else {}


def ascent(error, x: Tensor, steps: int = 20) -> Tensor:
    """An input with a larger relative error, by gradient ascent on it."""
    x = x.clone().requires_grad_()
    for _ in range(steps):
        value = (error(x).flatten(1).norm(dim=1) / x.flatten(1).norm(dim=1)).sum()
        (gradient,) = torch.autograd.grad(value, x)
        with torch.no_grad():
            size = gradient.flatten(1).norm(dim=1).clamp(min=1e-300).reshape(-1, *[1] * (x.ndim - 1))
            x += 0.3 * gradient / size * x.flatten(1).norm(dim=1).reshape(size.shape)
    return x.detach()


def assert_holds(model: nn.Module, certificate, x: Tensor, group: Group, act_in, act_out) -> None:
    """The bound on given inputs, from the definition: one element after the other."""
    with torch.no_grad():
        y = model(x)
        for g in group.elements().tolist():
            error = (model(act_in(g, x)) - act_out(g, y)).flatten(1).norm(dim=1)
            sizes = x.flatten(1).norm(dim=1)
            slack = 1e-11 * math.prod(max(1.0, step.lipschitz) for step in certificate.steps)
            bound = certificate.bound.relative * sizes + certificate.bound.absolute
            assert bool((error <= bound + slack * (1 + sizes)).all())


def carried(group: Group, y: Tensor):
    return turned(group) if y.ndim == 4 else lambda g, y: y


@given(networks(), exact_groups, st.sampled_from([None, 0.0, 0.4]), seeds)
@settings(max_examples=60)
def test_no_network_exceeds_its_bound(network, group, softness, seed) -> None:
    model, grid = network
    if grid and softness is None:
        softness = 1.0  # a flattened image needs a layer that says what its features are
    if softness is not None:
        soften(model, group, softness=softness, grid=grid)
    x = images(seed)
    certificate = certify(model, group, x, samples=3, seed=seed % 1000)
    assert certificate.refusal is None
    assert certificate.holds is True
    assert math.isfinite(certificate.bound.relative + certificate.bound.absolute)
    if softness == 0.0:
        assert certificate.bound.relative < 1e-12 * math.prod(
            max(1.0, step.lipschitz) for step in certificate.steps
        )
        assert certificate.measured < 1e-12
    act, after = turned(group), carried(group, model(x))
    assert_holds(model, certificate, x, group, act, after)
    g = group.order - 1
    worst = ascent(lambda x: model(act(g, x)) - after(g, model(x)), x, 6)
    assert_holds(model, certificate, worst, group, act, after)


@given(st.sampled_from([C2, C4, D4]), st.sampled_from([3, 4, 5]), st.sampled_from([None, 0.4]), seeds)
@settings(max_examples=25)
def test_a_single_convolution_comes_within_a_factor(group, side, softness, seed) -> None:
    """Adversarial images reach 60 % of the bound of a convolution: they are small, and waves need room."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Conv2d(2, 2, side, padding=side // 2, bias=False)).double()
    if softness is not None:
        soften(model, group, softness=softness)
    x = images(seed, 1, 2, 12)
    certificate = certify(model, group, x, samples=2)
    act = turned(group)
    worst = 0.0
    with torch.no_grad():
        maps = torch.eye(2 * 144, dtype=torch.float64).reshape(-1, 2, 12, 12)
        for g in group.elements().tolist():
            difference = (model(act(g, maps)) - act(g, model(maps))).flatten(1)
            worst = max(worst, float(torch.linalg.matrix_norm(difference, ord=2)))
    assert worst <= certificate.bound.relative + 1e-12
    assert worst >= 0.6 * certificate.bound.relative
    assert certificate.bound.absolute == 0


def test_a_single_convolution_is_itself_a_network() -> None:
    conv = nn.Conv2d(2, 3, 3)
    alone, boxed = certify(conv, C4, images(0)), certify(nn.Sequential(conv), C4, images(0))
    assert alone.bound == boxed.bound
    assert alone.steps[0].layer == ""
    assert "(itself)" in str(alone)


# -- features ----------------------------------------------------------------------------------


def test_linear_layers_on_irreps_attain_their_bound() -> None:
    """Two elements given one by one: the bound of one linear layer is the operator norm, attained."""
    rep = SO3().irrep(1) + SO3().trivial()
    torch.manual_seed(0)
    layer = SoftLinear(rep, rep, Softness(0.5), 2, 2, bias=False).double()
    elements = SO3().sample(2, generator=torch.Generator().manual_seed(0))
    certificate = certify(layer, SO3(), torch.rand(3, 8), elements=list(elements))
    rho = [torch.block_diag(*[rep(g)] * 2) for g in elements]
    w = layer.projected_weight.detach()
    exact = max(float(torch.linalg.matrix_norm(w @ r - r @ w, ord=2)) for r in rho)
    assert certificate.bound.relative == pytest.approx(exact, rel=1e-8)
    assert certificate.covers == "2 elements"
    assert certificate.holds is True


@given(seeds, st.sampled_from([None, 0.2]), st.floats(0, 1))
@settings(max_examples=20)
def test_whole_lie_groups_are_bounded_by_their_generators(seed, radius, softness) -> None:
    torch.manual_seed(seed)
    vector = SO2().irrep(1) + SO2().irrep(2)
    cutoff = Smooth(0.3, 0.5) if softness > 0.5 else Softness(softness)
    model = nn.Sequential(
        SoftLinear(vector, vector, cutoff, 2, 3),
        nn.Sequential(SoftLinear(vector, SO2().trivial(), cutoff, 3, 4), nn.SiLU()),
        nn.BatchNorm1d(4),
        nn.Linear(4, 2),
    ).double()
    x = torch.randn(2, 8, dtype=torch.float64)
    certificate = certify(model.eval(), SO2(), x, radius=radius, samples=6, seed=seed % 1000)
    assert certificate.holds is True
    assert certificate.covers.startswith("every element of SO(2)")
    assert ("of length at most 0.2" in certificate.covers) == (radius is not None)
    assert str(certificate.actions[0]) == "features [1] + [2] of SO(2)"
    if radius is not None:
        whole = certify(model, SO2(), x, samples=2).bound
        size = float(x.norm(dim=1).max())
        assert certificate.bound(size) <= whole(size) * (1 + 1e-9)


def test_radius_of_a_finite_group_leaves_far_elements_out() -> None:
    model = nn.Sequential(nn.Conv2d(2, 2, 3))
    near, every = certify(model, D4, images(0), radius=1), certify(model, D4, images(0))
    assert (near.elements, every.elements) == (4, 8)
    assert near.bound == certify(model, D4, images(0), elements=[0, 1, 3, 4]).bound
    assert near.bound.relative <= every.bound.relative
    assert near.covers == "4 elements of length at most 1"
    assert every.covers == "all 8 elements"
    with pytest.raises(ValueError, match="there is none to look at"):
        certify(model, D4, images(0), elements=[2], radius=1)


def test_flattened_images_become_the_grid() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.Flatten(), nn.Linear(3 * 64, 64), nn.ReLU())
    soften(model, C4, softness=0, grid={"2": (8, 8)})
    certificate = certify(model, C4, images(1))
    assert certificate.bound.relative < 1e-12
    assert certificate.bound.absolute < 1e-12
    assert certificate.actions[1] == "features permutation grid 8x8 of C_4"
    y = model.double()(images(1)).reshape(2, 8, 8)
    torch.testing.assert_close(
        model(torch.rot90(images(1), 1, (-2, -1))).reshape(2, 8, 8), torch.rot90(y, 1, (-2, -1))
    )


def test_features_of_a_grid_become_images_again() -> None:
    torch.manual_seed(0)
    grid = pixel_grid(8, C4)
    layers = [
        nn.Flatten(),
        SoftLinear(grid, grid, Softness(0.2), 2, 3, bias=False),
        nn.Unflatten(1, (3, 8, 8)),
    ]
    flat = certify(nn.Sequential(*layers[:2]), C4, images(1))
    pooled = certify(nn.Sequential(*layers, nn.AvgPool2d(2)), C4, images(1))
    assert pooled.actions[1] == "images of 4 x 4 pixels"
    assert pooled.bound.relative == pytest.approx(flat.bound.relative / 2)
    assert flat.holds
    assert pooled.holds


def test_equal_actions_in_other_words_are_recognised() -> None:
    rep = SO2().irrep(1)
    x = torch.randn(3, 4, dtype=torch.float64)
    expected = torch.einsum("ab,ncb->nca", rep(0.3), x.reshape(3, 2, 2)).reshape(3, 4)
    torch.testing.assert_close(Features(rep)(torch.tensor(0.3, dtype=torch.float64), x), expected)
    assert same_action(Features(rep), Features(2 * rep), SO2(), 8)
    assert not same_action(Features(rep), Features(2 * rep), SO2(), 6)
    assert not same_action(Features(rep), Features(SO2().irrep(2)), SO2(), 8)
    rotated = Representation(SO2(), [(1, 2)], random_orthogonal(4, 0))
    assert not same_action(Features(2 * rep), Features(rotated), SO2(), 4)
    assert not same_action(Features(rep), Still(), SO2(), 4)
    assert not same_action(images_of(C4, 2, 2), Features(pixel_grid(2, C4)), C4, 4)
    flip = DihedralGroup(3)
    assert not same_action(Features(flip.irrep(("1d", 0, 1))), Still(), flip, 1)
    model = nn.Sequential(SoftLinear(rep, rep, Hard(0.5), 2, 2), SoftLinear(2 * rep, rep, Hard(0.5), 1, 1))
    assert certify(model, SO2(), torch.rand(1, 4)).refusal is None


# -- the rules ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [*POINTWISE, nn.GELU], ids=lambda kind: kind.__name__)
def test_lipschitz_constants_are_the_steepest_slope(kind) -> None:
    module = kind().double()
    x = torch.linspace(-8, 8, 160_001, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(module(x).sum(), x)
    constant = GELU_CONSTANT if kind is nn.GELU else POINTWISE[kind](module)
    steepest = float(slope.abs().max())
    assert steepest <= constant * (1 + 1e-12)
    assert steepest >= constant * (1 - 1e-6)
    assert pytest.approx(1.1289, abs=1e-4) == GELU_CONSTANT
    assert pytest.approx(1.09984, abs=1e-5) == SILU_CONSTANT


LINEAR = {
    "mean of blocks": lambda: nn.AvgPool2d(2),
    "overlapping means": lambda: nn.AvgPool2d(3, stride=1, padding=1),
    "mean of all": lambda: nn.AdaptiveAvgPool2d(1),
    "convolution": lambda: nn.Conv2d(2, 3, 3, stride=2, padding=1, bias=False),
    "without padding": lambda: nn.Conv2d(2, 3, 5, bias=False),
}


@pytest.mark.parametrize("name", LINEAR)
def test_constants_of_linear_layers_are_their_norms(name: str) -> None:
    torch.manual_seed(0)
    module = LINEAR[name]().double()
    x = images(0, 1, 2, 13 if name == "convolution" else 12)
    step = certify(module, C2, x).steps[0]
    maps = torch.eye(x.numel(), dtype=torch.float64).reshape(-1, *x.shape[1:])
    norm = float(torch.linalg.matrix_norm(module(maps).detach().flatten(1), ord=2))
    assert norm <= step.lipschitz * (1 + 1e-12)
    # Small images leave waves little room, and strides leave out some of what they carry.
    assert norm >= 0.5 * step.lipschitz
    if name in ("mean of blocks", "mean of all"):
        assert norm == pytest.approx(step.lipschitz, rel=1e-12)


def test_batch_norm_and_biases_move_nothing() -> None:
    norm = nn.BatchNorm2d(2)
    norm.running_var.copy_(torch.tensor([0.25, 4.0]))
    norm.weight.data.copy_(torch.tensor([1.0, -6.0]))
    certificate = certify(nn.Sequential(norm), D4, images(0))
    assert certificate.steps[0].lipschitz == pytest.approx(3.0, rel=1e-4)
    assert (certificate.bound.relative, certificate.bound.absolute) == (0.0, 0.0)


def test_a_bias_adds_its_own_error() -> None:
    """f(x) = c on pixels that are turned: the whole error is |g c - c|, whatever x is."""
    layer = nn.Linear(9, 9)
    nn.init.zeros_(layer.weight)
    soften(layer, C4, softness=1, rules=(Rule("", nn.Linear, linear(pixel_grid(3, C4), pixel_grid(3, C4))),))
    certificate = certify(layer, C4, torch.rand(1, 9), samples=1)
    c = layer.bias.detach().double().reshape(3, 3)
    expected = max(float((torch.rot90(c, k) - c).norm()) for k in range(4))
    assert certificate.bound.absolute == pytest.approx(expected, rel=1e-6)
    assert certificate.bound.relative == 0
    assert certificate.measured > 0
    assert certificate.holds is True


def test_a_bias_under_a_whole_lie_group() -> None:
    """f(x) = c, a vector: turned by half a turn it is -c, the largest error there is."""
    vector = SO2().irrep(1)
    layer = SoftLinear(vector, vector, Hard(3.0)).double()
    nn.init.zeros_(layer.weight)
    certificate = certify(layer, SO2(), torch.rand(1, 2))
    expected = 2 * float(layer.bias.detach().norm())
    assert certificate.bound.absolute == pytest.approx(expected, rel=1e-9)
    assert certificate.bound.relative == 0
    assert certificate.holds is True


def test_errors_of_what_biases_leave_are_counted() -> None:
    """A first layer that gives 1 whatever comes: the second one's error does not shrink with the input."""
    constant, conv = nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 3, padding=1, bias=False)
    nn.init.zeros_(constant.weight)
    nn.init.ones_(constant.bias)
    certificate = certify(nn.Sequential(constant, conv), C4, 1e-3 * images(0))
    ones = torch.ones(1, 2, SIZE, SIZE, dtype=torch.float64)
    y = conv.double()(ones).detach()
    expected = max(float((torch.rot90(y, k, (-2, -1)) - y).norm()) for k in range(4))
    assert certificate.bound.relative == 0
    assert certificate.bound.absolute == pytest.approx(expected, rel=1e-6)
    assert certificate.holds is True


def test_errors_that_add_up_are_capped_by_the_norm() -> None:
    """Twenty unsoftened convolutions: the bound is at most twice what the network can give at all."""
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Conv2d(2, 2, 3, padding=1, bias=False) for _ in range(20)))
    certificate = certify(model, C4, images(0))
    lipschitz = math.prod(step.lipschitz for step in certificate.steps)
    assert certificate.bound.relative == pytest.approx(2 * lipschitz, rel=1e-12)
    assert certificate.holds is True


def test_the_model_is_left_as_it_was() -> None:
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(inplace=True), nn.BatchNorm2d(3), nn.Dropout(0.5))
    soften(model, C4, softness=0.3)
    x = images(0).float()
    before, kept = copy.deepcopy(model.state_dict()), x.clone()
    certificate = certify(model, C4, x)
    assert certificate.holds is True
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(x, kept)
    assert next(model.parameters()).dtype == torch.float32
