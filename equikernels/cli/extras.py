"""Which optional dependencies are installed, read from the package's own metadata: no list is kept twice."""

from __future__ import annotations

import importlib.metadata
import re

__all__ = ["missing_from_extra"]

_REQUIREMENT = re.compile(r"^(?P<name>[A-Za-z0-9._-]+).*;.*extra == ['\"](?P<extra>[A-Za-z0-9._-]+)['\"]")


def missing_from_extra(extra: str) -> list[str]:
    """Names of the distributions that an extra of equikernels lists and that are not installed, in its order.

    Raises:
        ValueError: no requirement belongs to ``extra``.

    >>> missing_from_extra("nonsense")
    Traceback (most recent call last):
    ValueError: extra: expected one that equikernels declares, got 'nonsense'
    """
    requirements = importlib.metadata.requires("equikernels") or []
    matches = [match for match in map(_REQUIREMENT.match, requirements) if match]
    names = [match["name"] for match in matches if match["extra"] == extra]
    if not names:
        raise ValueError(f"extra: expected one that equikernels declares, got {extra!r}")
    return [name for name in names if not _is_installed(name)]


def _is_installed(distribution: str) -> bool:
    try:
        importlib.metadata.distribution(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
