"""The C++ kernels by themselves: against matrices written out in numpy, torch's grid_sample, and their own
promises about threads, layouts and instruction sets."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from equikernels.ops import _native
from equikernels.ops.sampling import native
from tests.ops.rotation.test_extension import build_setting
from tests.ops.sampling.oracle import operator
from tests.ops.sampling.samples import (
    DTYPES,
    SHAPES,
    SMALL,
    contributors,
    every_combination,
    generic_case,
    matrix_tolerance,
    random_case,
    value_tolerance,
)

REPOSITORY = Path(__file__).resolve().parents[3]
PADDINGS = ("zeros", "border", "reflection")
Results = tuple[Tensor, Tensor, Tensor]


def no_directions(matrix: Tensor) -> Tensor:
    return matrix.new_empty((0, *matrix.shape))


def random_directions(matrix: Tensor, k: int) -> Tensor:
    generator = torch.Generator().manual_seed(k)
    shape = (k, *matrix.shape)
    return (torch.rand(shape, generator=generator, dtype=torch.float64) * 4 - 2).to(matrix.dtype)


def run(z: Tensor, matrix: Tensor, grad: Tensor, directions: Tensor, mode: str, padding: str) -> Results:
    """The samples and both gradients, the latter also from the functions that compute one of them only."""
    out = native.apply(z, matrix, directions, mode, padding)
    z_grad, matrix_grad = native.backward(grad, z, matrix, directions, mode, padding)
    torch.testing.assert_close(
        native.adjoint(grad, matrix, directions, mode, padding), z_grad, rtol=0, atol=0, equal_nan=True
    )
    alone = native.matrix_grad(grad, z, matrix, directions, mode, padding)
    torch.testing.assert_close(alone, matrix_grad, rtol=1e-5, atol=1e-5, equal_nan=True)
    for x in (out, z_grad, matrix_grad):
        assert x.is_contiguous()
    return out, z_grad, matrix_grad


# --- what they compute -----------------------------------------------------------------------------


@every_combination
def test_matrices_written_out(dims: int, mode: str, padding: str) -> None:
    """Every derivative, up to those that vanish: values, adjoint, and the gradient entry by entry."""
    shape = (2, 3, 5, 6) if dims == 2 else (2, 2, 3, 2, 4)
    sizes = shape[:1:-1]
    z, matrix, grad = generic_case(shape, torch.float64, mode)
    last = {"nearest": 1, "bilinear": dims + 1, "bicubic": 4}[mode]
    for k in range(last + 1):
        directions = random_directions(matrix, k)
        results = run(z, matrix, grad, directions, mode, padding)
        expected = [np.zeros(x.shape) for x in results]
        for n in range(shape[0]):
            m, d = matrix[n].numpy(), directions[:, n].numpy().reshape(k, dims, dims + 1)
            images, grads = (x[n].flatten(1).numpy() for x in (z, grad))
            f = operator(sizes, m, d, mode, padding)
            expected[0][n] = (images @ f.T).reshape(shape[1:])
            expected[1][n] = (grads @ f).reshape(shape[1:])
            for a, b in np.ndindex(dims, dims + 1):
                unit = np.zeros((1, dims, dims + 1))
                unit[0, a, b] = 1
                slope = operator(sizes, m, np.concatenate([d, unit]), mode, padding)
                expected[2][n, a, b] = (grads * (images @ slope.T)).sum()
        tolerance = value_tolerance(shape, torch.float64, matrix, mode, k)
        tolerances = (
            tolerance,
            tolerance * contributors(matrix, shape, mode, padding),
            matrix_tolerance(shape, torch.float64, matrix, mode, k),
        )
        for ours, exact, atol in zip(results, expected, tolerances, strict=True):
            np.testing.assert_allclose(ours.numpy(), exact, rtol=0, atol=atol)


def test_all_six_derivatives_of_a_cubic_surface() -> None:
    shape, mode = (1, 1, 4, 5), "bicubic"
    z, matrix, _ = generic_case(shape, torch.float64, mode)
    for k in range(5, 8):
        directions = random_directions(matrix, k)
        f = operator((5, 4), matrix[0].numpy(), directions[:, 0].numpy(), mode, "border")
        ours = native.apply(z, matrix, directions, mode, "border").flatten().numpy()
        assert (np.abs(ours).max() > 1) == (k < 7)
        # A sum of k! products, each a few roundings.
        scale = np.abs(f).sum(1).max() * 2
        np.testing.assert_allclose(ours, f @ z.flatten().numpy(), rtol=0, atol=1e-12 * scale)


def torch_matrix(matrix: Tensor, shape: tuple[int, ...]) -> Tensor:
    """What affine_grid wants: coordinates are in units of half the image."""
    sizes = torch.tensor(shape[:1:-1], dtype=matrix.dtype)
    scaled = matrix.clone()
    scaled[:, :, :-1] *= sizes / sizes[:, None]
    scaled[:, :, -1] *= 2 / sizes
    return scaled


def torch_results(z: Tensor, matrix: Tensor, grad: Tensor, mode: str, padding: str) -> Results:
    z, matrix = z.detach().requires_grad_(), matrix.detach().requires_grad_()
    grid = affine_grid(torch_matrix(matrix, tuple(z.shape)), list(z.shape), align_corners=False)
    out = grid_sample(z, grid, mode, padding, align_corners=False)
    z_grad, matrix_grad = torch.autograd.grad(out, (z, matrix), grad)
    return out.detach(), z_grad, matrix_grad


@every_combination
def test_torch(dims: int, mode: str, padding: str) -> None:
    """On images of several strips, bands, groups of channels, and one thread or a team for a plane."""
    shapes = (
        ((2, 3, 70, 90), (1, 5, 130, 67), (9, 4, 64, 33))
        if dims == 2
        else ((1, 5, 18, 20, 33), (3, 1, 9, 8, 40))
    )
    for shape in shapes:
        z, matrix, grad = random_case(shape, torch.float64)
        ours = run(z, matrix, grad, no_directions(matrix), mode, padding)
        expected = torch_results(z, matrix, grad, mode, padding)
        # Torch's own coordinates go through units of half the image, a few more roundings.
        atol = 4 * value_tolerance(shape, torch.float64, matrix, mode)
        torch.testing.assert_close(ours[0], expected[0], rtol=0, atol=atol)
        # A pixel gathers its contributors' errors.
        gathered = atol * contributors(matrix, shape, mode, padding)
        torch.testing.assert_close(ours[1], expected[1], rtol=0, atol=gathered)
        if mode == "nearest":
            assert not ours[2].any()
        else:
            atol = 4 * matrix_tolerance(shape, torch.float64, matrix, mode)
            torch.testing.assert_close(ours[2], expected[2], rtol=0, atol=atol)


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("mode", ["nearest", "bilinear", "bicubic"])
def test_whole_steps_move_pixels(mode: str, padding: str) -> None:
    """Exactly: at whole steps the other taps have weight zero, at any distance from the image."""
    shape = (1, 2, 5, 7)
    z, _, grad = random_case(shape, torch.float32)
    far = 40
    how = {"zeros": "constant", "border": "edge", "reflection": "symmetric"}[padding]
    wide = np.pad(z[0].numpy(), ((0, 0), (far, far), (far, far)), mode=how)
    for dx, dy in ((0, 0), (1, 0), (0, -2), (-3, 4), (9, -8), (-33, 37), (28, 29)):
        matrix = torch.tensor([[[1.0, 0.0, dx], [0.0, 1.0, dy]]])
        expected = torch.from_numpy(wide[:, far + dy :, far + dx :][:, :5, :7].copy())[None]
        out = native.apply(z, matrix, no_directions(matrix), mode, padding)
        assert torch.equal(out, expected), (dx, dy)
        # The adjoint adds every gradient to the pixel that was read.
        index = torch.arange(35).view(1, 5, 7).numpy() + 1
        read = np.pad(index, ((0, 0), (far, far), (far, far)), mode=how)[0, far + dy :, far + dx :][:5, :7]
        adjoint = torch.zeros(2, 36, dtype=torch.float64)
        adjoint.index_add_(1, torch.from_numpy(read.ravel().copy()), grad[0].flatten(1).double())
        ours = native.adjoint(grad, matrix, no_directions(matrix), mode, padding)
        torch.testing.assert_close(ours[0].flatten(1).double(), adjoint[:, 1:], rtol=1e-6, atol=1e-5)


def test_nearest_rounds_halves_to_even() -> None:
    z = torch.arange(6.0).view(1, 1, 1, 6)
    matrix = torch.tensor([[[1.0, 0.0, 0.5], [0.0, 1.0, 0.0]]])
    ours = native.apply(z, matrix, no_directions(matrix), "nearest", "border").flatten()
    assert ours.tolist() == [0, 2, 2, 4, 4, 5]


# --- storage, layouts, threads, instruction sets ---------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@every_combination
def test_half_precision_is_rounded_once(dims: int, mode: str, padding: str, dtype: torch.dtype) -> None:
    for shape in (SMALL[dims], (1, 5, 33, 70) if dims == 2 else (1, 1, 6, 20, 37)):
        z, matrix, grad = random_case(shape, dtype)
        for k in (0, 1):
            directions = random_directions(matrix, k)
            ours = run(z, matrix, grad, directions, mode, padding)
            wide = run(z.float(), matrix, grad.float(), directions, mode, padding)
            assert torch.equal(ours[0], wide[0].to(dtype))
            assert torch.equal(ours[1], wide[1].to(dtype))
            assert torch.equal(ours[2], wide[2])


def layouts(x: Tensor) -> dict[str, Tensor]:
    channels_last = torch.channels_last if x.dim() == 4 else torch.channels_last_3d
    wide = x.new_empty(*x.shape[:-1], 2 * x.shape[-1])[..., ::2]
    return {
        "channels_last": x.contiguous(memory_format=channels_last),
        "transposed": x.mT.contiguous().mT,
        "every second column": wide.copy_(x),
        "slices inside": x.transpose(2, -1).contiguous().transpose(2, -1),
        "sliced": torch.cat([x, x], 1)[:, : x.shape[1]],
        "negated lazily": torch.complex(torch.zeros_like(x), -x).conj().imag,
    }


@pytest.mark.parametrize("layout", list(layouts(torch.zeros(1, 1, 1, 1))))
@pytest.mark.parametrize("shape", [(3, 4, 9, 14), (1, 6, 70, 67), (2, 5, 4, 6, 7)], ids=str)
def test_layouts(shape: tuple[int, ...], layout: str) -> None:
    z, matrix, grad = random_case(shape, torch.float32)
    directions = random_directions(matrix, 1)
    expected = run(z, matrix, grad, directions, "bilinear", "reflection")
    images, grads = layouts(z)[layout], layouts(grad)[layout]
    assert torch.equal(images, z)
    matrices, steps = matrix.mT.contiguous().mT, directions.transpose(0, 2).contiguous().transpose(0, 2)
    for ours, plain in zip(
        run(images, matrices, grads, steps, "bilinear", "reflection"), expected, strict=True
    ):
        assert torch.equal(ours, plain)


def test_expanded() -> None:
    """What sum().backward() sends, one image and one map for a batch."""
    shape = (3, 4, 9, 14)
    z, matrix, _ = random_case(shape, torch.float32)
    one, ones, same = z[:1, :1].expand(shape), torch.ones(()).expand(shape), matrix[:1].expand(3, 2, 3)
    directions = random_directions(matrix, 1)[:, :1].expand(1, 3, 2, 3)
    expected = run(
        one.contiguous(), same.contiguous(), ones.contiguous(), directions.contiguous(), "bicubic", "zeros"
    )
    for ours, plain in zip(run(one, same, ones, directions, "bicubic", "zeros"), expected, strict=True):
        assert torch.equal(ours, plain)


@pytest.mark.parametrize("shape", [(9, 4, 20, 33), (1, 7, 100, 90), (2, 3, 12, 40, 20)], ids=str)
def test_bit_equal_for_every_number_of_threads(shape: tuple[int, ...]) -> None:
    before = torch.get_num_threads()
    z, matrix, grad = random_case(shape, torch.float32)
    results = []
    try:
        for threads in (1, 2, 3, 8):
            torch.set_num_threads(threads)
            results.append(run(z, matrix, grad, no_directions(matrix), "bilinear", "border"))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        for ours, single in zip(other, results[0], strict=True):
            assert torch.equal(ours, single)


RUN_WITH_ISA = """
import sys
import numpy as np
from tests.ops.sampling.test_native import isa_cases, random_directions, run
from equikernels.ops import _native
assert _native.selected_isa() == sys.argv[1], _native.selected_isa()
results = {}
for key, shape, dtype, mode, padding, k, (z, matrix, grad) in isa_cases():
    found = run(z, matrix, grad, random_directions(matrix, k), mode, padding)
    for name, x in zip(("out", "z", "matrix"), found):
        results[f"{name}/{key}"] = x.double().numpy()
np.savez(sys.argv[2], **results)
"""


def isa_cases() -> list[tuple[str, tuple[int, ...], torch.dtype, str, str, int, Results]]:
    cases = []
    for dims, mode in ((2, "nearest"), (2, "bilinear"), (2, "bicubic"), (3, "nearest"), (3, "bilinear")):
        for i, (shape, dtype) in enumerate((s, d) for s in SHAPES[dims][:2] for d in DTYPES):
            padding, k = PADDINGS[i % 3], i % 2
            case = generic_case(shape, dtype, mode, gentle=True)
            cases.append((f"{mode}/{shape}/{dtype}/{padding}/{k}", shape, dtype, mode, padding, k, case))
    return cases


def run_with_isa(isa: str, path: Path) -> dict[str, np.ndarray]:
    environment = os.environ | {"EQUIKERNELS_ISA": isa, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", RUN_WITH_ISA, isa, str(path)]
    subprocess.run(command, env=environment, check=True, timeout=300, cwd=REPOSITORY)
    return dict(np.load(path))


@pytest.fixture(scope="module")
def baseline(tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    return run_with_isa("baseline", tmp_path_factory.mktemp("isa") / "baseline.npz")


@pytest.mark.parametrize("isa", ["avx2", "avx512"])
def test_instruction_sets_agree(isa: str, baseline: dict[str, np.ndarray], tmp_path: Path) -> None:
    if isa not in _native.supported_isas():
        pytest.skip(f"this CPU has no {isa}")
    results = run_with_isa(isa, tmp_path / "result.npz")
    assert set(results) == set(baseline)
    for key, shape, dtype, mode, padding, k, (_, matrix, _) in isa_cases():
        values = value_tolerance(shape, dtype, matrix, mode, k)
        tolerances = {
            "out": values,
            "z": values * contributors(matrix, shape, mode, padding),
            "matrix": matrix_tolerance(shape, dtype, matrix, mode, k),
        }
        for name, atol in tolerances.items():
            ours, plain = results[f"{name}/{key}"], baseline[f"{name}/{key}"]
            np.testing.assert_allclose(ours, plain, rtol=0, atol=atol, err_msg=key)


@pytest.mark.parametrize("isa", ["baseline", "avx2", "avx512"])
def test_kernels_of_one_instruction_set_share_no_symbols(isa: str, tmp_path: Path) -> None:
    """A weak symbol compiled with AVX-512 could replace the one of another file, on a CPU without AVX-512."""
    compiler, nm = shutil.which("g++"), shutil.which("nm")
    if compiler is None or nm is None:
        pytest.skip("needs g++ and nm")
    # Without optimisation: nothing is inlined, and every function that could be shared is there.
    flags = [*build_setting("COMMON_FLAGS"), *build_setting("INSTRUCTION_SETS").get(f"_{isa}", []), "-O0"]
    target = tmp_path / "unit.o"
    source = REPOSITORY / "csrc" / "cpu" / f"sample_{isa}.cpp"
    command = [compiler, "-std=c++17", "-fPIC", *flags, "-Werror", f"-I{REPOSITORY / 'csrc'}"]
    subprocess.run([*command, "-c", str(source), "-o", str(target)], check=True, timeout=300)
    lines = subprocess.run([nm, "-C", str(target)], check=True, capture_output=True, text=True).stdout
    symbols = [line.split(maxsplit=2)[-2:] for line in lines.splitlines()]
    exported = [name for kind, name in symbols if kind.isupper() and kind != "U"]
    assert exported == [f"equikernels::sample_kernels_{isa}"]
    assert not [name for kind, name in symbols if kind in "WwVvu"]
    needed = [name for kind, name in symbols if kind == "U"]
    assert not [name for name in needed if "std::" in name or "operator" in name], needed
