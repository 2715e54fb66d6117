"""The strategies: what they draw is what they say, and every kind of group is drawn."""

from typing import Any

import hypothesis
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
    DirectProduct,
    GridTranslations,
    Lorentz,
    MatrixGroup,
    Orthogonal,
    Representation,
    SpecialOrthogonal,
    SymmetricGroup,
)
from equikernels.testing.strategies import (
    all_groups,
    certified_groups,
    finite_groups,
    group_elements,
    groups,
    labels,
    noncompact_groups,
    one_generator_groups,
    planar_groups,
    random_element,
    representations,
    small_finite_groups,
)


@given(st.one_of(all_groups, noncompact_groups), st.data())
def test_elements_labels_and_representations_belong_to_the_group(group: Any, data: st.DataObject) -> None:
    g = group.check(data.draw(group_elements(group)))
    assert group.batch_shape(g) == ()
    label = data.draw(labels(group))
    assert group.check_label(label) == label
    rep = data.draw(representations(group))
    assert isinstance(rep, Representation)
    assert rep.group == group
    assert rep(g).dtype == torch.float64


@given(st.data())
def test_narrower_strategies_keep_their_promise(data: st.DataObject) -> None:
    one = data.draw(one_generator_groups)
    assert one.lie_dim + len(one.discrete_elements) == 1
    assert isinstance(data.draw(certified_groups), (SO2, CyclicGroup, DihedralGroup))
    assert isinstance(data.draw(planar_groups), (SO2, O2, CyclicGroup, DihedralGroup))
    assert data.draw(groups).lie_dim <= 1
    assert data.draw(finite_groups).order <= 64
    assert data.draw(small_finite_groups).order <= 8
    assert data.draw(all_groups).is_compact
    assert not data.draw(noncompact_groups).is_compact


@pytest.mark.parametrize(
    "kind",
    [SO2, O2, SO3, O3, CyclicGroup, DihedralGroup, CubeGroup, SymmetricGroup, GridTranslations, DirectProduct,
     SpecialOrthogonal, Orthogonal, MatrixGroup],
)  # fmt: skip
def test_every_kind_of_group_is_drawn(kind: type) -> None:
    found = hypothesis.find(
        all_groups,
        lambda group: isinstance(group, kind),
        settings=hypothesis.settings(max_examples=1000, database=None),
    )
    assert isinstance(found, kind)


def test_components_of_products_are_drawn() -> None:
    torus = DirectProduct(SO2(), SO2())
    for i in (0, 1):
        assert hypothesis.find(labels(torus), lambda label, i=i: len(label) == 3 and label[2] == i)


def test_random_elements_are_reproducible() -> None:
    for group in (SO3(), Lorentz()):
        assert torch.equal(random_element(group, 3), random_element(group, 3))
        assert not torch.equal(random_element(group, 3), random_element(group, 4))
