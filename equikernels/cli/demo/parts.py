"""The parts of the demonstration, one for each paper, and what is kept of a finished one."""

from __future__ import annotations

import importlib
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from equikernels.cli import UserError
from equikernels.models.engine.figures import save_figure
from equikernels.models.engine.miniature import Miniature, Picture

__all__ = ["PARTS", "Bar", "FinishedPart", "chosen_parts", "perform"]

PARTS: dict[str, str] = {
    "soft-equivariance": "equikernels.models.soft_equivariance.miniature",
    "latent-actions": "equikernels.models.latent_actions.miniature",
    "spatial-vae": "equikernels.models.spatial_vae.miniature",
    "rotational-vae": "equikernels.models.rotational_vae.miniature",
}
"""Names of the parts in their order, and the modules with their `STEPS` and `run(seed, report)`."""

DOTS_PER_INCH = 160


@dataclass(frozen=True, eq=False)
class FinishedPart:
    """What a part found, and how many seconds it took."""

    name: str
    miniature: Miniature
    seconds: float

    def file(self, picture: Picture) -> str:
        """The name of a picture's file, which no picture of another part has."""
        return f"{self.name.replace('-', '_')}_{picture.name}.png"

    def as_json(self) -> dict[str, Any]:
        """Claims and table, ready to be written."""
        found = self.miniature
        return {
            "part": self.name,
            "title": found.title,
            "seconds": round(self.seconds, 1),
            "claims": [asdict(claim) | {"verdict": claim.verdict} for claim in found.claims],
            "headings": list(found.headings),
            "rows": [list(row) for row in found.rows],
            "pictures": [self.file(picture) for picture in found.pictures],
        }


class Bar(Protocol):
    """Shows how far a part is."""

    def begin(self, steps: int) -> None:
        """There will be so many steps."""

    def step(self, name: str) -> None:
        """One more step is done, of this name."""


def chosen_parts(names: Sequence[str] | None) -> list[str]:
    """The parts that are asked for, each once and in the order of all; all of them for None.

    Raises:
        UserError: a name that no part has.

    >>> chosen_parts(["spatial-vae", "soft-equivariance"])
    ['soft-equivariance', 'spatial-vae']
    """
    unknown = [name for name in names or () if name not in PARTS]
    if unknown:
        expected = ", ".join(PARTS)
        raise UserError(f"argument --parts: expected some of {expected}, got {unknown[0]!r}", exit_code=2)
    return [name for name in PARTS if names is None or name in names]


def perform(name: str, seed: int, out: Path, bar: Bar) -> FinishedPart:
    """Do one part and write its pictures."""
    begun = time.perf_counter()
    module = importlib.import_module(PARTS[name])
    bar.begin(module.STEPS)
    # What a part draws without a generator of its own does not depend on the parts before it.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        miniature: Miniature = module.run(seed, bar.step)
    done = FinishedPart(name, miniature, time.perf_counter() - begun)
    for picture in miniature.pictures:
        save_figure(picture.figure, out / done.file(picture), DOTS_PER_INCH)
    return done
