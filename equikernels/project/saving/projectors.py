"""Projectors as files: what they were built from, so that they are built again and not trusted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from equikernels.group import Representation
from equikernels.project.cutoffs import BlockSmooth, Cutoff, Hard, ReleasedSmooth, Smooth, Softness
from equikernels.project.learnable import LearnableSmooth
from equikernels.project.projector import EquivariantProjector, InvariantProjector
from equikernels.project.saving.files import SavedFileError, naming, read_tensors, write_tensors
from equikernels.project.saving.representations import representation_from, representation_spec
from equikernels.project.saving.specs import (
    Spec,
    TensorReader,
    TensorWriter,
    fields,
    listed,
    number_from,
    number_spec,
    parse,
    text,
    whole,
)

FORMAT = "equikernels projector"
VERSION = "1"

CUTOFFS: dict[type, tuple[str, ...]] = {
    Hard: ("cutoff",),
    Smooth: ("cutoff", "width"),
    ReleasedSmooth: ("cutoff", "width"),
    BlockSmooth: ("s", "kappa"),
    Softness: ("s",),
    LearnableSmooth: ("cutoff", "log_width"),
}
"""The numbers that make each cut-off."""

PROJECTORS = {cls.__name__: cls for cls in (EquivariantProjector, InvariantProjector)}


def cutoff_spec(cutoff: Cutoff) -> Spec:
    """A cut-off as JSON; raises TypeError for one of a class of your own."""
    if type(cutoff) not in CUTOFFS:
        known = ", ".join(cls.__name__ for cls in CUTOFFS)
        raise TypeError(f"the cut-off {cutoff!r} cannot be saved: only {known} can")
    spec: Spec = {"class": type(cutoff).__name__}
    for name in CUTOFFS[type(cutoff)]:
        value = getattr(cutoff, name)
        spec[name] = number_spec(float(value.detach()) if isinstance(value, torch.Tensor) else value)
    if isinstance(cutoff, Softness):
        spec["clusters"] = cutoff.clusters
    return spec


def cutoff_from(spec: Any) -> Cutoff:
    """The cut-off that `cutoff_spec` wrote; raises ValueError for anything else."""
    known = {cls.__name__: cls for cls in CUTOFFS}
    named = spec.get("class") if isinstance(spec, dict) else None
    if not isinstance(named, str) or named not in known:
        raise ValueError(f"a cut-off must be one of {', '.join(known)}, got {named!r}")
    names = CUTOFFS[known[named]]
    words = ("clusters",) if known[named] is Softness else ()
    _, *values = fields(spec, f"a {named} cut-off", "class", *names, *words)
    numbers = [number_from(v, f"{n} of {named}") for n, v in zip(names, values, strict=False)]
    if known[named] is Softness:
        return Softness(numbers[0], text(values[-1], "clusters"))
    if known[named] is LearnableSmooth:
        learnable = LearnableSmooth(1.0, 1.0)
        with torch.no_grad():
            # Trained borders may be negative, and exp(log(width)) may miss a width by rounding.
            learnable.cutoff.fill_(numbers[0])
            learnable.log_width.fill_(numbers[1])
        return learnable
    made: Cutoff = known[named](*numbers)
    return made


class ProjectorWriter(TensorWriter):
    """Descriptions of projectors; each representation is written once."""

    def __init__(self) -> None:
        super().__init__()
        self.representations: list[Spec] = []
        # Equal representations may print otherwise: the name is no part of what they are.
        self._places: dict[tuple[Representation, str], int] = {}

    def _place(self, rep: Representation) -> int:
        key = (rep, repr(rep))
        if key not in self._places:
            self._places[key] = len(self.representations)
            self.representations.append(representation_spec(rep, self))
        return self._places[key]

    def spec(self, projector: EquivariantProjector) -> Spec:
        """A projector as JSON; raises TypeError where a part of it cannot be saved."""
        if type(projector) not in PROJECTORS.values():
            raise TypeError(
                f"projector must be an {' or an '.join(PROJECTORS)}, got {type(projector).__name__}"
            )
        operators = projector._operators
        spec: Spec = {
            "class": type(projector).__name__,
            "cutoff": cutoff_spec(projector.cutoff),
            "method": projector.method,
        }
        if operators.given is not None:
            a, b = (self.add("operators", stack) for stack in operators.given)
            return spec | {"operators_in": a, "operators_out": b}
        assert projector.rep_in is not None
        assert projector.rep_out is not None
        return spec | {
            "generators": "closed" if operators.closed else "given",
            "rep_in": self._place(projector.rep_in),
            "rep_out": self._place(projector.rep_out),
        }


class ProjectorReader:
    """Projectors from their descriptions; representations are built once and shared."""

    def __init__(self, representations: Any, tensors: TensorReader) -> None:
        specs = listed(representations, "representations")
        self._representations: list[Representation] = [representation_from(spec, tensors) for spec in specs]
        self._tensors = tensors

    def projector(self, spec: Any) -> EquivariantProjector:
        """The projector that `ProjectorWriter.spec` wrote; raises ValueError for anything else."""
        named = spec.get("class") if isinstance(spec, dict) else None
        if not isinstance(named, str) or named not in PROJECTORS:
            raise ValueError(f"a projector must be one of {', '.join(PROJECTORS)}, got {named!r}")
        invariant = PROJECTORS[named] is InvariantProjector
        if "operators_in" in spec:
            given = ("class", "cutoff", "method", "operators_in", "operators_out")
            _, cutoff, method, a, b = fields(spec, "a projector", *given)
            inn, out = (self._tensors.get(own, torch.float64, 3) for own in (a, b))
            options: Any = {"method": text(method, "method")}
            if not invariant:
                return EquivariantProjector.from_operators(
                    list(inn), list(out), cutoff_from(cutoff), **options
                )
            if out.shape[1:] != (1, 1) or out.any():
                raise ValueError("an invariant projector must have zeros (1, 1) for its output operators")
            return InvariantProjector.from_operators(list(inn), cutoff_from(cutoff), **options)
        names = ("class", "cutoff", "method", "generators", "rep_in", "rep_out")
        _, cutoff, method, generators, *places = fields(spec, "a projector", *names)
        rep_in, rep_out = (self._at(place) for place in places)
        options = {"method": text(method, "method"), "generators": text(generators, "generators")}
        if not invariant:
            return EquivariantProjector(rep_in, rep_out, cutoff_from(cutoff), **options)
        if rep_out != rep_in.group.trivial():
            raise ValueError(f"an invariant projector must have a trivial output, got {rep_out!r}")
        return InvariantProjector(rep_in, cutoff_from(cutoff), **options)

    def _at(self, place: Any) -> Representation:
        index = whole(place, "the number of a representation")
        if index >= len(self._representations):
            raise ValueError(f"representation {index} is missing")
        return self._representations[index]


def save_projector(projector: EquivariantProjector, path: str | Path) -> None:
    """Write a projector to a safetensors file, whole or not at all.

    The file holds what the projector was built from: cut-off, method, generators, group and representations
    (grids by size, method and mask, permutations by their index maps, others by irreps and a float64 change
    of basis), or the operators given; no code and nothing pickled.

    Args:
        projector: an EquivariantProjector or InvariantProjector.
        path: of the file, in an existing folder; a file there is replaced.

    Raises:
        TypeError: no projector, or a group, representation or cut-off of a class of your own.
        MissingSafetensors: safetensors, of the extra `models`, is not installed.
        OSError: the file cannot be written.
    """
    writer = ProjectorWriter()
    spec = writer.spec(projector)
    content = json.dumps({"projector": spec, "representations": writer.representations}, allow_nan=False)
    metadata = {"format": FORMAT, "version": VERSION, "content": content}
    write_tensors(Path(path), writer.tensors, metadata)


def load_projector(path: str | Path) -> EquivariantProjector:
    """The projector in a file that `save_projector` wrote: equal in behaviour, print and certificates.

    Raises:
        FileNotFoundError: there is no such file.
        SavedFileError: a damaged file, one of another kind or version; the message names it.
        MissingSafetensors: safetensors, of the extra `models`, is not installed.

    >>> import tempfile
    >>> from equikernels.group import CyclicGroup, pixel_grid
    >>> P = InvariantProjector(pixel_grid(3, CyclicGroup(4)), Softness(0.5))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_projector(P, folder + "/projector.safetensors")
    ...     load_projector(folder + "/projector.safetensors")
    InvariantProjector(permutation grid 3x3 of C_4 -> [0] of C_4, Softness(s=0.5, clusters='fraction'), ...
    """
    path = Path(path)
    metadata, tensors = read_tensors(path)
    with naming(path):
        content = parse(content_of(path, metadata, FORMAT, VERSION))
        spec, representations = fields(content, "the content", "projector", "representations")
        return ProjectorReader(representations, TensorReader(tensors)).projector(spec)


def content_of(path: Path, metadata: dict[str, str], form: str, version: str) -> str:
    """The description in a file's metadata; raises SavedFileError for another format or version."""
    if metadata.get("format") != form:
        raise SavedFileError(f"{path}: no {form} (its format is {metadata.get('format')!r})")
    if metadata.get("version") != version:
        raise SavedFileError(
            f"{path}: of version {metadata.get('version')!r}, but this release reads version {version!r}"
        )
    if "content" not in metadata:
        raise SavedFileError(f"{path}: its description is missing")
    return metadata["content"]
