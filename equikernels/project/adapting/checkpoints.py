"""What file formats without a place for it need: the record of a model's softness as strings.

`torch.save(model.state_dict())` carries the record in the state dict's metadata by itself, and loading
compares it. safetensors drops that metadata; these two functions put it into the file's own.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from equikernels.project.adapting.softened import softened_entries

PREFIX = "softened."


def soften_metadata(model: nn.Module) -> dict[str, str]:
    """The record of a softened model: "softened." + parameter name -> cut-off and representations.

    For `safetensors.torch.save_file(model.state_dict(), path, metadata=soften_metadata(model))`.

    >>> from equikernels.group import CyclicGroup
    >>> from equikernels.project import soften
    >>> model = nn.Sequential(nn.Conv2d(1, 1, 3))
    >>> report = soften(model, CyclicGroup(4), softness=0.5)
    >>> list(soften_metadata(model))
    ['softened.0.weight']
    """
    _check_model(model)
    return {
        PREFIX + (f"{path}.{name}" if path else name): entry.record
        for path, _, name, entry in softened_entries(model)
    }


def check_soften_metadata(model: nn.Module, metadata: Mapping[str, str] | None) -> None:
    """Compare the record of a file with a model, before its weights are loaded.

    Args:
        model: softened or plain.
        metadata: what `safetensors.safe_open(path, "pt").metadata()` gives, None for a file without.

    Raises:
        ValueError: the file has a record and it differs from the model's; the message names each
            parameter with both cut-offs. Files without a record are plain checkpoints and fit every model; so
            do plain models.
    """
    _check_model(model)
    there = {key: value for key, value in (metadata or {}).items() if key.startswith(PREFIX)}
    here = soften_metadata(model)
    if not there or not here:
        return
    wrong = [
        f"{key.removeprefix(PREFIX)} is softened by {here.get(key, 'nothing')}, in the file by "
        f"{there.get(key, 'nothing')}"
        for key in {**here, **there}
        if here.get(key) != there.get(key)
    ]
    if wrong:
        raise ValueError("the file was saved from a model of another softness: " + "; ".join(wrong))


def _check_model(model: nn.Module) -> None:
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
