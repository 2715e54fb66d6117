"""The contrast transfer function against a statement pixel by pixel, and a model that sees through it."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from equikernels.models.data import load_dataset
from equikernels.models.engine import Batches, ConfigurationError
from equikernels.models.spatial_vae.ctf import ContrastTransfer, apply_transfer, electron_wavelength
from equikernels.models.spatial_vae.tasks import SpatialVAEOptions, SpatialVAETask
from tests.models.spatial_vae.samples import normal, pictures, small

Array = NDArray[np.float64]

# Two images, in RELION's units.
STAR: dict[str, list[float]] = {
    "rlnDefocusU": [15300.0, 9000.0],
    "rlnDefocusV": [14100.0, 11000.0],
    "rlnDefocusAngle": [25.0, -70.0],
    "rlnVoltage": [300.0, 200.0],
    "rlnSphericalAberration": [2.7, 0.01],
    "rlnAmplitudeContrast": [0.07, 0.1],
    "rlnPhaseShift": [0.0, 40.0],
    "rlnCtfBfactor": [0.0, 60.0],
    "rlnImagePixelSize": [1.3, 4.0],
}


def star(**changes: list[float] | None) -> dict[str, Tensor]:
    columns = {**STAR, **changes}
    return {name: torch.tensor(v, dtype=torch.float64) for name, v in columns.items() if v is not None}


# -- independent statement -----------------------------------------------------------------------------------


def contrast(n: int, right: float, down: float) -> float:
    """Of image n at a frequency in cycles per pixel."""
    of = {name: values[n] for name, values in STAR.items()}
    pixel, volts = of["rlnImagePixelSize"], of["rlnVoltage"] * 1000
    s = math.hypot(right, down) / pixel
    wavelength = 12.2639 / math.sqrt(volts + 0.97845e-6 * volts**2)
    alpha, alpha_0 = math.atan2(down, right), math.radians(of["rlnDefocusAngle"])
    u, v = of["rlnDefocusU"], of["rlnDefocusV"]
    # Along alpha_0 it is u, across it v.
    defocus = u * math.cos(alpha - alpha_0) ** 2 + v * math.sin(alpha - alpha_0) ** 2
    cs = of["rlnSphericalAberration"] * 1e7
    gamma = 2 * math.pi * (-defocus * wavelength * s**2 / 2 + cs * wavelength**3 * s**4 / 4)
    gamma -= math.radians(of["rlnPhaseShift"])
    w = of["rlnAmplitudeContrast"]
    value = math.sqrt(1 - w**2) * math.sin(gamma) - w * math.cos(gamma)
    return value * math.exp(-of["rlnCtfBfactor"] * s**2 / 4)


def all_frequencies(n: int, height: int, width: int) -> Array:
    """As np.fft.fft2 orders them."""
    downs, rights = np.fft.fftfreq(height), np.fft.fftfreq(width)
    return np.array([[contrast(n, right, down) for right in rights] for down in downs])


# -- the function --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(6, 9), (8, 6), (7, 7)])
def test_against_the_formula_frequency_by_frequency(size: tuple[int, int]) -> None:
    found = ContrastTransfer.from_star(star())(*size).numpy()
    columns = (size[1] + 1) // 2  # without the highest of an even width, whose sign is the other
    for n in range(2):
        expected = all_frequencies(n, *size)
        np.testing.assert_allclose(found[n, :, :columns], expected[:, :columns], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("size", [(7, 9), (9, 5)])
def test_images_against_the_whole_transform(size: tuple[int, int]) -> None:
    """Odd sizes: the highest frequency of an even one has two directions, and half a transform takes one."""
    images = normal(2, 1, *size)
    seen = apply_transfer(images, ContrastTransfer.from_star(star())(*size)).numpy()
    for n in range(2):
        spectrum = np.fft.fft2(images[n, 0].numpy()) * all_frequencies(n, *size)
        np.testing.assert_allclose(seen[n, 0], np.fft.ifft2(spectrum).real, rtol=1e-10, atol=1e-12)


def test_wavelengths_of_the_usual_voltages() -> None:
    """In picometres, as tables of electron microscopy list them."""
    volts = torch.tensor([100e3, 200e3, 300e3], dtype=torch.float64)
    assert (100 * electron_wavelength(volts)).tolist() == pytest.approx([3.701, 2.508, 1.969], abs=1e-3)


def isotropic(**changes: float) -> ContrastTransfer:
    values = {
        "defocus_u": 12e3, "defocus_v": 12e3, "angle": 0.0, "voltage": 300e3, "aberration": 0.0,
        "amplitude_contrast": 0.0, "phase_shift": 0.0, "b_factor": 0.0, "pixel_size": 1.0, **changes,
    }  # fmt: skip
    return ContrastTransfer(**{k: torch.tensor([v], dtype=torch.float64) for k, v in values.items()})


def test_zeros_lie_where_waves_are_whole() -> None:
    """Without aberration and amplitude contrast the n-th zero is at s = sqrt(n / (df lambda))."""
    wavelength = float(electron_wavelength(torch.tensor(300e3, dtype=torch.float64)))
    size = 64
    for n in (1, 2, 3):
        # The pixel that puts the zero at 20 of 64 cycles.
        pixel = 20 / size / math.sqrt(n / (12e3 * wavelength))
        row = isotropic(pixel_size=pixel)(size, size)[0, 0]
        assert abs(float(row[20])) < 1e-9
        assert float(row[19]) * float(row[21]) < 0
        before = (row[1:20].sign().diff() != 0).sum()
        assert int(before) == n - 1
    # Underfocus: at first the particle is darker.
    assert float(isotropic()(size, size)[0, 0, 1]) < 0


def test_amplitude_contrast_and_phase_plates_at_zero() -> None:
    assert float(isotropic(amplitude_contrast=0.1)(4, 4)[0, 0, 0]) == pytest.approx(-0.1)
    assert float(isotropic(phase_shift=math.pi / 2)(4, 4)[0, 0, 0]) == pytest.approx(-1.0)


def test_equal_defoci_have_no_direction() -> None:
    for angle in (0.0, 0.7):
        found = isotropic(angle=angle)(8, 8)[0]
        # The same distance from zero along and down, along the diagonals and by any quarter turn.
        assert torch.equal(found[1:4, 0], found[0, 1:4])
        torch.testing.assert_close(found[1:4, 2], found.flip(0)[:3, 2])
    with_angle = isotropic(defocus_v=9e3, angle=0.7)(8, 8)[0]
    assert not torch.allclose(with_angle[1:4, 2], with_angle.flip(0)[:3, 2])


def test_defocus_angle_runs_from_the_columns_downwards() -> None:
    """u along the diagonal to the right and down, v along the other."""
    found = isotropic(defocus_u=14e3, defocus_v=8e3, angle=math.pi / 4)(16, 16)[0]
    u, v = (isotropic(defocus_u=d, defocus_v=d)(16, 16)[0] for d in (14e3, 8e3))
    assert float(found[3, 3]) == pytest.approx(float(u[3, 3]))
    assert float(found[-3, 3]) == pytest.approx(float(v[-3, 3]))


def test_gradients() -> None:
    images = normal(2, 1, 4, 5).requires_grad_()
    transfer = ContrastTransfer.from_star(star())(4, 5).requires_grad_()
    assert torch.autograd.gradcheck(apply_transfer, (images, transfer))
    columns = tuple(v.clone().requires_grad_() for v in star(rlnDefocusU=[0.3, 0.4]).values())

    def through(*values: Tensor) -> Tensor:
        return ContrastTransfer.from_star(dict(zip(STAR, values, strict=True)))(3, 4)

    assert torch.autograd.gradcheck(through, columns)


# -- columns -------------------------------------------------------------------------------------------------


def test_columns_that_may_be_absent() -> None:
    with_zeros = ContrastTransfer.from_star(star(rlnPhaseShift=[0.0, 0.0], rlnCtfBfactor=[0.0, 0.0]))
    without = ContrastTransfer.from_star(star(rlnPhaseShift=None, rlnCtfBfactor=None))
    assert torch.equal(with_zeros(6, 6), without(6, 6))


def test_pixel_sizes() -> None:
    old = star(rlnImagePixelSize=None, rlnDetectorPixelSize=[5.0, 5.0], rlnMagnification=[38168.0, 25000.0])
    assert ContrastTransfer.from_star(old).pixel_size.tolist() == pytest.approx([1.31, 2.0], abs=1e-4)
    assert ContrastTransfer.from_star(old, 3.0).pixel_size.tolist() == [3.0, 3.0]
    assert ContrastTransfer.from_star(star(), 3.0).pixel_size.tolist() == [3.0, 3.0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rlnDefocusV": None, "rlnVoltage": None}, "got no rlnDefocusV, rlnVoltage"),
        ({"rlnImagePixelSize": None}, "a column rlnImagePixelSize, or rlnDetectorPixelSize and"),
        ({"rlnVoltage": [300.0, 0.0]}, "expected numbers > 0 for rlnVoltage, got 0"),
        ({"rlnImagePixelSize": [-1.5, 1.0]}, "expected numbers > 0 for the pixel size, got -1.5"),
        ({"rlnAmplitudeContrast": [0.1, 7.0]}, "expected 0 to 1 for rlnAmplitudeContrast, got 7"),
    ],
)
def test_wrong_columns(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^ctf: .*{message}"):
        ContrastTransfer.from_star(star(**changes))


def test_a_transfer_function_of_another_size() -> None:
    with pytest.raises(ValueError, match=r"transfer: expected shape \(2, 4, 3\), got \(2, 4, 4\)"):
        apply_transfer(normal(2, 1, 4, 5), normal(2, 4, 4))


# -- the model -----------------------------------------------------------------------------------------------

GAUSSIAN = ("gaussian", "gaussian_learned_variance")


@pytest.mark.parametrize("likelihood", GAUSSIAN)
@pytest.mark.parametrize("options", [{}, {"mask": "disc", "softplus": True}])
def test_a_transfer_of_one_changes_nothing(likelihood: str, options: dict[str, Any]) -> None:
    for pose in ({}, {"rotation": False, "translation": False, "decoder": "plain"}):
        model = small(8, likelihood=likelihood, **options, **pose)
        x = pictures(3)
        noise = normal(3, model.pose_dim + model.latent_dim)
        one = torch.ones(3, 8, 5, dtype=torch.float64)
        plain, through = model.loss(x, noise), model.loss(x, noise, transfer=one)
        torch.testing.assert_close(through["loss"], plain["loss"], rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(through["kl_z"], plain["kl_z"])


def test_means_alone_are_seen_through_it() -> None:
    """Written out: residuals of the filtered means, variances as the decoder gives them, inside the disc."""
    model = small(7, likelihood="gaussian_learned_variance", mask="disc")
    x, noise = pictures(2, size=(7, 7)), normal(2, 5)
    transfer = ContrastTransfer.from_star(star())(7, 7)
    theta, shift, z = model.parts(model.encode(x).sample(noise))
    drawn = model.outputs(z, theta, shift).detach().numpy()
    total = 0.0
    for n in range(2):
        spectrum = np.fft.fft2(drawn[n, 0]) * all_frequencies(n, 7, 7)
        error = x[n, 0].numpy() - np.fft.ifft2(spectrum).real
        density = -(error**2) / (2 * np.exp(drawn[n, 1])) - np.log(2 * np.pi) / 2 - drawn[n, 1] / 2
        assert model.inside is not None
        total -= density[model.inside.numpy()].sum() / 2
    found = model.loss(x, noise, transfer=transfer)["reconstruction"]
    assert float(found.detach()) == pytest.approx(total, rel=1e-10)


def test_the_loss_learns_through_it() -> None:
    model = small(6, likelihood="gaussian")
    x, noise = pictures(2, size=(6, 6)), normal(2, 5)
    transfer = ContrastTransfer.from_star(star())(6, 6)
    model.loss(x, noise, transfer=transfer)["loss"].backward()
    weight = model.decoder.output.weight  # type: ignore[union-attr]
    step = torch.zeros_like(weight)
    step[0, 1] = 1e-6
    with torch.no_grad():
        ends = []
        for sign in (1, -1):
            weight += sign * step
            ends.append(float(model.loss(x, noise, transfer=transfer)["loss"]))
            weight -= sign * step
    assert float(weight.grad[0, 1]) == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-6)  # type: ignore[index]


def test_bernoulli_pixels_have_no_transfer_function() -> None:
    model = small(8)
    with pytest.raises(ValueError, match='transfer: expected None for "bernoulli"'):
        model.loss(pictures(2), transfer=torch.ones(2, 8, 5, dtype=torch.float64))


# -- the task ------------------------------------------------------------------------------------------------


def write_star(folder: Path, **changes: list[float] | None) -> Path:
    import mrcfile

    with mrcfile.new(folder / "stack.mrcs") as file:
        file.set_data(normal(2, 8, 8).float().numpy())
    columns = {name: values for name, values in {**STAR, **changes}.items() if values is not None}
    head = ["data_", "loop_", "_rlnImageName", *(f"_{name}" for name in columns)]
    rows = [" ".join([f"{n + 1}@stack.mrcs", *(str(v[n]) for v in columns.values())]) for n in range(2)]
    (folder / "particles.star").write_text("\n".join([*head, *rows]) + "\n")
    return folder / "particles.star"


def task(**options: Any) -> SpatialVAETask:
    given = {"hidden": 4, "samples": 1, "likelihood": "gaussian", "ctf": "star", **options}
    return SpatialVAETask(SpatialVAEOptions(**given))


def test_the_task_takes_the_columns_of_the_batch(tmp_path: Path) -> None:
    dataset = load_dataset(write_star(tmp_path))
    own = task()
    model = own.build(dataset).eval()
    batches = Batches(dataset, torch.arange(2), 2, seed=0, epoch=-1)
    ((batch, draws),) = batches
    transfer = ContrastTransfer.from_star(star())(8, 8).float()
    expected = model.loss(batch["image"], draws, transfer=transfer)
    assert torch.equal(own.loss(model, batch, draws)["loss"], expected["loss"])
    without = task(ctf="none").loss(model, batch, draws)
    assert not torch.allclose(without["loss"], expected["loss"])
    zeros = torch.zeros(2, 5)
    with torch.no_grad():
        at_mean = float(model.loss(batch["image"], zeros, transfer=transfer)["loss"])
        assert own.evaluate(model, batches)["elbo_at_mean"] == pytest.approx(-at_mean)
        said = own.infer(model, batch, draws)
    assert torch.equal(said["seen"], apply_transfer(said["reconstruction"], transfer))
    coarse = task(pixel_size=2.0).loss(model, batch, draws)
    assert not torch.allclose(coarse["loss"], expected["loss"])


def test_mistakes_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^ctf: expected none with likelihood bernoulli, got star$"):
        SpatialVAEOptions(ctf="star")
    with pytest.raises(ValueError, match=r"^pixel_size: expected none without ctf, got 2\.0$"):
        SpatialVAEOptions(pixel_size=2.0)
    with pytest.raises(ValueError, match=r"^pixel_size: expected a finite number > 0"):
        SpatialVAEOptions(ctf="star", likelihood="gaussian", pixel_size=0.0)
    with pytest.raises(ConfigurationError, match=r"^ctf: expected the columns .* got no rlnDefocusU"):
        task().build(load_dataset("digits"))
    dataset = load_dataset(write_star(tmp_path, rlnVoltage=[300.0, 0.0]))
    own = task()
    model = own.build(dataset)
    with pytest.raises(ConfigurationError, match=r"^ctf: expected numbers > 0 for rlnVoltage"):
        own.loss(model, *next(iter(Batches(dataset, torch.arange(2), 2, seed=0, epoch=0))))


@pytest.mark.needs_data
def test_columns_of_real_files(needs_data: Path) -> None:
    """RELION 3.1 with an optics table, and an older file with a magnification."""
    folder = needs_data / "em" / "cryodrgn"
    for name, pixel, lowest in (("relion31.star", 2.806, -0.1), ("empiar_10076_7.star", 1.31, -0.07)):
        dataset = load_dataset(folder / name)
        batch = dataset.fetch(torch.arange(len(dataset)))
        found = ContrastTransfer.from_star(batch)
        assert found.pixel_size.tolist() == pytest.approx([pixel] * len(dataset), abs=1e-3)
        size = batch["image"].shape[-1]
        values = found(size, size)
        assert values[:, 0, 0].tolist() == pytest.approx([lowest] * len(dataset))
        # The first zero of the mean defocus lies where textbooks say: 1 / sqrt(df lambda), nearly.
        mean = dataclasses.replace(
            found, defocus_u=(found.defocus_u + found.defocus_v) / 2,
            defocus_v=(found.defocus_u + found.defocus_v) / 2,
        )(size, size)[:, 0]  # fmt: skip
        for row, u, v in zip(mean, found.defocus_u, found.defocus_v, strict=True):
            first = int((row > 0).nonzero()[0])
            textbook = 1 / math.sqrt(float(u + v) / 2 * 0.0197)
            assert first / (size * pixel) == pytest.approx(textbook, rel=0.06)
