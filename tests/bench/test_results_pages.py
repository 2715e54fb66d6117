"""The pages of results are what today's code makes of the records beside them, verdicts and all."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bench.experiments import (
    latent_mnist,
    latent_scene,
    latent_volumes,
    o5_regression,
    rotational_vae,
    soft_mnist,
    spatial_vae_mnist,
    trajectories,
    two_domains,
)
from equikernels.models.engine.results import Experiment, make_page, read_record
from tests.test_documentation import REPOSITORY

EXPERIMENTS: list[Callable[[], Experiment]] = [
    latent_mnist.experiment,
    latent_scene.experiment,
    latent_volumes.experiment,
    o5_regression.make,
    rotational_vae.make_experiment,
    soft_mnist.make_experiment,
    spatial_vae_mnist.make,
    trajectories.make,
    lambda: two_domains.EXPERIMENT,
]


@pytest.mark.parametrize("make", EXPERIMENTS)
def test_a_page_is_that_of_its_record(make: Callable[[], Experiment]) -> None:
    experiment = make()
    folder = REPOSITORY / "docs" / "results"
    kept = read_record(folder / f"{experiment.name}.jsonl")
    assert make_page(experiment, kept) == (folder / f"{experiment.name}.md").read_text(encoding="utf-8")
