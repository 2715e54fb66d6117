"""Runs that are killed, stopped or out of room go on as if nothing had been."""

from __future__ import annotations

import functools
import json
import os
import random
import re
import resource
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor, nn

from equikernels.cli import main
from equikernels.models.engine import resume, train
from equikernels.models.engine.runs import create_run
from tests.models.engine.children import Child, wait_for
from tests.models.engine.samples import NoisyDigits, assert_equal_runs, configured, digits

CONFIGURATION = configured(
    {"dropout": 0.3}, {"schedule": "cosine", "warmup_steps": 3},
    accumulation=2, ema_decay=0.9, gradient_clip=1.0, checkpoint_steps=1,
)  # fmt: skip


def training(folder: Path) -> Callable[[], int]:
    def action() -> int:
        resume_or_train(folder)
        return 0

    return action


def resume_or_train(folder: Path) -> None:
    if (folder / "run.toml").exists():
        resume(folder, dataset=digits())
    else:
        train(CONFIGURATION, folder, dataset=digits())


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """A run that was left alone, and the seconds it took."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    begun = time.perf_counter()
    child = Child(training(folder), folder.parent / "output")
    assert child.wait() == 0, child.output
    return folder, time.perf_counter() - begun


def kill_often(times: int, uninterrupted: tuple[Path, float], folder: Path) -> None:
    whole, seconds = uninterrupted
    delays = random.Random()
    tried = []
    for _ in range(times):
        child = Child(training(folder / "run"), folder / "output")
        tried.append(delays.uniform(0, seconds / 2))
        time.sleep(tried[-1])
        child.send(signal.SIGKILL)
        assert child.wait() in (-signal.SIGKILL, 0), child.output
    child = Child(training(folder / "run"), folder / "output")
    assert child.wait() == 0, child.output
    try:
        assert_equal_runs(whole, folder / "run")
    except AssertionError as error:
        raise AssertionError(f"killed after {tried} seconds") from error


def test_a_run_that_is_killed_at_any_moment_has_the_same_bits(
    uninterrupted: tuple[Path, float], tmp_path: Path
) -> None:
    kill_often(3, uninterrupted, tmp_path)


@pytest.mark.slow
def test_a_run_that_is_killed_twenty_times_has_the_same_bits(
    uninterrupted: tuple[Path, float], tmp_path: Path
) -> None:
    for attempt in range(5):
        folder = tmp_path / str(attempt)
        folder.mkdir()
        kill_often(20, uninterrupted, folder)


def test_a_run_killed_between_any_two_writes_has_the_same_bits(
    uninterrupted: tuple[Path, float], tmp_path: Path
) -> None:
    """Every moment at which the files on the disk have changed, without waiting for chance to find it."""
    whole = uninterrupted[0]

    def dies_at(number: int, folder: Path) -> int:
        counted = iter(range(10**9))
        replace = os.replace

        def replacing(*paths: object) -> None:
            if next(counted) == number:
                os.kill(os.getpid(), signal.SIGKILL)
            replace(*paths)  # type: ignore[arg-type]
            if next(counted) == number:
                os.kill(os.getpid(), signal.SIGKILL)

        os.replace = replacing  # type: ignore[assignment]
        resume_or_train(folder)
        return 0

    # Of the first files, of those at the ends of epochs, of the last ones.
    for number in (0, 1, 2, 12, 13, 14, 15, 17, 50, 53):
        folder = tmp_path / str(number)
        child = Child(functools.partial(dies_at, number, folder), tmp_path / "output")
        assert child.wait() in (-signal.SIGKILL, 0), child.output
        child = Child(training(folder), tmp_path / "output")
        assert child.wait() == 0, child.output
        assert_equal_runs(whole, folder)


# -- signals -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_and_the_run_goes_on(number: signal.Signals, code: int, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    words = ["tests.models.engine.samples:noisy-digits", "--out", str(folder), "--epochs", "2"]
    words += ["--batch-size", "200", "--log-steps", "1", "--slow", "0.1"]
    first = Child(lambda: main(["train", *words]), tmp_path / "first")
    wait_for(lambda: (folder / "steps.csv").exists() and (folder / "steps.csv").stat().st_size > 40)
    first.send(number)
    assert first.wait() == code, first.output
    last = first.output.splitlines()[-1]
    assert re.fullmatch(
        rf"equikernels: stopped by {number.name} after step \d+, all saved; to go on: "
        rf"equikernels train --resume {folder}", last,
    )  # fmt: skip
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["status"] == "interrupted"
    assert metrics["steps"] < 8  # not at the end of the epoch
    second = Child(lambda: main(["train", "--resume", str(folder)]), tmp_path / "second")
    assert second.wait() == 0, second.output
    whole = Child(
        lambda: main(["train", *words[:2], str(tmp_path / "whole"), *words[3:]]), tmp_path / "third"
    )
    assert whole.wait() == 0, whole.output
    assert_equal_runs(tmp_path / "whole", folder)


def test_a_signal_is_heeded_in_validation_too(tmp_path: Path) -> None:
    run, whole = tmp_path / "run", tmp_path / "whole"
    asked = configured(epochs=2, batch_size=60, ema_decay=0.5)

    def signalled(self: NoisyDigits, model: nn.Module, *rest: Any) -> dict[str, Tensor]:
        if not model.training:
            signal.raise_signal(signal.SIGINT)
        return loss(self, model, *rest)

    def interrupted() -> int:
        NoisyDigits.loss = signalled  # type: ignore[method-assign]
        train(asked, run, dataset=digits())
        return 0

    loss = NoisyDigits.loss
    child = Child(interrupted, tmp_path / "output")
    assert child.wait() == 70
    assert "Stopped: stopped by SIGINT after step 4" in child.output
    assert (run / "validation.csv").read_text() == ""
    assert Child(lambda: resume(run, dataset=digits())["epochs"] - 2, tmp_path / "output").wait() == 0
    assert Child(lambda: train(asked, whole, dataset=digits())["epochs"] - 2, tmp_path / "output").wait() == 0
    assert_equal_runs(whole, run)


# -- no room -------------------------------------------------------------------------------------------------


def test_a_full_disk_is_one_line_and_keeps_the_last_checkpoint(
    uninterrupted: tuple[Path, float], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    words = ["train", "autoencoder", "--epochs", "2", "--out", str(folder)]
    assert Child(lambda: main(words), tmp_path / "first").wait() == 0
    size = (folder / "checkpoints" / "last.safetensors").stat().st_size

    def limited() -> int:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, size // 2))
        return main(["train", "autoencoder", "--epochs", "2", "--out", str(tmp_path / "other")])

    child = Child(limited, tmp_path / "limited")
    assert child.wait() == 1
    other = tmp_path / "other" / "checkpoints" / "best.safetensors"
    assert child.output.splitlines()[-1] == f"equikernels: cannot write {other}: File too large"
    assert "Traceback" not in child.output
    assert list(other.parent.iterdir()) == []  # nothing half written

    # The same at a later checkpoint, which must leave the one before it whole.
    run, whole = tmp_path / "later", uninterrupted[0]
    assert Child(interrupted_at(run, 7), tmp_path / "interrupted").wait() == 0
    last = run / "checkpoints" / "last.safetensors"
    before = last.read_bytes()

    def limited_resume() -> int:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))
        return training(run)()

    child = Child(limited_resume, tmp_path / "limited again")
    assert child.wait() == 70
    assert f"RunError: cannot write {last}: File too large" in child.output
    assert last.read_bytes() == before
    child = Child(training(run), tmp_path / "output")
    assert child.wait() == 0, child.output
    assert_equal_runs(whole, run)


def test_a_full_disk_names_the_log_too(tmp_path: Path) -> None:
    run = tmp_path / "run"
    asked = configured(epochs=1, batch_size=2)
    create_run(run, asked)  # as after a kill before the first checkpoint

    def limited() -> int:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))
        resume(run, dataset=digits())
        return 0

    child = Child(limited, tmp_path / "output")
    assert child.wait() == 70
    assert child.output.splitlines()[-1].endswith(
        f"RunError: cannot write {run / 'steps.csv'}: File too large"
    )
    assert Child(lambda: resume(run, dataset=digits())["epochs"] - 1, tmp_path / "again").wait() == 0
    assert (
        Child(lambda: train(asked, tmp_path / "w", dataset=digits())["epochs"] - 1, tmp_path / "o").wait()
        == 0
    )
    assert_equal_runs(tmp_path / "w", run)


def interrupted_at(folder: Path, step: int) -> Callable[[], int]:
    """A run that ends, saved, after a step."""

    def action() -> int:
        from equikernels.models.engine import Stopped, steps

        take = steps.StepTaker.__call__

        def signalled(self: steps.StepTaker, *words: object) -> steps.StepTaken:
            if words[1] == step:
                signal.raise_signal(signal.SIGTERM)
            return take(self, *words[:3], signal.SIGTERM if words[1] == step else 0)  # type: ignore[arg-type]

        steps.StepTaker.__call__ = signalled  # type: ignore[method-assign]
        try:
            resume_or_train(folder)
        except Stopped:
            return 0
        return 1

    return action


def test_a_folder_that_cannot_be_written_is_one_line(
    uninterrupted: tuple[Path, float], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "file"
    file.write_text("precious")
    for out, reason in ((file / "run", "Not a directory"), (Path("/proc/run"), "No such file or directory")):
        assert main(["train", "autoencoder", "--out", str(out)]) == 2
        assert capsys.readouterr().err == f"equikernels: {out}: cannot write there: {reason}\n"
    assert file.read_text() == "precious"
    # A folder that was there when the run began, and is not now.
    run = tmp_path / "run"
    assert Child(interrupted_at(run, 7), tmp_path / "output").wait() == 0
    moved = tmp_path / "moved"
    (run / "steps.csv").rename(moved)
    (run / "steps.csv").mkdir()
    child = Child(training(run), tmp_path / "again")
    assert child.wait() == 70
    assert f"RunError: cannot write {run / 'steps.csv'}: Is a directory" in child.output
    shutil.rmtree(run / "steps.csv")
    moved.rename(run / "steps.csv")
    assert Child(training(run), tmp_path / "output").wait() == 0
    assert_equal_runs(uninterrupted[0], run)
