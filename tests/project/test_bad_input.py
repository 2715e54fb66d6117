"""Bad input ends in one error that names the argument and says what was expected."""

import math

import numpy as np
import pytest
import torch

from equikernels.group import SO2, CyclicGroup, pixel_grid
from equikernels.project import EquivariantProjector, Hard, InvariantProjector, Smooth, Softness, bake

VECTOR = SO2().irrep(1)
SKEW = np.array([[0.0, -1.0], [1.0, 0.0]])
SHEAR = np.array([[0.0, 1.0], [0.0, 0.0]])
SCALE = np.array([[0.5, 0.0], [0.0, 0.0]])
P = EquivariantProjector(VECTOR, VECTOR, Hard(0.5))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: EquivariantProjector(VECTOR, CyclicGroup(4).irrep(1), Hard(1)),
            ValueError,
            r"rep_in belongs to SO\(2\), rep_out to C_4: restrict one of them",
        ),
        (lambda: EquivariantProjector(SKEW, VECTOR, Hard(1)), TypeError, "rep_in must be a Representation"),
        (lambda: InvariantProjector("grid", Hard(1)), TypeError, "rep must be a Representation"),
        (
            lambda: EquivariantProjector(VECTOR, 0 * VECTOR, Hard(1)),
            ValueError,
            "rep_out must have at least one",
        ),
        (
            lambda: EquivariantProjector(VECTOR, VECTOR, 0.5),
            TypeError,
            "cutoff must be Hard, Smooth or Softness",
        ),
        (
            lambda: EquivariantProjector(VECTOR, VECTOR, Hard(1), method="qr"),
            ValueError,
            "method must be one of",
        ),
        (
            lambda: EquivariantProjector(VECTOR, VECTOR, Softness(0.5), method="iterative"),
            ValueError,
            "does not know all singular values",
        ),
        (
            lambda: EquivariantProjector(VECTOR, VECTOR, Hard(1), generators="all"),
            ValueError,
            "generators must be",
        ),
        (
            lambda: EquivariantProjector(VECTOR, VECTOR, Smooth(1, 1), method="schur"),
            ValueError,
            "published rule",
        ),
        (
            lambda: P(torch.zeros(3, 2)),
            ValueError,
            r"w must have shape \(\.\.\., C_out \* 2, C_in \* 2\), got \(3, 2\)",
        ),
        (lambda: P(torch.zeros(2)), ValueError, "w must have shape"),
        (lambda: P(torch.zeros(2, 2, dtype=torch.int64)), TypeError, "w must be floating"),
        (lambda: P(torch.zeros(2, 2, dtype=torch.complex64)), TypeError, "w must be floating"),
        (lambda: InvariantProjector(VECTOR, Hard(1))(torch.tensor(1.0)), ValueError, "w must have shape"),
        (lambda: P.certificate(torch.zeros(2, 2, dtype=torch.int64)), TypeError, "w must be floating"),
        (lambda: P.certificate(torch.full((2, 2), math.nan)), ValueError, "w must be finite"),
        (lambda: P.certificate(torch.zeros(3, 2, 2)), ValueError, "one non-empty weight"),
        (lambda: P.certificate(torch.zeros(0, 2)), ValueError, "one non-empty weight"),
        (lambda: P.certificate(torch.eye(2)).bound(), ValueError, "either g or radius"),
        (lambda: P.certificate(torch.eye(2)).bound(1.0, radius=1.0), ValueError, "either g or radius"),
        (lambda: P.certificate(torch.eye(2)).bound(radius=-1), ValueError, "radius must be >= 0"),
        (lambda: P.certificate(torch.eye(2)).bound(radius=math.nan), ValueError, "radius must be >= 0"),
        (lambda: P.certificate(torch.eye(2)).bound(radius="1"), TypeError, "radius must be a number"),
        (lambda: P.certificate(torch.eye(2)).bound(1.0, kind="exact"), ValueError, "kind must be"),
        (lambda: P.certificate(torch.eye(2)).bound(1.0, norm="l1"), ValueError, "norm must be"),
        (lambda: bake("model"), TypeError, "model must be a torch.nn.Module"),
    ],
)
def test_bad_arguments(call, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize(
    ("inputs", "outputs", "error", "message"),
    [
        ([SKEW, SKEW], [SKEW], ValueError, "operators_out must hold 2 matrices"),
        (
            [np.eye(3)[:2]],
            [SKEW],
            ValueError,
            r"operators_in\[0\] must be a square matrix, got shape \(2, 3\)",
        ),
        ([SKEW, np.eye(3)], [SKEW, SKEW], ValueError, r"operators_in\[1\] must have shape \(2, 2\)"),
        ([np.full((2, 2), np.nan)], [SKEW], ValueError, r"operators_in\[0\] must be finite"),
        ([1j * SKEW], [SKEW], TypeError, r"operators_in\[0\] must be real"),
        ([], [], ValueError, "operators_in must be a list of one square matrix per generator"),
    ],
)
def test_bad_operators(inputs, outputs, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        EquivariantProjector.from_operators(inputs, outputs, Hard(1))


@pytest.mark.parametrize("method", ["spectral", "schur"])
def test_non_normal_operators_say_their_defect_and_the_method_that_works(method: str) -> None:
    with pytest.raises(ValueError, match=r'operator 0 .*is not normal.*1\.4e\+00.*use method="svd"'):
        EquivariantProjector.from_operators([SHEAR], [SKEW], Hard(1), method=method)
    assert EquivariantProjector.from_operators([SHEAR], [SKEW], Hard(1)).method == "svd"


def test_large_non_normal_operators_are_not_decomposed_unasked() -> None:
    rng = np.random.default_rng(0)
    a = rng.standard_normal((80, 80))
    with pytest.raises(ValueError, match="a dense problem of size 6400"):
        EquivariantProjector.from_operators([a], [a], Hard(1))


def test_no_certificate_without_orthogonality() -> None:
    bilinear = pixel_grid(4, CyclicGroup(8), method="bilinear")
    projector = EquivariantProjector(bilinear, bilinear, Hard(1.0))
    assert projector.method == "svd"
    with pytest.raises(ValueError, match=r"no bound holds: rep_in .*not an orthogonal representation"):
        projector.certificate(torch.eye(16))
    scaled = EquivariantProjector.from_operators([SCALE], [SCALE], Hard(1.0))
    with pytest.raises(ValueError, match="operator 0 is neither skew"):
        scaled.certificate(torch.eye(2))


def test_empty_batches_and_non_finite_weights_pass_through() -> None:
    assert P(torch.zeros(0, 2, 2)).shape == (0, 2, 2)
    assert P(torch.zeros(0, 2)).shape == (0, 2)
    assert bool(P(torch.full((2, 2), math.nan)).isnan().all())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_dtype_is_kept(dtype: torch.dtype) -> None:
    w = torch.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=dtype)
    projected = EquivariantProjector(VECTOR, VECTOR, Softness(0))(w)
    assert projected.dtype == dtype
    torch.testing.assert_close(
        projected.double(), torch.tensor([[2.5, -0.5], [0.5, 2.5]]).double(), atol=1e-2, rtol=0
    )


def test_projection_ignores_autocast() -> None:
    w = torch.randn(2, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = P(w)
    assert inside.dtype == torch.float32
    assert torch.equal(inside, P(w))


def test_numpy_weights_are_accepted() -> None:
    w = np.arange(4.0).reshape(2, 2)
    assert torch.equal(P(w), P(torch.tensor(w)))


def test_nearly_normal_operators_are_not_taken_for_normal() -> None:
    """A defect of 1e-10 belongs to an off-diagonal part of 1e-5, and the spectral form would be off by it."""
    nearly = np.array([[1.0, 1e-5], [0.0, 1.0 + 1e-5]])
    with pytest.raises(ValueError, match=r"is not normal \(its blocks differ from it by 1\.0e-05\)"):
        EquivariantProjector.from_operators([nearly], [SKEW], Hard(1), method="spectral")
