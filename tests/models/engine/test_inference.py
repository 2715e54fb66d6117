"""Trained models at work: their numbers, their answers, their samples."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from equikernels.models.data import SampleDraws, load_dataset
from equikernels.models.engine import Batches, ConfigurationError, Run, default_configuration, open_run, train
from equikernels.models.engine.inference import (
    Use,
    evaluate_run,
    generate_samples,
    infer_samples,
    save_arrays,
)
from tests.models.engine.samples import configured


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("run") / "run"
    train(configured(None, {"learning_rate": 0.3}, epochs=3, batch_size=300, ema_decay=0.5), folder)
    return open_run(folder)


def test_evaluation_repeats_the_numbers_of_training(run: Run) -> None:
    metrics = run.read_metrics()
    numbers = evaluate_run(run)
    expected = {name: metrics["best"][name] for name in ("loss", "cross_entropy", "size", "accuracy")}
    assert numbers == pytest.approx(expected, rel=1e-6)
    assert evaluate_run(run, Use(batch_size=7)) == pytest.approx(expected, rel=1e-5)
    last = {name: metrics["last"][name] for name in expected}
    assert evaluate_run(run, Use(checkpoint="last")) == pytest.approx(last, rel=1e-6)
    assert evaluate_run(run, Use(data="digits")) != pytest.approx(
        expected, rel=1e-3
    )  # all of them, not a fifth


def test_answers_come_for_every_sample_in_order(run: Run, tmp_path: Path) -> None:
    arrays = infer_samples(run)
    model = run.load_model(load_dataset("digits"))
    every = load_dataset("digits").fetch(torch.arange(1797))
    with torch.no_grad():
        logits = model(every["image"])
    assert arrays["logits"].shape == (1797, 10)
    np.testing.assert_allclose(arrays["logits"], logits.bfloat16().float().numpy(), rtol=0.02, atol=1e-3)
    assert float((torch.from_numpy(arrays["label"]) == logits.argmax(1)).double().mean()) > 0.999
    paths = save_arrays(tmp_path / "out", arrays)
    assert sorted(path.name for path in paths) == ["label.npy", "logits.npy"]
    assert np.array_equal(np.load(tmp_path / "out" / "logits.npy"), arrays["logits"])
    assert len(list((tmp_path / "out").iterdir())) == 2


def test_a_sample_depends_on_its_number_and_the_seed_alone(run: Run) -> None:
    images = generate_samples(run, 10, seed=3)["image"]
    assert images.shape == (10, 1, 8, 8)
    fewer = generate_samples(run, 7, seed=3, use=Use(batch_size=2))["image"]
    assert np.array_equal(fewer, images[:7])
    assert not np.array_equal(generate_samples(run, 10, seed=4)["image"], images)
    drawn = SampleDraws(3, 0, [4]).uniform("image", (1, 8, 8))
    assert np.allclose(np.ptp(images[4] - drawn.numpy()[0]), 0, atol=1e-6)
    with pytest.raises(ConfigurationError, match=r"count: expected an integer >= 1, got 0"):
        generate_samples(run, 0)


def test_what_a_task_cannot_do_is_one_line(tmp_path: Path) -> None:
    configuration = default_configuration("autoencoder")
    with pytest.raises(
        ConfigurationError, match=r"^the task autoencoder cannot generate: it has no method generate$"
    ):
        generate_samples(Run(tmp_path, configuration), 3)
    with pytest.raises(ValueError, match=r"batch_size: expected an integer >= 1, got 0"):
        Use(batch_size=0)


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match=r"file: cannot write there: File exists"):
        save_arrays(tmp_path / "file", {"a": np.zeros(2)})


def test_other_data_have_their_options_or_those_of_the_run(run: Run) -> None:
    with_option = Run(run.folder, dataclasses.replace(run.configuration, data_options=("size=4",)))
    with pytest.raises(ConfigurationError, match=r"data: size: no option of digits data"):
        evaluate_run(with_option)
    assert evaluate_run(with_option, Use(data_options=())) == evaluate_run(run)
    with pytest.raises(ConfigurationError, match=r"data: colour: no option of digits data"):
        infer_samples(run, Use(data="digits", data_options=("colour=red",)))


def test_batches_are_the_same_at_every_iteration() -> None:
    dataset = load_dataset("digits").subset([9, 8, 7, 6, 5])
    batches = Batches(dataset, torch.tensor([4, 0, 2]), 2, seed=1, epoch=2)
    assert len(batches) == 2
    for _ in range(2):
        seen = [(batch["index"].tolist(), draws.normal("x").tolist()) for batch, draws in batches]
        assert [index for index, _ in seen] == [[5, 9], [7]]
        # The draws are of the samples of the whole data set, whatever part of it this is.
        assert [number for _, drawn in seen for number in drawn] == SampleDraws(1, 2, [5, 9, 7]).normal(
            "x"
        ).tolist()
    assert list(Batches(dataset, torch.arange(0), 2, seed=1, epoch=2)) == []
