"""What the permutations mean, against torch, NumPy, SciPy and the groups' own actions."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.ndimage
import torch

from equikernels.group import CubeGroup, CyclicGroup, DihedralGroup, Group, pixel_grid, voxel_grid
from equikernels.ops import cube_rotate, dihedral_rotate, rot90, rotate
from equikernels.ops.permutation.elements import CUBE, INVERSES, TABLES
from tests.ops.permutation.samples import BACKENDS, OPERATIONS, move, random_values

GROUPS: dict[str, Group] = {
    "rot90": CyclicGroup(4),
    "dihedral_rotate": DihedralGroup(4),
    "cube_rotate": CubeGroup(),
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("size", [1, 2, 3, 4, 7, 8, 12, 31, 65])
def test_every_turn_is_torch_rot90(size: int, backend: str) -> None:
    z = torch.randn(9, 3, size, size)
    k = torch.arange(-4, 5)
    expected = torch.stack([torch.rot90(image, int(n), (-2, -1)) for image, n in zip(z, k, strict=True)])
    assert torch.equal(rot90(z, k, backend=backend), expected)


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_symmetry_of_the_square_in_numpy_and_scipy(backend: str) -> None:
    z = torch.randn(8, 2, 6, 6)
    ours = dihedral_rotate(z, torch.arange(8), backend=backend)
    for g, image in enumerate(z.numpy()):
        flipped = np.flip(image, -1) if g >= 4 else image
        np.testing.assert_array_equal(ours[g], np.rot90(flipped, g % 4, (-2, -1)))
        turned = scipy.ndimage.rotate(flipped, 90 * (g % 4), axes=(-1, -2), order=0)
        np.testing.assert_array_equal(ours[g], turned)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 17])
def test_every_rotation_of_the_cube(size: int, backend: str) -> None:
    z = torch.randn(24, 2, size, size, size)
    expected = torch.stack([move(volume, "cube_rotate", g) for g, volume in enumerate(z)])
    assert torch.equal(cube_rotate(z, torch.arange(24), backend=backend), expected)


def test_table_of_the_cube_is_that_of_the_group() -> None:
    """With (x, y, z) = (column, -row, depth) from the centre."""
    axes = np.array([[0, 0, 1], [0, -1, 0], [1, 0, 0]])
    for row, expected in zip(CUBE, CubeGroup().matrices, strict=True):
        matrix = np.zeros((3, 3), dtype=np.int64)
        for a, entry in enumerate(row):
            matrix[a, abs(entry) - 1] = np.sign(entry)
        np.testing.assert_array_equal(axes @ matrix @ axes.T, expected)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_agrees_with_the_representation_of_the_group(operation: str, backend: str) -> None:
    function, count, axes = OPERATIONS[operation]
    size = 5
    rho = (pixel_grid if axes == 2 else voxel_grid)(size, GROUPS[operation])
    z = torch.randn(count, 2, *(size,) * axes, dtype=torch.float64)
    ours = function(z, torch.arange(count), backend=backend).flatten(2)
    for g in range(count):
        assert torch.equal(ours[g], z[g].flatten(1) @ rho(g).mT)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_group_law(operation: str, backend: str) -> None:
    function, count, axes = OPERATIONS[operation]
    pairs = torch.tensor(list(itertools.product(range(count), repeat=2)))
    g, h = pairs.T
    z = torch.randn(len(pairs), 1, *(3,) * axes)
    step_by_step = function(function(z, h, backend=backend), g, backend=backend)
    assert torch.equal(step_by_step, function(z, GROUPS[operation].compose(g, h), backend=backend))


@pytest.mark.parametrize("kind", TABLES)
def test_inverses(kind: str) -> None:
    group = {"turns": GROUPS["rot90"], "square": GROUPS["dihedral_rotate"], "cube": GROUPS["cube_rotate"]}[
        kind
    ]
    for g, row in enumerate(INVERSES[kind]):
        assert row == TABLES[kind][int(group.inverse(g))]


@pytest.mark.parametrize("size", [4, 7])
def test_interpolated_rotation_at_quarter_turns(size: int) -> None:
    """`rotate` samples the same places up to the rounding of its coordinates, a few ulp of the extent."""
    z = torch.rand(9, 2, size, size, dtype=torch.float64)
    k = torch.arange(-4, 5)
    turned = rotate(z, k.double() * (torch.pi / 2))
    torch.testing.assert_close(turned, rot90(z, k), rtol=0, atol=1e-13)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", [(4, 3, 5, 8), (4, 1, 1, 6), (4, 2, 70, 3), (4, 2, 17, 40)], ids=str)
def test_images_that_are_not_square(shape: tuple[int, ...], backend: str) -> None:
    z = torch.randn(shape)
    for k in (torch.tensor([1, 3, -1, 7]), torch.tensor([0, 2, -2, 4])):
        expected = torch.stack([torch.rot90(x, int(n), (-2, -1)) for x, n in zip(z, k, strict=True)])
        assert torch.equal(rot90(z, k, backend=backend), expected)
    for g in (torch.tensor([1, 3, 5, 7]), torch.tensor([0, 2, 4, 6])):
        expected = torch.stack([move(x, "dihedral_rotate", int(n)) for x, n in zip(z, g, strict=True)])
        assert torch.equal(dihedral_rotate(z, g, backend=backend), expected)
    for n in range(4):
        assert torch.equal(rot90(z, n, backend=backend), torch.rot90(z, n, (-2, -1)))


@pytest.mark.parametrize("backend", BACKENDS)
def test_turns_of_any_size(backend: str) -> None:
    z = torch.randn(4, 2, 3, 3)
    large = torch.tensor([2**63 - 1, -(2**63), -(2**62) - 1, 10**18 + 2])
    assert torch.equal(rot90(z, large, backend=backend), rot90(z, torch.tensor([3, 0, 3, 2])))
    assert torch.equal(rot90(z, 10**30 + 3, backend=backend), torch.rot90(z, 3, (-2, -1)))
    unsigned = torch.tensor([255, 254, 1, 0], dtype=torch.uint8)
    assert torch.equal(rot90(z, unsigned, backend=backend), rot90(z, torch.tensor([3, 2, 1, 0])))
    assert torch.equal(
        rot90(z, torch.full((4,), 2**64 - 1, dtype=torch.uint64), backend=backend), rot90(z, 3)
    )


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_one_element_for_all(operation: str, backend: str) -> None:
    function, count, axes = OPERATIONS[operation]
    z = random_values((3, 2, *(4,) * axes), torch.int32)
    for g in range(count):
        expected = function(z, torch.full((3,), g), backend=backend)
        assert torch.equal(function(z, g, backend=backend), expected)
        assert torch.equal(function(z, torch.tensor(g, dtype=torch.int16), backend=backend), expected)
