"""A guarantee for every turn of every image, and what turning really does to the classifier.

The network is f(x) = W2 relu(P(W1) x + c) + d with P the invariant projector of a pixel representation rho.
Write P(W1) rho(g) = P(W1) + E(g); because relu lengthens no distance,

    |f(rho(g) x) - f(x)| <= |W2| |E(g)| |x|    (operator norms),

for every image x, seen in training or not. Nothing in it depends on how well the network was trained.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from equikernels.group import Group
from equikernels.models.soft_equivariance.digits import (
    DigitSplit,
    InvariantClassifier,
    accuracy,
    check_images,
    rotated_copies,
)
from equikernels.project import Certificate, Softness

SLACK = 1e-9
"""What rounding in float64 may add: an error below it is zero, a bound is broken only by more than it."""


def elements_to_check(group: Group, random_angles: int = 20, seed: int = 0) -> Tensor:
    """The turns at which error and certificate are compared.

    For a finite group all its elements; for SO(2) the twelve multiples of 30 degrees, then `random_angles`
    uniformly random ones, in radians, float64.
    """
    if group.order is not None:
        return group.elements()
    if random_angles < 0:
        raise ValueError(f"random_angles must be >= 0, got {random_angles}")
    regular = torch.arange(12, dtype=torch.float64) * (math.pi / 6)
    return torch.cat([regular, group.sample(random_angles, generator=torch.Generator().manual_seed(seed))])


@dataclass(frozen=True, eq=False)
class ErrorCertificate:
    """|f(rho(g) x) - f(x)| <= gain(g) |x| for all images x.

    Attributes:
        gains: gain(g) = |W2| |P(W1) (rho(g) - I)| for each element, float64 (elements,).
        supremum: a bound on the gain of every element of the group at once, from the generator alone.
    """

    gains: Tensor
    supremum: float


def error_certificate(model: InvariantClassifier, elements: Tensor) -> ErrorCertificate:
    """The guarantee for the weights as they are, computed in float64.

    Args:
        elements: of the model's group, (elements,).
    """
    first: Certificate = model.first.certificate()
    outer = float(torch.linalg.matrix_norm(model.second.weight.detach().double(), ord=2))
    gains = torch.as_tensor(first.error(elements, norm="operator"))
    return ErrorCertificate(outer * gains, outer * first.supremum(norm="operator"))


@torch.no_grad()
def measured_errors(model: InvariantClassifier, images: Tensor, elements: Tensor) -> tuple[Tensor, Tensor]:
    """What turning does to the logits of a float64 copy of the model.

    Args:
        images: (count, 64); elements: of the model's group, (elements,).

    Returns:
        (errors, logits): |f(rho(g) x) - f(x)| (elements, count), and f(rho(g) x) (elements, count, 10),
        float64, with the same rho(g) that the certificate speaks of.
    """
    check_images(images)
    exact = copy.deepcopy(model).double()
    images = images.double()
    turns = model.representation(elements, dtype=torch.float64)
    logits = exact(images @ turns.mT)
    return (logits - exact(images)).norm(dim=-1), logits


@dataclass(frozen=True, eq=False)
class Comparison:
    """Certified and measured errors of one model, image by image and element by element.

    Attributes:
        certified, measured: (elements, count), float64, in units of the logits.
        covered: whether the bound for the whole group at once covers the certificate of each element checked.
        logits: f(x) of the unturned images (count, 10), float64.
        turned_predictions: the predicted digits of the turned images (elements, count), int64.
    """

    certified: Tensor
    measured: Tensor
    covered: bool
    logits: Tensor
    turned_predictions: Tensor

    @property
    def checks(self) -> int:
        """How many pairs of an image and an element were compared."""
        return self.measured.numel()

    @property
    def excess(self) -> float:
        """By how much the worst measured error exceeds its certificate (negative where none does)."""
        return float((self.measured - self.certified).max())

    @property
    def holds(self) -> bool:
        """Whether every measured error is at most its certificate, up to rounding."""
        return self.excess <= SLACK

    @property
    def exact(self) -> bool:
        """Whether certificate and error are zero up to rounding: the model is invariant."""
        return max(float(self.certified.max()), float(self.measured.max())) < SLACK

    @property
    def tightness(self) -> float | None:
        """The largest measured / certified, None for an exact model, where it would compare two roundings."""
        meaningful = self.certified >= SLACK
        if not bool(meaningful.any()):
            return None
        return float((self.measured / self.certified)[meaningful].max())

    def relative(self, errors: Tensor) -> float:
        """The median over images of the worst error over elements, relative to |f(x)|."""
        return float((errors.amax(0) / self.logits.norm(dim=-1)).median())

    @property
    def unchanged(self) -> Tensor:
        """Images (count,) whose predicted digit is the same for every element checked."""
        return (self.turned_predictions == self.logits.argmax(-1)).all(0)


def compare(model: InvariantClassifier, images: Tensor, elements: Tensor) -> Comparison:
    """Certify and measure the same model on the same images (count, 64) and elements (elements,)."""
    certificate = error_certificate(model, elements)
    errors, turned = measured_errors(model, images, elements)
    norms = images.double().norm(dim=-1)
    with torch.no_grad():
        logits = copy.deepcopy(model).double()(images.double())
    return Comparison(
        certified=certificate.gains[:, None] * norms,
        measured=errors,
        covered=float(certificate.gains.max()) <= certificate.supremum + SLACK,
        logits=logits,
        turned_predictions=turned.argmax(-1),
    )


@dataclass(frozen=True)
class DigitResult:
    """One trained model on the test images.

    Accuracies and `unchanged_predictions` are shares in [0, 1]; errors are lengths of changes of the
    logits, the `relative` ones as `Comparison.relative` says; the rest are properties of `Comparison`.
    """

    group: str
    softness: float
    seed: int
    accuracy_upright: float
    accuracy_rotated: float
    certified_max: float
    measured_max: float
    certified_relative: float
    measured_relative: float
    unchanged_predictions: float
    tightness: float | None
    checks: int
    excess: float
    holds: bool
    exact: bool
    covered: bool


def evaluate(
    model: InvariantClassifier, split: DigitSplit, *, model_seed: int, seed: int = 0, random_angles: int = 20
) -> DigitResult:
    """Everything measured of one model: `seed` draws the angles, `model_seed` names its training.

    Raises ValueError where the model's cut-off is not a Softness, which results are listed by.
    """
    cutoff = model.first.projector.cutoff
    if not isinstance(cutoff, Softness):
        raise ValueError(f"model must have a Softness as its cut-off, got {cutoff!r}")
    group = model.representation.group
    comparison = compare(model, split.test_images, elements_to_check(group, random_angles, seed))
    rotated = rotated_copies(group, split.test_images, seed)
    return DigitResult(
        group=repr(group),
        softness=cutoff.s,
        seed=model_seed,
        accuracy_upright=accuracy(model, split.test_images, split.test_labels),
        accuracy_rotated=sum(accuracy(model, x, split.test_labels) for x in rotated) / len(rotated),
        certified_max=float(comparison.certified.max()),
        measured_max=float(comparison.measured.max()),
        certified_relative=comparison.relative(comparison.certified),
        measured_relative=comparison.relative(comparison.measured),
        unchanged_predictions=float(comparison.unchanged.double().mean()),
        tightness=comparison.tightness,
        checks=comparison.checks,
        excess=comparison.excess,
        holds=comparison.holds,
        exact=comparison.exact,
        covered=comparison.covered,
    )
