"""`rotate` with its options: other interpolations and paddings, translation and scale."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import scipy.ndimage
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from equikernels.ops import affine_sample, rotate
from tests.ops.rotation.motions import moved, random_motion
from tests.ops.rotation.samples import DTYPES, random_case
from tests.ops.sampling.samples import value_tolerance as sampling_tolerance

BACKENDS = ("reference", "cpp")
MODES = ("nearest", "bilinear", "bicubic")
PADDINGS = ("zeros", "border", "reflection")
every_backend = pytest.mark.parametrize("backend", BACKENDS)
every_mode = pytest.mark.parametrize("mode", MODES)
every_padding = pytest.mark.parametrize("padding", PADDINGS)


def exact(theta: Tensor) -> Tensor:
    """The map of a turn alone, for tolerances."""
    return moved(theta, torch.zeros(len(theta), 2), torch.ones(len(theta)))


@every_mode
@every_padding
@every_backend
@pytest.mark.parametrize("given", ["angle", "translation", "scale", "all"])
def test_is_the_inverse_of_the_motion(mode: str, padding: str, backend: str, given: str) -> None:
    shape = (5, 2, 7, 10)
    z, theta, _ = random_case(shape, torch.float64)
    translation, scale = random_motion(5, 2)
    none, one = torch.zeros_like(translation), torch.ones_like(scale)
    options = {"translation": translation, "scale": scale}
    options = {name: x for name, x in options.items() if given in (name, "all")}
    matrix = moved(theta, options.get("translation", none), options.get("scale", one))
    expected = affine_sample(z, matrix, mode=mode, padding=padding, backend="reference")
    ours = rotate(z, theta, mode=mode, padding=padding, backend=backend, **options)
    atol = 4 * sampling_tolerance(shape, torch.float64, matrix, mode)
    torch.testing.assert_close(ours, expected, rtol=0, atol=atol)


@every_backend
@pytest.mark.parametrize("size", [(8, 8), (33, 20), (150, 131)], ids=str)
def test_general_path_equals_the_kernels_of_the_plain_turn(size: tuple[int, int], backend: str) -> None:
    """A scale of one goes through the general family; values and gradients."""
    z, theta, grad = random_case((3, 2, *size), torch.float64)
    z.requires_grad_(), theta.requires_grad_()
    plain, general = (rotate(z, theta, scale=scale, backend=backend) for scale in (None, 1.0))
    matrix = exact(theta.detach())
    atol = 2 * sampling_tolerance(tuple(z.shape), torch.float64, matrix, "bilinear")
    torch.testing.assert_close(general, plain, rtol=0, atol=atol)
    expected, ours = (torch.autograd.grad(x, (z, theta), grad) for x in (plain, general))
    # Each pixel is a tap of at most nine places of a turned image.
    torch.testing.assert_close(ours[0], expected[0], rtol=0, atol=9 * atol)
    torch.testing.assert_close(ours[1], expected[1], rtol=0, atol=z[0].numel() * max(size) * atol)


@every_mode
@every_padding
@every_backend
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_quarter_turns_are_rot90(mode: str, padding: str, backend: str, dtype: torch.dtype) -> None:
    for size in (1, 2, 5, 8):
        z, _, _ = random_case((9, 2, size, size), dtype)
        turns = torch.arange(-4, 5, dtype=torch.float64)
        theta = turns * (math.pi / 2)
        expected = torch.stack([torch.rot90(x, int(k), (-2, -1)) for x, k in zip(z, turns, strict=True)])
        ours = rotate(z, theta, mode=mode, padding=padding, backend=backend)
        if mode == "nearest":
            assert torch.equal(ours, expected)
        # The angle is rounded too, up to 2 pi of it.
        atol = 8 * sampling_tolerance(tuple(z.shape), dtype, exact(theta), mode)
        torch.testing.assert_close(ours, expected, rtol=0, atol=atol)


@every_backend
@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("size", [(8, 8), (5, 12)], ids=str)
def test_equals_scipy_rotate(size: tuple[int, int], mode: str, padding: str, backend: str) -> None:
    z, _, _ = random_case((1, 1, *size), torch.float64)
    names = {"zeros": "grid-constant", "border": "nearest", "reflection": "reflect"}
    for degrees in (20.0, -73.0, 200.0):
        theta = torch.tensor([math.radians(degrees)], dtype=torch.float64)
        order = ("nearest", "bilinear").index(mode)
        expected = scipy.ndimage.rotate(
            z[0, 0].numpy(), degrees, reshape=False, order=order, mode=names[padding]
        )
        atol = sampling_tolerance(tuple(z.shape), torch.float64, exact(theta), mode)
        ours = rotate(z, theta, mode=mode, padding=padding, backend=backend)[0, 0].numpy()
        np.testing.assert_allclose(ours, expected, rtol=0, atol=atol)


@every_backend
@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
@pytest.mark.parametrize("translation", [(0, 0), (2, -1)], ids=str)
def test_equals_pil_rotate(mode: str, translation: tuple[int, int], backend: str) -> None:
    """The whole convention: which way it turns, and that it is moved after it, right and down."""
    pillow = pytest.importorskip("PIL.Image")
    size = (20, 27)
    z, _, _ = random_case((1, 1, *size), torch.float32)
    image = pillow.fromarray(z[0, 0].numpy())
    resample = {"nearest": pillow.Resampling.NEAREST, "bilinear": pillow.Resampling.BILINEAR}[mode]
    for degrees in (17.0, -60.0, 130.0):
        expected = torch.from_numpy(np.array(image.rotate(degrees, resample, translate=translation)))
        theta = math.radians(degrees)
        ours = rotate(z, theta, mode=mode, translation=translation, backend=backend)[0, 0]
        # At the border PIL repeats pixels where zeros begin here: only places well inside.
        inside = rotate(torch.ones_like(z), theta, translation=translation)[0, 0] > 1 - 1e-3
        assert inside.sum() > 100
        matrix = moved(torch.tensor([theta]), torch.tensor([translation]), torch.ones(1))
        atol = sampling_tolerance(tuple(z.shape), torch.float32, matrix, mode)
        torch.testing.assert_close(ours[inside], expected[inside], rtol=0, atol=atol)


@every_backend
@every_mode
def test_what_translation_and_scale_do(mode: str, backend: str) -> None:
    z = torch.zeros(1, 1, 9, 9)
    z[0, 0, 4, 6] = 1  # two to the right of the centre
    z[0, 0, 4, 4] = 0.5
    turned = rotate(z, math.pi / 2, translation=(1, 3), scale=1.5, mode=mode, backend=backend)
    # Turned upwards, magnified to a distance of three, moved by (right 1, down 3).
    assert turned[0, 0, 4 - 3 + 3, 4 + 1] == pytest.approx(1, abs=1e-5)
    assert turned[0, 0, 4 + 3, 4 + 1] == pytest.approx(0.5, abs=1e-5)
    mirrored = rotate(z, 0.0, scale=-1.0, mode=mode, backend=backend)
    torch.testing.assert_close(mirrored, z.flip(-1, -2), rtol=0, atol=1e-6)


@every_backend
def test_one_motion_for_all(backend: str) -> None:
    z, theta, _ = random_case((3, 2, 6, 7), torch.float32)
    expected = rotate(
        z, theta, translation=torch.tensor([[1.5, -0.5]] * 3), scale=torch.full((3,), 1.25), backend=backend
    )
    for translation in (
        (1.5, -0.5),
        [1.5, -0.5],
        torch.tensor([1.5, -0.5]),
        torch.tensor([1.5, -0.5]).double(),
    ):
        for scale in (1.25, np.float32(1.25), torch.tensor(1.25), torch.tensor(1.25, dtype=torch.float16)):
            assert torch.equal(
                rotate(z, theta, translation=translation, scale=scale, backend=backend), expected
            )


@every_mode
@every_padding
@every_backend
@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("theta", math.nan), ("theta", math.inf), ("translation", math.nan), ("translation", -math.inf),
        ("scale", math.nan), ("scale", math.inf), ("scale", 0.0), ("scale", -0.0),
    ],
)  # fmt: skip
def test_motion_that_is_not_finite(
    argument: str, value: float, mode: str, padding: str, backend: str
) -> None:
    z = torch.zeros(3, 2, 6, 5, requires_grad=True)
    motion = {"theta": torch.tensor([0.3, 0.0, 0.1]), "translation": torch.ones(3, 2), "scale": torch.ones(3)}
    motion[argument][1] = value
    inputs = [x.requires_grad_() for x in motion.values()]
    out = rotate(z, mode=mode, padding=padding, backend=backend, **motion)
    z_grad, *grads = torch.autograd.grad(out, (z, *inputs), torch.ones_like(out))
    for x in (out, z_grad, motion[argument].detach(), *grads):
        assert x[[0, 2]].isfinite().all()
    assert out[1].isnan().all()
    assert z_grad[1].isnan().all()
    assert all(grad[1].isnan().all() for grad in grads)


@every_mode
@every_padding
@every_backend
@pytest.mark.parametrize("argument", ["theta", "translation", "scale", "tiny scale"])
def test_enormous_motions(argument: str, mode: str, padding: str, backend: str) -> None:
    z, _, _ = random_case((2, 2, 6, 5), torch.float32)
    motion = {"theta": 0.3, "translation": (0.0, 0.0), "scale": 1.0}
    largest = {"theta": 3e38, "translation": (1e30, -1e30), "scale": 3e38, "tiny scale": 1e-30}
    motion[argument.split()[-1]] = largest[argument]
    out = rotate(z, mode=mode, padding=padding, backend=backend, **motion)
    assert out.isfinite().all()
    if padding == "zeros" and argument in ("translation", "tiny scale"):
        assert not out.any()
    if argument == "scale":
        # One point, seen everywhere.
        assert torch.allclose(out, out[..., :1, :1], rtol=0, atol=1e-6)


def call(mode: str, padding: str, backend: str) -> Callable[..., Tensor]:
    return lambda z, theta, translation, scale: rotate(
        z, theta, translation=translation, scale=scale, mode=mode, padding=padding, backend=backend
    )


def motion_inputs(seed: int = 3) -> tuple[Tensor, ...]:
    z, theta, _ = random_case((2, 1, 4, 3), torch.float64, seed)
    inputs = (z, theta, *random_motion(2, 2, seed))
    return tuple(x.requires_grad_() for x in inputs)


@every_padding
@every_backend
@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_gradients_by_every_input(mode: str, padding: str, backend: str) -> None:
    f = call(mode, padding, backend)
    assert gradcheck(f, motion_inputs(), check_forward_ad=True, fast_mode=backend == "reference")
    assert gradgradcheck(f, motion_inputs(), fast_mode=True, check_fwd_over_rev=True)


@pytest.mark.parametrize("needed", [(0,), (1,), (2,), (3,), (1, 3), (0, 2), ()], ids=str)
def test_any_subset_of_inputs(needed: tuple[int, ...]) -> None:
    f = call("bicubic", "border", "cpp")
    whole = motion_inputs()
    expected = torch.autograd.grad(f(*whole).pow(2).sum(), whole)
    some = [x.detach().requires_grad_(k in needed) for k, x in enumerate(whole)]
    out = f(*some)
    assert out.requires_grad == bool(needed)
    if needed:
        ours = torch.autograd.grad(out.pow(2).sum(), [some[k] for k in needed])
        torch.testing.assert_close(ours, tuple(expected[k] for k in needed))


@every_backend
@pytest.mark.parametrize("motion_dtype", DTYPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_gradient_dtypes(dtype: torch.dtype, motion_dtype: torch.dtype, backend: str) -> None:
    z, *motion = (x.detach() for x in motion_inputs())
    inputs = [z.to(dtype).requires_grad_(), *(x.to(motion_dtype).requires_grad_() for x in motion)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = call("bilinear", "reflection", backend)(*inputs)
    assert torch.equal(out, call("bilinear", "reflection", backend)(*inputs))
    grads = torch.autograd.grad(out.sum(), inputs)
    assert [x.dtype for x in (out, *grads)] == [dtype, dtype, *[motion_dtype] * 3]


def test_numbers_in_a_compiled_function() -> None:
    torch._dynamo.reset()

    def f(z: Tensor, x: float, y: float, scale: float) -> Tensor:
        return rotate(z, 0.3, translation=(x, y), scale=scale, mode="bicubic")

    compiled = torch.compile(f, fullgraph=True, backend="aot_eager")
    z, _, _ = random_case((2, 2, 5, 6), torch.float32)
    for numbers in ((1.0, 2.0, 1.5), (-0.5, 0.25, 0.75), (3.0, 1.0, 2.0)):
        assert torch.equal(compiled(z, *numbers), f(z, *numbers))


@every_backend
def test_nearest_has_no_gradient_by_the_motion(backend: str) -> None:
    inputs = motion_inputs()
    out = call("nearest", "zeros", backend)(*inputs)
    z_grad, *grads = torch.autograd.grad(out.sum(), inputs)
    assert z_grad.any()
    assert not any(grad.any() for grad in grads)


@every_mode
@every_padding
def test_compiled_and_transformed(mode: str, padding: str) -> None:
    torch._dynamo.reset()
    f, inputs = call(mode, padding, "cpp"), motion_inputs()
    compiled = torch.compile(f, fullgraph=True, backend="aot_eager")
    expected = f(*inputs)
    torch.testing.assert_close(compiled(*inputs), expected, rtol=0, atol=0)
    grads, compiled_grads = (
        torch.autograd.grad(x.pow(2).sum(), inputs) for x in (expected, compiled(*inputs))
    )
    torch.testing.assert_close(compiled_grads, grads, rtol=0, atol=0)
    plain = tuple(x.detach() for x in inputs)
    ours = torch.func.grad(lambda *x: f(*x).pow(2).sum(), (0, 1, 2, 3))(*plain)
    torch.testing.assert_close(ours, grads)
    many = torch.vmap(f, in_dims=(None, 0, 0, None))(
        plain[0], torch.stack([plain[1]] * 2), torch.stack([plain[2]] * 2), plain[3]
    )
    torch.testing.assert_close(many[1], expected.detach())
