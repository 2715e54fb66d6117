"""Both backends on every dtype, layout, order of coordinates, size and number of threads."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from equikernels.ops import SchurBlocks, _native, backends, schur_blocks, schur_project, schur_scale
from equikernels.ops.schur import native
from tests.ops.schur.samples import (
    ARRANGEMENTS,
    BACKENDS,
    DTYPES,
    SPACED,
    close,
    eigenvalues,
    layouts,
    slab,
    spaced,
    weights,
)

# Around the widths of vectors, 4 to 16 numbers, and with pairs near and far.
SLABS = ((1, 0), (3, 1), (7, 0), (8, 5), (9, 0), (16, 0), (17, 1), (33, 5))


def blocks_of_all_kinds() -> list[SchurBlocks]:
    found = [schur_blocks(eigenvalues(sizes)) for sizes in ARRANGEMENTS]
    found += [schur_blocks(spaced(*arranged), arranged[1]) for arranged in SPACED]
    found.append(schur_blocks(spaced("0+" + "+0" * 8 + "-" + "-0" * 8, 17), 17))
    return found + [slab(pairs, single) for pairs, single in SLABS]


def some_tables(w: Tensor, out: SchurBlocks, inn: SchurBlocks) -> tuple[Tensor, Tensor]:
    tables = weights(2, len(out.sizes), len(inn.sizes), seed=3)
    # Equal factors, for which nothing mixes, beside others.
    tables[1, ::2, ::2] = tables[0, ::2, ::2]
    return tables[0], tables[1]


def assert_agrees(w: Tensor, out: SchurBlocks, inn: SchurBlocks) -> None:
    tables = some_tables(w, out, inn)
    for call in (
        lambda backend: schur_project(w, out, inn, 1.2, at_cutoff=0.5, backend=backend),
        lambda backend: schur_project(w, out, inn, 0.4, 0.8, backend=backend),
        lambda backend: schur_scale(w, *tables, out, inn, backend=backend),
    ):
        ours, expected = call("cpp"), call("reference")
        assert ours.dtype == w.dtype
        torch.testing.assert_close(ours, expected, **close(w.dtype))


def assert_inner_agrees(g: Tensor, w: Tensor, out: SchurBlocks, inn: SchurBlocks) -> None:
    """The derivative of the reference by its tables."""
    tables = [x.requires_grad_() for x in some_tables(w, out, inn)]
    value = schur_scale(w.double(), *tables, out, inn, backend="reference")
    expected = torch.autograd.grad((value * g.double()).sum(), tables)
    counts = len(out.sizes), len(inn.sizes)
    ours = native.inner(g[None], w[None], out.layout.places[0], inn.layout.places[0], *counts)
    for x, y in zip(ours, expected, strict=True):
        # Sums in float64, rounded once.
        rtol = 2**-24 if x.dtype == torch.float32 else 0
        torch.testing.assert_close(x[0].double(), y, rtol=rtol, atol=1e-12)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_order_and_dtype(dtype: torch.dtype) -> None:
    kinds = blocks_of_all_kinds()
    for number, out in enumerate(kinds):
        for inn in (kinds[(number * 7 + 3) % len(kinds)], kinds[-1 - number]):
            w = weights(2, 3, out.size, inn.size).to(dtype)
            assert_agrees(w, out, inn)
            assert_inner_agrees(w.flip(0), w, out, inn)


@pytest.mark.parametrize("isa", ["baseline", "avx2", "avx512"])
def test_every_instruction_set(isa: str) -> None:
    """The test above again, in a process for each: the set is chosen once per process."""
    if isa not in _native.supported_isas():
        pytest.skip(f"this CPU has no {isa}")
    environment = os.environ | {"EQUIKERNELS_ISA": isa, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-k",
        "every_order and not float16",
        __file__,
    ]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" in done.stdout


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layout", list(layouts(torch.zeros(1, 1, 1, 1))))
def test_layouts(layout: str, dtype: torch.dtype) -> None:
    for out, inn in (
        (schur_blocks(eigenvalues((2, 1, 2))), schur_blocks(eigenvalues((1, 2), 1))),
        (schur_blocks(eigenvalues((2,))), schur_blocks(eigenvalues((2,), 1))),
        (slab(9, 1), slab(17, 2)),
        (schur_blocks(eigenvalues((1, 2, 1))), slab(9, 0)),
    ):
        w = weights(3, 5, out.size, inn.size).to(dtype)
        strided = layouts(w)[layout]
        assert_agrees(strided, out, inn)
        assert_inner_agrees(w, strided, out, inn)
        assert_inner_agrees(strided, w, out, inn)
        assert_inner_agrees(strided, strided, out, inn)
        ours = schur_project(strided, out, inn, 1.0)
        assert ours.stride() == torch.empty_like(strided).stride()


@pytest.mark.parametrize("layout", ["contiguous", "view of a weight", "columns first", "part of a weight"])
def test_in_place(layout: str) -> None:
    for kind in (schur_blocks(eigenvalues((2, 1, 2, 2))), slab(9, 3), slab(33, 1)):
        for dtype in DTYPES:
            w = layouts(weights(3, 5, kind.size, kind.size).to(dtype))[layout]
            constants = (kind.layout.places[0],) * 2 + (kind.modes[0],) * 2
            expected = native.project(w, *constants, 0.4, 0.8, 0.0, 0.0)
            result = native.project(w, *constants, 0.4, 0.8, 0.0, 0.0, out=w)
            assert result is w
            assert torch.equal(w, expected)
            tables = [
                x[None].to(dtype if dtype == torch.float64 else torch.float32)
                for x in some_tables(w, kind, kind)
            ]
            expected = native.scale(w[None], *tables, *constants[:2])
            assert torch.equal(native.scale(w[None], *tables, *constants[:2], out=w[None])[0], expected[0])
            assert torch.equal(w, expected[0])


@pytest.mark.parametrize("dims", range(6))
@pytest.mark.parametrize("backend", BACKENDS)
def test_leading_dimensions(backend: str, dims: int) -> None:
    blocks = schur_blocks(eigenvalues((2, 1)))
    w = weights(*(2, 3, 2, 2, 3)[:dims], 3, 3)
    ours = schur_project(w, blocks, blocks, 1.0, backend=backend)
    each = [schur_project(x, blocks, blocks, 1.0, backend="reference") for x in w.reshape(-1, 3, 3)]
    torch.testing.assert_close(ours, torch.stack(each).view(w.shape), rtol=1e-14, atol=1e-14)
    mixed = w.permute(*reversed(range(dims)), dims, dims + 1)
    again = schur_project(mixed, blocks, blocks, 1.0, backend=backend)
    torch.testing.assert_close(again, ours.permute(*reversed(range(dims)), dims, dims + 1))


@pytest.mark.parametrize("shape", [(0, 3, 3), (2, 0, 3, 3), (2, 0, 3), (2, 3, 0), (0, 0)], ids=str)
@pytest.mark.parametrize("backend", BACKENDS)
def test_empty(backend: str, shape: tuple[int, ...]) -> None:
    sides = [schur_blocks(eigenvalues((2, 1) if size else ())) for size in shape[-2:]]
    w = weights(*shape).requires_grad_()
    assert schur_project(w, *sides, 1.0, backend=backend).shape == shape
    tables = [torch.ones(len(sides[0].sizes), len(sides[1].sizes), requires_grad=True) for _ in range(2)]
    out = schur_scale(w, *tables, *sides, backend=backend)
    assert out.shape == shape
    for grad, table in zip(torch.autograd.grad(out.sum(), tables), tables, strict=True):
        assert torch.equal(grad, torch.zeros_like(table))


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize(
    ("shape", "kind"),
    [
        ((64, 64), "++--0"),
        ((300, 200), "+-"),
        ((2, 3), "+" * 40 + "-" * 40 + "000"),
        ((1, 1), "+-" * 300 + "0"),
        # A line longer than one chunk: pairs that can be kept apart, and pairs that cannot.
        ((1, 2), "0" * 700 + "+-" * 500),
        ((1, 1), "0" * 100 + "+" * 600 + "-" * 600),
    ],
    ids=lambda value: str(value)[:24],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_threads_do_not_change_a_bit(shape: tuple[int, int], kind: str, dtype: torch.dtype) -> None:
    distance = kind.find("-") - kind.find("+")
    inn = schur_blocks(spaced(kind, distance), distance)
    out = schur_blocks(eigenvalues((2, 1, 2)))
    w, g = (weights(*shape, out.size, inn.size, seed=seed).to(dtype) for seed in (0, 1))
    tables = [x.to(torch.float32).requires_grad_() for x in some_tables(w, out, inn)]
    results = []
    for number in (1, 2, 3):
        torch.set_num_threads(number)
        scaled = schur_scale(w, *tables, out, inn)
        grads = torch.autograd.grad(scaled, tables, g)
        results.append((schur_project(w, out, inn, 0.5, 0.5), scaled, *grads))
    for other in results[1:]:
        for x, y in zip(results[0], other, strict=True):
            assert torch.equal(x, y)
    assert_agrees(w, out, inn)


def test_sums_are_exact() -> None:
    """What would drown in float32: a large product beside many small ones."""
    w = torch.full((4096, 2, 2), 2.0**-12)
    w[0] = 2.0**12
    one = torch.ones(1, 1, requires_grad=True)
    grad = torch.autograd.grad(schur_scale(w, one, one, (2,), (2,)).sum(), one)[0]
    expected = torch.autograd.grad(
        schur_scale(w.double(), one, one, (2,), (2,), backend="reference").sum(), one
    )[0]
    assert torch.equal(grad, expected)


def test_registered() -> None:
    for operation in ("schur_project", "schur_scale"):
        assert [record.name for record in backends.registered(operation)] == ["triton", "cpp", "reference"]
    with pytest.raises(backends.BackendError, match=r"cannot run schur_project on cpu.*cuda: not impl"):
        schur_project(torch.zeros(1, 1), torch.zeros(1), torch.zeros(1), 1.0, backend="cuda")
