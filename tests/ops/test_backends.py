"""The registry of backends: records, choice, errors, table."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys

import pytest
import torch

from equikernels.ops import backends, rotate
from equikernels.ops.backends import Backend, BackendError, choose, explain


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """An operation with every kind of record, which the real registry never sees."""
    monkeypatch.setattr(backends, "_registry", {})
    monkeypatch.delenv("EQUIKERNELS_BACKEND", raising=False)
    backends.register(Backend("fold", "reference", ("any",)))
    backends.register(Backend("fold", "cpp", ("cpu",)))
    backends.register(Backend("fold", "triton", ("cuda",), available=False, reason="triton is not installed"))
    backends.register(Backend("twist", "reference", ("any",)))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"operation": "two words"}, "operation"),
        ({"name": "fortran"}, "name"),
        ({"devices": ()}, "devices"),
        ({"devices": ("tpu",)}, "devices"),
        ({"devices": "cpu"}, "devices"),
        ({"available": False}, "reason"),
        ({"reason": "broken"}, "reason"),
    ],
)
def test_record_is_checked_on_construction(change: dict[str, object], named: str) -> None:
    good: dict[str, object] = {"operation": "fold", "name": "cpp", "devices": ("cpu",)}
    Backend(**good)
    with pytest.raises(ValueError, match=f"^{named}:"):
        Backend(**(good | change))


def test_record_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Backend("fold", "cpp", ("cpu",)).name = "cuda"


@pytest.mark.usefixtures("registry")
class TestChoice:
    def test_cpu_prefers_the_kernel(self) -> None:
        assert choose("fold", "cpu") == "cpp"

    def test_cpu_takes_the_reference_where_no_kernel_is(self) -> None:
        assert choose("twist", "cpu") == "reference"

    def test_gpu_without_kernel_raises_and_names_the_reference(self) -> None:
        with pytest.raises(BackendError, match='backend="reference" is available') as raised:
            choose("fold", "cuda")
        assert "triton is not installed" in str(raised.value)
        assert choose("fold", "cuda", backend="reference") == "reference"

    def test_gpu_takes_its_kernel(self) -> None:
        backends.register(Backend("twist", "triton", ("cuda",)))
        assert choose("twist", "cuda") == "triton"
        assert choose("twist", "cpu") == "reference"
        backends.register(Backend("twist", "cuda", ("cuda",)))
        assert choose("twist", "cuda") == "cuda"

    def test_one_that_is_not_automatic_must_be_named(self) -> None:
        backends.register(Backend("twist", "triton", ("cpu",), automatic=False))
        assert choose("twist", "cpu") == "reference"
        assert choose("twist", "cpu", backend="triton") == "triton"
        assert explain("twist").splitlines()[1].split() == [
            "twist",
            "triton",
            "cpu",
            "available",
            "by",
            "name",
        ]
        with pytest.raises(BackendError, match="triton: available by name on cpu"):
            choose("twist", "cuda")

    def test_argument_comes_before_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("EQUIKERNELS_BACKEND", "reference")
        assert choose("fold", "cpu") == "reference"
        assert choose("fold", "cpu", backend="cpp") == "cpp"

    @pytest.mark.parametrize("name", ["triton", "cuda"])
    def test_impossible_choice_lists_what_exists(self, name: str) -> None:
        with pytest.raises(BackendError) as raised:
            choose("fold", "cpu", backend=name)
        for part in (
            f"backend: {name!r}",
            "cpp: available on cpu",
            "triton is not installed",
            "cuda: not impl",
        ):
            assert part in str(raised.value)

    def test_wrong_device_is_impossible(self) -> None:
        with pytest.raises(BackendError, match="cannot run fold on cuda"):
            choose("fold", "cuda", backend="cpp")

    def test_environment_is_named_in_the_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("EQUIKERNELS_BACKEND", "fortran")
        with pytest.raises(BackendError, match="EQUIKERNELS_BACKEND: 'fortran' is unknown"):
            choose("fold", "cpu")

    def test_unknown_operation(self) -> None:
        with pytest.raises(BackendError, match="'bend' is unknown, expected one of fold, twist"):
            choose("bend", "cpu")

    def test_registered_once(self) -> None:
        with pytest.raises(ValueError, match="registered already"):
            backends.register(Backend("fold", "cpp", ("cpu",)))

    def test_table(self, monkeypatch: pytest.MonkeyPatch) -> None:
        lines = explain().splitlines()
        assert len(lines) == 5
        assert lines[1].split() == ["fold", "triton", "cuda", "absent:", "triton", "is", "not", "installed"]
        assert explain("twist").splitlines()[1].split() == ["twist", "reference", "any", "available"]
        monkeypatch.setenv("EQUIKERNELS_BACKEND", "cpp")
        assert "EQUIKERNELS_BACKEND=cpp" in explain()


def test_rotate_is_registered() -> None:
    assert [record.name for record in backends.registered("rotate")] == ["triton", "cpp", "reference"]


def test_environment_changes_what_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    z = torch.randn(2, 3, 8, 9)
    monkeypatch.setenv("EQUIKERNELS_BACKEND", "reference")
    assert torch.equal(rotate(z, 0.3), rotate(z, 0.3, backend="reference"))
    monkeypatch.setenv("EQUIKERNELS_BACKEND", "triton")
    with pytest.raises(BackendError, match="triton"):
        rotate(z, 0.3)


WITHOUT_EXTENSION = """
import sys
sys.modules["equikernels.ops._native"] = None  # what an absent module looks like to an import
import torch
from equikernels.ops import backends, rotate
assert backends.choose("rotate", "cpu") == "reference"
assert "was not built" in backends.explain()
z = torch.randn(2, 3, 5, 5)
assert torch.equal(rotate(z, 0.2), rotate(z, 0.2, backend="reference"))
try:
    rotate(z, 0.2, backend="cpp")
except backends.BackendError as error:
    assert "was not built" in str(error)
else:
    raise AssertionError("an absent backend ran")
"""


def test_package_works_without_the_extension() -> None:
    environment = {key: value for key, value in os.environ.items() if key != "EQUIKERNELS_BACKEND"}
    subprocess.run([sys.executable, "-c", WITHOUT_EXTENSION], check=True, timeout=120, env=environment)
