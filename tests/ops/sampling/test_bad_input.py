"""What is refused, with which words, and which backend runs what."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from equikernels.ops import affine_sample, backends, rotate, rotate3d
from equikernels.ops.sampling.checks import check_backend
from tests.ops.sampling.samples import COMBINATIONS

IMAGES, VOLUMES = torch.zeros(2, 3, 4, 5), torch.zeros(2, 3, 4, 5, 6)
MAPS, SPACE_MAPS = torch.zeros(2, 2, 3), torch.zeros(2, 3, 4)


@pytest.mark.parametrize(
    ("z", "matrix", "options", "error", "message"),
    [
        (IMAGES[0], MAPS, {}, ValueError, r"^z: expected 4 .*or 5 dimensions .* got 3: \(3, 4, 5\)"),
        (VOLUMES[None], MAPS, {}, ValueError, r"^z: expected 4 .*or 5 dimensions .* got 6"),
        (IMAGES.long(), MAPS, {}, TypeError, "^z: expected float32.*got torch.int64"),
        (IMAGES.cfloat(), MAPS, {}, TypeError, "^z: expected float32.*got torch.complex64"),
        (IMAGES.to_sparse(), MAPS, {}, TypeError, "^z: expected a dense tensor"),
        (IMAGES.numpy(), MAPS, {}, TypeError, "^z: expected a tensor, got ndarray"),
        (IMAGES, SPACE_MAPS, {}, ValueError, r"^matrix: expected shape \(2, 2, 3\).*or \(2, 3\) for all"),
        (VOLUMES, MAPS, {}, ValueError, r"^matrix: expected shape \(2, 3, 4\).*got \(2, 2, 3\)"),
        (IMAGES, MAPS[:1], {}, ValueError, r"^matrix: expected shape \(2, 2, 3\).*got \(1, 2, 3\)"),
        (IMAGES, MAPS.mT, {}, ValueError, r"^matrix: expected shape \(2, 2, 3\).*got \(2, 3, 2\)"),
        (IMAGES, MAPS[0, 0], {}, ValueError, r"^matrix: expected shape \(2, 2, 3\).*got \(3,\)"),
        (IMAGES, MAPS.long(), {}, TypeError, "^matrix: expected a floating dtype, got torch.int64"),
        (IMAGES, [[1, 0, 0], [0, 1, 0]], {}, TypeError, "^matrix: expected a tensor, got list"),
        (IMAGES, MAPS.to("meta"), {}, ValueError, "^matrix: expected on cpu.* got meta"),
        (IMAGES, MAPS, {"mode": "cubic"}, ValueError, "^mode: expected one of nearest, bilinear, bicubic"),
        (IMAGES, MAPS, {"mode": None}, ValueError, "^mode: expected one of .* got None"),
        (VOLUMES, SPACE_MAPS, {"mode": "bicubic"}, ValueError, "^mode: bicubic is for images"),
        (IMAGES, MAPS, {"padding": "wrap"}, ValueError, "^padding: expected one of zeros, border"),
        (IMAGES, MAPS, {"backend": "fortran"}, ValueError, "^backend: 'fortran' is unknown"),
        (IMAGES, MAPS, {"backend": "triton"}, ValueError, "^backend: 'triton' cannot run affine_sample"),
    ],
)  # fmt: skip
def test_errors(
    z: Tensor, matrix: Tensor, options: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        affine_sample(z, matrix, **options)


@pytest.mark.parametrize("operation", ["affine_sample", "rotate", "rotate3d"])
def test_operations_are_registered(operation: str) -> None:
    names = [record.name for record in backends.registered(operation)]
    assert "cpp" in names
    assert names[-1] == "reference"
    assert backends.choose(operation, "cpu") == "cpp"


def test_environment_changes_what_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    z, matrix = torch.randn(2, 3, 8, 9), torch.randn(2, 2, 3)
    monkeypatch.setenv("EQUIKERNELS_BACKEND", "reference")
    assert torch.equal(affine_sample(z, matrix), affine_sample(z, matrix, backend="reference"))
    monkeypatch.setenv("EQUIKERNELS_BACKEND", "fortran")
    for run in (
        lambda: affine_sample(z, matrix),
        lambda: rotate(z, 0.3, mode="bicubic"),
        lambda: rotate3d(z[None], torch.eye(3)),
    ):
        with pytest.raises(backends.BackendError, match="EQUIKERNELS_BACKEND: 'fortran' is unknown"):
            run()


@pytest.mark.parametrize(("dims", "mode", "padding"), COMBINATIONS, ids=str)
def test_combinations_without_a_kernel_name_the_reference(dims: int, mode: str, padding: str) -> None:
    check_backend("rotate", "cpp", mode, padding)
    check_backend("rotate", "reference", mode, padding)
    if mode != "bicubic" and padding != "reflection":
        check_backend("rotate", "triton", mode, padding)
        return
    message = f'^rotate: the triton backend has no kernel for mode="{mode}" with padding="{padding}"'
    with pytest.raises(backends.BackendError, match=message) as raised:
        check_backend("rotate", "triton", mode, padding)
    assert 'only backend="reference" runs this combination' in str(raised.value)


@pytest.mark.parametrize("options", [{"mode": "bicubic"}, {"padding": "reflection"}], ids=str)
def test_operations_refuse_combinations_without_a_kernel(
    options: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if the processor had the partial backend, which otherwise only a GPU has."""
    monkeypatch.setattr(backends, "choose", lambda operation, device, backend: "triton")
    for name, run in (
        ("affine_sample", lambda: affine_sample(IMAGES, MAPS, **options)),
        ("rotate", lambda: rotate(IMAGES, 0.1, **options)),
    ):
        with pytest.raises(backends.BackendError, match=f"^{name}: the triton backend has no kernel"):
            run()
    with pytest.raises(backends.BackendError, match=r"^rotate3d: the triton backend has no kernel"):
        rotate3d(VOLUMES, torch.eye(3), padding="reflection")
