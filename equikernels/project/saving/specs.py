"""What a saved description is made of: JSON values beside float64 tensors, checked field by field."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

Spec = dict[str, Any]
"""A JSON object."""


class TensorWriter:
    """The tensors that a description refers to by name."""

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}

    def add(self, what: str, array: np.ndarray) -> str:
        """Keep a copy of an array; the result is its name."""
        name = f"{what}.{len(self.tensors)}"
        self.tensors[name] = torch.tensor(array)
        return name


class TensorReader:
    """Tensors by name; each must be there, in the dtype and number of axes expected."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._tensors = tensors

    def get(self, name: Any, dtype: torch.dtype, ndim: int) -> np.ndarray:
        """A tensor as an array of its own; raises ValueError where it is missing or another."""
        if not isinstance(name, str) or name not in self._tensors:
            raise ValueError(f"the tensor {name!r} is missing")
        tensor = self._tensors[name]
        if tensor.dtype != dtype or tensor.ndim != ndim:
            raise ValueError(
                f"the tensor {name!r} must be {dtype} with {ndim} axes, got {tensor.dtype} "
                f"of shape {tuple(tensor.shape)}"
            )
        return np.array(tensor.numpy())


def fields(spec: Any, what: str, *names: str) -> tuple[Any, ...]:
    """The values of exactly these fields of an object; raises ValueError if it has others."""
    if not isinstance(spec, dict) or set(spec) != set(names):
        got = sorted(map(str, spec)) if isinstance(spec, dict) else spec
        raise ValueError(f"{what} must have the fields {', '.join(names)}, got {got}")
    return tuple(spec[name] for name in names)


def listed(value: Any, what: str) -> list[Any]:
    """The value, which must be a list."""
    if not isinstance(value, list):
        raise ValueError(f"{what} must be a list, got {value!r}")
    return value


def whole(value: Any, what: str, least: int = 0) -> int:
    """The value, which must be an integer >= `least`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{what} must be an integer >= {least}, got {value!r}")
    return value


def text(value: Any, what: str) -> str:
    """The value, which must be a string."""
    if not isinstance(value, str):
        raise ValueError(f"{what} must be a string, got {value!r}")
    return value


# JSON has no infinity: the one non-finite number that cut-offs know is written as a word.


def number_spec(value: float) -> int | float | str:
    """An int or a float as JSON: exact, infinity as "inf"."""
    plain = value.item() if isinstance(value, np.generic) else value
    return "inf" if math.isinf(plain) and plain > 0 else plain


def number_from(value: Any, what: str) -> int | float:
    """The number that `number_spec` wrote."""
    if value == "inf":
        return math.inf
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"{what} must be a number, got {value!r}")
    return value


def label_spec(label: Any) -> Any:
    """The label of an irrep: integers and strings as they are, tuples tagged.

    >>> label_spec(("1d", 0, 1))
    {'tuple': ['1d', 0, 1]}
    """
    if isinstance(label, tuple):
        return {"tuple": [label_spec(part) for part in label]}
    if isinstance(label, str):
        return label
    return int(label)


def label_from(spec: Any) -> Any:
    """The label that `label_spec` wrote."""
    if isinstance(spec, dict):
        (parts,) = fields(spec, "a label", "tuple")
        return tuple(label_from(part) for part in listed(parts, "the parts of a label"))
    if isinstance(spec, bool) or not isinstance(spec, (int, str)):
        raise ValueError(f"a label must be an integer, a string or a tagged tuple, got {spec!r}")
    return spec


def parse(document: str) -> Any:
    """A JSON document without NaN and infinities, which JSON does not know."""

    def refuse(name: str) -> None:
        raise ValueError(f"{name} is no JSON number")

    return json.loads(document, parse_constant=refuse)
