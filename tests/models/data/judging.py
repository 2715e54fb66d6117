"""What may come of any file: data, or one DataError on one line, soon and in little memory."""

from __future__ import annotations

import re
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from equikernels.models.data import DataError, load_dataset

SECONDS = 20
MEMORY = 512 << 20

LINE = re.compile(r"[^\n\r]+: expected [^\n\r]+, got [^\n\r]+")


@contextmanager
def bounded() -> Iterator[None]:
    """No more memory than MEMORY above what is mapped already, and no more time than SECONDS."""

    def too_long(*_: object) -> None:
        raise AssertionError(f"still busy after {SECONDS} s")

    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limits = resource.getrlimit(resource.RLIMIT_AS)
    before = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(SECONDS)
    resource.setrlimit(resource.RLIMIT_AS, (mapped + MEMORY, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def judge(path: Path, options: dict[str, Any], named: str) -> str:
    """Load and fetch everything: "" for whole data, else the message, one line that holds `named`."""
    with bounded():
        try:
            dataset = load_dataset(path, **options)
            for start in range(0, len(dataset), 100):
                count = min(100, len(dataset) - start)
                batch = dataset.fetch(torch.arange(start, start + count))
                for name, field in dataset.fields.items():
                    assert batch[name].shape == (count, *field.shape)
                    assert batch[name].dtype == field.dtype
            return ""
        except DataError as error:
            said = str(error)
    assert LINE.fullmatch(said), said
    assert named in said, said
    return said
