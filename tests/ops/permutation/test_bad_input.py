"""What is refused, and how the error names it."""

from __future__ import annotations

import re
import subprocess
import sys

import numpy as np
import pytest
import torch

from equikernels.ops import cube_rotate, dihedral_rotate, rot90
from equikernels.ops.permutation import native
from tests.ops.permutation.samples import BACKENDS, OPERATIONS

IMAGES = torch.zeros(2, 1, 3, 3)
VOLUMES = torch.zeros(2, 1, 3, 3, 3)
ELEMENTS = torch.zeros(2, dtype=torch.int64)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_images(operation: str, backend: str) -> None:
    function, _, axes = OPERATIONS[operation]
    good = (IMAGES, VOLUMES)[axes - 2]
    for z, kind, words in (
        (np.zeros(good.shape), TypeError, "z: expected a tensor, got ndarray"),
        (good.to_sparse(), TypeError, "z: expected a dense tensor, got torch.sparse_coo"),
        (good[0], ValueError, f"z: expected {axes + 2} dimensions (N, C, "),
        (good[None], ValueError, f"z: expected {axes + 2} dimensions (N, C, "),
    ):
        with pytest.raises(kind, match="^" + re.escape(words)):
            function(z, ELEMENTS, backend=backend)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_elements(operation: str, backend: str) -> None:
    function, _, axes = OPERATIONS[operation]
    z = (IMAGES, VOLUMES)[axes - 2]
    name = "k" if operation == "rot90" else "g"
    for g, kind, words in (
        (ELEMENTS.float(), TypeError, "expected an integer dtype, got torch.float32"),
        (ELEMENTS.bool(), TypeError, "expected an integer dtype, got torch.bool"),
        (ELEMENTS.cfloat(), TypeError, "expected an integer dtype, got torch.complex64"),
        (1.0, TypeError, "expected a tensor or an integer, got float"),
        (True, TypeError, "expected a tensor or an integer, got bool"),
        ([0, 1], TypeError, "expected a tensor or an integer, got list"),
        (ELEMENTS[:1], ValueError, "expected shape (2,), one element per sample, got (1,)"),
        (ELEMENTS[None], ValueError, "expected shape (2,), one element per sample, got (1, 2)"),
        (ELEMENTS.to("meta"), ValueError, "expected on the device of z, cpu, got meta"),
    ):
        with pytest.raises(kind, match="^" + re.escape(f"{name}: {words}")):
            function(z, g, backend=backend)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("function", "z", "last"), [(dihedral_rotate, IMAGES, 7), (cube_rotate, VOLUMES, 23)]
)
def test_elements_out_of_range(function: object, z: torch.Tensor, last: int, backend: str) -> None:
    for wrong in (last + 1, -1, 2**62, -(2**63)):
        for g in (wrong, torch.tensor([0, wrong])):
            with pytest.raises(ValueError, match=f"^g: expected elements 0 .. {last}, got {wrong}$"):
                function(z, g, backend=backend)
    function(z, torch.tensor([0, last]), backend=backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_even_and_odd_turns_of_images_that_are_not_square(backend: str) -> None:
    z = torch.zeros(2, 1, 3, 4)
    for k in ([0, 1], [3, 2], [-1, 0]):
        with pytest.raises(ValueError, match=r"^k: expected only odd or only even turns .* different shapes"):
            rot90(z, torch.tensor(k), backend=backend)
    with pytest.raises(ValueError, match=r"^g: expected only odd or only even turns"):
        dihedral_rotate(z, torch.tensor([4, 7]), backend=backend)


def test_volumes_that_are_no_cubes() -> None:
    for shape in ((3, 3, 4), (3, 4, 3), (4, 3, 3)):
        with pytest.raises(
            ValueError, match="^z: expected cubes, D = H = W, got " + " x ".join(map(str, shape))
        ):
            cube_rotate(torch.zeros(1, 1, *shape), 0)


def test_the_kernel_reads_nothing_outside_of_the_images() -> None:
    """Below the public functions, which never ask for this."""
    z = torch.zeros(1, 1, 2, 5)
    with pytest.raises(ValueError, match="does not carry the shape"):
        native.permute(z, torch.tensor([1]), "turns", False, False)
    with pytest.raises(ValueError, match="does not carry the shape"):
        native.permute(z, torch.tensor([2]), "turns", False, True)
    with pytest.raises(ValueError, match="shape: expected 4 or 5 numbers, got 3"):
        native.permute(z[0], torch.tensor([0]), "turns", False, False)


WITHOUT_EXTENSION = """
import sys
sys.modules["equikernels.ops._native"] = None  # what an absent module looks like to an import
import torch
from equikernels.ops import backends, rot90
assert backends.choose("rot90", "cpu") == "reference"
assert "was not built" in backends.explain("rot90")
z = torch.randn(2, 3, 5, 5)
assert torch.equal(rot90(z, 1), torch.rot90(z, 1, (-2, -1)))
"""


def test_works_without_the_extension() -> None:
    subprocess.run([sys.executable, "-c", WITHOUT_EXTENSION], check=True, timeout=120)
