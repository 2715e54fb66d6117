"""What `coordinate_mlp` means: formulas pixel by pixel, the sense of angles and shifts, nats."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
import torch
from torch import Tensor

from equikernels.ops import (
    CoordinateMLPWeights,
    backends,
    coordinate_mlp,
    coordinate_mlp_log_likelihood,
    image_grid,
)
from tests.ops.coordinate_decoder.samples import Case, make_case

BACKENDS = ("reference", "torch")


def by_hand(case: Case, activation: str, residual: bool) -> np.ndarray:
    """The formula of the documentation for one pixel of one sample at a time."""
    x, y = (axis.numpy() for axis in case.coordinates)
    w = case.weights
    named = {name.removeprefix("weights."): t.detach().numpy() for name, t in w.named_tensors.items()}
    act = np.tanh if activation == "tanh" else (lambda a: np.where(a > 0, a, 0.01 * a))
    images = []
    for angle, shift, z in zip(*(t.detach().numpy() for t in (case.theta, case.shift, case.z)), strict=True):
        c, s = math.cos(angle), math.sin(angle)
        outputs = []
        for row in range(len(y)):
            for column in range(len(x)):
                u = np.array([x[column], y[row]]) @ np.array([[c, s], [-s, c]]) + shift
                if w.coordinate.shape[1] == 5:
                    u = np.array([u[0], u[1], u[0] ** 2, u[1] ** 2, u[0] * u[1]])
                a = named["coordinate"] @ u + named["latent"] @ z + named["bias"]
                if w.bilinear is not None:
                    a = a + np.array([u @ matrix @ z for matrix in named["bilinear"]])
                h = act(a)
                for k in range(len(w.hidden)):
                    a = named[f"hidden[{k}]"] @ h + named[f"hidden_bias[{k}]"]
                    h = act(a + h if residual else a)
                outputs.append(named["output"] @ h + named["output_bias"])
        images.append(outputs)
    return np.array(images)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("residual", [False, True], ids=["", "residual"])
@pytest.mark.parametrize("activation", ["tanh", "leaky_relu"])
@pytest.mark.parametrize("bilinear", [False, True], ids=["", "bilinear"])
@pytest.mark.parametrize("inputs", [2, 5])
@pytest.mark.parametrize("layers", [0, 2])
def test_the_formula(
    layers: int, inputs: int, bilinear: bool, activation: str, residual: bool, backend: str
) -> None:
    case = make_case(2, (4, 3), layers=layers, inputs=inputs, bilinear=bilinear, channels=3)
    found = case.values(activation=activation, residual=residual, backend=backend)
    expected = by_hand(case, activation, residual)
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-12, atol=1e-12)


def spot(theta: float, shift: tuple[float, float], backend: str) -> tuple[int, int]:
    """Row and column of the brightest pixel of a blob drawn at (0.5, 0) before it is moved."""
    # Two units each, an up and a down step, make a bump in x at 0.5 and one in y at 0.
    coordinate = torch.tensor([[8.0, 0.0], [8.0, 0.0], [0.0, 8.0], [0.0, 8.0]])
    bias = torch.tensor([-3.0, -5.0, 1.0, -1.0])
    weights = CoordinateMLPWeights(
        coordinate=coordinate,
        latent=torch.zeros(4, 1),
        bias=bias,
        hidden=(),
        hidden_bias=(),
        output=torch.tensor([[1.0, -1.0, 1.0, -1.0]]),
        output_bias=torch.zeros(1),
    )
    out = coordinate_mlp(
        image_grid(9, 9),
        torch.tensor([theta]),
        torch.tensor([shift]),
        torch.zeros(1, 1),
        weights,
        backend=backend,
    )
    return divmod(int(out.argmax()), 9)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_positive_angle_turns_clockwise(backend: str) -> None:
    assert spot(0.0, (0.0, 0.0), backend) == (4, 6)  # right of the centre
    assert spot(math.pi / 2, (0.0, 0.0), backend) == (6, 4)  # below it: row 0 is on top
    assert spot(-math.pi / 2, (0.0, 0.0), backend) == (2, 4)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_shift_adds_to_the_coordinates_after_the_rotation(backend: str) -> None:
    assert spot(0.0, (0.25, 0.0), backend) == (4, 5)
    assert spot(0.0, (0.0, 0.25), backend) == (5, 6)
    assert spot(math.pi / 2, (0.25, 0.0), backend) == (5, 4)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("inputs", [2, 5])
def test_a_quarter_turn_moves_pixels(inputs: int, backend: str) -> None:
    case = make_case(3, (7, 7), inputs=inputs, bilinear=True)
    upright = case.values(backend=backend).view(3, 7, 7)
    case.theta = case.theta + math.pi / 2
    turned = case.values(backend=backend).view(3, 7, 7)
    torch.testing.assert_close(turned, torch.rot90(upright, -1, (1, 2)), rtol=1e-12, atol=1e-12)


def test_the_automatic_choice() -> None:
    assert backends.choose("coordinate_mlp", "cpu") == "torch"
    assert backends.choose("coordinate_mlp", "cuda") == "torch"
    case = make_case()
    assert torch.equal(case.values(), case.values(backend="torch"))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("likelihood", "softplus"),
    [
        ("bernoulli", False),
        ("gaussian", False),
        ("gaussian", True),
        ("gaussian_learned_variance", False),
        ("gaussian_learned_variance", True),
    ],
)
def test_likelihoods_are_those_of_scipy(likelihood: str, softplus: bool, backend: str) -> None:
    learned = likelihood == "gaussian_learned_variance"
    case = make_case(channels=2, outputs=4 if learned else 2)
    if likelihood == "bernoulli":
        case.x = case.x.detach().round()
    out = case.values(softplus=softplus, learned_variance=learned, backend=backend).detach().numpy()
    x = case.x.detach().numpy()
    mean = out[..., :2]
    if likelihood == "bernoulli":
        each = scipy.stats.bernoulli.logpmf(x, 1 / (1 + np.exp(-out)))
    else:
        each = scipy.stats.norm.logpdf(x, mean, np.exp(out[..., 2:] / 2) if learned else 1.0)
    found = case.log_likelihood(likelihood=likelihood, softplus=softplus, backend=backend)
    np.testing.assert_allclose(found.detach().numpy(), each.sum((1, 2)), rtol=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
def test_softplus_is_of_the_means_only(backend: str) -> None:
    case = make_case(outputs=4)
    raw = case.values(backend=backend)
    soft = np.logaddexp(0, raw.detach().numpy())
    np.testing.assert_allclose(case.values(softplus=True, backend=backend).detach().numpy(), soft)
    halves = case.values(softplus=True, learned_variance=True, backend=backend)
    np.testing.assert_allclose(halves[..., :2].detach().numpy(), soft[..., :2])
    assert torch.equal(halves[..., 2:], raw[..., 2:])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("activation", ["tanh", "leaky_relu"])
@pytest.mark.parametrize("listed", [False, True], ids=["grid", "list"])
def test_a_mask_chooses_pixels(listed: bool, activation: str, backend: str) -> None:
    case = make_case(size=(5, 7), listed=listed, channels=2)
    inside = torch.rand(35, generator=torch.Generator().manual_seed(1)) < 0.4
    mask = inside if listed else inside.view(5, 7)
    options = {"activation": activation, "backend": backend}
    found = case.values(mask=mask, **options)
    torch.testing.assert_close(found, case.values(**options)[:, inside], rtol=1e-12, atol=1e-12)
    likelihood = case.log_likelihood(mask=mask, **options)
    case.x = torch.where(inside[:, None], case.x, torch.nan)  # pixels outside are never looked at
    assert torch.equal(case.log_likelihood(mask=mask, **options), likelihood)


@pytest.mark.parametrize("size", [(6, 6), (5, 8), (1, 1)], ids=str)
def test_the_disc(size: tuple[int, int]) -> None:
    case = make_case(size=size)
    height, width = size
    inside = torch.tensor(
        [
            [
                (i - (height - 1) / 2) ** 2 + (j - (width - 1) / 2) ** 2 <= (min(size) / 2) ** 2
                for j in range(width)
            ]
            for i in range(height)
        ]
    )
    assert torch.equal(case.values(mask="disc"), case.values(mask=inside))


def test_the_grid() -> None:
    x, y = image_grid(3, 5, isotropic=False, dtype=torch.float64)
    assert x.tolist() == [-1, -0.5, 0, 0.5, 1]
    assert y.tolist() == [1, 0, -1]
    x, y = image_grid(5, 3)
    assert x.tolist() == [-0.5, 0, 0.5]
    assert y.tolist() == [1, 0.5, 0, -0.5, -1]
    assert image_grid(1, 1)[0].tolist() == [0]
    for size in ((0, 3), (3, -1)):
        with pytest.raises(ValueError, match=r"^(height|width): expected a positive number"):
            image_grid(*size)


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_rotation_and_no_shift(backend: str) -> None:
    case = make_case()
    zeros = torch.zeros_like(case.theta)
    expected = coordinate_mlp(
        case.coordinates, zeros, torch.zeros_like(case.shift), case.z, case.weights, backend=backend
    )
    found = coordinate_mlp(case.coordinates, None, None, case.z, case.weights, backend=backend)
    assert torch.equal(found, expected)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("batch", "size", "latents"), [(0, (4, 3), 2), (2, (1, 1), 2), (1, (1, 6), 1), (2, (3, 3), 0)], ids=str
)
def test_small_and_empty(batch: int, size: tuple[int, int], latents: int, backend: str) -> None:
    case = make_case(batch, size, latents=latents)
    pixels = size[0] * size[1]
    values, likelihood = case.values(backend=backend), case.log_likelihood(backend=backend)
    assert values.shape == (batch, pixels, 1)
    assert likelihood.shape == (batch,)
    for out in (values, likelihood):
        grads = case.gradients(out, torch.ones_like(out))
        assert all(torch.isfinite(g).all() for g in grads.values())
        if batch == 0:
            assert not any(g.any() for g in grads.values())


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_mask_that_holds_nothing(backend: str) -> None:
    case = make_case()
    mask = torch.zeros(5, 4, dtype=torch.bool)
    assert case.values(mask=mask, backend=backend).shape == (3, 0, 1)
    out = case.log_likelihood(mask=mask, backend=backend)
    assert torch.equal(out, torch.zeros(3, dtype=torch.float64))
    assert not any(g.any() for g in case.gradients(out, torch.ones_like(out)).values())


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_an_angle_that_is_not_finite_spoils_its_own_sample_only(value: float, backend: str) -> None:
    case = make_case()
    case.theta = torch.tensor([0.1, value, 0.2], dtype=torch.float64)
    for out in (case.values(backend=backend), case.log_likelihood(backend=backend)):
        assert out[1].isnan().all()
        assert torch.isfinite(out[[0, 2]]).all()


def test_autocast_leaves_dtypes_alone() -> None:
    case = make_case(dtype=torch.float32, units=16)

    def both() -> list[Tensor]:
        return [case.values(backend=b) for b in BACKENDS] + [case.log_likelihood(backend=b) for b in BACKENDS]

    expected = both()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = both()
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_channels_sum() -> None:
    """The likelihood of a colour image is the sum of those of its channels."""
    case = make_case(channels=3)
    whole = case.log_likelihood()
    one = []
    for k in range(3):
        weights = case.weights._replace(
            output=case.weights.output[k : k + 1], output_bias=case.weights.output_bias[k : k + 1]
        )
        one.append(
            coordinate_mlp_log_likelihood(
                case.coordinates, case.theta, case.shift, case.z, weights, case.x[..., k : k + 1]
            )
        )
    torch.testing.assert_close(sum(one), whole)
