"""Features in pieces of rows that stay in a core's cache through several steps, a thread to each."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from equikernels.ops.threads import run_pieces
from equikernels.ops.tracing import has_hidden_batch, is_traced, is_transformed

PIECE_VALUES = 2**17
"""Numbers in a piece of features: half a megabyte in single precision, beside the weights."""

MOST_ALONE = 2**19
"""Numbers up to which PyTorch's own threads are as good."""


def worth_pieces(x: Tensor) -> bool:
    """Whether features (..., width) are many enough, on a CPU and with nothing to record or to trace."""
    watched = torch.is_grad_enabled() or is_traced(x) or is_transformed() or has_hidden_batch(x)
    return not watched and x.device.type == "cpu" and x.numel() > MOST_ALONE


def by_pieces(x: Tensor, width: int, work: Callable[[Tensor], Tensor]) -> Tensor:
    """work(x) for features (..., width of x) to (..., width), where every row is apart from the others.

    The pieces are the same whatever the number of threads.
    """
    rows = x.reshape(-1, x.shape[-1])
    each = max(1, PIECE_VALUES // rows.shape[1])
    out = rows.new_empty(len(rows), width)
    starts = range(0, len(rows), each)

    def piece(index: int, workspace: None) -> None:
        chosen = slice(starts[index], starts[index] + each)
        out[chosen] = work(rows[chosen])

    run_pieces(len(starts), piece, lambda: None)
    return out.view(*x.shape[:-1], width)
