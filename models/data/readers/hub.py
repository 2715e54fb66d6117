"""Data sets of the Hugging Face hub, through the library datasets: "hf:NAME"."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from equikernels.models.data.columns import Column, Content, Field, Rows, ValueColumn
from equikernels.models.data.errors import data_error, library, reading
from equikernels.models.data.pixels import to_pixels
from equikernels.models.data.readers.pictures import as_size, fit

__all__ = ["read"]

_COLOURS = {1: "L", 3: "RGB", 4: "RGBA"}


def read(
    spec: str,
    *,
    split: str = "train",
    config: str | None = None,
    image: str = "image",
    label: str | None = "label",
    size: int | tuple[int, int] | None = None,
    channels: int = 3,
) -> Content:
    """Images, and their labels where the data set has the column.

    Args:
        split, config: as `datasets.load_dataset` takes them.
        image, label: the names of the columns; label None to leave labels out.
        size: (H, W) or both at once: every picture is scaled to cover it and cut in the middle. Without it
            all must have the size of the first.
        channels: 1, 3 or 4, to convert to.
    """
    if channels not in _COLOURS:
        raise ValueError(f"channels: expected 1, 3 or 4, got {channels!r}")
    target = None if size is None else as_size("size", size)
    datasets = library("datasets", spec, "datasets")
    with reading(spec, "a data set of the hub"):
        rows = datasets.load_dataset(spec.removeprefix("hf:"), config, split=split)
        names, count = list(rows.column_names), len(rows)
        if image not in names:
            raise data_error(spec, f"a column {image!r} of images", ", ".join(names))
        if not count:
            raise data_error(spec, f"samples in the split {split!r}", "none")
        first = rows[0][image]
        if not hasattr(first, "convert"):
            raise data_error(spec, f"pictures in the column {image!r}", type(first).__name__)
        if target is None:
            target = (first.height, first.width)
        columns: dict[str, Column] = {
            "image": HubColumn(spec, rows.select_columns([image]), image, target, channels, size is not None)
        }
        if label is not None and label in names:
            labels = np.asarray(rows[label][:])
            classes = tuple(getattr(rows.features[label], "names", None) or ())
            columns["label"] = ValueColumn(spec, labels, "class of the sample", classes)
    evidence = repr((spec, config, split, count, getattr(rows, "_fingerprint", None)))
    return Content(columns, evidence=evidence.encode())


@dataclass(frozen=True)
class HubColumn:
    """Pictures that the library decodes when they are fetched."""

    spec: str
    rows: Any
    image: str
    size: tuple[int, int]
    channels: int
    resize: bool
    field: Field = field(init=False)

    def __post_init__(self) -> None:
        shape = (self.channels, *self.size)
        object.__setattr__(self, "field", Field(shape, torch.float32, "pixels of the picture, 0 to 1"))

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, rows: Rows) -> Tensor:
        with reading(self.spec, "pictures"):
            pictures = self.rows[rows.tolist()][self.image] if len(rows) else []
            batch = torch.empty(len(rows), *self.field.shape)
            for place, row, picture in zip(batch, rows.tolist(), pictures, strict=True):
                place.copy_(to_pixels(self._pixels(row, picture)).permute(2, 0, 1))
        return batch

    def _pixels(self, row: int, picture: Any) -> NDArray:
        if not self.resize and (picture.height, picture.width) != self.size:
            expected = f"{self.size[0]} x {self.size[1]} pixels as in the first sample (or say size=)"
            raise data_error(self.spec, expected, f"{picture.height} x {picture.width} in sample {row}")
        colours = picture.convert(_COLOURS[self.channels])
        values = np.asarray(fit(colours, self.size) if self.resize else colours)
        return values.reshape(*self.size, self.channels)
