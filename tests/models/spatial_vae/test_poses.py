"""Poses in RELION's conventions, stated on their own; a stack trained, stopped, gone on with and posed."""

from __future__ import annotations

import functools
import math
import signal
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
import pytest
import starfile
import torch
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from equikernels.cli import main
from equikernels.models.data import DataError, load_dataset
from equikernels.models.data.two_domains import project, simulate_two_domains, write_two_domains
from equikernels.models.spatial_vae import poses
from equikernels.models.spatial_vae.poses import relion_pose, write_poses
from tests.models.engine.children import Child, wait_for
from tests.models.engine.samples import assert_equal_runs

Array = NDArray[np.float64]


# -- the convention ------------------------------------------------------------------------------------------


def in_reference(psi: float, origin: Array, x: Array) -> Array:
    """Where RELION looks in the reference for what an image has at x, both (right, down) from their centres.

    The image is moved by the origin; A(psi), of three Euler angles of which two are zero, takes the reference
    to the image.
    """
    c, s = math.cos(math.radians(psi)), math.sin(math.radians(psi))
    a = np.array([[c, s], [-s, c]])
    return a.T @ (x + origin)


@pytest.mark.parametrize("size", [(5, 5), (6, 6), (4, 7)])
def test_both_conventions_look_at_the_same_place(size: tuple[int, int]) -> None:
    generator = np.random.default_rng(0)
    theta, shift = generator.uniform(-7, 7, 3), generator.normal(size=(3, 2))
    psi, x, y = relion_pose(theta, shift, size)
    assert (abs(psi) <= 180).all()
    height, width = size
    for n in range(3):
        c, s = math.cos(theta[n]), math.sin(theta[n])
        for row in range(height):
            for column in range(width):
                # The model: u R(theta) + shift, right and up from the middle, in pixels.
                u = np.array([column - (width - 1) / 2, (height - 1) / 2 - row])
                right, up = u @ np.array([[c, s], [-s, c]]) + shift[n]
                seen = np.array([column - width // 2, row - height // 2])
                found = in_reference(psi[n], np.array([x[n], y[n]]), seen)
                np.testing.assert_allclose(found, [right, -up], atol=1e-10)


@pytest.mark.parametrize("size", [32, 33])
def test_a_picture_that_was_turned_and_moved_is_put_back(size: int) -> None:
    """As RELION does it: moved by the origin, then turned about pixel size // 2."""
    turn, moved = 0.7, np.array([2.5, -1.25])
    conformation = torch.tensor([0.4])
    image = project(conformation, torch.tensor([turn]), torch.tensor(moved)[None], size)[0].numpy()
    # The content's middle lies at -d R(-theta) in the model's words, and at `moved` in those of the picture.
    c, s = math.cos(turn), math.sin(turn)
    shift = -moved @ np.array([[c, s], [-s, c]])
    psi, x, y = relion_pose(np.array([turn]), shift[None], (size, size))
    middle = size // 2
    angle = math.radians(psi[0])
    back = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    aligned = np.zeros((size, size))
    for row in range(size):
        for column in range(size):
            # What the reference has at v, the image has at A v - origin.
            at = back @ np.array([column - middle, row - middle]) - [x[0], y[0]] + middle
            aligned[row, column] = map_coordinates(image, [[at[1]], [at[0]]], order=3)[0]
    half = middle - (size - 1) / 2
    reference = project(conformation, torch.zeros(1), torch.tensor([[half, -half]]), size)[0].numpy()
    assert abs(aligned - reference).max() < 0.01 * reference.max()
    other = project(conformation, torch.zeros(1), torch.tensor([[half + 0.5, -half]]), size)[0].numpy()
    assert abs(aligned - other).max() > 0.03 * reference.max()


def test_poses_have_one_length() -> None:
    with pytest.raises(ValueError, match=r"expected shapes \(N,\) and \(N, 2\), got \(3,\) and \(2, 2\)"):
        relion_pose(np.zeros(3), np.zeros((2, 2)), (4, 4))


# -- files ---------------------------------------------------------------------------------------------------

TABLE = """
data_optics

loop_
_rlnOpticsGroup
_rlnImagePixelSize
1 2.5

data_particles

loop_
_rlnImageName
_rlnOpticsGroup
_rlnMicrographName
_rlnDefocusU
_rlnOriginX
_rlnAnglePsi
3@stack.mrcs 1 a.mrc 12345.678901 9.0 77.0
1@stack.mrcs 1 b.mrc 0.000000123 9.0 77.0
"""


def save_answers(folder: Path, theta: Any, shift: Any = None) -> Path:
    folder.mkdir(exist_ok=True)
    np.save(folder / "theta.npy", np.array(theta, np.float32))
    if shift is not None:
        np.save(folder / "shift.npy", np.array(shift, np.float32))
    return folder


def write_table(folder: Path, text: str = TABLE) -> Path:
    write_two_domains(folder / "stack.mrcs", simulate_two_domains(3, 7), pixel_size=1.5)
    (folder / "particles.star").write_text(text)
    return folder / "particles.star"


def test_a_star_file_keeps_all_that_is_not_the_pose(tmp_path: Path) -> None:
    particles = write_table(tmp_path)
    answers = save_answers(tmp_path / "answers", [math.pi / 2, -0.1], [[0.0, 2.0], [1.0, 0.0]])
    write_poses(answers, tmp_path / "out.star", particles)
    tables = starfile.read(tmp_path / "out.star")
    assert tables["optics"].rlnImagePixelSize.item() == 2.5
    found = tables["particles"]
    assert found.rlnImageName.tolist() == ["3@stack.mrcs", "1@stack.mrcs"]
    assert found.rlnMicrographName.tolist() == ["a.mrc", "b.mrc"]
    np.testing.assert_allclose(found.rlnDefocusU, [12345.678901, 1.23e-7], rtol=1e-9)
    assert "rlnOriginX" not in found
    np.testing.assert_allclose(found.rlnAnglePsi, [-90, math.degrees(0.1)], rtol=1e-5)
    # An odd size, so no half pixel; 2.5 Angstrom a pixel.
    np.testing.assert_allclose(found.rlnOriginXAngst, [5.0, 2.5 * math.cos(0.1)], rtol=1e-5)
    np.testing.assert_allclose(found.rlnOriginYAngst, [0.0, -2.5 * math.sin(0.1)], rtol=1e-5, atol=1e-6)
    # It is a data set again.
    assert load_dataset(tmp_path / "out.star").fetch(torch.tensor([1]))["rlnAnglePsi"].item() < 6
    write_poses(answers, tmp_path / "out.star", particles, pixel_size=1.0)
    assert starfile.read(tmp_path / "out.star")["particles"].rlnOriginXAngst[0] == pytest.approx(2.0)


def test_origins_in_pixels_go_both(tmp_path: Path) -> None:
    text = TABLE.replace("_rlnOriginX\n", "_rlnOriginX\n_rlnOriginY\n").replace(" 9.0 77.0", " 9.0 8.0 77.0")
    answers = save_answers(tmp_path / "answers", [0.1, 0.2])
    write_poses(answers, tmp_path / "out.star", write_table(tmp_path, text))
    columns = set(starfile.read(tmp_path / "out.star")["particles"].columns)
    assert not {"rlnOriginX", "rlnOriginY"} & columns
    assert {"rlnAnglePsi", "rlnOriginXAngst", "rlnOriginYAngst", "rlnMicrographName"} <= columns


def test_the_pixel_size_is_that_of_the_optics_or_of_the_detector(tmp_path: Path) -> None:
    """A detector pixel of 14 micrometres, magnified 56000 times, is 2.5 Angstrom of the sample."""
    answers = save_answers(tmp_path / "answers", [0.0, 0.0], [[2.0, 0.0], [0.0, 0.0]])

    def found(text: str) -> float:
        write_poses(answers, tmp_path / "out.star", write_table(tmp_path, text))
        return float(starfile.read(tmp_path / "out.star")["particles"].rlnOriginXAngst[0]) / 2

    detector = TABLE.replace(
        "_rlnImagePixelSize\n1 2.5", "_rlnDetectorPixelSize\n_rlnMagnification\n1 14.0 56000"
    )
    assert found(detector) == pytest.approx(2.5)
    # Before 3.1 the images have the columns themselves; where both have one, the optics' is in force.
    both = TABLE.replace("_rlnDefocusU\n", "_rlnDefocusU\n_rlnImagePixelSize\n")
    both = both.replace("78901 9.0", "78901 4.0 9.0").replace("00123 9.0", "00123 4.0 9.0")
    assert found(both) == pytest.approx(2.5)
    own = both.replace("_rlnImagePixelSize\n1 2.5", "_rlnVoltage\n1 300.0")
    assert found(own) == pytest.approx(4.0)


def test_a_stack_of_oblong_images_has_the_half_pixel_of_each_side(tmp_path: Path) -> None:
    """Four rows and seven columns: pixel (2, 3) is half a pixel below the middle, and at it sideways."""
    with mrcfile.new(tmp_path / "oblong.mrcs") as file:
        file.set_data(np.zeros((2, 4, 7), np.float32))
        file.set_image_stack()
        file.voxel_size = 3.0
    answers = save_answers(tmp_path / "answers", [0.0, 0.0])
    write_poses(answers, tmp_path / "out.star", tmp_path / "oblong.mrcs")
    found = starfile.read(tmp_path / "out.star")
    assert found.rlnOriginXAngst.tolist() == [0.0, 0.0]
    assert found.rlnOriginYAngst.tolist() == [1.5, 1.5]


def test_the_command_passes_on_its_options(tmp_path: Path) -> None:
    particles = write_table(tmp_path, TABLE.replace("_rlnImageName", "_rlnParticleName"))
    answers = save_answers(tmp_path / "answers", [0.0, 0.0], [[2.0, 0.0], [0.0, 0.0]])
    words = [str(answers), str(tmp_path / "out.star"), "--particles", str(particles)]
    assert poses.main(words) == 2
    assert poses.main([*words, "--images", "rlnParticleName"]) == 0
    found = starfile.read(tmp_path / "out.star")["particles"]
    assert found.rlnOriginXAngst[0] == pytest.approx(5.0)
    assert poses.main([*words, "--images", "rlnParticleName", "--pixel-size", "1.25"]) == 0
    assert starfile.read(tmp_path / "out.star")["particles"].rlnOriginXAngst[0] == pytest.approx(2.5)


def test_a_stack_alone_becomes_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_table(tmp_path)
    answers = save_answers(tmp_path / "answers", [0.0, 0.1, 0.2])
    arguments = [answers, tmp_path / "out.star", "--particles", tmp_path / "stack.mrcs"]
    assert poses.main([*map(str, arguments)]) == 0
    assert f"saved: {tmp_path / 'out.star'}" in capsys.readouterr().out
    found = starfile.read(tmp_path / "out.star")
    assert found.rlnImageName.tolist() == [f"00000{n}@stack.mrcs" for n in (1, 2, 3)]
    np.testing.assert_allclose(found.rlnAnglePsi, np.degrees([0, -0.1, -0.2]), rtol=1e-5)
    assert found.rlnOriginXAngst.abs().max() < 1e-9
    # 1.5 Angstrom a pixel says the header; shifts along an axis that theta turns.
    save_answers(tmp_path / "answers", [0.0, 0.1, 0.2], [[2.0, 0.0]] * 3)
    assert poses.main([*map(str, arguments)]) == 0
    found = starfile.read(tmp_path / "out.star")
    np.testing.assert_allclose(found.rlnOriginXAngst, 3 * np.cos([0, 0.1, 0.2]), rtol=1e-6)
    assert len(load_dataset(tmp_path / "out.star")) == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("count", r"theta.npy: expected shape \(2,\) for the images of .*particles.star, got \(3,\)"),
        ("shift", r"shift.npy: expected shape \(2, 2\) for the images"),
        ("answers", "theta.npy: expected an array of a model with rotation, got"),
        ("pixel", "particles.star: expected a column rlnImagePixelSize, .*--pixel-size.*, got none"),
        ("pixels", "particles.star: expected one pixel size for all images, got"),
        ("out", "out.star: expected a file that can be written"),
        ("particles", "none.star: expected a file, got nothing of that name"),
        ("header", "stack.mrcs: expected a pixel size in the header"),
    ],
)
def test_mistakes_are_one_line(
    change: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = TABLE
    if change == "pixel":
        text = text.replace("_rlnImagePixelSize\n1 2.5", "_rlnVoltage\n1 300.0")
    if change == "pixels":
        text = text.replace("1 2.5", "1 2.5\n2 3.5")
    particles = write_table(tmp_path, text)
    shift = [[0.0]] if change == "shift" else None
    answers = save_answers(tmp_path / "answers", [0.0] * (3 if change in ("count", "header") else 2), shift)
    if change == "answers":
        (answers / "theta.npy").unlink()
    if change == "particles":
        particles = tmp_path / "none.star"
    if change == "header":
        particles = tmp_path / "stack.mrcs"
        with mrcfile.open(particles, "r+") as file:
            file.voxel_size = 0
    out = tmp_path / ("nowhere/out.star" if change == "out" else "out.star")
    with pytest.raises(DataError, match=message):
        write_poses(answers, out, particles)
    assert poses.main([str(answers), str(out), "--particles", str(particles)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_pixel_size_is_positive(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert poses.main(["a", "b", "--particles", "c", "--pixel-size", "0"]) == 2
    assert "--pixel-size: expected a number > 0, got 0.0" in capsys.readouterr().err


# -- all of it -----------------------------------------------------------------------------------------------


def sequence(stack: Path, folder: Path, options: str) -> None:
    """Train, interrupt, resume, infer and write the poses; the same as without the interruption."""
    words = f"train spatial-vae --data {stack} --likelihood gaussian --device cpu {options}"

    def command(text: str) -> int:
        return main(text.split())

    def child(text: str) -> Child:
        return Child(functools.partial(command, text), folder / "output")

    stopped = child(f"{words} --out {folder / 'run'}")
    # After the first step there is a checkpoint, and most of the run is still to come.
    wait_for((folder / "run" / "checkpoints" / "last.safetensors").exists, 120)
    stopped.send(signal.SIGINT)
    assert stopped.wait() == 130, (folder / "output").read_text()
    assert child(f"train --resume {folder / 'run'}").wait() == 0, (folder / "output").read_text()
    assert child(f"{words} --out {folder / 'whole'}").wait() == 0
    assert_equal_runs(folder / "whole", folder / "run")
    assert child(f"infer {folder / 'run'} --out {folder / 'answers'}").wait() == 0
    write_poses(folder / "answers", folder / "posed.star", stack, pixel_size=2.0)


def check_poses(stack: Path, folder: Path) -> None:
    """The table says what the model says, and is beside the stack, where its images are found."""
    size = load_dataset(stack).fields["image"].shape[1:]
    theta, shift = (np.load(folder / "answers" / f"{name}.npy") for name in ("theta", "shift"))
    psi, x, y = relion_pose(theta, shift, (size[0], size[1]))
    dataset = load_dataset(folder / "posed.star", root=stack.parent)
    batch = dataset.fetch(torch.arange(len(dataset)))
    np.testing.assert_allclose(batch["rlnAnglePsi"], psi, atol=1e-6)
    np.testing.assert_allclose(batch["rlnOriginXAngst"], 2 * x, atol=1e-6)
    np.testing.assert_allclose(batch["rlnOriginYAngst"], 2 * y, atol=1e-6)
    assert np.std(psi) > 0
    assert torch.equal(batch["image"], load_dataset(stack).fetch(torch.arange(len(dataset)))["image"])


def test_a_stack_is_trained_interrupted_resumed_and_posed(tmp_path: Path) -> None:
    stack, _ = write_two_domains(tmp_path / "body.mrcs", simulate_two_domains(40, 8))
    sequence(stack, tmp_path, "--epochs 8 --batch-size 4 --hidden 4 --samples 1 --checkpoint-steps 1")
    check_poses(stack, tmp_path)


@pytest.mark.needs_data
def test_a_real_stack_is_trained_interrupted_resumed_and_posed(needs_data: Path, tmp_path: Path) -> None:
    stack = needs_data / "em" / "cryodrgn" / "hand.mrcs"
    options = "--epochs 2 --batch-size 10 --hidden 8 --encoder-hidden 16 --samples 1 --checkpoint-steps 1"
    sequence(stack, tmp_path, f"{options} --theta-prior 3.14159 --no-theta-mean-penalty --mask disc")
    check_poses(stack, tmp_path)
