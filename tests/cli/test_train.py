"""`equikernels train`, `evaluate`, `infer` and `generate` as a person meets them."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from equikernels.cli import extras, main
from equikernels.cli.train import configure
from equikernels.models.engine import OptimizerOptions, TrainingOptions, default_configuration, open_run
from equikernels.models.engine.toml import to_toml

REPOSITORY = Path(__file__).resolve().parents[2]
TASK = "autoencoder"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "made" / "here"
    words = ["--epochs", "1", "--latent", "3", "--hidden", "20", "10", "--algorithm", "adamw"]
    assert main(["train", TASK, *words, "--out", str(folder)]) == 0
    return folder


def assert_mistake(words: list[str], capsys: pytest.CaptureFixture[str], *said: str, code: int = 2) -> None:
    assert main(words) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("equikernels: ")
    assert captured.err.count("\n") == 1
    for part in said:
        assert part in captured.err


def test_a_process_of_its_own_trains(tmp_path: Path) -> None:
    run = tmp_path / "run"
    command = [sys.executable, "-m", "equikernels.cli", "train", TASK, "--epochs", "2", "--out", str(run)]
    finished = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    assert finished.stderr == ""
    # No terminal, no bar: a line for each epoch.
    lines = finished.stdout.splitlines()
    assert re.fullmatch(
        r"epoch 1/2, loss [\d.]+, validation loss [\d.]+, validation psnr [\d.]+, \d+ samples/s", lines[0]
    )
    assert re.fullmatch(rf"finished: loss [\d.]+ at epoch 2, in {run}", lines[2])
    assert len(lines) == 3
    left = {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()}
    assert {path for path in left if not path.startswith("tensorboard")} == {
        "run.toml", "metrics.json", "model.safetensors", "steps.csv", "epochs.csv", "validation.csv",
        "checkpoints/best.safetensors", "checkpoints/last.safetensors", "figures/reconstructions.png",
    }  # fmt: skip
    assert (run / "figures" / "reconstructions.png").read_bytes().startswith(b"\x89PNG")


def test_options_reach_the_run(run: Path) -> None:
    asked = open_run(run).configuration
    assert (asked.task, asked.training.epochs, asked.optimizer.algorithm) == (TASK, 1, "adamw")
    assert (asked.model.latent, asked.model.hidden) == (3, (20, 10))
    assert asked.training.batch_size == 64
    # Of the encoder and the decoder: 64-20-10-3 and back, weights and biases.
    assert (
        json.loads((run / "metrics.json").read_text())["parameters"] == 2 * (64 * 20 + 20 * 10 + 10 * 3) + 127
    )


def test_options_come_before_the_file_and_the_file_before_the_defaults(run: Path, tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text(f'task = "{TASK}"\nseed = 4\n[training]\nepochs = 7\nbatch_size = 30\n')
    for words in ([TASK, "--config", str(file)], [f"--config={file}"]):
        asked = configure([*words, "--batch-size", "20"])
        assert (asked.run.seed, asked.run.training.epochs, asked.run.training.batch_size) == (4, 7, 20)
        assert asked.run.optimizer == OptimizerOptions()
    assert configure([TASK, "--config", str(run / "run.toml")]).run == open_run(run).configuration
    assert configure([TASK]).run == default_configuration(TASK)


def test_help_explains_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["train", TASK, "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    options = [
        field.name
        for kind in (TrainingOptions, OptimizerOptions, type(default_configuration(TASK).model))
        for field in dataclasses.fields(kind)
    ]
    for name in [*options, "data", "seed", "split_seed", "validation", "out", "config"]:
        # The option, perhaps with its values, then at least a word of explanation.
        option = re.escape(f"--{name.replace('_', '-')}")
        assert re.search(rf"{option}[ ,][^│]*(│\s*│ )?\s*[^│]* [A-Z][^│]+ ", text), name
    assert main(["train", "--help"]) == 0
    assert re.search(r"^  autoencoder +reduce images", capsys.readouterr().out, re.M)
    assert main(["train"]) == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["autoencodr"], "did you mean autoencoder?"),
        (
            [TASK, "--epoch", "3"],
            "Unrecognized options: --epoch, 3: did you mean --epochs? (see equikernels train",
        ),
        ([TASK, "--epochs", "x"], "--epochs: invalid literal for int"),
        ([TASK, "--epochs", "0"], "epochs: expected an integer >= 1, got 0"),
        ([TASK, "--precision", "fp8"], "invalid choice 'fp8' for argument '--precision'"),
        ([TASK, "--betas", "1"], "Missing value for argument '--betas'"),
        ([TASK, "more"], "more"),
        ([TASK, "--config"], "--config: expected a file after it"),
        ([TASK, "--config", "absent.toml"], "absent.toml: No such file"),
        ([TASK, "--data", "absent"], "data: absent: expected a file or folder"),
        ([TASK, "--data-options", "colour=3"], "data: colour: no option of digits data"),
        ([TASK, "--initial", "absent"], "initial: absent: there is no such file"),
        ([TASK, "--precision", "fp16", "--device", "cpu"], "precision: fp16 needs a GPU"),
        ([TASK, "--validation", "0.00001"], "validation: fractions: expected a sample for 'valid'"),
        (["--epochs", "3"], "expected a task first, or --config, or --resume"),
        (["--resume", "absent"], "absent: there is no run"),
        (["--resume", "absent", "--epochs", "3"], "Unrecognized options: --epochs, 3"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(
    words: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert_mistake(["train", *words], capsys, said)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_use_is_left_alone(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (run / "metrics.json").read_text()
    assert_mistake(["train", TASK, "--out", str(run)], capsys, "holds a run already: resume it")
    assert (run / "metrics.json").read_text() == before
    assert main(["train", "--resume", str(run)]) == 0
    assert capsys.readouterr().out == f"{run} is finished: there is nothing left to do\n"


def test_a_damaged_checkpoint_exits_with_1(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "run.toml").write_text(to_toml(open_run(run).configuration))
    damaged = folder / "checkpoints" / "last.safetensors"
    damaged.write_bytes((run / "checkpoints" / "last.safetensors").read_bytes()[:-9])
    assert_mistake(["train", "--resume", str(folder)], capsys, str(damaged), "not a safetensors file", code=1)
    assert_mistake(["evaluate", str(folder)], capsys, "there is no such checkpoint", code=1)


def test_evaluate_prints_and_writes_the_numbers(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(run), "--out", str(tmp_path / "numbers.json")]) == 0
    printed = json.loads(capsys.readouterr().out)
    best = json.loads((run / "metrics.json").read_text())["best"]
    assert printed == pytest.approx({"loss": best["loss"], "psnr": best["psnr"]}, rel=1e-6)
    assert json.loads((tmp_path / "numbers.json").read_text()) == printed
    assert main(["evaluate", str(run), "--data", "digits", "--data-options"]) == 0
    assert json.loads(capsys.readouterr().out)["loss"] != pytest.approx(best["loss"], rel=1e-4)
    assert_mistake(
        ["evaluate", str(run), "--data-options", "a=1"], capsys, "data: a: no option of digits data"
    )
    assert_mistake(["evaluate", str(tmp_path)], capsys, "there is no run")
    assert_mistake(["evaluate"], capsys, "RUN")
    assert main(["evaluate", str(run), "--out", str(tmp_path)]) == 2
    assert "--out: cannot write" in capsys.readouterr().err


def test_infer_saves_what_the_model_says(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["infer", str(run), "--out", str(tmp_path / "out"), "--checkpoint", "last"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said == [f"saved: {tmp_path / 'out' / name}.npy" for name in ("latent", "reconstruction")]
    assert np.load(tmp_path / "out" / "latent.npy").shape == (1797, 3)
    assert np.load(tmp_path / "out" / "reconstruction.npy").shape == (1797, 1, 8, 8)
    assert_mistake(["infer", str(run)], capsys, "--out")
    assert_mistake(
        ["infer", str(run), "--out", "x", "--batch-size", "0"], capsys, "batch_size: expected", "got 0"
    )


def test_a_task_that_cannot_generate_says_so(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert_mistake(["generate", str(run), "--out", "x"], capsys, "the task autoencoder cannot generate")


def test_generate_saves_samples(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    task = "tests.models.engine.samples:noisy-digits"
    assert main(["train", task, "--epochs", "1", "--batch-size", "800", "--out", str(run)]) == 0
    assert main(["generate", str(run), "--out", str(tmp_path / "out"), "--count", "5", "--seed", "2"]) == 0
    assert "saved: " in capsys.readouterr().out
    assert np.load(tmp_path / "out" / "image.npy").shape == (5, 1, 8, 8)


def test_a_missing_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(extras, "_is_installed", lambda name: name not in ("accelerate", "tyro"))
    assert_mistake(
        ["train", TASK], capsys, "the extra `models`, of which accelerate, tyro are not installed", code=1
    )
