"""What a part of the demonstration gives: claims with what was measured, a table, pictures."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Claim", "Miniature", "Picture", "Report"]

Report = Callable[[str], None]
"""Called by a part after each of its steps, with what the step was, in a few words."""


@dataclass(frozen=True)
class Claim:
    """A claim, what was measured, and whether it held.

    Attributes:
        claim: what is said to be so.
        measured: the numbers that decide, as text.
        holds: computed from them; None marks an observation, which cannot fail.
    """

    claim: str
    measured: str
    holds: bool | None

    @property
    def verdict(self) -> str:
        return {True: "holds", False: "FAILS", None: "observed"}[self.holds]


@dataclass(frozen=True, eq=False)
class Picture:
    """A figure with its title and a caption of one to three sentences.

    Attributes:
        name: of its file, without a suffix; letters, digits and underscores.

    Raises:
        ValueError: another name.
    """

    name: str
    title: str
    caption: str
    figure: Figure

    def __post_init__(self) -> None:
        if re.fullmatch(r"[A-Za-z0-9_]+", self.name) is None:
            raise ValueError(f"name must be letters, digits and underscores, got {self.name!r}")


@dataclass(frozen=True, eq=False)
class Miniature:
    """All that a part of the demonstration found.

    Attributes:
        title: of the part, such as "Soft equivariance".
        introduction: a paragraph: what was done on which data, for someone who does not know the paper.
        claims: at least one that can fail.
        pictures: in the order in which they are shown.
        headings, rows: a table; none without headings.
        note: what the columns of the table mean.

    Raises:
        ValueError: no claim that can fail, two pictures of one name, a row that does not fit the headings.

    >>> Miniature("Turns", "Nothing was done.", [Claim("it was seen", "once", None)], [])
    Traceback (most recent call last):
    ValueError: claims must have at least one that can fail, got 1 observed
    """

    title: str
    introduction: str
    claims: Sequence[Claim]
    pictures: Sequence[Picture]
    headings: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = field(default=())
    note: str = ""

    def __post_init__(self) -> None:
        if all(claim.holds is None for claim in self.claims):
            raise ValueError(f"claims must have at least one that can fail, got {len(self.claims)} observed")
        names = [picture.name for picture in self.pictures]
        if len(set(names)) < len(names):
            raise ValueError(f"pictures must have names of their own, got {', '.join(names)}")
        for row in self.rows:
            if len(row) != len(self.headings):
                raise ValueError(f"rows must have {len(self.headings)} cells like headings, got {len(row)}")
