"""`spectral_rotate`: a representation to rounding, that of the pixel grid where it takes its basis from."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from equikernels.group import SO2, pixel_grid
from equikernels.ops import spectral_rotate
from tests.ops.fourier.samples import (
    BACKENDS,
    DTYPES,
    blobs,
    compute_epsilon,
    distance,
    random_case,
    spectral_arguments,
)

SIZES = ((8, 8), (7, 7), (6, 6), (2, 2), (1, 1), (5, 6), (4, 4), (1, 3))


def product_error(dtype: torch.dtype, size: tuple[int, int]) -> float:
    """Largest |error| / |images|: two products with an orthogonal matrix, each row of H W terms."""
    return compute_epsilon(dtype) * 4 * (size[0] * size[1] + 4)


def case(
    size: tuple[int, int], dtype: torch.dtype, batch: int = 3
) -> tuple[Tensor, Tensor, Tensor, list[int]]:
    z, theta, _ = random_case((batch, 2, *size), dtype)
    return (z, theta, *spectral_arguments(size, torch.float64))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_is_the_representation_of_the_grid(size: tuple[int, int], dtype: torch.dtype, backend: str) -> None:
    z, theta, basis, frequencies = case(size, dtype)
    matrices = pixel_grid(size, SO2())(theta.double())
    expected = torch.einsum("npq,ncq->ncp", matrices, z.double().flatten(2)).view(z.shape)
    found = spectral_rotate(z, theta, basis, frequencies, backend=backend)
    assert found.dtype == dtype
    assert found.is_contiguous()
    # The basis is rounded to the dtype of the computation, the result to that of the data.
    bound = product_error(dtype, size) + torch.finfo(dtype).eps
    assert distance(found, expected) <= bound


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_group_law(size: tuple[int, int], dtype: torch.dtype, backend: str) -> None:
    z, _, basis, frequencies = case(size, dtype, batch=4)
    # Sums of these angles are exact in float32 too.
    a, b = (torch.tensor(x, dtype=dtype) for x in ([0.5, -2.25, 3.0, 100.0], [1.5, 2.25, -7.125, 0.75]))

    def turned(x: Tensor, angle: Tensor | float) -> Tensor:
        return spectral_rotate(x, angle, basis, frequencies, backend=backend)

    bound = 2 * product_error(dtype, size)
    assert distance(turned(turned(z, b), a), turned(z, a + b)) <= bound
    assert distance(turned(turned(z, a), -a), z) <= bound
    assert distance(turned(z, math.tau), z) <= bound
    many = z
    for _ in range(12):
        many = turned(many, math.pi / 6)
    assert distance(many, z) <= 6 * bound


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("size", [8, 7, 5, 4, 12])
def test_quarter_turns_are_rot90(size: int, backend: str) -> None:
    z, _, basis, frequencies = case((size, size), torch.float64)
    for k in (1, 2, 3, -1):
        turned = spectral_rotate(z, k * math.pi / 2, basis, frequencies, backend=backend)
        # The angle is rounded by half an ulp of 2 pi, and turns by at most `size` frequencies.
        bound = product_error(z.dtype, (size, size)) + size * math.tau * torch.finfo(z.dtype).eps
        assert distance(turned, torch.rot90(z, k, (-2, -1))) <= bound


def test_half_turn_of_a_rectangle() -> None:
    z, _, basis, frequencies = case((4, 7), torch.float64)
    turned = spectral_rotate(z, math.pi, basis, frequencies)
    assert distance(turned, z.flip(-1, -2)) <= 2 * product_error(z.dtype, (4, 7))


def test_turns_smooth_content_counter_clockwise() -> None:
    basis, frequencies = spectral_arguments((28, 28), torch.float64)
    z, expected = blobs(28, 28, 0.0), blobs(28, 28, 0.7)
    assert distance(spectral_rotate(z, 0.7, basis, frequencies), expected) < 0.01
    assert distance(spectral_rotate(z, -0.7, basis, frequencies), expected) > 0.5


def test_angle_zero_is_exact() -> None:
    z, _, basis, frequencies = case((6, 7), torch.float32)
    assert torch.equal(spectral_rotate(z, 0.0, basis, frequencies), z)


@pytest.mark.parametrize("backend", BACKENDS)
def test_blocks_of_any_frequencies(backend: str) -> None:
    """Two columns that stay, then planes of frequencies 3, -2 and 0, of a basis that is no grid's."""
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(8, 8, generator=generator, dtype=torch.float64)).Q
    z = torch.randn(2, 3, 2, 4, generator=generator, dtype=torch.float64)
    theta = torch.tensor([0.4, -1.1], dtype=torch.float64)
    turned = spectral_rotate(z, theta, basis, [0, 0, 3, -2, 0], backend=backend)
    before, after = (x.flatten(2) @ basis for x in (z, turned))
    still = [0, 1, 6, 7]
    torch.testing.assert_close(after[..., still], before[..., still])
    for column, k in ((2, 3), (4, -2)):
        x, y = (before[..., column + i] for i in (0, 1))
        c, s = torch.cos(k * theta)[:, None], torch.sin(k * theta)[:, None]
        torch.testing.assert_close(after[..., column], c * x - s * y)
        torch.testing.assert_close(after[..., column + 1], s * x + c * y)


def test_frequencies_in_every_form_and_angles_in_every_form() -> None:
    z, _, basis, frequencies = case((5, 5), torch.float32)
    expected = spectral_rotate(z, torch.full((3,), 0.5), basis, frequencies)
    tensor = torch.tensor(frequencies)
    for form in (tuple(frequencies), list(tensor.numpy()), tensor, tensor.to(torch.int32)):
        assert torch.equal(spectral_rotate(z, 0.5, basis, form), expected)
    for theta in (0.5, torch.tensor(0.5), torch.tensor(0.5, dtype=torch.float64)):
        assert torch.equal(spectral_rotate(z, theta, basis.float(), frequencies), expected)
    assert torch.equal(spectral_rotate(z.mT.contiguous().mT, 0.5, basis, frequencies), expected)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")], ids=str)
@pytest.mark.parametrize("size", [(6, 6), (5, 5), (1, 1)], ids=str)
def test_angle_that_is_not_finite(size: tuple[int, int], value: float, backend: str) -> None:
    _, _, basis, frequencies = case(size, torch.float32)
    z = torch.zeros(3, 2, *size, requires_grad=True)
    theta = torch.tensor([0.3, value, 0.1], requires_grad=True)
    out = spectral_rotate(z, theta, basis, frequencies, backend=backend)
    assert out[1].isnan().all()
    assert not out[[0, 2]].isnan().any()
    z_grad, theta_grad = torch.autograd.grad(out, (z, theta), torch.ones_like(out))
    assert z_grad[1].isnan().all()
    assert theta_grad[1].isnan()
    assert z_grad[[0, 2]].isfinite().all()
    assert theta_grad[[0, 2]].isfinite().all()


@pytest.mark.parametrize("angle", [1e30, -3e38, 2.0**63])
def test_huge_angles(angle: float) -> None:
    z, _, basis, frequencies = case((6, 6), torch.float32)
    theta = torch.tensor(angle)  # the float32 number nearest to it
    exact = torch.atan2(theta.double().sin(), theta.double().cos())
    expected = spectral_rotate(z, exact, basis, frequencies)
    assert distance(spectral_rotate(z, theta, basis, frequencies), expected) <= product_error(z.dtype, (6, 6))
    assert spectral_rotate(z.double(), 1e308, basis, frequencies).isfinite().all()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", [(0, 3, 4, 4), (2, 0, 4, 5), (2, 3, 0, 5)], ids=str)
def test_empty(shape: tuple[int, ...], backend: str) -> None:
    size = shape[2] * shape[3]
    basis, frequencies = torch.eye(size), [0] * size
    if size:
        basis, frequencies = spectral_arguments(shape[2:], torch.float32)
    z, theta = torch.randn(shape, requires_grad=True), torch.randn(shape[0], requires_grad=True)
    out = spectral_rotate(z, theta, basis, frequencies, backend=backend)
    assert out.shape == shape
    z_grad, theta_grad = torch.autograd.grad(out.sum(), (z, theta))
    assert z_grad.shape == shape
    assert torch.equal(theta_grad, torch.zeros(shape[0]))


# --- derivatives, transforms, compilation ---------------------------------------------------------


def rotation(size: tuple[int, int], backend: str = "torch") -> Callable[[Tensor, Tensor], Tensor]:
    basis, frequencies = spectral_arguments(size, torch.float64)
    turning = torch.tensor(frequencies)
    return lambda z, theta: spectral_rotate(z, theta, basis, turning, backend=backend)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("size", [(4, 4), (3, 3), (3, 4), (1, 1)], ids=str)
def test_gradcheck(size: tuple[int, int], backend: str) -> None:
    z, theta, _, _ = case(size, torch.float64, batch=2)
    arguments = (z.requires_grad_(), theta.requires_grad_())
    assert gradcheck(rotation(size, backend), arguments, check_forward_ad=True)
    if backend == "torch" and size != (4, 4):
        assert gradgradcheck(rotation(size), arguments, check_fwd_over_rev=True)


def test_gradient_of_the_basis() -> None:
    z, theta, basis, frequencies = case((2, 3), torch.float64, batch=2)
    assert gradcheck(lambda q: spectral_rotate(z, theta, q, frequencies), basis.requires_grad_())


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_gradient_dtypes(dtype: torch.dtype) -> None:
    z, theta, basis, frequencies = case((4, 4), dtype)
    z.requires_grad_(), theta.requires_grad_()
    spectral_rotate(z, theta, basis, frequencies).sum().backward()
    assert (z.grad.dtype, theta.grad.dtype) == (dtype, theta.dtype)


def test_transforms_agree_with_the_reference() -> None:
    z, theta, _, _ = case((3, 4), torch.float64, batch=2)
    turns = [rotation((3, 4), backend) for backend in BACKENDS]
    losses = [lambda z, theta, turn=turn: turn(z, theta).pow(3).sum() for turn in turns]
    for argument in (0, 1):
        for derivative in (torch.func.grad, torch.func.hessian, torch.func.jacfwd):
            torch.testing.assert_close(*(derivative(f, argument)(z, theta) for f in losses))
    torch.testing.assert_close(*(torch.func.jvp(f, (z, theta), (z.sin(), theta.cos())) for f in losses))


@pytest.mark.parametrize("in_dims", [(0, 0), (1, None), (None, 0)], ids=str)
def test_vmap(in_dims: tuple[int | None, int | None]) -> None:
    z, theta = torch.randn(4, 4, 4, 3, 5).double(), torch.randn(4, 4).double()
    z = z if in_dims[0] is not None else z[0]
    theta = theta if in_dims[1] is not None else theta[0]
    turn = rotation((3, 5))
    many = torch.vmap(turn, in_dims=in_dims)(z, theta)
    for k in range(4):
        one_z = z if in_dims[0] is None else z.select(in_dims[0], k)
        one_theta = theta if in_dims[1] is None else theta.select(in_dims[1], k)
        torch.testing.assert_close(many[k], turn(one_z, one_theta))


@pytest.mark.parametrize("backend", BACKENDS)
def test_autocast_changes_nothing(backend: str) -> None:
    z, theta, basis, frequencies = case((5, 5), torch.float32)
    expected = spectral_rotate(z, theta, basis, frequencies, backend=backend)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(spectral_rotate(z, theta, basis, frequencies, backend=backend), expected)


def test_compile_and_export() -> None:
    z, theta, basis, frequencies = case((4, 4), torch.float64)
    z.requires_grad_(), theta.requires_grad_()
    torch._dynamo.reset()
    compiled = torch.compile(spectral_rotate, fullgraph=True, backend="aot_eager")
    for form in (frequencies, torch.tensor(frequencies)):
        out, expected = (f(z, theta, basis, form) for f in (compiled, spectral_rotate))
        torch.testing.assert_close(out, expected)
        torch.testing.assert_close(*(torch.autograd.grad(x.sum(), (z, theta)) for x in (out, expected)))
    torch._dynamo.reset()

    class Rotation(torch.nn.Module):
        def forward(self, z: Tensor, theta: Tensor) -> Tensor:
            return spectral_rotate(z, theta, basis, frequencies)

    batch = torch.export.Dim("batch", min=2, max=64)
    program = torch.export.export(
        Rotation(), (z.detach(), theta.detach()), dynamic_shapes=({0: batch}, {0: batch})
    )
    z, theta = torch.randn(5, 2, 4, 4).double(), torch.randn(5).double()
    torch.testing.assert_close(program.module()(z, theta), spectral_rotate(z, theta, basis, frequencies))


def test_meta_tensors_have_the_right_shape() -> None:
    z, theta, basis = (torch.empty(shape, device="meta") for shape in ((2, 3, 2, 2), (2,), (4, 4)))
    assert spectral_rotate(z, theta, basis, [0, 0, 1]).shape == z.shape


IMAGES, ANGLES, BASIS = torch.zeros(2, 3, 2, 3), torch.zeros(2), torch.eye(6)


@pytest.mark.parametrize(
    ("z", "theta", "basis", "frequencies", "error", "message"),
    [
        (IMAGES[0], ANGLES, BASIS, [1, 2, 3], ValueError, r"^z: expected 4 dimensions"),
        (IMAGES, ANGLES[:1], BASIS, [1, 2, 3], ValueError, r"^theta: expected shape \(2,\)"),
        (IMAGES, ANGLES, BASIS.numpy(), [1, 2, 3], TypeError, "^basis: expected a tensor, got ndarray"),
        (IMAGES, ANGLES, BASIS.long(), [1, 2, 3], TypeError, "^basis: expected a floating dtype"),
        (IMAGES, ANGLES, BASIS.to("meta"), [1, 2, 3], ValueError, "^basis: expected on the device of z, cpu"),
        (IMAGES, ANGLES, BASIS[:5], [1, 2, 3], ValueError, r"^basis: expected shape \(6, 6\).*got \(5, 6\)"),
        (IMAGES, ANGLES, BASIS, [1, 2], ValueError, "^frequencies: expected shape .*3 to 6 blocks"),
        (IMAGES, ANGLES, BASIS, [0] * 7, ValueError, "^frequencies: expected shape .*3 to 6 blocks"),
        (IMAGES, ANGLES, BASIS, [1, 0, 0, 2], ValueError, r"^frequencies: .* 2 zeros first.*got \[1, 0\]"),
        (IMAGES, ANGLES, BASIS, [1.5, 1.0, 2.0], TypeError, "^frequencies: expected integers"),
        (IMAGES, ANGLES, BASIS, [True, 1, 2], TypeError, "^frequencies: expected integers"),
        (IMAGES, ANGLES, BASIS, 3, TypeError, "^frequencies: expected a tensor or a sequence.*got int"),
        (IMAGES, ANGLES, BASIS, torch.ones(3), TypeError, "^frequencies: expected an integer dtype"),
        (IMAGES, ANGLES, BASIS, torch.ones(3, 1).long(), ValueError, "^frequencies: expected shape"),
    ],
)  # fmt: skip
def test_errors(
    z: Tensor, theta: Tensor, basis: Tensor, frequencies: object, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        spectral_rotate(z, theta, basis, frequencies)


def test_unknown_backend() -> None:
    with pytest.raises(ValueError, match=r"^backend: 'cpp' cannot run spectral_rotate"):
        spectral_rotate(IMAGES, ANGLES, BASIS, [1, 2, 3], backend="cpp")
