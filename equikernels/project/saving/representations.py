"""Representations by what built them, by their index maps, or by irreps and a change of basis."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from equikernels.group import (
    Group,
    PermutationRepresentation,
    Representation,
    pixel_grid,
    voxel_grid,
)
from equikernels.group.grids.pixel import GridRepresentation
from equikernels.group.grids.voxel_representation import VoxelRepresentation
from equikernels.group.permutation import positions
from equikernels.group.translations import GridTranslations, TranslatedPixels
from equikernels.project.saving.groups import group_from, group_spec
from equikernels.project.saving.specs import (
    Spec,
    TensorReader,
    TensorWriter,
    fields,
    label_from,
    label_spec,
    listed,
    text,
    whole,
)


def representation_spec(rep: Representation, tensors: TensorWriter) -> Spec:
    """A representation as JSON.

    Grids are written by their size, method and mask; index maps by those of the generators; everything else
    by its normal form, exactly. Raises TypeError for a group that cannot be saved and for matrices of a class
    unknown here that are no representation.
    """
    group = group_spec(rep.group, tensors)
    if isinstance(rep, GridRepresentation):
        return _grid("pixels", group, (rep.grid.height, rep.grid.width), rep.method, rep.grid.mask, tensors)
    if isinstance(rep, VoxelRepresentation):
        return _grid("voxels", group, (rep.grid.side,) * 3, rep.method, rep.grid.mask, tensors)
    if isinstance(rep, TranslatedPixels):
        return {"kind": "translated pixels", "group": group}
    if type(rep) is PermutationRepresentation:
        places = [int(positions(rep.group, s)) for s in rep.group.discrete_elements]
        maps = tensors.add("permutation", rep.sources[places])
        return {"kind": "permutation", "group": group, "source": maps, "name": rep._name}
    if rep.group.is_compact and not rep.is_orthogonal:
        raise TypeError(f"{rep!r} cannot be saved: {type(rep).__name__} is no representation in normal form")
    irreps = [[label_spec(label), copies] for label, copies in rep.irreps]
    basis = None if rep._basis is None else tensors.add("basis", rep._basis)
    return {"kind": "irreps", "group": group, "irreps": irreps, "basis": basis, "name": rep._name}


def _grid(
    kind: str, group: Spec, size: tuple[int, ...], method: str, mask: bytes | None, tensors: TensorWriter
) -> Spec:
    kept = None
    if mask is not None:
        kept = tensors.add("mask", np.frombuffer(mask, dtype=bool).reshape(size))
    return {"kind": kind, "group": group, "size": list(size), "method": method, "mask": kept}


def representation_from(spec: Any, tensors: TensorReader) -> Representation:
    """The representation that `representation_spec` wrote; raises ValueError for anything else."""
    kind = spec.get("kind") if isinstance(spec, dict) else None
    if kind in ("pixels", "voxels"):
        _, group, size, method, mask = fields(spec, kind, "kind", "group", "size", "method", "mask")
        sides = tuple(whole(side, "a side of a grid", 1) for side in listed(size, "size"))
        own = group_from(group, tensors)
        kept = None if mask is None else tensors.get(mask, torch.bool, len(sides))
        options: Any = {"method": text(method, "method"), "mask": kept}
        if kind == "pixels":
            return pixel_grid(_exactly(2, sides), own, **options)
        return voxel_grid(_exactly(3, sides), own, **options)
    if kind == "translated pixels":
        _, group = fields(spec, kind, "kind", "group")
        own = group_from(group, tensors)
        if not isinstance(own, GridTranslations):
            raise ValueError(f"translated pixels need GridTranslations, got {own!r}")
        return own.regular()
    if kind == "permutation":
        _, group, source, name = fields(spec, kind, "kind", "group", "source", "name")
        maps = tensors.get(source, torch.int64, 2)
        return PermutationRepresentation(group_from(group, tensors), maps, _name(name))
    if kind == "irreps":
        _, group, irreps, basis, name = fields(spec, kind, "kind", "group", "irreps", "basis", "name")
        return _normal_form(group_from(group, tensors), irreps, basis, _name(name), tensors)
    raise ValueError(f"a representation of the kind {kind!r} is unknown")


def _exactly(count: int, sides: tuple[int, ...]) -> Any:
    if len(sides) != count:
        raise ValueError(f"size must hold {count} sides, got {sides}")
    return sides


def _name(name: Any) -> str | None:
    return None if name is None else text(name, "the name of a representation")


def _normal_form(
    group: Group, irreps: Any, basis: Any, name: str | None, tensors: TensorReader
) -> Representation:
    pairs = []
    for pair in listed(irreps, "irreps"):
        if len(listed(pair, "an irrep with its copies")) != 2:
            raise ValueError(f"irreps must be pairs (label, copies), got {pair!r}")
        pairs.append((label_from(pair[0]), whole(pair[1], "copies")))
    matrix = None if basis is None else tensors.get(basis, torch.float64, 2)
    return Representation(group, pairs, matrix, name)
