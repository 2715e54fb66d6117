"""How PyTorch computes during a run: precision, generators, determinism, memory."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import nn

from equikernels.models.engine.errors import ConfigurationError

__all__ = ["autocast", "deterministic", "enable_gradient_checkpointing", "seed_generator", "stream_seed"]


def stream_seed(*words: object) -> int:
    """A seed of 63 bits that depends on all words, for what draws from PyTorch's generator, such as dropout.

    >>> stream_seed(0, "step", 3) == stream_seed(0, "step", 3) != stream_seed(0, "step", 4)
    True
    """
    digest = hashlib.blake2b(" ".join(map(str, words)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def seed_generator(device: torch.device, *words: object) -> None:
    """Seed PyTorch's generators of the CPU and of a device by all words."""
    seed = stream_seed(*words)
    # Not torch.manual_seed, which also takes milliseconds to note a seed for GPUs that are not there.
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)


def autocast(precision: str, device: torch.device) -> AbstractContextManager[Any]:
    """The context of a forward pass in a precision.

    Raises:
        ConfigurationError: the device cannot train in it.
    """
    if precision == "float32":
        return contextlib.nullcontext()
    if precision == "fp16" and device.type == "cpu":
        raise ConfigurationError("precision: fp16 needs a GPU, and this run is on a CPU: take bf16")
    return torch.autocast(device.type, torch.bfloat16 if precision == "bf16" else torch.float16)


def enable_gradient_checkpointing(model: nn.Module) -> None:
    """Ask a model to save memory, by the names that transformers and diffusers have for it."""
    for name in ("gradient_checkpointing_enable", "enable_gradient_checkpointing"):
        if callable(getattr(model, name, None)):
            getattr(model, name)()
            return
    raise ConfigurationError(f"gradient_checkpointing: {type(model).__name__} does not offer it")


@contextlib.contextmanager
def deterministic() -> Iterator[None]:
    """PyTorch's deterministic algorithms inside the block."""
    # What cuBLAS asks for to be deterministic; it is read when a GPU is first used.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
