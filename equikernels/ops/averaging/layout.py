"""Leading dimensions as kernels take them: few, and in the order of memory."""

from __future__ import annotations

from torch import Tensor

Numbers = list[int]


def dimensions(first: Tensor, second: Tensor) -> tuple[Numbers, tuple[Numbers, Numbers]]:
    """Sizes (samples, ..., channels, m, n) of two tensors of one shape, and the strides of each.

    Channels are the leading dimension with the smallest stride in the first tensor, joined with others where
    both tensors run through them without a gap.

    >>> import torch
    >>> w = torch.zeros(1, 2, 3, 4, 8, 8)
    >>> dimensions(w, w)
    ([1, 24, 8, 8], ([1536, 64, 8, 1], [1536, 64, 8, 1]))
    """
    samples, *lead, rows, columns = zip(first.shape, first.stride(), second.stride(), strict=True)
    lead = sorted((x for x in lead if x[0] > 1), key=lambda x: x[1])
    joined: list[tuple[int, int, int]] = []
    for x in lead:
        size, *ends = joined[-1] if joined else (0, 0, 0)
        if joined and list(x[1:]) == [size * end for end in ends]:
            joined[-1] = (size * x[0], ends[0], ends[1])
        else:
            joined.append(x)
    # From the outside inwards, as memory is.
    every = [samples, *reversed(joined or [(1, 0, 0)]), rows, columns]
    return [x[0] for x in every], ([x[1] for x in every], [x[2] for x in every])
