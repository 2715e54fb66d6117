"""One function that loads every data set."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from equikernels.models.data.columns import Column, Content, label_column
from equikernels.models.data.dataset import Dataset
from equikernels.models.data.errors import data_error
from equikernels.models.data.fingerprint import files_digest
from equikernels.models.data.formats import find_format, options_of
from equikernels.models.data.moving import Motion, moved_columns
from equikernels.models.data.readers import embedded, hub
from equikernels.models.data.readers.label_files import read_labels

__all__ = ["load_dataset"]

_HUB = "hf:"
# Options that say where something lies, not what it is.
_PLACES = ("root",)


def load_dataset(
    spec: str | os.PathLike[str],
    *,
    format: str | None = None,
    labels: str | os.PathLike[str] | None = None,
    extra: str | os.PathLike[str] | None = None,
    turned: float = 0.0,
    shifted: float = 0.0,
    motion_seed: int = 0,
    **options: Any,
) -> Dataset:
    """Open a data set; docs/data.md lists the formats and the options of each.

    Args:
        spec: "digits" or "photographs", which come inside scikit-learn and scikit-image; "two-domains" or
            "scenes", which are made by rule; "hf:NAME" for a data set of the Hugging Face hub; or the path of
            a file or folder, such as "./digits".
        format: the name of the format, where names of files do not tell it.
        labels: the name of a field to take for "label", or a file of labels: .npy, idx or a text of integers.
        extra: a file with more fields of the same samples, for example a .npz archive of poses.
        turned, shifted: standard deviations, in radians and in pixels each way, of the normal turns and
            shifts by which every image (C, H, W) is moved, once and for all: turned first, bilinear, with
            zeros outside. The motions are the fields "turn", counter-clockwise, and "shift", right and down.
        motion_seed: of the motions; a test set that shares none with the training set has another one.
        options: of the format, for example ``split="train"``, ``size=64``, ``layout="NHWC"``.

    Returns:
        Images as "image", float32 (B, C, H, W), volumes as (B, C, D, H, W): uint8 becomes [0, 1], other
        values are kept. Labels as "label", int64. Other fields as the format says.

    Raises:
        DataError: what is there cannot be used. One line that names the file.
        ValueError: an option that the format does not have, or a wrong value of one.

    >>> load_dataset("digits")
    Dataset('digits', 1797 samples: image (1, 8, 8), label (), index ())
    """
    read, source, name, kind = _reader(spec, format)
    known = options_of(read)
    for option in options:
        if option not in known:
            listed = ", ".join(("format", "labels", "extra", *known, "turned", "shifted", "motion_seed"))
            raise ValueError(f"{option}: no option of {kind} data, which take {listed}")
    content = read(source, **options)
    if extra is not None:
        content = _with_extra(content, Path(extra))
    if labels is not None:
        content = _with_labels(content, labels, source)
    if "index" in content.columns:
        raise data_error(source, "no field 'index', which is the number of the sample", "one")
    lengths = {len(column) for column in content.columns.values()}
    assert len(lengths) == 1, lengths
    # A list and a tuple mean the same, and a saved configuration turns one into the other.
    described = sorted(
        (option, tuple(value) if isinstance(value, list) else value)
        for option, value in options.items()
        if option not in _PLACES
    )
    identity = hashlib.blake2b(content.evidence + files_digest(content.files), digest_size=16)
    identity.update(repr((kind, described)).encode())
    motion = Motion(turned, shifted, motion_seed)
    if not motion:
        return Dataset(name, content.columns, identity.digest())
    identity.update(repr(motion).encode())
    return Dataset(name, moved_columns(content.columns, motion), identity.digest())


def _reader(spec: str | os.PathLike[str], format: str | None) -> tuple[Callable[..., Content], Any, str, str]:
    """The reader, its first argument, the name of the data set, and that of the kind of data."""
    text = os.fspath(spec)
    if not isinstance(text, str) or not text:
        raise ValueError(f"spec: expected a name or a path, got {spec!r}")
    inside = isinstance(spec, str) and (spec in embedded.NAMES or spec.startswith(_HUB))
    if inside and format is not None:
        raise ValueError(f"format: expected none for {text!r}, got {format!r}")
    if inside and text.startswith(_HUB):
        return hub.read, text, text.removeprefix(_HUB), "hub"
    if inside:
        return embedded.NAMES[text], text, text, text
    path = Path(text)
    found = find_format(path, format)
    return found.read, path, path.resolve().name.partition(".")[0], found.name


def _with_extra(content: Content, path: Path) -> Content:
    """The fields of another file beside those of `content`."""
    more = find_format(path, None).read(path)
    expected, got = (len(next(iter(columns.values()))) for columns in (content.columns, more.columns))
    if got != expected:
        raise data_error(path, f"{expected} samples", got)
    both = [name for name in more.columns if name in content.columns]
    if both:
        raise data_error(path, f"fields other than {', '.join(content.columns)}", f"{both[0]} too")
    return Content(content.columns | more.columns, (*content.files, *more.files), content.evidence)


def _with_labels(content: Content, labels: str | os.PathLike[str], source: Any) -> Content:
    columns = dict(content.columns)
    named: Column | None = columns.get(labels) if isinstance(labels, str) else None
    if named is not None:
        return Content({**columns, "label": named}, content.files, content.evidence)
    path = Path(labels)
    if isinstance(labels, str) and not path.exists():
        fields = ", ".join(columns)
        raise data_error(labels, f"a file of labels, or a field of {source}: {fields}", "neither")
    count = len(next(iter(columns.values())))
    columns["label"] = label_column(path, read_labels(path), count)
    return Content(columns, (*content.files, path), content.evidence)
