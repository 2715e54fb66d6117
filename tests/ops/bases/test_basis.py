"""Changes of basis: which kind is found, what it costs, and that each is the matrix it was made from."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from equikernels.ops.bases import Basis
from tests.ops.bases.samples import KINDS, in_sectors, named_bases, orthogonal, rotated_grid

TOLERANCE = {torch.float64: 1e-13, torch.float32: 5e-6, torch.bfloat16: 2**-6, torch.float16: 2**-9}


def check(basis: Basis, dtype: torch.dtype) -> None:
    u = torch.tensor(basis.matrix)
    x = torch.randn(2, 17, basis.dim).to(dtype)
    tolerance = {"rtol": TOLERANCE[dtype], "atol": TOLERANCE[dtype]}
    y, back = basis.analyse(x), basis.synthesise(x)
    assert y.dtype == back.dtype == dtype
    torch.testing.assert_close(y.double(), x.double() @ u, **tolerance)
    torch.testing.assert_close(back.double(), x.double() @ u.mT, **tolerance)
    torch.testing.assert_close(basis.synthesise(y), x, rtol=2 * tolerance["rtol"], atol=3 * tolerance["atol"])


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("name", KINDS)
def test_every_kind_is_its_matrix(name: str, dtype: torch.dtype) -> None:
    basis = named_bases()[name]
    assert basis.kind == KINDS[name]
    check(basis, dtype)


@given(st.lists(st.integers(1, 12), min_size=4, max_size=7), st.integers(0, 2**32 - 1))
def test_any_sectors(sizes: list[int], seed: int) -> None:
    """Of any number and size, mixed in any order; whatever kind it is taken for."""
    sizes = [*sizes, 4]
    check(Basis(*in_sectors(sizes, seed)), torch.float64)


@pytest.mark.parametrize("side", [5, 6, 14])
def test_grids_under_rotations_fall_into_sectors(side: int) -> None:
    basis = Basis(*rotated_grid(side))
    assert basis.kind == "sectors"
    check(basis, torch.float64)
    check(basis, torch.float32)


def test_sectors_of_the_grid_of_fourteen() -> None:
    basis = Basis(*rotated_grid(14))
    orbits, sectors = basis.stages
    assert sorted(len(family.mix) for family in sectors.families) == [21, 21, 28, 28, 49, 49]
    assert sectors.multiplications == 2 * (21**2 + 28**2 + 49**2)
    assert 196**2 / sectors.multiplications == pytest.approx(5.3, abs=0.05)
    assert basis.multiplications == sectors.multiplications + orbits.multiplications
    assert "sectors" in repr(basis)


def test_structure_that_does_not_pay_is_dense() -> None:
    matrix, symmetry = in_sectors((19, 2), 0)
    assert Basis(matrix, symmetry).kind == "dense"
    assert Basis(matrix).kind == "dense"
    assert Basis(matrix, np.eye(21)).kind == "dense"
    # A symmetry that mixes everything splits nothing.
    assert Basis(matrix, orthogonal(21, np.random.default_rng(0))).kind == "dense"
    assert Basis(matrix).multiplications == 21**2


def test_copies_work_when_the_first_is_gone() -> None:
    for duplicate in (copy.deepcopy, lambda b: pickle.loads(pickle.dumps(b))):
        basis = Basis(*in_sectors((9, 8, 1), 2))
        x = torch.randn(50, 18)
        expected = basis.analyse(x)
        second = duplicate(basis)
        del basis
        assert torch.equal(second.analyse(x), expected)
        check(second, torch.float64)


def test_the_matrix_is_the_basis_own() -> None:
    matrix = np.eye(3)[::-1].copy()
    basis = Basis(matrix)
    matrix[:] = 0
    check(basis, torch.float64)
    with pytest.raises(ValueError, match="read-only"):
        basis.matrix[0] = 1


@pytest.mark.parametrize("name", ["orbits", "sectors", "dense"])
def test_inference_mode_first_and_training_after(name: str) -> None:
    basis = copy.deepcopy(named_bases()[name])
    x = torch.randn(3, basis.dim, requires_grad=True)
    with torch.inference_mode():
        expected = basis.analyse(x)
    out = basis.analyse(x)
    assert torch.equal(out, expected)
    (grad,) = torch.autograd.grad(out, x, torch.ones_like(out))
    torch.testing.assert_close(grad, basis.synthesise(torch.ones_like(out)))


@pytest.mark.parametrize("name", ["orbits", "sectors", "dense"])
def test_compiled_at_first_use(name: str) -> None:
    torch._dynamo.reset()
    basis = copy.deepcopy(named_bases()[name])
    x = torch.randn(3, basis.dim, dtype=torch.float64)
    there = torch.compile(lambda x: basis.synthesise(basis.analyse(x)), fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(there(x), x, rtol=1e-13, atol=1e-13)
    check(basis, torch.float64)


@pytest.mark.parametrize(
    ("matrix", "symmetry", "message"),
    [
        (np.zeros((2, 3)), None, r"matrix: expected \(dim, dim\), got \(2, 3\)"),
        (np.zeros(3), None, r"matrix: expected \(dim, dim\), got \(3,\)"),
        (2 * np.eye(2), None, "matrix: expected orthogonal columns, but their products are off by 3.0e"),
        (np.full((2, 2), np.nan), None, "matrix: expected orthogonal columns"),
        (np.eye(2), np.eye(3), r"symmetry: expected \(2, 2\), got \(3, 3\)"),
        (np.eye(2), np.ones((2, 2)), "symmetry: expected orthogonal columns"),
    ],
)
def test_bad_input(matrix: np.ndarray, symmetry: np.ndarray | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Basis(matrix, symmetry)
