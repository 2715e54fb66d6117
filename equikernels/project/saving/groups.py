"""Groups by class name and constructor arguments, from a closed table: a file imports nothing by name."""

from __future__ import annotations

from typing import Any

import torch

from equikernels.group import (
    O2,
    O3,
    SO2,
    SO3,
    CubeGroup,
    CyclicGroup,
    DihedralGroup,
    DirectProduct,
    GridTranslations,
    Group,
    Lorentz,
    MatrixGroup,
    Orthogonal,
    SpecialOrthogonal,
    SymmetricGroup,
)
from equikernels.project.saving.specs import Spec, TensorReader, TensorWriter, fields, listed, text, whole

ARGUMENTS: dict[type[Group], tuple[str, ...]] = {
    SO2: (),
    O2: (),
    SO3: (),
    O3: (),
    CubeGroup: (),
    Lorentz: (),
    CyclicGroup: ("n",),
    DihedralGroup: ("n",),
    SymmetricGroup: ("n",),
    SpecialOrthogonal: ("n",),
    Orthogonal: ("n",),
    GridTranslations: ("height", "width"),
}
"""The integers that make each group; direct products and matrix groups are written otherwise."""

CLASSES: tuple[type[Group], ...] = (*ARGUMENTS, DirectProduct, MatrixGroup)
KNOWN = {cls.__name__: cls for cls in CLASSES}


def group_spec(group: Group, tensors: TensorWriter) -> Spec:
    """A group as JSON; raises TypeError for one of a class that is not in the table."""
    spec: Spec = {"class": type(group).__name__}
    if type(group) in ARGUMENTS:
        return spec | {name: int(getattr(group, name)) for name in ARGUMENTS[type(group)]}
    if type(group) is DirectProduct:
        return spec | {"factors": [group_spec(factor, tensors) for factor in group.factors]}
    if type(group) is MatrixGroup:
        algebra, elements = (tensors.add("group", a) for a in (group.algebra, group.discrete))
        return spec | {"algebra": algebra, "elements": elements, "name": group.name}
    raise TypeError(f"{group!r} cannot be saved: only {', '.join(KNOWN)} can, got {type(group).__name__}")


def group_from(spec: Any, tensors: TensorReader) -> Group:
    """The group that `group_spec` wrote; raises ValueError for anything else."""
    named = spec.get("class") if isinstance(spec, dict) else None
    if not isinstance(named, str) or named not in KNOWN:
        raise ValueError(f"a group must be one of {', '.join(KNOWN)}, got {named!r}")
    cls: Any = KNOWN[named]
    if cls is DirectProduct:
        _, factors = fields(spec, "a direct product", "class", "factors")
        return DirectProduct(*(group_from(factor, tensors) for factor in listed(factors, "factors")))
    if cls is MatrixGroup:
        _, *stacks, name = fields(spec, "a matrix group", "class", "algebra", "elements", "name")
        algebra, elements = (list(tensors.get(own, torch.float64, 3)) for own in stacks)
        return MatrixGroup(
            algebra, elements, name=None if name is None else text(name, "the name of a group")
        )
    names = ARGUMENTS[cls]
    _, *values = fields(spec, f"a {named}", "class", *names)
    group: Group = cls(*(whole(v, f"{n} of {named}", 1) for n, v in zip(names, values, strict=True)))
    return group
