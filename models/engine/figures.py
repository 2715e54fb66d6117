"""Files of figures: small ones, whatever they show."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from equikernels.project.saving.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["save_figure"]

DOTS_PER_INCH = 110
COLOURS = 256


def save_figure(figure: Figure, path: Path, dots_per_inch: int = DOTS_PER_INCH) -> None:
    """Write a figure as a PNG with a palette of 256 colours, in the place of one that is there.

    With all its colours, a page of photographs would take several times as much.

    Raises:
        OSError: the file cannot be written.
    """
    from PIL import Image

    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=dots_per_inch)
    small = Image.open(drawn).convert("RGB").quantize(COLOURS)
    write_atomically(path, lambda temporary: small.save(temporary, format="PNG", optimize=True))
