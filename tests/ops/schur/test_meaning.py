"""What schur_project means: singular vectors of the dense constraint, golden numbers, its laws."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given
from hypothesis import strategies as st

from equikernels.ops import schur_blocks, schur_project, schur_scale
from tests.ops.schur.samples import (
    ARRANGEMENTS,
    BACKENDS,
    SPACED,
    eigenvalues,
    hard,
    neighbours,
    operator,
    oracle,
    smooth,
    spaced,
    tables,
    weights,
)

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "projectors.json").read_text())
ONE_GENERATOR = [case for case in GOLDEN if len(case["operators_in"]) == 1]
PAIRS = list(product(ARRANGEMENTS, ARRANGEMENTS[::-1]))
sizes = st.lists(st.sampled_from((1, 2)), min_size=1, max_size=4).map(tuple)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("sizes_out", "sizes_in"), PAIRS, ids=str)
def test_dense_singular_vectors(sizes_out: tuple[int, ...], sizes_in: tuple[int, ...], backend: str) -> None:
    out, inn = eigenvalues(sizes_out, 1), eigenvalues(sizes_in, 2)
    w = weights(2, len(out), len(inn))
    for cutoff in (0.0, 0.8, 1.7):
        ours = schur_project(w, out, inn, cutoff, backend=backend)
        expected = oracle(w.numpy(), operator(out), operator(inn), hard(cutoff))
        np.testing.assert_allclose(ours, expected, atol=1e-12)
        ours = schur_project(w, out, inn, cutoff, 0.6, backend=backend)
        expected = oracle(w.numpy(), operator(out), operator(inn), smooth(cutoff, 0.6))
        np.testing.assert_allclose(ours, expected, atol=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("arranged_out", [*SPACED, ("+-0+-", 1)], ids=str)
@pytest.mark.parametrize("arranged_in", [*SPACED, ("0+-+-", 1)], ids=str)
def test_pairs_at_a_distance(
    arranged_out: tuple[str, int], arranged_in: tuple[str, int], backend: str
) -> None:
    out, inn = spaced(*arranged_out, seed=1), spaced(*arranged_in, seed=2)
    rows, columns = neighbours(out, arranged_out[1]), neighbours(inn, arranged_in[1])
    w = weights(2, len(out), len(inn))
    sides = schur_blocks(out, arranged_out[1]), schur_blocks(inn, distance=arranged_in[1])
    ours = schur_project(w, *sides, 1.1, 0.7, backend=backend)[:, rows][..., columns]
    sorted_w = w[:, rows][..., columns].numpy()
    expected = oracle(sorted_w, operator(out[rows]), operator(inn[columns]), smooth(1.1, 0.7))
    np.testing.assert_allclose(ours, expected, atol=1e-12)
    # Blocks are counted by their first coordinates, in either order.
    table = weights(2, len(sides[0].sizes), len(sides[1].sizes))
    scaled = schur_scale(w, *table, *sides, backend=backend)[:, rows][..., columns]
    adjacent = schur_blocks(out[rows]), schur_blocks(inn[columns])
    again = schur_scale(torch.from_numpy(sorted_w), *table, *adjacent, backend=backend)
    torch.testing.assert_close(scaled, again, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("backend", BACKENDS)
@given(sizes, sizes, st.integers(0, 99), st.sampled_from((0.0, 1.0, 2.0, 5**0.5, 4.0)), st.floats(0, 1))
def test_eigenvalues_that_meet_on_the_cutoff(
    backend: str,
    sizes_out: tuple[int, ...],
    sizes_in: tuple[int, ...],
    seed: int,
    cutoff: float,
    share: float,
) -> None:
    """Integers: distances agree with each other and with the cut-off, up to rounding."""
    out, inn = eigenvalues(sizes_out, seed, True), eigenvalues(sizes_in, seed + 100, True)
    w = weights(len(out), len(inn))
    ours = schur_project(w, out, inn, cutoff, at_cutoff=share, backend=backend)
    expected = oracle(w.numpy(), operator(out), operator(inn), hard(cutoff, share))
    np.testing.assert_allclose(ours, expected, atol=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
def test_worked_example(backend: str) -> None:
    values = torch.tensor([1j, -1j, 0])
    w = torch.arange(1.0, 10.0).view(3, 3)
    for cutoff, expected in (
        (0.5, [[3, -1, 0], [1, 3, 0], [0, 0, 9]]),
        (1.5, [[3, -1, 3], [1, 3, 6], [7, 8, 9]]),
        (2.5, [[1, 2, 3], [4, 5, 6], [7, 8, 9]]),
        (0.0, [[0, 0, 0], [0, 0, 0], [0, 0, 0]]),
    ):
        assert schur_project(w, values, values, cutoff, backend=backend).tolist() == expected
    # The sign of b says which of the two parts of a block is near.
    turned = torch.tensor([-1j, 1j, 0])
    ours = schur_project(w, values, turned, 0.5, backend=backend)
    assert ours.tolist() == [[-2, 3, 0], [3, 2, 0], [0, 0, 9]]


@pytest.mark.parametrize("backend", BACKENDS)
def test_on_the_cutoff(backend: str) -> None:
    values = torch.tensor([1j, -1j, 0])
    w = torch.arange(1.0, 10.0, dtype=torch.float64).view(3, 3)
    near, far = 1 + 1e-10, 1 + 1e-8
    shared = [[3, -1, 1.5], [1, 3, 3], [3.5, 4, 9]]
    for cutoff in (1.0, near, 2 - near):
        ours = schur_project(w, values, values, cutoff, at_cutoff=0.5, backend=backend)
        assert ours.tolist() == shared
    kept = schur_project(w, values, values, far, at_cutoff=0.5, backend=backend)
    assert kept.tolist() == [[3, -1, 3], [1, 3, 6], [7, 8, 9]]
    wide = schur_project(w, values, values, 1.25, at_cutoff=0.5, tolerance=0.25, backend=backend)
    assert wide.tolist() == shared
    # The default tolerance grows with the eigenvalues.
    large = schur_project(w, 1e6 * values, 1e6 * values, 1e6 * near, at_cutoff=0.5, backend=backend)
    assert large.tolist() == shared


def schur_basis(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The eigenvalues and the basis of a normal matrix."""
    t, u = scipy.linalg.schur(matrix, output="real")
    values = np.diag(t).astype(complex)
    for i in range(len(t) - 1):
        if abs(t[i + 1, i]) > 1e-9:
            mean, b = (t[i, i] + t[i + 1, i + 1]) / 2, (t[i + 1, i] - t[i, i + 1]) / 2
            values[i], values[i + 1] = complex(mean, b), complex(mean, -b)
    return values, u


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("case", ONE_GENERATOR, ids=lambda case: case["name"])
def test_golden_projections(case: dict, backend: str) -> None:
    inn, basis_in = schur_basis(np.array(case["operators_in"][0]))
    out, basis_out = schur_basis(np.array(case["operators_out"][0]))
    left, right = torch.from_numpy(basis_out), torch.from_numpy(basis_in)
    w = left.mT @ torch.tensor(case["W"], dtype=torch.float64) @ right
    for answer in case["hard"]:
        ours = schur_project(w, out, inn, answer["cutoff"], backend=backend)
        np.testing.assert_allclose(left @ ours @ right.mT, answer["projected"], atol=1e-9)
    answer = case["smooth"]
    ours = schur_project(w, out, inn, answer["cutoff"], answer["width"], backend=backend)
    np.testing.assert_allclose(left @ ours @ right.mT, answer["projected"], atol=1e-9)


def test_golden_cases_are_there() -> None:
    assert len(ONE_GENERATOR) >= 6


@pytest.mark.parametrize("backend", BACKENDS)
@given(sizes, sizes, st.integers(0, 99), st.floats(0, 4), st.one_of(st.none(), st.floats(0.01, 10)))
def test_laws(
    backend: str,
    sizes_out: tuple[int, ...],
    sizes_in: tuple[int, ...],
    seed: int,
    cutoff: float,
    width: float | None,
) -> None:
    out, inn = schur_blocks(eigenvalues(sizes_out, seed)), schur_blocks(eigenvalues(sizes_in, seed + 100))
    v, w = weights(2, out.size, inn.size, seed=seed)

    def project(x: torch.Tensor, cutoff: float | torch.Tensor = cutoff) -> torch.Tensor:
        return schur_project(x, out, inn, cutoff, width, backend=backend)

    close = {"rtol": 1e-12, "atol": 1e-12}
    torch.testing.assert_close((v * project(w)).sum(), (project(v) * w).sum(), **close)
    torch.testing.assert_close(project(v + 3 * w), project(v) + 3 * project(w), **close)
    assert torch.equal(project(w, torch.inf), w)
    assert project(w).norm() <= w.norm() * (1 + 1e-12)
    if width is None:
        torch.testing.assert_close(project(project(w)), project(w), **close)
    # A cut-off in a tensor is the same cut-off.
    torch.testing.assert_close(project(w, torch.tensor(cutoff, dtype=torch.float64)), project(w), **close)


@pytest.mark.parametrize("backend", BACKENDS)
def test_scale_is_made_of_the_two_parts(backend: str) -> None:
    w = weights(3, 5, 4)
    same, opposite = tables((2, 1, 2), (1, 2, 1))
    ours = schur_scale(w, same, opposite, (2, 1, 2), (1, 2, 1), backend=backend)
    expected = w.clone()
    for i, rows in enumerate((slice(0, 2), slice(2, 3), slice(3, 5))):
        for j, columns in enumerate((slice(0, 1), slice(1, 3), slice(3, 4))):
            block = w[:, rows, columns]
            if block.shape[1:] != (2, 2):
                expected[:, rows, columns] = same[i, j] * block
                continue
            a, b, c, d = block.flatten(1).T
            p, q = (a + d) / 2, (b - c) / 2
            commuting = torch.stack([p, q, -q, p], 1).view(-1, 2, 2)
            expected[:, rows, columns] = same[i, j] * commuting + opposite[i, j] * (block - commuting)
    torch.testing.assert_close(ours, expected, rtol=1e-14, atol=1e-14)
    # What `opposite` says elsewhere is ignored, whatever it is.
    opposite[1], opposite[:, 0], opposite[:, 2] = torch.nan, torch.inf, -torch.inf
    again = schur_scale(w, same, opposite, (2, 1, 2), (1, 2, 1), backend=backend)
    assert torch.equal(again, ours)


@pytest.mark.parametrize("backend", BACKENDS)
def test_values_that_are_not_finite_stay_in_their_block(backend: str) -> None:
    sizes = (1, 2, 2, 1)
    w = weights(6, 6)
    clean = schur_scale(w, *tables(sizes, sizes), sizes, sizes, backend=backend)
    blocks = ((0, 1), (1, 3), (3, 5), (5, 6))
    for bad in (torch.inf, torch.nan):
        corners = product(product(blocks, (0, -1)), product(blocks, (0, -1)))
        for ((r, r_end), low), ((c, c_end), right) in corners:
            spoilt = w.clone()
            spoilt[(r, r_end - 1)[low], (c, c_end - 1)[right]] = bad
            ours = schur_scale(spoilt, *tables(sizes, sizes), sizes, sizes, backend=backend)
            inside = torch.zeros(6, 6, dtype=torch.bool)
            inside[r:r_end, c:c_end] = True
            assert torch.equal(ours[~inside], clean[~inside])
            touched = inside & ~ours.isfinite()
            mixes = r_end - r == c_end - c == 2
            assert touched.sum() == (2 if mixes else 1)
    # Where the factors agree nothing mixes, and a factor of zero hides nothing.
    w[1, 1] = torch.inf
    assert torch.equal(schur_project(w, *[eigenvalues(sizes)] * 2, torch.inf, backend=backend), w)
    gone = schur_project(w, *[eigenvalues(sizes)] * 2, 0.0, backend=backend)
    assert gone.isnan().nonzero().tolist() == [[1, 1]]


def test_blocks_are_checked_once_and_told() -> None:
    blocks = schur_blocks(np.array([1.0, 2 - 1j, 2 + 1j, -3.0]))
    assert (blocks.sizes, blocks.size, blocks.largest) == ((1, 2, 1), 4, 3.0)
    assert repr(blocks) == "SchurBlocks(4 coordinates: 1 pairs, 2 single)"
    for values in (torch.tensor([1, -1]), torch.tensor([1.0, -1.0]).bfloat16(), np.array([1, -1])):
        assert schur_blocks(values).sizes == (1, 1)
    assert schur_blocks(torch.tensor([1j, -1j, 2]).conj()).modes[0].tolist() == [[0, -1], [0, 1], [2, 0]]
    assert schur_blocks(torch.zeros(0)).sizes == ()
