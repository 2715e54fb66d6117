"""Representations recognised from their matrices."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from equikernels.group import (
    O2,
    SO2,
    CyclicGroup,
    DihedralGroup,
    Representation,
    pixel_grid,
    representation_from_operators,
)
from equikernels.testing import assert_representation
from equikernels.testing.strategies import planar_groups, random_orthogonal, representations, seeds

SKEW = np.array([[0.0, -1.0], [1.0, 0.0]])


@given(st.data())
def test_irreps_are_found_in_any_basis(data: st.DataObject) -> None:
    group = data.draw(planar_groups)
    rep = data.draw(representations(group, 3))
    q = random_orthogonal(rep.dim, data.draw(seeds))
    hidden = Representation(group, rep.irreps, q @ rep.change_of_basis)
    found = representation_from_operators(
        group, algebra=list(hidden.generators), elements=list(hidden.discrete)
    )
    assert dict(found.irreps) == dict(rep.decompose().irreps)
    np.testing.assert_allclose(found.constraints, hidden.constraints, atol=1e-9)
    assert_representation(found)


@pytest.mark.parametrize(
    "rep",
    [
        pixel_grid(9, SO2()),
        pixel_grid(9, O2()),
        pixel_grid(6, CyclicGroup(4)),
        pixel_grid(6, DihedralGroup(4)),
    ],
    ids=repr,
)
def test_grids_are_recognised(rep: Representation) -> None:
    found = representation_from_operators(
        rep.group, algebra=torch.tensor(rep.generators), elements=torch.tensor(rep.discrete)
    )
    assert dict(found.irreps) == dict(rep.decompose().irreps)
    np.testing.assert_allclose(found.constraints, rep.constraints, atol=1e-9)


def test_a_large_representation_keeps_its_accuracy() -> None:
    rep = Representation(SO2(), [(k, 20) for k in range(10)], random_orthogonal(380, 0))
    found = representation_from_operators(SO2(), algebra=rep.generators)
    assert found.irreps == rep.irreps
    np.testing.assert_allclose(found.generators, rep.generators, atol=1e-11)


@pytest.mark.parametrize(
    ("group", "algebra", "elements", "error", "message"),
    [
        (SO2(), [], [], ValueError, r"algebra must hold 1 matrices for SO\(2\), got 0"),
        (CyclicGroup(4), [], [SKEW, SKEW], ValueError, "elements must hold 1 matrices for C_4, got 2"),
        (SO2(), [np.eye(2)], [], ValueError, r"algebra\[0\] must be skew"),
        (SO2(), [1.5 * SKEW], [], ValueError, r"integer frequencies, but one is -?1\.5"),
        (SO2(), [SKEW[:1]], [], ValueError, r"algebra\[0\] must be a square matrix, got shape \(1, 2\)"),
        (SO2(), [np.full((2, 2), np.nan)], [], ValueError, r"algebra\[0\] must be finite"),
        (SO2(), [1j * SKEW], [], TypeError, r"algebra\[0\] must be real"),
        (CyclicGroup(4), [], [2 * SKEW], ValueError, r"elements\[0\] must be orthogonal"),
        (CyclicGroup(3), [], [SKEW], ValueError, "does not return to the identity after 3 steps"),
        (DihedralGroup(4), [], [SKEW, np.eye(2)], ValueError, "does not reverse the turns"),
        (O2(), [SKEW], [np.eye(3)], ValueError, "one dimension"),
        (O2(), [SKEW], [np.eye(2)], ValueError, "does not reverse the turns"),
        ("SO2", [SKEW], [], ValueError, "group must be"),
    ],
)
def test_matrices_of_no_representation_are_refused(group, algebra, elements, error, message: str) -> None:
    with pytest.raises(error, match=message):
        representation_from_operators(group, algebra=algebra, elements=elements)
