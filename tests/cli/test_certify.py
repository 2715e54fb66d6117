"""`equikernels certify` as a person meets it: the table, the saved files, the exit codes."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
from torch import nn

from equikernels import __version__
from equikernels.cli import certify, main
from equikernels.group import SO2, CyclicGroup, Group
from equikernels.nn import SoftLinear
from equikernels.project import Hard, certify_directory, save_softened, soften
from equikernels.project.certification import layers
from equikernels.project.saving import files


def saved(folder: Path, group: Group) -> Path:
    model = nn.Sequential(nn.Conv2d(1, 4, 5), nn.ReLU(), nn.Conv2d(4, 2, 3))
    soften(model, group, softness=0.3)
    save_softened(model, folder)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return saved(tmp_path / "model", CyclicGroup(4))


def test_a_process_of_its_own_prints_and_saves_the_table(folder: Path) -> None:
    program = "import sys; from equikernels.cli import main; sys.exit(main())"
    finished = subprocess.run(
        [sys.executable, "-c", program, "certify", str(folder), "--radius", "1", "--samples", "5"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    table = certify_directory(folder, radius=1.0, samples=5)
    assert finished.stdout.startswith(str(table))
    assert f"saved: {folder / 'certificate.json'} and {folder / 'certificate.md'}" in finished.stdout
    numbers = json.loads((folder / "certificate.json").read_text())
    assert numbers["layers"] == table.to_dict()["layers"]
    assert (numbers["equikernels"], numbers["samples"], numbers["seed"]) == (__version__, 5, 0)
    assert (folder / "certificate.md").read_text() == table.to_markdown()
    assert sorted(path.suffix for path in folder.iterdir()).count("") == 0  # no temporary file is left


@pytest.mark.parametrize(("group", "radius"), [(SO2(), math.pi / 6), (CyclicGroup(4), 30.0)])
def test_a_radius_is_degrees_or_letters(group, radius, tmp_path: Path) -> None:
    folder = saved(tmp_path, group)
    assert main(["certify", str(folder), "--radius", "30"]) == 0
    numbers = json.loads((folder / "certificate.json").read_text())
    assert numbers["radius"] == pytest.approx(radius)
    assert numbers["layers"][0]["posterior_at"] <= numbers["layers"][0]["posterior"]
    assert main(["certify", str(folder)]) == 0
    assert json.loads((folder / "certificate.json").read_text())["radius"] is None


def test_out_names_the_files(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["certify", str(folder), "--out", str(tmp_path / "other.json"), "--seed", "3"]) == 0
    assert json.loads((tmp_path / "other.json").read_text())["seed"] == 3
    assert (tmp_path / "other.md").read_text().startswith("| layer |")
    assert not (folder / "certificate.json").exists()
    assert "other.md" in capsys.readouterr().out


def assert_user_error(
    words: list[str], capsys: pytest.CaptureFixture[str], *said: str, code: int = 2
) -> None:
    assert main(["certify", *words]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("equikernels: ")
    assert captured.err.count("\n") == 1
    for part in said:
        assert part in captured.err


def test_user_errors_are_one_line_that_names_the_file(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nowhere = tmp_path / "nowhere"
    assert_user_error([str(nowhere)], capsys, str(nowhere / "soften.json"), "No such file")
    assert_user_error([str(folder), "--radius", "-3"], capsys, "--radius", "-3.0")
    assert_user_error([str(folder), "--radius", "nan"], capsys, "--radius", "nan")
    assert_user_error([str(folder), "--samples", "0"], capsys, "--samples", "got 0")
    assert_user_error([str(folder), "--seed", "-1"], capsys, "--seed", "got -1")
    assert_user_error([str(folder), "--out", "x.txt"], capsys, "--out", "x.txt")
    missing = tmp_path / "missing" / "certificate.json"
    assert_user_error([str(folder), "--out", str(missing)], capsys, "cannot write", str(missing))
    (folder / "soften.json").write_text("[1, 2")
    assert_user_error([str(folder)], capsys, str(folder / "soften.json"), "delimiter")
    (folder / "model.safetensors").write_bytes(b"nothing")
    assert_user_error([str(folder)], capsys, str(folder / "model.safetensors"), "not a safetensors file")
    (folder / "model.safetensors").unlink()
    assert_user_error([str(folder)], capsys, str(folder / "model.safetensors"), "No such file")


def test_one_radius_cannot_be_letters_and_degrees(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = nn.Sequential(nn.Conv2d(1, 1, 3), SoftLinear(SO2().irrep(1), SO2().irrep(1), Hard(1.0)))
    soften(model, CyclicGroup(4), softness=0.3)
    save_softened(model, tmp_path)
    assert_user_error(
        [str(tmp_path), "--radius", "1"], capsys, "cannot be both letters and degrees", "C_4, SO(2)"
    )
    assert main(["certify", str(tmp_path)]) == 0


def test_a_violated_bound_is_called_a_bug(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(layers.Certificate, "error", lambda self, g, norm="frobenius": 3 * self.norm)
    assert main(["certify", str(folder)]) == 1
    captured = capsys.readouterr()
    assert "VIOLATED" in captured.out
    assert "exceeds its bound in 0.weight, 2.weight" in captured.err
    assert "a bug of equikernels" in captured.err


def test_a_missing_extra_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(files.importlib.util, "find_spec", lambda name: None)
    assert_user_error([str(folder)], capsys, "the extra `models`", "pip install", code=1)


def test_the_command_line_and_the_function_agree(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert certify.run(folder, 2.0, 4, 1) == 0
    once = capsys.readouterr().out
    assert main(["certify", str(folder), "--radius", "2", "--samples", "4", "--seed", "1"]) == 0
    assert capsys.readouterr().out == once
