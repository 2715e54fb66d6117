"""The Triton kernels of the Schur operations, see tests/ops/conftest.py for where they run."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from equikernels.ops import SchurBlocks, backends, schur_blocks, schur_project, schur_scale
from tests.ops.frames import FramedMemory
from tests.ops.schur.samples import (
    ARRANGEMENTS,
    DTYPES,
    SPACED,
    close,
    eigenvalues,
    layouts,
    slab,
    spaced,
    weights,
)

pytest.importorskip("triton")

from equikernels.ops.schur import triton_kernels as kernels

KINDS = [schur_blocks(eigenvalues(sizes)) for sizes in ARRANGEMENTS]
KINDS += [schur_blocks(spaced(*arranged), arranged[1]) for arranged in SPACED]


def assert_agrees(w: Tensor, out: SchurBlocks, inn: SchurBlocks, device: str) -> None:
    tables = weights(2, len(out.sizes), len(inn.sizes), seed=3)
    tables[1, ::2, ::2] = tables[0, ::2, ::2]
    for call in (
        lambda w, backend: schur_project(w, out, inn, 1.2, at_cutoff=0.5, backend=backend),
        lambda w, backend: schur_project(w, out, inn, 0.4, 0.8, backend=backend),
        lambda w, backend: schur_scale(w, *tables.to(w.device), out, inn, backend=backend),
    ):
        ours, expected = call(w.to(device), "triton"), call(w, "reference")
        assert ours.dtype == w.dtype
        torch.testing.assert_close(ours.cpu(), expected, **close(w.dtype))


def assert_sums_agree(g: Tensor, w: Tensor, out: SchurBlocks, inn: SchurBlocks, device: str) -> None:
    tables = weights(2, len(out.sizes), len(inn.sizes), seed=3)
    gradients = []
    for where, backend in ((device, "triton"), ("cpu", "reference")):
        given = [x.to(where).requires_grad_() for x in tables]
        values = w.to(where) if backend == "triton" else w.double()
        scaled = schur_scale(values, *given, out, inn, backend=backend)
        gradients.append(torch.autograd.grad(scaled, given, g.to(scaled)))
    for x, y in zip(*gradients, strict=True):
        # Sums in float64, rounded once.
        rtol = 0 if w.dtype == torch.float64 else 2**-24
        torch.testing.assert_close(x.cpu(), y, rtol=rtol, atol=1e-12)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_order_and_dtype(dtype: torch.dtype, device: str) -> None:
    for number, out in enumerate(KINDS):
        inn = KINDS[(number * 5 + 3) % len(KINDS)]
        w = weights(2, 3, out.size, inn.size).to(dtype)
        assert_agrees(w, out, inn, device)
        assert_sums_agree(w.flip(0), w, out, inn, device)


def test_several_tiles(device: str) -> None:
    """Sizes that no tile divides, in every dimension that tiles are counted in."""
    out, inn = slab(17, 3), slab(20, 1)
    assert_agrees(weights(2, 2, out.size, inn.size), out, inn, device)
    assert_sums_agree(
        weights(2, 2, out.size, inn.size, seed=1), weights(2, 2, out.size, inn.size), out, inn, device
    )
    # More matrices than one program sums, of a single pair of blocks.
    two = schur_blocks(eigenvalues((2,)))
    many = weights(45, 50, 2, 2)
    assert_sums_agree(many.flip(0), many, two, two, device)
    assert_agrees(many, two, two, device)


def test_outer_dimension_in_chunks(monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    monkeypatch.setattr(kernels, "_PROGRAMS", 2)
    blocks = schur_blocks(eigenvalues((2, 1)))
    assert_agrees(weights(7, 1, 3, 3), blocks, blocks, device)


@pytest.mark.parametrize("layout", list(layouts(torch.zeros(1, 1, 1, 1))))
def test_layouts(layout: str, device: str) -> None:
    out, inn = schur_blocks(eigenvalues((2, 1))), schur_blocks(spaced("0++--", 2), 2)
    w = weights(2, 3, out.size, inn.size, dtype=torch.float32)
    strided = layouts(w)[layout].to(device)
    assert_agrees(strided, out, inn, device)
    assert_sums_agree(w, strided, out, inn, device)
    assert_sums_agree(strided, w, out, inn, device)
    ours = schur_project(strided, out, inn, 1.0, backend="triton")
    assert ours.stride() == torch.empty_like(strided).stride()


def test_the_cutoff_is_compared_in_float64(device: str) -> None:
    values = torch.tensor([1j, -1j, 0], dtype=torch.complex128)
    w = torch.arange(1.0, 10.0, dtype=torch.float64).view(3, 3).to(device)
    shared = [[3, -1, 1.5], [1, 3, 3], [3.5, 4, 9]]
    for cutoff, expected in (
        (1 + 1e-10, shared),
        (1 - 1e-10, shared),
        (1 + 1e-8, [[3, -1, 3], [1, 3, 6], [7, 8, 9]]),
        (1 - 1e-8, [[3, -1, 0], [1, 3, 0], [0, 0, 9]]),
        (torch.inf, w.tolist()),
        (0.0, [[1.5, -0.5, 0], [0.5, 1.5, 0], [0, 0, 4.5]]),
    ):
        assert schur_project(w, values, values, cutoff, at_cutoff=0.5, backend="triton").tolist() == expected


def test_values_that_are_not_finite_stay_in_their_block(device: str) -> None:
    sizes = (1, 2, 2)
    tables = weights(2, 3, 3, seed=3)
    for bad in (torch.inf, torch.nan):
        for place in ((0, 0), (0, 2), (2, 0), (1, 1), (3, 4)):
            w = weights(5, 5)
            w[place] = bad
            ours = schur_scale(w.to(device), *tables.to(device), sizes, sizes, backend="triton").cpu()
            expected = schur_scale(w, *tables, sizes, sizes, backend="reference")
            torch.testing.assert_close(ours, expected, equal_nan=True)
            assert ours.isfinite().sum() == (25 - 2 if min(place) > 0 else 25 - 1)
    w[1, 1] = torch.inf
    kept = schur_project(w.to(device), *[eigenvalues(sizes)] * 2, torch.inf, backend="triton").cpu()
    assert torch.equal(kept.nan_to_num(0, 1, -1), w.nan_to_num(0, 1, -1))


@pytest.mark.parametrize("shape", [(0, 3, 3), (2, 0, 3, 3), (2, 0, 3), (2, 3, 0)], ids=str)
def test_empty(shape: tuple[int, ...], device: str) -> None:
    sides = [schur_blocks(eigenvalues((2, 1) if size else ())) for size in shape[-2:]]
    w = weights(*shape).to(device)
    assert schur_project(w, *sides, 1.0, backend="triton").shape == shape


def test_gradients(device: str) -> None:
    sides = schur_blocks(eigenvalues((2,))), schur_blocks(eigenvalues((1, 2), 1))
    w = weights(2, 3).to(device).requires_grad_()
    numbers = [torch.tensor(x, dtype=torch.float64, device=device, requires_grad=True) for x in (0.7, 1.3)]
    assert gradcheck(
        lambda *x: schur_project(x[0], *sides, *x[1:], backend="triton"), (w, *numbers), check_forward_ad=True
    )


def test_groups_under_vmap(device: str) -> None:
    tables, w = weights(3, 2, 2, 2, seed=3).to(device), weights(3, 2, 3, 3).to(device)
    many = torch.vmap(lambda w, t: schur_scale(w, *t, (2, 1), (1, 2), backend="triton"))(w, tables)
    for n in range(3):
        one = schur_scale(w[n].cpu(), *tables[n].cpu(), (2, 1), (1, 2), backend="reference")
        torch.testing.assert_close(many[n].cpu(), one)


def test_results_are_framed(frames: FramedMemory, device: str) -> None:
    schur_project(torch.zeros(2, 2, device=device), *[torch.zeros(2)] * 2, 1.0, backend="triton")
    assert len(frames.buffers) == 1


@pytest.mark.parametrize("operation", ["schur_project", "schur_scale"])
def test_chosen_for_gpus_and_by_name_for_the_interpreter(operation: str, device: str) -> None:
    assert backends.choose(operation, device, "triton") == "triton"
    assert (backends.choose(operation, device) == "triton") == (device == "cuda")
