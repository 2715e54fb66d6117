"""Composed bounds of networks: never exceeded, not even by inputs sought to break them; and refusals."""

import copy
import dataclasses
import json
import math
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from equikernels.group import O2, SO2, SO3, CyclicGroup, DihedralGroup, Group, Representation, pixel_grid
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
from equikernels.project.certification import network
from equikernels.project.certification.actions import Features, Still, images_of, same_action
from equikernels.project.certification.constants import GELU_CONSTANT, POINTWISE, SILU_CONSTANT
from equikernels.testing.strategies import random_orthogonal, seeds

C2, C4, D4 = CyclicGroup(2), CyclicGroup(4), DihedralGroup(4)
SIZE = 8

exact_groups: st.SearchStrategy[Group] = st.sampled_from([C2, C4, DihedralGroup(1), DihedralGroup(2), D4])

ACTIVATIONS = (
    nn.ReLU, nn.Tanh, nn.Sigmoid, nn.GELU, nn.SiLU, nn.ReLU6, nn.Hardtanh,
    lambda: nn.LeakyReLU(1.5), lambda: nn.ELU(0.7),
)  # fmt: skip


def images(seed: int, count: int = 2, channels: int = 2, size: int = SIZE) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, channels, size, size, dtype=torch.float64, generator=generator)


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


def turned(group: Group):
    """Images by index maps, written without the code under test."""

    def act(g: int, x: Tensor) -> Tensor:
        n = group.n
        x = x.flip(-1) if g >= n else x
        return torch.rot90(x, (g % n) * 4 // n, (-2, -1))

    return act


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


# -- refusals ----------------------------------------------------------------------------------


class Residual(nn.Sequential):
    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x)


class Mine(nn.Conv2d):
    """A subclass of a known layer: what it does in its forward is anybody's guess."""


def hooked() -> nn.Module:
    layer = nn.Identity()
    layer.register_forward_hook(lambda module, inputs, output: output**2)
    return layer


def replaced() -> nn.Module:
    layer = nn.Identity()
    layer.forward = lambda x: x**2
    return layer


REFUSED = {
    "custom root": (Residual(nn.ReLU()), r"the model itself \(Residual\): its forward is custom"),
    "custom inside": (nn.Sequential(nn.ReLU(), Residual()), r"1 \(Residual\): its forward is custom"),
    "subclass": (Mine(2, 2, 3), r"\(Mine\): its forward is custom"),
    "hook": (nn.Sequential(hooked()), r"0 \(Identity\): its forward is replaced or has hooks"),
    "forward": (nn.Sequential(replaced()), "its forward is replaced or has hooks"),
    "layer norm": (nn.LayerNorm([2, 8, 8]), "no Lipschitz constant: where its input varies little"),
    "softplus": (nn.Softplus(threshold=0.1), "it jumps where it becomes linear"),
    "group norm": (nn.GroupNorm(1, 2), "no Lipschitz constant"),
    "instance norm": (nn.InstanceNorm2d(2), "no Lipschitz constant"),
    "upsampling": (nn.Upsample(scale_factor=2), "interpolates between pixels"),
    "transposed": (nn.ConvTranspose2d(2, 2, 3), "no bound of such a layer is known here"),
    "approximate": (nn.GELU(approximate="tanh"), "constant of the approximate GELU"),
    "batch statistics": (nn.BatchNorm2d(2, track_running_stats=False), "no running statistics"),
    "off-centre stride": (nn.Conv2d(2, 2, 3, stride=2), r"is sampled off-centre: \(8 \+ 0 - 3\) mod 2 = 1"),
    "one-sided": (nn.Conv2d(2, 2, 4, padding="same"), "padded by 1 before and 2 behind"),
    "oblong kernel": (nn.Conv2d(2, 2, (1, 3), padding=(0, 1)), "different windows"),
    "reflection": (nn.Conv2d(2, 2, 3, padding=1, padding_mode="reflect"), "padding_mode='reflect' repeats"),
    "wide circle": (nn.Conv2d(2, 2, 3, padding=2, padding_mode="circular"), "more than half the window"),
    "off-centre pool": (nn.MaxPool2d(3), "is sampled off-centre"),
    "overlapping maxima": (nn.MaxPool2d(2, stride=1), "its windows overlap"),
    "places": (nn.MaxPool2d(2, return_indices=True), "gives places"),
    "hanging over": (nn.AvgPool2d(2, ceil_mode=True), "ceil_mode=True"),
    "divisor": (nn.AvgPool2d(2, divisor_override=1), "divisor_override"),
    "edges": (nn.AvgPool2d(2, padding=1, count_include_pad=False), "count_include_pad=False"),
    "adaptive": (nn.AdaptiveAvgPool2d(2), "only pooling to one pixel"),
    "unsoftened pixels": (nn.Sequential(nn.Flatten(), nn.Linear(128, 3)), "not softened: soften it"),
    "last axis": (nn.Linear(8, 8), "acts on the last axis of inputs"),
    "partly flat": (nn.Flatten(2), r"only \(1, -1\) is known here"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize("name", REFUSED)
def test_refusals_name_the_layer_and_the_reason(name: str) -> None:
    model, message = REFUSED[name]
    act_out = (lambda g, y: y) if name == "partly flat" else None
    if name == "places":
        with pytest.raises(TypeError, match="model must give a tensor, got tuple"):
            certify(model, C4, images(0))
        return
    certificate = certify(model, C4, images(0), act_out=act_out)
    assert certificate.bound is None
    assert certificate.holds is None
    assert certificate.verdict == "no bound"
    assert certificate.steps == ()
    assert re.search(message, certificate.refusal), certificate.refusal
    assert certificate.measured >= 0
    assert f"no bound: {certificate.refusal}" in str(certificate)
    assert json.loads(json.dumps(certificate.to_dict(), allow_nan=False))["bound"] is None


VECTOR = SO2().irrep(1)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([nn.ReLU()], r"1 \(ReLU\): a point-wise nonlinearity on features \[1\] of SO\(2\)"),
        ([nn.BatchNorm1d(6)], r"1 \(BatchNorm1d\): scales every component by itself"),
        ([nn.Linear(6, 2)], r"mixes features \[1\] of SO\(2\) and is not softened"),
        ([nn.LayerNorm(6)], "no Lipschitz constant"),
        ([nn.Softmax(1)], "no bound of such a layer is known here"),
        (
            [SoftLinear(3 * SO2().irrep(2), VECTOR, Hard(5.0))],
            r"is softened for features 3 \[2\] .* what comes",
        ),
    ],
)
def test_refusals_on_features(layers, message: str) -> None:
    first = SoftLinear(VECTOR, VECTOR, Hard(0.5), 2, 3)
    model = nn.Sequential(first, *layers)
    certificate = certify(model, SO2(), torch.rand(2, 4), samples=2)
    assert re.search(message, certificate.refusal), certificate.refusal
    assert certificate.holds is None
    assert certificate.measured > 0


def test_other_angles_are_measured_alone() -> None:
    for group in (SO2(), O2(), CyclicGroup(8), DihedralGroup(3)):
        certificate = certify(nn.Sequential(nn.Conv2d(2, 2, 3, padding=1)), group, images(0), samples=3)
        assert certificate.bound is None
        assert "turns images by angles that carry no grid of pixels to itself" in certificate.refusal
        assert certificate.measured > 0.01
        assert certificate.actions == ("images turned by interpolation",) * 2
        assert not certificate.layers.rows


@pytest.mark.parametrize("group", [C2, C4, DihedralGroup(1), DihedralGroup(2), D4], ids=repr)
def test_images_move_as_their_grid_does(group) -> None:
    x = images(0, size=5)
    act, rep = images_of(group, 5, 5), pixel_grid(5, group)
    for g in group.elements().tolist():
        assert torch.equal(act(g, x).flatten(2), x.flatten(2) @ rep(g).mT)


def test_interpolated_turns_agree_with_exact_ones() -> None:
    x = images(0)
    for group, exact, scale in ((CyclicGroup(8), C4, 2), (DihedralGroup(12), D4, 3)):
        for g in exact.elements().tolist():
            element = g % 4 * scale + (group.n if g >= 4 else 0)
            torch.testing.assert_close(
                images_of(group, 8, 8)(element, x), turned(exact)(g, x), atol=1e-9, rtol=0
            )
    o2 = images_of(O2(), 8, 8)
    torch.testing.assert_close(o2((math.pi / 2, 1), x), turned(D4)(5, x), atol=1e-9, rtol=0)
    torch.testing.assert_close(images_of(SO2(), 8, 8)(-math.pi / 2, x), turned(C4)(3, x), atol=1e-9, rtol=0)


def test_actions_given_by_hand() -> None:
    model = nn.Sequential(nn.Conv2d(2, 2, 3, padding=1), nn.ReLU())
    act = turned(C4)
    certificate = certify(model, C4, images(0), act_in=act, act_out=act)
    assert certificate.refusal == "act_in is a function: how layers carry it on cannot be seen"
    assert certificate.measured == pytest.approx(certify(model, C4, images(0)).measured, rel=1e-12)
    assert "act_out is not how" in certify(model, C4, images(0), act_out=act).refusal
    rep = pixel_grid(4, C4)
    dense = SoftLinear(rep, rep, Softness(0.3))
    assert certify(dense, C4, torch.rand(2, 16), act_in=rep, act_out=rep).holds is True
    assert "act_out is not how" in certify(dense, C4, torch.rand(2, 16), act_out=C4.trivial()).refusal
    bilinear = pixel_grid(4, SO2(), method="bilinear")
    refused = certify(nn.Linear(16, 2), SO2(), torch.rand(2, 16), act_in=bilinear, samples=2)
    assert "is not an orthogonal representation: no bound holds" in refused.refusal


def test_softened_layers_of_refused_networks_are_still_certified() -> None:
    class Forward(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(2, 2, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x).sigmoid()

    model = Forward()
    soften(model, C4, softness=0.3)
    certificate = certify(model, C4, images(0))
    assert [row.layer for row in certificate.layers] == ["conv"]
    assert certificate.layers[0].holds is True
    assert "Forward" in certificate.refusal
    assert 0 < certificate.measured < 1


def test_a_violated_bound_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bound that lies below the worst measured error by a millionth of it does not hold."""
    compose, model = network.compose, nn.Sequential(nn.Conv2d(2, 2, 3))
    measured = certify(model, C4, images(0)).measured

    def too_small(*arguments):
        found = compose(*arguments)
        return dataclasses.replace(found, relative=0 * found.relative + measured * (1 - 1e-6))

    monkeypatch.setattr(network, "compose", too_small)
    certificate = certify(model, C4, images(0))
    assert certificate.holds is False
    assert "VIOLATED" in str(certificate)


def test_prints_as_text_markdown_and_json() -> None:
    model = nn.Sequential(nn.Conv2d(2, 2, 3), nn.ReLU())
    soften(model, C4, softness=0.3)
    certificate = certify(model, C4, images(0))
    lines = str(certificate).splitlines()
    assert lines[0] == "C_4, images of 8 x 8 pixels -> images of 6 x 6 pixels"
    assert lines[2] == f"|f(gx) - g f(x)| <= {certificate.bound} for all 4 elements"
    assert f"measured: {certificate.measured:.4g} |x| at most (4 elements, 18 inputs" in str(certificate)
    assert "| layer | type | Lipschitz |" in certificate.to_markdown()
    numbers = json.loads(json.dumps(certificate.to_dict(), allow_nan=False))
    assert numbers["bound"]["relative"] == certificate.bound.relative
    assert len(numbers["steps"]) == 2
    assert len(numbers["layers"]) == 1
    assert repr(certificate).startswith("NetworkCertificate(C_4, bound ")
    assert certificate.bound(2.0) == 2 * certificate.bound.relative + certificate.bound.absolute


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"model": None}, TypeError, "model must be a torch.nn.Module"),
        ({"group": "C4"}, TypeError, "group must be a Group"),
        ({"example_input": [1.0]}, TypeError, "example_input must be a floating tensor, got list"),
        ({"example_input": torch.ones(1, 2, 8, 8, dtype=torch.int64)}, TypeError, "got torch.int64"),
        ({"example_input": torch.ones(3)}, ValueError, "must have shape"),
        ({"example_input": torch.ones(0, 2, 8, 8)}, ValueError, "must have shape"),
        ({"example_input": torch.zeros(1, 2, 8, 8)}, ValueError, "finite and not zero"),
        ({"example_input": torch.full((1, 2, 8, 8), math.nan)}, ValueError, "finite and not zero"),
        ({"example_input": torch.ones(1, 2, 8, 6)}, ValueError, "only square images"),
        ({"example_input": torch.ones(1, 8)}, ValueError, "act_in must be given"),
        ({"example_input": torch.ones(1, 2, 8)}, ValueError, "act_in must be given"),
        ({"group": SO3()}, ValueError, "no action on images here"),
        ({"act_in": "turn"}, TypeError, "act_in must be a Representation or a function"),
        ({"act_in": SO2().irrep(1)}, ValueError, r"act_in belongs to SO\(2\), the certificate is for C_4"),
        ({"act_in": pixel_grid(3, C4)}, ValueError, "last axis must be a multiple of 9"),
        ({"elements": []}, ValueError, "none to look at"),
        ({"elements": [0.5]}, TypeError, "integers"),
        ({"samples": 0}, ValueError, "samples"),
        ({"radius": -1}, ValueError, "radius"),
    ],
)  # fmt: skip
def test_bad_arguments(arguments, error, message: str) -> None:
    given_ = {"model": nn.Sequential(nn.Conv2d(2, 2, 3)), "group": C4, "example_input": images(0)} | arguments
    with pytest.raises(error, match=message):
        certify(given_.pop("model"), given_.pop("group"), given_.pop("example_input"), **given_)


def test_outputs_of_other_shapes_need_an_action() -> None:
    class Tokens(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(2).mT

    with pytest.raises(ValueError, match="act_out must be given"):
        certify(Tokens(), C4, images(0))
    grid = pixel_grid(8, C4)

    def act(g, y: Tensor) -> Tensor:
        return grid(g) @ y

    assert certify(Tokens(), C4, images(0), act_out=act).measured < 1e-12
