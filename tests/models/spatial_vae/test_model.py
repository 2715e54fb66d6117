"""The loss against formulas written out in NumPy, the meaning of the pose, and the traps of the paper."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.distributions import Normal, kl_divergence

from equikernels.models.data import SampleDraws
from equikernels.models.spatial_vae import Posterior, SpatialVAE
from equikernels.models.spatial_vae.losses import mean_free_kl, normal_kl
from equikernels.ops import rotate
from tests.models.spatial_vae.samples import float64, normal, pictures, small

EXACT = {"rtol": 1e-10, "atol": 1e-12}
Array = NDArray[np.float64]


# -- independent statements ----------------------------------------------------------------------------------


def array(tensor: torch.Tensor) -> Array:
    return tensor.detach().numpy()


def act(a: Array, name: str) -> Array:
    return np.tanh(a) if name == "tanh" else np.where(a > 0, a, 0.01 * a)


def encoded(model: SpatialVAE, images: Array, activation: str) -> tuple[Array, Array]:
    """Mean and logarithm of the standard deviation."""
    h = images.reshape(len(images), -1)
    parameters = [array(p) for p in model.encoder.parameters()]
    *inner, (last, last_bias) = zip(parameters[::2], parameters[1::2], strict=True)
    for weight, bias in inner:
        h = act(h @ weight.T + bias, activation)
    out = h @ last.T + last_bias
    return out[:, : out.shape[1] // 2], out[:, out.shape[1] // 2 :]


def drawn(model: SpatialVAE, n: Array, theta: float, shift_pixels: Array, options: dict[str, Any]) -> Array:
    """Raw outputs (H, W, outputs) for one latent n, pixel by pixel."""
    height, width = model.image_size
    named = {name: array(p) for name, p in model.decoder.named_parameters()}
    activation = options.get("activation", "tanh")
    unit = 2 / (max(height, width) - 1)
    image = np.zeros((height, width, len(named["output.bias"])))
    for row in range(height):
        for column in range(width):
            x, y = (column - (width - 1) / 2) * unit, ((height - 1) / 2 - row) * unit
            c, s = math.cos(theta), math.sin(theta)
            px, py = x * c - y * s + unit * shift_pixels[0], x * s + y * c + unit * shift_pixels[1]
            u = np.array([px, py, px**2, py**2, px * py] if options.get("expand") else [px, py])
            h = named["coordinate.weight"] @ u + named["coordinate.bias"] + named["latent.weight"] @ n
            if options.get("bilinear"):
                h = h + np.einsum("hdz,d,z->h", named["bilinear.weight"], u, n)
            h = act(h, activation)
            for layer in range(options.get("layers", 2) - 1):
                a = named[f"hidden.{layer}.weight"] @ h + named[f"hidden.{layer}.bias"]
                h = act(a + h if options.get("residual") else a, activation)
            image[row, column] = named["output.weight"] @ h + named["output.bias"]
    return image


def log_density(outputs: Array, x: Array, options: dict[str, Any]) -> Array:
    """Of the pixels x (H, W, C)."""
    likelihood, channels = options.get("likelihood", "bernoulli"), x.shape[2]
    if likelihood == "bernoulli":
        p = 1 / (1 + np.exp(-outputs))
        return x * np.log(p) + (1 - x) * np.log(1 - p)
    mean = outputs[..., :channels]
    mean = np.log(1 + np.exp(mean)) if options.get("softplus") else mean
    variance = np.exp(outputs[..., channels:]) if likelihood.endswith("variance") else np.ones_like(mean)
    return -((x - mean) ** 2) / (2 * variance) - np.log(2 * np.pi * variance) / 2


def expected_loss(model: SpatialVAE, x: Array, noise: Array, options: dict[str, Any]) -> dict[str, float]:
    """The terms, as the paper states them, for every image by itself."""
    turning, moving = options.get("rotation", True), options.get("translation", True)
    height, width = model.image_size
    row, column = np.mgrid[:height, :width]
    inside = np.ones((height, width), dtype=bool)
    if options.get("mask") == "disc":
        distance = np.hypot(row - (height - 1) / 2, column - (width - 1) / 2)
        inside = distance <= min(height, width) / 2
    means, log_stds = encoded(model, x * inside, options.get("activation", "tanh"))
    sums = {"reconstruction": 0.0, "kl_theta": 0.0, "kl_shift": 0.0, "kl_z": 0.0}
    for image, mean, log_std, own in zip(x, means, log_stds, noise, strict=True):
        std = np.exp(log_std)
        latent = list(mean + std * own)
        theta = latent.pop(0) if turning else 0.0
        scale = options.get("shift_prior", 1.4)
        shift = scale * np.array([latent.pop(0), latent.pop(0)]) if moving else np.zeros(2)
        density = log_density(
            drawn(model, np.array(latent), theta, shift, options), image.transpose(1, 2, 0), options
        )
        sums["reconstruction"] -= density[inside].sum()
        k = 0
        if turning:
            s = options.get("theta_prior", math.pi / 4)
            kl = -log_std[0] + math.log(s) + std[0] ** 2 / (2 * s**2) - 0.5
            if options.get("theta_mean_penalty", True):
                kl += mean[0] ** 2 / (2 * s**2)
            sums["kl_theta"] += kl
            k += 1
        unit = -log_std + (std**2 + mean**2 - 1) / 2
        if moving:
            sums["kl_shift"] += unit[k : k + 2].sum()
            k += 2
        sums["kl_z"] += unit[k:].sum()
    if not turning:
        del sums["kl_theta"]
    if not moving:
        del sums["kl_shift"]
    terms = {name: value / len(x) for name, value in sums.items()}
    return {"loss": sum(terms.values()), **terms}


CASES: dict[str, dict[str, Any]] = {
    "as by default": {},
    "leaky relu": {"activation": "leaky_relu"},
    "three residual layers": {"layers": 3, "residual": True},
    "bilinear and expanded": {"bilinear": True, "expand": True},
    "one layer": {"layers": 1},
    "priors": {"theta_prior": 0.3, "shift_prior": 2.5},
    "free mean of the angle": {"theta_mean_penalty": False, "theta_prior": math.pi},
    "gaussian, colours": {"likelihood": "gaussian", "channels": 3},
    "learned variance, colours, softplus": {
        "likelihood": "gaussian_learned_variance",
        "channels": 3,
        "softplus": True,
    },
    "disc": {"mask": "disc"},
    "no rotation": {"rotation": False},
    "no translation": {"translation": False},
    "fixed pose": {"rotation": False, "translation": False},
    "reference": {"backend": "reference"},
}


@pytest.mark.parametrize("options", CASES.values(), ids=CASES)
def test_the_loss_is_the_papers(options: dict[str, Any]) -> None:
    size = (5, 6)
    model = small(size, **options)
    x = pictures(3, model.channels, size)
    noise = normal(3, model.pose_dim + 2)
    terms = model.loss(x, noise)
    expected = expected_loss(model, array(x), array(noise), options)
    assert terms.keys() == expected.keys()
    for name, value in expected.items():
        assert float(terms[name].detach()) == pytest.approx(value, rel=1e-10), name


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian", "gaussian_learned_variance"])
@pytest.mark.parametrize("mask", ["none", "disc"])
def test_the_plain_baseline(likelihood: str, mask: str) -> None:
    softplus = likelihood != "bernoulli"
    options = {"likelihood": likelihood, "mask": mask, "softplus": softplus, "channels": 2}
    model = small((5, 6), decoder="plain", rotation=False, translation=False, **options)
    x, noise = pictures(3, 2, (5, 6)), normal(3, 2)
    inside = np.ones((5, 6), dtype=bool)
    if mask == "disc":
        row, column = np.mgrid[:5, :6]
        inside = np.hypot(row - 2, column - 2.5) <= 2.5
    mean, log_std = encoded(model, array(x) * inside, "tanh")
    z = mean + np.exp(log_std) * array(noise)
    h = z
    weights = [array(p) for p in model.decoder.parameters()]
    for k in (0, 2):
        h = np.tanh(h @ weights[k].T + weights[k + 1])
    out = (h @ weights[4].T + weights[5]).reshape(3, 5, 6, -1)
    pairs = zip(out, array(x).transpose(0, 2, 3, 1), strict=True)
    density = np.stack([log_density(own, image, options) for own, image in pairs])
    terms = model.loss(x, noise)
    assert list(terms) == ["loss", "reconstruction", "kl_z"]
    assert float(terms["reconstruction"].detach()) == pytest.approx(-density[:, inside].sum() / 3, rel=1e-10)
    kl = (-log_std + (np.exp(2 * log_std) + mean**2 - 1) / 2).sum() / 3
    assert float(terms["kl_z"].detach()) == pytest.approx(kl, rel=1e-10)
    means = out[..., :2]
    shown = 1 / (1 + np.exp(-means)) if likelihood == "bernoulli" else np.log(1 + np.exp(means))
    images = array(model.decode(torch.from_numpy(z)))
    np.testing.assert_allclose(images, shown.transpose(0, 3, 1, 2), **EXACT)


def test_divergences_are_those_of_torch() -> None:
    mean, log_std = normal(6, 3), 0.5 * normal(6, 3).flip(0)
    exact = kl_divergence(Normal(mean, log_std.exp()), Normal(torch.zeros(3).double(), 0.7)).sum(1)
    torch.testing.assert_close(normal_kl(mean, log_std, 0.7), exact, **EXACT)
    free = kl_divergence(Normal(0.0 * mean, log_std.exp()), Normal(torch.zeros(3).double(), 0.7)).sum(1)
    torch.testing.assert_close(mean_free_kl(log_std, 0.7), free, **EXACT)


# -- what the pose means -------------------------------------------------------------------------------------


def test_a_right_angle_turns_the_content_clockwise() -> None:
    """As displayed: what was on top comes to the right."""
    model, z = small(), normal(1, 2)
    still = model.decode(z, float64([0.0]))
    turned = model.decode(z, float64([math.pi / 2]))
    assert (still - still.rot90(1, (2, 3))).abs().max() > 1e-3
    torch.testing.assert_close(turned, still.rot90(-1, (2, 3)), **EXACT)
    # rotate is counter-clockwise, so it undoes the pose.
    torch.testing.assert_close(rotate(turned, float64([math.pi / 2])), still, rtol=1e-9, atol=1e-9)


def test_a_shift_moves_the_coordinates_and_the_content_the_other_way() -> None:
    model, z = small((8, 10), isotropic=True), normal(1, 2)
    still = model.decode(z)
    right_one_up_two = model.decode(z, None, float64([[1.0, 2.0]]))
    torch.testing.assert_close(right_one_up_two[..., 2:, :-1], still[..., :-2, 1:], **EXACT)


def test_the_content_moves_before_it_turns() -> None:
    """u' = u R(theta) + shift: in the frame that turns, not in that of the picture."""
    model, z = small(), normal(1, 2)
    theta, shift = float64([math.pi / 2]), float64([[1.0, 0.0]])
    moved = model.decode(z, None, shift)
    torch.testing.assert_close(model.decode(z, theta, shift), moved.rot90(-1, (2, 3)), **EXACT)


def test_stretched_pixels_are_counted_along_their_axes() -> None:
    model, z = small((5, 9), isotropic=False), normal(1, 2)
    still = model.decode(z)
    moved = model.decode(z, None, float64([[1.0, 1.0]]))
    torch.testing.assert_close(moved[..., 1:, :-1], still[..., :-1, 1:], **EXACT)


def test_parts_of_the_latents() -> None:
    latents = normal(2, 5)
    theta, shift, z = small(shift_prior=3.0).parts(latents)
    assert theta is not None
    assert shift is not None
    assert torch.equal(theta, latents[:, 0])
    assert torch.equal(shift, 3 * latents[:, 1:3])
    assert torch.equal(z, latents[:, 3:])
    _, shift, z = small(rotation=False).parts(latents[:, :4])
    assert shift is not None
    assert torch.equal(shift, 1.4 * latents[:, :2])
    theta, shift, z = small(translation=False).parts(latents[:, :3])
    assert shift is None
    assert theta is not None
    assert torch.equal(z, latents[:, 1:3])


# -- turned views and frozen content -------------------------------------------------------------------------


def test_a_turned_view_gives_the_posterior_of_the_image_itself() -> None:
    model, x = small(), pictures(2)
    quarter = float64([math.pi / 2] * 2)
    plain, turned = model.encode(x.rot90(1, (2, 3))), model.encode(x, quarter)
    torch.testing.assert_close(turned.mean[:, 0], plain.mean[:, 0] + math.pi / 2, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(turned.mean[:, 1:], plain.mean[:, 1:], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(turned.log_std, plain.log_std, rtol=1e-9, atol=1e-9)


def test_a_pose_found_in_a_turned_view_draws_the_image() -> None:
    """The picture turned counter-clockwise by gamma has the angle theta - gamma: adding gamma undoes it."""
    model, z = small(), normal(1, 2)
    theta, shift = float64([0.4]), float64([[0.7, -0.3]])
    picture = model.decode(z, theta, shift)
    seen = picture.rot90(1, (2, 3))
    torch.testing.assert_close(model.decode(z, theta - math.pi / 2, shift), seen, **EXACT)


def test_the_loss_explains_the_image_and_not_its_turned_view() -> None:
    model, x, noise = small(), pictures(2), normal(2, 5)
    gamma = float64([0.5, -1.0])
    posterior = model.encode(x, gamma)
    theta, shift, z = model.parts(posterior.sample(noise))
    logits = model.outputs(z, theta, shift)
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, x, reduction="sum") / 2
    terms = model.loss(x, noise, gamma=gamma)
    torch.testing.assert_close(terms["reconstruction"], expected, **EXACT)
    divergence = normal_kl(posterior.mean[:, :1], posterior.log_std[:, :1], math.pi / 4).mean()
    torch.testing.assert_close(terms["kl_theta"], divergence, **EXACT)


def test_frozen_content_is_zero_and_learns_nothing() -> None:
    model, x, noise = small(), pictures(2), normal(2, 5)
    terms = model.loss(x, noise, freeze_content=True)
    terms["loss"].backward()
    gradient = model.encoder[-1].weight.grad
    assert gradient is not None
    assert gradient.abs().amax(1).gt(0).tolist() == 2 * [True, True, True, False, False]
    theta, shift, z = model.parts(model.encode(x).sample(noise))
    logits = model.outputs(torch.zeros_like(z), theta, shift)
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, x, reduction="sum") / 2
    torch.testing.assert_close(terms["reconstruction"], expected, **EXACT)
    assert float(terms["kl_z"]) == 0


# -- further traps -------------------------------------------------------------------------------------------


def test_log_std_is_that_of_the_standard_deviation() -> None:
    posterior = Posterior(torch.zeros(1, 3), torch.full((1, 3), math.log(3.0)))
    torch.testing.assert_close(posterior.sample(torch.ones(1, 3)), torch.full((1, 3), 3.0))


def test_means_and_log_variances_belong_to_pixels() -> None:
    """Both halves are outputs of every pixel; splitting the flattened pixels would mix them."""
    model, z = small(likelihood="gaussian_learned_variance", channels=3), normal(2, 2)
    out, mean = model.outputs(z), model.decode(z)
    assert out.shape == (2, 6, 8, 8)
    assert torch.equal(mean, out[:, :3])
    with torch.no_grad():
        model.decoder.output.bias[3:] += 1  # type: ignore[union-attr,index]
    torch.testing.assert_close(model.outputs(z)[:, 3:], out[:, 3:] + 1, **EXACT)
    assert torch.equal(model.decode(z), mean)


def test_pixels_beyond_the_disc_change_nothing() -> None:
    model, noise = small(mask="disc"), normal(2, 5)
    x = pictures(2)
    other = x.clone()
    other[..., 0, 0] = 1 - other[..., 0, 0]
    assert torch.equal(model.loss(x, noise)["loss"], model.loss(other, noise)["loss"])
    other[..., 3, 3] = 1 - other[..., 3, 3]
    assert not torch.equal(model.loss(x, noise)["loss"], model.loss(other, noise)["loss"])


def test_backends_have_one_loss_and_one_gradient() -> None:
    x, noise = pictures(3), normal(3, 5)
    found = []
    for backend in (None, "reference"):
        model = small(backend=backend, bilinear=True)
        loss = model.loss(x, noise)["loss"]
        loss.backward()
        found.append((loss, [p.grad for p in model.parameters()]))
    torch.testing.assert_close(*found, rtol=1e-9, atol=1e-10)


def test_draws_make_the_noise_of_their_samples() -> None:
    model, x = small(), pictures(3)
    draws = SampleDraws(1, 2, [5, 6, 7])
    noise = draws.normal("posterior", (5,), dtype=torch.float64)
    assert torch.equal(model.loss(x, draws)["loss"], model.loss(x, noise)["loss"])
    assert not torch.equal(model.loss(x)["loss"], model.loss(x)["loss"])


def test_the_prior_has_its_spreads() -> None:
    draws = SampleDraws(0, 0, range(20000))
    theta, shift, z = small(theta_prior=0.3, shift_prior=2.5).sample_prior(draws)
    assert theta is not None
    assert shift is not None
    assert float(theta.std()) == pytest.approx(0.3, rel=0.03)
    assert shift.std(0).tolist() == pytest.approx([2.5, 2.5], rel=0.03)
    assert z.std(0).tolist() == pytest.approx([1.0, 1.0], rel=0.03)
    theta, _, _ = small(theta_mean_penalty=False).sample_prior(draws)
    assert theta is not None
    assert 3.1 < float(theta.abs().max()) <= math.pi
    assert float(theta.std()) == pytest.approx(math.pi / math.sqrt(3), rel=0.03)


def test_bfloat16_autocast_leaves_the_latents_alone() -> None:
    model, x = small().float(), pictures(2).float()
    with torch.autocast("cpu", torch.bfloat16):
        posterior = model.encode(x)
        assert posterior.mean.dtype == torch.float32
        assert bool(model.loss(x)["loss"].isfinite())


# -- wrong arguments -----------------------------------------------------------------------------------------

PLAIN: dict[str, Any] = {"decoder": "plain", "rotation": False, "translation": False}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": (8, 8, 8)}, r"image_size: expected a number or \(H, W\)"),
        ({"size": 0}, "image_size: expected an integer >= 1, got 0"),
        ({"latent_dim": 0}, "latent_dim: expected an integer >= 1, got 0"),
        ({"layers": 1.5}, "layers: expected an integer >= 1, got 1.5"),
        ({"theta_prior": 0.0}, "theta_prior: expected a finite number > 0"),
        ({"shift_prior": math.inf}, "shift_prior: expected a finite number > 0"),
        ({"activation": "relu"}, "activation: expected one of tanh, leaky_relu, got 'relu'"),
        ({"likelihood": "poisson"}, "likelihood: expected one of bernoulli"),
        ({"mask": "square"}, "mask: expected one of none, disc"),
        ({"decoder": "vanilla"}, "decoder: expected one of spatial, plain"),
        ({"softplus": True}, "softplus: expected False for"),
        ({"decoder": "plain"}, "rotation: expected False with decoder"),
        ({**PLAIN, "backend": "reference"}, "backend: expected None"),
        ({**PLAIN, "isotropic": False}, "isotropic: expected True"),
        ({**PLAIN, "bilinear": True}, "bilinear: expected False"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(**options)


def test_wrong_arguments_are_named() -> None:
    model, x = small(), pictures(2)
    with pytest.raises(ValueError, match=r"x: expected images \(N, 1, 8, 8\), got \(2, 1, 8, 7\)"):
        model.encode(x[..., 1:])
    with pytest.raises(TypeError, match=r"x: expected the dtype of the model, torch.float64, got"):
        model.encode(x.float())
    with pytest.raises(ValueError, match=r"gamma: expected shape \(2,\), got \(1,\)"):
        model.encode(x, float64([0.0]))
    with pytest.raises(ValueError, match="gamma: expected None in a model without rotation"):
        small(rotation=False).encode(x, float64([0.0, 0.0]))
    with pytest.raises(ValueError, match=r"noise: expected shape \(2, 5\), got \(2, 4\)"):
        model.loss(x, torch.zeros(2, 4).double())
    with pytest.raises(ValueError, match=r"noise: expected shape \(2, 5\), got \(3, 5\)"):
        model.loss(x, SampleDraws(0, 0, [0, 1, 2]))
    with pytest.raises(ValueError, match=r"x: expected pixels in \[0, 1\] for \"bernoulli\", got -2 to"):
        model.loss(x - 2 * (x == x.min()) - x * (x == x.min()))
    with pytest.raises(ValueError, match="theta: expected None in a model that has none"):
        small(rotation=False).decode(normal(1, 2), float64([0.0]))
    with pytest.raises(ValueError, match=r"z: expected shape \(N, 2\), got \(1, 3\)"):
        model.decode(normal(1, 3))
