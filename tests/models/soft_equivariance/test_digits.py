"""The digits classifier: its certificate, its invariance, its reproducibility."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from equikernels.group import SO2, CyclicGroup, Group
from equikernels.models.soft_equivariance import certified_error as certified
from equikernels.models.soft_equivariance import digits, figures

GROUPS = [pytest.param(CyclicGroup(4), id="C_4"), pytest.param(SO2(), id="SO(2)")]


@pytest.fixture(scope="module")
def split() -> digits.DigitSplit:
    return digits.load_split()


def trained(
    group: Group, softness: float, split: digits.DigitSplit, epochs: int = 2
) -> digits.InvariantClassifier:
    model = digits.InvariantClassifier(group, softness, hidden=24, seed=3)
    digits.train_classifier(model, split.train_images, split.train_labels, epochs=epochs, seed=3)
    return model


def gain_by_hand(model: digits.InvariantClassifier, element: Tensor) -> float:
    """|W2| |P(W1) (rho(g) - I)| from the definition."""
    weight = model.first.projector(model.first.weight.detach().double())
    moved = weight @ model.representation(element, dtype=torch.float64) - weight
    second = model.second.weight.detach().double()
    return float(np.linalg.norm(second.numpy(), 2) * np.linalg.norm(moved.numpy(), 2))


# -- data ------------------------------------------------------------------------------------------------


def test_split_is_the_whole_set_once_stratified_and_normalised(split: digits.DigitSplit) -> None:
    assert split.train_images.shape == (1397, 64)
    assert split.test_images.shape == (400, 64)
    every = torch.cat([split.train_images, split.test_images])
    assert (float(every.min()), float(every.max())) == (0.0, 1.0)
    assert len(torch.unique(every, dim=0)) == 1797  # no image is in both parts
    counts = torch.bincount(split.test_labels)
    assert int(counts.min()) >= 38
    assert int(counts.max()) <= 42
    again, other = digits.load_split(0), digits.load_split(1)
    assert torch.equal(again.test_images, split.test_images)
    assert not torch.equal(other.test_images, split.test_images)


def test_rotated_copies_of_c4_are_the_representation_itself(split: digits.DigitSplit) -> None:
    group = CyclicGroup(4)
    rho = digits.InvariantClassifier(group, 0.0, hidden=1).representation
    copies = digits.rotated_copies(group, split.test_images)
    for k in (1, 2, 3):
        assert torch.equal(copies[k - 1], split.test_images @ rho(k, dtype=torch.float32).mT)


def test_rotated_copies_of_so2_turn_each_image_by_its_own_angle(split: digits.DigitSplit) -> None:
    same = split.test_images[:1].expand(5, 64)
    copies = digits.rotated_copies(SO2(), same, seed=1)
    assert copies.shape == (3, 5, 64)
    assert len(torch.unique(copies.reshape(15, 64), dim=0)) == 15
    assert torch.equal(copies, digits.rotated_copies(SO2(), same, seed=1))
    assert not torch.equal(copies, digits.rotated_copies(SO2(), same, seed=2))


def test_elements_to_check() -> None:
    assert certified.elements_to_check(CyclicGroup(4)).tolist() == [0, 1, 2, 3]
    angles = certified.elements_to_check(SO2(), random_angles=5)
    assert torch.allclose(angles[:12], torch.arange(12).double() * math.radians(30))
    assert len(angles) == 17
    assert torch.equal(angles, certified.elements_to_check(SO2(), random_angles=5))


# -- certificate -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("group", GROUPS)
@settings(max_examples=15)
@given(softness=st.floats(0, 1), seed=st.integers(0, 2**31), data=st.data())
def test_untrained_error_never_exceeds_its_certificate(
    group: Group, softness: float, seed: int, data: st.DataObject
) -> None:
    angle = st.floats(-10, 10)
    elements = st.lists(angle if isinstance(group, SO2) else st.integers(0, 3), min_size=1, max_size=4)
    turns = torch.tensor(data.draw(elements, label="elements"))
    model = digits.InvariantClassifier(group, softness, hidden=8, seed=seed)
    images = 4 * torch.randn(16, 64, generator=torch.Generator().manual_seed(seed))
    comparison = certified.compare(model, images, turns.double() if isinstance(group, SO2) else turns)
    assert comparison.holds
    assert comparison.covered


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("softness", [0.0, 0.3, 1.0])
def test_trained_error_never_exceeds_its_certificate(
    group: Group, softness: float, split: digits.DigitSplit
) -> None:
    model = trained(group, softness, split)
    comparison = certified.compare(model, split.test_images, certified.elements_to_check(group))
    assert comparison.holds
    assert comparison.covered
    assert comparison.exact == (softness == 0)
    if softness == 0:
        assert comparison.tightness is None
        assert bool(comparison.unchanged.all())
    else:
        assert comparison.tightness is not None
        assert 0.05 < comparison.tightness <= 1
        assert not bool(comparison.unchanged.all())


@pytest.mark.parametrize("group", GROUPS)
def test_certificate_and_error_are_the_formulas(group: Group, split: digits.DigitSplit) -> None:
    model = trained(group, 0.4, split, epochs=1)
    elements = certified.elements_to_check(group, random_angles=2)
    certificate = certified.error_certificate(model, elements)
    expected = torch.tensor([gain_by_hand(model, element) for element in elements], dtype=torch.float64)
    torch.testing.assert_close(certificate.gains, expected, rtol=1e-9, atol=1e-9)
    images = split.test_images[:7]
    errors, logits = certified.measured_errors(model, images, elements)
    assert (errors.shape, logits.shape) == ((len(elements), 7), (len(elements), 7, 10))
    turned = images.double() @ model.representation(elements[3], dtype=torch.float64).mT
    with torch.no_grad():
        change = model(turned.float()) - model(images)
    torch.testing.assert_close(errors[3], change.double().norm(dim=-1), rtol=1e-4, atol=1e-4)
    assert float(errors[0].max()) < certified.SLACK  # the identity changes nothing


def test_one_image_by_hand() -> None:
    """W1 = I, W2 = the first ten pixels, a half turn: |W2| = 1, |rho - I| = 2."""
    model = digits.InvariantClassifier(CyclicGroup(4), 1.0, hidden=64)
    with torch.no_grad():
        model.first.weight.copy_(torch.eye(64))
        model.second.weight.copy_(torch.eye(10, 64))
        for bias in (model.first.bias, model.second.bias):
            assert bias is not None
            bias.fill_(0.0)
    image = torch.zeros(1, 64)
    image[0, 0], image[0, 63] = 1.0, -1.0  # opposite corners: the first logit goes from relu(1) to relu(-1)
    comparison = certified.compare(model, image, torch.tensor([2]))
    assert float(comparison.certified[0, 0]) == pytest.approx(2 * math.sqrt(2))
    assert float(comparison.measured[0, 0]) == pytest.approx(1.0)
    assert comparison.tightness == pytest.approx(1 / (2 * math.sqrt(2)))


def test_a_broken_bound_is_seen(split: digits.DigitSplit) -> None:
    model = trained(CyclicGroup(4), 0.5, split)
    honest = certified.compare(model, split.test_images, torch.arange(4))
    assert honest.tightness is not None
    edge = dataclasses.replace(honest, certified=honest.certified * honest.tightness)
    assert edge.holds
    broken = dataclasses.replace(honest, certified=honest.certified * (0.999 * honest.tightness))
    assert not broken.holds
    assert broken.excess > certified.SLACK
    assert not dataclasses.replace(honest, measured=honest.measured * math.nan).holds


# -- model and training ----------------------------------------------------------------------------------


def test_equal_seeds_give_equal_models_and_spare_the_global_generator(split: digits.DigitSplit) -> None:
    torch.manual_seed(11)
    before = torch.get_rng_state()
    first, second = (trained(SO2(), 0.25, split, epochs=1) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, other)
    results = [certified.evaluate(model, split, model_seed=3) for model in (first, second)]
    assert results[0] == results[1]
    assert certified.evaluate(first, split, model_seed=3, seed=1) != results[0]  # other angles


def test_groups_and_softness_share_the_initial_parameters() -> None:
    one = digits.InvariantClassifier(SO2(), 0.25, seed=5)
    other = digits.InvariantClassifier(CyclicGroup(4), 1.0, seed=5)
    third = digits.InvariantClassifier(CyclicGroup(4), 1.0, seed=6)
    assert torch.equal(one.first.weight, other.first.weight)
    assert torch.equal(one.second.weight, other.second.weight)
    assert not torch.equal(third.first.weight, other.first.weight)


def test_training_learns_upright_digits(split: digits.DigitSplit) -> None:
    model = digits.InvariantClassifier(CyclicGroup(4), 1.0, hidden=24, seed=3)
    seen: list[float] = []
    losses = digits.train_classifier(
        model, split.train_images, split.train_labels, epochs=8, seed=3, after_epoch=seen.append
    )
    assert seen == losses
    assert losses[-1] < 0.5 * losses[0]
    assert digits.accuracy(model, split.test_images, split.test_labels) > 0.85


# -- repeated turns --------------------------------------------------------------------------------------


def test_spectral_turns_keep_the_group_law_and_bilinear_turns_do_not(split: digits.DigitSplit) -> None:
    turns = figures.turn_repeatedly(split.test_images[:20])
    assert turns.spectral.shape == (13, 20, 64)
    assert float(turns.spectral_errors().max()) < 1e-12
    torch.testing.assert_close(turns.spectral[12], turns.spectral[0], rtol=0, atol=1e-12)
    quarter = torch.rot90(turns.spectral[0].reshape(20, 8, 8), 1, (-2, -1)).reshape(20, 64)
    torch.testing.assert_close(turns.spectral[3], quarter, rtol=0, atol=1e-12)
    assert float(turns.bilinear_errors()[12].min()) > 0.1
    torch.testing.assert_close(turns.bilinear_once[3], quarter, rtol=0, atol=1e-12)


def test_curves_put_seeds_beside_each_other(split: digits.DigitSplit) -> None:
    model = digits.InvariantClassifier(CyclicGroup(4), 0.5, hidden=4)
    base = certified.evaluate(model, split, model_seed=0)
    results = [
        dataclasses.replace(base, softness=s, seed=seed, accuracy_upright=s + seed)
        for seed in (0, 1) for s in (0.0, 0.5)
    ]  # fmt: skip
    curve = figures.curves(results)["C_4"]
    assert curve.softness == [0.0, 0.5]
    assert curve.clean.tolist() == [[0.0, 1.0], [0.5, 1.5]]


def test_strongest_filters_are_the_projected_ones_that_matter() -> None:
    model = digits.InvariantClassifier(CyclicGroup(4), 0.0, hidden=5)
    with torch.no_grad():
        model.second.weight.zero_()
        model.second.weight[:, 2] = 1.0
    found = figures.strongest_filters([model], units=1)
    assert found.shape == (1, 1, 64)
    np.testing.assert_array_equal(found[0, 0], model.first.projected_weight.detach()[2].numpy())
    np.testing.assert_allclose(found[0, 0], np.rot90(found[0, 0].reshape(8, 8)).ravel(), atol=1e-7)


# -- mistakes --------------------------------------------------------------------------------------------


MODEL = digits.InvariantClassifier(CyclicGroup(4), 0.0, hidden=2)
IMAGES, LABELS, TURNS = torch.zeros(3, 64), torch.zeros(3, dtype=torch.int64), torch.arange(4)


@pytest.mark.parametrize(
    ("call", "argument"),
    [
        pytest.param(lambda: digits.load_split(test_size=5), "test_size", id="test part too small"),
        pytest.param(lambda: digits.accuracy(MODEL, IMAGES[:0], LABELS[:0]), "images", id="no images"),
        pytest.param(lambda: certified.compare(MODEL, IMAGES[:0], TURNS), "images", id="nothing to compare"),
        pytest.param(lambda: certified.compare(MODEL, IMAGES.view(3, 8, 8), TURNS), "images", id="not flat"),
        pytest.param(lambda: digits.accuracy(MODEL, IMAGES.long(), LABELS), "images", id="integer images"),
        pytest.param(lambda: digits.accuracy(MODEL, IMAGES, LABELS[:2]), "labels", id="labels missing"),
        pytest.param(lambda: digits.accuracy(MODEL, IMAGES, LABELS.float()), "labels", id="floating labels"),
        pytest.param(
            lambda: digits.train_classifier(MODEL, IMAGES[:0], LABELS[:0]), "images", id="nothing to learn"
        ),
        pytest.param(
            lambda: digits.train_classifier(MODEL, IMAGES, LABELS, epochs=0), "epochs", id="no epochs"
        ),
        pytest.param(lambda: digits.rotated_copies(CyclicGroup(8), IMAGES), "group", id="unknown group"),
        pytest.param(lambda: digits.rotated_copies(SO2(), IMAGES[:0]), "images", id="nothing to rotate"),
        pytest.param(lambda: certified.elements_to_check(SO2(), -1), "random_angles", id="negative count"),
        pytest.param(lambda: digits.InvariantClassifier(SO2(), 0.5, hidden=0), "hidden", id="no units"),
        pytest.param(lambda: digits.InvariantClassifier(SO2(), 1.5), "s must be a softness", id="softness"),
        pytest.param(lambda: figures.turn_repeatedly(IMAGES[:0]), "images", id="nothing to turn"),
        pytest.param(lambda: figures.turn_repeatedly(IMAGES, 0), "steps", id="no steps"),
    ],
)
def test_mistakes_name_the_argument(call: Callable[[], object], argument: str) -> None:
    with pytest.raises(ValueError, match=f"^{argument}"):
        call()
