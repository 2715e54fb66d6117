"""The compiled extension: whether it is there, and what a tensor needs before its address may be taken."""

from __future__ import annotations

from importlib import import_module
from typing import Any

# The extension links libgomp; loaded after torch it shares torch's copy and its threads.
import torch
from torch import Tensor


def _load() -> tuple[Any, str]:
    try:
        return import_module("equikernels.ops._native"), ""
    except ModuleNotFoundError:
        return None, "the C++ extension was not built (no C++17 compiler with OpenMP at installation)"
    except ImportError as error:
        return None, f"the C++ extension does not load: {error}"


native, UNAVAILABLE = _load()


def addressable(x: Tensor) -> Tensor:
    """The same values, in memory; the tensor itself wherever it can be."""
    # Lazily negated and conjugated views and lazily allocated zeros exist in eager torch; their memory does
    # not hold their values.
    if not (x.is_neg() or x.is_conj() or x._is_zerotensor()):
        return x
    x = x.resolve_neg().resolve_conj()
    return torch.zeros(x.shape, dtype=x.dtype, device=x.device) if x._is_zerotensor() else x


def in_large_pages(x: Tensor) -> Tensor:
    """The same tensor, new and not yet written, in large pages if it is large and the system has them.

    The first write to each page of fresh memory interrupts who writes it: with small pages that costs more
    than the values of a large result.
    """
    native.prefer_large_pages(x.data_ptr(), x.nbytes)
    return x


def result_like(x: Tensor) -> Tensor:
    """A new contiguous tensor with the shape, dtype and device of `x`, whose values are undefined."""
    # Told a shape, torch takes microseconds to read it.
    return torch.empty_like(x, memory_format=torch.contiguous_format)
