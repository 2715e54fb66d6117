"""The Triton kernel of the permutations, see tests/ops/conftest.py for where it runs."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from equikernels.ops import backends, cube_rotate, rot90, triton_support
from tests.ops.frames import FramedMemory
from tests.ops.permutation.samples import DTYPES, FORMATS, OPERATIONS, bits, move, random_values

pytest.importorskip("triton")

from equikernels.ops.permutation import triton_kernels as kernels


def expected(z: Tensor, operation: str, g: Tensor) -> Tensor:
    return torch.stack([move(x, operation, int(n)) for x, n in zip(z, g, strict=True)])


@pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype(dtype: torch.dtype, device: str) -> None:
    """Bytes are moved by the operation that other tests compare with torch."""
    z, k = random_values((4, 2, 3, 3), dtype), torch.arange(4)
    ours = rot90(z.to(device), k.to(device), backend="triton").cpu()
    assert ours.dtype == dtype
    for byte in range(dtype.itemsize):
        assert torch.equal(bits(ours)[..., byte], expected(bits(z)[..., byte], "rot90", k))


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_element(operation: str, device: str) -> None:
    function, count, axes = OPERATIONS[operation]
    g = torch.arange(count)
    for size, channels in ((1, 1), (5, 3)):
        z = torch.randn(count, channels, *(size,) * axes)
        there = function(z.to(device), g.to(device), backend="triton")
        assert torch.equal(there.cpu(), expected(z, operation, g))
        back = kernels.permute(there, g.to(device), kind(operation), True, False)
        assert torch.equal(back.cpu(), z)


def kind(operation: str) -> str:
    return {"rot90": "turns", "dihedral_rotate": "square", "cube_rotate": "cube"}[operation]


def test_several_tiles(device: str) -> None:
    """Sizes that no tile divides, in every dimension that tiles are counted in."""
    z = torch.randn(4, 1, 33, 33)
    assert torch.equal(
        rot90(z.to(device), torch.arange(4, device=device), backend="triton").cpu(),
        expected(z, "rot90", torch.arange(4)),
    )
    many = torch.randn(1, 33, 7, 7)
    assert torch.equal(rot90(many.to(device), 1, backend="triton").cpu(), many.rot90(1, (-2, -1)))
    g = torch.tensor([5, 22])
    volumes = torch.randn(2, 1, 17, 17, 17)
    ours = cube_rotate(volumes.to(device), g.to(device), backend="triton").cpu()
    assert torch.equal(ours, expected(volumes, "cube_rotate", g))


@pytest.mark.parametrize("shape", [(4, 3, 5, 8), (4, 1, 1, 6), (4, 2, 40, 3)], ids=str)
def test_images_that_are_not_square(shape: tuple[int, ...], device: str) -> None:
    z = torch.randn(shape)
    for g in (torch.tensor([1, 3, 5, 7]), torch.tensor([0, 2, 4, 6])):
        for operation in ("rot90", "dihedral_rotate"):
            ours = OPERATIONS[operation][0](z.to(device), g.to(device), backend="triton")
            assert torch.equal(ours.cpu(), expected(z, operation, g % OPERATIONS[operation][1]))


@pytest.mark.parametrize("operation", OPERATIONS)
def test_layouts(operation: str, device: str) -> None:
    function, count, axes = OPERATIONS[operation]
    g = torch.arange(count)[3::7]
    z = torch.randn(len(g), 3, *(5,) * axes)
    wide = torch.stack([z, z], -1).flatten(-2)[..., ::2]
    for strided in (
        z.contiguous(memory_format=FORMATS[z.dim()]),
        z.mT.contiguous().mT,
        wide,
        z.movedim(0, -1).contiguous().movedim(-1, 0),
        z[:1, :1].expand(z.shape),
        torch.complex(torch.zeros_like(z), -z).conj().imag,
        torch.complex(z, z).conj(),
        torch.complex(z.double(), z.double())[..., ::2, :].repeat_interleave(2, -2)[..., : z.shape[-2], :],
    ):
        ours = function(strided.to(device), g.to(device), backend="triton")
        assert torch.equal(ours.cpu(), expected(strided.resolve_conj(), operation, g))
        assert ours.is_contiguous()
    pairs = torch.stack([g, g], 1)[:, 0]
    assert torch.equal(
        function(z.to(device), pairs.to(device), backend="triton").cpu(), expected(z, operation, g)
    )


def test_turns_of_any_size(device: str) -> None:
    z = torch.randn(4, 2, 3, 3).to(device)
    large = torch.tensor([2**63 - 1, -(2**63), -(2**62) - 1, 10**18 + 2], device=device)
    turns = torch.tensor([3, 0, 3, 2])
    assert torch.equal(rot90(z, large, backend="triton").cpu(), expected(z.cpu(), "rot90", turns))


@pytest.mark.parametrize("operation", OPERATIONS)
def test_empty(operation: str, device: str) -> None:
    function, _, axes = OPERATIONS[operation]
    for batch, channels, size in ((0, 3, 4), (2, 0, 4), (2, 3, 0)):
        z = torch.randn(batch, channels, *(size,) * axes, device=device)
        g = torch.ones(batch, dtype=torch.int64, device=device)
        assert function(z, g, backend="triton").shape == z.shape


@pytest.mark.parametrize("operation", ["dihedral_rotate", "cube_rotate"])
@pytest.mark.parametrize("wrong", [-1, 24])
def test_elements_out_of_range_raise(operation: str, wrong: int, device: str) -> None:
    if device == "cuda":
        pytest.skip("a failed assertion ends the process's use of the GPU")
    function, _, axes = OPERATIONS[operation]
    with pytest.raises(ValueError, match=f"^g: expected elements 0 .. .* got {wrong}"):
        function(torch.zeros(2, 1, *(2,) * axes), torch.tensor([0, wrong]), backend="triton")


def test_offsets_of_64_bits(monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    monkeypatch.setattr(triton_support, "needs_wide_offsets", lambda *arrays, dims: True)
    g = torch.tensor([1, 6, 17, 23])
    z = torch.randn(4, 2, 3, 3, 3)
    ours = cube_rotate(z.to(device), g.to(device), backend="triton").cpu()
    assert torch.equal(ours, expected(z, "cube_rotate", g))


def test_gradients(device: str) -> None:
    g = torch.tensor([0, 7], device=device)
    z = torch.randn(2, 1, 2, 2, dtype=torch.float64, device=device, requires_grad=True)
    function = OPERATIONS["dihedral_rotate"][0]
    assert gradcheck(lambda x: function(x, g, backend="triton"), z, check_forward_ad=True)
    upstream = torch.randn(2, 3, 5, 5).to(device)
    x = torch.randn(2, 3, 5, 5).to(device).requires_grad_()
    ours = torch.autograd.grad(function(x, g, backend="triton"), x, upstream)[0]
    theirs = torch.autograd.grad(function(x, g, backend="reference"), x, upstream)[0]
    assert torch.equal(ours, theirs)


def test_results_are_framed(frames: FramedMemory, device: str) -> None:
    rot90(torch.zeros(1, 1, 2, 2, device=device), 1, backend="triton")
    assert len(frames.buffers) == 1


@pytest.mark.parametrize("operation", OPERATIONS)
def test_chosen_for_gpus_and_by_name_for_the_interpreter(operation: str, device: str) -> None:
    assert backends.choose(operation, device, "triton") == "triton"
    assert (backends.choose(operation, device) == "triton") == (device == "cuda")
