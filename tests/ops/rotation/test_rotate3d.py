"""`rotate3d`: its convention by the groups, by `rotate` and by definition; gradients; what it refuses."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from equikernels.group import SO3, CubeGroup, voxel_grid
from equikernels.ops import affine_sample, cube_rotate, rotate, rotate3d
from tests.ops.rotation.motions import moved_in_space, random_motion, random_rotations
from tests.ops.sampling.samples import DTYPES, random_case, value_tolerance

BACKENDS = ("reference", "cpp")
MODES = ("nearest", "bilinear")
PADDINGS = ("zeros", "border", "reflection")
every_backend = pytest.mark.parametrize("backend", BACKENDS)
every_mode = pytest.mark.parametrize("mode", MODES)
every_padding = pytest.mark.parametrize("padding", PADDINGS)


def exact(rotation: Tensor) -> Tensor:
    """The map of a turn alone, for tolerances."""
    return moved_in_space(rotation, torch.zeros(len(rotation), 3), torch.ones(len(rotation)))


@every_mode
@every_padding
@every_backend
@pytest.mark.parametrize("given", ["rotation", "translation", "scale", "all"])
def test_is_the_inverse_of_the_motion(mode: str, padding: str, backend: str, given: str) -> None:
    shape = (4, 2, 5, 7, 6)
    volume, _, _ = random_case(shape, torch.float64)
    rotation = random_rotations(4)
    translation, scale = random_motion(4, 3)
    options = {"translation": translation, "scale": scale}
    options = {name: x for name, x in options.items() if given in (name, "all")}
    none, one = torch.zeros_like(translation), torch.ones_like(scale)
    matrix = moved_in_space(rotation, options.get("translation", none), options.get("scale", one))
    expected = affine_sample(volume, matrix, mode=mode, padding=padding, backend="reference")
    ours = rotate3d(volume, rotation, mode=mode, padding=padding, backend=backend, **options)
    atol = 8 * value_tolerance(shape, torch.float64, matrix, mode)
    torch.testing.assert_close(ours, expected, rtol=0, atol=atol)


@every_backend
@every_mode
@every_padding
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("size", [1, 4, 5])
def test_rotations_of_the_cube(size: int, dtype: torch.dtype, mode: str, padding: str, backend: str) -> None:
    volume, _, _ = random_case((24, 2, size, size, size), dtype)
    matrices = torch.from_numpy(CubeGroup().matrices.copy()).double()
    ours = rotate3d(volume, matrices, mode=mode, padding=padding, check=True, backend=backend)
    # Nothing is rounded: coordinates are whole numbers and the weights of one tap are 1.
    assert torch.equal(ours, cube_rotate(volume, torch.arange(24)))


@every_backend
@every_mode
@every_padding
def test_about_z_is_rotate_on_every_slice(mode: str, padding: str, backend: str) -> None:
    shape = (5, 2, 4, 7, 9)
    volume, _, _ = random_case(shape, torch.float64)
    theta = torch.linspace(-3, 3, 5, dtype=torch.float64)
    cosine, sine, zero, one = theta.cos(), theta.sin(), torch.zeros(5), torch.ones(5)
    rows = [[cosine, -sine, zero], [sine, cosine, zero], [zero, zero, one]]
    rotation = torch.stack([torch.stack(row, -1) for row in rows], -2)
    slices = volume.transpose(1, 2).flatten(0, 1)
    flat = random_motion(5, 3)[0]
    flat[:, 2] = 0
    for moves in ({}, {"translation": flat}):
        planar = {name: x[:, :2].repeat_interleave(4, 0) for name, x in moves.items()}
        turned = rotate(
            slices, theta.repeat_interleave(4), mode=mode, padding=padding, backend=backend, **planar
        )
        expected = turned.view(5, 4, 2, 7, 9).transpose(1, 2)
        ours = rotate3d(volume, rotation, mode=mode, padding=padding, backend=backend, **moves)
        atol = 4 * value_tolerance(shape, torch.float64, exact(rotation), mode)
        torch.testing.assert_close(ours, expected, rtol=0, atol=atol)


@every_backend
def test_equals_the_interpolated_action_on_voxels(backend: str) -> None:
    """What equikernels.group says a rotation does, with the same axes and zeros outside."""
    volume, _, _ = random_case((1, 1, 6, 6, 6), torch.float64)
    rho = voxel_grid(6, SO3())
    for rotation in random_rotations(4):
        ours = rotate3d(volume, rotation, backend=backend)
        expected = rho.apply(rotation, volume.view(6, 6, 6)).view_as(volume)
        torch.testing.assert_close(ours, expected, rtol=0, atol=1e-12)


@every_backend
def test_axes_are_right_up_and_deep(backend: str) -> None:
    volume = torch.zeros(1, 1, 5, 5, 5)
    volume[0, 0, 2, 2, 4] = 1  # to the right of the centre
    about_z = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    about_y = torch.tensor([[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]])
    assert rotate3d(volume, about_z, backend=backend)[0, 0, 2, 0, 2] == 1  # up: row 0 is on top
    assert rotate3d(volume, about_y, backend=backend)[0, 0, 0, 2, 2] == 1  # x goes to -z
    shifted = rotate3d(volume, about_z, translation=(1, 2, -1), backend=backend)
    assert shifted[0, 0, 2 - 1, 0 + 2, 2 + 1] == 1


@every_backend
def test_one_rotation_for_all_and_trilinear(backend: str) -> None:
    volume, _, _ = random_case((3, 2, 4, 5, 6), torch.float32)
    rotation = random_rotations(1).float()
    expected = rotate3d(volume, rotation.repeat(3, 1, 1), backend=backend)
    for one in (rotation[0], rotation.expand(3, -1, -1), rotation[0].double()):
        assert torch.equal(rotate3d(volume, one, backend=backend), expected)
    assert torch.equal(rotate3d(volume, rotation[0], mode="trilinear", backend=backend), expected)
    moved = rotate3d(
        volume, rotation[0], translation=torch.tensor([[1.0, 0.5, -2.0]] * 3), scale=torch.full((3,), 1.5),
        backend=backend,
    )  # fmt: skip
    same = rotate3d(volume, rotation[0], translation=(1.0, 0.5, -2.0), scale=1.5, backend=backend)
    assert torch.equal(moved, same)


@every_mode
@every_padding
@every_backend
@pytest.mark.parametrize(
    ("argument", "value"),
    [("R", math.nan), ("R", math.inf), ("translation", math.nan), ("translation", math.inf),
     ("scale", math.nan), ("scale", math.inf), ("scale", 0.0)],
)  # fmt: skip
def test_motion_that_is_not_finite(
    argument: str, value: float, mode: str, padding: str, backend: str
) -> None:
    volume = torch.zeros(3, 2, 3, 4, 3, requires_grad=True)
    motion = {
        "R": random_rotations(3).float(),
        "translation": torch.ones(3, 3),
        "scale": torch.ones(3),
    }
    motion[argument][1] = value
    inputs = [x.requires_grad_() for x in motion.values()]
    out = rotate3d(volume, mode=mode, padding=padding, backend=backend, **motion)
    for x in (out, *torch.autograd.grad(out, (volume, *inputs), torch.ones_like(out))):
        assert x[[0, 2]].isfinite().all()
        assert x[1].isnan().all()


def call(padding: str, backend: str) -> Callable[..., Tensor]:
    return lambda volume, R, translation, scale: rotate3d(
        volume, R, translation=translation, scale=scale, padding=padding, backend=backend
    )


def motion_inputs() -> tuple[Tensor, ...]:
    volume, _, _ = random_case((2, 1, 2, 3, 3), torch.float64)
    inputs = (volume, random_rotations(2, 1), *random_motion(2, 3))
    return tuple(x.requires_grad_() for x in inputs)


@every_padding
@every_backend
def test_gradients_by_every_input(padding: str, backend: str) -> None:
    f = call(padding, backend)
    assert gradcheck(f, motion_inputs(), check_forward_ad=True, fast_mode=backend == "reference")
    assert gradgradcheck(f, motion_inputs(), fast_mode=True, check_fwd_over_rev=True)


@every_padding
def test_compiled_and_transformed(padding: str) -> None:
    torch._dynamo.reset()
    f, inputs = call(padding, "cpp"), motion_inputs()
    compiled = torch.compile(f, fullgraph=True, backend="aot_eager")
    expected = f(*inputs)
    assert torch.equal(compiled(*inputs), expected)
    grads, compiled_grads = (
        torch.autograd.grad(x.pow(2).sum(), inputs) for x in (expected, compiled(*inputs))
    )
    torch.testing.assert_close(compiled_grads, grads, rtol=0, atol=0)
    plain = tuple(x.detach() for x in inputs)
    ours = torch.func.grad(lambda *x: f(*x).pow(2).sum(), (0, 1, 2, 3))(*plain)
    torch.testing.assert_close(ours, grads)
    many = torch.vmap(f, in_dims=(None, 0, None, None))(plain[0], torch.stack([plain[1]] * 2), *plain[2:])
    torch.testing.assert_close(many[1], expected.detach())


@every_backend
def test_nearest_has_no_gradient_by_the_motion(backend: str) -> None:
    volume, *motion = motion_inputs()
    out = rotate3d(volume, motion[0], translation=motion[1], scale=motion[2], mode="nearest", backend=backend)
    assert not any(grad.any() for grad in torch.autograd.grad(out.sum(), motion))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_check_accepts_rounded_rotations(dtype: torch.dtype) -> None:
    volume = torch.zeros(50, 1, 1, 1, 1, dtype=dtype)
    rotate3d(volume, random_rotations(50).to(dtype), check=True)
    rotate3d(volume, torch.from_numpy(CubeGroup().matrices[7].copy()).to(dtype), check=True)


VOLUMES, ROTATIONS = torch.zeros(2, 3, 4, 5, 6), torch.eye(3).repeat(2, 1, 1)
MIRROR = torch.diag(torch.tensor([1.0, -1.0, 1.0]))
SECOND_STRETCHED = torch.stack([torch.eye(3), 1.001 * torch.eye(3)])
NOT_A_NUMBER = torch.full((3, 3), math.nan)


@pytest.mark.parametrize(
    ("volume", "rotation", "options", "error", "message"),
    [
        (VOLUMES[0], ROTATIONS, {}, ValueError, r"^volume: expected 5 dimensions \(N, C, D, H, W\), got 4"),
        (VOLUMES.int(), ROTATIONS, {}, TypeError, "^volume: expected float32.*got torch.int32"),
        (VOLUMES.numpy(), ROTATIONS, {}, TypeError, "^volume: expected a tensor, got ndarray"),
        (VOLUMES, ROTATIONS[:1], {}, ValueError, r"^R: expected shape \(2, 3, 3\).*got \(1, 3, 3\)"),
        (VOLUMES, torch.eye(4), {}, ValueError, r"^R: expected shape \(2, 3, 3\).*or \(3, 3\) for all, got"),
        (VOLUMES, ROTATIONS.long(), {}, TypeError, "^R: expected a floating dtype, got torch.int64"),
        (VOLUMES, np.eye(3), {}, TypeError, "^R: expected a tensor, got ndarray"),
        (VOLUMES, ROTATIONS.to("meta"), {}, ValueError, "^R: expected on cpu.*got meta"),
        (VOLUMES, ROTATIONS, {"mode": "bicubic"}, ValueError, "^mode: bicubic is for images"),
        (VOLUMES, ROTATIONS, {"mode": "linear"}, ValueError, "^mode: expected one of nearest"),
        (VOLUMES, ROTATIONS, {"padding": "wrap"}, ValueError, "^padding: expected one of zeros"),
        (VOLUMES, ROTATIONS, {"translation": (1, 2)}, TypeError, "^translation: .*tensor or 3 numbers"),
        (VOLUMES, ROTATIONS, {"translation": torch.zeros(2, 2)}, ValueError, "^translation: expected shape"),
        (VOLUMES, ROTATIONS, {"scale": torch.ones(2, 3)}, ValueError, "^scale: expected shape"),
        (VOLUMES, ROTATIONS, {"backend": "triton"}, ValueError, "^backend: 'triton' cannot run rotate3d"),
        (VOLUMES, MIRROR, {"check": True}, ValueError, r"^R: .*determinant \+1, got -1 for matrix 0"),
        (VOLUMES, SECOND_STRETCHED, {"check": True}, ValueError, "^R: expected rotations.* for matrix 1"),
        (VOLUMES, NOT_A_NUMBER, {"check": True}, ValueError, "^R: expected rotations"),
        (VOLUMES, torch.eye(3).double() * (1 + 1e-6), {"check": True}, ValueError, "^R: .* to 1e-08"),
    ],
)  # fmt: skip
def test_errors(
    volume: Tensor, rotation: Tensor, options: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        rotate3d(volume, rotation, **options)
    if options.get("check"):
        rotate3d(volume, rotation)
