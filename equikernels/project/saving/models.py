"""Softened models as folders: the raw weights beside a record of what was softened, and how."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor, nn

from equikernels.group import Group
from equikernels.project.adapting.checkpoints import PREFIX, soften_metadata
from equikernels.project.adapting.parts import Kernels, Part, Patches, Tokens, Whole
from equikernels.project.adapting.soften import AlreadySoftened
from equikernels.project.adapting.softened import (
    is_softened,
    plain_class,
    restore_module,
    soften_module,
)
from equikernels.project.projector import EquivariantProjector, InvariantProjector
from equikernels.project.saving.files import (
    SavedFileError,
    existing,
    naming,
    read_tensors,
    write_tensors,
    write_text,
)
from equikernels.project.saving.parameters import SoftParameter, record_of, soft_parameters
from equikernels.project.saving.projectors import ProjectorReader, ProjectorWriter
from equikernels.project.saving.specs import Spec, TensorReader, fields, listed, parse, text, whole

WEIGHTS, RECORD, TENSORS = "model.safetensors", "soften.json", "projectors.safetensors"

FORMAT = "equikernels softened model"
VERSION = 1

M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True, eq=False)
class RecordedParameter:
    """One softened parameter of a folder.

    Attributes:
        module, parameter, type: its module's qualified name, its own name, its module's class.
        part: how it is projected.
        raw: the raw value in the file.
        built_in: whether its layer is soft as built.
    """

    module: str
    parameter: str
    type: str
    part: Part
    raw: Tensor
    built_in: bool

    @property
    def name(self) -> str:
        """The qualified name of the parameter."""
        return f"{self.module}.{self.parameter}" if self.module else self.parameter


@dataclass(frozen=True, eq=False)
class SoftenedRecord:
    """What a folder of `save_softened` holds: the softened parameters, and the whole raw state_dict."""

    parameters: tuple[RecordedParameter, ...]
    weights: Mapping[str, Tensor]

    @property
    def groups(self) -> tuple[Group, ...]:
        """The groups of all projectors, each once; given operators have none."""
        reps = (p.part.projector.rep_in for p in self.parameters)
        return tuple(dict.fromkeys(rep.group for rep in reps if rep is not None))


# -- parts -------------------------------------------------------------------------------------


def part_spec(part: Part) -> Spec:
    """The layout of a part as JSON; raises TypeError for a part of your own."""
    if type(part) is Whole:
        return {"layout": "whole"}
    if type(part) is Patches:
        return {"layout": "patches"}
    if type(part) is Kernels:
        return {"layout": "kernels", "axes": part.axes}
    if type(part) is Tokens:
        return {"layout": "tokens", "leading": part.leading}
    raise TypeError(
        f"the part {type(part).__name__} cannot be saved: only Whole, Patches, Kernels, Tokens can"
    )


def part_from(spec: Any, projector: EquivariantProjector) -> Part:
    """The part that `part_spec` wrote, around its projector; raises ValueError for anything else."""
    layout = spec.get("layout") if isinstance(spec, dict) else None
    if layout == "whole":
        fields(spec, "a part", "layout")
        return Whole(projector)
    if layout == "patches":
        fields(spec, "a part", "layout")
        return Patches(projector)
    if not isinstance(projector, InvariantProjector):
        raise ValueError(f"a part of the layout {layout!r} needs an invariant projector, got {projector!r}")
    if layout == "kernels":
        _, axes = fields(spec, "a part", "layout", "axes")
        return Kernels(projector, whole(axes, "axes", 1))
    if layout == "tokens":
        _, leading = fields(spec, "a part", "layout", "leading")
        return Tokens(projector, whole(leading, "leading"))
    raise ValueError(f"the layout {layout!r} is unknown")


# -- saving ------------------------------------------------------------------------------------


def save_softened(model: nn.Module, directory: str | Path) -> None:
    """Write a softened model to a folder, so that it can be certified and loaded without its code.

    `model.safetensors` holds the raw state_dict, under its own names, and loads into a plain model as well;
    `soften.json` says how each softened parameter is projected; `projectors.safetensors` holds the matrices
    it refers to. Each file is replaced whole or not at all; the record comes last, and a folder whose files
    do not belong together is an error when it is read.

    Args:
        model: a module with softened parameters, or with layers that are soft as built.
        directory: made where it is absent.

    Raises:
        TypeError: no module, a state_dict with other things than tensors, projections of your own classes.
        ValueError: a model without anything soft, or one that hides a softened parameter from its state_dict.
        MissingSafetensors: safetensors, of the extra `models`, is not installed.
        OSError: a file cannot be written.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    state = dict(model.state_dict())
    for name, value in state.items():
        if not isinstance(value, Tensor):
            raise TypeError(f"the state_dict must hold tensors, but {name} is a {type(value).__name__}")
    found = list(soft_parameters(model))
    if not found:
        raise ValueError("model has no softened parameters: soften(model, group, ...) first")
    writer = ProjectorWriter()
    projectors: list[Spec] = []
    places: dict[int, int] = {}
    rows: list[Spec] = []
    for parameter in found:
        projector = parameter.part.projector
        if id(projector) not in places:
            places[id(projector)] = len(projectors)
            projectors.append(writer.spec(projector))
        rows.append(_row(parameter, places[id(projector)], state))
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    write_tensors(folder / TENSORS, writer.tensors, {"format": FORMAT})
    write_tensors(folder / WEIGHTS, state, soften_metadata(model))
    record = {
        "format": FORMAT,
        "version": VERSION,
        "tensors": _digest(folder / TENSORS),
        "representations": writer.representations,
        "projectors": projectors,
        "parameters": rows,
    }
    write_text(folder / RECORD, json.dumps(record, indent=1, allow_nan=False) + "\n")


def _row(parameter: SoftParameter, projector: int, state: Mapping[str, Tensor]) -> Spec:
    saved = state.get(parameter.name)
    if saved is None or saved.shape != parameter.raw.shape:
        raise ValueError(f"the state_dict of the model does not hold {parameter.name} as it is")
    return {
        "module": parameter.module,
        "parameter": parameter.parameter,
        "type": parameter.type,
        "built_in": parameter.built_in,
        "shape": list(parameter.raw.shape),
        "part": part_spec(parameter.part),
        "projector": projector,
    }


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


# -- reading -----------------------------------------------------------------------------------


def read_softened(directory: str | Path) -> SoftenedRecord:
    """What a folder of `save_softened` holds, without any model.

    Raises:
        FileNotFoundError: the folder or one of its files is not there.
        SavedFileError: a damaged file, another format or version, files that do not belong together.
        MissingSafetensors: safetensors, of the extra `models`, is not installed.
    """
    folder = Path(directory)
    record_path = existing(folder / RECORD)
    metadata, weights = read_tensors(folder / WEIGHTS)
    _, tensors = read_tensors(folder / TENSORS)
    with naming(record_path):
        record = parse(record_path.read_text(encoding="utf-8"))
        if not isinstance(record, dict) or record.get("format") != FORMAT:
            raise ValueError(f"no record of an {FORMAT}")
        if record.get("version") != VERSION:
            raise ValueError(f"of version {record.get('version')!r}, but this release reads {VERSION}")
        names = ("format", "version", "tensors", "representations", "projectors", "parameters")
        _, _, digest, representations, specs, rows = fields(record, "the record", *names)
        if digest != _digest(folder / TENSORS):
            raise ValueError(f"{TENSORS} beside it is damaged, or belongs to another record")
        reader = ProjectorReader(representations, TensorReader(tensors))
        projectors = [reader.projector(spec) for spec in listed(specs, "projectors")]
        found = [_recorded(row, projectors, weights) for row in listed(rows, "parameters")]
    _check_metadata(folder / WEIGHTS, metadata, found)
    return SoftenedRecord(tuple(found), weights)


def _recorded(
    row: Any, projectors: list[EquivariantProjector], weights: Mapping[str, Tensor]
) -> RecordedParameter:
    names = ("module", "parameter", "type", "built_in", "shape", "part", "projector")
    module, parameter, kind, built_in, shape, part, place = fields(row, "a parameter", *names)
    if whole(place, "the number of a projector") >= len(projectors):
        raise ValueError(f"projector {place} is missing")
    owner, own = text(module, "module"), text(parameter, "parameter")
    name = f"{owner}.{own}" if owner else own
    raw = weights.get(name)
    if raw is None or list(raw.shape) != shape:
        got = "missing" if raw is None else f"of shape {tuple(raw.shape)}"
        raise ValueError(f"{name} must have shape {shape} in {WEIGHTS}, but it is {got}")
    if not raw.is_floating_point() or not isinstance(built_in, bool):
        raise ValueError(f"{name} must be floating, softened or built in, got {raw.dtype}, {built_in!r}")
    projection = part_from(part, projectors[place])
    try:
        projection(raw)
    except (ValueError, IndexError, RuntimeError) as error:
        raise ValueError(f"{name} of shape {shape} does not fit its projector: {error}") from error
    return RecordedParameter(owner, own, text(kind, "type"), projection, raw, built_in)


def _check_metadata(path: Path, metadata: Mapping[str, str], found: list[RecordedParameter]) -> None:
    """Weights that say how they were softened must say what the record says; those that do not fit any."""
    there = {key: value for key, value in metadata.items() if key.startswith(PREFIX)}
    here = {PREFIX + p.name: record_of(p.part) for p in found if not p.built_in}
    wrong = sorted(key.removeprefix(PREFIX) for key in {**here, **there} if here.get(key) != there.get(key))
    if there and wrong:
        raise SavedFileError(f"{path}: {', '.join(wrong)} softened otherwise than {RECORD} beside it says")


# -- loading -----------------------------------------------------------------------------------


def load_softened(model: M, directory: str | Path) -> M:
    """Soften a plain model of the same architecture exactly as recorded, and load the raw weights, in place.

    Args:
        model: a plain module; its layers that are soft as built must be so in the same way.
        directory: a folder that `save_softened` wrote.

    Raises:
        TypeError: no module.
        AlreadySoftened: the model has softened layers.
        FileNotFoundError, SavedFileError: as `read_softened`, and where the folder is of another model: the
            message names the file and the first parameter that differs.
        Whatever is raised, the model is as it was.

    >>> import tempfile
    >>> from equikernels.group import CyclicGroup
    >>> from equikernels.project import soften
    >>> model = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1))
    >>> report = soften(model, CyclicGroup(4), softness=0.5)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_softened(model, folder)
    ...     again = load_softened(nn.Sequential(nn.Conv2d(1, 2, 3, padding=1)), folder)
    >>> bool((again[0].weight == model[0].weight).all())
    True
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    for name, module in model.named_modules():
        if is_softened(module):
            raise AlreadySoftened(
                f"{name or 'the model itself'} is softened already: load into a plain model"
            )
    folder = Path(directory)
    record = read_softened(folder)
    with naming(folder / WEIGHTS):
        _check_state(dict(model.state_dict()), record.weights)
    with naming(folder / RECORD):
        parts = _parts_of(model, record)
    done: list[nn.Module] = []
    try:
        for module, own in parts.items():
            soften_module(module, own)
            done.append(module)
        model.load_state_dict(dict(record.weights))
    except BaseException:
        for module in done:
            restore_module(module)
        raise
    return model


def _check_state(own: Mapping[str, Any], weights: Mapping[str, Tensor]) -> None:
    for name in [*own, *weights]:
        if name not in weights or name not in own:
            where = "the file has not" if name in own else "the model has not"
            raise ValueError(f"of another model: {name} is a tensor that {where}")
        if own[name].shape != weights[name].shape:
            raise ValueError(
                f"of another model: {name} has shape {tuple(weights[name].shape)} in the file, "
                f"{tuple(own[name].shape)} in the model"
            )


def _parts_of(model: nn.Module, record: SoftenedRecord) -> dict[nn.Module, dict[str, Part]]:
    modules = dict(model.named_modules())
    built = {p.name: record_of(p.part) for p in soft_parameters(model)}
    parts: dict[nn.Module, dict[str, Part]] = {}
    for parameter in record.parameters:
        module = modules.get(parameter.module)
        kind = None if module is None else plain_class(module).__name__
        if module is None or kind != parameter.type or not hasattr(module, parameter.parameter):
            raise ValueError(
                f"of another model: {parameter.name} belongs to a {parameter.type} in the file, "
                f"to {'nothing' if kind is None else 'a ' + kind} in the model"
            )
        if not parameter.built_in:
            parts.setdefault(module, {})[parameter.parameter] = parameter.part
        elif built.pop(parameter.name, None) != record_of(parameter.part):
            raise ValueError(f"of another model: {parameter.name} is built with another projector")
    if built:
        raise ValueError(f"of another model: {next(iter(built))} is soft as built in the model alone")
    return parts
