"""Both back ends on every dtype, layout, size and number of threads: bits are moved, none is changed."""

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

from equikernels.ops import _native, backends
from tests.ops.permutation.samples import BACKENDS, DTYPES, FORMATS, OPERATIONS, bits, move, random_values

MOVED = ("uint8", "int16", "int32", "int64", "complex128")


def expected(z: Tensor, operation: str, g: Tensor) -> Tensor:
    return torch.stack([move(x, operation, int(n)) for x, n in zip(z, g, strict=True)])


@pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental")
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_dtype(operation: str, dtype: torch.dtype, backend: str) -> None:
    function, count, axes = OPERATIONS[operation]
    g = torch.arange(count)
    # 17 is one more than the widest block of a transpose, 3 is less than the narrowest but one.
    for size in (3, 17):
        z = random_values((count, 2, *(size,) * axes), dtype)
        ours = function(z, g, backend=backend)
        assert ours.dtype == dtype
        # Bytes are moved by the operation that other tests compare with torch.
        for byte in range(dtype.itemsize):
            plane = bits(z)[..., byte]
            assert torch.equal(bits(ours)[..., byte], expected(plane, operation, g))


@pytest.mark.parametrize("name", MOVED)
@pytest.mark.parametrize("operation", ["rot90", "dihedral_rotate"])
def test_every_size(operation: str, name: str) -> None:
    function, count, _ = OPERATIONS[operation]
    dtype = getattr(torch, name)
    g = torch.arange(count)
    # Up to the widest row of blocks, 64 bytes, and beyond two of them.
    for size in (*range(1, 66), 127, 129, 161):
        z = torch.randint(100, (count, 1, size, size)).to(dtype)
        assert torch.equal(function(z, g, backend="cpp"), expected(z, operation, g)), size


@pytest.mark.parametrize("name", MOVED)
def test_every_size_of_many_small_planes(name: str) -> None:
    """Planes that a few registers hold, as many as latents have channels, of every shape up to 12 x 12."""
    dtype = getattr(torch, name)
    for height in range(1, 13):
        for width in range(1, 13):
            # Values that differ in their high and low bytes, and no two of a plane alike.
            numbers = torch.arange(9 * height * width).view(1, 9, height, width)
            z = (numbers * (1 if name == "uint8" else 129)).to(dtype).expand(4, -1, -1, -1)
            for turns in (torch.tensor([0, 2, 2, 0]), torch.tensor([1, 3, 1, 3])):
                ours = OPERATIONS["rot90"][0](z, turns, backend="cpp")
                assert torch.equal(ours, expected(z, "rot90", turns)), (height, width)
            if height == width:
                g = torch.arange(8)
                eight = torch.cat([z, z])
                ours = OPERATIONS["dihedral_rotate"][0](eight, g, backend="cpp")
                assert torch.equal(ours, expected(eight, "dihedral_rotate", g)), height


@pytest.mark.parametrize("shape", [(8, 3, 256, 256), (8, 3, 272, 272), (8, 3, 267, 267)], ids=str)
@pytest.mark.parametrize("name", MOVED)
def test_every_size_of_large_results(name: str, shape: tuple[int, ...]) -> None:
    """Results beyond 12 MiB are written past the caches where their rows are whole lines."""
    dtype = getattr(torch, name)
    batch, channels, height, width = shape
    channels = max(channels, -(-(13 << 20) // (batch * height * width * dtype.itemsize)))
    z = torch.randint(100, (batch, channels, height, width)).to(dtype)
    assert z.nbytes > 12 << 20
    g = torch.arange(batch)
    # Strides of the input that are no whole lines, and a start in the middle of one.
    inner = torch.nn.functional.pad(z, (1, 2))[..., 1:-2]
    for images in (z, inner):
        ours = OPERATIONS["dihedral_rotate"][0](images, g, backend="cpp")
        assert torch.equal(ours, expected(z, "dihedral_rotate", g))


def test_every_size_of_large_cubes() -> None:
    z = torch.randn(24, 1, 64, 64, 64)
    assert z.nbytes > 12 << 20
    g = torch.arange(24)
    ours = OPERATIONS["cube_rotate"][0](z, g, backend="cpp")
    assert torch.equal(ours, expected(z, "cube_rotate", g))


@pytest.mark.parametrize("isa", ["baseline", "avx2", "avx512"])
def test_every_instruction_set(isa: str) -> None:
    """The sizes above again, in a process for each: the set is chosen once per process."""
    if isa not in _native.supported_isas():
        pytest.skip(f"this CPU has no {isa}")
    environment = os.environ | {"EQUIKERNELS_ISA": isa, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "every_size", __file__]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" in done.stdout


@pytest.mark.parametrize("name", MOVED)
def test_every_size_of_cubes(name: str) -> None:
    function, count, _ = OPERATIONS["cube_rotate"]
    g = torch.arange(count)
    for size in (*range(1, 20), 33):
        z = torch.randint(100, (count, 1, size, size, size)).to(getattr(torch, name))
        assert torch.equal(function(z, g, backend="cpp"), expected(z, "cube_rotate", g)), size


def layouts(z: Tensor) -> dict[str, Tensor]:
    wide = torch.empty(*z.shape[:-1], 2 * z.shape[-1], dtype=z.dtype)[..., ::2]
    return {
        "channels last": z.contiguous(memory_format=FORMATS[z.dim()]),
        "transposed": z.mT.contiguous().mT,
        "every second column": wide.copy_(z),
        "channels and rows exchanged": z.transpose(1, -2).contiguous().transpose(1, -2),
        "batch innermost": z.movedim(0, -1).contiguous().movedim(-1, 0),
        "sliced": torch.cat([z, z], 1)[:, : z.shape[1]],
        "cut from a larger one": torch.nn.functional.pad(z, (1, 2, 3, 1))[..., 3:-1, 1:-2],
        "negated lazily": torch.complex(torch.zeros_like(z), -z).conj().imag,
    }


@pytest.mark.parametrize("layout", list(layouts(torch.zeros(1, 1, 1, 1))))
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_layouts(operation: str, backend: str, layout: str) -> None:
    function, count, axes = OPERATIONS[operation]
    g = torch.arange(count)
    for size, channels in ((2, 1), (5, 3), (9, 16), (20, 6)):
        z = torch.randn(count, channels, *(size,) * axes)
        strided = layouts(z)[layout]
        assert torch.equal(strided, z)
        ours = function(strided, g, backend=backend)
        assert torch.equal(ours, expected(z, operation, g))
        assert ours.is_contiguous()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_expanded_and_conjugated(operation: str, backend: str) -> None:
    function, count, axes = OPERATIONS[operation]
    g = torch.arange(count)
    one = torch.randn(1, 1, *(6,) * axes).expand(count, 3, *(6,) * axes)
    assert torch.equal(function(one, g, backend=backend), expected(one, operation, g))
    row = torch.randn(6).expand(one.shape)
    assert torch.equal(function(row, g, backend=backend), expected(row, operation, g))
    lazy = torch.randn(one.shape, dtype=torch.complex64).conj()
    assert torch.equal(function(lazy, g, backend=backend), expected(lazy.resolve_conj(), operation, g))
    # Elements with a stride, and one element for all that takes no memory.
    pairs = torch.stack([g, g], 1)[:, 0]
    assert torch.equal(function(one, pairs, backend=backend), expected(one, operation, g))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_empty(operation: str, backend: str) -> None:
    function, _, axes = OPERATIONS[operation]
    for batch, channels, size in ((0, 3, 4), (2, 0, 4), (2, 3, 0)):
        z = torch.randn(batch, channels, *(size,) * axes)
        assert function(z, torch.ones(batch, dtype=torch.int64), backend=backend).shape == z.shape


@pytest.mark.parametrize("shape", [(0, 3, 4, 5), (2, 0, 4, 5), (2, 3, 0, 5)], ids=str)
@pytest.mark.parametrize("backend", BACKENDS)
def test_empty_and_not_square(backend: str, shape: tuple[int, ...]) -> None:
    z = torch.randn(shape)
    assert OPERATIONS["rot90"][0](z, 1, backend=backend).shape == torch.rot90(z, 1, (-2, -1)).shape
    # Without a sample no turn is odd.
    k = torch.full((shape[0],), 1)
    swapped = shape[0] > 0
    ours = OPERATIONS["rot90"][0](z, k, backend=backend)
    assert ours.shape == (torch.rot90(z, 1, (-2, -1)) if swapped else z).shape


images = st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 40), st.integers(1, 40))


@given(images, st.integers(0, 7), st.sampled_from(MOVED), st.permutations(range(4)))
def test_any_shape_and_order_of_axes(shape: tuple[int, ...], g: int, name: str, order: list[int]) -> None:
    inverse = [order.index(axis) for axis in range(4)]
    memory = torch.randint(100, tuple(shape[axis] for axis in order)).to(getattr(torch, name))
    z = memory.permute(inverse)
    assert z.shape == shape
    ours = OPERATIONS["dihedral_rotate"][0](z, g, backend="cpp")
    assert torch.equal(ours, move(z, "dihedral_rotate", g))


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize(
    ("operation", "shape"),
    [
        ("rot90", (64, 64, 7, 7)),
        ("rot90", (1, 1, 300, 300)),
        ("rot90", (2, 3, 129, 129)),
        ("dihedral_rotate", (5, 3, 65, 65)),
        ("cube_rotate", (3, 2, 33, 33, 33)),
        ("cube_rotate", (1, 1, 70, 70, 70)),
    ],
    ids=str,
)
def test_threads_do_not_change_a_bit(operation: str, shape: tuple[int, ...]) -> None:
    function, count, _ = OPERATIONS[operation]
    z = torch.randn(shape)
    for first in range(count):
        g = (torch.arange(shape[0]) + first) % count
        for number in (1, 2, 3):
            torch.set_num_threads(number)
            assert torch.equal(function(z, g, backend="cpp"), expected(z, operation, g))


@pytest.mark.parametrize("shape", [(1, 1, 1, 2**21), (1, 1, 2**21, 1), (1, 2, 3000, 1500)], ids=str)
def test_large_images(shape: tuple[int, ...]) -> None:
    z = torch.randn(shape)
    for k in range(4):
        assert torch.equal(OPERATIONS["rot90"][0](z, k, backend="cpp"), torch.rot90(z, k, (-2, -1)))


@pytest.mark.parametrize("operation", OPERATIONS)
def test_registered(operation: str) -> None:
    assert [record.name for record in backends.registered(operation)] == ["triton", "cpp", "reference"]
    z = torch.zeros(1, 1, *(2,) * OPERATIONS[operation][2])
    with pytest.raises(backends.BackendError, match=f"cannot run {operation} on cpu.*cuda: not impl"):
        OPERATIONS[operation][0](z, 0, backend="cuda")
