"""The spatial-VAE decoder: a multi-layer perceptron of rotated, shifted pixel coordinates and a latent."""

from __future__ import annotations

import math
import numbers

import torch
from torch import Tensor

from equikernels.ops import backends
from equikernels.ops.coordinate_decoder.autograd import (
    likelihoods_apply,
    refuse_vmap,
    table_apply,
    values_apply,
)
from equikernels.ops.coordinate_decoder.likelihood import (
    LIKELIHOODS,
    log_likelihood,
    output_channels,
    softplus_of,
)
from equikernels.ops.coordinate_decoder.network import Form, Network
from equikernels.ops.coordinate_decoder.pixels import Coordinates, Pixels, image_grid, make_pixels
from equikernels.ops.coordinate_decoder.products import check_precision
from equikernels.ops.coordinate_decoder.reference import coordinate_mlp_reference
from equikernels.ops.coordinate_decoder.table import monomials
from equikernels.ops.coordinate_decoder.weights import (
    COORDINATES,
    CoordinateMLPWeights,
    check_alike,
    check_weights,
)

__all__ = ["CoordinateMLPWeights", "coordinate_mlp", "coordinate_mlp_log_likelihood", "image_grid"]

ACTIVATIONS = ("tanh", "leaky_relu")

backends.register(backends.Backend("coordinate_mlp", "reference", ("any",)))
backends.register(backends.Backend("coordinate_mlp", "torch", ("cpu", "cuda")))


def coordinate_mlp(
    coordinates: Coordinates,
    theta: Tensor | None,
    shift: Tensor | None,
    z: Tensor,
    weights: CoordinateMLPWeights,
    *,
    activation: str = "tanh",
    negative_slope: float = 0.01,
    residual: bool = False,
    softplus: bool = False,
    learned_variance: bool = False,
    mask: Tensor | str | None = None,
    precision: str = "float32",
    backend: str | None = None,
) -> Tensor:
    """Images drawn by a multi-layer perceptron from coordinates that turn and move with each sample.

    For every sample n and every pixel at u, a row vector,

        u' = u R(theta_n) + shift_n,    R(t) = [[cos t, sin t], [-sin t, cos t]],
        h = act(f(u') W_x^T + z_n W_z^T + [B(f(u'), z_n)] + b),
        h = act(h W_l^T + b_l [+ h])    for every hidden layer l,
        output = h V^T + c,

    with f(u) = u = (x, y), or (x, y, x^2, y^2, xy) where the weights are made for five inputs; brackets are
    optional. This is the decoder of Bepler et al., "Explicitly disentangling image content from translation
    and rotation with spatial-VAE" (2019). With y upwards a positive angle turns the picture clockwise as
    displayed.

    Args:
        coordinates: the pixels: a grid as the pair x (W,), y (H,), see `image_grid`, whose pixel row * W +
            column lies at (x[column], y[row]); or any list (P, 2) of (x, y). They get no gradients.
        theta: angles in radians, (N,); None for no rotation.
        shift: (N, 2), right and up in the units of the coordinates; None for no shift.
        z: latents, (N, Z).
        weights: parameters, with any number of hidden layers. All tensors are float32 or all are float64, on
            one device.
        activation: "tanh" or "leaky_relu".
        negative_slope: of the leaky ReLU, not negative.
        residual: whether a hidden layer adds its input to its output before the activation.
        softplus: whether the outputs, or with `learned_variance` the first half of them, pass through
            log(1 + exp(a)).
        learned_variance: whether the outputs of a pixel are its means followed by its log-variances.
        mask: the pixels to evaluate: boolean, (H, W) for a grid and (P,) for a list; "disc" keeps those of a
            grid within min(H, W)/2 pixels of its centre. None for all.
        precision: what the hidden layers' matrix products, forward and backward, round their factors to:
            nothing for "float32", mantissas of 10 bits for "tf32", of 7 bits for "bf16"; only "float32" for
            float64 data. Everything else is float32: sums, the first layer, the output layer, activations,
            residual connections, likelihoods, results. On a GPU the last two use its matrix units, and "tf32"
            may cut bits off there instead of rounding. On a CPU they are emulated, exactly and slowly.
        backend: implementation to use, see :mod:`equikernels.ops.backends`.

    Returns:
        (N, pixels, C), the evaluated pixels in their order.

    Gradients go to theta, shift, z and all weights. With the backend "torch" they are first derivatives only:
    a second backward, forward mode and torch.vmap raise NotImplementedError there. No tensor of the size
    batch x pixels x hidden is ever in memory: the backward pass computes the network again, tile by tile.
    On a CPU it uses torch.get_num_threads() threads, with the same result for every number; it sets PyTorch
    to one thread meanwhile, and calls from several threads wait for each other. On a GPU, where it has not
    been measured yet, a tile takes up to 128 MiB; there `precision` counts and not PyTorch's setting
    ``torch.backends.cuda.matmul.fp32_precision``, which is another one meanwhile if it has to be, in all
    threads. Inside torch.compile the small products that make the first layer's tables follow it, as does the
    reference. Autocast leaves dtypes alone.

    Raises:
        TypeError: an argument is of a wrong type or dtype.
        ValueError: a wrong shape, devices that differ, an unknown option, coordinates that require gradients,
            or a backend that cannot run here.

    >>> weights = CoordinateMLPWeights(
    ...     coordinate=torch.tensor([[1.0, 0.0]]), latent=torch.ones(1, 1), bias=torch.zeros(1),
    ...     hidden=(), hidden_bias=(), output=torch.ones(1, 1), output_bias=torch.zeros(1),
    ... )
    >>> images = coordinate_mlp(image_grid(2, 2), torch.tensor([0.0]), None, torch.zeros(1, 1), weights)
    >>> images.view(2, 2)
    tensor([[-0.7616,  0.7616],
            [-0.7616,  0.7616]])
    """
    pixels, theta, shift, form = _checked(
        coordinates, theta, shift, z, weights, activation, negative_slope, mask, precision, residual
    )
    channels = weights.output.shape[0]
    if learned_variance and channels % 2:
        raise ValueError(
            f"weights.output: expected an even number of outputs for a learned variance, got {channels}"
        )
    chosen = backends.choose("coordinate_mlp", z.device.type, backend)
    with torch.autocast(z.device.type, enabled=False):
        if chosen == "reference":
            points = pixels.coordinates
            out = coordinate_mlp_reference(points, theta, shift, z, weights, form)
        else:
            net, form = _network(pixels, theta, shift, z, weights, form)
            out = values_apply(*net, *form)
        if not softplus:
            return out
        means = channels // 2 if learned_variance else channels
        return torch.cat([softplus_of(out[..., :means]), out[..., means:]], dim=2)


def coordinate_mlp_log_likelihood(
    coordinates: Coordinates,
    theta: Tensor | None,
    shift: Tensor | None,
    z: Tensor,
    weights: CoordinateMLPWeights,
    x: Tensor,
    *,
    likelihood: str = "bernoulli",
    activation: str = "tanh",
    negative_slope: float = 0.01,
    residual: bool = False,
    softplus: bool = False,
    mask: Tensor | str | None = None,
    precision: str = "float32",
    recompute: bool = False,
    backend: str | None = None,
) -> Tensor:
    """The log-likelihood of images under the outputs of `coordinate_mlp`, summed over pixels and channels.

    With the outputs o, or the mean m and the log-variance v, of a pixel and a channel:

        bernoulli                   x o - log(1 + exp(o))
        gaussian                    -((x - m)^2 + log 2 pi) / 2
        gaussian_learned_variance   -((x - m)^2 exp(-v) + v + log 2 pi) / 2

    Args:
        x: the images, (N, P, C), P the number of pixels before the mask; in [0, 1] for "bernoulli". Channels
            may be 1 for grey images, 3 for colours.
        likelihood: one of the above; "gaussian_learned_variance" needs weights with 2C outputs, the C means
            first.
        softplus: whether the means pass through log(1 + exp(a)); not with "bernoulli", whose outputs are
            logits.
        recompute: whether the backward pass runs the network again instead of scaling gradients that were
            found with the value. The result is the same; see below for what is faster.

    The other arguments and the backends are those of `coordinate_mlp`.

    Returns:
        (N,), in nats.

    Gradients go to x as well. Where one is needed the backend "torch" computes all of them in the one pass
    that computes the value, and the backward pass only scales them: the fastest for a sum or a mean over the
    samples. A cotangent that is not the same for all of them, as that of an importance-weighted bound, makes
    it run a second pass for the gradients of the hidden and output weights; then `recompute` is faster, and
    it is where a value may never be differentiated.

    Raises:
        TypeError: an argument is of a wrong type or dtype.
        ValueError: a wrong shape, devices that differ, an unknown option or one that does not fit another,
            coordinates that require gradients, or a backend that cannot run here.

    >>> weights = CoordinateMLPWeights(
    ...     coordinate=torch.zeros(1, 2), latent=torch.zeros(1, 1), bias=torch.zeros(1),
    ...     hidden=(), hidden_bias=(), output=torch.zeros(1, 1), output_bias=torch.zeros(1),
    ... )
    >>> x, z = torch.rand(2, 9, 1), torch.zeros(2, 1)
    >>> coordinate_mlp_log_likelihood(image_grid(3, 3), None, None, z, weights, x)  # 9 log(1/2)
    tensor([-6.2383, -6.2383])
    """
    pixels, theta, shift, form = _checked(
        coordinates, theta, shift, z, weights, activation, negative_slope, mask, precision, residual
    )
    _check_images(x, coordinates, z, weights, likelihood, softplus)
    chosen = backends.choose("coordinate_mlp", z.device.type, backend)
    if pixels.inside is not None:
        x = x[:, pixels.inside]
    with torch.autocast(z.device.type, enabled=False):
        if chosen == "reference":
            points = pixels.coordinates
            out = coordinate_mlp_reference(points, theta, shift, z, weights, form)
            return log_likelihood(out, x, likelihood, softplus)
        net, form = _network(pixels, theta, shift, z, weights, form)
        return likelihoods_apply(*net, x, *form, likelihood, softplus, recompute=recompute)


def _network(
    pixels: Pixels,
    theta: Tensor,
    shift: Tensor,
    z: Tensor,
    weights: CoordinateMLPWeights,
    form: Form,
) -> tuple[Network, Form]:
    """What the backend "torch" works on: the first layer as tables, residual connections in the weights."""
    refuse_vmap(theta, shift, z)
    units, inputs = weights.coordinate.shape
    empty = z.new_empty
    hidden = torch.stack(weights.hidden) if weights.hidden else empty(0, units, units)
    bias = torch.stack(weights.hidden_bias) if weights.hidden else empty(0, units)
    # Factors that are rounded would round the identity's product too.
    if form.residual and form.precision == "float32":
        hidden = hidden + torch.eye(units, dtype=z.dtype, device=z.device)
        form = form._replace(residual=False)
    separable = pixels.on_grid and form.slope is None and inputs == COORDINATES
    net = Network(
        table=table_apply(theta, shift, z, weights),
        features=monomials(pixels.coordinates, inputs),
        columns=pixels.columns if separable else empty(0),
        rows=pixels.rows if separable else empty(0),
        inside=empty(0, dtype=torch.int64) if pixels.inside is None or not separable else pixels.inside,
        hidden=hidden,
        hidden_bias=bias,
        output=weights.output,
        output_bias=weights.output_bias,
    )
    return net, form


def _checked(
    coordinates: Coordinates,
    theta: Tensor | None,
    shift: Tensor | None,
    z: Tensor,
    weights: CoordinateMLPWeights,
    activation: str,
    negative_slope: float,
    mask: Tensor | str | None,
    precision: str,
    residual: bool,
) -> tuple[Pixels, Tensor, Tensor, Form]:
    """The pixels, angles, shifts, and how layers compute."""
    check_weights(weights)
    check_precision(precision, weights.coordinate.dtype)
    pixels = make_pixels(coordinates, mask, weights.coordinate)
    latents = weights.latent.shape[1]
    _check_samples("z", z, weights.latent)
    if z.dim() != 2 or z.shape[1] != latents:
        raise ValueError(f"z: expected shape (N, {latents}), got {tuple(z.shape)}")
    theta = _samples("theta", theta, (z.shape[0],), z)
    shift = _samples("shift", shift, (z.shape[0], 2), z)
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation: expected one of {', '.join(ACTIVATIONS)}, got {activation!r}")
    if isinstance(negative_slope, bool) or not isinstance(negative_slope, numbers.Real):
        raise TypeError(f"negative_slope: expected a number, got {type(negative_slope).__name__}")
    slope = float(negative_slope)
    if not (slope >= 0 and math.isfinite(slope)):
        raise ValueError(
            f"negative_slope: expected a finite number that is not negative, got {negative_slope}"
        )
    return pixels, theta, shift, Form(None if activation == "tanh" else slope, precision, residual)


def _check_samples(name: str, tensor: object, weight: Tensor) -> None:
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{name}: expected a tensor, got {type(tensor).__name__}")
    check_alike(name, tensor, weight)


def _samples(name: str, tensor: Tensor | None, shape: tuple[int, ...], z: Tensor) -> Tensor:
    if tensor is None:
        return z.new_zeros(shape)
    _check_samples(name, tensor, z)
    if tuple(tensor.shape) != shape:
        raise ValueError(f"{name}: expected shape {shape}, got {tuple(tensor.shape)}")
    return tensor


def _check_images(
    x: Tensor,
    coordinates: Coordinates,
    z: Tensor,
    weights: CoordinateMLPWeights,
    likelihood: str,
    softplus: bool,
) -> None:
    if likelihood not in LIKELIHOODS:
        raise ValueError(f"likelihood: expected one of {', '.join(LIKELIHOODS)}, got {likelihood!r}")
    if softplus and likelihood == "bernoulli":
        raise ValueError('softplus: expected False for "bernoulli", whose outputs are logits')
    _check_samples("x", x, weights.coordinate)
    if isinstance(coordinates, Tensor):
        count = coordinates.shape[0]
    else:
        count = coordinates[0].shape[0] * coordinates[1].shape[0]
    if x.dim() != 3 or tuple(x.shape[:2]) != (z.shape[0], count):
        raise ValueError(f"x: expected shape ({z.shape[0]}, {count}, channels), got {tuple(x.shape)}")
    needed = output_channels(likelihood, x.shape[2])
    if weights.output.shape[0] != needed:
        raise ValueError(
            f"weights.output: expected {needed} outputs for {x.shape[2]} channels and {likelihood!r}, "
            f"got {weights.output.shape[0]}"
        )
