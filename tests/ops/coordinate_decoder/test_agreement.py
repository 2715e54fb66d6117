"""The tiles against the specification: values and gradients of every option, however they are cut."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from equikernels.ops.coordinate_decoder import schedule, tiled
from equikernels.ops.coordinate_decoder.schedule import IN_MEMORY, Schedule
from tests.ops.coordinate_decoder.samples import LIKELIHOODS, Case, assert_same, make_case, spread

# Relative to the largest entry of each gradient: rounding in float64 is 1e-16, the sums have 1e5 terms.
EXACT = 1e-10

# All in one tile, a few images each, and a few pixels of one image each; several tiles in a group.
# The same in the order of a GPU, whose tiles are cut by their memory.
TILINGS = {
    "one": Schedule(2**21, 10**6, 1, 1, batched=False),
    "images": Schedule(1, 45, 1, 2, batched=False),
    "parts": Schedule(1, 7, 1, 3, batched=False),
    "gpu: one": IN_MEMORY,
    "gpu: images": IN_MEMORY._replace(min_rows=45, tile_bytes=1, max_groups=2),
    "gpu: parts": IN_MEMORY._replace(min_rows=7, tile_bytes=1),
}


@pytest.fixture(params=TILINGS)
def tiling(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(schedule, "schedule_of", lambda device: TILINGS[request.param])
    return str(request.param)


def compare(case: Case, likelihood: str | None, cotangent: Tensor | None = None, **options: object) -> None:
    results = []
    for backend in ("torch", "reference"):
        if likelihood is None:
            out = case.values(backend=backend, **options)
        else:
            out = case.log_likelihood(backend=backend, likelihood=likelihood, **options)
        grads = case.gradients(out, spread(out) if cotangent is None else cotangent)
        results.append({"out": out.detach(), **grads})
    assert len(results[0]) == len(case.leaves) + (likelihood is not None)
    assert_same(*results, rtol=EXACT)


@pytest.mark.parametrize("likelihood", [None, *LIKELIHOODS])
@pytest.mark.parametrize("mask", [None, "disc"])
@pytest.mark.parametrize("residual", [False, True], ids=["", "residual"])
@pytest.mark.parametrize("activation", ["tanh", "leaky_relu"])
@pytest.mark.parametrize("inputs", [2, 5])
def test_options(
    inputs: int, activation: str, residual: bool, mask: str | None, likelihood: str | None, tiling: str
) -> None:
    outputs = 2 if likelihood == "gaussian_learned_variance" else 1
    case = make_case(7, (5, 4), inputs=inputs, outputs=outputs, bilinear=residual)
    compare(case, likelihood, activation=activation, residual=residual, mask=mask)


@pytest.mark.parametrize("likelihood", [None, "gaussian", "gaussian_learned_variance"])
@pytest.mark.parametrize("layers", [0, 1, 3])
@pytest.mark.parametrize("listed", [False, True], ids=["grid", "list"])
def test_depth_and_softplus(listed: bool, layers: int, likelihood: str | None, tiling: str) -> None:
    learned = likelihood == "gaussian_learned_variance"
    case = make_case(5, (3, 6), layers=layers, channels=3, outputs=6 if learned else 3, listed=listed)
    compare(case, likelihood, softplus=True, residual=layers == 3)


@pytest.mark.parametrize("recompute", [False, True], ids=["", "recompute"])
@pytest.mark.parametrize("cotangent", [[2.0, 2.0, 2.0], [1.0, 0.0, -3.0], [0.0, 0.0, 0.0]], ids=str)
def test_a_cotangent_for_every_sample(cotangent: list[float], recompute: bool, tiling: str) -> None:
    """The gradients of the first pass are scaled if it is the same for all, and found again if it is not."""
    case = make_case(3, layers=2)
    compare(case, "bernoulli", torch.tensor(cotangent, dtype=torch.float64), recompute=recompute)


@pytest.mark.parametrize(("recompute", "passes"), [(False, 1), (True, 2)])
def test_passes_over_the_images(recompute: bool, passes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    sweeps = []
    run_groups = tiled.run_groups
    monkeypatch.setattr(tiled, "run_groups", lambda *given: (sweeps.append(1), run_groups(*given)))
    make_case().log_likelihood(recompute=recompute).mean().backward()
    assert len(sweeps) == passes


def test_expanded_cotangents() -> None:
    case = make_case()
    results = []
    for backend in ("torch", "reference"):
        leaves = list(case.leaves.values())[:3]
        results.append(torch.autograd.grad(case.values(backend=backend).sum(), leaves))
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=EXACT, atol=EXACT)


@pytest.mark.parametrize("likelihood", [None, "bernoulli"])
@pytest.mark.parametrize(
    "names",
    [
        ["theta"],
        ["z", "weights.bias"],
        ["weights.hidden[0]"],
        ["weights.hidden_bias[1]", "shift"],
        ["weights.output"],
        ["x", "weights.output_bias"],
    ],
    ids=str,
)
def test_gradients_of_some(names: list[str], likelihood: str | None) -> None:
    case = make_case(layers=2)
    for name, leaf in case.leaves.items():
        leaf.requires_grad_(name in names)
    results = []
    for backend in ("torch", "reference"):
        out = (
            case.values(backend=backend)
            if likelihood is None
            else case.log_likelihood(backend=backend, likelihood=likelihood)
        )
        leaves = [case.leaves[name] for name in names]
        grads = torch.autograd.grad(out, leaves, spread(out), allow_unused=True)
        results.append({n: g for n, g in zip(names, grads, strict=True) if g is not None})
    assert_same(*results, rtol=EXACT)


@pytest.mark.parametrize("likelihood", [None, "bernoulli"])
@pytest.mark.parametrize("mask", [None, "disc"])
@pytest.mark.parametrize("scale", [30.0, 150.0, 3000.0])
def test_saturated_units(scale: float, mask: str | None, likelihood: str | None, tiling: str) -> None:
    """Units whose factors could overflow, or lose all in a cancellation, although their sum is small."""
    case = make_case(4, (6, 5), units=12, scale=scale)
    with torch.no_grad():
        case.weights.coordinate[::3] /= scale  # beside units that are far from it
    compare(case, likelihood, mask=mask)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("offset", [19.0, 21.0, 50.0, 200.0])
def test_large_terms_that_cancel(offset: float, dtype: torch.dtype) -> None:
    """P = a and Q = -a: the clamped factors, or the addition formula, would give anything but tanh(0.3)."""
    case = make_case(1, (1, 1), layers=0, units=1, latents=1, dtype=dtype)
    weights = case.weights._replace(
        coordinate=torch.tensor([[offset, offset]], dtype=dtype),
        latent=torch.zeros(1, 1, dtype=dtype),
        bias=torch.tensor([0.25], dtype=dtype),
        output=torch.ones(1, 1, dtype=dtype),
        output_bias=torch.zeros(1, dtype=dtype),
    )
    one = torch.ones(1, dtype=dtype)
    case.coordinates, case.weights = (one, -one), weights
    case.theta, case.shift = 0 * one, torch.zeros(1, 2, dtype=dtype)
    found = case.values(backend="torch").detach()
    # The exponents are rounded to eps/2 of 2 offset, twice, and half of their error is tanh's.
    bound = (4 * offset + 4) * torch.finfo(dtype).eps
    assert float(found) == pytest.approx(
        float(torch.tanh(torch.tensor(0.25, dtype=torch.float64))), abs=bound
    )


@pytest.mark.parametrize("latent", [1e3, -1e30, torch.inf])
def test_infinite_and_huge_latents(latent: float) -> None:
    case = make_case(2, (3, 3), layers=0)
    with torch.no_grad():
        case.z[1, 0] = latent
    found, expected = (case.values(backend=backend) for backend in ("torch", "reference"))
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12, equal_nan=True)


@pytest.mark.parametrize("activation", ["tanh", "leaky_relu"])
@pytest.mark.parametrize("mask", [None, "disc"])
def test_float32(mask: str | None, activation: str) -> None:
    """Against the specification in float64, on the same numbers."""
    options = {"mask": mask, "activation": activation, "likelihood": "bernoulli"}
    results = []
    for dtype, backend in ((torch.float32, "torch"), (torch.float64, "reference")):
        case = make_case(3, (12, 12), units=64, dtype=torch.float32)
        if dtype == torch.float64:
            case = widened(case)
        out = case.log_likelihood(backend=backend, **options)
        grads = case.gradients(out, torch.ones_like(out))
        results.append({name: g.double() for name, g in {"out": out.detach(), **grads}.items()})
    # 1e-7 for each of about a hundred roundings that meet in an entry.
    assert_same(*results, rtol=1e-5)


def widened(case: Case) -> Case:
    def wide(x: Tensor) -> Tensor:
        return x.detach().double().requires_grad_()

    w = case.weights
    weights = w._replace(
        coordinate=wide(w.coordinate),
        latent=wide(w.latent),
        bias=wide(w.bias),
        hidden=tuple(map(wide, w.hidden)),
        hidden_bias=tuple(map(wide, w.hidden_bias)),
        output=wide(w.output),
        output_bias=wide(w.output_bias),
    )
    x, y = case.coordinates
    pair = (x.double(), y.double())
    return Case(pair, wide(case.theta), wide(case.shift), wide(case.z), weights, wide(case.x))


def test_strides_and_views_do_not_matter() -> None:
    case = make_case(4, (4, 4), units=8, channels=2)
    expected = case.values(), case.log_likelihood()
    w = case.weights
    strange = w._replace(
        coordinate=w.coordinate.t().contiguous().t(),
        hidden=tuple(h.t().contiguous().t() for h in w.hidden),
        output=torch.stack([w.output, w.output], -1)[..., 0],
    )
    other = Case(
        case.coordinates,
        case.theta.repeat_interleave(2)[::2],
        case.shift.t().contiguous().t(),
        case.z.flip(0).flip(0),
        strange,
        case.x.transpose(1, 2).contiguous().transpose(1, 2),
    )
    for found, wanted in zip((other.values(), other.log_likelihood()), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-13, atol=1e-13)
