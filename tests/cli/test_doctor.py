"""The command line as a person meets it: what it prints, where, and with which exit code."""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from equikernels import __version__
from equikernels.cli import doctor, extras, main


def command(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A process of its own, as the console script starts it."""
    program = "import sys; from equikernels.cli import main; sys.exit(main())"
    return subprocess.run(
        [sys.executable, "-c", program, *words],
        env=os.environ | environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


def fact(report: str, name: str) -> str:
    found = re.search(rf"^{re.escape(name)} +(.+)$", report, re.MULTILINE)
    assert found, f"no line {name!r} in\n{report}"
    return found[1]


def test_console_script_is_installed() -> None:
    (script,) = importlib.metadata.entry_points(group="console_scripts", name="equikernels")
    assert script.load() is main


def test_doctor_tells_versions_devices_and_implementations(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    output = capsys.readouterr().out
    assert fact(output, "equikernels") == __version__
    for library in ("torch", "numpy", "scipy", "numba"):
        assert fact(output, library) == importlib.metadata.version(library)
    assert fact(output, "CPU threads").startswith(f"{torch.get_num_threads()} of ")
    assert (fact(output, "GPU") == "none that PyTorch can use") == (not torch.cuda.is_available())
    assert re.search(r"^\W*rotate\b", output, re.MULTILINE), output
    assert "reference" in output


def test_doctor_names_the_instruction_set_in_use() -> None:
    native = pytest.importorskip("equikernels.ops._native", reason="the C++ extension is not built")
    assert fact(command("doctor").stdout, "C++ extension") == "built"
    for isa in native.supported_isas():
        assert fact(command("doctor", EQUIKERNELS_ISA=isa).stdout, "instruction set").startswith(f"{isa} (")
    unknown = command("doctor", EQUIKERNELS_ISA="sse9")
    assert unknown.returncode == 0, unknown.stderr
    assert "EQUIKERNELS_ISA=sse9 is unknown" in fact(unknown.stdout, "instruction set")


def test_doctor_says_why_the_extension_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    # None in sys.modules is how Python marks a module as not importable.
    monkeypatch.setitem(sys.modules, "equikernels.ops._native", None)
    assert fact(doctor.report(), "C++ extension").startswith("not available: ")


def test_missing_library_is_told_not_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_LIBRARIES", ("torch", "no-such-library"))
    assert fact(doctor.report(), "no-such-library") == "not installed"


def test_doctor_needs_core_dependencies_only() -> None:
    program = (
        "import sys; from equikernels.cli import main; main(['doctor']); "
        "print('loaded:', *sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    loaded = set(finished.stdout.rsplit("loaded:", 1)[1].split())
    assert "torch" in loaded
    assert loaded.isdisjoint({"diffusers", "transformers", "accelerate", "matplotlib", "skimage", "sklearn"})


def test_missing_extra_is_one_line_naming_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(extras, "_is_installed", lambda name: name not in ("rich", "tyro"))
    assert main(["demo", "--out", str(tmp_path)]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert "the extra `models`, of which rich, tyro are not installed" in captured.err


def test_extras_are_read_from_the_metadata(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "_is_installed", lambda name: False)
    assert {"diffusers", "transformers", "scikit-learn"} <= set(extras.missing_from_extra("models"))
    assert extras.missing_from_extra("bench") == ["kornia"]
    monkeypatch.setattr(extras, "_is_installed", lambda name: True)
    assert extras.missing_from_extra("models") == []


@pytest.mark.parametrize(
    "words",
    [
        pytest.param([], id="no command"),
        pytest.param(["cure"], id="unknown command"),
        pytest.param(["demo", "--seed", "x"], id="not a number"),
        pytest.param(["demo", "--out", __file__], id="a file for a folder"),
    ],
)
def test_usage_errors_exit_with_2_and_no_traceback(words: list[str]) -> None:
    finished = command(*words)
    assert finished.returncode == 2
    assert finished.stdout == ""
    assert finished.stderr
    assert "Traceback" not in finished.stderr


def test_version_is_printed() -> None:
    finished = command("--version")
    assert (finished.returncode, finished.stdout) == (0, f"equikernels {__version__}\n")


def test_interruption_exits_with_130(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted() -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(doctor, "report", interrupted)
    assert main(["doctor"]) == 130
    assert capsys.readouterr().err == "equikernels: interrupted\n"
