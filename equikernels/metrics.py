"""Numbers that compare: errors of equivariance and invariance, of images, of angles, of trajectories.

Every function takes tensors of one floating dtype on one device and computes there; a mean is over everything
that its docstring names, samples included.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from equikernels.group import Representation

__all__ = [
    "Action",
    "apply_action",
    "average_displacement_error",
    "circular_correlation",
    "combined_accuracy",
    "combined_displacement_error",
    "equivariance_error",
    "final_displacement_error",
    "invariance_error",
    "psnr",
    "rmse",
    "ssim",
    "trajectory_equivariance_error",
]

Action = Representation | Callable[[Any, Tensor], Tensor]
"""How an element moves a tensor: a representation on the last dimension, or a function (g, x) -> g x."""


# -- symmetry ------------------------------------------------------------------------------------------------


def apply_action(action: Action, g: Any, x: Tensor) -> Tensor:
    """g x: a representation acts on the last dimension, channel-major, each channel being one copy of it.

    Raises:
        ValueError: a last dimension that is no multiple of the representation's.
    """
    if not isinstance(action, Representation):
        return action(g, x)
    if x.ndim == 0 or x.shape[-1] % action.dim:
        raise ValueError(f"the last dimension must be a multiple of {action.dim}, got {tuple(x.shape)}")
    channels = x.reshape(*x.shape[:-1], -1, action.dim)
    return (channels @ action(g, dtype=x.dtype, device=x.device).mT).reshape(x.shape)


def equivariance_error(
    f: Callable[[Tensor], Tensor],
    x: Tensor,
    act_in: Action,
    act_out: Action,
    elements: Iterable[Any],
    *,
    relative: bool = True,
    reduction: str | None = "mean",
) -> Tensor:
    """|g f(x) - f(g x)| of every element and sample, in the Euclidean norm over all that a sample holds.

    Soft equivariance of degree eta (arXiv 2603.26657, Definition 1) asks of the relative error that it is at
    most eta times the Frobenius norm of the Jacobian of f at x.

    Args:
        f: the function, a module for example; computed without gradients.
        x: (B, ...), floating, that `act_in` can move.
        act_in, act_out: a Representation, which acts on the last dimension (channels * dim, channel-major),
            or a function (g, x) -> g x.
        elements: E elements, one by one; a tensor is taken along its first dimension.
        relative: divide by |x| of the sample; a sample that is zero gives 0 for no error and inf for one.
        reduction: "mean" or "max" over elements and samples, a scalar; None for all of them, (E, B).

    Raises:
        ValueError: no samples or elements, or another reduction.

    >>> from equikernels.group import SO2
    >>> vectors = SO2().irrep(1)
    >>> x = torch.tensor([[3.0, 4.0]])
    >>> float(equivariance_error(lambda v: 2 * v, x, vectors, vectors, [0.0, 1.0]))
    0.0
    >>> equivariance_error(lambda v: v + 1, x, vectors, vectors, [torch.pi], reduction="max")
    tensor(0.5657)
    """
    if reduction not in ("mean", "max", None):
        raise ValueError(f'reduction: expected "mean", "max" or None, got {reduction!r}')
    if x.ndim == 0 or x.shape[0] == 0:
        raise ValueError(f"x: expected samples (B, ...) with B >= 1, got shape {tuple(x.shape)}")
    with torch.no_grad():
        plain = f(x)
        errors = [_norms(apply_action(act_out, g, plain) - f(apply_action(act_in, g, x))) for g in elements]
        if not errors:
            raise ValueError("elements: expected at least one, got none")
        error = torch.stack(errors)
        if relative:
            error = torch.where(error == 0, error, error / _norms(x))
    if reduction is None:
        return error
    return error.mean() if reduction == "mean" else error.max()


def invariance_error(logits: Tensor, moved_logits: Tensor) -> Tensor:
    """iErr: the mean over samples of KL(p(x) || p(g x)) in nats, p the softmax over the last dimension.

    Args:
        logits, moved_logits: (..., K) of the samples and of the moved samples.

    Raises:
        ValueError: different shapes.

    >>> invariance_error(torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, 3.0]]).log_softmax(-1))
    tensor(0.8554)
    """
    _check_same(logits=logits, moved_logits=moved_logits)
    p, q = logits.log_softmax(-1), moved_logits.log_softmax(-1)
    return (p.exp() * (p - q)).sum(-1).mean()


def combined_accuracy(accuracy: float, moved_accuracy: float) -> float:
    """cAcc = sqrt(Acc aAcc): the geometric mean of an accuracy (or IoU) on data as they are and moved.

    >>> combined_accuracy(0.9, 0.4)
    0.6
    """
    for name, value in (("accuracy", accuracy), ("moved_accuracy", moved_accuracy)):
        if not value >= 0:
            raise ValueError(f"{name}: expected a number >= 0, got {value}")
    return (accuracy * moved_accuracy) ** 0.5


def _norms(x: Tensor) -> Tensor:
    """The norm of every sample of (B, ...)."""
    return torch.linalg.vector_norm(x.reshape(x.shape[0], -1), dim=1)


# -- trajectories --------------------------------------------------------------------------------------------


def average_displacement_error(prediction: Tensor, target: Tensor) -> Tensor:
    """ADE: the mean distance |prediction_t - target_t| over samples and steps, in the unit of the positions.

    Args:
        prediction, target: (..., T, n), T >= 1 steps of positions with n coordinates.

    Raises:
        ValueError: different shapes, or no step.

    >>> average_displacement_error(torch.tensor([[3.0, 4.0], [0.0, 1.0]]), torch.zeros(2, 2))
    tensor(3.)
    """
    return _distances(prediction, target).mean()


def final_displacement_error(prediction: Tensor, target: Tensor) -> Tensor:
    """FDE: the mean distance over samples at the last step; arguments as `average_displacement_error`.

    >>> final_displacement_error(torch.tensor([[3.0, 4.0], [0.0, 1.0]]), torch.zeros(2, 2))
    tensor(1.)
    """
    return _distances(prediction, target)[..., -1].mean()


def combined_displacement_error(error: float, moved_error: float) -> float:
    """cADE = (ADE + aADE) / 2, and cFDE likewise: the mean of an error on data as they are and moved.

    >>> combined_displacement_error(1.0, 2.0)
    1.5
    """
    return (error + moved_error) / 2


def trajectory_equivariance_error(moved_prediction: Tensor, prediction_of_moved: Tensor) -> Tensor:
    """eErr: the mean over samples and steps of |g f(x)_t - f(g x)_t|, in the unit of the positions.

    Args:
        moved_prediction: g f(x), (..., T, n).
        prediction_of_moved: f(g x), of the same shape.

    >>> trajectory_equivariance_error(torch.zeros(1, 2, 2), torch.tensor([[[3.0, 4.0], [0.0, 1.0]]]))
    tensor(3.)
    """
    return average_displacement_error(moved_prediction, prediction_of_moved)


def _distances(prediction: Tensor, target: Tensor) -> Tensor:
    _check_same(prediction=prediction, target=target)
    if prediction.ndim < 2 or prediction.shape[-2] == 0:
        raise ValueError(f"prediction: expected (..., T, n) with T >= 1 steps, got {tuple(prediction.shape)}")
    return torch.linalg.vector_norm(prediction - target, dim=-1)


# -- images --------------------------------------------------------------------------------------------------


def rmse(prediction: Tensor, target: Tensor) -> Tensor:
    """The root of the mean squared difference over all elements, in their unit.

    >>> rmse(torch.tensor([1.0, 7.0]), torch.zeros(2))
    tensor(5.)
    """
    _check_same(prediction=prediction, target=target)
    return (prediction - target).square().mean().sqrt()


def psnr(prediction: Tensor, target: Tensor, data_range: float = 1.0) -> Tensor:
    """The mean over samples of 10 log10(data_range^2 / MSE), in decibels; inf for equal images.

    Args:
        prediction, target: (B, ...).
        data_range: largest possible value less the smallest: 1 for [0, 1], 2 for [-1, 1].

    >>> psnr(torch.full((1, 1, 4, 4), 0.1), torch.zeros(1, 1, 4, 4))
    tensor(20.)
    """
    _check_same(prediction=prediction, target=target)
    _check_range(data_range)
    errors = (prediction - target).reshape(prediction.shape[0], -1).square().mean(1)
    return (10 * (data_range**2 / errors).log10()).mean()


def ssim(prediction: Tensor, target: Tensor, data_range: float = 1.0, *, window: int = 11) -> Tensor:
    """Structural similarity (Wang et al. 2004), the mean over samples, channels and pixels; 1 for equal ones.

    Windows are Gaussian, 11 pixels a side and of standard deviation 1.5, and lie inside the image; K1 = 0.01
    and K2 = 0.03.

    Args:
        prediction, target: images (B, C, H, W) or volumes (B, C, D, H, W), every side at least `window`.
        data_range: as for `psnr`.
        window: the side of the window, odd. A smaller one, for smaller images, cuts the Gaussian off earlier.

    Raises:
        ValueError: other shapes, smaller images, or a window that is not odd.

    >>> ssim(torch.eye(12).view(1, 1, 12, 12), torch.eye(12).view(1, 1, 12, 12))
    tensor(1.)
    """
    _check_same(prediction=prediction, target=target)
    _check_range(data_range)
    if isinstance(window, bool) or not isinstance(window, int) or window < 1 or window % 2 == 0:
        raise ValueError(f"window: expected an odd number of pixels, got {window!r}")
    if prediction.ndim not in (4, 5) or min(prediction.shape[2:]) < window:
        raise ValueError(
            f"prediction: expected (B, C, H, W) or (B, C, D, H, W), sides >= {window}, "
            f"got {tuple(prediction.shape)}"
        )
    place = torch.arange(window, dtype=prediction.dtype, device=prediction.device) - window // 2
    profile = torch.exp(-0.5 * (place / 1.5).square())
    profile = profile / profile.sum()

    def local_mean(values: Tensor) -> Tensor:
        for axis in range(2, values.ndim):
            values = values.unfold(axis, window, 1) @ profile
        return values

    a, b = local_mean(prediction), local_mean(target)
    var_a = local_mean(prediction.square()) - a.square()
    var_b = local_mean(target.square()) - b.square()
    covariance = local_mean(prediction * target) - a * b
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    numerator = (2 * a * b + c1) * (2 * covariance + c2)
    return (numerator / ((a.square() + b.square() + c1) * (var_a + var_b + c2))).mean()


# -- angles --------------------------------------------------------------------------------------------------


def circular_correlation(a: Tensor, b: Tensor, *, uniform: bool = False) -> Tensor:
    """The correlation of two angles after Jammalamadaka and Sarma (1988), in [-1, 1].

    sum sin(a - mean a) sin(b - mean b) / sqrt(sum sin^2(a - mean a) sum sin^2(b - mean b)), with circular
    means. Where a marginal is uniform its mean is arbitrary; `uniform` gives their form for that, which
    reaches beyond 1 on few angles:
    (|mean of e^{i(a - b)}| - |mean of e^{i(a + b)}|) / (2 sqrt(mean sin^2 mean sin^2)).

    Args:
        a, b: (N,) angles in radians, N >= 2.

    Raises:
        ValueError: other shapes.

    >>> angles = torch.linspace(-1, 1, 20)
    >>> circular_correlation(angles, -angles), circular_correlation(3 * angles, 3 * angles + 2, uniform=True)
    (tensor(-1.), tensor(1...))
    """
    _check_same(a=a, b=b)
    if a.ndim != 1 or len(a) < 2:
        raise ValueError(f"a: expected angles (N,) with N >= 2, got shape {tuple(a.shape)}")
    sin_a, sin_b = (torch.sin(angles - _circular_mean(angles)) for angles in (a, b))
    scale = (sin_a.square().mean() * sin_b.square().mean()).sqrt()
    if not uniform:
        return (sin_a * sin_b).mean() / scale
    return (_resultant(a - b) - _resultant(a + b)) / (2 * scale)


def _circular_mean(angles: Tensor) -> Tensor:
    return torch.atan2(angles.sin().mean(), angles.cos().mean())


def _resultant(angles: Tensor) -> Tensor:
    return torch.hypot(angles.sin().mean(), angles.cos().mean())


# -- arguments -----------------------------------------------------------------------------------------------


def _check_same(**tensors: Tensor) -> None:
    (one, first), (other, second) = tensors.items()
    if first.shape != second.shape:
        raise ValueError(
            f"{one}, {other}: expected equal shapes, got {tuple(first.shape)} and {tuple(second.shape)}"
        )


def _check_range(data_range: float) -> None:
    if not data_range > 0:
        raise ValueError(f"data_range: expected a number > 0, got {data_range}")
