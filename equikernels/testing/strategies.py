"""Hypothesis strategies: groups, elements, representations, cut-offs, weights.

Draw a group, then what belongs to it:

>>> from hypothesis import given
>>> from hypothesis import strategies as st
>>> @given(st.data())
... def test_inverse(data):
...     group = data.draw(all_groups)
...     rep, g = data.draw(representations(group)), data.draw(group_elements(group))
...     torch.testing.assert_close(rep(group.inverse(g)), rep(g).mT, atol=1e-9, rtol=0)
>>> test_inverse()

For one group of your own, `representations(group)` and `labels(group)` are enough:

>>> from equikernels.group import SO3
>>> @given(representations(SO3()))
... def test_dimension(rep):
...     assert rep(rep.group.identity).shape == (rep.dim, rep.dim)
>>> test_dimension()
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
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
    Group,
    Lorentz,
    MatrixGroup,
    Orthogonal,
    Representation,
    SpecialOrthogonal,
    SymmetricGroup,
    pixel_grid,
)
from equikernels.project import Hard, Smooth, Softness

seeds = st.integers(0, 2**32 - 1)
"""Seeds for random generators."""

one_generator_groups: st.SearchStrategy[Group] = st.one_of(
    st.just(SO2()), st.integers(1, 12).map(CyclicGroup)
)
"""SO(2) and C_n: one Lie generator or one discrete one."""

certified_groups: st.SearchStrategy[Group] = st.one_of(
    one_generator_groups, st.integers(1, 6).map(DihedralGroup)
)
"""Groups of the plane for which projectors carry certificates."""

planar_groups: st.SearchStrategy[Group] = st.one_of(certified_groups, st.just(O2()))
"""Groups of the plane: turns, with and without flips."""

symmetric_groups: st.SearchStrategy[Group] = st.integers(1, 4).map(SymmetricGroup)
"""S_1 to S_4."""

translation_groups: st.SearchStrategy[Group] = st.builds(
    GridTranslations, st.integers(1, 4), st.integers(1, 4)
)
"""Cyclic translations of grids of up to 4 x 4 pixels."""

small_finite_groups: st.SearchStrategy[Group] = st.one_of(
    st.integers(1, 4).map(CyclicGroup),
    st.integers(1, 3).map(DihedralGroup),
    st.integers(1, 3).map(SymmetricGroup),
    st.builds(GridTranslations, st.integers(1, 2), st.integers(1, 3)),
)
"""Finite groups of at most eight elements, of every way to write them."""

finite_products: st.SearchStrategy[Group] = st.builds(DirectProduct, small_finite_groups, small_finite_groups)
"""Products of two small finite groups."""

finite_groups: st.SearchStrategy[Group] = st.one_of(
    st.integers(1, 12).map(CyclicGroup),
    st.integers(1, 6).map(DihedralGroup),
    st.just(CubeGroup()),
    symmetric_groups,
    translation_groups,
    finite_products,
)
"""Finite groups of at most 64 elements."""

groups: st.SearchStrategy[Group] = st.one_of(
    planar_groups,
    finite_groups,
    st.builds(DirectProduct, st.sampled_from([SO2(), O2()]), small_finite_groups),
)
"""Compact groups with at most one Lie generator; `all_groups` has those with several too."""

space_groups: st.SearchStrategy[Group] = st.sampled_from([SO3(), O3()])
"""Rotations of space, with and without reflections."""


def _matrix_groups() -> list[Group]:
    """Q_8 and the unit quaternions SU(2), both by left multiplication on R^4: their irrep is quaternionic."""
    skew = np.array([[0.0, -1.0], [1.0, 0.0]])
    i, j = np.kron(np.eye(2), skew), np.kron(skew, np.diag([1.0, -1.0]))
    return [
        MatrixGroup(elements=[i, j], name="Q_8"),
        MatrixGroup([i / 2, j / 2, i @ j / 2], name="SU(2)"),
    ]


matrix_groups: st.SearchStrategy[Group] = st.sampled_from(
    [
        *(SpecialOrthogonal(n) for n in (2, 3, 4)),
        *(Orthogonal(n) for n in (2, 3)),
        *_matrix_groups(),
    ]
)
"""Rotations and reflections of R^n for n <= 4, and groups given by their generators as matrices."""

noncompact_groups: st.SearchStrategy[Group] = st.just(Lorentz())
"""Groups whose representations are not orthogonal."""

all_groups: st.SearchStrategy[Group] = st.one_of(
    groups,
    space_groups,
    matrix_groups,
    st.builds(DirectProduct, space_groups, small_finite_groups),
    st.sampled_from([DirectProduct(SO2(), SO2()), DirectProduct(SO2(), SO3()), DirectProduct(O2(), O3())]),
)
"""Compact groups of every kind. Strategies for elements and labels know those of `noncompact_groups` too."""


def random_orthogonal(n: int, seed: int) -> np.ndarray:
    """A random orthogonal matrix from the QR decomposition of a Gaussian one."""
    q, r = np.linalg.qr(np.random.default_rng(seed).standard_normal((n, n)))
    return np.asarray(q * np.sign(np.diag(r)))


def group_elements(group: Group) -> st.SearchStrategy[Any]:
    """Elements of a group, one at a time.

    Angles and shifts are Python numbers far outside the fundamental range too, elements of products tuples
    of parts; groups of matrices, and whatever else has a `sample`, give float64 tensors from a drawn seed.
    """
    if isinstance(group, DirectProduct):
        return st.tuples(*(group_elements(factor) for factor in group.factors))
    if isinstance(group, CyclicGroup):
        return st.integers(-3 * group.n, 3 * group.n)
    if isinstance(group, GridTranslations):
        return st.tuples(
            st.integers(-2 * group.height, 2 * group.height), st.integers(-2 * group.width, 2 * group.width)
        )
    if isinstance(group, SymmetricGroup):
        return st.permutations(range(group.n))
    if isinstance(group, (DihedralGroup, CubeGroup)):
        return st.integers(0, group.order - 1)
    angles = st.floats(-10, 10, allow_nan=False)
    if isinstance(group, SO2):
        return angles
    if isinstance(group, O2):
        return st.tuples(angles, st.integers(0, 1))
    return seeds.map(lambda seed: random_element(group, seed))


def random_element(group: Group, seed: int) -> Any:
    """One element from the group's own `sample`."""
    return group.unbind(group.sample(1, generator=torch.Generator().manual_seed(seed)))[0]


def labels(group: Group) -> st.SearchStrategy[Any]:
    """Labels of irreps: all of a finite group, up to frequency 5 in the plane, up to degree 2 in space and
    up to label 2 of other infinite groups; of a product those of its factors, and all their components."""
    if isinstance(group, DirectProduct):
        parts = st.tuples(*(labels(factor) for factor in group.factors))
        return parts.flatmap(lambda own: st.sampled_from(group.components(own)))
    if isinstance(group, O2):
        return st.one_of(st.just("det"), st.integers(0, 5))
    if isinstance(group, SO2):
        return st.integers(0, 5)
    infinite: Any = group
    irreps = group.irreps() if group.order is not None else infinite.irreps(2)
    return st.sampled_from([rep.irreps[0][0] for rep in irreps])


@st.composite
def representations(draw: st.DrawFn, group: Group, max_copies: int = 2) -> Representation:
    """Sums of irreps, in their own basis or a random one; sometimes the pixels of a small grid, for groups
    of the plane."""
    planar = isinstance(group, (SO2, O2, CyclicGroup, DihedralGroup))
    if planar and draw(st.integers(0, 5)) == 0:
        odd_only = isinstance(group, (O2, DihedralGroup))
        return pixel_grid(3 if odd_only else draw(st.integers(2, 4)), group)
    count = draw(st.integers(1, 3))
    irreps = [(draw(labels(group)), draw(st.integers(1, max_copies))) for _ in range(count)]
    rep = Representation(group, irreps)
    if draw(st.booleans()):
        return Representation(group, irreps, random_orthogonal(rep.dim, draw(seeds)))
    return rep


cutoffs = st.one_of(
    st.floats(0, 6).map(Hard),
    st.builds(Smooth, st.floats(0, 3), st.floats(0.01, 3)),
    st.builds(Softness, st.floats(0, 1), st.sampled_from(["fraction", "down", "up"])),
)
"""Cut-offs of every kind."""


def random_weight(rows: int, columns: int, seed: int) -> torch.Tensor:
    """A Gaussian float64 weight."""
    return torch.randn(rows, columns, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
