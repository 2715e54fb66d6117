"""Tensor products, duals and spaces of linear maps."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from equikernels.group import (
    O2,
    O3,
    SO2,
    SO3,
    CubeGroup,
    CyclicGroup,
    DihedralGroup,
    Representation,
    pixel_grid,
)
from equikernels.group.intertwiners import tensor_embeddings
from equikernels.testing.strategies import group_elements, groups, labels, representations


@given(st.data())
def test_tensor_product_is_the_kronecker_product(data: st.DataObject) -> None:
    group = data.draw(groups)
    a, b = data.draw(representations(group, 1)), data.draw(representations(group, 1))
    g = data.draw(group_elements(group))
    expected = torch.kron(a(g), b(g))
    torch.testing.assert_close((a @ b)(g), expected, atol=1e-10, rtol=0)


@given(st.data())
def test_linear_maps_are_a_tensor_product(data: st.DataObject) -> None:
    group = data.draw(groups)
    a, b = data.draw(representations(group, 1)), data.draw(representations(group, 1))
    g = data.draw(group_elements(group))
    w = torch.randn(b.dim, a.dim, dtype=torch.float64)
    moved = b(g) @ w @ a(g).mT
    torch.testing.assert_close((a.dual() @ b)(g) @ w.mT.reshape(-1), moved.mT.reshape(-1), atol=1e-10, rtol=0)


@given(st.data())
def test_embeddings_fill_the_product_orthogonally(data: st.DataObject) -> None:
    group = data.draw(groups)
    left, right = data.draw(labels(group)), data.draw(labels(group))
    found = tensor_embeddings(group, left, right)
    q = np.concatenate([t for _, t in found], axis=1)
    np.testing.assert_allclose(q.T @ q, np.eye(q.shape[0]), atol=1e-12)


def test_known_products() -> None:
    so2 = SO2()
    assert dict((so2.irrep(2) @ so2.irrep(3)).irreps) == {1: 1, 5: 1}
    assert (so2.irrep(2) @ so2.irrep(2)).irreps == ((0, 2), (4, 1))
    o2 = O2()
    assert (o2.irrep(2) @ o2.irrep(2)).decompose().irreps == ((0, 1), ("det", 1), (4, 1))
    assert (o2.irrep("det") @ o2.irrep("det")).irreps == ((0, 1),)
    d4 = DihedralGroup(4)
    assert sum(m for _, m in (d4.irrep(1) @ d4.irrep(1)).irreps) == 4
    c3 = CyclicGroup(3)
    assert (c3.irrep(1) @ c3.irrep(1)).irreps == ((0, 2), (1, 1))


@pytest.mark.parametrize("group", [CyclicGroup(4), DihedralGroup(4)], ids=repr)
def test_invariant_maps_count_the_strict_layers(group) -> None:
    """The trivial part of Hom(V, V) has as many dimensions as there are equivariant maps."""
    grid = pixel_grid(3, group)
    trivial = group.trivial().irreps[0][0]
    average = np.mean([np.trace(grid(g).numpy()) ** 2 for g in group.elements()])
    assert dict((grid @ grid).decompose().irreps)[trivial] == round(average)


def test_products_of_different_groups_are_refused() -> None:
    with pytest.raises(ValueError, match="no tensor product"):
        SO2().irrep(1) @ CyclicGroup(4).irrep(1)
    bilinear = pixel_grid(3, SO2(), method="bilinear")
    with pytest.raises(ValueError, match="no tensor product"):
        bilinear @ bilinear


@pytest.mark.parametrize(
    ("left", "right"), [("2x1+0", "1+2"), ("3", "4"), ("1o+0e", "2e+1o")], ids=["sums", "high", "parities"]
)
def test_products_of_space_rotations(left: str, right: str) -> None:
    group = O3() if "o" in left else SO3()
    a, b = (Representation.from_irreps(group, text) for text in (left, right))
    for g in group.unbind(group.sample(3, generator=torch.Generator().manual_seed(1))):
        torch.testing.assert_close((a @ b)(g), torch.kron(a(g), b(g)), atol=1e-11, rtol=0)


def test_irreps_are_read_in_the_notation_of_e3nn() -> None:
    assert Representation.from_irreps(O3(), "2x1o + 0e").irreps == (((1, -1), 2), ((0, 1), 1))
    assert Representation.from_irreps(SO3(), "2x1o+0e").irreps == ((1, 2), (0, 1))
    assert Representation.from_irreps(O2(), "1+det").irreps == ((1, 1), ("det", 1))
    assert Representation.from_irreps(CubeGroup(), "2xT1+A2").dim == 7
    with pytest.raises(ValueError, match="label"):
        Representation.from_irreps(SO2(), "1o")
