"""What `soften` did, layer by layer, and what limits it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from equikernels.group import Group
from equikernels.project.cutoffs import Cutoff


@dataclass(frozen=True)
class LayerRow:
    """One layer.

    Attributes:
        name: its qualified name, or that of the one parameter concerned.
        type: its class.
        action: what was done: "isotropic kernels", "smooth positions", "equivariant map",
            "equivariant attention", "left alone", or what a rule of your own says.
        representation: how the group acts, "" where nothing was done.
        parameters: entries of its parameters before, the softened ones; of a layer left alone, all its own.
        dimension: how many of them are free after.
        note: what else is to be said.
        softened: whether anything was softened in this layer.
    """

    name: str
    type: str
    action: str
    representation: str
    parameters: int
    dimension: float
    note: str
    softened: bool


@dataclass(frozen=True)
class LimitRow:
    """One reason why the model is not exactly equivariant even at softness 0, and the layer it is in."""

    name: str
    type: str
    reason: str


@dataclass(frozen=True, repr=False)
class SoftenReport:
    """What `soften` did, or would do on a dry run; prints as a table.

    Attributes:
        group, cutoff: what the model was softened to.
        layers: a row for every layer with parameters, in the model's order.
        limiting: what keeps the model from exactness at softness 0; empty: nothing known does.
    """

    group: Group
    cutoff: Cutoff
    layers: tuple[LayerRow, ...]
    limiting: tuple[LimitRow, ...]

    @property
    def softened(self) -> tuple[LayerRow, ...]:
        """The rows of the layers that were softened."""
        return tuple(row for row in self.layers if row.softened)

    def __repr__(self) -> str:
        return (
            f"SoftenReport({self.group!r}, {self.cutoff!r}: {len(self.softened)} of {len(self.layers)} "
            f"layers, {len(self.limiting)} limiting)"
        )

    def __str__(self) -> str:
        blocks = [self._title, _text(_LAYER_HEAD, self._layer_lines())]
        blocks += [self._limit_title]
        if self.limiting:
            blocks.append(_text(_LIMIT_HEAD, self._limit_lines()))
        return "\n\n".join(blocks)

    def to_markdown(self) -> str:
        """The same as Markdown: two tables with their titles."""
        blocks = [self._title, _markdown(_LAYER_HEAD, self._layer_lines()), self._limit_title]
        if self.limiting:
            blocks.append(_markdown(_LIMIT_HEAD, self._limit_lines()))
        return "\n\n".join(blocks) + "\n"

    @property
    def _title(self) -> str:
        rows = self.softened
        before, after = sum(row.parameters for row in rows), sum(row.dimension for row in rows)
        return (
            f"{self.group!r}, {self.cutoff!r}: {len(rows)} of {len(self.layers)} layers softened, "
            f"{_count(after)} of their {before} parameters free"
        )

    @property
    def _limit_title(self) -> str:
        return "Limits exactness:" if self.limiting else "Nothing known limits exactness."

    def _layer_lines(self) -> list[tuple[str, ...]]:
        """Softened layers one by one; those left alone for one reason in one line."""
        lines: list[tuple[str, ...]] = []
        alike: dict[tuple[str, str], list[LayerRow]] = {}
        for row in self.layers:
            if row.softened:
                free = f"{row.parameters} -> {_count(row.dimension)}"
                lines.append((row.name, row.type, row.action, row.representation, free, row.note))
            else:
                alike.setdefault((row.type, row.note), []).append(row)
        for (kind, note), rows in alike.items():
            name = rows[0].name if len(rows) == 1 else f"{rows[0].name} and {len(rows) - 1} more"
            lines.append((name, kind, rows[0].action, "", str(sum(row.parameters for row in rows)), note))
        return lines

    def _limit_lines(self) -> list[tuple[str, ...]]:
        return [(row.name, row.type, row.reason) for row in self.limiting]


_LAYER_HEAD = ("layer", "type", "action", "representation", "parameters", "note")
_LIMIT_HEAD = ("layer", "type", "reason")


def _count(number: float) -> str:
    return str(int(number)) if number == int(number) else f"{number:.1f}"


def _text(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    table = [head, *lines]
    widths = [max(len(line[k]) for line in table) for k in range(len(head))]
    padded = [
        "  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)) for line in table
    ]
    return "\n".join(line.rstrip() for line in [padded[0], "  ".join("-" * w for w in widths), *padded[1:]])


def _markdown(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)
