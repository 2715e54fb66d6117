"""What the runs of spatial-VAE on MNIST say: the published ordering, in every setting, and the poses."""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from bench.experiments.comparing import deviation
from equikernels.models.engine.results import Budget, Cell, Result

PAGE_NAME = "spatial_vae_mnist"

MODELS = ("spatial", "fixed pose", "vanilla", "vanilla, 3 more numbers")
ORDER = MODELS[:3]
"""As published, the highest bound first."""

FIGURES: dict[str, tuple[str, tuple[str, ...]]] = {
    "manifolds": ("turned, shifted a little", ORDER),
    "reconstructions": ("turned, shifted a little", ("spatial",)),
    "interpolation": ("turned, shifted a little", ("spatial",)),
}
"""Which setting and models each figure shows."""

CAPTIONS = {
    "manifolds": "What each part of the plane of contents looks like, at pose zero, in cells of equal prior "
    "probability. Images turned and shifted a little, first seed.",
    "reconstructions": "Test images, what the spatial model makes of them, and the same at pose zero.",
    "interpolation": "From one test image to another: content and pose together, and content alone.",
}


@dataclass(frozen=True)
class Place:
    """Where a run belongs: the motions of its images, the numbers of content, the model."""

    setting: str
    z: int
    model: str

    def __str__(self) -> str:
        return f"{self.setting}, z = {self.z}: {self.model}"

    @classmethod
    def read(cls, row: str) -> Place:
        """The place whose text a row is.

        >>> Place.read("upright, z = 2: fixed pose")
        Place(setting='upright', z=2, model='fixed pose')
        """
        found = re.fullmatch(r"(.+), z = (\d+): (.+)", row)
        if found is None:
            raise ValueError(f"row: expected 'SETTING, z = NUMBER: MODEL', got {row!r}")
        return cls(found[1], int(found[2]), found[3])


def figure_name(budget: Budget, kind: str) -> str:
    return f"{PAGE_NAME}_{budget}_{kind}.png"


def findings(results: Mapping[Cell, Result]) -> str:
    """Verdicts on the published ordering, what else was measured, and the figures, as Markdown."""
    bounds: dict[Place, dict[int, float]] = {}
    numbers: dict[Place, list[Mapping[str, float]]] = {}
    for cell, result in results.items():
        place = Place.read(cell.row)
        bounds.setdefault(place, {})[cell.configuration.seed] = result.numbers["elbo"]
        numbers.setdefault(place, []).append(result.numbers)
    parts = ["### What the numbers say", "\n".join(ordering_rows(bounds)), largest_gap(bounds)]
    if outside := _outside(numbers):
        parts.append(outside)
    (budget,) = {result.budget for result in results.values()}
    if all(Place(setting, 2, model) in bounds for setting, models in FIGURES.values() for model in models):
        parts += [
            f"![{caption}](../figures/{figure_name(budget, kind)})\n\n*{caption}*"
            for kind, caption in CAPTIONS.items()
        ]
    return "\n\n".join(parts)


def ordering_rows(bounds: Mapping[Place, Mapping[int, float]]) -> list[str]:
    """A table of the gaps between neighbours in the published order, seed by seed, with verdicts.

    An order is confirmed where it holds in every seed that all three models have.
    """
    lines = [
        "Published: at the same number of contents the bound of spatial is above that of the fixed pose, and "
        "that above vanilla's. Gaps in nats per image are between runs with one seed, mean ± standard "
        "deviation over seeds; confirmed means in every seed.",
        "",
        "| | spatial - fixed pose | fixed pose - vanilla | spatial - vanilla, 3 more | published order |",
        "|---|---|---|---|---|",
    ]
    for setting, z in dict.fromkeys((place.setting, place.z) for place in bounds):
        spatial, fixed, vanilla, larger = (bounds.get(Place(setting, z, model), {}) for model in MODELS)
        upper, lower = gaps(spatial, fixed), gaps(fixed, vanilla)
        if not upper or not lower:
            verdict = "not run"
        else:
            verdict = "confirmed" if all(gap > 0 for gap in (*upper, *lower)) else "not confirmed"
        entries = (_spread(each) for each in (upper, lower, gaps(spatial, larger)))
        lines.append(f"| {setting}, z = {z} | " + " | ".join(entries) + f" | {verdict} |")
    return lines


def gaps(upper: Mapping[int, float], lower: Mapping[int, float]) -> list[float]:
    """upper - lower in every seed that both have.

    >>> gaps({0: 3.0, 1: 5.0}, {1: 4.0, 2: 0.0})
    [1.0]
    """
    return list(gaps_by_seed(upper, lower).values())


def gaps_by_seed(upper: Mapping[int, float], lower: Mapping[int, float]) -> dict[int, float]:
    """The same, by seeds."""
    return {seed: upper[seed] - lower[seed] for seed in sorted(upper.keys() & lower.keys())}


def largest_gap(bounds: Mapping[Place, Mapping[int, float]]) -> str:
    """Whether the gap of spatial to vanilla falls from the smallest to the largest number of contents.

    It is confirmed where it falls in every seed that has both numbers.
    """
    claim = "Published: the gap between spatial and vanilla is largest for few numbers of content."
    settings = list(dict.fromkeys(place.setting for place in bounds))
    verdicts = []
    for setting in settings:
        found = {}
        for z in sorted({place.z for place in bounds if place.setting == setting}):
            pair = (bounds.get(Place(setting, z, model), {}) for model in ("spatial", "vanilla"))
            if own := gaps_by_seed(*pair):
                found[z] = own
        if len(found) > 1:
            few, many = found[min(found)], found[max(found)]
            least, most = (statistics.fmean(own.values()) for own in (few, many))
            falls = gaps(few, many)
            verdict = "confirmed" if falls and all(fall > 0 for fall in falls) else "not confirmed"
            verdicts.append(
                f"{setting}: {verdict}, {least:.2f} nats at z = {min(found)}, {most:.2f} at z = {max(found)}"
            )
    if not verdicts:
        return f"{claim} Not measured here: all runs have the same number."
    return f"{claim} " + "; ".join(verdicts) + "."


def _outside(numbers: Mapping[Place, Iterable[Mapping[str, float]]]) -> str:
    shares = {
        place.setting: next(iter(own))["mostly_outside"]
        for place, own in numbers.items()
        if "mostly_outside" in next(iter(own))
    }
    if not shares:
        return ""
    said = ", ".join(f"{setting}: {share:.1%}" for setting, share in shares.items())
    return f"Test images with more than half of their ink outside the frame: {said}."


def _spread(values: list[float]) -> str:
    """Mean ± standard deviation; the mean alone of one value."""
    if not values:
        return "-"
    mean = f"{statistics.fmean(values):+.2f}"
    return mean if len(values) == 1 else f"{mean} ± {deviation(values):.2f}"
