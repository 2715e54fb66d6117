"""The action and its losses against the formulas, written out in plain PyTorch in float64."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from equikernels.group import SO2, SO3, CubeGroup, CyclicGroup, Group
from equikernels.models.latent_actions.losses import act_on_varying, consistency, keeps_lengths, mean_square

TOLERANCE = {"rtol": 1e-10, "atol": 1e-12}
LOGITS = torch.tensor([1.2, -0.7, 0.3, -0.1, 2.0], dtype=torch.float64)

CASES = [
    pytest.param(SO2(), "auto", 2, id="SO2"),
    pytest.param(SO2(), "bicubic", 2, id="SO2-bicubic"),
    pytest.param(CyclicGroup(4), "auto", 2, id="C4"),
    pytest.param(CyclicGroup(4), "bilinear", 2, id="C4-bilinear"),
    pytest.param(CyclicGroup(6), "auto", 2, id="C6"),
    pytest.param(CubeGroup(), "auto", 3, id="Cube"),
    pytest.param(SO3(), "auto", 3, id="SO3"),
]


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def elements(group: Group, count: int) -> Tensor:
    if isinstance(group, SO2):
        return torch.tensor([0.4, -2.1, 1.3], dtype=torch.float64)[:count]
    if isinstance(group, SO3):
        return group.sample(count, torch.Generator().manual_seed(5))
    return torch.tensor([1, 3, 2])[:count]


def latents(dimensions: int) -> tuple[Tensor, Tensor]:
    shape = (3, 5, *(4,) * dimensions)
    return normal(*shape, seed=1), normal(*shape, seed=2)


def channelwise(values: Tensor, dimensions: int) -> Tensor:
    return values.view(-1, *(1,) * dimensions)


def moved(z: Tensor, g: Tensor, group: Group, method: str) -> Tensor:
    """rho(g) z by PyTorch's own means: exact turns by rot90, others on a grid of sampled points."""
    if isinstance(group, CyclicGroup) and method == "auto" and group.n == 4:
        return torch.stack([torch.rot90(image, int(k), (-2, -1)) for image, k in zip(z, g, strict=True)])
    if isinstance(group, CubeGroup):
        g = torch.tensor(group.matrices, dtype=torch.float64)[g]
    if z.dim() == 5:
        # Samples are taken at g^-1 p; the grid's axes are (x right, y down, z deep).
        down = torch.diag(torch.tensor([1.0, -1.0, 1.0], dtype=torch.float64))
        inverse = down @ g.mT @ down
        affine = torch.cat([inverse, torch.zeros(len(z), 3, 1, dtype=torch.float64)], 2)
        mode = "bilinear"
    else:
        angle = g.double() * group.step if isinstance(group, CyclicGroup) else g
        c, s, none = angle.cos(), angle.sin(), torch.zeros_like(angle)
        affine = torch.stack([c, -s, none, s, c, none], 1).double().view(-1, 2, 3)
        mode = "bilinear" if method == "auto" else method
    grid = torch.nn.functional.affine_grid(affine, list(z.shape), align_corners=False)
    return torch.nn.functional.grid_sample(z, grid, mode=mode, align_corners=False)


@pytest.mark.parametrize(("group", "method", "dimensions"), CASES)
def test_action_and_losses_are_the_formulas(group: Group, method: str, dimensions: int) -> None:
    z, target = latents(dimensions)
    g = elements(group, 3)
    M = channelwise((torch.sigmoid(LOGITS) > 0.5).double(), dimensions)
    y = moved(z, g, group, method)
    out, invariant, varying = consistency(
        z, g, LOGITS, target, group=group, threshold=0.5, method=method, estimator="ste"
    )
    expected = M * y + (1 - M) * z
    torch.testing.assert_close(out, expected, **TOLERANCE)
    torch.testing.assert_close(invariant, ((1 - M) * z - (1 - M) * target).square().mean(), **TOLERANCE)
    torch.testing.assert_close(varying, (M * y - M * target).square().mean(), **TOLERANCE)
    torch.testing.assert_close(invariant + varying, (expected - target).square().mean(), **TOLERANCE)
    alone = act_on_varying(z, g, LOGITS, group=group, threshold=0.5, method=method)
    torch.testing.assert_close(alone, expected, **TOLERANCE)


@pytest.mark.parametrize("estimator", ["ste", "counterfactual"])
@pytest.mark.parametrize(("group", "method", "dimensions"), CASES)
def test_gradient_of_the_mask_is_the_formula(
    group: Group, method: str, dimensions: int, estimator: str
) -> None:
    z, target = latents(dimensions)
    g, G = elements(group, 3), normal(*z.shape, seed=3)
    logits = LOGITS.clone().requires_grad_()
    g_i, g_v = 0.7, 1.9
    out, invariant, varying = consistency(
        z, g, logits, target, group=group, threshold=0.5, method=method, estimator=estimator
    )
    ((G * out).sum() + g_i * invariant + g_v * varying).backward()  # type: ignore[no-untyped-call]

    s = torch.sigmoid(LOGITS)
    M, y, N = channelwise((s > 0.5).double(), dimensions), moved(z, g, group, method), z.numel()
    if estimator == "ste":
        terms = G * (y - z) + (2 / N) * (
            g_v * (M * y - M * target) * y - g_i * ((1 - M) * z - (1 - M) * target) * z
        )
    else:
        terms = G * (y - z) + (g_v * (y - target).square() - g_i * (z - target).square()) / N
    expected = terms.transpose(0, 1).flatten(1).sum(1) * s * (1 - s)
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad, expected, **TOLERANCE)


@pytest.mark.parametrize("group", [SO2(), CyclicGroup(4)], ids=["SO2", "C4"])
def test_counterfactual_gradient_is_the_change_of_the_losses(group: Group) -> None:
    z, target = latents(2)
    g = elements(group, 3)

    def losses(logits: Tensor) -> Tensor:
        _, invariant, varying = consistency(
            z, g, logits, target, group=group, threshold=0.5, estimator="counterfactual"
        )
        return invariant + varying

    for channel in range(5):
        logits = LOGITS.clone().requires_grad_()
        losses(logits).backward()  # type: ignore[no-untyped-call]
        assert logits.grad is not None
        s = torch.sigmoid(LOGITS[channel])
        slope = logits.grad[channel] / (s * (1 - s))
        on, off = LOGITS.clone(), LOGITS.clone()
        on[channel], off[channel] = 1.0, -1.0
        torch.testing.assert_close(slope, losses(on) - losses(off), **TOLERANCE)


@pytest.mark.parametrize("estimator", ["ste", "counterfactual"])
@pytest.mark.parametrize(("group", "method", "dimensions"), CASES)
def test_gradient_of_the_latents_treats_mask_and_target_as_constants(
    group: Group, method: str, dimensions: int, estimator: str
) -> None:
    z, target = latents(dimensions)
    g = elements(group, 3)
    M = channelwise((torch.sigmoid(LOGITS) > 0.5).double(), dimensions)
    mine, other = z.clone().requires_grad_(), z.clone().requires_grad_()
    target.requires_grad_()
    _, invariant, varying = consistency(
        mine, g, LOGITS, target, group=group, threshold=0.5, method=method, estimator=estimator
    )
    (2.0 * invariant + 3.0 * varying).backward()  # type: ignore[no-untyped-call]
    goal = target.detach()
    by_hand = 2 * ((1 - M) * (other - goal)).square().mean()
    by_hand = by_hand + 3 * (M * (moved(other, g, group, method) - goal)).square().mean()
    by_hand.backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(mine.grad, other.grad, **TOLERANCE)
    assert target.grad is None


def test_identity_tells_the_mask_nothing() -> None:
    z, _ = latents(2)
    logits = LOGITS.clone().requires_grad_()
    still = torch.zeros(3, dtype=torch.int64)
    out, invariant, varying = consistency(z, still, logits, z, group=CyclicGroup(4), threshold=0.5)
    (out.square().sum() + invariant + varying).backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert not logits.grad.any()


def test_scene_that_turns_as_a_whole_is_explained_by_all_channels() -> None:
    z, _ = latents(2)
    g = elements(CyclicGroup(4), 3)
    target = CyclicGroup(4).act(z, g)
    for count in range(5):
        logits = torch.where(torch.arange(5) < count, 1.0, -1.0)
        _, invariant, varying = consistency(z, g, logits, target, group=CyclicGroup(4), threshold=0.5)
        assert float(varying) == 0
        assert float(invariant) > 0
    _, invariant, varying = consistency(z, g, torch.ones(5), target, group=CyclicGroup(4), threshold=0.5)
    assert float(invariant) == float(varying) == 0


@pytest.mark.parametrize("estimator", ["ste", "counterfactual"])
@pytest.mark.parametrize("group", [SO2(), CyclicGroup(4)], ids=["SO2", "C4"])
def test_half_precision_losses_are_float32(group: Group, estimator: str) -> None:
    z, target = (x.bfloat16() for x in latents(2))
    g: Any = elements(group, 3)
    out, invariant, varying = consistency(
        z, g, LOGITS.float(), target, group=group, threshold=0.5, estimator=estimator
    )
    assert (out.dtype, invariant.dtype, varying.dtype) == (torch.bfloat16, torch.float32, torch.float32)
    _, *exact = consistency(
        z.double(), g, LOGITS, target.double(), group=group, threshold=0.5, estimator=estimator
    )
    torch.testing.assert_close(
        torch.stack([invariant, varying]).double(), torch.stack(exact), rtol=1e-5, atol=0
    )


def test_mean_square_of_half_precision_is_taken_in_float32() -> None:
    a, b = torch.full((3, 7), 300.0, dtype=torch.float16), torch.full((3, 7), -300.0, dtype=torch.float16)
    assert float(mean_square(a, b)) == 360000.0
    assert math.isclose(float(mean_square(a.double(), b)), 360000.0)


@pytest.mark.parametrize("estimator", ["ste", "counterfactual"])
@pytest.mark.parametrize(("group", "method", "dimensions"), CASES)
def test_a_free_target_changes_gradients_and_no_value(
    group: Group, method: str, dimensions: int, estimator: str
) -> None:
    z, target = (values.requires_grad_() for values in latents(dimensions))
    g = elements(group, 3)
    options: dict[str, Any] = {
        "group": group, "threshold": 0.5, "method": method, "estimator": estimator
    }  # fmt: skip
    stopped = consistency(z, g, LOGITS, target, **options)
    free = consistency(z, g, LOGITS, target, **options, free_target=True)
    for one, other in zip(stopped, free, strict=True):
        torch.testing.assert_close(one, other, **TOLERANCE)
    assert torch.autograd.grad(stopped[1] + stopped[2], target, allow_unused=True)[0] is None
    (found,) = torch.autograd.grad(free[1] + free[2], target)
    M = channelwise((LOGITS > 0).double(), dimensions)
    y = group.act(z, g, method=method).detach()
    expected = 2 * (M * (target - y) + (1 - M) * (target - z)).detach() / z.numel()
    torch.testing.assert_close(found, expected, **TOLERANCE)


@pytest.mark.parametrize(
    ("group", "method", "expected"),
    [
        (CyclicGroup(4), "auto", True), (CyclicGroup(2), "auto", True), (CubeGroup(), "auto", True),
        (CyclicGroup(4), "bilinear", False), (CyclicGroup(6), "auto", False), (SO2(), "auto", False),
        (SO2(), "spectral", True), (SO2(), "shear", True), (SO2(), "bicubic", False), (SO3(), "auto", False),
    ],
)  # fmt: skip
def test_lengths_are_kept_where_it_is_said(group: Group, method: str, expected: bool) -> None:
    z = latents(3 if isinstance(group, (SO3, CubeGroup)) else 2)[0]
    g = elements(group, 3)
    g = g % group.n if isinstance(group, CyclicGroup) else g
    moved_z = group.act(z, g, method=method)
    if method != "bilinear":  # quarter turns, which interpolation leaves exact
        kept = torch.allclose(moved_z.flatten(1).norm(dim=1), z.flatten(1).norm(dim=1), rtol=1e-10)
        assert kept == expected
    assert keeps_lengths(group, method) == expected
