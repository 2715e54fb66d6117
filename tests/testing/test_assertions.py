"""The test kit: what it accepts, and what it must refuse."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from equikernels.group import O2, SO2, CyclicGroup, DihedralGroup, Representation, pixel_grid
from equikernels.nn import SoftLinear
from equikernels.project import Softness
from equikernels.testing import assert_equivariant, assert_representation, tolerance
from equikernels.testing.strategies import groups, representations


@given(st.data())
def test_representations_pass(data: st.DataObject) -> None:
    assert_representation(data.draw(representations(data.draw(groups))))


class Broken(Representation):
    """A representation with one law broken."""

    def __init__(self, fault: str) -> None:
        super().__init__(DihedralGroup(3), [(1, 1)])
        self._set(_fault=fault)

    def _matrix(self, g, dtype):
        rho = super()._matrix(g, dtype)
        scale = torch.where(g == 0, 1.0, 1.001) if self._fault == "orthogonality" else torch.ones(())
        if self._fault == "identity":
            scale = torch.tensor(-1.0)
        if self._fault == "homomorphism":
            scale = torch.where(g == 2, -1.0, 1.0)
        return rho * scale.to(dtype).reshape(*g.shape, 1, 1) if scale.ndim else rho * scale


@pytest.mark.parametrize(
    ("fault", "law"),
    [
        ("orthogonality", r"rho\(g\) rho\(g\)\^T = I"),
        ("identity", r"rho\(identity\) = I"),
        ("homomorphism", r"rho\(g\^-1\) = rho\(g\)\^-1|rho\(g\) rho\(h\) = rho\(gh\)"),
    ],
)
def test_broken_laws_are_named(fault: str, law: str) -> None:
    with pytest.raises(AssertionError, match=law):
        assert_representation(Broken(fault))


def test_bilinear_matrices_are_refused() -> None:
    with pytest.raises(AssertionError, match="fails for bilinear grid"):
        assert_representation(pixel_grid(4, CyclicGroup(8), method="bilinear"))


@pytest.mark.parametrize("group", [SO2(), O2(), CyclicGroup(5), DihedralGroup(4)], ids=repr)
def test_functions_that_commute_pass_and_others_do_not(group) -> None:
    rep = group.defining()

    def norm_gated(x: torch.Tensor) -> torch.Tensor:
        return x * x.norm(dim=-1, keepdim=True).tanh()

    x = torch.randn(6, rep.dim)
    assert_equivariant(norm_gated, x, rep, rep)
    with pytest.raises(AssertionError, match=r"differs from g f\(x\) at g ="):
        assert_equivariant(torch.relu, x, rep, rep)


def test_actions_may_be_functions() -> None:
    x = torch.randn(2, 3, 6, 6)
    kernel = torch.tensor([[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]]).expand(3, 1, 3, 3)

    def laplacian(x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.conv2d(x, kernel, padding=1, groups=3)

    def turn(k: int, x: torch.Tensor) -> torch.Tensor:
        return torch.rot90(x, k, (-2, -1))

    assert_equivariant(laplacian, x, turn, turn, range(4))
    with pytest.raises(AssertionError, match="at g = 1"):
        assert_equivariant(lambda x: laplacian(x).roll(1, -1), x, turn, turn, range(4))


def test_channels_are_copies() -> None:
    rep = SO2().irrep(1)
    layer = SoftLinear(rep, rep, Softness(0), channels_in=3, channels_out=2)
    assert_equivariant(layer, torch.randn(4, 6), rep, rep)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: assert_equivariant(torch.sin, torch.zeros(2), lambda g, x: x, lambda g, x: x),
            "must be given",
        ),
        (
            lambda: assert_equivariant(torch.sin, torch.zeros(2), SO2().irrep(1), SO2().irrep(1), []),
            "not be empty",
        ),
        (
            lambda: assert_equivariant(torch.sin, torch.zeros(3), SO2().irrep(1), SO2().irrep(1)),
            "multiple of 2",
        ),
        (lambda: tolerance(torch.int64), "dtype must be one of"),
    ],
)
def test_bad_arguments_are_named(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_tolerances_allow_rounding_of_their_dtype_only() -> None:
    for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16):
        epsilon = torch.finfo(dtype).eps
        assert epsilon < tolerance(dtype).rtol
        assert tolerance(dtype).rtol <= 1e6 * epsilon
        np.testing.assert_allclose(1 + epsilon, 1, rtol=tolerance(dtype).rtol)
