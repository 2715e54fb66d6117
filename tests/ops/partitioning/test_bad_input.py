"""What is refused, and how the error names it."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

from equikernels.ops import backends, partition, partition_rotate
from tests.ops.partitioning.samples import BACKENDS

Z = torch.zeros(2, 3, 4, 5)
THETA = torch.zeros(2)
LOGITS = torch.zeros(3)
EXPECTED_LOGITS = "expected shape (3,), or (1, 3) or (2, 3) followed by any number of ones, got "


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("z", "error", "message"),
    [
        (np.zeros((2, 3)), TypeError, "expected a tensor, got ndarray"),
        (Z.long(), TypeError, "expected float32, float64, bfloat16 or float16, got torch.int64"),
        (Z.cfloat(), TypeError, "expected float32, float64, bfloat16 or float16, got torch.complex64"),
        (Z.to_sparse(), TypeError, "expected a dense tensor, got torch.sparse_coo"),
        (torch.zeros(3), ValueError, "expected at least 2 dimensions (N, C, ...), got 1: (3,)"),
    ],
    ids=["array", "integers", "complex", "sparse", "vector"],
)
def test_latents(z: object, error: type[Exception], message: str, backend: str) -> None:
    with pytest.raises(error, match="^" + re.escape(f"z: {message}")):
        partition(z, LOGITS, backend=backend)
    if error is ValueError:
        message = "expected 4 dimensions (N, C, H, W), got 1: (3,)"
    with pytest.raises(error, match="^" + re.escape(f"z: {message}")):
        partition_rotate(z, THETA, LOGITS, backend=backend)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("logits", "error", "message"),
    [
        ([0.0, 0.0, 0.0], TypeError, "expected a tensor, got list"),
        (LOGITS.long(), TypeError, "expected a floating dtype, got torch.int64"),
        (LOGITS.bool(), TypeError, "expected a floating dtype, got torch.bool"),
        (LOGITS.cfloat(), TypeError, "expected a floating dtype, got torch.complex64"),
        (LOGITS.to_sparse(), TypeError, "expected a dense tensor, got torch.sparse_coo"),
        (LOGITS.to("meta"), ValueError, "expected on the device of z, cpu, got meta"),
        (torch.tensor(0.0), ValueError, EXPECTED_LOGITS + "()"),
        (torch.zeros(2), ValueError, EXPECTED_LOGITS + "(2,)"),
        (torch.zeros(1), ValueError, EXPECTED_LOGITS + "(1,)"),
        (torch.zeros(3, 2), ValueError, EXPECTED_LOGITS + "(3, 2)"),
        (torch.zeros(3, 3), ValueError, EXPECTED_LOGITS + "(3, 3)"),
        (torch.zeros(2, 1), ValueError, EXPECTED_LOGITS + "(2, 1)"),
        (torch.zeros(3, 1, 1), ValueError, EXPECTED_LOGITS + "(3, 1, 1)"),
        (torch.zeros(1, 3, 4, 5), ValueError, EXPECTED_LOGITS + "(1, 3, 4, 5)"),
        (torch.zeros(1, 3, 1, 0), ValueError, EXPECTED_LOGITS + "(1, 3, 1, 0)"),
    ],
    ids=lambda value: str(tuple(value.shape)) if isinstance(value, torch.Tensor) else None,
)
def test_logits(logits: object, error: type[Exception], message: str, backend: str) -> None:
    for call in (
        lambda: partition(Z, logits, backend=backend),
        lambda: partition_rotate(Z, THETA, logits, backend=backend),
    ):
        with pytest.raises(error, match="^" + re.escape(f"logits: {message}")):
            call()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("threshold", "error", "message"),
    [
        ("0.5", TypeError, "expected a number, got str"),
        (True, TypeError, "expected a number, got bool"),
        (torch.tensor(0.5), TypeError, "expected a number, got Tensor"),
        (-0.1, ValueError, "expected a number in [0, 1], got -0.1"),
        (1.5, ValueError, "expected a number in [0, 1], got 1.5"),
        (float("nan"), ValueError, "expected a number in [0, 1], got nan"),
    ],
)
def test_threshold(threshold: object, error: type[Exception], message: str, backend: str) -> None:
    for call in (
        lambda: partition(Z, LOGITS, threshold=threshold, backend=backend),
        lambda: partition_rotate(Z, THETA, LOGITS, threshold=threshold, backend=backend),
    ):
        with pytest.raises(error, match="^" + re.escape(f"threshold: {message}")):
            call()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("theta", "error", "message"),
    [
        (torch.zeros(3), ValueError, "expected shape (2,), one angle per sample, got (3,)"),
        (torch.zeros(2, 1), ValueError, "expected shape (2,), one angle per sample, got (2, 1)"),
        (THETA.long(), TypeError, "expected a floating dtype, got torch.int64"),
        (THETA.to("meta"), ValueError, "expected on cpu, where the data is, got meta"),
        ("pi", TypeError, "expected a tensor or a number, got str"),
        (True, TypeError, "expected a tensor or a number, got bool"),
    ],
    ids=str,
)
def test_angles(theta: object, error: type[Exception], message: str, backend: str) -> None:
    with pytest.raises(error, match="^" + re.escape(f"theta: {message}")):
        partition_rotate(Z, theta, LOGITS, backend=backend)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("target", "error", "message"),
    [
        (np.zeros((2, 3, 4, 5)), TypeError, "expected a tensor, got ndarray"),
        (Z.double(), TypeError, "expected the dtype of z, torch.float32, got torch.float64"),
        (Z.to_sparse(), TypeError, "expected a dense tensor, got torch.sparse_coo"),
        (Z.to("meta"), ValueError, "expected on the device of z, cpu, got meta"),
        (Z[:1], ValueError, "expected the shape of z, (2, 3, 4, 5), got (1, 3, 4, 5)"),
        (Z.mT, ValueError, "expected the shape of z, (2, 3, 4, 5), got (2, 3, 5, 4)"),
    ],
    ids=["array", "dtype", "sparse", "device", "batch", "transposed"],
)
def test_target(target: object, error: type[Exception], message: str, backend: str) -> None:
    with pytest.raises(error, match="^" + re.escape(f"target: {message}")):
        partition_rotate(Z, THETA, LOGITS, target=target, backend=backend)


@pytest.mark.parametrize("target", [None, Z], ids=["without target", "with target"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_estimator(backend: str, target: torch.Tensor | None) -> None:
    with pytest.raises(ValueError, match=r"^estimator: expected one of ste, counterfactual, got 'reinforce'"):
        partition_rotate(Z, THETA, LOGITS, target=target, estimator="reinforce", backend=backend)


def test_backends() -> None:
    for operation, call in (
        ("partition", lambda backend: partition(Z, LOGITS, backend=backend)),
        ("partition_rotate", lambda backend: partition_rotate(Z, THETA, LOGITS, backend=backend)),
    ):
        names = [record.name for record in backends.registered(operation)]
        assert [name for name in names if name in BACKENDS] == ["cpp", "reference"]
        with pytest.raises(backends.BackendError, match=r"^backend: 'fortran' is unknown"):
            call("fortran")
        with pytest.raises(backends.BackendError, match=rf"^backend: 'cuda' cannot run {operation} on cpu"):
            call("cuda")
