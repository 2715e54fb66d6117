"""A short name for what files hold: equal for copies at other places and times, cheap for large files."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from equikernels.models.data.errors import reading

__all__ = ["files_digest"]

# Of at most so many files are bytes read; of the others names and sizes count.
_FILES_READ = 64
_HEADER = 4096
_BLOCK = 512
_BLOCKS = 16


def files_digest(files: Sequence[Path]) -> bytes:
    """A digest of names, sizes and parts of the bytes of files: their beginning and blocks all over.

    Folders above the files do not count, nor do times. A change in bytes that are not read goes unseen.

    Raises:
        DataError: a file that cannot be read.
    """
    digest = hashlib.blake2b(digest_size=16)
    read = set(np.linspace(0, len(files) - 1, min(len(files), _FILES_READ)).astype(int).tolist())
    for number, path in enumerate(files):
        with reading(path, "a file that can be read"):
            size = path.stat().st_size
            digest.update(f"{len(path.name)} {path.name} {size} ".encode(errors="surrogateescape"))
            if number not in read:
                continue
            with path.open("rb") as stream:
                digest.update(stream.read(_HEADER))
                for start in np.linspace(_HEADER, max(size - _BLOCK, _HEADER), _BLOCKS).astype(int):
                    stream.seek(int(start))
                    digest.update(stream.read(_BLOCK))
    return digest.digest()
