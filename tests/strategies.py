"""Hypothesis strategies for the groups, elements, representations and cut-offs at hand."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import strategies as st

from equikernels.group import SO2, CyclicGroup, Group, Representation, pixel_grid
from equikernels.project import Hard, Smooth, Softness

seeds = st.integers(0, 2**32 - 1)
groups = st.one_of(st.just(SO2()), st.integers(1, 12).map(CyclicGroup))


def random_orthogonal(n: int, seed: int) -> np.ndarray:
    """A random orthogonal matrix from the QR decomposition of a Gaussian one."""
    q, r = np.linalg.qr(np.random.default_rng(seed).standard_normal((n, n)))
    return q * np.sign(np.diag(r))


def group_elements(group: Group) -> st.SearchStrategy[object]:
    """Elements of a group as Python numbers, far outside the fundamental range too."""
    if isinstance(group, CyclicGroup):
        return st.integers(-3 * group.n, 3 * group.n)
    return st.floats(-10, 10, allow_nan=False)


@st.composite
def representations(draw: st.DrawFn, group: Group, max_copies: int = 2) -> Representation:
    """Sums of irreps, in their own basis or a random one; sometimes the pixels of a small grid."""
    if draw(st.integers(0, 5)) == 0:
        return pixel_grid(draw(st.integers(2, 4)), group)
    highest = group.n // 2 if isinstance(group, CyclicGroup) else 5
    count = draw(st.integers(1, 3))
    irreps = [(draw(st.integers(0, highest)), draw(st.integers(1, max_copies))) for _ in range(count)]
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
