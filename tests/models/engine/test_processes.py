"""Two processes equal one to rounding, whatever is left for the last batch."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from equikernels.cli import main
from equikernels.project.saving.files import read_tensors
from tests.models.engine.children import wait_for

REPOSITORY = Path(__file__).resolve().parents[3]


ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}


def command(*words: str) -> list[str]:
    """The command line in two processes."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    return [sys.executable, *launcher, "-m", "equikernels.cli", *words]


def launch(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*words), env=ENVIRONMENT, cwd=REPOSITORY, capture_output=True, text=True, check=False
    )


def rows(path: Path) -> list[dict[str, float]]:
    with path.open() as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def test_two_processes_equal_one(tmp_path: Path) -> None:
    # 1438 = 3 * 479 + 1: the last batch of an epoch has one sample, so one process has none.
    words = ["train", "autoencoder", "--epochs", "2", "--batch-size", "479", "--accumulation", "2"]
    words += ["--log-steps", "1", "--noise", "0.3", "--ema-decay", "0.8", "--gradient-clip", "0.1"]
    words += ["--algorithm", "sgd", "--learning-rate", "0.5", "--device", "cpu"]
    one, two = tmp_path / "one", tmp_path / "two"
    launched = launch(*words, "--out", str(two))
    assert launched.returncode == 0, launched.stderr
    assert launched.stdout.count("finished: ") == 1  # only the main process says anything
    # A launcher that silently starts one process would make the rest of this test empty.
    assert json.loads((two / "metrics.json").read_text())["conditions"]["processes"] == 2
    assert main([*words, "--out", str(one)]) == 0
    assert json.loads((one / "metrics.json").read_text())["conditions"]["processes"] == 1
    for name in ("steps.csv", "epochs.csv", "validation.csv"):
        alone, together = rows(one / name), rows(two / name)
        assert len(alone) == len(together) == (8 if name == "steps.csv" else 2)
        for row, other in zip(alone, together, strict=True):
            assert other == pytest.approx(row, rel=1e-5)
    for name in ("checkpoints/last", "checkpoints/best", "model"):
        weights, others = (read_tensors(folder / f"{name}.safetensors")[1] for folder in (one, two))
        assert weights.keys() == others.keys()
        for key, tensor in weights.items():
            torch.testing.assert_close(others[key], tensor, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_two_processes_are_stopped_and_one_goes_on(tmp_path: Path) -> None:
    """A terminal's Ctrl-C reaches the launcher and both processes, which the launcher signals again."""
    words = ["train", "tests.models.engine.samples:noisy-digits", "--epochs", "3", "--batch-size", "100"]
    words += ["--dropout", "0", "--slow", "0.05", "--log-steps", "1", "--device", "cpu", "--out"]
    two, one = tmp_path / "two", tmp_path / "one"
    launched = subprocess.Popen(
        command(*words, str(two)),
        env=ENVIRONMENT,
        cwd=REPOSITORY,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    wait_for(lambda: (two / "steps.csv").exists() and (two / "steps.csv").stat().st_size > 200)
    os.killpg(launched.pid, signal.SIGINT)
    launched.communicate()
    metrics = json.loads((two / "metrics.json").read_text())
    assert (metrics["status"], metrics["conditions"]["processes"]) == ("interrupted", 2)
    assert 0 < metrics["steps"] < 45
    assert main(["train", "--resume", str(two)]) == 0
    assert main([*words, str(one)]) == 0
    for row, other in zip(rows(one / "steps.csv"), rows(two / "steps.csv"), strict=True):
        assert other == pytest.approx(row, rel=1e-4)


@pytest.mark.slow
def test_two_processes_end_together_and_one_goes_on(tmp_path: Path) -> None:
    """A loss that is not finite in one ends both; one process goes on from their checkpoint."""
    folder = tmp_path / "run"
    words = ["train", "tests.models.engine.samples:noisy-digits", "--epochs", "2", "--batch-size", "100"]
    words += ["--device", "cpu", "--out", str(folder), "--poisoned", "7", "--poisoned-from", "1"]
    launched = launch(*words)
    assert launched.returncode != 0

    assert "the loss is not finite for the training sample 7" in launched.stderr
    metrics = json.loads((folder / "metrics.json").read_text())
    assert (metrics["epochs"], metrics["conditions"]["processes"]) == (1, 2)
    assert main(["train", "--resume", str(folder)]) == 1
