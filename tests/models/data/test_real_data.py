"""The real data sets: their published sizes, and values that are known from elsewhere."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from equikernels.models.data import DataError, load_dataset
from tests.models.data.samples import everything

pytestmark = pytest.mark.needs_data


def test_mnist(needs_data: Path) -> None:
    for split, counts in {
        "train": [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949],
        "test": [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009],
    }.items():
        dataset = load_dataset(needs_data / "mnist", split=split)
        batch = everything(dataset)
        assert batch["image"].shape == (sum(counts), 1, 28, 28)
        assert torch.bincount(batch["label"]).tolist() == counts
        mean, std = batch["image"].mean().item(), batch["image"].std().item()
        assert (round(mean, 2), round(std, 2)) == (0.13, 0.31)


def test_cifar10(needs_data: Path, tmp_path: Path) -> None:
    """Sheets with an image in every row, and labels that another program listed."""
    folder = needs_data / "cifar10"
    listed = (folder / "cifar10_labels.js").read_text().partition("[")[2].partition("]")[0]
    (tmp_path / "labels.txt").write_text(",".join(listed.split(",")[:5000]))
    dataset = load_dataset(folder, sheet=(32, 32), labels=tmp_path / "labels.txt")
    assert len(dataset) == 5000
    batch = everything(dataset)
    assert batch["image"].shape == (5000, 3, 32, 32)
    assert batch["label"][:10].tolist() == [6, 9, 9, 4, 1, 1, 2, 7, 8, 3]
    mean = batch["image"].mean(dim=(0, 2, 3))
    assert torch.allclose(mean, torch.tensor([0.4914, 0.4822, 0.4465]), atol=0.005)


def test_adrenalmnist3d(needs_data: Path) -> None:
    path = needs_data / "adrenalmnist3d" / "adrenalmnist3d.npz"
    for split, count in {"train": 1188, "val": 98, "test": 298}.items():
        dataset = load_dataset(path, split=split)
        assert dataset.fields["image"].shape == (1, 28, 28, 28)
        batch = dataset.fetch(torch.arange(count))
        assert set(batch["image"].unique().tolist()) == {0.0, 1.0}
        assert set(batch["label"].tolist()) == {0, 1}


def test_photographs(needs_data: Path) -> None:
    folder = needs_data / "photos" / "kodak"
    with pytest.raises(DataError, match=r"kodim04.png: expected 512 x 768 pixels as in kodim01.png"):
        load_dataset(folder)
    dataset = load_dataset(folder, size=(128, 192))
    assert len(dataset) == 16
    first = dataset.fetch(torch.tensor([0]))["image"][0]
    assert first.shape == (3, 128, 192)
    # The picture has the proportions of the size: nothing is cut, and averages of 4 x 4 pixels are near.
    with Image.open(folder / "kodim01.png") as picture:
        pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 255
    coarse = torch.nn.functional.avg_pool2d(pixels, 4)
    assert (first - coarse).abs().mean() < 0.02


def test_electron_microscopy(needs_data: Path) -> None:
    folder = needs_data / "em" / "cryodrgn"
    hand = load_dataset(folder / "hand.mrcs")
    assert (len(hand), hand.fields["image"].shape) == (100, (1, 64, 64))
    raw = np.fromfile(folder / "hand.mrcs", "<f4", offset=1024).reshape(100, 64, 64)
    np.testing.assert_array_equal(hand.fetch(torch.tensor([42]))["image"][0, 0].numpy(), raw[42])
    volume = load_dataset(folder / "hand-vol.mrc")
    assert volume.fields["image"].shape == (1, 64, 64, 64)
    rotations = everything(load_dataset(folder / "hand.mrcs", extra=folder / "hand_rot_trans.npz"))["arr_0"]
    assert torch.allclose(rotations @ rotations.mT, torch.eye(3), atol=1e-5)
    for name, count, size in [
        ("empiar_10076_7", 7, 320),
        ("relion31", 5, 256),
        ("toy_projections", 1000, 30),
    ]:
        dataset = load_dataset(folder / f"{name}.star")
        assert (len(dataset), dataset.fields["image"].shape) == (count, (1, size, size))
        batch = dataset.fetch(torch.tensor([count - 1]))
        suffix = "mrc" if name.startswith("empiar") else "mrcs"
        raw = np.fromfile(folder / f"{name}.{suffix}", "<f4", offset=1024).reshape(count, size, size)
        np.testing.assert_array_equal(batch["image"][0, 0].numpy(), raw[-1])
        assert batch["rlnVoltage"].item() == 300
    assert everything(load_dataset(folder / "relion31.star"))["rlnImagePixelSize"][0] == 2.806
    with pytest.raises(
        DataError, match=r"sta_testing_bin8.star: expected the stack .*, which row 1 refers to"
    ):
        load_dataset(folder / "sta_testing_bin8.star")


def test_pedestrians(needs_data: Path) -> None:
    """As many windows of 20 steps as the sums of rows - 19 over the pedestrians who are seen so long."""
    folder = needs_data / "eth_ucy"
    expected = {"eth": 364, "hotel": 1197, "univ": 24334, "zara1": 2356, "zara2": 5910}
    for scene, count in expected.items():
        dataset = load_dataset(folder, scene=scene, split="test", observe=8, predict=12)
        assert len(dataset) == count, scene
        batch = everything(dataset)
        whole = torch.cat((batch["observed"], batch["future"]), dim=1)
        # People walk: no step of 0.4 s is longer than 4 m.
        assert whole.diff(dim=1).norm(dim=-1).max() < 4
    splits = json.loads((folder / "splits.json").read_text())
    train = load_dataset(folder, scene="eth", split="train")
    assert train.fields["file"].classes == tuple(Path(name).name for name in splits["eth"]["train"])


def test_fingerprints_of_all_are_different(needs_data: Path) -> None:
    folder = needs_data / "em" / "cryodrgn"
    names = ["hand.mrcs", "relion31.mrcs", "relion31.star", "toy_projections.star", "hand_rot.npz"]
    prints = [load_dataset(folder / name).fingerprint for name in names]
    assert len(set(prints)) == len(names)
