"""Both decoders explain one observation: against densities of pixels, one by one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import bernoulli, norm

from equikernels.models.spatial_vae.decoders import Observation
from tests.models.spatial_vae.samples import normal, pictures, small


@pytest.mark.parametrize("decoder", ["spatial", "plain"])
@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
@pytest.mark.parametrize("masked", [False, True])
def test_the_log_likelihood_is_a_sum_over_the_pixels_that_count(
    decoder: Any, likelihood: Any, masked: bool
) -> None:
    plain = decoder == "plain"
    pose: dict[str, Any] = {"rotation": not plain, "translation": not plain}
    model = small((4, 6), decoder=decoder, likelihood=likelihood, **pose)
    theta, shift = (None, None) if plain else (normal(3), normal(3, 2))
    z, x = normal(3, 2), pictures(3, size=(4, 6)).flatten(2).mT
    inside = (torch.arange(24).reshape(4, 6) % 5 > 1) if masked else None
    out = model.decoder(theta, shift, z).detach().numpy()[..., 0]
    seen = x[..., 0].numpy()
    if likelihood == "gaussian":
        densities = norm.logpdf(seen, out)
    else:
        shown = 1 / (1 + np.exp(-out))
        densities = seen * bernoulli.logpmf(1, shown) + (1 - seen) * bernoulli.logpmf(0, shown)
    counted = np.ones(24, dtype=bool) if inside is None else inside.flatten().numpy()
    found = model.decoder.log_likelihood(theta, shift, z, Observation(x, likelihood, inside))
    np.testing.assert_allclose(found.detach(), densities[:, counted].sum(1), rtol=1e-9)
