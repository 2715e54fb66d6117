"""The test kit: what it accepts, and what it must refuse."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from equikernels.group import (
    O2,
    SO2,
    SO3,
    CyclicGroup,
    DihedralGroup,
    DirectProduct,
    Lorentz,
    Representation,
    SymmetricGroup,
    pixel_grid,
)
from equikernels.nn import SoftLinear
from equikernels.project import Softness
from equikernels.testing import assert_equivariant, assert_representation, tolerance
from equikernels.testing.strategies import (
    all_groups,
    noncompact_groups,
    random_orthogonal,
    representations,
)


@given(st.data())
def test_representations_pass(data: st.DataObject) -> None:
    assert_representation(data.draw(representations(data.draw(all_groups), 1)), elements=5)


@settings(max_examples=40)
@given(st.data())
def test_representations_of_groups_that_are_not_compact_pass(data: st.DataObject) -> None:
    """Their matrices are not orthogonal, and have entries of any size."""
    rep = data.draw(representations(data.draw(noncompact_groups), 1))
    assert_representation(rep, elements=4, seed=data.draw(st.integers(0, 1000)))


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


class Altered(Representation):
    """A representation that names other generators than its own, or the normal form of another one."""

    def __init__(self, rep: Representation, fault: str) -> None:
        super().__init__(rep.group, rep.irreps, rep.change_of_basis)
        factors = np.ones((rep.group.lie_dim, 1, 1))
        if fault == "derivative":
            factors[0] = 1.001
        self._set(_fault=fault, _factors=factors, _original=rep)

    @property
    def generators(self) -> np.ndarray:
        return self._factors * self._original.generators

    def _matrix(self, g, dtype):
        rho = self._original._matrix(g, dtype)
        if self._fault == "normal form":
            q = torch.tensor(random_orthogonal(self.dim, 0))
            return q @ rho @ q.mT
        return rho


@pytest.mark.parametrize(
    ("rep", "fault", "law"),
    [
        (SO3().irrep(2), "derivative", r"rho\(exp\(0.3 X_0\)\) = exp\(0.3 d rho\(X_0\)\) fails.*: error \d"),
        (DihedralGroup(3).irrep(1), "normal form", r"the normal form at g = .* fails.*: error \d"),
        (CyclicGroup(3).regular(), "normal form", "the normal form at g = "),
        (Lorentz().defining(), "derivative", r"rho\(exp\(0.3 X_0\)\)"),
    ],
)
def test_generators_and_normal_forms_are_compared(rep: Representation, fault: str, law: str) -> None:
    assert_representation(rep)
    with pytest.raises(AssertionError, match=law):
        assert_representation(Altered(rep, fault))


def test_brackets_are_compared_with_the_structure_constants(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SO3, "structure_constants", -SO3().structure_constants)
    with pytest.raises(AssertionError, match=r"\[X_0, X_1\] = sum_l c_01l X_l .* fails.*: error 2.0e\+00"):
        assert_representation(SO3().defining())


def test_inverses_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CyclicGroup, "inverse", lambda self, g: self.check(g))
    with pytest.raises(AssertionError, match=r"rho\(g\^-1\) = rho\(g\)\^-1 at g = 1 fails"):
        assert_representation(CyclicGroup(5).irrep(1))


def test_functions_that_commute_with_boosts_pass_and_others_do_not() -> None:
    rep = Lorentz().defining()
    metric = torch.tensor([1.0, -1.0, -1.0, -1.0], dtype=torch.float64)
    x = torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def scaled(x: torch.Tensor) -> torch.Tensor:
        return x * (metric * x * x).sum(-1, keepdim=True).sin()

    assert_equivariant(scaled, x, rep, rep, rtol=1e-8, atol=1e-8)
    with pytest.raises(AssertionError, match=r"equivariance fails, .* at g = (.|\n)*absolute difference"):
        assert_equivariant(lambda x: x * x.norm(dim=-1, keepdim=True), x, rep, rep)
    # Lowering the index takes vectors to covectors.
    assert_equivariant(lambda x: metric * x, x, rep, rep.dual(), rtol=1e-8, atol=1e-8)
    with pytest.raises(AssertionError, match="equivariance fails"):
        assert_equivariant(lambda x: metric * x, x, rep, rep)


def test_functions_on_products_of_groups() -> None:
    group = DirectProduct(SO3(), SymmetricGroup(3))
    points = group.outer(SO3().defining(), SymmetricGroup(3).defining())
    x = torch.randn(4, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    def centred(x: torch.Tensor) -> torch.Tensor:
        cloud = x.reshape(*x.shape[:-1], 3, 3)
        return (cloud - cloud.mean(-1, keepdim=True)).flatten(-2)

    assert_equivariant(centred, x, points, points)
    with pytest.raises(AssertionError, match="equivariance fails"):
        assert_equivariant(lambda x: x.cumsum(-1), x, points, points)


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
