"""Saving projectors and softened models: safetensors and JSON, nothing that runs code when it is read."""

from equikernels.project.saving.files import MissingSafetensors, SavedFileError
from equikernels.project.saving.models import (
    RecordedParameter,
    SoftenedRecord,
    load_softened,
    read_softened,
    save_softened,
)
from equikernels.project.saving.projectors import load_projector, save_projector

__all__ = [
    "MissingSafetensors",
    "RecordedParameter",
    "SavedFileError",
    "SoftenedRecord",
    "load_projector",
    "load_softened",
    "read_softened",
    "save_projector",
    "save_softened",
]
