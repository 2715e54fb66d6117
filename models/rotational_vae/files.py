"""Autoencoders of diffusers from folders and the hub, and back to folders."""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import TYPE_CHECKING

from equikernels.models.rotational_vae.downsampling import SYMMETRIC, symmetrise
from equikernels.project import bake
from equikernels.project.adapting.softened import softened_entries

if TYPE_CHECKING:
    from diffusers import AutoencoderKL

__all__ = ["load_autoencoder", "save_autoencoder"]


def load_autoencoder(source: str | os.PathLike[str]) -> AutoencoderKL:
    """An AutoencoderKL by name; one that was saved with symmetric down-sampling has it again.

    Args:
        source: a folder that `save_pretrained` wrote, the folder of a pipeline with one in its folder "vae",
            or a name on the Hugging Face hub: OWNER/NAME, or OWNER/NAME/vae for one in a pipeline's folder.

    Raises:
        FileNotFoundError: none of these.
    """
    from diffusers import AutoencoderKL

    place = Path(source)
    if (place / "model_index.json").exists():
        place = place / "vae"
    name, inside = (str(place), None) if place.exists() else _hub_name(os.fspath(source))
    try:
        vae = AutoencoderKL.from_pretrained(name, subfolder=inside)
    except OSError as error:
        reason = str(error).partition("\n")[0]
        raise FileNotFoundError(
            f"vae: expected a folder or a hub name of an AutoencoderKL, got {os.fspath(source)!r}: {reason}"
        ) from error
    if vae.config.get(SYMMETRIC):
        symmetrise(vae)
    return vae


def _hub_name(source: str) -> tuple[str, str | None]:
    """A name on the hub, and the folder inside that it may name.

    >>> _hub_name("owner/pipeline/vae"), _hub_name("owner/vae")
    (('owner/pipeline', 'vae'), ('owner/vae', None))
    """
    owner, _, rest = source.partition("/")
    name, _, inside = rest.partition("/")
    return (f"{owner}/{name}", inside) if inside else (source, None)


def save_autoencoder(vae: AutoencoderKL, folder: str | os.PathLike[str]) -> None:
    """Write an AutoencoderKL as diffusers reads it; softened layers are baked in the copy that is written."""
    if any(True for _ in softened_entries(vae)):
        vae = bake(copy.deepcopy(vae))
    vae.save_pretrained(os.fspath(folder))
