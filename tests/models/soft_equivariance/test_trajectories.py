"""The trajectory transformer: symmetry by softness, causality, losses and baselines in plain words."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from equikernels.group import SO2
from equikernels.metrics import equivariance_error
from equikernels.models.soft_equivariance.trajectories import (
    SoftTrajectoryTransformer,
    constant_velocity,
    standing_still,
    turned_positions,
)
from equikernels.models.soft_equivariance.vector_layers import CausalAttention, VectorDropout, VectorNorm

VECTORS = SO2().irrep(1)
ANGLES = torch.linspace(0.3, 6.0, 5, dtype=torch.float64)


def small(softness: float, **options: object) -> SoftTrajectoryTransformer:
    """The same raw weights at every softness; gains, biases and shifts are away from ones and zeros."""
    torch.manual_seed(0)
    model = SoftTrajectoryTransformer(16, 2, 2, 24, softness=softness, **options).double()  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return model.eval()


def walks(count: int = 4, steps: int = 10, seed: int = 2) -> Tensor:
    drawn = torch.randn(count, steps, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return drawn.cumsum(1)


def test_strict_commutes_with_rotations_to_rounding() -> None:
    error = equivariance_error(small(0.0), walks(), VECTORS, VECTORS, ANGLES, reduction="max")
    assert error < 1e-12


def test_the_error_grows_with_softness() -> None:
    x = walks()
    softnesses = (0.0, 0.1, 0.3, 1.0)
    errors = [float(equivariance_error(small(s), x, VECTORS, VECTORS, ANGLES)) for s in softnesses]
    assert errors == sorted(errors)
    assert errors[1] > 1e-3
    assert errors[-1] > 2 * errors[1]


def test_components_are_not_equivariant_at_any_softness() -> None:
    model = small(0.0, activation="relu")
    assert equivariance_error(model, walks(), VECTORS, VECTORS, ANGLES) > 1e-3


@pytest.mark.parametrize("softness", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("activation", ["norm", "relu"])
def test_translations_are_respected(softness: float, activation: str) -> None:
    model, x = small(softness, activation=activation), walks()
    shift = torch.tensor([30.0, -7.0], dtype=torch.float64)
    assert torch.allclose(model(x + shift), model(x) + shift, rtol=0, atol=1e-10)


def test_at_softness_one_no_weight_is_changed_and_at_zero_biases_vanish() -> None:
    free, strict = small(1.0), small(0.0)
    assert torch.allclose(free.embedding.projected_weight, free.embedding.weight, atol=1e-14)
    assert free.embedding.projected_bias is not None
    assert torch.allclose(free.embedding.projected_bias, free.embedding.bias, atol=1e-14)
    assert strict.embedding.projected_bias is not None
    assert strict.embedding.projected_bias.abs().max() < 1e-14
    assert strict.state_dict().keys() == free.state_dict().keys()
    strict.load_state_dict(free.state_dict())


def test_many_forwards_change_nothing() -> None:
    """Projections that are laid over raw weights again and again would let the model decay."""
    model, x = small(0.4), walks()
    first = model(x)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for _ in range(3):
        model.loss(x, walks(seed=3))["loss"].backward()
        assert torch.equal(model(x), first)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize("softness", [0.0, 1.0])
def test_later_positions_change_nothing_before(softness: float) -> None:
    model, x = small(softness), walks(steps=19)
    plain = model.next_positions(x)
    for t in (0, 7, 17):
        changed = x.clone()
        changed[:, t + 1 :] += 5.0
        assert torch.allclose(model.next_positions(changed)[:, : t + 1], plain[:, : t + 1], atol=1e-12)
        assert not torch.allclose(model.next_positions(changed)[:, t + 1], plain[:, t + 1])


def test_earlier_positions_matter() -> None:
    model, x = small(0.0), walks()
    changed = x.clone()
    changed[:, 2] += 1.0
    assert (model(changed) - model(x)).abs().max() > 1e-6


def test_prediction_is_step_by_step() -> None:
    model, x = small(0.3), walks()
    seen = [x[:, i] - x[:, -1] for i in range(10)]
    for _ in range(10):
        seen.append(model.next_positions(torch.stack(seen, 1))[:, -1])
    expected = torch.stack(seen[10:], 1) + x[:, -1:]
    assert torch.allclose(model(x), expected, atol=1e-12)


@pytest.mark.parametrize("teacher_forcing", [True, False])
def test_loss(teacher_forcing: bool) -> None:
    model, x, y = small(0.3), walks(3), walks(3, seed=5)
    total = 0.0
    for i in range(3):
        known = [(x[i, t] - x[i, -1]) for t in range(10)]
        for t in range(10):
            following = model.next_positions(torch.stack(known)[None])[0, -1].detach()
            truth = y[i, t] - x[i, -1]
            total += float((following[0] - truth[0]) ** 2 + (following[1] - truth[1]) ** 2) / 30
            known.append(truth if teacher_forcing else following)
    assert float(model.loss(x, y, teacher_forcing=teacher_forcing)["loss"]) == pytest.approx(total, rel=1e-10)


def test_attention_in_plain_loops() -> None:
    torch.manual_seed(0)
    layer = CausalAttention(8, 2, 5, 0.0, 0.0).double()
    with torch.no_grad():
        layer.distance_bias.normal_()
    x = torch.randn(1, 4, 8, dtype=torch.float64)
    q, k, v = (part(x)[0] for part in (layer.query, layer.key, layer.value))
    mixed = torch.zeros(4, 8, dtype=torch.float64)
    for head in range(2):
        own = slice(4 * head, 4 * head + 4)
        for t in range(4):
            scores = [
                float(q[t, own] @ k[s, own]) / 2 + float(layer.distance_bias[head, t - s])
                for s in range(t + 1)
            ]
            weights = [math.exp(score) for score in scores]
            for s in range(t + 1):
                mixed[t, own] += weights[s] / sum(weights) * v[s, own].detach()
    assert torch.allclose(layer(x)[0], layer.out(mixed), atol=1e-12)


def test_norm_in_plain_words() -> None:
    norm = VectorNorm(6).double()
    with torch.no_grad():
        norm.gain.copy_(torch.tensor([1.0, 2.0, -0.5]))
    x = torch.tensor([3.0, 4.0, 1.0, 0.0, 0.0, -2.0], dtype=torch.float64)
    length = math.sqrt((25 + 1 + 4) / 3 + 1e-6)
    expected = torch.tensor([3.0, 4.0, 2.0, 0.0, 0.0, 1.0], dtype=torch.float64) / length
    assert torch.allclose(norm(x), expected, atol=1e-14)


def test_dropout_leaves_out_whole_vectors() -> None:
    torch.manual_seed(0)
    x = torch.ones(50, 40)
    vectors = VectorDropout(0.25)(x).view(50, 20, 2)
    assert torch.equal(vectors[..., 0], vectors[..., 1])
    assert vectors.unique().tolist() == pytest.approx([0, 4 / 3])
    assert 0.2 < float((vectors == 0).double().mean()) < 0.3
    assert torch.equal(VectorDropout(0.25).eval()(x), x)


def test_training_at_softness_zero_stays_equivariant() -> None:
    """With dropout, which leaves out the same whole vectors of the turned input."""
    model = small(0.0).train()

    def f(x: Tensor) -> Tensor:
        torch.manual_seed(3)
        return model(x)

    assert equivariance_error(f, walks(), VECTORS, VECTORS, ANGLES, reduction="max") < 1e-12


def test_baselines() -> None:
    x = walks()
    assert torch.equal(standing_still(x, 3), torch.stack([x[:, 9]] * 3, 1))
    expected = torch.stack([x[:, 9] + i * (x[:, 9] - x[:, 8]) for i in (1, 2, 3)], 1)
    assert torch.allclose(constant_velocity(x, 3), expected, atol=1e-14)
    with pytest.raises(ValueError, match=r"observed: expected .* T >= 2, got"):
        constant_velocity(x[:, :1])
    with pytest.raises(ValueError, match=r"observed: expected .* T >= 1, got"):
        standing_still(x[:, :0])


def test_turned_positions() -> None:
    x, angle = walks(2), torch.tensor([0.4, -1.3], dtype=torch.float64)
    for i in range(2):
        c, s = math.cos(angle[i]), math.sin(angle[i])
        expected = torch.stack([c * x[i, :, 0] - s * x[i, :, 1], s * x[i, :, 0] + c * x[i, :, 1]], -1)
        assert torch.allclose(turned_positions(x, angle)[i], expected, atol=1e-14)
    with pytest.raises(ValueError, match=r"positions, angle: expected shapes .* got \(2, 10, 2\) and \(3,\)"):
        turned_positions(x, torch.zeros(3))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"d_model": 18, "heads": 4}, "d_model: expected a multiple of 2 heads = 8, .* got 18"),
        ({"feedforward": 5}, "feedforward: expected an even number, got 5"),
        ({"layers": 0}, "layers: expected an integer >= 1, got 0"),
        ({"dropout": 1.0}, r"dropout: expected a share in \[0, 1\), got 1.0"),
        ({"softness": 1.5}, r"softness: expected a number in \[0, 1\], got 1.5"),
        ({"activation": "gelu"}, "activation: expected 'norm' or 'relu', got 'gelu'"),
        ({"predict": True}, "predict: expected an integer >= 1, got True"),
    ],
)
def test_wrong_options(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SoftTrajectoryTransformer(**options)  # type: ignore[arg-type]


def test_wrong_positions() -> None:
    model = small(0.0)
    with pytest.raises(ValueError, match=r"observed: expected shape \(B, 10, 2\), got \(4, 9, 2\)"):
        model(walks(steps=9))
    with pytest.raises(ValueError, match=r"future: expected shape \(B, 10, 2\), got \(4, 9, 2\)"):
        model.loss(walks(), walks(steps=9))
    with pytest.raises(ValueError, match="future: expected 4 samples as observed, got 3"):
        model.loss(walks(), walks(3))


def test_default_sizes_are_the_published_ones() -> None:
    model = SoftTrajectoryTransformer()
    assert (model.embedding.out_features, len(model.blocks), model.observe, model.predict) == (128, 4, 10, 10)
    block = model.blocks[0]
    assert (block.attention.heads, block.feedforward[0].out_features, block.dropout.p) == (4, 512, 0.1)


def test_someone_who_stands_still_has_finite_gradients() -> None:
    model = small(0.0)
    stand = torch.ones(2, 10, 2, dtype=torch.float64)
    model.loss(stand, stand + 1.0)["loss"].backward()
    assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in model.parameters())
    # Without a direction in the data an equivariant function can point nowhere.
    assert torch.allclose(model(stand), stand, atol=1e-12)
