"""Whole weights in and out of their bases, and projected: every kind on both sides, in pieces, in threads."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from equikernels.group import SO2, pixel_grid
from equikernels.nn import SoftLinear
from equikernels.ops.bases import Basis
from equikernels.ops.linear import (
    BlockProjection,
    Side,
    analyse_weight,
    project_weight,
    synthesise_weight,
    weights,
)
from equikernels.project import EquivariantProjector, Softness
from tests.ops.bases.samples import KINDS, named_bases

NAMES = ("identity", "orbits", "sectors", "dense")
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 2**-6, torch.float16: 2**-9}


def projection(out: Basis, inn: Basis, into: bool = True) -> BlockProjection:
    """Every entry times a factor of its own, so that one in a wrong place is seen."""
    factors = torch.rand(out.dim, inn.dim, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def scale(blocks: Tensor) -> Tensor:
        return factors.to(blocks.dtype) * blocks

    def scale_into(blocks: Tensor, result: Tensor) -> None:
        result.copy_(factors.to(blocks.dtype) * blocks)

    sides = (Side(b, tuple(np.array([[k]]) for k in range(b.dim))) for b in (out, inn))
    return BlockProjection(*sides, scale, lambda: {}, scale_into if into else None)


def blocks_of(w: Tensor, out: Basis, inn: Basis) -> Tensor:
    return w.unflatten(0, (-1, out.dim)).unflatten(2, (-1, inn.dim)).transpose(1, 2)


def joined(blocks: Tensor) -> Tensor:
    return blocks.transpose(1, 2).flatten(2).flatten(0, 1)


def functions(
    out: Basis, inn: Basis
) -> dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]]:
    """Each function and the same in dense float64."""
    u, v, p = torch.tensor(out.matrix), torch.tensor(inn.matrix), projection(out, inn)

    def dense(act: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        return lambda w: joined(act(blocks_of(w.double(), out, inn)))

    return {
        "analyse": (lambda w: analyse_weight(w, out, inn), dense(lambda b: u.mT @ b @ v)),
        "synthesise": (lambda w: synthesise_weight(w, out, inn), dense(lambda b: u @ b @ v.mT)),
        "project": (lambda w: project_weight(w, p), dense(lambda b: u @ p.scale(u.mT @ b @ v) @ v.mT)),
    }


def check(out: Basis, inn: Basis, w: Tensor) -> None:
    for name, (function, dense) in functions(out, inn).items():
        ours = function(w)
        assert ours.dtype == w.dtype, name
        assert ours.is_contiguous(), name
        bound = TOLERANCE[w.dtype]
        torch.testing.assert_close(
            ours.double(), dense(w), rtol=bound, atol=bound, msg=lambda m, n=name: f"{n}: {m}"
        )


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many pieces of small weights, the last ones smaller than the others, in threads."""
    monkeypatch.setattr(weights, "SMALL", 0)
    monkeypatch.setattr(weights, "PIECE_BYTES", 12_000)
    monkeypatch.setattr(weights, "DENSE_BYTES", 4_000)
    monkeypatch.setattr(weights, "PIECES", 1)


@pytest.fixture
def restored_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("inn", KINDS)
@pytest.mark.parametrize("out", KINDS)
def test_every_kind_on_both_sides(out: str, inn: str) -> None:
    bases = named_bases()[out], named_bases()[inn]
    for channels in ((1, 1), (3, 2)):
        shape = [c * b.dim for c, b in zip(channels, bases, strict=True)]
        for dtype in (torch.float32, torch.float64):
            check(*bases, torch.randn(shape, dtype=dtype))


@pytest.mark.usefixtures("small_pieces", "restored_threads")
@pytest.mark.parametrize("inn", NAMES)
@pytest.mark.parametrize("out", NAMES)
def test_many_pieces_in_threads(out: str, inn: str) -> None:
    bases = named_bases()[out], named_bases()[inn]
    w = torch.randn(7 * bases[0].dim, 5 * bases[1].dim)
    results = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        check(*bases, w)
        results.append([function(w) for function, _ in functions(*bases).values()])
    for result in results[1:]:
        assert all(map(torch.equal, result, results[0]))


@pytest.mark.usefixtures("restored_threads")
@pytest.mark.parametrize(("out", "inn"), [("identity", "dense"), ("dense", "sectors")])
def test_small_weights_in_threads(out: str, inn: str) -> None:
    bases = named_bases()[out], named_bases()[inn]
    w = torch.randn(7 * bases[0].dim, 5 * bases[1].dim)
    results = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        results.append([function(w) for function, _ in functions(*bases).values()])
    for result in results[1:]:
        assert all(map(torch.equal, result, results[0]))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_half_precisions_are_computed_in_float32(name: str, dtype: torch.dtype) -> None:
    basis = named_bases()[name]
    w = torch.randn(3 * basis.dim, 2 * basis.dim).to(dtype)
    check(basis, basis, w)
    for function, _ in functions(basis, basis).values():
        assert torch.equal(function(w), function(w.float()).to(dtype))
        composed = torch.func.vmap(function)(w[None])[0]
        torch.testing.assert_close(composed, function(w), rtol=2 * TOLERANCE[dtype], atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_layouts_and_no_entries(name: str) -> None:
    basis = named_bases()[name]
    d = basis.dim
    w = torch.randn(2 * d, 3 * d)
    for strided in (
        w.mT.contiguous().mT,
        torch.stack([w, w], -1)[..., 1],
        torch.nn.functional.pad(w, (3, 1, 2, 2))[2:-2, 3:-1],
        w[:1].expand(2 * d, -1),
        torch.complex(torch.zeros_like(w), -w).conj().imag,
        w[:0],
        w[:, :0],
        torch.nn.Parameter(w),
        torch._neg_view(w),
    ):
        check(basis, basis, strided)


@pytest.mark.parametrize("name", NAMES)
def test_the_weight_is_not_written_to(name: str) -> None:
    basis = named_bases()[name]
    w = torch.randn(2 * basis.dim, 3 * basis.dim)
    before = w.clone()
    for function, _ in functions(basis, basis).values():
        assert function(w).data_ptr() != w.data_ptr()
        assert torch.equal(w, before)


def test_without_a_kernel_for_the_factors() -> None:
    out, inn = named_bases()["sectors"], named_bases()["orbits"]
    w = torch.randn(3 * out.dim, 2 * inn.dim)
    assert torch.equal(
        project_weight(w, projection(out, inn, into=False)), project_weight(w, projection(out, inn))
    )


# --- derivatives ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["analyse", "synthesise", "project"])
@pytest.mark.parametrize(
    ("out", "inn"), [("sectors", "permutation"), ("permutation", "dense"), ("identity", "identity")]
)
def test_derivatives(out: str, inn: str, name: str) -> None:
    bases = named_bases()[out], named_bases()[inn]
    function, dense = functions(*bases)[name]
    w = torch.randn(bases[0].dim, 2 * bases[1].dim, dtype=torch.float64, requires_grad=True)
    options = {"fast_mode": True, "check_batched_grad": True}
    assert gradcheck(function, w, check_forward_ad=True, **options)
    assert gradgradcheck(lambda w: function(w) ** 3, w, **options)
    torch.testing.assert_close(
        torch.func.grad(lambda w: (function(w) ** 2).sum())(w),
        torch.func.grad(lambda w: (dense(w) ** 2).sum())(w),
        rtol=1e-12,
        atol=1e-12,
    )
    several = torch.randn(3, *w.shape, dtype=torch.float64)
    torch.testing.assert_close(torch.func.vmap(function)(several), torch.stack([dense(w) for w in several]))
    moved = torch.func.jvp(function, (w.detach(),), (several[0],))[1]
    torch.testing.assert_close(moved, dense(several[0]), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["analyse", "synthesise", "project"])
def test_compile(name: str) -> None:
    torch._dynamo.reset()
    bases = Basis(named_bases()["sectors"].matrix), named_bases()["orbits"]
    function, dense = functions(*bases)[name]
    w = torch.randn(2 * bases[0].dim, bases[1].dim, dtype=torch.float64, requires_grad=True)
    out = torch.compile(function, fullgraph=True, backend="aot_eager")(w)
    torch.testing.assert_close(out, dense(w), rtol=1e-12, atol=1e-12)
    grad = torch.randn_like(out)
    ours, expected = (torch.autograd.grad(x, w, grad) for x in (out, function(w)))
    torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.usefixtures("small_pieces", "restored_threads")
def test_inference_mode_then_training() -> None:
    basis = named_bases()["sectors"]
    torch.set_num_threads(2)
    for function, _ in functions(basis, basis).values():
        w = torch.randn(4 * basis.dim, 3 * basis.dim, requires_grad=True)
        with torch.inference_mode():
            expected = function(w)
        out = function(w)
        assert torch.equal(out, expected)
        assert torch.autograd.grad(out.sum(), w)[0].isfinite().all()


# --- edges ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", NAMES)
def test_what_is_not_finite_stays_in_its_block(name: str, value: float) -> None:
    basis = named_bases()[name]
    w = torch.randn(3 * basis.dim, 2 * basis.dim)
    broken = w.clone()
    broken[basis.dim + 2, 3] = value
    for function, _ in functions(basis, basis).values():
        whole, spoiled = (blocks_of(function(x), basis, basis) for x in (w, broken))
        assert not spoiled[1, 0].isfinite().all()
        spoiled[1, 0] = whole[1, 0]
        torch.testing.assert_close(spoiled, whole, rtol=1e-6, atol=1e-6)


def test_bad_input() -> None:
    out, inn = named_bases()["sectors"], named_bases()["orbits"]
    for function, _ in functions(out, inn).values():
        for shape in ((17, 21), (18, 20), (18,), (1, 18, 21)):
            with pytest.raises(ValueError, match=r"w: expected \(C_out \* 18, C_in \* 21\), got \("):
                function(torch.zeros(shape))
        with pytest.raises(TypeError, match=r"w: expected a floating tensor, got torch\.int64"):
            function(torch.zeros(18, 21, dtype=torch.int64))
        with pytest.raises(TypeError, match=r"w: expected a floating tensor, got .*ndarray"):
            function(np.zeros((18, 21)))  # type: ignore[arg-type]


def test_the_environment_chooses_the_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "_by_pieces", None)
    monkeypatch.setenv("EQUIKERNELS_BACKEND", "torch")
    basis = named_bases()["sectors"]
    check(basis, basis, torch.randn(2 * basis.dim, basis.dim))


def test_a_soft_layer_in_half_precision() -> None:
    grid = pixel_grid(6, SO2())
    torch.manual_seed(0)
    layer = SoftLinear(grid, grid, Softness(0.1), 2, 2, plan="schur")
    half = SoftLinear(grid, grid, Softness(0.1), 2, 2, plan="schur", dtype=torch.bfloat16)
    half.load_state_dict(layer.state_dict())
    x = torch.randn(5, layer.in_features)
    y = half(x.bfloat16())
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), layer(x), rtol=0.05, atol=0.05)


def test_a_projected_weight_of_a_rotated_grid() -> None:
    grid = pixel_grid(14, SO2())
    projector = EquivariantProjector(grid, grid, Softness(0.1))
    data = projector.block_projection
    assert data is not None
    basis = data.inn.basis
    assert basis.kind == "sectors"
    u = torch.tensor(basis.matrix)
    w = torch.randn(9 * 196, 5 * 196)
    expected = joined(u @ data.scale(u.mT @ blocks_of(w.double(), basis, basis) @ u) @ u.mT)
    torch.testing.assert_close(projector(w).double(), expected, rtol=0, atol=5e-6)


def change_in_child(pipe: Connection) -> None:
    torch.set_num_threads(1)
    basis = named_bases()["sectors"]
    w = torch.arange(float(180 * 180)).view(180, 180).cos()
    pipe.send([function(w).numpy() for function, _ in functions(basis, basis).values()])


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.usefixtures("small_pieces", "restored_threads")
def test_forked_child() -> None:
    torch.set_num_threads(2)
    basis = named_bases()["sectors"]
    w = torch.arange(float(180 * 180)).view(180, 180).cos()
    expected = [function(w).numpy() for function, _ in functions(basis, basis).values()]
    ours, theirs = multiprocessing.Pipe()
    child = multiprocessing.get_context("fork").Process(target=change_in_child, args=(theirs,))
    child.start()
    assert ours.poll(60), "the forked child hangs"
    assert all(map(np.array_equal, ours.recv(), expected))
    child.join(30)
    assert child.exitcode == 0
