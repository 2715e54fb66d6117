"""The model: what it computes with its networks, its options, what it refuses."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from equikernels.group import SO2, SO3, CubeGroup, CyclicGroup, Group, SymmetricGroup
from equikernels.models.latent_actions import LatentActionModel, convolutional_autoencoder


def make(
    group: Group | None = None, channels: int = 6, dimensions: int = 2, **options: Any
) -> LatentActionModel:
    torch.manual_seed(0)
    encoder, decoder = convolutional_autoencoder(1, (4, channels), dimensions)
    return LatentActionModel(encoder, decoder, group or CyclicGroup(4), channels, **options).double()


def images(seed: int = 0, count: int = 3, dimensions: int = 2) -> Tensor:
    shape = (count, 1, *(8,) * dimensions)
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("estimator", ["ste", "counterfactual"])
def test_loss_is_the_sum_of_its_terms(estimator: str) -> None:
    model = make(partition=[True, False, True, True, False, False], estimator=estimator,
                 invariant_weight=0.3, varying_weight=2.5)  # fmt: skip
    x, g = images(), torch.tensor([1, 2, 3])
    gx = images(1)
    terms = model.loss(x, gx, g)
    M = torch.tensor([1.0, 0, 1, 1, 0, 0], dtype=torch.float64).view(-1, 1, 1)
    z, target = model.encoder(x), model.encoder(gx)
    y = torch.stack([torch.rot90(image, int(k), (-2, -1)) for image, k in zip(z, g, strict=True)])
    expected = {
        "reconstruction": (model.decoder(M * y + (1 - M) * z) - gx).square().mean(),
        "invariant": ((1 - M) * (z - target)).square().mean(),
        "varying": (M * (y - target)).square().mean(),
    }
    expected["loss"] = expected["reconstruction"] + 0.3 * expected["invariant"] + 2.5 * expected["varying"]
    assert list(terms) == ["loss", "reconstruction", "invariant", "varying"]
    for name, value in expected.items():
        torch.testing.assert_close(terms[name], value, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("group", [SO2(), CyclicGroup(4)], ids=["SO2", "C4"])
@pytest.mark.parametrize("estimator", ["ste", "counterfactual"])
def test_loss_takes_the_estimator_and_the_threshold(group: Group, estimator: str) -> None:
    model = make(group, estimator=estimator, threshold=0.7)
    with torch.no_grad():
        model.logits.copy_(torch.tensor([2.0, 0.5, -1.0, 1.0, 0.2, 0.9]))  # 0.7 lies between 0.5 and 0.9
    M, s = model.mask.double().view(-1, 1, 1), torch.sigmoid(model.logits.detach())
    assert M.flatten().tolist() == [1, 0, 0, 1, 0, 1]
    x, gx, g = images(), images(1), torch.tensor([1, 2, 3])
    g = g.double() if isinstance(group, SO2) else g
    terms = model.loss(x, gx, g)
    (terms["invariant"] + terms["varying"]).backward()  # type: ignore[no-untyped-call]
    with torch.no_grad():
        z, target = model.encoder(x), model.encoder(gx)
        y = group.act(z, g)
        if estimator == "ste":
            slope = 2 * (M * (y - target) * y - (1 - M) * (z - target) * z)
        else:
            slope = (y - target).square() - (z - target).square()
        expected = slope.sum((0, 2, 3)) / z.numel() * s * (1 - s)
    assert model.logits.grad is not None
    torch.testing.assert_close(model.logits.grad, expected, rtol=1e-9, atol=1e-14)


def test_encoder_learns_from_the_branch_that_is_moved_only() -> None:
    model = make(partition="none")
    x, gx, g = images(), images(1), torch.tensor([1, 2, 3])
    model.loss(x, gx, g)["varying"].backward()  # type: ignore[no-untyped-call]
    first = model.encoder[0]
    assert isinstance(first, nn.Conv2d)
    assert first.weight.grad is not None
    learned = first.weight.grad.clone()
    model.zero_grad()
    constant = model.encoder(gx).detach()
    (CyclicGroup(4).act(model.encoder(x), g) - constant).square().mean().backward()
    torch.testing.assert_close(learned, first.weight.grad, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize(
    ("group", "dimensions"),
    [(SO2(), 2), (CyclicGroup(4), 2), (CyclicGroup(8), 2), (CubeGroup(), 3), (SO3(), 3)],
    ids=["SO2", "C4", "C8", "Cube", "SO3"],
)
def test_every_group_trains(group: Group, dimensions: int) -> None:
    model = make(group, dimensions=dimensions, partition="learned")
    x, g = images(dimensions=dimensions), group.sample(3, torch.Generator().manual_seed(0))
    gx = group.act(x, g)
    assert model.transform(x, g).shape == x.shape
    assert torch.equal(model(x, g), model.transform(x, g))
    model.loss(x, gx, g)["loss"].backward()  # type: ignore[no-untyped-call]
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert bool(parameter.grad.any()), name
    one = model.transform(x, group.identity)
    torch.testing.assert_close(one, model.reconstruct(x), rtol=1e-8, atol=1e-8)


def test_swap_decodes_the_parts_of_two_images() -> None:
    model = make(partition=[True, False, True, False, False, False])
    a, b = images(1), images(2)
    mixed = model.encoder(b).clone()
    mixed[:, [0, 2]] = model.encoder(a)[:, [0, 2]]
    assert torch.equal(model.swap(a, b), model.decoder(mixed))
    with pytest.raises(ValueError, match=r"^invariant: expected the shape of varying"):
        model.swap(a, b[:1])


def test_mask_follows_logits_and_threshold() -> None:
    model = make(threshold=0.7)
    at = math.log(0.7 / 0.3)
    with torch.no_grad():
        model.logits.copy_(torch.tensor([at + 1e-6, at - 1e-6, 5.0, -5.0, 0.0, 1.0]))
    assert model.mask.tolist() == [True, False, True, False, False, True]
    z_v, z_i = model.parts(model.encode(images()))
    assert (z_v != 0).any(dim=(0, 2, 3)).tolist() == model.mask.tolist()
    assert (z_i != 0).any(dim=(0, 2, 3)).tolist() == (~model.mask).tolist()


def test_start_at_the_threshold_is_balanced_and_around_zero_is_not() -> None:
    counts = {}
    for start in ("threshold", "zero"):
        for threshold in (0.3, 0.5, 0.7):
            model = LatentActionModel(
                nn.Identity(), nn.Identity(), SO2(), 2000, threshold=threshold, start=start
            )
            counts[start, threshold] = int(model.mask.sum())
            centre = math.log(threshold / (1 - threshold)) if start == "threshold" else 0.0
            assert abs(float(model.logits.detach().mean()) - centre) < 0.012  # 5 standard errors
            assert abs(float(model.logits.detach().std()) - 0.1) < 0.01
    assert counts["zero", 0.7] == 0
    assert counts["zero", 0.3] == 2000
    # 5.6 standard deviations of a fair coin thrown 2000 times.
    assert all(
        abs(count - 1000) < 125 for (start, t), count in counts.items() if start == "threshold" or t == 0.5
    )


@pytest.mark.parametrize("threshold", [0.01, 0.5, 0.99])
def test_fixed_partitions_have_no_parameter(threshold: float) -> None:
    expected = {
        "manual": [True, True, True, False, False, False],
        "none": [True] * 6,
        (False, True, False, False, True, False): [False, True, False, False, True, False],
    }
    for partition, mask in expected.items():
        model = make(partition=partition, threshold=threshold)
        assert model.mask.tolist() == mask
        assert "logits" not in dict(model.named_parameters())
        model.loss(images(), images(1), torch.tensor([1, 2, 3]))["loss"].backward()  # type: ignore[no-untyped-call]
        assert all(bool(p.grad.isfinite().all()) for p in model.parameters() if p.grad is not None)
        other = make(partition="manual", threshold=threshold)
        other.load_state_dict(model.state_dict())
        assert torch.equal(other.mask, model.mask)
    assert make(channels=5, partition="manual").mask.tolist() == [True, True, False, False, False]


def test_networks_are_mirrored_and_need_fitting_sides() -> None:
    encoder, decoder = convolutional_autoencoder()
    shapes = [tuple(p.shape) for p in (*encoder.parameters(), *decoder.parameters())]
    assert shapes == [
        (32, 1, 4, 4), (32,), (64, 32, 4, 4), (64,), (64, 32, 4, 4), (32,), (32, 1, 4, 4), (1,),
    ]  # fmt: skip
    kinds = [type(layer).__name__ for layer in (*encoder, *decoder)]
    assert kinds == ["Conv2d", "LeakyReLU"] * 2 + ["ConvTranspose2d", "LeakyReLU", "ConvTranspose2d", "Tanh"]
    assert all(
        layer.negative_slope == 0.2 for layer in (*encoder, *decoder) if isinstance(layer, nn.LeakyReLU)
    )
    _, open_ended = convolutional_autoencoder(output="linear")
    assert [type(layer).__name__ for layer in open_ended] == kinds[4:-1]
    for wrong, message in (
        ({"output": "sigmoid"}, 'output: expected "tanh" or "linear"'),
        ({"widths": ()}, "channels, widths: expected positive integers"),
        ({"channels": 0}, "channels, widths: expected positive integers"),
        ({"dimensions": 1}, "dimensions: expected 2 or 3, got 1"),
    ):
        with pytest.raises(ValueError, match=f"^{message}"):
            convolutional_autoencoder(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"group": "SO2"}, TypeError, r"group: expected a group such as SO2\(\), got 'SO2'"),
        ({"channels": 0}, ValueError, "channels: expected a positive integer, got 0"),
        ({"threshold": 1.0}, ValueError, "threshold: expected a number between 0 and 1, got 1.0"),
        ({"threshold": math.nan}, ValueError, "threshold: expected a number between 0 and 1, got nan"),
        ({"start": "random"}, ValueError, "start: expected one of threshold, zero, got 'random'"),
        ({"estimator": "exact"}, ValueError, "estimator: expected one of ste, counterfactual, got 'exact'"),
        ({"invariant_weight": -1}, ValueError, "invariant_weight: expected a finite number >= 0, got -1"),
        ({"varying_weight": math.inf}, ValueError, "varying_weight: expected a finite number >= 0, got inf"),
        ({"partition": "half"}, ValueError, "partition: expected learned, manual, none or one bool"),
        ({"partition": [True]}, ValueError, r"partition: expected 6 bools, got shape \(1,\)"),
        ({"partition": [1] * 6}, TypeError, "partition: expected bools, got torch.int64"),
    ],
)
def test_wrong_options_are_one_line(options: dict[str, Any], error: type[Exception], message: str) -> None:
    given: dict[str, Any] = {"group": SO2(), "channels": 6, **options}
    with pytest.raises(error, match=f"^{message}") as caught:
        LatentActionModel(nn.Identity(), nn.Identity(), given.pop("group"), given.pop("channels"), **given)
    assert "\n" not in str(caught.value)


def test_wrong_data_is_one_line() -> None:
    model, x, g = make(), images(), torch.tensor([1, 2, 3])
    with pytest.raises(ValueError, match=r"^gx: expected the shape of x"):
        model.loss(x, x[:1], g)
    with pytest.raises(ValueError, match=r"^encoder: expected latents \(N, 7, H, W\)"):
        LatentActionModel(model.encoder, model.decoder, SO2(), 7).transform(x, g)
    odd = images().repeat(1, 1, 2, 2)[..., :15, :15]
    with pytest.raises(ValueError, match=r"^decoder: expected images"):
        model.loss(odd, odd, g)
    with pytest.raises(ValueError, match="has no action on images or volumes"):
        make(SymmetricGroup(3)).transform(x, torch.tensor([0, 1, 2]))
    with pytest.raises(TypeError, match=r"integer"):
        model.transform(x, torch.tensor([0.5, 1.0, 2.0]))


def test_method_is_that_of_the_group() -> None:
    x, theta = images(), torch.tensor([0.3, 1.0, 2.0], dtype=torch.float64)
    model = make(SO2(), partition="none", method="spectral")
    z = model.encode(x)
    torch.testing.assert_close(model.act(z, theta), SO2().act(z, theta, method="spectral"))
    with pytest.raises(ValueError, match=r"^method: expected one of"):
        make(SO2(), method="best").act(z, theta)


class Scaled(nn.Module):
    """An encoder whose one parameter is the size of its latents."""

    def __init__(self) -> None:
        super().__init__()
        self.size = nn.Parameter(torch.tensor(1.0, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return self.size * x


@pytest.mark.parametrize(("target", "grows"), [("stopped", True), ("free", False), ("auto", False)])
def test_latents_run_after_a_stopped_target_that_is_longer(target: str, grows: bool) -> None:
    model = LatentActionModel(Scaled(), nn.Identity(), SO2(), 1, partition="none", target=target)
    x, g = images(), torch.full((3,), 0.7, dtype=torch.float64)
    gx = 1.2 * SO2().act(x, g)
    model.loss(x, gx, g)["varying"].backward()
    gradient = float(model.encoder.size.grad)  # type: ignore[arg-type, union-attr]
    length = float(SO2().act(x, g).square().mean())
    assert gradient == pytest.approx(2 * length * ((1 - 1.2) if grows else (1 - 1.2) ** 2))
    assert (gradient < 0) == grows


def test_the_target_is_free_where_lengths_are_lost() -> None:
    assert [make(group).free_target for group in (CyclicGroup(4), SO2())] == [False, True]
    assert [make(SO3(), dimensions=3).free_target, make(CubeGroup(), dimensions=3).free_target] == [
        True,
        False,
    ]
    assert not make(SO2(), method="spectral").free_target
    assert not make(SO2(), target="stopped").free_target
    assert make(CyclicGroup(4), target="free").free_target
    with pytest.raises(ValueError, match=r"^target: expected one of auto, stopped, free, got 'both'"):
        make(target="both")
