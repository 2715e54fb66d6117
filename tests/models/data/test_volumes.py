"""NIfTI: voxels where the affine map says, scaled as the header says."""

from __future__ import annotations

import itertools
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from equikernels.models.data import DataError, load_dataset
from tests.models.data.samples import everything, numbers, write_nifti


def upright(array: np.ndarray) -> np.ndarray:
    """Voxels of a file whose axes point right, front and up, as (z, rows from the front, x)."""
    return array.transpose(2, 1, 0)[:, ::-1]


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("dtype", ["u1", "i2", "i4", "f4", "f8"])
def test_voxels(suffix: str, dtype: str, tmp_path: Path) -> None:
    array = numbers(3, 4, 5, dtype=dtype)
    dataset = load_dataset(write_nifti(tmp_path, array, name=f"a{suffix}"))
    assert dataset.fields["image"].shape == (1, 5, 4, 3)
    np.testing.assert_array_equal(
        everything(dataset)["image"][0, 0].numpy(), upright(array).astype(np.float32)
    )


@pytest.mark.parametrize("axes", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("signs", list(itertools.product((1, -1), repeat=3)))
def test_every_order_of_axes_gives_one_volume(
    axes: tuple[int, ...], signs: tuple[int, ...], tmp_path: Path
) -> None:
    """A body in space, stored in each of the 48 ways, by the definition of the affine map."""
    body = numbers(3, 4, 5, dtype="f4")
    shape = [body.shape[axis] for axis in axes]
    affine = np.eye(4)
    affine[:3, :3] = 0
    for file_axis, (axis, sign) in enumerate(zip(axes, signs, strict=True)):
        affine[axis, file_axis] = sign
        affine[axis, 3] = 0 if sign > 0 else body.shape[axis] - 1
    stored = np.empty(shape, np.float32)
    for place in np.ndindex(*shape):
        x, y, z = (affine @ [*place, 1])[:3].round().astype(int)
        stored[place] = body[x, y, z]
    image = everything(load_dataset(write_nifti(tmp_path, stored, affine)))["image"]
    np.testing.assert_array_equal(image[0, 0].numpy(), upright(body))


def test_slope_and_intercept(tmp_path: Path) -> None:
    array = numbers(3, 4, 5, dtype="i2")
    image = nibabel.Nifti1Image(array, np.eye(4))
    image.header.set_slope_inter(0.5, -3.0)
    nibabel.save(image, tmp_path / "a.nii")
    raw = nibabel.load(tmp_path / "a.nii")
    expected = upright(np.asarray(raw.dataobj)).astype(np.float32)  # type: ignore[attr-defined]
    got = everything(load_dataset(tmp_path / "a.nii"))["image"][0, 0].numpy()
    np.testing.assert_allclose(got, expected, rtol=1e-6)
    assert raw.dataobj.slope == 0.5  # type: ignore[attr-defined]


def test_scaled_values_beyond_float32_are_refused(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.full((2, 2, 2), 100, np.int16), np.eye(4))
    image.header.set_slope_inter(1e38, 0.0)
    nibabel.save(image, tmp_path / "a.nii")
    with pytest.raises(DataError, match=r"a.nii: expected values that float32 can hold, got overflow"):
        everything(load_dataset(tmp_path / "a.nii"))


def test_a_fourth_axis_becomes_channels(tmp_path: Path) -> None:
    array = numbers(3, 4, 5, 2, dtype="f4")
    image = everything(load_dataset(write_nifti(tmp_path, array)))["image"]
    assert image.shape == (1, 2, 5, 4, 3)
    for channel in range(2):
        np.testing.assert_array_equal(image[0, channel].numpy(), upright(array[..., channel]))


def test_second_version_and_big_endian(tmp_path: Path) -> None:
    array = numbers(3, 4, 5, dtype="f4")
    nibabel.save(nibabel.Nifti2Image(array, np.eye(4)), tmp_path / "a.nii")
    header = nibabel.Nifti1Header(endianness=">")
    nibabel.save(nibabel.Nifti1Image(array.astype(">f4"), np.eye(4), header), tmp_path / "b.nii")
    assert (tmp_path / "b.nii").read_bytes()[:4] == b"\0\0\1\x5c"
    images = everything(load_dataset(tmp_path))["image"]
    for image in images:
        np.testing.assert_array_equal(image[0].numpy(), upright(array))


def test_folders_of_classes_and_sizes(tmp_path: Path) -> None:
    for name in ("old", "young"):
        (tmp_path / name).mkdir()
        write_nifti(tmp_path / name, numbers(3, 4, 5, dtype="f4"))
    dataset = load_dataset(tmp_path)
    assert everything(dataset)["label"].tolist() == [0, 1]
    write_nifti(tmp_path / "young", numbers(3, 4, 6, dtype="f4"), name="z.nii")
    with pytest.raises(
        DataError, match=r"z.nii: expected \(1, 5, 4, 3\) voxels as in brain.nii, got \(1, 6, 4, 3\)"
    ):
        load_dataset(tmp_path)


@pytest.mark.parametrize(("slices", "shape"), [("axial", (4, 3)), ("coronal", (5, 3)), ("sagittal", (5, 4))])
def test_slices(slices: str, shape: tuple[int, int], tmp_path: Path) -> None:
    """Voxel (x, y, z) lies right, in front and up: where a doctor looks for it."""
    (tmp_path / "ill").mkdir()
    (tmp_path / "well").mkdir()
    bodies = [numbers(3, 4, 5, dtype="f4", seed=seed) for seed in range(2)]
    write_nifti(tmp_path / "ill", bodies[0], name="a.nii.gz")
    write_nifti(tmp_path / "well", bodies[1], name="b.nii")
    dataset = load_dataset(tmp_path, slices=slices)
    count = {"axial": 5, "coronal": 4, "sagittal": 3}[slices]
    assert len(dataset) == 2 * count
    assert dataset.fields["volume"].classes == ("a.nii.gz", "b.nii")
    order = torch.randperm(2 * count, generator=torch.Generator().manual_seed(0))
    batch = dataset.fetch(order)
    assert batch["image"].shape == (2 * count, 1, *shape)
    assert batch["volume"].tolist() == batch["label"].tolist() == (order // count).tolist()
    for image, number in zip(batch["image"][:, 0], order.tolist(), strict=True):
        body, k = bodies[number // count], number % count
        for row, column in np.ndindex(*shape):
            place = {
                "axial": (column, 3 - row, k),
                "coronal": (column, 3 - k, 4 - row),
                "sagittal": (k, 3 - column, 4 - row),
            }[slices]
            assert image[row, column] == body[place]


def test_unknown_slices(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="slices: expected one of axial, coronal, sagittal, got 'oblique'"):
        load_dataset(write_nifti(tmp_path, numbers(3, 4, 5)), slices="oblique")


def test_a_flat_affine_map_is_refused(tmp_path: Path) -> None:
    path = write_nifti(tmp_path, numbers(3, 4, 5))
    raw = bytearray(path.read_bytes())
    raw[280:328] = np.zeros(12, "<f4").tobytes()  # the three rows of the affine map
    path.write_bytes(raw)
    with pytest.raises(DataError, match=r"brain.nii: expected an affine map to the three axes of space, got"):
        load_dataset(path)


def test_a_volume_that_breaks_later_is_named(tmp_path: Path) -> None:
    path = write_nifti(tmp_path, numbers(9, 9, 9), name="a.nii.gz")
    dataset = load_dataset(path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"a.nii.gz: expected 729 bytes of 9 x 9 x 9 voxels of uint8, got"):
        dataset.fetch(torch.tensor([0]))
