"""A VAE tuned so that its images turn with its latents: before, after, and against further training.

``python -m bench.experiments.rotational_vae --budget cpu``, with EQUIKERNELS_DATA in the environment.
"""

from __future__ import annotations

import copy
import dataclasses
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional

from bench.experiments.rotational_vae_findings import CLASSES, LEVELS, ROWS, findings, has_all_rows
from equikernels.group import CyclicGroup, DihedralGroup
from equikernels.metrics import psnr
from equikernels.models.data.transforms import center_crop
from equikernels.models.engine import RunConfiguration, default_configuration
from equikernels.models.engine.processes import Processes
from equikernels.models.engine.results import (
    Cell,
    Column,
    Experiment,
    Finished,
    experiment_main,
)
from equikernels.models.engine.runs import Run, open_dataset, split_dataset
from equikernels.models.rotational_vae import RotationalVAE, symmetrise
from equikernels.models.rotational_vae.elements import element_name
from equikernels.models.rotational_vae.figures import element_errors, latent_turns
from equikernels.models.rotational_vae.measuring import turning_errors
from equikernels.models.rotational_vae.tasks import RotationalVAETask
from equikernels.project import soften

__all__ = ["Settings", "draw", "main", "make_experiment", "measure_run"]

SEEDS = (0, 1)
ALL = DihedralGroup(4)

INTRODUCTION = """\
Decoding a turned latent of a diffusion model's VAE gives no turned image. "Inducing Rotational Equivariance
in a Diffusion Model's VAE" trains it further on MSE(D(z), x) + MSE(D(rho(g) z), rho(g) x). This page compares
VAEs before and after, and with further training that never turns anything, on photographs that no training
has seen. Every number and every verdict is computed by the command.

- **Data, cpu.** 16 photographs of the Kodak image suite (r0k.us/graphics/kodak, released for unrestricted
  usage), as the folder `$EQUIKERNELS_DATA/photos/kodak`; the middle 512 x 512 pixels, not scaled. Four of
  them, chosen by `split_seed`, are kept from all training, and the middle 256 x 256 pixels of these are what
  everything is measured on. They choose nothing: the last epoch is taken.
- **Step A, cpu.** A small random AutoencoderKL of diffusers, which halves images once and keeps 4 numbers of
  every 12, learns to reconstruct windows of the other twelve ("untuned"). Means over 2 x 2 pixels, which turn
  by themselves, are told beside it: what a VAE has beyond them is what turning can spoil.
- **Step B, cpu.** Each of the other rows goes on from the run of its seed, with the same number of steps on
  the same windows: the paper's loss for half turns (dual, C_2), one decoding of a latent that is turned with
  probability 1/2 (implicit, C_4 and D_4), and reconstruction without turns, the control.
- **Data and training, full.** What the paper did: the VAE of Disty0/SoteMix, tuned with AdamW at 5e-5 in
  batches of 3 for 5 epochs on windows of 256 pixels of 1000 pictures, which
  `equikernels pictures Disty0/SoteMix --prompt 1girl --count 1000 --out $EQUIKERNELS_DATA/sotemix` makes.
  A fifth of them is kept for measuring.

The latent of an image x is the mode z of its posterior; the image back is rho(g)^-1 D(rho(g) z). PSNR and
SSIM compare it with x, with pixels from 0 to 1, cut to that range. The encoder's error is
|E(rho(g) x) - rho(g) E(x)| / |E(x)|, the decoder's |D(rho(g) z) - rho(g) D(z)| / |D(z)|. Quarter turns are
those by 90 and 270 degrees, flips are left-right ones followed by any of four turns."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """How large the table for a CPU is.

    Attributes:
        data, data_options, validation: as in a run's configuration.
        model: options of the task in every row.
        base_epochs, tuned_epochs: steps A and B.
        batch_size: photographs in a step.
        base_rate, tuned_rate: the largest learning rates of the two steps.
    """

    data: str = "$EQUIKERNELS_DATA/photos/kodak"
    data_options: tuple[str, ...] = ("size=512",)
    validation: float = 0.25
    model: Mapping[str, Any] = dataclasses.field(default_factory=lambda: dict(BASE_MODEL))
    base_epochs: int = 300
    tuned_epochs: int = 70
    batch_size: int = 2
    base_rate: float = 3e-3
    tuned_rate: float = 1e-3


BASE_MODEL: dict[str, Any] = {
    # Two halvings and 8 channels stayed at 21.6 dB for 1500 steps, where means of 4 x 4 pixels are too.
    "channels": (16, 32),
    "latent_channels": 4,
    "norm_groups": 4,
    "attention": False,
    "crop": 32,
    # Reading a photograph takes as long as a step: several windows of one are cheap.
    "windows": 4,
}

# What a row of step B differs in.
TUNED: dict[str, dict[str, Any]] = {
    ROWS.control: {"group": "C_2", "mode": "implicit", "probability": 0.0},
    ROWS.half: {"group": "C_2", "mode": "dual"},
    ROWS.quarter: {"group": "C_4", "mode": "implicit"},
    ROWS.flips: {"group": "D_4", "mode": "implicit"},
}


def make_experiment(settings: Settings = Settings()) -> Experiment:
    return Experiment(
        name="rotational_vae",
        title="VAEs whose images turn with their latents",
        introduction=INTRODUCTION,
        command="python -m bench.experiments.rotational_vae",
        cells={"cpu": _cpu_cells(settings), "full": _full_cells()},
        columns=[
            Column("PSNR, as it is (dB)", "psnr_as it is", ".2f"),
            *(Column(f"PSNR, {kind} (dB)", f"psnr_{kind}", ".2f") for kind in CLASSES if kind != "as it is"),
            Column("SSIM, as it is", "ssim_as it is", ".3f"),
            Column("SSIM, half turn", "ssim_half turn", ".3f"),
            Column("decoder's error, half turn", "decoder_half turn", ".3f"),
            Column("decoder's error, quarter turns", "decoder_quarter turns", ".3f"),
            Column("encoder's error, half turn", "encoder_half turn", ".3f"),
            Column("encoder's error, quarter turns", "encoder_quarter turns", ".3f"),
        ],
        measure=measure_run,
        findings=findings,
        figures=draw,
    )


# -- runs ----------------------------------------------------------------------------------------------------


def _cpu_cells(settings: Settings) -> list[Cell]:
    cells = []
    for seed in SEEDS:
        step_a = {"group": "C_2", "mode": "implicit", "probability": 0.0}
        base = Cell(ROWS.untuned, _cpu_run(settings, seed, step_a, settings.base_epochs, settings.base_rate))
        cells.append(base)
        for row, options in TUNED.items():
            run = _cpu_run(settings, seed, options, settings.tuned_epochs, settings.tuned_rate)
            cells.append(Cell(row, run, after=base))
    return cells


def _cpu_run(
    settings: Settings, seed: int, options: Mapping[str, Any], epochs: int, rate: float
) -> RunConfiguration[Any]:
    default = default_configuration(RotationalVAETask.name)
    return dataclasses.replace(
        default,
        model=dataclasses.replace(default.model, **settings.model, **options),
        data=settings.data,
        data_options=settings.data_options,
        validation=settings.validation,
        seed=seed,
        training=dataclasses.replace(
            default.training,
            epochs=epochs,
            batch_size=settings.batch_size,
            # Once, at the end: the photographs of the test choose no epoch.
            validate_epochs=epochs,
            device="cpu",
        ),
        optimizer=dataclasses.replace(
            default.optimizer, learning_rate=rate, schedule="cosine", warmup_steps=20
        ),
    )


def _full_cells() -> list[Cell]:
    """The paper's recipe; the VAE as it is goes through a run with a learning rate of 0."""
    default = default_configuration(RotationalVAETask.name)
    cells = []
    for seed in SEEDS:
        for row, options in {ROWS.untuned: {}, **TUNED}.items():
            rate, epochs = (0.0, 1) if row == ROWS.untuned else (5e-5, 5)
            configuration = dataclasses.replace(
                default,
                model=dataclasses.replace(default.model, vae="Disty0/SoteMix/vae", crop=256, **options),
                data="$EQUIKERNELS_DATA/sotemix",
                data_options=("size=256",),
                seed=seed,
                training=dataclasses.replace(
                    default.training, epochs=epochs, batch_size=3, validate_epochs=epochs
                ),
                optimizer=dataclasses.replace(default.optimizer, learning_rate=rate, weight_decay=0.01),
            )
            cells.append(Cell(row, configuration))
    return cells


# -- measuring -----------------------------------------------------------------------------------------------


def measure_run(run: Run) -> dict[str, float]:
    """Means over the photographs that were kept from training: of every element of D_4, of their classes, and
    of the network made strictly and softly equivariant where it is a small one that has not been tuned."""
    model, images = _trained(run)
    elements = ALL.elements()
    totals: dict[str, Tensor] = {}
    for image in images.split(1):
        x = 2 * image - 1
        errors = turning_errors(model.encode, model.decode, ALL.act, ALL, x, elements.to(x.device))
        for name, values in errors.items():
            totals[name] = totals.get(name, torch.zeros(len(elements))) + values.sum(1)
    numbers: dict[str, float] = {}
    for name, total in totals.items():
        means = {element_name(ALL, g): float(v) / len(images) for g, v in zip(elements, total, strict=True)}
        numbers |= {f"{name}_{element}": value for element, value in means.items()}
        for kind, members in CLASSES.items():
            numbers[f"{name}_{kind}"] = sum(means[element] for element in members) / len(members)
    numbers["psnr_block means"] = float(psnr(_block_means(images, model.factor), images))
    if run.configuration.model.vae is None and run.configuration.training.initial is None:
        numbers |= _softened(model, images)
    return numbers


def _block_means(images: Tensor, side: int) -> Tensor:
    """Every pixel replaced by the mean of its block of side x side: a simple latent that turns exactly."""
    return functional.avg_pool2d(images, side).repeat_interleave(side, -1).repeat_interleave(side, -2)


def _trained(run: Run) -> tuple[RotationalVAE, Tensor]:
    """The model of a run, and the photographs that were kept from its training: pixels from 0 to 1."""
    dataset = open_dataset(run.configuration)
    kept = split_dataset(dataset, run.configuration)[1]
    images = kept.fetch(torch.arange(len(kept)))["image"]
    device = Processes(run.configuration.training.device).device
    model = run.load_model(dataset, device=device)
    assert isinstance(model, RotationalVAE)
    return model, center_crop(images, min(256, *images.shape[-2:])).to(device)


def _softened(model: RotationalVAE, images: Tensor) -> dict[str, float]:
    """The VAE with symmetric down-sampling and softened for C_4, without training, in float64."""
    group = CyclicGroup(4)
    x = 2 * center_crop(images, min(64, *images.shape[-2:])).double() - 1
    numbers: dict[str, float] = {}
    for level in LEVELS:
        vae = copy.deepcopy(model.vae).double()
        symmetrise(vae)
        soften(vae, group, softness=level)
        soft = RotationalVAE(vae, group).eval()
        errors = soft.errors(x, [0, 1, 2, 3])
        numbers |= {
            f"softness {level:g} psnr": float(errors["psnr"][0].mean()),
            f"softness {level:g} encoder": float(errors["encoder"].max()),
            f"softness {level:g} decoder": float(errors["decoder"].max()),
        }
    return numbers


# -- figures -------------------------------------------------------------------------------------------------


def draw(finished: Finished) -> dict[str, Figure]:
    """The figures of the table for a CPU, if no row of it failed: from its numbers and its first runs."""
    if finished.budget != "cpu" or not has_all_rows(finished.results):
        return {}
    values: dict[str, dict[str, list[float]]] = {}
    for cell, result in finished.results.items():
        for g in ALL.elements():
            name = element_name(ALL, g)
            found = values.setdefault(cell.row, {}).setdefault(name, [])
            found.append(result.numbers[f"psnr_{name}"])
    first = finished.first()
    models: dict[str, RotationalVAE] = {}
    for label, row in (("untuned", ROWS.untuned), ("tuned, $C_2$", ROWS.half)):
        models[label], images = _trained(finished.run(first[row]))
    shown = center_crop(images, min(96, *images.shape[-2:]))[:2]
    return {
        "errors": element_errors(values, "PSNR turned back (dB)"),
        "turns": latent_turns(models, shown, 1),
    }


def main(arguments: Sequence[str] | None = None, root: Path = Path(), settings: Settings = Settings()) -> int:
    return experiment_main(lambda: make_experiment(settings), arguments, root)


if __name__ == "__main__":
    sys.exit(main())
