"""The losses against their formulas, written out with diffusers and torch.rot90 alone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from equikernels.group import SO2, CyclicGroup, DihedralGroup, Group, SymmetricGroup
from equikernels.models.data import SampleDraws
from equikernels.models.rotational_vae import RotationalVAE
from equikernels.models.rotational_vae.elements import draw_elements, element_name
from equikernels.models.rotational_vae.losses import unit_normal_divergences
from tests.models.rotational_vae.samples import images, small_vae


def quarter_turns(x: Tensor, turns: list[int], flips: list[int] | None = None) -> Tensor:
    """Every image flipped left-right where asked, then turned counter-clockwise, by torch alone."""
    moved = [
        torch.rot90(image.flip(-1) if flip else image, k, (-2, -1))
        for image, k, flip in zip(x, turns, flips or [0] * len(x), strict=True)
    ]
    return torch.stack(moved)


# Group, elements, and what they are as turns and flips.
GIVEN = [
    pytest.param(CyclicGroup(2), [1, 1, 1], [2, 2, 2], [0, 0, 0], id="C_2"),
    pytest.param(CyclicGroup(4), [1, 2, 3], [1, 2, 3], [0, 0, 0], id="C_4"),
    pytest.param(DihedralGroup(4), [5, 3, 0], [1, 3, 0], [1, 0, 0], id="D_4"),
]


def expected(
    model: RotationalVAE, x: Tensor, noise: Tensor | None, turns: list[int], flips: list[int]
) -> dict[str, Tensor]:
    vae = model.vae
    moments = vae.quant_conv(vae.encoder(x))
    mean, logvar = moments[:, :3], moments[:, 3:]
    z = mean if noise is None else mean + (logvar / 2).exp() * noise

    def decoded(latent: Tensor) -> Tensor:
        return vae.decoder(vae.post_quant_conv(latent))

    if model.mode == "implicit":
        errors = [
            ((decoded(quarter_turns(z, turns, flips))[i] - quarter_turns(x, turns, flips)[i]) ** 2).mean()
            for i in range(len(x))
        ]
        still = [turns[i] == 0 and flips[i] == 0 for i in range(len(x))]
        reconstruction = sum(e for e, s in zip(errors, still, strict=True) if s) / len(x)
        turned = sum(e for e, s in zip(errors, still, strict=True) if not s) / len(x)
        terms = {"reconstruction": torch.as_tensor(reconstruction).double(), "turned": turned}
    else:
        terms = {"reconstruction": ((decoded(z) - x) ** 2).mean()}
        if model.mode == "dual":
            terms["turned"] = (
                (decoded(quarter_turns(z, turns, flips)) - quarter_turns(x, turns, flips)) ** 2
            ).mean()
        else:
            of_turned = vae.quant_conv(vae.encoder(quarter_turns(x, turns, flips)))[:, :3]
            terms["turned"] = ((of_turned - quarter_turns(mean, turns, flips)) ** 2).mean()
    posterior = torch.distributions.Normal(mean, (logvar / 2).exp())
    unit = torch.distributions.Normal(torch.zeros_like(mean), torch.ones_like(mean))
    terms["kl"] = torch.distributions.kl_divergence(posterior, unit).sum() / len(x)
    terms["loss"] = terms["reconstruction"] + 0.7 * terms["turned"] + 0.01 * terms["kl"]
    return terms


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("mode", ["dual", "implicit", "explicit"])
@pytest.mark.parametrize(("group", "elements", "turns", "flips"), GIVEN)
def test_terms_and_their_gradients_are_those_of_the_formula(
    group: Group, elements: list[int], turns: list[int], flips: list[int], mode: str, training: bool
) -> None:
    x = images()
    model = RotationalVAE(small_vae(), group, mode, turned_weight=0.7, kl_weight=0.01).train(training)
    noise = torch.randn(3, 3, 4, 4, dtype=torch.float64) if training else None
    got = model.loss(x, elements=torch.tensor(elements), noise=noise)
    wanted = expected(model, x, noise, turns, flips)
    assert got.keys() == wanted.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(got[name], value, rtol=1e-11, atol=1e-12, msg=name)
    parameters = list(model.parameters())
    for ours, theirs in zip(
        torch.autograd.grad(got["loss"], parameters, allow_unused=True),
        torch.autograd.grad(wanted["loss"], parameters, allow_unused=True),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-10)


def test_right_angles_of_continuous_turns_are_quarter_turns() -> None:
    x, angle = images(), torch.tensor([0.5, 1.0, -0.5], dtype=torch.float64) * torch.pi
    continuous = RotationalVAE(small_vae(), SO2()).eval().loss(x, elements=angle)
    discrete = RotationalVAE(small_vae(), CyclicGroup(4)).eval().loss(x, elements=torch.tensor([1, 2, 3]))
    torch.testing.assert_close(continuous, discrete, rtol=1e-9, atol=1e-10)


def test_the_images_are_encoded_once_and_the_latent_is_shared() -> None:
    model = RotationalVAE(small_vae())
    calls: list[Tensor] = []
    model.vae.encoder.register_forward_hook(lambda *_: calls.append(torch.ones(())))
    seen: list[Tensor] = []
    model.vae.decoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model.loss(images(), SampleDraws(0, 0, [0, 1, 2]))
    assert len(calls) == 1
    assert len(seen) == 2
    # One draw of the posterior for both: post_quant_conv has 1 x 1 kernels, so it turns with the latent.
    torch.testing.assert_close(seen[1], torch.rot90(seen[0], 2, (-2, -1)))


def test_implicit_decodes_once() -> None:
    model, calls = RotationalVAE(small_vae(), mode="implicit"), []
    model.vae.decoder.register_forward_hook(lambda *_: calls.append(1))
    model.loss(images(), SampleDraws(0, 0, [0, 1, 2]))
    assert len(calls) == 1


@pytest.mark.parametrize("mode", ["dual", "implicit", "explicit"])
def test_random_numbers_come_from_the_draws(mode: str) -> None:
    x = images(4)
    model = RotationalVAE(small_vae(), CyclicGroup(4), mode)
    together = model.loss(x, SampleDraws(2, 5, [7, 3, 9, 4]))
    parts = [model.loss(x[i : i + 1], SampleDraws(2, 5, [n])) for i, n in enumerate([7, 3, 9, 4])]
    for name, value in together.items():
        torch.testing.assert_close(value, torch.stack([part[name] for part in parts]).mean())
    other = model.loss(x, SampleDraws(2, 6, [7, 3, 9, 4]))
    assert not torch.equal(other["loss"], together["loss"])


def test_drawn_noise_is_that_of_the_draws_and_evaluation_has_none() -> None:
    x, draws = images(), SampleDraws(0, 1, [5, 6, 7])
    model = RotationalVAE(small_vae())
    noise = draws.normal("posterior", (3, 4, 4))
    torch.testing.assert_close(model.loss(x, draws), model.loss(x, elements=1, noise=noise))
    model.eval()
    torch.testing.assert_close(model.loss(x, draws), model.loss(x, SampleDraws(1, 2, [0, 1, 2])))


def test_finite_elements_are_never_the_identity_and_angles_reach_all_around() -> None:
    draws = SampleDraws(0, 0, range(400))
    assert draw_elements(CyclicGroup(4), 400, draws).unique().tolist() == [1, 2, 3]
    assert draw_elements(DihedralGroup(4), 400, draws).unique().tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert draw_elements(CyclicGroup(4), 400, None).unique().tolist() == [1, 2, 3]
    angles = draw_elements(SO2(), 400, draws)
    assert angles.histc(8, -torch.pi, torch.pi).min() > 20


@pytest.mark.parametrize("probability", [0.0, 0.25, 1.0])
def test_implicit_turns_the_share_of_samples_it_is_told(probability: float) -> None:
    model = RotationalVAE(small_vae(), CyclicGroup(4), "implicit", probability=probability)
    g = model._elements(2000, SampleDraws(0, 0, range(2000)), torch.device("cpu"))
    assert abs(float((g != 0).double().mean()) - probability) <= 4 * (0.25 / 2000) ** 0.5 * (
        0 < probability < 1
    )


@pytest.mark.parametrize("mode", ["dual", "implicit"])
def test_decoder_only_training_leaves_the_encoder(mode: str) -> None:
    model = RotationalVAE(small_vae(), mode=mode, trained="decoder")
    model.loss(images(), SampleDraws(0, 0, [0, 1, 2]))["loss"].backward()
    with_gradient = {name.split(".")[1] for name, p in model.named_parameters() if p.grad is not None}
    trainable = {name.split(".")[1] for name, p in model.named_parameters() if p.requires_grad}
    assert with_gradient == trainable == {"decoder", "post_quant_conv"}


def test_divergence_in_half_precision_is_computed_in_float32() -> None:
    mean, logvar = torch.full((1, 5000), 1.0).bfloat16(), torch.zeros(1, 5000).bfloat16()
    assert unit_normal_divergences(mean, logvar).tolist() == [2500.0]


def test_names_of_elements() -> None:
    assert [element_name(DihedralGroup(4), g) for g in torch.arange(8)][4:6] == ["0flip", "90flip"]
    assert element_name(SO2(), torch.tensor(torch.pi / 4, dtype=torch.float64)) == "45"


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((SymmetricGroup(3),), {}, r"group: expected CyclicGroup\(n\)"),
        ((CyclicGroup(1),), {}, "group: expected one with more than the identity"),
        ((CyclicGroup(2), "both"), {}, "mode: expected one of dual, implicit, explicit, got 'both'"),
        ((), {"trained": "encoder"}, "trained: expected one of both, decoder"),
        ((), {"kl_weight": -1.0}, "kl_weight: expected a finite number >= 0"),
        ((), {"turned_weight": float("nan")}, "turned_weight: expected"),
        ((), {"probability": 1.5}, "probability: expected a number in"),
        ((), {"trained": "decoder", "mode": "explicit"}, "trained: 'decoder' freezes the encoder"),
        ((), {"trained": "decoder", "kl_weight": 1.0}, "trained: 'decoder' freezes the encoder"),
        ((), {"method": "cubic"}, "method: expected one of"),
        ((), {"padding": "zeros"}, "padding: the exact method takes none"),
    ],
)
def test_wrong_arguments_of_the_model(arguments: tuple, options: dict, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message) as caught:
        RotationalVAE(small_vae(), *arguments, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("x", "options", "message"),
    [
        (torch.zeros(2, 3, 8, 8, dtype=torch.uint8), {}, "x: expected a floating tensor"),
        (torch.zeros(2, 1, 8, 8).double(), {}, r"x: expected images \(B, 3, H, W\)"),
        (torch.zeros(2, 3, 8, 9).double(), {}, "multiples of 2"),
        (images(2), {"noise": torch.zeros(2, 3, 8, 8)}, r"noise: expected shape \(2, 3, 4, 4\)"),
        (images(2), {"elements": torch.tensor([1, 1, 1])}, "elements: expected one, or one for each of 2"),
        (images(2), {"draws": SampleDraws(0, 0, [1])}, "draws: expected those of 2 samples, got 1"),
    ],
)
def test_wrong_arguments_of_the_loss(x: Tensor, options: dict, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        RotationalVAE(small_vae()).loss(x, **options)


def test_noise_has_no_place_in_evaluation() -> None:
    with pytest.raises(ValueError, match="noise: evaluation mode"):
        RotationalVAE(small_vae()).eval().loss(images(), noise=torch.zeros(3, 3, 4, 4))


def test_no_autoencoder() -> None:
    with pytest.raises(TypeError, match="vae: expected a diffusers AutoencoderKL or its name, got Identity"):
        RotationalVAE(torch.nn.Identity())
