"""Sparse orthogonal matrices as orbits: what is found in a matrix, and what is made of it."""

from __future__ import annotations

import copy
import pickle
import threading

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode

from equikernels.group import SO2, pixel_grid
from equikernels.ops.bases import OrbitTransform, orbit_transform
from equikernels.ops.bases.constants import Constants
from equikernels.ops.bases.orbits import LARGEST_ORBIT
from tests.ops.bases.samples import block_permuted, orthogonal, regular_fourier, transform_of


@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=4, unique=True),
    st.integers(1, 4),
    st.integers(0, 2**32 - 1),
)
def test_a_matrix_is_found_again(sizes: list[int], copies: int, seed: int) -> None:
    matrix = block_permuted(sizes, copies, seed)
    transform = OrbitTransform.of_matrix(matrix)
    assert transform is not None
    assert np.allclose(transform.matrix(), matrix, rtol=0, atol=1e-12)
    assert np.array_equal(transform.inverse.matrix(), transform.matrix().T)
    assert transform.inverse.inverse is transform
    assert transform.largest == max(sizes)
    assert transform.multiplications == copies * sum(size**2 for size in sizes)


def test_orbits_of_one_matrix_are_one_family() -> None:
    matrix = np.kron(np.eye(5), regular_fourier(6))
    rng = np.random.default_rng(0)
    transform = OrbitTransform.of_matrix(matrix[rng.permutation(30)])
    assert transform is not None
    assert [family.inputs.shape for family in transform.families] == [(6, 5)]


def test_matrices_that_differ_by_little_are_two_families() -> None:
    angle = 1e-6
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    first = regular_fourier(2)
    matrix = np.zeros((4, 4))
    matrix[:2, :2], matrix[2:, 2:] = first, first @ turn
    transform = OrbitTransform.of_matrix(matrix)
    assert transform is not None
    assert len(transform.families) == 2
    assert np.array_equal(transform.matrix(), matrix)


@pytest.mark.parametrize("side", [3, 4, 5, 8])
def test_symmetry_bases_of_grids_are_orbits(side: int) -> None:
    matrix = pixel_grid(side, SO2()).symmetry_basis
    transform = OrbitTransform.of_matrix(matrix)
    assert transform is not None
    assert transform.largest <= 8
    assert np.allclose(transform.matrix(), matrix, rtol=0, atol=1e-12)


@pytest.mark.parametrize("order", [1, 2, 3, 8, 16, 33])
def test_fourier_transforms_of_regular_representations(order: int) -> None:
    matrix = np.kron(regular_fourier(order), np.eye(3))
    transform = OrbitTransform.of_matrix(matrix)
    assert transform is not None
    assert transform.largest == order
    assert transform.multiplications == 3 * order**2
    assert np.allclose(transform.matrix(), matrix, rtol=0, atol=1e-12)


def test_too_large_orbits_are_none() -> None:
    rng = np.random.default_rng(0)
    assert OrbitTransform.of_matrix(orthogonal(LARGEST_ORBIT, rng)) is not None
    assert OrbitTransform.of_matrix(orthogonal(LARGEST_ORBIT + 1, rng)) is None


def test_parts_that_are_not_square_are_refused() -> None:
    with pytest.raises(ValueError, match="matrix: expected an orthogonal one, got parts that are not square"):
        OrbitTransform.of_matrix(np.array([[1.0, 1.0], [0.0, 0.0]]))


def test_no_coordinates() -> None:
    transform = OrbitTransform.of_matrix(np.zeros((0, 0)))
    assert transform is not None
    assert transform.largest == 0
    assert orbit_transform(torch.zeros(3, 0), transform).shape == (3, 0)


def test_renamed_results() -> None:
    transform = transform_of((3, 2), 2)
    places = np.random.default_rng(0).permutation(10)
    expected = np.zeros((10, 10))
    expected[:, places] = transform.matrix()
    assert np.array_equal(transform.renamed(places).matrix(), expected)


def test_copies_anywhere() -> None:
    transform = transform_of((3, 1), 2)
    places = np.random.default_rng(0).permutation(24)
    inputs, outputs = places[:24].reshape(3, 8), places[::-1].reshape(3, 8)
    copied = transform.copies(inputs, outputs)
    expected = np.zeros((24, 24))
    for before, after in zip(inputs, outputs, strict=True):
        expected[np.ix_(before, after)] = transform.matrix()
    assert copied.dim == 24
    assert np.array_equal(copied.matrix(), expected)


def test_made_while_something_traces_and_used_after() -> None:
    """Whatever is going on when a transform is made, its constants hold values and can be differentiated."""
    x = torch.randn(4, 12, dtype=torch.float64, requires_grad=True)
    for mode in (FakeTensorMode(), torch.inference_mode()):
        with mode:
            transform = transform_of((3, 2, 1), 2)
        for backend in ("cpp", "torch"):
            out = orbit_transform(x, transform, backend=backend)
            torch.testing.assert_close(out, x @ torch.tensor(transform.matrix()), rtol=1e-14, atol=1e-14)
            assert torch.autograd.grad(out.sum(), x)[0].isfinite().all()


@pytest.mark.parametrize(
    "duplicate", [copy.deepcopy, lambda t: pickle.loads(pickle.dumps(t))], ids=["deep", "pickle"]
)
def test_copies_of_a_used_transform_do_not_share_its_memory(duplicate) -> None:  # type: ignore[no-untyped-def]
    """Kernels are given addresses: those of a copy must be its own, also when the first one is gone."""
    transform = transform_of((5, 2), 3)
    x = torch.randn(64, transform.dim)
    expected, back = orbit_transform(x, transform), orbit_transform(x, transform, inverse=True)
    second = duplicate(transform)
    # What kernels read of the first one is spoilt.
    for used in (transform, transform.inverse):
        _, (tables, weights) = used.constants.get(("stage", x.dtype), lambda: pytest.fail("no kernel ran"))
        for tensor in (*weights, *(t for three in tables for t in three)):
            tensor.zero_()
    assert torch.equal(orbit_transform(x, second), expected)
    assert torch.equal(orbit_transform(x, second, inverse=True), back)


def test_threads_that_come_at_once_get_one_constant() -> None:
    constants, both_make, got = Constants(), threading.Barrier(2), []

    def make() -> object:
        both_make.wait(timeout=30)
        return object()

    threads = [threading.Thread(target=lambda: got.append(constants.get("key", make))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got[0] is got[1] is constants.get("key", object)


def test_repr_tells_the_orbits() -> None:
    assert repr(OrbitTransform.of_matrix(np.eye(3))) == "OrbitTransform(3 coordinates: 3 of 1)"
