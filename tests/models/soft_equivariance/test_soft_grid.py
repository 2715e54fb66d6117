"""The classifier with two soft layers between pixel grids, the residual pathway prior, and their task."""

from __future__ import annotations

import dataclasses
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from equikernels.group import SO2, CyclicGroup, DihedralGroup, pixel_grid
from equikernels.metrics import invariance_error
from equikernels.models.data import SampleDraws, load_dataset
from equikernels.models.engine import Batches, ConfigurationError, default_configuration, train
from equikernels.models.engine.inference import Use, infer_samples
from equikernels.models.engine.runs import open_run
from equikernels.models.soft_equivariance import PriorLinear, SoftGridClassifier
from equikernels.models.soft_equivariance.tasks import SoftGridOptions, SoftGridTask
from equikernels.nn import SoftLinear
from equikernels.ops import rotate
from equikernels.project import EquivariantProjector, InvariantProjector, Softness

C4, D4 = CyclicGroup(4), DihedralGroup(4)
SMALL = SoftGridOptions(channels=(2, 3))


def images(count: int = 3, size: int = 8) -> Tensor:
    return torch.rand(count, 1, size, size, generator=torch.Generator().manual_seed(7)).double()


def classifier(softness: float, layer: Any = "soft", group: Any = C4, **options: Any) -> SoftGridClassifier:
    torch.manual_seed(5)
    sizes = {"size": 8, "channels": (2, 3), **options}
    return SoftGridClassifier(
        sizes.pop("size"), group, softness, 4, layer=layer, **sizes
    ).double()  # fmt: skip


# -- layers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("group", [C4, SO2()], ids=repr)
def test_the_prior_is_the_mixture_of_a_free_and_a_strict_layer(group: Any) -> None:
    torch.manual_seed(0)
    grid = pixel_grid(4, group)
    layer = PriorLinear(grid, grid, 0.3, 2, 3).double()
    P, P_inv = EquivariantProjector(grid, grid, Softness(0)), InvariantProjector(grid, Softness(0))
    x = torch.randn(5, 32, dtype=torch.float64)
    assert layer.strict.bias is not None
    weight = 0.3 * layer.free.weight + 0.7 * P(layer.strict.weight)
    bias = 0.3 * layer.free.bias + 0.7 * P_inv(layer.strict.bias)
    torch.testing.assert_close(layer(x), x @ weight.mT + bias)
    same = layer.unrestricted()
    assert isinstance(same, SoftLinear)
    torch.testing.assert_close(same(x), layer(x))


@pytest.mark.parametrize("softness", [0.0, 1.0])
def test_prior_and_soft_agree_at_both_ends(softness: float) -> None:
    grid = pixel_grid(4, C4)
    torch.manual_seed(0)
    prior = PriorLinear(grid, grid, softness, 2, 3)
    soft = SoftLinear(grid, grid, Softness(softness), 2, 3)
    soft.load_state_dict((prior.strict if softness == 0 else prior.free).state_dict())
    x = torch.randn(5, 32)
    torch.testing.assert_close(soft(x), prior(x))


@pytest.mark.parametrize("softness", [-0.1, 1.1, math.nan])
def test_softness_is_a_share(softness: float) -> None:
    grid = pixel_grid(4, C4)
    with pytest.raises(ValueError, match=r"softness: expected a number in \[0, 1\]"):
        PriorLinear(grid, grid, softness)
    with pytest.raises(ValueError, match=r"softness: expected a number in \[0, 1\]"):
        SoftGridClassifier(8, C4, softness, 10)


# -- the network ---------------------------------------------------------------------------------------------


def test_the_network_is_what_its_description_says() -> None:
    model = classifier(0.3, shrink=2)
    first, second, last = model.network[2], model.network[7], model.network[12]
    x = images()
    shrunk = x.unfold(2, 2, 2).unfold(3, 2, 2).mean((-2, -1)).flatten(1)
    hidden = (shrunk @ first.projected_weight.mT + first.projected_bias).relu().reshape(3, 2, 4, 4)
    pooled = hidden.reshape(3, 2, 2, 2, 2, 2).mean((3, 5)).flatten(1)
    features = (pooled @ second.projected_weight.mT + second.projected_bias).relu().reshape(3, 3, 4).mean(2)
    expected = features @ last.weight.mT + last.bias
    torch.testing.assert_close(model(x), expected)
    labels = torch.tensor([0, 3, 1])
    torch.testing.assert_close(model.loss(x, labels)["loss"], functional.cross_entropy(expected, labels))


@pytest.mark.parametrize("layer", ["soft", "prior"])
@pytest.mark.parametrize("group", [C4, D4], ids=repr)
def test_invariant_at_softness_0_alone(group: Any, layer: str) -> None:
    x = images()
    for softness, exact in ((0.0, True), (0.4, False)):
        model = classifier(softness, layer, group)
        with torch.no_grad():
            errors = [float((model(group.act(x, g)) - model(x)).abs().max()) for g in range(1, group.order)]
        assert (max(errors) < 1e-12) == exact
        assert (min(errors) < 1e-12) == exact


@pytest.mark.parametrize("layer", ["soft", "prior"])
@pytest.mark.parametrize("softness", [0.1, 0.5, 1.0])
def test_the_bound_is_that_of_the_description_and_is_kept(softness: float, layer: str) -> None:
    """On weights scaled apart, so that no factor can hide, and without biases; and on images sought to break
    it, by ascent of the error."""
    model = classifier(softness, layer, shrink=2)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
        model.network[2].load_state_dict({k: 3 * v for k, v in model.network[2].state_dict().items()})
    found = model.certificate(images())
    assert found.holds
    grids = [pixel_grid(4, C4), pixel_grid(2, C4)]
    layers = [model.network[2], model.network[7]]
    weights = [w.projected_weight if layer == "soft" else w.mixed_weight for w in layers]  # type: ignore[union-attr]
    norm = [float(torch.linalg.matrix_norm(w.detach(), ord=2)) for w in weights]
    outer = float(torch.linalg.matrix_norm(model.network[12].weight.detach(), ord=2))
    bounds = []
    for g in C4.elements()[1:]:
        errors = []
        for w, rep, before, after in zip(weights, grids, (1, 2), (2, 3), strict=True):
            rho = rep(g, dtype=torch.float64)
            left, right = torch.block_diag(*[rho] * after), torch.block_diag(*[rho] * before)
            errors.append(float(torch.linalg.matrix_norm(left.mT @ w.detach() @ right - w.detach(), ord=2)))
        # d = 2, and 2 x 2 pixels are left after pool, so n = 2.
        bounds.append(outer / 2 * (norm[1] / 2 * errors[0] + errors[1] * norm[0] / 2) / 2)
    assert found.bound is not None
    # What the certificate knows besides: no error is above twice the Lipschitz constant.
    cap = 2 * outer / 2 * norm[1] / 2 * norm[0] / 2
    assert found.bound.relative <= max(bounds) * (1 + 1e-6)
    assert found.bound.relative == pytest.approx(min(max(bounds), cap), rel=1e-6)
    assert found.bound.absolute < 1e-9
    x = images().requires_grad_()
    for _ in range(20):
        ratio = (model(x.rot90(1, (-2, -1))) - model(x)).norm() / x.norm()
        assert float(ratio) <= found.bound.relative
        (gradient,) = torch.autograd.grad(ratio, x)
        x = (x + x.norm() * gradient / gradient.norm() / 4).detach().requires_grad_()


def test_biases_of_soft_layers_add_a_part_without_the_image() -> None:
    found = classifier(0.1).certificate(images())
    assert found.bound is not None
    assert found.bound.absolute > 0
    assert found.holds


def test_other_angles_have_no_bound() -> None:
    refusal = classifier(0.4, group=SO2()).certificate(images()).refusal
    assert refusal is not None
    assert "carry no grid of pixels to itself" in refusal


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 6, "shrink": 2}, "size: expected a multiple of 2 * shrink = 4, got 6"),
        ({"layer": "hard"}, 'layer: expected "soft" or "prior", got \'hard\''),
        ({"classes": 0}, "classes: expected an integer >= 1, got 0"),
        ({"channels_in": True}, "channels_in: expected an integer >= 1, got True"),
    ],
)
def test_wrong_arguments(options: dict[str, Any], message: str) -> None:
    values = {"size": 8, "group": C4, "softness": 0.2, "classes": 3, **options}
    with pytest.raises(ValueError, match=re.escape(message)):
        SoftGridClassifier(**values)


# -- the task ------------------------------------------------------------------------------------------------


def task(**options: Any) -> SoftGridTask:
    return SoftGridTask(dataclasses.replace(SMALL, **options))


def test_images_are_moved_by_elements_of_the_group() -> None:
    x = images(40)
    draws = SampleDraws(0, 0, range(40))
    elements = draws.integers("element", 0, 8)
    moved = task(group="D4").moved(x, draws)
    for image, element, result in zip(x, elements.tolist(), moved, strict=True):
        flipped = image.flip(-1) if element >= 4 else image
        assert torch.equal(result, flipped.rot90(element % 4, (-2, -1)))
    assert set(elements.tolist()) == set(range(8))
    turned = task(group="SO2", angle=15.0).moved(x, draws)
    angles = draws.uniform("angle", low=-math.radians(15), high=math.radians(15)).double()
    torch.testing.assert_close(turned, rotate(x, angles))
    flips = draws.integers("flip", 0, 2).bool()
    both = task(group="O2", angle=15.0).moved(x, draws)
    torch.testing.assert_close(both, rotate(torch.where(flips[:, None, None, None], x.flip(-1), x), angles))


class BrightestRow(nn.Module):
    """Answers with the brightest of the rows, which a turn of the image changes."""

    def forward(self, images: Tensor) -> Tensor:
        return images.sum((1, 3))[:, 1:11]


def test_numbers_over_all_batches() -> None:
    digits = load_dataset("digits").subset(20)
    one = task(size=12, shrink=2, softness=0.7)
    model = BrightestRow()
    with torch.no_grad():
        numbers = one.evaluate(model, Batches(digits, torch.arange(20), 7, seed=0, epoch=0))
        batch = digits.fetch(torch.arange(20))
        padded = functional.pad(batch["image"], (2, 2, 2, 2))
        logits = model(padded)
        moved = model(one.moved(padded, SampleDraws(0, 0, batch["index"])))
    right, moved_right = ((y.argmax(1) == batch["label"]).double().mean() for y in (logits, moved))
    assert right != moved_right
    assert numbers["accuracy"] == pytest.approx(float(right))
    assert numbers["turned_accuracy"] == pytest.approx(float(moved_right))
    assert numbers["combined_accuracy"] == pytest.approx(math.sqrt(float(right * moved_right)))
    expected = float(invariance_error(logits.double(), moved.double()))
    assert expected > 0
    assert numbers["invariance_error"] == pytest.approx(expected)


@pytest.mark.parametrize("layer", ["soft", "prior"])
def test_it_trains_and_infers(tmp_path: Path, layer: str) -> None:
    whole = default_configuration("soft-grid")
    configuration = dataclasses.replace(
        whole,
        limit=120,
        model=dataclasses.replace(SMALL, layer=layer, size=12),
        training=dataclasses.replace(whole.training, epochs=2, batch_size=48, device="cpu"),
    )
    metrics = train(configuration, tmp_path / "run")
    assert (metrics["status"], metrics["steps"]) == ("finished", 4)
    assert (configuration.optimizer.schedule, configuration.optimizer.algorithm) == ("linear", "adam")
    answers = infer_samples(open_run(tmp_path / "run"), Use(device="cpu"))
    assert answers["logits"].shape == (1797, 10)
    assert (answers["label"] == answers["logits"].argmax(1)).all()


@pytest.mark.parametrize(
    ("options", "data", "message"),
    [
        ({"size": 6}, "digits", "size: expected at least the images' 8, got 6"),
        ({"size": 10, "shrink": 2}, "digits", "size: expected a multiple of 2 * shrink = 4, got 10"),
        ({}, "photographs", "data: soft-grid needs images with labels, photographs has none"),
    ],
)
def test_data_that_do_not_fit(options: dict[str, Any], data: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(message)):
        task(**options).build(load_dataset(data, **({"size": 16} if data == "photographs" else {})))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"softness": 1.5}, "softness: expected a number in [0, 1], got 1.5"),
        ({"channels": (0, 3)}, "channels: expected two integers >= 1, got (0, 3)"),
        ({"angle": 0.0}, "angle: expected degrees in (0, 180], got 0.0"),
        ({"shrink": 0}, "shrink: expected an integer >= 1, got 0"),
    ],
)
def test_wrong_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        SoftGridOptions(**options)
