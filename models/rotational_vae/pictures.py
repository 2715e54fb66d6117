"""Training images that a diffusion pipeline draws: the first step of the paper."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from equikernels.models.data import SampleDraws
from equikernels.models.engine.configuration import check_at_least
from equikernels.models.engine.errors import ConfigurationError
from equikernels.project.saving.files import write_atomically, write_text

__all__ = ["Drawing", "draw_pictures", "load_pipeline"]

SETTINGS = "drawing.json"
"""The file beside the pictures that says how they were made."""


@dataclass(frozen=True)
class Drawing:
    """What is drawn.

    Attributes:
        pipeline: A folder or a name on the Hugging Face hub of a pipeline of diffusers that draws from text.
        prompt: What the pictures are to show.
        steps: Steps of denoising.
        size: Side of the square pictures in pixels; 0 takes what the pipeline was made for.
        seed: Decides the pictures: number i depends on i and the seed alone.
    """

    pipeline: str
    prompt: str
    steps: int = 50
    size: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        check_at_least(self, "steps", 1)
        check_at_least(self, "size", 0)
        check_at_least(self, "seed", 0)


def load_pipeline(source: str | os.PathLike[str], device: str = "auto") -> Any:
    """A pipeline of diffusers, without a progress bar of its own.

    Args:
        source: the folder of a pipeline, or its name on the Hugging Face hub.
        device: "auto" takes a GPU where there is one, and half precision there; or "cpu".

    Raises:
        ConfigurationError: there is none, or the hub cannot be reached.
    """
    from diffusers import DiffusionPipeline
    from huggingface_hub.errors import HfHubHTTPError

    gpu = device == "auto" and torch.cuda.is_available()
    precision = {"torch_dtype": torch.float16} if gpu else {}
    try:
        pipeline = DiffusionPipeline.from_pretrained(os.fspath(source), **precision)
    except (OSError, ValueError, HfHubHTTPError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ConfigurationError(
            f"pipeline: expected a folder or a hub name of a pipeline, got {os.fspath(source)!r}: {reason}"
        ) from error
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to("cuda" if gpu else "cpu")


def draw_pictures(
    pipeline: Any,
    drawing: Drawing,
    folder: str | os.PathLike[str],
    count: int,
    report: Callable[[Path], None] = lambda path: None,
) -> list[Path]:
    """Draw what a folder lacks of the pictures 00000.png, 00001.png, ...: `count` in all.

    The folder is a data set of pictures then. Interrupted at any moment, the same call goes on, and ends with
    the same pictures.

    Args:
        pipeline: as `load_pipeline` gives it.
        drawing: what and how; kept in the folder.
        report: called with each new picture.

    Returns:
        The paths of all `count` pictures.

    Raises:
        ConfigurationError: the folder holds pictures of another drawing, or cannot be written.
    """
    if count < 1:
        raise ConfigurationError(f"count: expected an integer >= 1, got {count}")
    place = Path(folder)
    _keep_settings(place, drawing)
    options: dict[str, Any] = {"num_inference_steps": drawing.steps}
    if drawing.size:
        options |= {"height": drawing.size, "width": drawing.size}
    paths = [place / f"{number:05d}.png" for number in range(count)]
    for number, path in enumerate(paths):
        if path.exists():
            continue
        # Noise of the CPU's generator, so that every device draws the same; it takes 32 bits of a seed.
        own = int(SampleDraws(drawing.seed, 0, [number]).integers("picture", 0, 2**32))
        generator = torch.Generator().manual_seed(own)
        picture = pipeline(drawing.prompt, generator=generator, **options).images[0]
        try:
            write_atomically(path, lambda temporary, p=picture: p.save(temporary, format="PNG"))  # type: ignore[misc]
        except OSError as error:
            raise ConfigurationError(f"{path}: cannot write there: {error.strerror}") from error
        report(path)
    return paths


def _keep_settings(folder: Path, drawing: Drawing) -> None:
    """Write how pictures are drawn, or see that those which are there were drawn so."""
    file = folder / SETTINGS
    wanted = asdict(drawing)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not file.exists():
            if any(folder.glob("*.png")):
                raise ConfigurationError(f"{folder}: has pictures that were not drawn here")
            write_text(file, json.dumps(wanted, indent=1) + "\n")
            return
        found = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{folder}: cannot write there: {error.strerror}") from error
    except ValueError as error:
        raise ConfigurationError(f"{file}: no JSON: {error}") from error
    for name, value in wanted.items():
        if not isinstance(found, dict) or found.get(name) != value:
            then = found.get(name) if isinstance(found, dict) else found
            raise ConfigurationError(f"{folder}: was drawn with {name} = {then!r}, now it is {value!r}")
