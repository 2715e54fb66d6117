"""Hypothesis strategies: groups, elements, representations, cut-offs, weights.

>>> from hypothesis import given
>>> @given(groups.flatmap(lambda group: representations(group)))
... def test_dimension(rep):
...     assert rep(rep.group.identity).shape == (rep.dim, rep.dim)
>>> test_dimension()
"""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import strategies as st

from equikernels.group import (
    O2,
    SO2,
    CubeGroup,
    CyclicGroup,
    DihedralGroup,
    Group,
    Representation,
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
"""Groups for which projectors carry certificates."""

planar_groups: st.SearchStrategy[Group] = st.one_of(certified_groups, st.just(O2()))
"""Groups of the plane: turns, with and without flips."""

groups: st.SearchStrategy[Group] = st.one_of(planar_groups, st.just(CubeGroup()))
"""Every group with strategies for its elements and labels."""


def random_orthogonal(n: int, seed: int) -> np.ndarray:
    """A random orthogonal matrix from the QR decomposition of a Gaussian one."""
    q, r = np.linalg.qr(np.random.default_rng(seed).standard_normal((n, n)))
    return np.asarray(q * np.sign(np.diag(r)))


def group_elements(group: Group) -> st.SearchStrategy[object]:
    """Elements of a group as Python numbers, far outside the fundamental range too."""
    if isinstance(group, CyclicGroup):
        return st.integers(-3 * group.n, 3 * group.n)
    if isinstance(group, (DihedralGroup, CubeGroup)):
        return st.integers(0, group.order - 1)
    angles = st.floats(-10, 10, allow_nan=False)
    return st.tuples(angles, st.integers(0, 1)) if isinstance(group, O2) else angles


def labels(group: Group) -> st.SearchStrategy[object]:
    """Labels of irreps, up to frequency 5 for infinite groups."""
    if isinstance(group, O2):
        return st.one_of(st.just("det"), st.integers(0, 5))
    if isinstance(group, SO2):
        return st.integers(0, 5)
    return st.sampled_from([rep.irreps[0][0] for rep in group.irreps()])


@st.composite
def representations(draw: st.DrawFn, group: Group, max_copies: int = 2) -> Representation:
    """Sums of irreps, in their own basis or a random one; sometimes the pixels of a small grid."""
    if not isinstance(group, CubeGroup) and draw(st.integers(0, 5)) == 0:
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


def random_weight(rows: int, columns: int, seed: int) -> torch.Tensor:
    """A Gaussian float64 weight."""
    return torch.randn(rows, columns, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
