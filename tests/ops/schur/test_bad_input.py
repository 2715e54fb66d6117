"""What is refused, and how the error names it."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch

from equikernels.ops import schur_blocks, schur_project, schur_scale
from tests.ops.schur.samples import BACKENDS

W = torch.zeros(2, 3, 3)
BLOCKS = schur_blocks(torch.tensor([1j, -1j, 0]))
TABLE = torch.ones(2, 2)


def refuses(kind: type[Exception], words: str) -> Any:
    return pytest.raises(kind, match="^" + re.escape(words))


@pytest.mark.parametrize(
    ("values", "kind", "words"),
    [
        ([1.0], TypeError, "eigenvalues: expected a tensor or an array, got list"),
        (np.array(["1"]), TypeError, "eigenvalues: expected real or complex numbers, got <U1"),
        (np.array([True]), TypeError, "eigenvalues: expected real or complex numbers, got bool"),
        (torch.ones(1, 1), ValueError, "eigenvalues: expected shape (m,), got (1, 1)"),
        (torch.tensor([1.0, torch.nan]), ValueError, "eigenvalues: expected finite numbers, got (nan"),
        (np.array([np.inf]), ValueError, "eigenvalues: expected finite numbers, got (inf"),
        (np.array([1e151]), ValueError, "eigenvalues: expected moduli up to 1e+150, got 1e+151"),
        (torch.ones(2, requires_grad=True), ValueError, "eigenvalues: expected constants"),
        (
            np.array([1j, 1.0]),
            ValueError,
            "eigenvalues: expected the conjugate of entry 0, 1j, at entry 1, got (1+0j)",
        ),
        (np.array([1j, 1j]), ValueError, "eigenvalues: expected the conjugate of entry 0, 1j, at entry 1"),
        (
            np.array([1.0, 1j]),
            ValueError,
            "eigenvalues: expected the conjugate of entry 1, 1j, at entry 2, got 2 entries",
        ),
        # Nearly is not exactly.
        (np.array([1 + 1j, 1 + 1e-15 - 1j]), ValueError, "eigenvalues: expected the conjugate of entry 0"),
    ],
)
def test_eigenvalues(values: Any, kind: type[Exception], words: str) -> None:
    with refuses(kind, words):
        schur_blocks(values)
    for name, sides in (("eigenvalues_out", (values, BLOCKS)), ("eigenvalues_in", (BLOCKS, values))):
        with refuses(kind, words.replace("eigenvalues", name, 1)):
            schur_project(W, *sides, 1.0)


def test_distances() -> None:
    values = np.array([1j, 2j, -1j, -2j])
    assert schur_blocks(values, np.int64(2)).sizes == (2, 2)
    for distance, words in (
        (1, "expected the conjugate of entry 0, 1j, at entry 1, got 2j"),
        (3, "expected the conjugate of entry 0, 1j, at entry 3, got"),
        (4, "expected the conjugate of entry 0, 1j, at entry 4, got 4 entries"),
    ):
        with refuses(ValueError, f"eigenvalues: {words}"):
            schur_blocks(values, distance)
    # A conjugate belongs to one pair only.
    with refuses(ValueError, "eigenvalues: expected the conjugate of entry 2, 1j, at entry 3, got 3 entries"):
        schur_blocks(np.array([1j, -1j, 1j]))
    with refuses(ValueError, "distance: expected at least 1, got 0"):
        schur_blocks(values, 0)
    for wrong in (2.0, True):
        with refuses(TypeError, f"distance: expected an integer, got {type(wrong).__name__}"):
            schur_blocks(values, wrong)


@pytest.mark.parametrize("backend", BACKENDS)
def test_weights(backend: str) -> None:
    for w, kind, words in (
        (np.zeros((3, 3)), TypeError, "w: expected a tensor, got ndarray"),
        (W.int(), TypeError, "w: expected float32, float64, bfloat16 or float16, got torch.int32"),
        (W.cfloat(), TypeError, "w: expected float32, float64, bfloat16 or float16, got torch.complex64"),
        (W.to_sparse(), TypeError, "w: expected a dense tensor, got torch.sparse_coo"),
        (W[0, 0], ValueError, "w: expected at least 2 dimensions (..., m, n), got 1: (3,)"),
    ):
        with refuses(kind, words):
            schur_project(w, BLOCKS, BLOCKS, 1.0, backend=backend)
        with refuses(kind, words):
            schur_scale(w, TABLE, TABLE, (2, 1), (1, 2), backend=backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_sides(backend: str) -> None:
    with refuses(ValueError, "eigenvalues_out: expected 2 coordinates, the rows of w, got 3"):
        schur_project(W[:, :2], BLOCKS, BLOCKS, 1.0, backend=backend)
    with refuses(ValueError, "eigenvalues_in: expected 2 coordinates, the columns of w, got 3"):
        schur_project(W[..., :2], BLOCKS, BLOCKS, 1.0, backend=backend)
    for sizes, kind, words in (
        ((2, 2), ValueError, "expected 3 coordinates, the {} of w, got 4"),
        ((3,), ValueError, "expected sizes 1 and 2, got 3"),
        ((2, True), ValueError, "expected sizes 1 and 2, got True"),
        (("1",), ValueError, "expected sizes 1 and 2, got '1'"),
        ("21", TypeError, "expected SchurBlocks or a sequence of sizes, got str"),
        (3, TypeError, "expected SchurBlocks or a sequence of sizes, got int"),
    ):
        with refuses(kind, "blocks_out: " + words.format("rows")):
            schur_scale(W, TABLE, TABLE, sizes, (2, 1), backend=backend)
        with refuses(kind, "blocks_in: " + words.format("columns")):
            schur_scale(W, TABLE, TABLE, BLOCKS, sizes, backend=backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_response(backend: str) -> None:
    for keywords, kind, words in (
        ({"cutoff": -0.1}, ValueError, "cutoff: expected a number >= 0, got -0.1"),
        ({"cutoff": torch.nan}, ValueError, "cutoff: expected a number >= 0, got nan"),
        ({"cutoff": torch.tensor(-1.0)}, ValueError, "cutoff: expected a number >= 0, got -1.0"),
        ({"cutoff": torch.tensor(1)}, TypeError, "cutoff: expected a floating dtype, got torch.int64"),
        (
            {"cutoff": torch.ones(1)},
            ValueError,
            "cutoff: expected a tensor without dimensions, got shape (1,)",
        ),
        (
            {"cutoff": torch.tensor(1.0, device="meta")},
            ValueError,
            "cutoff: expected on the device of w, cpu, got meta",
        ),
        ({"cutoff": "1"}, TypeError, "cutoff: expected a number or a tensor, got str"),
        ({"cutoff": True}, TypeError, "cutoff: expected a number or a tensor, got bool"),
        (
            {"cutoff": torch.tensor(1.0, requires_grad=True)},
            ValueError,
            "cutoff: a hard cut-off has no gradient",
        ),
        ({"cutoff": 1.0, "width": 0.0}, ValueError, "width: expected None or a number > 0, got 0.0"),
        ({"cutoff": 1.0, "width": -1}, ValueError, "width: expected None or a number > 0, got -1"),
        ({"cutoff": 1.0, "width": torch.nan}, ValueError, "width: expected None or a number > 0, got nan"),
        (
            {"cutoff": 1.0, "width": torch.tensor(0.0)},
            ValueError,
            "width: expected None or a number > 0, got 0.0",
        ),
        ({"cutoff": 1.0, "at_cutoff": 1.1}, ValueError, "at_cutoff: expected a number in [0, 1], got 1.1"),
        ({"cutoff": 1.0, "at_cutoff": torch.ones(())}, TypeError, "at_cutoff: expected a number, got Tensor"),
        (
            {"cutoff": 1.0, "tolerance": -1e-9},
            ValueError,
            "tolerance: expected a finite number >= 0, got -1e-09",
        ),
        (
            {"cutoff": 1.0, "tolerance": torch.inf},
            ValueError,
            "tolerance: expected a finite number >= 0, got inf",
        ),
        (
            {"cutoff": 1.0, "width": 1.0, "at_cutoff": 0.5},
            ValueError,
            "at_cutoff: expected to be left alone beside a width, got at_cutoff=0.5",
        ),
        (
            {"cutoff": 1.0, "width": 1.0, "tolerance": 0.0},
            ValueError,
            "tolerance: expected to be left alone beside a width, got tolerance=0.0",
        ),
    ):
        with refuses(kind, words):
            schur_project(W, BLOCKS, BLOCKS, **keywords, backend=backend)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["same", "opposite"])
def test_tables(name: str, backend: str) -> None:
    for table, kind, words in (
        ([[1.0]], TypeError, "expected a tensor, got list"),
        (TABLE.int(), TypeError, "expected a floating dtype, got torch.int32"),
        (TABLE.to("meta"), ValueError, "expected on the device of w, cpu, got meta"),
        (TABLE[:1], ValueError, "expected shape (2, 2), one factor per pair of blocks, got (1, 2)"),
        (TABLE[None], ValueError, "expected shape (2, 2), one factor per pair of blocks, got (1, 2, 2)"),
        (torch.ones(()), ValueError, "expected shape (2, 2), one factor per pair of blocks, got ()"),
    ):
        tables = {"same": TABLE, "opposite": TABLE} | {name: table}
        with refuses(kind, f"{name}: {words}"):
            schur_scale(W, **tables, blocks_out=BLOCKS, blocks_in=(1, 2), backend=backend)


def test_eigenvalues_in_a_traced_function_are_refused() -> None:
    """Their values decide about blocks, and are not known there."""
    compiled = torch.compile(
        lambda w, values: schur_project(w, values, BLOCKS, 1.0), fullgraph=True, backend="eager"
    )
    with pytest.raises(Exception, match="schur_blocks"):
        compiled(W, torch.zeros(3))
