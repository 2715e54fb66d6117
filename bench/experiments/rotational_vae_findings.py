"""What the table of tuned VAEs shows: factors, costs and verdicts on what was published."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from bench.experiments.comparing import largest
from equikernels.models.engine.results import Cell, Result

__all__ = ["CLASSES", "LEVELS", "ROWS", "findings", "has_all_rows"]

CLASSES: dict[str, tuple[str, ...]] = {
    "as it is": ("0",),
    "half turn": ("180",),
    "quarter turns": ("90", "270"),
    "flips": ("0flip", "90flip", "180flip", "270flip"),
}
"""Kinds of elements of D_4, and their names."""

LEVELS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Softness of the VAE that is not trained for it."""

REACHED = 24.0
"""Decibels of PSNR that step A was to reach."""
SCRAMBLED = 2.0
"""An image whose squared error has not even doubled is not scrambled."""


@dataclass(frozen=True)
class Rows:
    """The names of the rows."""

    untuned: str = "untuned"
    control: str = "further training, no turns"
    half: str = "C_2, dual (the paper)"
    quarter: str = "C_4, implicit"
    flips: str = "D_4, implicit"


ROWS = Rows()

# The kinds of elements that a row was trained to turn by, and the others.
TRAINED: dict[str, tuple[str, ...]] = {
    ROWS.half: ("half turn",),
    ROWS.quarter: ("half turn", "quarter turns"),
    ROWS.flips: ("half turn", "quarter turns", "flips"),
}

Numbers = dict[str, dict[int, Mapping[str, float]]]
"""The numbers of every row and seed."""


def findings(results: Mapping[Cell, Result]) -> str:
    """Markdown from the finished cells of one budget; what needs a row that is not there yet is left out."""
    numbers: Numbers = {}
    for cell, result in results.items():
        numbers.setdefault(cell.row, {})[cell.configuration.seed] = result.numbers
    parts = ["### Findings", "\n".join(f"- {line}" for line in _lines(numbers))]
    if _has_all(numbers):
        parts.append(_factors(numbers))
    softened = _softened(numbers)
    if softened:
        parts.append(softened)
    if _has_all(numbers) and softened:
        parts.append(
            "![PSNR of the image back for every element and row](../figures/rotational_vae_errors.png)\n\n"
            "![Photographs, reconstructions and turned latents](../figures/rotational_vae_turns.png)"
        )
    parts += ["### Every element", _elements(numbers)]
    return "\n\n".join(parts)


def has_all_rows(results: Mapping[Cell, Result]) -> bool:
    return {cell.row for cell in results} >= {*TRAINED, ROWS.untuned, ROWS.control}


# -- verdicts ------------------------------------------------------------------------------------------------


def _has_all(numbers: Numbers) -> bool:
    return all(_seeds(numbers, row) for row in (ROWS.untuned, ROWS.control, *TRAINED))


def _seeds(numbers: Numbers, *rows: str) -> list[int]:
    """The seeds that all of these rows have."""
    common = set.intersection(*(set(numbers.get(row, {})) for row in rows))
    return sorted(common)


def _lines(numbers: Numbers) -> list[str]:
    lines = []
    seeds = _seeds(numbers, ROWS.untuned)
    if seeds:
        upright = [numbers[ROWS.untuned][seed]["psnr_as it is"] for seed in seeds]
        verdict = "reached" if all(psnr >= REACHED for psnr in upright) else "not reached"
        lines.append(
            f"The untuned VAE reconstructs photographs it has not seen at {_range(upright, '.2f')} dB "
            f"({REACHED:g} dB: {verdict}); means over the pixels of a latent are at "
            f"{numbers[ROWS.untuned][seeds[0]]['psnr_block means']:.2f} dB."
        )
        ratios = [
            numbers[ROWS.untuned][s]["round_trip_mse_unit_half turn"]
            / numbers[ROWS.untuned][s]["round_trip_mse_unit_as it is"]
            for s in seeds
        ]
        lines.append(
            "Published: untuned, turned latents decode to scrambled images, for which the mean squared error "
            f"would have to grow {SCRAMBLED:g}-fold at the least. Here a half turn of the latent multiplies "
            f"it by {_range(ratios, '.2f')}: {_verdict(ratios, lambda ratio: ratio >= SCRAMBLED)}. That it "
            f"grows at all: {_verdict(ratios, lambda ratio: ratio > 1)}."
        )
    for row, kinds in TRAINED.items():
        seeds = _seeds(numbers, row, ROWS.control)
        if seeds:
            lines += _row_lines(numbers, row, kinds, seeds)
    lines.append(
        "Published: round-trip mean squared error 0.0023 on one image, of a large diffusion model's VAE; "
        "EQ-VAE: rFID 0.82, PSNR 25.95 on ImageNet. Not comparable: other VAEs and other images."
    )
    return lines


def _row_lines(numbers: Numbers, row: str, kinds: Sequence[str], seeds: Sequence[int]) -> list[str]:
    gains = {kind: _gains(numbers, row, ROWS.control, kind, seeds) for kind in kinds}
    lines = []
    for kind, values in gains.items():
        claim = "Published: training makes decoding commute with turns. " if row == ROWS.half else ""
        lines.append(
            f"{claim}{row}: against the control, the error after {_the(kind)} falls by a factor of "
            f"{_range(values, '.2f')}: {_verdict(values, lambda factor: factor > 1)}."
        )
    cost = [
        numbers[row][seed]["psnr_as it is"] - numbers[ROWS.control][seed]["psnr_as it is"] for seed in seeds
    ]
    lines.append(f"{row}: upright, PSNR differs from the control's by {_range(cost, '+.2f')} dB.")
    return lines


def _gains(numbers: Numbers, row: str, other: str, kind: str, seeds: Sequence[int]) -> list[float]:
    """The error of another row over that of a row, each seed against its own."""
    key = f"round_trip_mse_unit_{kind}"
    return [numbers[other][seed][key] / numbers[row][seed][key] for seed in seeds]


def _the(kind: str) -> str:
    return "a half turn" if kind == "half turn" else kind


def _verdict(values: Sequence[float], holds: Callable[[float], bool]) -> str:
    """Confirmed or not, where all repetitions agree."""
    held = [holds(value) for value in values]
    if all(held):
        return "**confirmed**" + ("" if len(held) > 1 else ", in one run")
    return "**not confirmed**" if not any(held) else "**not confirmed**, the runs disagree"


def _range(values: Sequence[float], form: str) -> str:
    """The mean, and the lowest and the highest where there are several."""
    mean = format(statistics.fmean(values), form)
    if len(values) == 1:
        return mean
    return f"{mean} ({format(min(values), form)} to {format(max(values), form)})"


# -- tables --------------------------------------------------------------------------------------------------


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *lines])


def _factors(numbers: Numbers) -> str:
    """By what the error falls, for the elements trained by and for others."""
    lines = []
    for row, trained in TRAINED.items():
        for other in (ROWS.untuned, ROWS.control):
            seeds = _seeds(numbers, row, other)
            line = [row, other]
            for kind in CLASSES:
                values = _gains(numbers, row, other, kind, seeds) if seeds else []
                text = _range(values, ".2f") if values else "-"
                line.append(f"**{text}**" if kind in trained else text)
            lines.append(line)
    text = (
        "Factors by which tuning lowers the squared error of the image back (below 1 it grows): means and "
        "ranges over seeds. Bold: elements of the group it was tuned for; the others come for nothing."
    )
    return f"{text}\n\n{_table(['tuned', 'against', *CLASSES], lines)}"


def _softened(numbers: Numbers) -> str:
    """What softening without training does; empty where it was not measured."""
    own = [found for found in numbers.get(ROWS.untuned, {}).values() if "softness 0 psnr" in found]
    if not own:
        return ""
    lines = []
    for level in LEVELS:
        entries = {
            name: [found[f"softness {level:g} {name}"] for found in own]
            for name in ("encoder", "decoder", "psnr")
        }
        lines.append(
            [
                f"{level:g}",
                _range(entries["encoder"], ".2g"),
                _range(entries["decoder"], ".2g"),
                _range(entries["psnr"], ".2f"),
            ]
        )
    worst = largest(found[f"softness 0 {name}"] for found in own for name in ("encoder", "decoder"))
    exact = "equivariant to rounding" if worst < 1e-10 else "NOT equivariant to rounding"
    text = (
        "`soften(vae, CyclicGroup(4), softness=s)` after `symmetrise(vae)`, on the untuned VAE in float64, "
        "without any training: the largest error over the elements of C_4 and the photographs. At softness 0 "
        f"it is {exact} ({worst:.1g}). Its weights were learned for other layers, so its pictures suffer: "
        "it is a start for training, not a substitute."
    )
    head = ["softness", "encoder's error", "decoder's error", "PSNR, as it is (dB)"]
    return f"### Exact by construction\n\n{text}\n\n{_table(head, lines)}"


def _elements(numbers: Numbers) -> str:
    """All numbers of every element: means over seeds."""
    names = {
        "round_trip_mse": ("MSE, [-1, 1]", ".5f"),
        "round_trip_mse_unit": ("MSE, [0, 1]", ".5f"),
        "psnr": ("PSNR (dB)", ".2f"),
        "ssim": ("SSIM", ".3f"),
        "encoder": ("encoder's error", ".3f"),
        "decoder": ("decoder's error", ".3f"),
    }
    lines = []
    for row, found in numbers.items():
        for element in (element for members in CLASSES.values() for element in members):
            line = [row, element]
            for name, (_, form) in names.items():
                values = [own.get(f"{name}_{element}", math.nan) for own in found.values()]
                line.append(format(statistics.fmean(values), form))
            lines.append(line)
    text = "Degrees counter-clockwise, flips first; means over seeds. MSE, PSNR, SSIM: of the image back."
    return f"{text}\n\n{_table(['', 'element', *(head for head, _ in names.values())], lines)}"
