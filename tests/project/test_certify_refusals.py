"""What certify refuses, with the layer and the reason, what it measures then, and how it prints."""

import dataclasses
import json
import math
import re

import pytest
import torch
from torch import Tensor, nn

from equikernels.group import O2, SO2, SO3, CyclicGroup, DihedralGroup, pixel_grid
from equikernels.nn import SoftLinear
from equikernels.project import Hard, InvariantProjector, Plan, Rule, Site, Softness, certify, soften
from equikernels.project.adapting.parts import Kernels
from equikernels.project.certification import network
from equikernels.project.certification.actions import images_of
from tests.project.certify_samples import C2, C4, D4, images, turned


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
    "other maps": (nn.Sequential(nn.Flatten(), nn.Unflatten(1, (8, 4, 4))), "of 4 x 4 pixels, but"),
    "oblong maps": (nn.Sequential(nn.Flatten(), nn.Unflatten(1, (2, 4, 16))), "only square images"),
    "sequences": (nn.Sequential(nn.Flatten(), nn.Unflatten(1, (2, 64))), r"only \(N, C H W\) to"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize("name", REFUSED)
def test_refusals_name_the_layer_and_the_reason(name: str) -> None:
    model, message = REFUSED[name]
    shapeless = name in ("partly flat", "oblong maps", "sequences")
    act_out = (lambda g, y: y) if shapeless else None
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


def test_matrices_softened_otherwise_are_refused() -> None:
    def rows(site: Site) -> Plan:
        return Plan("kernels", {"weight": Kernels(InvariantProjector(pixel_grid(1, C4), Softness(0)), 1)})

    model = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2))
    soften(model, C4, softness=0, rules=(Rule("2", nn.Linear, rows),))
    assert "2 (Linear): is softened by a Kernels" in certify(model, C4, images(0)).refusal


VECTOR = SO2().irrep(1)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([nn.ReLU()], r"1 \(ReLU\): a point-wise nonlinearity on features \[1\] of SO\(2\)"),
        ([nn.BatchNorm1d(6)], r"1 \(BatchNorm1d\): scales every component by itself"),
        ([nn.Linear(6, 2)], r"mixes features \[1\] of SO\(2\) and is not softened"),
        ([nn.LayerNorm(6)], "no Lipschitz constant"),
        ([nn.Unflatten(1, (6, 1, 1))], r"makes images, which SO\(2\) turns by angles"),
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
