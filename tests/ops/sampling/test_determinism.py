"""Every bit the same, for every number of threads and at every repetition."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from equikernels.ops import affine_sample
from tests.ops.sampling.samples import DTYPES, every_combination, random_case

SHAPES = {
    2: ((5, 3, 17, 40), (1, 1, 300, 257), (1, 1, 2, 3000), (33, 1, 9, 9)),
    3: ((3, 2, 9, 12, 11), (1, 1, 40, 33, 37), (9, 1, 4, 5, 6)),
}


def results(z: Tensor, matrix: Tensor, grad: Tensor, mode: str, padding: str) -> list[Tensor]:
    """Values, gradients, and gradients of gradients."""
    z, matrix = z.detach().requires_grad_(), matrix.detach().requires_grad_()
    out = affine_sample(z, matrix, mode=mode, padding=padding, backend="cpp")
    first = torch.autograd.grad(out, (z, matrix), grad, create_graph=True)
    second = torch.autograd.grad(first[1].sum(), (z, matrix))
    return [x.detach() for x in (out, *first, *second)]


@every_combination
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_threads_do_not_change_a_bit(dims: int, mode: str, padding: str, dtype: torch.dtype) -> None:
    threads = torch.get_num_threads()
    for shape in SHAPES[dims]:
        case = random_case(shape, dtype)
        runs = []
        try:
            for count in (1, 2, 3, 1):
                torch.set_num_threads(count)
                runs.append(results(*case, mode, padding))
        finally:
            torch.set_num_threads(threads)
        for other in runs[1:]:
            assert all(torch.equal(first, second) for first, second in zip(runs[0], other, strict=True))


@every_combination
def test_samples_do_not_depend_on_their_neighbours(dims: int, mode: str, padding: str) -> None:
    """A sample of a batch is what it is alone."""
    z, matrix, grad = random_case((5, *SHAPES[dims][0][1:]), torch.float32)
    together = results(z, matrix, grad, mode, padding)
    alone = [results(z[n : n + 1], matrix[n : n + 1], grad[n : n + 1], mode, padding) for n in range(len(z))]
    for k, x in enumerate(together):
        assert torch.equal(x, torch.cat([each[k] for each in alone]))
