"""What is measured of trained models, against numbers worked out another way."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from equikernels.group import SO2
from equikernels.models.data import load_dataset
from equikernels.models.latent_actions import LatentActionModel, convolutional_autoencoder
from equikernels.models.latent_actions.measuring import compare_images, object_dependence, region_correlation


class Fixed(nn.Module):
    """Channels: mean of the left half, of the right half, a constant, the sum of both halves."""

    def forward(self, x: Tensor) -> Tensor:
        left, right = x[..., :8].mean((1, 2, 3)), x[..., 8:].mean((1, 2, 3))
        channels = torch.stack([left, right, torch.ones_like(left), left + right], dim=1)
        return channels[:, :, None, None].expand(-1, -1, 2, 2)


def test_dependence_is_the_share_of_the_change_that_the_object_makes() -> None:
    batch = load_dataset("scenes", count=40).fetch(torch.arange(40))
    # Objects on the left and backgrounds on the right alone.
    left = torch.zeros(16).index_fill(0, torch.arange(8), 1.0)
    scenes = {"object": batch["object"] * left, "coverage": left.expand(40, 1, 16, 16), "background":
              batch["background"] * (1 - left)}  # fmt: skip
    model = LatentActionModel(Fixed(), nn.Identity(), SO2(), 4)
    found = object_dependence(model, scenes)
    a, b = scenes["object"][..., :8].mean((1, 2, 3)), scenes["background"][..., 8:].mean((1, 2, 3))
    changes = [float((values.roll(1) - values).square().mean()) for values in (a, b)]
    assert found[:2].tolist() == [1.0, 0.0]
    assert math.isnan(found[2])
    assert float(found[3]) == pytest.approx(changes[0] / sum(changes), rel=1e-4)


def test_channels_of_separate_layers_depend_on_one() -> None:
    torch.manual_seed(0)
    encoder, _ = convolutional_autoencoder(4, (8, 12), groups=2)
    x = torch.rand(5, 4, 8, 8)
    first, second = x.clone(), x.clone()
    first[:, :2], second[:, 2:] = 0, 0
    changes = [(encoder(other) - encoder(x)).abs().amax((0, 2, 3)) for other in (first, second)]
    assert (changes[0][:6] > 0).all()
    assert not changes[0][6:].any()
    assert (changes[1][6:] > 0).all()
    assert not changes[1][:6].any()
    with pytest.raises(ValueError, match="groups: expected a divisor of 3, 8, 12, got 2"):
        convolutional_autoencoder(3, (8, 12), groups=2)


def test_correlation_with_a_region_is_that_of_numpy() -> None:
    generator = torch.Generator().manual_seed(0)
    part = torch.randn(7, 3, 4, 4, generator=generator)
    region = torch.rand(7, 1, 16, 16, generator=generator)
    size = part.square().sum(1).sqrt().flatten().numpy()
    share = region.unflatten(-1, (4, 4)).unflatten(-3, (4, 4)).mean((-1, -3)).flatten().numpy()
    assert region_correlation(part, region) == pytest.approx(np.corrcoef(size, share)[0, 1], abs=1e-6)
    assert region_correlation(-part, region) == pytest.approx(region_correlation(part, region))
    assert math.isnan(region_correlation(torch.zeros_like(part), region))


def test_images_are_compared_one_by_one() -> None:
    generator = torch.Generator().manual_seed(0)
    for shape in ((3, 1, 12, 14), (3, 2, 8, 8), (3, 1, 9, 10, 9)):
        a, b = torch.rand(shape, generator=generator), torch.rand(shape, generator=generator)
        found, each = compare_images(a, b), [compare_images(a[k : k + 1], b[k : k + 1]) for k in range(3)]
        for name in ("psnr", "ssim", "rmse"):
            assert found[name] == pytest.approx(np.mean([one[name] for one in each]), rel=1e-12)
        assert found["rmse"] == pytest.approx(
            float((a - b).double().square().flatten(1).mean(1).sqrt().mean()), rel=1e-6
        )
        assert compare_images(a, a)["ssim"] == pytest.approx(1.0)
