"""Groups that move images and volumes: the group law, representations, exactness, bad input."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from equikernels.group import (
    O2,
    O3,
    SO2,
    SO3,
    CubeGroup,
    CyclicGroup,
    DihedralGroup,
    DirectProduct,
    GridTranslations,
    Group,
    Lorentz,
    SymmetricGroup,
    pixel_grid,
    voxel_grid,
)

EXACT: dict[str, tuple[Group, tuple[int, ...]]] = {
    "C_1": (CyclicGroup(1), (3, 2, 5, 5)),
    "C_2": (CyclicGroup(2), (3, 2, 4, 7)),
    "C_4": (CyclicGroup(4), (3, 2, 6, 6)),
    "D_1": (DihedralGroup(1), (3, 2, 4, 5)),
    "D_2": (DihedralGroup(2), (3, 2, 4, 5)),
    "D_4": (DihedralGroup(4), (3, 2, 5, 5)),
    "cube": (CubeGroup(), (3, 2, 4, 4, 4)),
    "translations": (GridTranslations(4, 5), (3, 2, 4, 5)),
}
SPECTRAL: dict[str, Group] = {
    "SO(2)": SO2(),
    "O(2)": O2(),
    "C_6": CyclicGroup(6),
    "D_3": DihedralGroup(3),
}


def images(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def bump(size: int, angle: Tensor, flip: Tensor) -> Tensor:
    """A Gaussian beside the centre, at its exact place after R(angle) F^flip: (N, 1, size, size)."""
    scale = 0.1 * size
    x = torch.where(flip == 1, -0.7, 0.7) * scale
    y = torch.full_like(x, 0.4 * scale)
    x, y = angle.cos() * x - angle.sin() * y, angle.sin() * x + angle.cos() * y
    axis = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    columns, rows = axis - x[:, None], -axis - y[:, None]
    squares = columns[:, None, None, :] ** 2 + rows[:, None, :, None] ** 2
    return torch.exp(-squares / scale**2)


def parts(group: Group, g: Any) -> tuple[Tensor, Tensor]:
    """Angle and flip of elements of a group of the plane."""
    if isinstance(group, O2):
        return g
    if isinstance(group, DihedralGroup):
        return g % group.n * (2 * math.pi / group.n), g // group.n
    angle = g.double() * group.step if isinstance(group, CyclicGroup) else g
    return angle, torch.zeros(len(g), dtype=torch.int64)


def sampled(group: Group, n: int) -> Any:
    return group.sample(n, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", EXACT)
def test_exact_actions_obey_the_group_law(name: str) -> None:
    group, shape = EXACT[name]
    z = images(shape)
    g, h = sampled(group, 3), group.sample(3, generator=torch.Generator().manual_seed(2))
    assert torch.equal(group.act(group.act(z, h), g), group.act(z, group.compose(g, h)))
    assert torch.equal(group.act(group.act(z, g), group.inverse(g)), z)
    assert torch.equal(group.act(z, group.identity), z)
    assert torch.equal(group.act(z, g), group.act(z, g, method="exact"))


@pytest.mark.parametrize("name", [n for n in EXACT if n not in ("cube", "translations")])
def test_exact_actions_are_the_pixel_representation(name: str) -> None:
    group, shape = EXACT[name]
    z, g = images(shape), sampled(group, 3)
    rep = pixel_grid(shape[-2:], group)
    expected = torch.einsum("npq,ncq->ncp", rep(g), z.flatten(2)).view(z.shape)
    torch.testing.assert_close(group.act(z, g), expected)


def test_translations_are_rolls_and_the_pixel_representation() -> None:
    group = GridTranslations(4, 5)
    z, g = images((3, 2, 4, 5)), torch.tensor([[1, 0], [2, 3], [0, -1]])
    moved = group.act(z, g)
    for image, shift, result in zip(z, g.tolist(), moved, strict=True):
        assert torch.equal(torch.roll(image, shift, (-2, -1)), result)
    rep = pixel_grid((4, 5), group)
    expected = torch.einsum("npq,ncq->ncp", rep(g), z.flatten(2)).view(z.shape)
    torch.testing.assert_close(moved, expected)
    assert torch.equal(group.act(z, (1, 2)), torch.roll(z, (1, 2), (-2, -1)))


def test_the_cube_is_its_voxel_representation() -> None:
    group = CubeGroup()
    z, g = images((24, 1, 3, 3, 3)), torch.arange(24)
    rep = voxel_grid(3, group)
    expected = torch.einsum("npq,ncq->ncp", rep(g), z.flatten(2)).view(z.shape)
    torch.testing.assert_close(group.act(z, g), expected)


@pytest.mark.parametrize("name", SPECTRAL)
@pytest.mark.parametrize("size", [5, 6])
def test_the_spectral_method_obeys_the_group_law(name: str, size: int) -> None:
    group = SPECTRAL[name]
    z = images((4, 2, size, size))
    g, h = sampled(group, 4), group.sample(4, generator=torch.Generator().manual_seed(2))
    if size % 2 == 0 and name in ("O(2)", "D_3"):
        # A flip does not commute with the modes of an even grid: the law holds among the rotations.
        g, h = (SO2().sample(4), 0 * g[1]) if name == "O(2)" else g % 3, group.identity
    twice = group.act(group.act(z, h, method="spectral"), g, method="spectral")
    torch.testing.assert_close(twice, group.act(z, group.compose(g, h), method="spectral"))


@pytest.mark.parametrize("size", [5, 6])
def test_the_spectral_method_is_the_pixel_representation(size: int) -> None:
    z, g = images((4, 2, size, size)), sampled(SO2(), 4)
    rep = pixel_grid(size, SO2(), method="spectral")
    expected = torch.einsum("npq,ncq->ncp", rep(g), z.flatten(2)).view(z.shape)
    torch.testing.assert_close(SO2().act(z, g, method="spectral"), expected)


# What each method may lose on a bump of four pixels: interpolation its curvature, the others its spectrum
# beyond that of the grid, of which nothing is left.
LOSSES = {"bilinear": 0.05, "bicubic": 0.02, "shear": 1e-6, "spectral": 1e-3}


@pytest.mark.parametrize("method", LOSSES)
@pytest.mark.parametrize("name", SPECTRAL)
def test_a_bump_goes_where_the_element_carries_it(name: str, method: str) -> None:
    group = SPECTRAL[name]
    g = sampled(group, 6)
    angle, flip = parts(group, g)
    still = bump(41, torch.zeros(6, dtype=torch.float64), torch.zeros(6, dtype=torch.int64))
    moved = bump(41, angle.double(), flip)
    assert (moved - still).norm() > 0.3 * still.norm()
    assert (group.act(still, g, method=method) - moved).norm() < LOSSES[method] * moved.norm()


def test_planar_groups_agree_where_they_meet() -> None:
    z, k = images((6, 2, 9, 9)), torch.arange(6)
    third = k.double() * (math.pi / 3)
    turned = SO2().act(z, third)
    torch.testing.assert_close(CyclicGroup(6).act(z, k), turned)
    torch.testing.assert_close(DihedralGroup(6).act(z, k), turned)
    torch.testing.assert_close(O2().act(z, (third, torch.zeros(6, dtype=torch.int64))), turned)
    flipped = DihedralGroup(6).act(z, k + 6)
    torch.testing.assert_close(O2().act(z, (third, torch.ones(6, dtype=torch.int64))), flipped)
    torch.testing.assert_close(flipped, SO2().act(z.flip(-1), third))
    quarters = SO2().act(z[:4], torch.arange(4).double() * (math.pi / 2))
    torch.testing.assert_close(CyclicGroup(4).act(z[:4], torch.arange(4)), quarters, rtol=0, atol=1e-12)


def test_spatial_groups_agree_where_they_meet() -> None:
    matrices = torch.tensor(CubeGroup().matrices, dtype=torch.float64)
    z = images((24, 2, 4, 4, 4))
    cube = CubeGroup().act(z, torch.arange(24))
    torch.testing.assert_close(SO3().act(z, matrices), cube, rtol=0, atol=1e-12)
    torch.testing.assert_close(O3().act(z, matrices), cube, rtol=0, atol=1e-12)
    inverted = O3().act(z, -matrices)
    torch.testing.assert_close(inverted, cube.flip(-3, -2, -1), rtol=0, atol=1e-12)
    torch.testing.assert_close(O3().act(z, -torch.eye(3)), z.flip(-3, -2, -1), rtol=0, atol=1e-12)


def test_turns_about_z_move_slices() -> None:
    z, angle = images((3, 2, 4, 7, 7)), sampled(SO2(), 3)
    c, s, o = angle.cos(), angle.sin(), torch.zeros_like(angle)
    about_z = torch.stack([c, -s, o, s, c, o, o, o, o + 1], dim=-1).view(3, 3, 3)
    torch.testing.assert_close(SO3().act(z, about_z), SO2().act(z, angle))
    assert torch.equal(CyclicGroup(4).act(z, 1), torch.rot90(z, 1, (-2, -1)))


def test_the_sense_of_a_rotation_of_space() -> None:
    """The bump at x > 0 goes where the matrix says: to y > 0, which is up, under a quarter turn about z."""
    z = torch.zeros(1, 1, 5, 5, 5)
    z[0, 0, 2, 2, 4] = 1
    about_z, about_y = (torch.tensor(CubeGroup().matrices[g], dtype=torch.float32) for g in (1, 16))
    assert SO3().act(z, about_z)[0, 0, 2, 0, 2] > 0.99
    # About y, x goes to -z: the front.
    assert SO3().act(z, about_y)[0, 0, 0, 2, 2] > 0.99


@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("method", ["nearest", "bilinear", "bicubic"])
def test_methods_and_paddings_reach_the_operation(method: str, padding: str) -> None:
    from equikernels.ops import rotate

    z, angle = images((3, 2, 6, 8)), sampled(SO2(), 3)
    expected = rotate(z, angle, mode=method, padding=padding)
    assert torch.equal(SO2().act(z, angle, method=method, padding=padding), expected)


def test_gradients_reach_angles_matrices_and_data() -> None:
    z = images((2, 1, 4, 5)).requires_grad_()
    angle = sampled(SO2(), 2).requires_grad_()
    assert torch.autograd.gradcheck(lambda z, t: SO2().act(z, t), (z, angle))
    assert torch.autograd.gradcheck(lambda z, t: O2().act(z, (t, torch.tensor([0, 1]))), (z, angle))
    volume = images((2, 1, 3, 4, 3)).requires_grad_()
    coordinates = torch.tensor([[0.1, 0.5, -0.3], [1.0, -0.2, 0.4]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v, a: SO3().act(v, SO3().exp(a)), (volume, coordinates))
    assert torch.autograd.gradcheck(lambda v, a: O3().act(v, -SO3().exp(a)), (volume, coordinates))


def test_any_leading_dimensions_and_dtypes() -> None:
    z = images((2, 3, 4, 6, 6))
    turned = SO2().act(z, 0.3)
    assert turned.shape == z.shape
    torch.testing.assert_close(turned[:, 1], SO2().act(z[:, 1], 0.3))
    labels = torch.arange(36).view(1, 1, 6, 6)
    assert torch.equal(DihedralGroup(4).act(labels, 5), torch.rot90(labels.flip(-1), 1, (-2, -1)))
    assert SO2().act(z.half(), sampled(SO2(), 2)).dtype == torch.float16


def test_compiles() -> None:
    z, angle = images((2, 1, 6, 6)), sampled(SO2(), 2)
    cases = (
        (lambda x: SO2().act(x, angle), z),
        (lambda x: CyclicGroup(4).act(x, torch.tensor([1, 2])), z),
        (lambda x: SO3().act(x, torch.eye(3, dtype=torch.float64)), images((2, 1, 3, 3, 3))),
    )
    for function, x in cases:
        torch._dynamo.reset()
        compiled = torch.compile(function, backend="aot_eager")
        torch.testing.assert_close(compiled(x), function(x))
    torch._dynamo.reset()


BAD: tuple[tuple[str, Any, str], ...] = (
    ("rank", lambda: SO2().act(torch.zeros(3, 4, 4), 0.1), r"z: SO\(2\) acts on images .* got \(3, 4, 4\)"),
    ("no tensor", lambda: SO2().act([1.0], 0.1), "z: .* got list"),
    ("volume", lambda: SO3().act(torch.zeros(1, 1, 4, 4), torch.eye(3)), r"z: SO\(3\) acts on volumes"),
    ("method", lambda: SO2().act(torch.zeros(1, 1, 4, 4), 0.1, method="cubic"), "method: expected one of"),
    ("exact", lambda: SO2().act(torch.zeros(1, 1, 4, 4), 0.1, method="exact"), "no exact action"),
    ("C_3", lambda: CyclicGroup(3).act(torch.zeros(1, 1, 4, 4), 1, method="exact"), "no exact action"),
    ("bicubic", lambda: SO3().act(torch.zeros(1, 1, 4, 4, 4), torch.eye(3), method="bicubic"), "method: "),
    (
        "padding",
        lambda: SO2().act(torch.zeros(1, 1, 4, 4), 0.1, method="shear", padding="border"),
        "padding: the shear method takes none, got 'border'",
    ),
    (
        "batch",
        lambda: SO2().act(torch.zeros(2, 1, 4, 4), torch.zeros(3)),
        r"theta: expected shape \(2,\)",
    ),
    (
        "not square",
        lambda: SO2().act(torch.zeros(2, 1, 4, 5), 0.1, method="spectral"),
        "square images, got 4 x 5",
    ),
    ("grid", lambda: GridTranslations(3, 3).act(torch.zeros(1, 1, 4, 4), (1, 1)), "images of its size"),
    ("shifts", lambda: GridTranslations(3, 3).act(torch.zeros(2, 1, 3, 3), torch.zeros(3, 2).long()), "g: "),
    ("S_3", lambda: SymmetricGroup(3).act(torch.zeros(1, 1, 3, 3), (0, 1, 2)), "has no action"),
    ("Lorentz", lambda: Lorentz().act(torch.zeros(1, 1, 3, 3), torch.eye(4)), "has no action"),
    (
        "product",
        lambda: DirectProduct(SO2(), SO2()).act(torch.zeros(1, 1, 3, 3), (0.1, 0.1)),
        "has no action",
    ),
)


@pytest.mark.parametrize(("call", "message"), [x[1:] for x in BAD], ids=[x[0] for x in BAD])
def test_bad_input(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
