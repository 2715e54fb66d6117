"""Labels in a file of their own: an array, or numbers in a text."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from equikernels.models.data.columns import Array
from equikernels.models.data.errors import data_error, file_size, reading
from equikernels.models.data.readers.idx import idx_array
from equikernels.models.data.readers.npy import mapped_array

__all__ = ["read_labels"]


def read_labels(path: Path) -> Array:
    """The labels of a .npy file, an idx file, or a text of integers separated by white space or commas.

    Raises:
        DataError: a file that cannot be read, or a text with anything else.
    """
    file_size(path)
    if path.suffix == ".npy":
        return mapped_array(path)
    if "idx" in path.name or path.suffix == ".gz":
        return idx_array(path)
    with reading(path, "labels as a text in UTF-8"):
        lines = path.read_text(encoding="utf-8").splitlines()
    labels = []
    for number, line in enumerate(lines, 1):
        for word in re.split(r"[\s,]+", line.strip(" \t,")):
            if not re.fullmatch(r"[+-]?\d{1,18}", word) and word:
                raise data_error(path, f"integers in line {number}", repr(word))
            labels += [int(word)] if word else []
    if not labels:
        raise data_error(path, "at least one label", "none")
    return np.array(labels, dtype=np.int64)
