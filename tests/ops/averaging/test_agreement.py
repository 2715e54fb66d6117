"""Every backend against the plain sum, on every kind of group, dtype, layout, size and number of threads."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from equikernels.group import CyclicGroup, DihedralGroup, pixel_grid
from equikernels.ops import _native, backends, group_average
from equikernels.ops.averaging import IndexMaps, group_correlate, native
from tests.ops.averaging.samples import BACKENDS, MAPS, case, plain_sum, sources

# Units of rounding of the result's largest entries that sums of at most 64 terms may differ by.
ULPS = 64


def tolerance(dtype: torch.dtype, expected: Tensor) -> float:
    compute = torch.float64 if dtype == torch.float64 else torch.float32
    largest = float(expected.abs().max()) if expected.numel() else 0.0
    # Half precisions round the result once more.
    return largest * (ULPS * torch.finfo(compute).eps + torch.finfo(dtype).eps) + 1e-7 * (
        dtype == torch.float16
    )


def plain_overlaps(g: Tensor, w: Tensor, maps: tuple[Tensor, Tensor]) -> Tensor:
    terms = [w.double()[..., out[:, None], inn[None, :]] for out, inn in zip(*maps, strict=True)]
    return torch.stack([(g.double() * term).sum() for term in terms])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", MAPS)
def test_every_group(name: str, backend: str, dtype: torch.dtype) -> None:
    w, weights, maps = case(name, (3, 5), dtype)
    expected = plain_sum(w, weights, MAPS[name])
    ours = group_average(w, maps, weights, backend=backend)
    assert ours.dtype == dtype
    torch.testing.assert_close(ours.double(), expected, rtol=0, atol=tolerance(dtype, expected))
    g = case(name, (3, 5), dtype, seed=1)[0]
    overlaps, norms = plain_overlaps(g, w, MAPS[name]), float(g.double().norm() * w.double().norm())
    ours = group_correlate(g, w, maps, backend=backend)
    assert ours.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    torch.testing.assert_close(ours.double(), overlaps, rtol=0, atol=4 * norms * torch.finfo(ours.dtype).eps)


@pytest.mark.parametrize("group", [CyclicGroup(4), DihedralGroup(4), CyclicGroup(2)], ids=repr)
def test_agrees_with_matrices_of_the_representation(group: CyclicGroup | DihedralGroup) -> None:
    rep_out, rep_in = group.regular(), pixel_grid(3, group)
    maps = IndexMaps(sources(rep_out), sources(rep_in))
    w, weights = (
        torch.randn(2, *maps.shape, dtype=torch.float64),
        torch.randn(maps.order, dtype=torch.float64),
    )
    terms = zip(weights, group.elements(), strict=True)
    expected = sum(c * (rep_out(g) @ w @ rep_in(g).mT) for c, g in terms)
    torch.testing.assert_close(group_average(w, maps, weights), expected, rtol=0, atol=1e-13)


def layouts(w: Tensor) -> dict[str, Tensor]:
    """The same blocks (a, b, m, n) in other memory."""
    return {
        "contiguous": w,
        "channel-major weight": w.transpose(1, 2).contiguous().transpose(1, 2),
        "transposed blocks": w.mT.contiguous().mT,
        "transposed weight": w.permute(1, 3, 0, 2).contiguous().permute(2, 0, 3, 1),
        "entries outermost": w.permute(2, 3, 0, 1).contiguous().permute(2, 3, 0, 1),
        "every second column": torch.stack([w, w], -1).flatten(-2)[..., ::2],
        "reversed order of leading dimensions": w.transpose(0, 1).contiguous().transpose(0, 1),
        "cut out": torch.nn.functional.pad(w, (1, 2, 3, 1))[..., 3:-1, 1:-2],
        "negated lazily": torch.complex(torch.zeros_like(w), -w).conj().imag,
    }


@pytest.mark.parametrize("layout", layouts(torch.zeros(1, 1, 1, 1)))
@pytest.mark.parametrize("name", ["C_4 grid to regular", "D_4 7x7", "cube", "D_4 trivial on rows", "S_3"])
def test_layouts(name: str, layout: str) -> None:
    # 40 channels of few columns make a tile and a part of one.
    w, weights, maps = case(name, (3, 40 if name == "S_3" else 7), torch.float64)
    strided = layouts(w)[layout]
    assert torch.equal(strided, w)
    ours, expected = group_average(strided, maps, weights, backend="cpp"), plain_sum(w, weights, MAPS[name])
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-12)
    assert ours.stride() == torch.empty_like(strided).stride()
    # The other factor lies in another way.
    g = torch.randn_like(w)
    overlaps = plain_overlaps(g, w, MAPS[name])
    for left, right in ((g, strided), (layouts(g)[layout], w)):
        ours = group_correlate(left, right, maps, backend="cpp")
        torch.testing.assert_close(ours, overlaps, rtol=0, atol=1e-14 * float(g.norm() * w.norm()))


sizes = st.tuples(*(st.integers(1, 6) for _ in range(3)))


@given(sizes, st.permutations(range(5)), st.sampled_from(["S_3", "C_4 3x3", "C_4 grid to regular"]))
def test_any_order_of_dimensions(lead: tuple[int, int, int], order: list[int], name: str) -> None:
    w, weights, maps = case(name, lead, torch.float64)
    memory = w.permute(order).contiguous().permute([order.index(axis) for axis in range(5)])
    ours = group_average(memory, maps, weights, backend="cpp")
    torch.testing.assert_close(ours, plain_sum(w, weights, MAPS[name]), rtol=0, atol=1e-12)
    overlaps = group_correlate(w + 1, memory, maps, backend="cpp")
    torch.testing.assert_close(overlaps, plain_overlaps(w + 1, w, MAPS[name]), rtol=0, atol=1e-10)


@pytest.mark.parametrize("layout", ["contiguous", "entries outermost", "every second column"])
def test_blocks_beyond_the_reach_of_offsets(layout: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are copied; the result still keeps the layout of a dense weight."""
    w, weights, maps = case("C_4 4x4", (2, 3), torch.float64)
    strided = layouts(w)[layout]
    expected = group_average(w, maps, weights), group_correlate(w, w, maps)
    monkeypatch.setattr(native, "_REACH", 1)
    ours = group_average(strided, maps, weights, backend="cpp")
    assert ours.stride() == torch.empty_like(strided).stride()
    torch.testing.assert_close(ours, expected[0], rtol=0, atol=1e-13)
    overlaps = group_correlate(strided, strided, maps, backend="cpp")
    torch.testing.assert_close(overlaps, expected[1], rtol=1e-13, atol=1e-11)


@pytest.mark.parametrize("lead", [(), (1,), (0,), (4, 0, 2), (2, 3, 4, 5), (300,)], ids=str)
@pytest.mark.parametrize("backend", BACKENDS)
def test_leading_dimensions(backend: str, lead: tuple[int, ...]) -> None:
    w, weights, maps = case("S_3", lead, torch.float64)
    for blocks in (w, w.movedim(0, -1).contiguous().movedim(-1, 0)):
        ours = group_average(blocks, maps, weights, backend=backend)
        torch.testing.assert_close(ours, plain_sum(w, weights, MAPS["S_3"]), rtol=0, atol=1e-13)
        overlaps = group_correlate(blocks, w, maps, backend=backend)
        torch.testing.assert_close(overlaps, plain_overlaps(w, w, MAPS["S_3"]), rtol=1e-13, atol=1e-12)


def test_blocks_without_entries() -> None:
    maps = IndexMaps(torch.zeros(2, 0, dtype=torch.int64), torch.arange(3).expand(2, 3))
    assert group_average(torch.zeros(4, 0, 3), maps, torch.ones(2)).shape == (4, 0, 3)
    assert group_correlate(torch.zeros(4, 0, 3), torch.zeros(4, 0, 3), maps).tolist() == [0, 0]


def test_expanded_blocks() -> None:
    one, weights, maps = case("C_4 4x4", (1, 1), torch.float64)
    w = one.expand(3, 5, *maps.shape)
    expected = plain_sum(w, weights, MAPS["C_4 4x4"])
    torch.testing.assert_close(group_average(w, maps, weights, backend="cpp"), expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_into_given_memory(dtype: torch.dtype) -> None:
    """Result memory with strides of its own, between values that stay."""
    name = "D_4 4x4"
    w, weights, maps = case(name, (3, 5), dtype)
    compute = torch.float64 if dtype == torch.float64 else torch.float32
    for layout in ("channel-major weight", "every second column", "transposed blocks", "cut out"):
        memory = layouts(torch.full(w.shape, 7.0, dtype=torch.float64))[layout].to(dtype)
        base = torch.full((memory.untyped_storage().nbytes() // dtype.itemsize + 99,), 7.0, dtype=dtype)
        out = base.as_strided(memory.shape, memory.stride(), 33)
        native.average_into(out[None], w[None], weights[None].to(compute), *maps.on(w.device))
        # Transposed blocks are summed in another order.
        expected = plain_sum(w, weights, MAPS[name])
        torch.testing.assert_close(out.double(), expected, rtol=0, atol=tolerance(dtype, expected))
        untouched = torch.ones_like(base, dtype=torch.bool)
        untouched.as_strided(out.shape, out.stride(), 33).fill_(False)
        assert (base[untouched] == 7).all()


@pytest.mark.parametrize("name", ["C_4 7x7", "D_4 4x4", "D_4 regular", "cube"])
def test_weights_of_zero(name: str) -> None:
    w, weights, maps = case(name, (2, 3), torch.float64)
    for kept in ([0], [1], [maps.order - 1, 2], []):
        sparse = torch.zeros_like(weights)
        sparse[kept] = weights[kept]
        ours = group_average(w, maps, sparse, backend="cpp")
        torch.testing.assert_close(ours, plain_sum(w, sparse, MAPS[name]), rtol=0, atol=1e-13)


def test_one_element_moves_without_rounding() -> None:
    w, _, maps = case("D_4 7x7", (2, 3), torch.float32)
    for g, one in enumerate(torch.eye(8)):
        out, inn = (x[g] for x in MAPS["D_4 7x7"])
        assert torch.equal(group_average(w, maps, one, backend="cpp"), w[..., out[:, None], inn])


@pytest.mark.parametrize("isa", ["baseline", "avx2", "avx512"])
def test_every_instruction_set(isa: str) -> None:
    """The first test again, in a process for each: the set is chosen once per process."""
    if isa not in _native.supported_isas():
        pytest.skip(f"this CPU has no {isa}")
    environment = os.environ | {"EQUIKERNELS_ISA": isa, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    tests = "(every_group and cpp) or given_memory"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", tests, __file__]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" in done.stdout


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize(
    ("name", "lead"),
    [
        ("D_4 7x7", (16, 16)),
        ("D_4 regular", (64, 64)),
        ("D_4 trivial on rows", (1, 5000)),
        ("D_4 trivial on columns", (2, 900)),
        ("cube", (20, 20)),
    ],
    ids=str,
)
def test_threads_do_not_change_a_bit(name: str, lead: tuple[int, int]) -> None:
    w, weights, maps = case(name, lead, torch.float32)
    results = []
    for number in (1, 2, 3, 7):
        torch.set_num_threads(number)
        results.append((group_average(w, maps, weights), group_correlate(w, w + 1, maps)))
    for average, overlaps in results[1:]:
        assert torch.equal(average, results[0][0])
        assert torch.equal(overlaps, results[0][1])


def test_registered() -> None:
    for operation in ("group_average", "group_correlate"):
        assert [record.name for record in backends.registered(operation)] == ["triton", "cpp", "reference"]
    w, weights, maps = case("S_3", (2,), torch.float32)
    with pytest.raises(backends.BackendError, match=r"cannot run group_average on cpu.*cuda: not impl"):
        group_average(w, maps, weights, backend="cuda")
