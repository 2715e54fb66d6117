"""Measured errors, symmetric down-sampling, and files."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn
from torch.nn import functional

from equikernels.group import SO2, CyclicGroup, DihedralGroup, Group
from equikernels.metrics import ssim
from equikernels.models.rotational_vae import (
    RotationalVAE,
    load_autoencoder,
    symmetrise,
)
from equikernels.project import soften
from tests.models.rotational_vae.samples import images, small_vae

WIDTHS = (8, 16, 8)


def test_errors_are_those_of_their_definitions() -> None:
    model, x = RotationalVAE(small_vae(), CyclicGroup(4)), images() * 1.2
    got = model.errors(x, torch.tensor([0, 1, 3]))
    with torch.no_grad():
        z = model.vae.encode(x).latent_dist.mean
        plain = model.vae.decode(z).sample
        for row, k in enumerate([0, 1, 3]):
            for i in range(len(x)):
                turned = model.vae.decode(torch.rot90(z[i : i + 1], k, (-2, -1))).sample
                back = torch.rot90(turned, -k, (-2, -1))
                error = float(((back[0] - x[i]) ** 2).mean())
                shown = [(image.clamp(-1, 1) + 1) / 2 for image in (back[0], x[i])]
                unit = float(((shown[0] - shown[1]) ** 2).mean())
                latent = model.vae.encode(torch.rot90(x[i : i + 1], k, (-2, -1))).latent_dist.mean
                encoder = (latent - torch.rot90(z[i : i + 1], k, (-2, -1))).norm() / z[i].norm()
                decoder = (turned[0] - torch.rot90(plain[i], k, (-2, -1))).norm() / plain[i].norm()
                wanted = [error, unit, 10 * math.log10(1 / unit), float(encoder), float(decoder)]
                assert [float(values[row, i]) for values in got.values()] == pytest.approx(wanted, rel=1e-10)
    assert list(got) == ["round_trip_mse", "round_trip_mse_unit", "psnr", "encoder", "decoder"]


def test_similarity_is_measured_where_images_are_large_enough() -> None:
    model, x = RotationalVAE(small_vae(), CyclicGroup(2)), images(side=12)
    errors = model.errors(x, [0, 1])
    turned = model.act(model.decode(model.act(model.encode(x), 1)), 1)
    for row, back in enumerate((model(x), turned)):
        for i in range(len(x)):
            wanted = ssim((back[i : i + 1].clamp(-1, 1) + 1) / 2, (x[i : i + 1] + 1) / 2)
            assert errors["ssim"][row, i].item() == pytest.approx(wanted.item(), rel=1e-9)


def test_errors_do_not_depend_on_the_mode_and_leave_it() -> None:
    model, x = RotationalVAE(small_vae(), SO2()).train(), images()
    first, second = model.errors(x, [0.3, 0.5]), model.errors(x, [0.3, 0.5])
    assert model.training
    assert first["encoder"].shape == (2, 3)
    assert all(torch.equal(first[name], second[name]) for name in first)


class Halving(nn.Module):
    """The mean of 2 x 2 pixels as both moments, for a VAE that turns exactly."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.avg_pool2d(torch.cat((x, -x), 1), 2)


def test_a_vae_that_turns_has_no_error_and_constant_images_come_back() -> None:
    vae = small_vae()
    vae.encoder, vae.decoder = Halving(), nn.Upsample(scale_factor=2)
    vae.quant_conv = vae.post_quant_conv = nn.Identity()
    model = RotationalVAE(vae, DihedralGroup(4))
    errors = model.errors(images(), DihedralGroup(4).elements())
    assert errors["encoder"].max() < 1e-14
    assert errors["decoder"].max() < 1e-14
    assert errors["round_trip_mse"].std(0).max() < 1e-15
    assert errors["round_trip_mse"].min() > 0.1
    assert model.errors(torch.full((1, 3, 8, 8), 0.5).double(), 3)["psnr"].item() == math.inf


@pytest.mark.parametrize("attention", [True, False], ids=["attention", "no attention"])
@pytest.mark.parametrize(
    "group", [CyclicGroup(2), CyclicGroup(4), DihedralGroup(4)], ids=["C_2", "C_4", "D_4"]
)
def test_symmetrised_and_strict_it_is_equivariant_to_rounding(group: Group, attention: bool) -> None:
    vae, x = small_vae(attention, block_out_channels=WIDTHS), images(side=16)
    assert symmetrise(vae) == [f"encoder.down_blocks.{i}.downsamplers.0" for i in range(2)]
    report = soften(vae, group, softness=0, example_input=x)
    assert not report.limiting
    errors = RotationalVAE(vae, group).errors(x, group.elements())
    assert errors["encoder"].max() < 1e-11
    assert errors["decoder"].max() < 1e-11
    assert errors["round_trip_mse"].std(0).max() < 1e-11


def test_one_sided_down_sampling_keeps_a_strict_encoder_from_it() -> None:
    vae, x = small_vae(block_out_channels=WIDTHS), images(side=16)
    soften(vae, CyclicGroup(4), softness=0)
    errors = RotationalVAE(vae, CyclicGroup(4)).errors(x, [1, 2, 3])
    assert errors["encoder"].min() > 1e-3
    assert errors["decoder"].max() < 1e-11


def test_symmetric_down_sampling_is_a_convolution_and_a_mean_with_the_same_weight() -> None:
    vae = small_vae()
    before = dict(vae.named_parameters())
    convolution = vae.encoder.down_blocks[0].downsamplers[0].conv
    x = torch.randn(2, 8, 6, 6, dtype=torch.float64)
    dense = functional.conv2d(functional.pad(x, (1, 1, 1, 1)), convolution.weight, convolution.bias)
    wanted = dense.reshape(2, 8, 3, 2, 3, 2).mean((3, 5))
    assert symmetrise(vae) == ["encoder.down_blocks.0.downsamplers.0"]
    torch.testing.assert_close(vae.encoder.down_blocks[0].downsamplers[0](x), wanted)
    after = dict(vae.named_parameters())
    assert after.keys() == before.keys()
    assert all(after[name] is before[name] for name in before)
    assert symmetrise(vae) == []


def test_wrong_arguments_of_symmetric_down_sampling() -> None:
    with pytest.raises(TypeError, match="vae: expected a diffusers AutoencoderKL, got Linear"):
        symmetrise(nn.Linear(1, 1))


# -- files -------------------------------------------------------------------------------------------------


def test_diffusers_reads_what_is_saved(tmp_path: Path) -> None:
    model = RotationalVAE(small_vae())
    model.save_pretrained(tmp_path)
    read = AutoencoderKL.from_pretrained(tmp_path, torch_dtype=torch.float64)
    x = images()
    torch.testing.assert_close(read(x).sample, model(x))


@pytest.mark.parametrize("symmetric", [True, False])
def test_a_saved_model_comes_back_as_the_same_network(tmp_path: Path, symmetric: bool) -> None:
    model = RotationalVAE(small_vae().float(), symmetric_downsampling=symmetric)
    model.save_pretrained(tmp_path)
    assert ("symmetric_downsampling" in json.loads((tmp_path / "config.json").read_text())) == symmetric
    x = images().float()
    torch.testing.assert_close(RotationalVAE(tmp_path)(x), model(x))
    torch.testing.assert_close(RotationalVAE(str(tmp_path))(x), model(x))


def test_a_softened_model_is_saved_baked_and_stays_soft(tmp_path: Path) -> None:
    model = RotationalVAE(small_vae().float(), CyclicGroup(4), symmetric_downsampling=True)
    soften(model, CyclicGroup(4), softness=0)
    names = set(model.state_dict())
    model.save_pretrained(tmp_path)
    x = images().float()
    torch.testing.assert_close(load_autoencoder(tmp_path).encode(x).latent_dist.mean, model.encode(x))
    assert set(model.state_dict()) == names
    with pytest.raises(ValueError, match="softened"):
        soften(model, CyclicGroup(4), softness=0)


def test_the_folder_of_a_pipeline_has_its_vae_inside(tmp_path: Path) -> None:
    model = RotationalVAE(small_vae().float())
    model.save_pretrained(tmp_path / "vae")
    (tmp_path / "model_index.json").write_text("{}")
    torch.testing.assert_close(RotationalVAE(tmp_path)(images().float()), model(images().float()))


def test_no_autoencoder_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="vae: expected a folder or a hub name") as caught:
        RotationalVAE(tmp_path)
    assert "\n" not in str(caught.value)
