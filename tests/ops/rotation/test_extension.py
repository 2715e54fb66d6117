"""The extension as a binary: symbols, threads that are shared with torch, forked children, largest images."""

from __future__ import annotations

import ast
import multiprocessing
import shutil
import subprocess
import sys
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
import torch

from equikernels.ops import rotate
from tests.ops.rotation.samples import random_case

REPOSITORY = Path(__file__).resolve().parents[3]


def build_setting(name: str) -> object:
    """A constant of setup.py, read without running it."""
    tree = ast.parse((REPOSITORY / "setup.py").read_text())
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(getattr(t, "id", None) == name for t in node.targets):
            return ast.literal_eval(node.value)
    raise AssertionError(f"setup.py has no constant {name}")


@pytest.mark.parametrize("isa", ["baseline", "avx2", "avx512"])
@pytest.mark.parametrize(
    "kernels",
    [
        "rotate_kernels",
        "permute_movers",
        "average_kernels",
        "change_kernels",
        "orbit_kernels",
        "schur_kernels",
    ],
)
def test_kernels_of_one_instruction_set_share_no_symbols(kernels: str, isa: str, tmp_path: Path) -> None:
    """A weak symbol compiled with AVX-512 could replace the one of another file, on a CPU without AVX-512."""
    compiler, nm = shutil.which("g++"), shutil.which("nm")
    if compiler is None or nm is None:
        pytest.skip("needs g++ and nm")
    flags = [*build_setting("COMMON_FLAGS"), *build_setting("INSTRUCTION_SETS").get(f"_{isa}", [])]
    target = tmp_path / "unit.o"
    source = REPOSITORY / "csrc" / "cpu" / f"{kernels.partition('_')[0]}_{isa}.cpp"
    command = [compiler, "-std=c++17", "-fPIC", *flags, "-Werror", f"-I{REPOSITORY / 'csrc'}"]
    subprocess.run([*command, "-c", str(source), "-o", str(target)], check=True, timeout=300)
    lines = subprocess.run([nm, "-C", str(target)], check=True, capture_output=True, text=True).stdout
    symbols = [line.split(maxsplit=2)[-2:] for line in lines.splitlines()]
    exported = [name for kind, name in symbols if kind.isupper() and kind != "U"]
    assert exported == [f"equikernels::{kernels}_{isa}"]
    assert not [name for kind, name in symbols if kind in "WwVvu"]
    # Nothing of the C++ library either, which would bring inline functions with it.
    needed = [name for kind, name in symbols if kind == "U"]
    assert not [name for name in needed if "std::" in name or "operator" in name], needed


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs /proc")
def test_threads_are_shared_with_torch() -> None:
    """One libgomp, torch's own: two would keep twice as many threads spinning.

    In a process of its own, because other libraries in this one may bring theirs.
    """
    code = (
        "import torch; from equikernels.ops import rotate; "
        "rotate(torch.zeros(1, 1, 2, 2), 0.0, backend='cpp'); "
        "print(*{x.split()[-1] for x in open('/proc/self/maps') if 'libgomp' in x}, sep='\\n')"
    )
    command = [sys.executable, "-c", code]
    child = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120, cwd=REPOSITORY)
    loaded = child.stdout.split()
    assert len(loaded) == 1, loaded
    # The system tells real paths, Python those that it was started by.
    assert Path(loaded[0]).parent == (Path(torch.__file__).parent / "lib").resolve()


def rotate_in_child(pipe: Connection) -> None:
    torch.set_num_threads(1)
    z, theta, grad = random_case((8, 4, 32, 32), torch.float32)
    z.requires_grad_(), theta.requires_grad_()
    out = rotate(z, theta)
    grads = torch.autograd.grad(out, (z, theta), grad)
    pipe.send([x.detach().numpy() for x in (out, *grads)])


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_forked_child_with_one_thread() -> None:
    """What a DataLoader worker does; the parent has used its threads before."""
    z, theta, grad = random_case((8, 4, 32, 32), torch.float32)
    z.requires_grad_(), theta.requires_grad_()
    out = rotate(z, theta)
    expected = (out, *torch.autograd.grad(out, (z, theta), grad))
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=rotate_in_child, args=(sender,))
    child.start()
    sender.close()
    try:
        assert receiver.poll(60), "the child hangs"
        for ours, there in zip(expected, receiver.recv(), strict=True):
            assert torch.equal(ours.detach(), torch.from_numpy(there))
        child.join(60)
        assert child.exitcode == 0
    finally:
        child.kill()


def test_interpreter_lock_is_released() -> None:
    """Another Python thread counts while a long rotation runs."""
    code = """
import threading, torch
from equikernels.ops import rotate
torch.set_num_threads(1)
z = torch.zeros(64, 4, 256, 256)
rotate(z, 0.1)
ticks, running = 0, True
def count():
    global ticks
    while running:
        ticks += 1
        pause.wait(0.001)
pause = threading.Event()
thread = threading.Thread(target=count)
thread.start()
before = ticks
rotate(z, 0.1)
during = ticks - before
running = False
thread.join()
assert during >= 3, during
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120, cwd=REPOSITORY)


@pytest.mark.parametrize("shape", [(1, 1, 4096, 4096), (1, 2, 4096, 3), (1, 1, 1, 4096)], ids=str)
def test_largest_images(shape: tuple[int, ...]) -> None:
    z, theta, _ = random_case(shape, torch.float32)
    # The same numbers in float64: at this size float32 coordinates are good to about 1e-3 of a pixel.
    expected = rotate(z.double(), theta.double(), backend="cpp")
    assert (rotate(z, theta).double() - expected).abs().max() < 2 * 4 * 4 * 2**-23 * 4096


@pytest.mark.parametrize("shape", [(1, 1, 2**23, 1), (1, 1, 1, 2**23)], ids=str)
def test_images_beyond_the_largest_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"^z: expected at most 4194304 rows and columns"):
        rotate(torch.zeros(()).expand(shape), 0.1, backend="cpp")


def test_large_image_against_the_reference() -> None:
    z, theta, _ = random_case((1, 1, 1500, 1100), torch.float64)
    ours, expected = (rotate(z, theta, backend=backend) for backend in ("cpp", "reference"))
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-10)
