"""The cells of the trade-off of softness: one training each, measured, certified, kept as one JSON line."""

from __future__ import annotations

import copy
import json
import math
import platform
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from equikernels.group import SO2, CyclicGroup, Group, pixel_grid
from equikernels.models.soft_equivariance.certified_error import SLACK, measured_errors
from equikernels.models.soft_equivariance.digits import (
    SIZE,
    DigitSplit,
    InvariantClassifier,
    accuracy,
    load_split,
    rotated_copies,
    train_classifier,
)
from equikernels.ops import rotate
from equikernels.project import Cutoff, Hard, Smooth, Softness
from equikernels.project.projector import constraint_spectrum
from equikernels.project.spectrum import Spectrum

# -- levels --------------------------------------------------------------------------------------------------

RADII: dict[Group, float] = {CyclicGroup(4): 1.0, SO2(): math.radians(30)}
"""The groups, and the size of the turns that bounds are given for: letters of C_4, radians of SO(2)."""

KNOBS: dict[str, Callable[[float], Cutoff]] = {
    "s": Softness,
    "b": Hard,
    "tau": lambda width: Smooth(0.0, width),
}
"""What makes a cut-off of a level. The fixed cut-off 0 of tau gives the response exp(-sigma / tau)."""

SOFTNESSES = (0.0, 1 / 32, 1 / 16, *(k / 8 for k in range(1, 9)))
WIDTHS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, math.inf)


def hard_levels(spectrum: Spectrum) -> tuple[float, ...]:
    """One cut-off in every gap between clusters of singular values, and infinity: all that Hard can do."""
    gaps = (spectrum.values[:-1] + spectrum.values[1:]) / 2
    return (*gaps.tolist(), math.inf)


def levels(group: Group) -> dict[str, tuple[float, ...]]:
    """The values of each knob, ascending: each from the strictest that is tried to no constraint at all."""
    spectrum = constraint_spectrum(pixel_grid(SIZE, group))
    return {"s": SOFTNESSES, "b": hard_levels(spectrum), "tau": WIDTHS}


@dataclass(frozen=True)
class Cell:
    """One training. Equal seeds have equal images, raw initial weights and order of images."""

    group: Group
    knob: str
    level: float
    seed: int
    epochs: int = 40
    hidden: int = 128
    test_images: int = 400

    @property
    def cutoff(self) -> Cutoff:
        return KNOBS[self.knob](self.level)

    @property
    def name(self) -> str:
        """What tells a cell from every other, and from the same one under other versions."""
        conditions = f"epochs={self.epochs}, hidden={self.hidden}, test_images={self.test_images}"
        versions = f"Python {platform.python_version()}, torch {torch.__version__}"
        return f"{self.group!r}, {self.cutoff!r}, seed={self.seed}, {conditions}, {versions}"


def all_cells(seeds: Iterable[int]) -> list[Cell]:
    """Every level of every knob for every group, seed by seed."""
    table = {group: levels(group) for group in RADII}
    return [
        Cell(group, knob, level, seed)
        for seed in seeds
        for group, knobs in table.items()
        for knob, values in knobs.items()
        for level in values
    ]


# -- one cell ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Result:
    """What is measured and guaranteed of one trained network.

    Attributes:
        dimension: free directions of a filter, the sum of the responses, of 64.
        upright, near, turned: accuracies in [0, 1] on test images as they are, turned within the radius, and
            turned by any element.
        commonest: the share of images turned within the radius that get the commonest answer.
        prior: max over sigma of f(sigma) times the error of that part within the radius: known before
            training, relative to |P(W)| where P is a projection, else to the raw |W|.
        certified_layer, measured_layer: |P(W) rho(g) - P(W)|_F / |P(W)|_F: certified for every g within the
            radius, and the largest of the sampled ones.
        certified_network, measured_network: the change of the logits relative to their length, for the median
            test image: certified for every g within the radius, and in the worst of the sampled ones.
        vouched: the share of test images whose predicted digit provably stays for every g within the
            radius: a change of the logits of length e moves two of them apart by at most sqrt(2) e.
        worst_ratio: the largest measured / certified change of the logits over images and elements, 0 where
            both are zero up to rounding.
        holds: whether measured <= certified, for the layer and for every image and element, and
            posterior <= prior, up to rounding.
    """

    dimension: float
    upright: float
    near: float
    turned: float
    commonest: float
    prior: float
    certified_layer: float
    measured_layer: float
    certified_network: float
    measured_network: float
    vouched: float
    worst_ratio: float
    holds: bool
    seconds: float


MEASURES = tuple(name for name in Result.__dataclass_fields__ if name not in ("holds", "seconds"))


def near_elements(group: Group, seed: int, count: int = 18) -> Tensor:
    """Elements within the radius of the group: every one of C_4; of SO(2) both ends, then random ones."""
    if group.order is not None:
        elements = group.elements()
        return elements[group.length(elements) <= RADII[group]]
    generator = torch.Generator().manual_seed(seed)
    shares = torch.cat([torch.tensor([-1.0, 1.0]), 2 * torch.rand(count, generator=generator) - 1])
    return shares.double() * RADII[group]


def near_copies(group: Group, images: Tensor, seed: int) -> Tensor:
    """Images (count, 64) turned within the radius, (copies, count, 64).

    C_4: by its exact turns of one letter, 90 and 270 degrees. SO(2): three copies, every image turned by its
    own uniformly random angle with bilinear interpolation, which is not the action that bounds speak of.
    """
    if group == CyclicGroup(4):
        return rotated_copies(group, images)[[0, 2]]
    generator = torch.Generator().manual_seed(seed)
    angles = (2 * torch.rand(3, len(images), generator=generator) - 1) * RADII[group]
    squares = images.reshape(-1, 1, SIZE, SIZE)
    return torch.stack([rotate(squares, angle).reshape(images.shape) for angle in angles])


def commonest_share(model: InvariantClassifier, copies: Tensor) -> float:
    """The share of images (copies, count, 64) that get the answer given most often, 1 where all do."""
    with torch.no_grad():
        answers = model(copies).argmax(-1)
    return float(torch.bincount(answers.flatten()).max()) / answers.numel()


def mean_accuracy(model: InvariantClassifier, copies: Tensor, labels: Tensor) -> float:
    return sum(accuracy(model, images, labels) for images in copies) / len(copies)


def measure(model: InvariantClassifier, split: DigitSplit, seed: int, seconds: float = 0.0) -> Result:
    """Accuracies, bounds and errors of a trained model; `seed` draws the turns."""
    group = model.representation.group
    images, labels = split.test_images, split.test_labels
    near, elements = near_copies(group, images, seed), near_elements(group, seed)
    certificate = model.first.certificate()
    raw_norm = float(model.first.weight.detach().double().norm())

    posterior = float(certificate.bound(radius=RADII[group]))
    prior = float(certificate.bound(radius=RADII[group], kind="prior"))
    layer_errors = torch.as_tensor(certificate.error(elements))

    outer = float(torch.linalg.matrix_norm(model.second.weight.detach().double(), ord=2))
    gain = outer * float(certificate.bound(radius=RADII[group], norm="operator"))
    certified = gain * images.double().norm(dim=-1)
    errors, _ = measured_errors(model, images, elements)
    with torch.no_grad():
        logits = copy.deepcopy(model).double()(images.double())
    lengths, highest = logits.norm(dim=-1), logits.topk(2).values
    margins = highest[:, 0] - highest[:, 1]
    worst = errors.amax(0)
    layer_holds = float(layer_errors.max()) <= posterior + SLACK and posterior <= prior + SLACK
    return Result(
        dimension=float(model.first.projector.dimension),
        upright=accuracy(model, images, labels),
        near=mean_accuracy(model, near, labels),
        turned=mean_accuracy(model, rotated_copies(group, images, seed), labels),
        commonest=commonest_share(model, near),
        prior=prior / (certificate.norm if model.first.projector.is_projection else raw_norm),
        certified_layer=posterior / certificate.norm,
        measured_layer=float(layer_errors.max()) / certificate.norm,
        certified_network=float((certified / lengths).median()),
        measured_network=float((worst / lengths).median()),
        vouched=float((margins > math.sqrt(2) * certified).double().mean()),
        worst_ratio=float((worst / certified).max()) if float(certified.max()) > SLACK else 0.0,
        holds=layer_holds and bool((worst <= certified + SLACK).all()),
        seconds=seconds,
    )


def train_and_measure(cell: Cell) -> Result:
    begun = time.perf_counter()
    split = load_split(cell.seed, cell.test_images)
    model = InvariantClassifier(cell.group, cell.cutoff, cell.hidden, cell.seed)
    train_classifier(model, split.train_images, split.train_labels, epochs=cell.epochs, seed=cell.seed)
    return measure(model, split, cell.seed, time.perf_counter() - begun)


# -- keeping them --------------------------------------------------------------------------------------------


def kept_results(path: Path) -> dict[str, Result]:
    """The results in a file of JSON lines, by the names of their cells; none where there is no file.

    An interrupted run can leave a last line without its end. That line is cut off the file, so that the cell
    is done again; any other line that is no result raises ValueError.
    """
    if not path.exists():
        return {}
    text = path.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        path.write_text(whole, encoding="utf-8")
    found = {}
    for number, line in enumerate(whole.splitlines(), 1):
        try:
            content = json.loads(line)
            found[content["cell"]] = Result(**content["result"])
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path.name}, line {number} is no result: {error}; delete the file") from error
    return found


def complete(
    cells: Iterable[Cell],
    path: Path,
    train: Callable[[Cell], Result] = train_and_measure,
    report: Callable[[Cell, Result], None] = lambda cell, result: None,
) -> dict[Cell, Result]:
    """The result of every cell: read where the file holds it, else trained and added to the file at once."""
    kept = kept_results(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    results = {}
    for cell in cells:
        if cell.name not in kept:
            kept[cell.name] = train(cell)
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"cell": cell.name, "result": asdict(kept[cell.name])}) + "\n")
            report(cell, kept[cell.name])
        results[cell] = kept[cell.name]
    return results
