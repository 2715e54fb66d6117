"""Certificates of saved models: no class and no code of theirs is needed."""

from __future__ import annotations

from pathlib import Path

from equikernels.project.certification.layers import LayerTable, certify_parameters
from equikernels.project.saving.models import SoftenedRecord, read_softened


def certify_directory(
    directory: str | Path, *, radius: float | None = None, samples: int = 16, seed: int = 0
) -> LayerTable:
    """`layer_certificates` of a folder that `save_softened` wrote.

    Args:
        directory: the folder.
        radius, samples, seed: as for `layer_certificates`.

    Raises:
        FileNotFoundError: the folder or one of its files is not there.
        SavedFileError: a damaged file, one of another kind or version; the message names it.
        TypeError, ValueError: naming the argument.
        MissingSafetensors: safetensors, of the extra `models`, is not installed.

    >>> import tempfile
    >>> from torch import nn
    >>> from equikernels.group import CyclicGroup
    >>> from equikernels.project import save_softened, soften
    >>> model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU())
    >>> report = soften(model, CyclicGroup(4), softness=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_softened(model, folder)
    ...     certify_directory(folder)
    LayerTable(1 softened parameters, 0 violated)
    """
    return certify_record(read_softened(directory), radius=radius, samples=samples, seed=seed)


def certify_record(
    record: SoftenedRecord, *, radius: float | None = None, samples: int = 16, seed: int = 0
) -> LayerTable:
    """The same of a folder that was read already."""
    rows = ((p.module, p.type, p.parameter, p.part, p.raw) for p in record.parameters)
    return certify_parameters(rows, radius, samples, seed)
