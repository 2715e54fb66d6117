"""``equikernels pictures``: training images that a diffusion pipeline draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from equikernels.cli.options import parse
from equikernels.cli.running import user_errors
from equikernels.models.rotational_vae.pictures import Drawing, draw_pictures, load_pipeline

__all__ = ["pictures"]


@dataclass(frozen=True)
class Pictures:
    """Let a diffusion pipeline draw a data set of pictures. Interrupted, the same command goes on.

    Attributes:
        pipeline: A folder or a name on the Hugging Face hub of a pipeline of diffusers that draws from text.
        prompt: What the pictures are to show.
        out: The folder to write 00000.png, 00001.png, ... to.
        count: How many pictures there are to be in all.
        steps: Steps of denoising.
        size: Side of the square pictures in pixels; 0 takes what the pipeline was made for.
        seed: Decides the pictures: number i depends on i and the seed alone.
        device: auto takes a GPU where there is one.
    """

    pipeline: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="PIPELINE")]
    prompt: str
    out: Path
    count: int = 16
    steps: int = 50
    size: int = 0
    seed: int = 0
    device: Literal["auto", "cpu"] = "auto"

    def __post_init__(self) -> None:
        self.drawing()

    def drawing(self) -> Drawing:
        return Drawing(self.pipeline, self.prompt, self.steps, self.size, self.seed)


def pictures(words: Sequence[str]) -> int:
    """Draw pictures; returns 0 or raises UserError."""
    asked = parse(Pictures, words, "equikernels pictures")
    with user_errors():
        pipeline = load_pipeline(asked.pipeline, asked.device)
        draw_pictures(pipeline, asked.drawing(), asked.out, asked.count, lambda path: print(f"saved: {path}"))
    return 0
