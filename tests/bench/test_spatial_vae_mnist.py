"""The experiment on MNIST: its runs, its verdicts, and all of it on a handful of small digits."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from bench.experiments import spatial_vae_mnist
from bench.experiments.spatial_vae_findings import MODELS, Place, largest_gap, ordering_rows
from bench.experiments.spatial_vae_mnist import SETTINGS, cells, make, open_test
from equikernels.models.data import load_dataset
from equikernels.models.engine import open_run, train
from equikernels.models.engine.results import Cell, Experiment
from tests.models.data.samples import write_idx

SETTING = "turned, shifted a little"


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder like MNIST's, with digits of 8 x 8 pixels: 80 for training and 300 for tests."""
    digits = load_digits()
    pixels, labels = (digits.images * 15.9).astype(np.uint8), digits.target.astype(np.uint8)
    folder = tmp_path / "data" / "mnist"
    folder.mkdir(parents=True)
    for name, part in (("train", slice(0, 80)), ("t10k", slice(80, 380))):
        write_idx(folder, f"{name}-images-idx3-ubyte", pixels[part])
        write_idx(folder, f"{name}-labels-idx1-ubyte", labels[part])
    monkeypatch.setenv("EQUIKERNELS_DATA", str(tmp_path / "data"))
    return folder


def tiny(cell: Cell) -> Cell:
    whole = cell.configuration
    return dataclasses.replace(
        cell,
        configuration=dataclasses.replace(
            whole,
            limit=40,
            model=dataclasses.replace(whole.model, hidden=4, encoder_hidden=4, samples=2),
            training=dataclasses.replace(whole.training, epochs=1, device="cpu"),
        ),
    )


def test_the_command_makes_runs_page_and_figures(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = make()
    own = [
        tiny(cell) for cell in real.cells["cpu"] if cell.row.startswith((SETTING, "upright, z = 2: spatial"))
    ]
    assert len(own) == 2 * 4 + 2

    def small() -> Experiment:
        return dataclasses.replace(real, cells={"cpu": own})

    monkeypatch.setattr(spatial_vae_mnist, "make", small)
    assert spatial_vae_mnist.main(["--budget", "cpu"], tmp_path) == 0
    page = (tmp_path / "docs/results/spatial_vae_mnist.md").read_text()
    assert "10 of 10 runs" in page
    assert page.count("![") == 3
    figures = sorted(path.name for path in (tmp_path / "docs/figures").iterdir())
    assert figures == [
        f"spatial_vae_mnist_cpu_{kind}.png" for kind in ("interpolation", "manifolds", "reconstructions")
    ]
    assert all(f"../figures/{name})" in page for name in figures)
    lines = (tmp_path / "docs/results/spatial_vae_mnist.jsonl").read_text().splitlines()
    numbers = {json.loads(line)["row"]: json.loads(line)["numbers"] for line in lines}
    posed = {"elbo", "elbo_at_mean", "mostly_outside", "theta_correlation", "shift_correlation"}
    assert numbers[f"{SETTING}, z = 2: spatial"].keys() == posed
    assert numbers[f"{SETTING}, z = 2: vanilla"].keys() == {"elbo", "elbo_at_mean", "mostly_outside"}
    assert numbers["upright, z = 2: spatial"].keys() == {"elbo", "elbo_at_mean"}
    # With two seeds of each, every gap has a spread.
    assert re.search(
        rf"^\| {SETTING}, z = 2 \|( [+-][\d.]+ ± [\d.]+ \|){{3}} (not )?confirmed \|$", page, re.M
    )


def test_test_images_have_motions_of_their_own(data: Path) -> None:
    for cell in cells("cpu")[:12]:
        setting = Place.read(cell.row).setting
        turned, shifted = SETTINGS[setting][:2]
        test, still = open_test(cell.configuration), open_test(cell.configuration, moved=False)
        expected = load_dataset(data, split="test", turned=turned, shifted=shifted, motion_seed=1)
        rows = torch.arange(20)
        assert len(test) == len(still) == 60
        assert torch.equal(test.fetch(rows)["image"], expected.fetch(5 * rows)["image"])
        plain = load_dataset(data, split="test").fetch(5 * rows)["image"]
        assert torch.equal(still.fetch(rows)["image"], plain)
        assert torch.equal(test.fetch(rows)["image"], plain) == (setting == "upright")
    everything = cells("full")[0].configuration
    assert len(open_test(everything)) == 300


def test_numbers_are_those_of_the_test_images(data: Path, tmp_path: Path) -> None:
    """The ink that is left of every fifth digit and what the model says of its pose, by other ways."""
    cell = next(c for c in cells("cpu") if c.row == f"{SETTING}, z = 2: spatial")
    wide = ("split=train", "turned=0.785", "shifted=2.0", "motion_seed=0")
    configuration = dataclasses.replace(tiny(cell).configuration, data_options=wide)
    train(configuration, tmp_path / "run")
    run = open_run(tmp_path / "run")
    numbers = spatial_vae_mnist.measure(run)
    rows = torch.arange(0, 300, 5)
    moved = load_dataset(data, split="test", turned=0.785, shifted=2.0, motion_seed=1)
    batch, still = moved.fetch(rows), load_dataset(data, split="test").fetch(rows)
    ink = batch["image"].sum((1, 2, 3)) / still["image"].sum((1, 2, 3))
    share = sum(float(left) < 0.5 for left in ink) / 60
    assert 0 < share < 0.5
    assert numbers["mostly_outside"] == pytest.approx(share)
    model = run.load_model(moved)
    with torch.no_grad():
        theta, shift, _ = model.parts(model.encode(batch["image"]).mean)  # type: ignore[operator]
    # What the decoder draws at u is the content at u R(theta) + shift: its middle is seen at -shift R^-1.
    c, s = theta.cos().numpy(), theta.sin().numpy()
    inverse = np.array([[c, -s], [s, c]]).transpose(2, 0, 1)
    right, up = -np.einsum("ni,nij->jn", shift.numpy(), inverse)
    true = batch["shift"].numpy()
    expected = np.corrcoef(right, true[:, 0])[0, 1] + np.corrcoef(-up, true[:, 1])[0, 1]
    assert numbers["shift_correlation"] == pytest.approx(expected / 2, abs=1e-4)


def test_runs_are_those_that_the_page_tells_of() -> None:
    for budget, count in (("cpu", 3 * 4 * 2), ("full", 3 * 4 * 2 * 5)):
        own = cells(budget)
        assert len(own) == len({(cell.row, cell.configuration.seed) for cell in own}) == count
    options = {cell.row: cell.configuration.model for cell in cells("full")}
    spatial = options["turned, shifted widely, z = 2: spatial"]
    assert (spatial.rotation, spatial.translation, spatial.decoder) == (True, True, "spatial")
    assert (spatial.hidden, spatial.layers, spatial.activation) == (500, 2, "tanh")
    assert (spatial.shift_prior, options["upright, z = 2: spatial"].theta_prior) == (14.0, torch.pi / 8)
    fixed = options["upright, z = 10: fixed pose"]
    assert (fixed.rotation, fixed.translation, fixed.decoder) == (False, False, "spatial")
    larger = options["upright, z = 10: vanilla, 3 more numbers"]
    assert (larger.rotation, larger.translation, larger.decoder) == (False, False, "plain")
    assert (fixed.latent_dim, larger.latent_dim) == (10, 13)


def bounds(z: int, *values: tuple[float, float]) -> dict[Place, dict[int, float]]:
    return {
        Place("upright", z, model): dict(enumerate(each)) for model, each in zip(MODELS, values, strict=False)
    }


def test_the_order_is_confirmed_where_every_seed_has_it() -> None:
    good = ordering_rows(bounds(2, (-10.0, -11.0), (-12.0, -14.0), (-20.0, -20.0), (-9.0, -9.0)))[-1]
    assert good == "| upright, z = 2 | +2.50 ± 0.71 | +7.00 ± 1.41 | -1.50 ± 0.71 | confirmed |"
    for wrong in (
        ((-10.0, -15.0), (-12.0, -14.0), (-20.0, -20.0)),
        ((-1.0, -1.0), (-3.0, -2.0), (-2.0, -4.0)),
    ):
        assert ordering_rows(bounds(2, *wrong))[-1].endswith("| not confirmed |")
    assert ordering_rows(bounds(2, (-10.0, -11.0)))[-1] == "| upright, z = 2 | - | - | - | not run |"
    # Neither what is equal nor what is no number is above.
    for lost in (-12.0, math.nan, -math.inf):
        seeds = (-10.0, lost), (-11.0, -12.0), (-13.0, -14.0)
        assert ordering_rows(bounds(2, *seeds))[-1].endswith("| not confirmed |")
        seeds = (-10.0, -10.0), (-11.0, -12.0), (-13.0, lost)
        assert ordering_rows(bounds(2, *seeds))[-1].endswith("| not confirmed |") == (lost != -math.inf)
    # A seed that one model lacks is compared nowhere.
    found = bounds(2, (-10.0, -30.0), (-12.0,), (-20.0, -20.0))
    assert ordering_rows(found)[-1] == "| upright, z = 2 | +2.00 | +8.00 | - | confirmed |"


def test_the_gap_is_compared_between_numbers_of_content() -> None:
    few = bounds(2, (-10.0, -10.0), (-11.0, -11.0), (-20.0, -22.0))
    many = bounds(10, (-5.0, -5.0), (-6.0, -6.0), (-8.0, -8.0))
    assert "Not measured here" in largest_gap(few)
    assert "upright: confirmed, 11.00 nats at z = 2, 3.00 at z = 10." in largest_gap(few | many)
    other = bounds(10, (-5.0, -5.0), (-6.0, -6.0), (-18.0, -18.0))
    assert "upright: not confirmed, 11.00 nats at z = 2, 13.00 at z = 10." in largest_gap(few | other)
    # On average it falls by 1, but not in the first seed; 10 and 12 against 11 and 9.
    mixed = bounds(10, (-5.0, -5.0), (-6.0, -6.0), (-16.0, -14.0))
    assert "upright: not confirmed, 11.00 nats at z = 2, 10.00 at z = 10." in largest_gap(few | mixed)
    equal = bounds(10, (-5.0, -5.0), (-6.0, -6.0), (-15.0, -17.0))
    assert "upright: not confirmed, 11.00" in largest_gap(few | equal)
    lost = bounds(10, (-5.0, -5.0), (-6.0, -6.0), (-8.0, math.nan))
    assert "upright: not confirmed, 11.00" in largest_gap(few | lost)
    # Between are the middle numbers of content, which say nothing; without a common seed nothing does.
    middle = bounds(5, (-5.0, -5.0), (-6.0, -6.0), (-90.0, -90.0))
    assert "confirmed, 11.00 nats at z = 2, 3.00 at z = 10." in largest_gap(few | middle | many)
    apart = {place: {seed + 7: bound for seed, bound in own.items()} for place, own in many.items()}
    assert "upright: not confirmed, 11.00" in largest_gap(few | apart)


def test_missing_data_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("EQUIKERNELS_DATA", raising=False)
    assert spatial_vae_mnist.main(["--budget", "cpu"], tmp_path) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "the environment variable EQUIKERNELS_DATA is not set" in said
    with pytest.raises(ValueError, match="row: expected 'SETTING, z = NUMBER: MODEL', got 'odd'"):
        Place.read("odd")
