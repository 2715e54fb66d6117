"""What the tests of changes of basis share: orthogonal matrices of every structure."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np

from equikernels.group import SO2, CyclicGroup, pixel_grid
from equikernels.ops.bases import Basis, OrbitTransform

BACKENDS = ("cpp", "torch")


def orthogonal(size: int, rng: np.random.Generator) -> np.ndarray:
    return np.linalg.qr(rng.standard_normal((size, size)))[0]


def direct_sum(blocks: Sequence[np.ndarray]) -> np.ndarray:
    size = sum(map(len, blocks))
    whole, start = np.zeros((size, size)), 0
    for block in blocks:
        whole[start : start + len(block), start : start + len(block)] = block
        start += len(block)
    return whole


def block_permuted(sizes: Sequence[int], copies: int, seed: int) -> np.ndarray:
    """`copies` orbits of every size, mixed by one matrix each, rows and columns in a random order."""
    rng = np.random.default_rng(seed)
    blocks = [block for size in sizes for block in [orthogonal(size, rng)] * copies]
    whole = direct_sum(blocks)
    return whole[rng.permutation(len(whole))][:, rng.permutation(len(whole))]


def transform_of(sizes: Sequence[int], copies: int, seed: int = 0) -> OrbitTransform:
    transform = OrbitTransform.of_matrix(block_permuted(sizes, copies, seed))
    assert transform is not None
    return transform


def regular_fourier(order: int) -> np.ndarray:
    """The real Fourier transform of the regular representation of C_n."""
    place = np.arange(order)
    columns = [np.full(order, order**-0.5)]
    for k in range(1, (order + 1) // 2):
        columns += [f(2 * np.pi * k * place / order) * (2 / order) ** 0.5 for f in (np.cos, np.sin)]
    if order % 2 == 0:
        columns.append((-1.0) ** place * order**-0.5)
    return np.stack(columns, axis=1)


def in_sectors(sizes: Sequence[int], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """U and the T that splits it: orbits of two and three, sectors of these sizes, both in random order."""
    rng = np.random.default_rng(seed)
    dim = sum(sizes)
    pairs, alone = divmod(dim - 6, 2)
    orbits = [orthogonal(3, rng)] * 2 + [orthogonal(2, rng)] * pairs + [np.eye(1)] * alone
    symmetry = direct_sum(orbits)[rng.permutation(dim)][:, rng.permutation(dim)]
    sectors = direct_sum([orthogonal(size, rng) for size in sizes])
    return symmetry @ sectors[:, rng.permutation(dim)], symmetry


@cache
def named_bases() -> dict[str, Basis]:
    """One of every kind and then some, of few coordinates."""
    rng = np.random.default_rng(0)
    grid = pixel_grid(4, CyclicGroup(4))
    permuted = np.eye(5)[rng.permutation(5)]
    return {
        "identity": Basis(np.eye(6)),
        "sign": Basis(-np.eye(1)),
        "permutation": Basis(permuted),
        "orbits": Basis(block_permuted((4, 2, 1), 3, 1)),
        "regular": Basis(regular_fourier(11)),
        "sectors": Basis(*in_sectors((9, 8, 1), 2)),
        "unequal sectors": Basis(*in_sectors((23, 3, 2, 5), 3)),
        "dense": Basis(orthogonal(20, rng)),
        "grid": Basis(np.kron(np.eye(grid.dim // 4), regular_fourier(4))),
    }


KINDS = {
    "identity": "identity",
    "sign": "orbits",
    "permutation": "orbits",
    "orbits": "orbits",
    "regular": "orbits",
    "grid": "orbits",
    "sectors": "sectors",
    "unequal sectors": "sectors",
    "dense": "dense",
}


@cache
def rotated_grid(side: int) -> tuple[np.ndarray, np.ndarray]:
    """The change of basis of the pixels of a square under SO(2), and the basis adapted to its symmetries."""
    from equikernels.project.normal_form import normal_form_of_representation

    form = normal_form_of_representation(pixel_grid(side, SO2()))
    assert form.symmetry is not None
    return form.basis, form.symmetry
