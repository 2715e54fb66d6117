"""What is built, what is installed and what imports what."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]

# Everything a build reads, and nothing a build or a test leaves behind.
BUILD_INPUTS = (
    "pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff",
    "constraints.txt", "csrc", "models", "equikernels",
)  # fmt: skip
LEFTOVERS = shutil.ignore_patterns("__pycache__", "*.so", "*.pyc", "*.egg-info")


@pytest.fixture(scope="module")
def source_copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tree as a fresh checkout has it, symlink included: a build must not write into it."""
    copy = tmp_path_factory.mktemp("source")
    for name in BUILD_INPUTS:
        source = REPOSITORY / name
        if source.is_dir():
            shutil.copytree(source, copy / name, symlinks=True, ignore=LEFTOVERS)
        elif source.exists():
            shutil.copy2(source, copy / name)
    assert (copy / "equikernels" / "models").is_symlink()
    return copy


def python_files(folder: Path) -> set[str]:
    """Paths below ``folder`` of its Python files, the symlink's included."""
    found = (
        Path(place, name).relative_to(folder).as_posix()
        for place, _, names in os.walk(folder, followlinks=True)
        for name in names
    )
    return {path for path in found if path.endswith(".py")}


def build(source: Path, command: str, out: Path, **environment: str) -> Path:
    """One build by the backend itself, in this environment: nothing is downloaded."""
    program = (
        f"import sys; from setuptools import build_meta; print(); print(build_meta.{command}(sys.argv[1]))"
    )
    finished = subprocess.run(
        [sys.executable, "-c", program, str(out)],
        cwd=source, env=os.environ | environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return out / finished.stdout.split()[-1]


def compiled(names: set[str]) -> list[str]:
    return [name for name in names if name.startswith("equikernels/ops/_native")]


def test_wheel_holds_the_models_as_real_files(source_copy: Path, tmp_path: Path) -> None:
    wheel = zipfile.ZipFile(build(source_copy, "build_wheel", tmp_path))
    names = set(wheel.namelist())
    assert {f"equikernels/{path}" for path in python_files(source_copy / "equikernels")} <= names
    assert {"equikernels/py.typed", "equikernels/models/__init__.py"} <= names
    top_level = {name.split("/")[0] for name in names}
    assert top_level == {"equikernels", f"equikernels-{PROJECT['version']}.dist-info"}
    for info in wheel.infolist():
        assert (info.external_attr >> 28) != 0o12, f"{info.filename} is a symlink"
    if shutil.which("c++") or shutil.which("g++"):
        assert len(compiled(names)) == 1
    models = wheel.read("equikernels/models/__init__.py")
    assert models == (REPOSITORY / "models" / "__init__.py").read_bytes()


def test_source_distribution_holds_everything_and_installs_without_a_compiler(
    source_copy: Path, tmp_path: Path
) -> None:
    archive = build(source_copy, "build_sdist", tmp_path)
    root = f"equikernels-{PROJECT['version']}"
    with tarfile.open(archive) as tar:
        members = {member.name: member for member in tar.getmembers()}
        tar.extractall(tmp_path, filter="data")
    expected = {f"{root}/equikernels/{path}" for path in python_files(source_copy / "equikernels")}
    expected |= {f"{root}/{name}" for name in ("equikernels/py.typed", "LICENSE", "pyproject.toml")}
    assert expected <= set(members)
    assert not [name for name, member in members.items() if member.issym() or member.islnk()]
    csrc = {path.relative_to(source_copy).as_posix() for path in (source_copy / "csrc").rglob("*.*")}
    assert {f"{root}/{path}" for path in csrc} <= set(members)
    again = build(tmp_path / root, "build_wheel", tmp_path / "again", CC="false", CXX="false")
    names = set(zipfile.ZipFile(again).namelist())
    assert "equikernels/models/__init__.py" in names
    assert not compiled(names)


def test_plain_models_is_never_imported() -> None:
    """The same file imported under two names would be two modules with two sets of classes."""
    pattern = re.compile(r"^\s*(?:from|import)\s+models\b|import_module\(\s*[\"']models\b", re.MULTILINE)
    files = [REPOSITORY / "equikernels" / path for path in python_files(REPOSITORY / "equikernels")]
    assert len(files) > 5
    assert [str(path) for path in files if pattern.search(path.read_text(encoding="utf-8"))] == []


def test_import_takes_under_a_second_beyond_torch() -> None:
    program = (
        "import time, sys, torch; start = time.perf_counter(); import equikernels; "
        "print(time.perf_counter() - start, *sorted(name for name in sys.modules if '.' not in name))"
    )
    output = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout.split()
    assert float(output[0]) < 1.0
    heavy = {"diffusers", "matplotlib", "numba", "skimage", "sklearn", "transformers"}
    assert heavy.isdisjoint(output[1:])


def requirement_names(requirements: list[str]) -> set[str]:
    return {re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0] for requirement in requirements}


def pins() -> dict[str, str]:
    lines = (REPOSITORY / "constraints.txt").read_text().splitlines()
    pinned = [line.split(";")[0].strip() for line in lines if line and not line.startswith("#")]
    assert all("==" in line for line in pinned), pinned
    return dict(line.split("==") for line in pinned)


def test_constraints_pin_every_direct_dependency_and_nothing_else() -> None:
    direct = requirement_names(PROJECT["dependencies"])
    for extra in PROJECT["optional-dependencies"].values():
        direct |= requirement_names(extra)
    assert set(pins()) == direct


def test_the_environment_has_the_pinned_versions() -> None:
    installed = {name: version(name).split("+")[0] for name in pins() if name != "triton"}
    assert installed == {name: pin for name, pin in pins().items() if name != "triton"}


def lint_imports(root: Path) -> subprocess.CompletedProcess[str]:
    """import-linter in a folder, which comes first on the path, before any installed package."""
    return subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()", "--no-cache"],
        cwd=root, env=os.environ | {"PYTHONPATH": str(root)}, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_import_contracts_hold() -> None:
    finished = lint_imports(REPOSITORY)
    assert finished.returncode == 0, finished.stdout + finished.stderr


@pytest.mark.parametrize(
    ("file", "statement"),
    [
        pytest.param("equikernels/ops/upward.py", "import equikernels.project", id="ops imports project"),
        pytest.param("equikernels/group/upward.py", "import equikernels.cli", id="group imports cli"),
        pytest.param("models/spatial_vae/other.py", "import equikernels.models.latent_actions", id="papers"),
        pytest.param("equikernels/cli/outside.py", "import bench", id="the package imports bench"),
        pytest.param("equikernels/cli/double.py", "import models", id="plain models"),
        pytest.param("equikernels/unplaced.py", "", id="a part without a layer"),
    ],
)
def test_import_contracts_can_break(file: str, statement: str, source_copy: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(source_copy, copy, symlinks=True)
    for package in ("equikernels/ops", "equikernels/project", "models/spatial_vae", "models/latent_actions"):
        (copy / package).mkdir(exist_ok=True)
        (copy / package / "__init__.py").touch()
    assert lint_imports(copy).returncode == 0
    (copy / file).write_text(f"{statement}\n")
    finished = lint_imports(copy)
    assert finished.returncode == 1, finished.stdout + finished.stderr
    assert "BROKEN" in finished.stdout
