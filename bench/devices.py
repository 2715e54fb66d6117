"""What a benchmark needs to run on either device: the parameter, waiting for the work, the peak of memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

DEVICES = ("cpu", pytest.param("cuda", marks=pytest.mark.gpu))


def finished(call: Callable[[], object], device: str) -> Callable[[], object]:
    """The call, returning when the device has done the work."""
    if device == "cpu":
        return call

    def wait() -> object:
        out = call()
        torch.cuda.synchronize()
        return out

    return wait


def peak_mb(call: Callable[[], object], device: str) -> float:
    """The most that PyTorch's allocator held at one time during a call, beyond what it held before, in MB.

    On a CPU the sum of the allocations and releases that the profiler saw; memory that kernels take from
    the system themselves, less than a megabyte a thread, is not in it.
    """
    call()
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        torch.cuda.synchronize()
        return (torch.cuda.max_memory_allocated() - before) / 1e6
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        kept = call()
    del kept
    assert recorded.profiler is not None
    assert recorded.profiler.kineto_results is not None
    events = [event for event in recorded.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = highest = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        highest = max(highest, held)
    return highest / 1e6


def measure(
    benchmark: Any,
    call: Callable[[], object],
    device: str,
    *,
    operation: str,
    provider: str,
    mode: str,
    size: str,
) -> None:
    """Time `call`, which was called once before, and record what it is and the memory that it needs."""
    benchmark.group = f"{operation} {mode} {size} {device}"
    labels = {"operation": operation, "provider": provider, "size": size, "mode": mode, "device": device}
    benchmark.extra_info.update(labels, peak_mb=peak_mb(call, device))
    benchmark(finished(call, device))
