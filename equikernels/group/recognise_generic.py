"""The irreps of any compact group, from matrices: isotypic blocks, each matched with a known irrep."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch

from equikernels.group.group import Group, Label
from equikernels.group.isotypic import IsotypicBlock, alignment, isotypic_blocks

Blocks = list[tuple[Label, np.ndarray]]
"""Labels with bases (dim, copies * d) of their isotypic parts, the copies side by side."""

PATIENCE = 5
"""After this many values of `max_label` in a row without an irrep small and slow enough to be one of the
blocks, no further ones are tried."""

FREQUENCY_MARGIN = 1e-6
"""How much higher than a block's frequency, relatively, one counts as equal."""


def generic_blocks(group: Group, lie: list[np.ndarray], discrete: list[np.ndarray]) -> Blocks:
    """The isotypic blocks of a compact group acting by skew and orthogonal matrices, in the irreps' own form.

    Raises ValueError where a block is none of the group's irreps: all of them for a finite group, for an
    infinite one those of `group.irreps(max_label)` up to where they outgrow the blocks.
    """
    blocks = isotypic_blocks(lie, discrete)
    return match_blocks(group, blocks, (lie, discrete), _levels(group))


def irrep_operators(group: Group, label: Label) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The Lie generators and discrete generators of an irrep, (d, d) each."""
    elements = [group.check(s) for s in group.discrete_elements]
    lie = list(group.irrep_generators(label))
    return lie, [group.irrep_matrix(label, s, torch.float64).numpy() for s in elements]


def match_blocks(
    group: Group,
    blocks: list[IsotypicBlock],
    operators: tuple[list[np.ndarray], list[np.ndarray]],
    levels: Iterable[list[Label]],
) -> Blocks:
    """The label of every block, with its basis turned so that operators act as on the group's own irrep."""
    forms = [([b.form(a) for a in operators[0]], [b.form(g) for g in operators[1]]) for b in blocks]
    waiting = list(range(len(blocks)))
    found: Blocks = []
    missed = 0
    for labels in levels:
        largest = max(blocks[j].dim for j in waiting)
        fastest = max(_frequency(forms[j][0]) for j in waiting)
        fitting = False
        for label in labels:
            d = group.irrep_dim(label)
            if d > largest:
                continue
            own = irrep_operators(group, label)
            fitting = fitting or _frequency(own[0]) <= fastest * (1 + FREQUENCY_MARGIN)
            for j in waiting:
                t = alignment(own, forms[j]) if blocks[j].dim == d else None
                if t is not None:
                    copies = blocks[j].basis.reshape(-1, blocks[j].copies, d)
                    found.append((label, (copies @ t).reshape(len(copies), -1)))
                    waiting.remove(j)
                    break
        missed = 0 if fitting else missed + 1
        if not waiting or missed == PATIENCE:
            break
    if waiting:
        sizes = ", ".join(str(blocks[j].dim) for j in waiting)
        raise ValueError(
            f"the matrices are no representation of {group!r}: their irreducible parts of dimension {sizes} "
            "are none of its irreps"
        )
    return found


def _frequency(lie: list[np.ndarray]) -> float:
    """The highest frequency of the Lie generators, which grows with the label."""
    return max((float(np.linalg.norm(a, ord=2)) for a in lie), default=0.0)


def _levels(group: Group) -> Iterator[list[Label]]:
    """The labels of a finite group at once, those of an infinite one by growing `max_label`."""
    irreps: Callable[..., Any] = group.irreps
    if group.order is not None:
        yield [rep.irreps[0][0] for rep in irreps()]
        return
    known: set[Label] = set()
    highest = 0
    while True:
        labels = [rep.irreps[0][0] for rep in irreps(max_label=highest)]
        yield [label for label in labels if label not in known]
        known.update(labels)
        highest += 1
