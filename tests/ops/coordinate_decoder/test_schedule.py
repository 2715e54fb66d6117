"""Tiles, threads and memory: every pixel once, the same bits for every number of threads, little memory."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from bench.devices import peak_mb
from equikernels.ops import threads as pieces
from equikernels.ops.coordinate_decoder.schedule import (
    IN_CACHES,
    IN_MEMORY,
    Schedule,
    Tile,
    make_plan,
    run_groups,
)
from tests.ops.coordinate_decoder.samples import make_case, spread

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def number_of_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@given(
    batch=st.integers(0, 200),
    rows=st.integers(0, 60),
    width=st.integers(1, 60),
    row_bytes=st.integers(4, 10**6),
    aligned=st.booleans(),
    how=st.sampled_from([IN_CACHES, IN_MEMORY, IN_MEMORY._replace(tile_bytes=2**16)]),
)
def test_every_pixel_is_in_one_tile(
    batch: int, rows: int, width: int, row_bytes: int, aligned: bool, how: Schedule
) -> None:
    pixels, granule = rows * width, width if aligned else 1
    plan = make_plan(batch, pixels, row_bytes, granule, how)
    seen: Counter[int] = Counter()
    for tile in (tile for group in plan.groups for tile in group):
        images, count = tile.images.stop - tile.images.start, tile.pixels.stop - tile.pixels.start
        assert images > 0
        assert count > 0
        assert images * count <= plan.rows
        assert plan.parts[tile.part] == tile.pixels
        assert tile.pixels.start % granule == 0
        assert images == 1 or len(plan.parts) == 1
        for image in range(tile.images.start, tile.images.stop):
            seen.update(range(image * len(plan.parts) + tile.part, image * len(plan.parts) + tile.part + 1))
    assert seen == Counter(range(batch * len(plan.parts)))
    assert [part.start for part in plan.parts[1:]] == [part.stop for part in plan.parts[:-1]]
    assert not plan.parts or (plan.parts[0].start, plan.parts[-1].stop) == (0, pixels)
    assert len(plan.groups) <= how.max_groups
    # Large enough to be fast, small enough for the caches, up to a whole row of a grid.
    assert plan.rows <= max(how.min_rows, how.tile_bytes // row_bytes) + granule


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(("batch", "size"), [(37, (11, 13)), (2, (60, 50))], ids=str)
def test_the_same_bits_for_every_number_of_threads(
    batch: int, size: tuple[int, int], dtype: torch.dtype
) -> None:
    case = make_case(batch, size, units=33, layers=2, dtype=dtype)
    expected: list[Tensor] | None = None
    for threads in (1, 2, 3, 7):
        torch.set_num_threads(threads)
        values, likelihood = case.values(), case.log_likelihood()
        assert torch.get_num_threads() == threads
        found = [values, likelihood]
        found += case.gradients(values, spread(values)).values()
        found += case.gradients(likelihood, torch.ones_like(likelihood)).values()
        if expected is None:
            expected = found
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def groups_of(count: int) -> list[list[Tile]]:
    return [[Tile(slice(k, k + 1), 0, slice(0, 1))] for k in range(count)]


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_sums_are_taken_in_order(threads: int) -> None:
    torch.set_num_threads(threads)
    total = torch.zeros(1)
    # In float32 this sum depends on its order: the ones are lost next to 1e8, and kept after it.
    terms = torch.tensor([1.0] * 7 + [1e8] + [-1e8] + [1.0] * 5)

    def work(tiles: list[Tile], partial: Tensor, workspace: list[Tensor]) -> None:
        assert torch.get_num_threads() == 1
        assert not torch.is_grad_enabled()
        partial += terms[tiles[0].images]

    run_groups(groups_of(len(terms)), work, lambda: [torch.zeros(1)], total)
    expected = torch.zeros(1)
    for term in terms:
        expected += term
    assert torch.equal(total, expected)
    assert torch.get_num_threads() == threads


def test_a_workspace_belongs_to_one_thread_at_a_time() -> None:
    torch.set_num_threads(4)
    total = torch.zeros(1)

    def work(tiles: list[Tile], partial: Tensor, workspace: list[Tensor]) -> None:
        assert float(workspace[0]) == 0
        for _ in range(50):
            workspace[0] += 1
        assert float(workspace[0]) == 50
        workspace[0].zero_()
        partial += 1

    run_groups(groups_of(60), work, lambda: [torch.zeros(1)], total)
    assert float(total) == 60


@pytest.mark.parametrize("threads", [1, 3])
def test_an_error_in_a_thread_ends_the_call(threads: int) -> None:
    torch.set_num_threads(threads)

    def work(tiles: list[Tile], partial: Tensor, workspace: list[Tensor]) -> None:
        if tiles[0].images.start == 4:
            raise RuntimeError("tile 4")

    running = threading.active_count()
    with pytest.raises(RuntimeError, match="tile 4"):
        run_groups(groups_of(20), work, lambda: [], torch.zeros(1))
    assert torch.get_num_threads() == threads
    assert threading.active_count() == running


def test_calls_from_several_threads() -> None:
    torch.set_num_threads(2)
    cases = [make_case(9, (9, 9), units=20, seed=seed) for seed in range(4)]
    expected = [case.log_likelihood(backend="reference") for case in cases]
    found: list[Tensor | None] = [None] * len(cases)

    def call(k: int) -> None:
        found[k] = cases[k].log_likelihood()

    callers = [threading.Thread(target=call, args=(k,)) for k in range(len(cases))]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    assert torch.get_num_threads() == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def fork_while_another_thread_computes() -> int:
    """The exit code of a child that computes although it was forked in the middle of a computation."""
    torch.set_num_threads(1)
    case = make_case()
    expected = case.log_likelihood().detach()
    with pieces._turn:
        holder: list[int] = []

        def fork() -> None:
            child = os.fork()
            if child == 0:
                signal.alarm(30)  # ends a child that waits
                same = torch.equal(case.log_likelihood().detach(), expected)
                os._exit(0 if same else 1)
            holder.append(child)

        thread = threading.Thread(target=fork)
        thread.start()
        thread.join()
    _, status = os.waitpid(holder[0], 0)
    return os.waitstatus_to_exitcode(status)


def test_a_child_forked_while_another_thread_computes() -> None:
    """It does not wait for a lock whose owner it does not have.

    In a process of its own: a child that is forked from a thread drops what the main thread held, and would
    wait for ever in the destructor of another test's process group.
    """
    code = f"from {__name__} import {fork_while_another_thread_computes.__name__} as f; raise SystemExit(f())"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120, cwd=REPOSITORY)


@pytest.mark.parametrize("form", ["values", "log_likelihood"])
@pytest.mark.parametrize("mask", [None, "disc"])
def test_nothing_of_the_size_of_all_hidden_units_is_in_memory(mask: str | None, form: str) -> None:
    torch.set_num_threads(1)
    batch, size, units = 200, 28, 64
    case = make_case(batch, (size, size), units=units, dtype=torch.float32)

    def step() -> object:
        out = getattr(case, form)(mask=mask)
        return case.gradients(out, torch.ones_like(out))

    one_tensor = batch * size**2 * units * 4 / 1e6
    assert peak_mb(step, "cpu") < one_tensor / 2
